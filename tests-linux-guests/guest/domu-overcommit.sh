# A guest with many more vCPUs than there are CPUs, whose kernel's locks wait and wake by polls and events, under a load
# of everything at once, beside a dom0 that computes.
. /tests/report.sh
. /tests/domus.sh

LIMIT=300
AWAIT=900
VCPUS=${XMANY:-16}
ROUNDS=${XROUNDS:-20}

start_backends
configure big 384 "vcpus = $VCPUS"
creates big
equal "its vCPUs on line" "$(guest big 'cat /sys/devices/system/cpu/online')" "0-$((VCPUS - 1))"
matches "its kernel waits for locks by polls" "$(guest big dmesg)" 'PV spinlocks enabled'
while :; do :; done &
hog=$!
# Files, pipes, processes and sums: each round of each worker prints one and the same line.
starts big "for worker in \$(seq $VCPUS); do (
        for round in \$(seq $ROUNDS); do
            mkdir /run/w\$worker && echo \$worker >/run/w\$worker/file &&
                mv /run/w\$worker/file /run/w\$worker/again && rm -r /run/w\$worker &&
                head -c 200000 /dev/zero | md5sum | cut -c 1-32
            ls /proc/[0-9]*/fd >/dev/null 2>&1
        done) & done | sort | uniq -c | sed 's/^ */WORK-DONE /'"
if await_line big WORK-DONE 2400; then
    equal "all rounds of all workers" "$LINE" "WORK-DONE $((VCPUS * ROUNDS)) $(head -c 200000 /dev/zero | md5sum | cut -c 1-32)"
else
    fail "all rounds of all workers" "they did not end in time"
fi
kill "$hog"
matches "its kernel counts what others took" "$(guest big 'awk "/^cpu / { print \$9 }" /proc/stat')" '^[1-9]'
lacks "its kernel saw nothing stuck" "$(guest big dmesg)" 'lockup|detected stall|hung task|blocked for more'
runs xl vcpu-list big
shuts_down big
finish
