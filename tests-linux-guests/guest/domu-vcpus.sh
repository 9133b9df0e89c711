# Guests with many vCPUs, which go off line and come back, and where they run.
. /tests/report.sh
. /tests/domus.sh

LIMIT=180
anywhere=${XGUESTCPUS:-all}
first=${XGUESTCPUS%%-*}
last=$((XCPUS - 1))
rows() { xl vcpu-list "$1" | tail -n +2; }
online() { guest "$1" 'cat /sys/devices/system/cpu/online'; }
online_is() { [ "$(online "$1")" = "$2" ]; }
is_on() { rows "$1" | grep -qE "^$1 +[0-9]+ +$2 +$3 .* ($3|all) / all$"; }
paused_is() { [ "$(rows "$1" | grep -c -- ' --p ')" = "$2" ]; }

start_backends
start_counting "vcpus = ${XMANY:-32}"
configure four 128 "vcpus = 4" "maxvcpus = 6"
creates four
equal "rows of xl vcpu-list" "$(rows four | wc -l)" 6
equal "vCPUs on line" "$(online four)" 0-3
equal "CPUs that they may use" "$(rows four | awk '{ print $7 }' | sort -u)" "$anywhere"
runs xl vcpu-set four 2
# Nothing is typed before it has settled: of what waits in the queue of a vCPU that goes off line, Linux 6.1 throws away what it
# has bound elsewhere meanwhile, its console's event too (on Debian's Xen as well, two times in seven with that event bound there).
eventually "the others are shown as paused" 60 paused_is four 4
sleep 1
eventually "two vCPUs are left to its kernel" 60 online_is four 0-1
equal "it works on with two" "$(guest four 'echo $((3 * 5))')" 15
runs xl vcpu-set --ignore-host four 6
# The kernel makes them present; switching them on is left to udev, which is not there.
guest four 'sleep 1; for cpu in /sys/devices/system/cpu/cpu*/online; do echo 1 >$cpu; done' >/dev/null
eventually "six vCPUs are on line" 60 online_is four 0-5
equal "each of them works" "$(guest four 'for cpu in 0 1 2 3 4 5; do
        taskset $(printf %x $((1 << cpu))) sh -c "cut -d\" \" -f39 /proc/self/stat"; done' | tr '\n' ' ')" '0 1 2 3 4 5 '
runs xl vcpu-pin four 1 "$last"
# One that runs elsewhere at this moment moves when that CPU takes the interrupt.
eventually "the vCPU that is pinned is on that CPU" 5 is_on four 1 "$last"
equal "it works on, pinned" "$(guest four 'taskset 2 sh -c "echo \$((4 * 5))"')" 20
# Its timer is armed on one CPU when it is sent to the other, again and again.
starts four '{ taskset 2 sh -c "for second in 1 2 3 4 5 6 7 8; do sleep 1; done"; echo SLEPT-ALL; } &'
moves=0
for round in $(seq 12); do
    for cpu in "${first:-0}" "$last"; do
        xl vcpu-pin four 1 "$cpu" && moves=$((moves + 1))
        sleep 0.3
    done
done
equal "times that it was pinned elsewhere" "$moves" 24
if await_line four SLEPT-ALL 120; then
    ok "its timers fired on the way"
else
    fail "its timers fired on the way" "it still sleeps"
fi
runs xl vcpu-pin four all "$anywhere"
equal "vCPUs that may run anywhere" "$(rows four | grep -c " $anywhere / all\$")" 6
shuts_down four
eventually "all its memory is free again" 20 all_free

configure many 256 "vcpus = ${XMANY:-32}"
creates many
equal "its vCPUs on line" "$(online many)" "0-$((${XMANY:-32} - 1))"
equal "rows of xl vcpu-list" "$(rows many | wc -l)" "${XMANY:-32}"
# A busy moment on each.
equal "all of them work at once" "$(guest many "for cpu in \$(seq ${XMANY:-32}); do
        (head -c 100000 /dev/zero | md5sum) & done | sort | uniq -c | awk '{ print \$1 }'")" "${XMANY:-32}"
shuts_down many
eventually "all its memory is free again" 20 all_free
finish
