#!/bin/busybox sh
# First process of the guest: makes a small system around /payload.sh, runs it, and says how it
# ended in the last line on the console.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export TELLTALE_BIN=/usr/local/bin/telltale STANDIN_BIN=/usr/local/bin/standin
# Emulated, and often beside another guest.
export TELLTALE_TEST_SLOWNESS=4
/bin/busybox --install -s /usr/bin 2>/dev/null

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /sys/fs/cgroup /sys/fs/bpf
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs security /sys/kernel/security
ip link set lo up
for module in $(cat /modules/order); do
    insmod "/modules/$module"
done

cd /root
echo "TELLTALE-VM-KERNEL $(uname -r)"
/bin/sh /payload.sh
echo "TELLTALE-VM-EXIT $?"
poweroff -f
