#!/bin/bash
# The package and its service on a fresh Debian 12, under its own systemd: from the installation to
# the purge. `cargo xtask test service` runs it as root in a virtual machine.
#
# In, in /root: the packages telltale_old_amd64.deb and new.deb; words.sh, which is what README.md says one types.
# Out, on the console: a line per check, and TELLTALE-VM-EXIT with 0 if all were passed.

export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C
cd /root || exit
failed=0
pins=/sys/fs/bpf/telltale
log=/var/log/telltale/events.ndjson
# Where nobody listens: a UDP socket that is connected there sends nothing.
remote=127.77.0.1

# check NAME COMMAND...: says whether it succeeds, how long that took, and what it said if not.
check() {
    local name=$1 start=$EPOCHREALTIME
    shift
    if "$@" > /tmp/said 2>&1; then
        printf 'CHECK %s: ok, %.1f s\n' "$name" "$(seconds_since "$start")"
    else
        printf 'CHECK %s: FAILED\n' "$name"
        tail -n 30 /tmp/said | sed 's/^/    /'
        failed=1
    fi
}

seconds_since() {
    local now=$EPOCHREALTIME
    echo "$(((${now/./} - ${1/./}) / 100000))e-1"
}

# await SECONDS COMMAND...: until it succeeds.
await() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

property() { systemctl show --property "$1" --value telltale; }
ready() { curl --silent --fail --output /dev/null 127.0.0.1:10142/-/ready; }
metric() { curl --silent 127.0.0.1:10142/metrics | awk -v "name=$1" '$1 ~ "^" name { sum += $2 } END { print sum + 0 }'; }
files() {
    find / -xdev \( -path /dev -o -path /proc -o -path /root -o -path /run -o -path /sys -o -path /tmp \
        -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/log/journal \
        -o -path /var/lib/systemd -o -path '/etc/*-' -o -path '/etc/.*.lock' \
        -o -path /var/log/apt -o -path /etc/ld.so.cache -o -path /var/tmp \) -prune -o -print | sort
}
users() { getent passwd; getent group; }
# systemd has programs of its own for each unit.
programs() { bpftool prog show | sed -n 's/.* name \([^ ]*\) .*/\1/p' | grep -v '^sd_' | sort -u; }
cgroups() { find /sys/fs/cgroup -name '*telltale*'; }
state() { files; users; programs; }

alert_has_fields() {
    journalctl --unit telltale --output json TELLTALE_RULE=banned-tool > /tmp/alerts
    grep -q '"TELLTALE_TOOL":"claude-code"' /tmp/alerts && grep -q '"PRIORITY"' /tmp/alerts
}

a_broken_configuration_changes_nothing() {
    local config=/etc/telltale/telltale.toml
    cp --archive $config /tmp/good
    echo 'nonsense = 1' >> $config
    systemctl reload telltale
    await 10 grep -q '^0' <(metric telltale_reload_successful) || return 1
    ready || return 1
    cp --archive /tmp/good $config
    systemctl reload telltale
    for _ in $(seq 50); do
        [ "$(metric telltale_reload_successful)" = 1 ] && return
        sleep 0.2
    done
    return 1
}

restarted_since() { [ "$(property NRestarts)" -gt "$1" ] && ready; }

a_stopped_process_is_killed_and_started_again() {
    local before
    before=$(property NRestarts)
    kill -STOP "$(property MainPID)"
    await 120 restarted_since "$before" && journalctl --unit telltale | grep -q 'Watchdog timeout'
}

a_killed_process_is_started_again() {
    local before
    before=$(property NRestarts)
    kill -KILL "$(property MainPID)"
    await 60 restarted_since "$before"
}

# Connects about 200 times a second until /tmp/stop is there.
connect() {
    exec 4<> <(:)
    local made=0
    while [ ! -e /tmp/stop ]; do
        exec 3<> "/dev/udp/$remote/1077" 3>&-
        made=$((made + 1))
        read -r -t 0.005 -u 4
    done
    echo "$made" > /tmp/made
}

# Sockets that were told, each of them once.
told() {
    cat $log* | grep '"action":"connection-opened"' | grep "\"ip\":\"$remote\"" |
        grep -o '"cookie":"[^"]*"' | sort > /tmp/cookies
    [ -z "$(uniq -d /tmp/cookies)" ] || { echo "told twice"; return 1; }
    wc -l < /tmp/cookies
}
all_told() { [ "$(told)" = "$(cat /tmp/made)" ]; }

an_upgrade_under_load_loses_nothing() {
    rm -f /tmp/stop /tmp/made
    sed -i 's/^\[events\]/&\nscope = "all"/' /etc/telltale/telltale.toml
    systemctl restart telltale && await 60 ready || return 1
    connect &
    local load=$!
    sleep 3
    apt-get install --yes --quiet ./new.deb || return 1
    await 60 ready || return 1
    sleep 3
    touch /tmp/stop
    wait $load
    await 30 all_told || { echo "$(told) of $(cat /tmp/made) told"; return 1; }
    echo "CHECK $(cat /tmp/made) connections made while it was upgraded, $(told) told" > /dev/console
    [ "$(metric telltale_books_remainder)" = 0 ] || return 1
    dpkg-query --show telltale | grep -q 'new$'
}

a_stopped_service_leaves_its_programs() {
    systemctl stop telltale && [ "$(property ActiveState)" = inactive ] || return 1
    [ -d $pins ] && programs | grep -q tcp
    systemctl start telltale && await 60 ready
}

nothing_is_left() {
    [ ! -e $pins ] || { find $pins; return 1; }
    [ -z "$(cgroups)" ] || { cgroups; return 1; }
    # The kernel frees programs a moment after their last link.
    for _ in $(seq 50); do
        state > /tmp/after
        diff /tmp/before /tmp/after && return
        sleep 0.2
    done
    return 1
}

state > /tmp/before
check 'installed, and an alert in the journal, by the words of README.md' bash -ex words.sh
check 'the alert has fields' alert_has_fields
check 'exposure of 2.5 or less' systemd-analyze security --no-pager --threshold=25 telltale.service
check 'a broken configuration changes nothing' a_broken_configuration_changes_nothing
check 'killed: started again' a_killed_process_is_started_again
check 'stopped: killed by the watchdog, started again' a_stopped_process_is_killed_and_started_again
check 'upgraded under load: every connection told once' an_upgrade_under_load_loses_nothing
check 'stop and start' a_stopped_service_leaves_its_programs
check 'removed' apt-get remove --yes --quiet telltale
check 'purged' apt-get purge --yes --quiet telltale
check 'no file, pin, program, cgroup or user is left' nothing_is_left
[ $failed = 0 ] || journalctl --unit telltale --no-pager | tail -n 60
echo "TELLTALE-VM-EXIT $failed"
systemctl poweroff --force --force
