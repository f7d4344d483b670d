#!/bin/busybox sh
# First process of a guest with a disk: adds the files in /extra to it, and starts its own init.
export PATH=/usr/sbin:/usr/bin
/bin/busybox --install -s /usr/bin 2>/dev/null

mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do
    insmod "/modules/$module"
done
mkdir -p /disk
mount -t ext4 /dev/vda /disk
cp -a /extra/. /disk/
echo "TELLTALE-VM-KERNEL $(uname -r)"
umount /proc /dev
exec switch_root /disk /sbin/init
