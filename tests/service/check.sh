#!/bin/bash
# The packages and their service on a fresh Debian 12, under its own systemd: from the installation
# to the purge. `cargo xtask test service` runs it as root in a virtual machine, whose clock, memory
# and root cgroup are nobody else's.
#
# In, in /root: the packages telltale_old_amd64.deb, new.deb, old.rpm and new.rpm; words.sh and
# operations.sh, which is what README.md and docs/operations.md say one types.
# Out, on the console: a line per check, and TELLTALE-VM-EXIT with 0 if all were passed.

export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C
cd /root || exit
failed=0
config=/etc/telltale/telltale.toml
pins=/sys/fs/bpf/telltale
log=/var/log/telltale/events.ndjson
# The stand-in that words.sh lays out.
tool=/root/.local/share/claude/versions/2.1.328

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
metric_lines() { curl --silent 127.0.0.1:10142/metrics | grep "^$1"; }
# Without what Debian keeps of its own: backups, for one, as soon as the clock says that a day is over.
files() {
    find / -xdev \( -path /dev -o -path /proc -o -path /root -o -path /run -o -path /sys -o -path /tmp \
        -o -path /var/backups -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/log/journal \
        -o -path /var/lib/systemd -o -path /var/lib/rpm -o -path '/etc/*-' -o -path '/etc/.*.lock' \
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

# Connects to an address about 200 times a second until /tmp/stop is there. Nobody listens there: a
# UDP socket that is connected sends nothing.
connect() {
    exec 4<> <(:)
    local made=0
    while [ ! -e /tmp/stop ]; do
        exec 3<> "/dev/udp/$1/1077" 3>&-
        made=$((made + 1))
        read -r -t 0.005 -u 4
    done
    echo "$made" > /tmp/made
}

# Does something while connections are made to an address.
under_load() {
    local remote=$1 load status
    shift
    rm -f /tmp/stop /tmp/made
    connect "$remote" &
    load=$!
    sleep 3
    "$@"
    status=$?
    sleep 3
    touch /tmp/stop
    wait $load
    return $status
}

# Sockets that were told to connect to an address, each of them once.
told() {
    cat $log* | grep '"action":"connection-opened"' | grep "\"ip\":\"$1\"" |
        grep -o '"cookie":"[^"]*"' | sort > /tmp/cookies
    [ -z "$(uniq -d /tmp/cookies)" ] || { echo "told twice"; return 1; }
    wc -l < /tmp/cookies
}
# What restarts say of connections that they could not tell.
lost() {
    cat $log* | grep '"action":"monitor-resumed"' | grep -o '"\(dropped\|lost\)":[0-9]*' |
        awk -F: '{ sum += $2 } END { print sum + 0 }'
}
all_told() { [ "$(told "$1")" = "$(cat /tmp/made)" ]; }
all_told_or_counted() { [ $(($(told "$1") + $(lost) - $2)) -ge "$(cat /tmp/made)" ]; }

an_upgrade_under_load_loses_nothing() {
    sed -i 's/^\[events\]/&\nscope = "all"/' $config
    systemctl restart telltale && await 60 ready || return 1
    under_load 127.77.0.1 apt-get install --yes --quiet ./new.deb && await 60 ready || return 1
    await 30 all_told 127.77.0.1 || { echo "$(told 127.77.0.1) of $(cat /tmp/made) told"; return 1; }
    echo "CHECK $(cat /tmp/made) connections made while it was upgraded, $(told 127.77.0.1) told" > /dev/console
    [ "$(metric telltale_books_remainder)" = 0 ] || return 1
    dpkg-query --show telltale | grep -q 'new$'
}

killed_for_memory() { journalctl --unit telltale --since "@$1" | grep -q 'oom-kill'; }

out_of_memory() {
    local begin=$EPOCHSECONDS restarts
    restarts=$(property NRestarts)
    systemctl set-property --runtime telltale MemoryMax=1M
    await 60 killed_for_memory "$begin" || return 1
    systemctl set-property --runtime telltale MemoryMax=infinity
    await 60 restarted_since "$restarts"
}

out_of_memory_it_is_started_again() {
    local remote=127.77.0.2 before
    before=$(lost)
    echo "CHECK its cgroup holds $(property MemoryCurrent) bytes, kernel memory among them" > /dev/console
    under_load $remote out_of_memory || return 1
    await 30 all_told_or_counted $remote "$before" ||
        { echo "$(told $remote) told and $(lost) lost, $before of them before, of $(cat /tmp/made)"; return 1; }
    echo "CHECK $(cat /tmp/made) connections made while it ran out of memory, $(told $remote) told," \
        "$(($(lost) - before)) may be lost" > /dev/console
    [ "$(metric telltale_books_remainder)" = 0 ]
}

sleep_twenty_seconds() {
    echo 0 > /sys/class/rtc/rtc0/wakealarm
    echo +20 > /sys/class/rtc/rtc0/wakealarm
    echo mem > /sys/power/state
}

a_suspended_machine_goes_on() {
    local remote=127.77.0.4 restarts
    restarts=$(property NRestarts)
    under_load $remote sleep_twenty_seconds || return 1
    await 30 all_told $remote || { echo "$(told $remote) of $(cat /tmp/made) told"; return 1; }
    echo "CHECK $(cat /tmp/made) connections made around 20 s of sleep, $(told $remote) told;" \
        "gaps: $(metric_lines telltale_coverage_gap_info | grep -o 'reason="[^"]*"')" > /dev/console
    [ "$(property NRestarts)" = "$restarts" ] && [ "$(metric telltale_books_remainder)" = 0 ]
}

# Time of an event of a process, in seconds, is what the clock shows.
told_by_the_clock() {
    local time
    time=$(cat $log* | grep '"action":"process-started"' | grep "\"pid\":$1," |
        sed 's/^{"@timestamp":"\([^"]*\)".*/\1/' | tail -n 1)
    [ -n "$time" ] || return 1
    time=$((EPOCHSECONDS - $(date --date "$time" +%s)))
    [ $time -ge -5 ] && [ $time -le 60 ]
}

a_step_of_the_clock_moves_times_alone() {
    local remote=127.77.0.3 restarts uptime boot step pid duration
    restarts=$(property NRestarts)
    read -r uptime _ < /proc/uptime
    boot=$((EPOCHSECONDS - ${uptime%.*}))
    exec 5<> /dev/udp/$remote/1077
    for step in '-1 day' '+1 year'; do
        date --set "$step"
        sleep 3 # It looks once a second.
        "$tool" 1 &
        pid=$!
        wait $pid
        await 20 told_by_the_clock $pid || { echo "$step"; date; grep "\"pid\":$pid," $log; break; }
    done
    exec 5>&-
    sleep 3
    read -r uptime _ < /proc/uptime
    date --set "@$((boot + ${uptime%.*}))"
    duration=$(cat $log* | grep '"action":"connection-closed"' | grep "\"ip\":\"$remote\"" |
        grep -o '"duration":[0-9]*')
    echo "$step: $duration ns"
    [ "$step" = '+1 year' ] && [ "${duration#*:}" -gt 6000000000 ] &&
        [ "${duration#*:}" -lt 90000000000 ] || return 1
    # For a minute, it tells of the restart and the sleep before.
    ready && [ "$(property NRestarts)" = "$restarts" ] && [ "$(metric telltale_books_remainder)" = 0 ] &&
        [ -z "$(metric_lines telltale_coverage_gap_info | grep -v -e restart -e canary_missing)" ]
}
# A program that systemd made to count bytes, attached to the root so that no other may be.
a_root_that_another_program_holds_is_named() {
    local begin=$EPOCHSECONDS id status
    systemctl stop telltale
    telltale uninstall --purge-kernel-state || return 1
    systemd-run --unit holder --property IPAddressDeny=192.0.2.1 sleep 600
    id=$(bpftool prog show name sd_fw_egress | sed -n 's/^\([0-9]*\):.*/\1/p' | tail -n 1)
    bpftool prog pin id "$id" /sys/fs/bpf/holder &&
        bpftool cgroup attach /sys/fs/cgroup egress pinned /sys/fs/bpf/holder || return 1
    systemctl --no-block start telltale
    await 60 said_who_may_hold_it "$begin"
    status=$?
    journalctl --unit telltale --since "@$begin" --no-pager
    bpftool cgroup detach /sys/fs/cgroup egress pinned /sys/fs/bpf/holder
    rm /sys/fs/bpf/holder
    systemctl stop holder
    [ $status = 0 ] && await 60 ready
}
said_who_may_hold_it() {
    journalctl --unit telltale --since "@$1" | grep -q 'cannot attach .*bpftool cgroup show.*detached'
}

a_stopped_service_leaves_its_programs() {
    systemctl stop telltale && [ "$(property ActiveState)" = inactive ] || return 1
    [ -d $pins ] && programs | grep -q tcp
    systemctl start telltale && await 60 ready
}

by_rpm() { rpm --nodeps --force-debian "$@"; }

an_rpm_is_installed() {
    by_rpm --install old.rpm || return 1
    # Of the configuration, mode and group are the operator's.
    [ -z "$(rpm --verify --nodeps telltale | grep -v " c $config")" ] || { rpm --verify telltale; return 1; }
    [ "$(stat --format '%a %G' $config)" = '640 telltale' ] && systemctl is-enabled telltale || return 1
    systemctl start telltale && await 60 ready
}

an_rpm_is_upgraded() {
    local pid
    pid=$(property MainPID)
    echo '# The operator was here.' >> $config
    by_rpm --upgrade new.rpm || return 1
    rpm --query telltale | grep -q 'new-1' && await 60 ready || return 1
    [ "$(property MainPID)" != "$pid" ] && grep -q 'operator was here' $config
}

# What `rpm --erase` leaves goes by the words of docs/operations.md.
an_rpm_is_erased() {
    by_rpm --erase telltale || return 1
    [ ! -e $pins ] && [ -e $config.rpmsave ] && ! programs | grep -q tcp || return 1
    rm -r /etc/telltale /var/log/telltale /var/lib/telltale && userdel telltale
}

# Lasts until the next boot: nothing comes after it.
a_kernel_in_lockdown_is_named() {
    local begin
    apt-get install --yes --quiet ./new.deb && await 60 ready || return 1
    systemctl stop telltale
    telltale uninstall --purge-kernel-state || return 1
    echo confidentiality > /sys/kernel/security/lockdown || return 1
    begin=$EPOCHSECONDS
    systemctl --no-block start telltale
    await 60 said_that_lockdown_forbids_it "$begin" ||
        { journalctl --unit telltale --since "@$begin" --no-pager; return 1; }
    telltale doctor | grep 'MISSING.*lockdown.*lockdown=integrity'
}
said_that_lockdown_forbids_it() {
    journalctl --unit telltale --since "@$1" | grep -q 'lockdown, confidentiality.*lockdown=integrity'
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
check 'the words of docs/operations.md' bash -ex operations.sh
check 'exposure of 2.5 or less' systemd-analyze security --no-pager --threshold=25 telltale.service
check 'a broken configuration changes nothing' a_broken_configuration_changes_nothing
check 'killed: started again' a_killed_process_is_started_again
check 'stopped: killed by the watchdog, started again' a_stopped_process_is_killed_and_started_again
check 'upgraded under load: every connection told once' an_upgrade_under_load_loses_nothing
check 'out of memory: started again, every connection told or counted' out_of_memory_it_is_started_again
check 'suspended to memory: every connection told once' a_suspended_machine_goes_on
check 'the clock steps back a day, and on a year' a_step_of_the_clock_moves_times_alone
check 'another program holds the root cgroup: said so, and started once it is gone' a_root_that_another_program_holds_is_named
check 'stop and start' a_stopped_service_leaves_its_programs
check 'removed' apt-get remove --yes --quiet telltale
check 'purged' apt-get purge --yes --quiet telltale
check 'no file, pin, program, cgroup or user is left' nothing_is_left
check 'RPM: installed and started' an_rpm_is_installed
check 'RPM: upgraded, with the configuration kept' an_rpm_is_upgraded
check 'RPM: erased' an_rpm_is_erased
check 'no file, pin, program, cgroup or user is left' nothing_is_left
check 'the kernel in lockdown: said so, with the remedy' a_kernel_in_lockdown_is_named
[ $failed = 0 ] || journalctl --unit telltale --no-pager | tail -n 60
echo "TELLTALE-VM-EXIT $failed"
systemctl poweroff --force --force
