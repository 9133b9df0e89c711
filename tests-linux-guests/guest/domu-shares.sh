# What domains of our own small kernel get of the CPUs, as they measure it themselves. On a machine whose clock counts
# instructions, so that each run gives the same.
. /tests/report.sh
. /tests/micros.sh

# word NAME MARKER N: the Nth word behind the marker on its console.
word() { tr -d '\r' <"$CONSOLES/guest-$1.log" | awk -v marker="$2" -v n="$3" '$1 == marker { print $(n + 1) }'; }

# begin NAME...: all run from now on; each begins at the next full `every` seconds.
begin() {
    local name
    for name in "$@"; do
        runs xl unpause "$name"
    done
}

# Weights 256 and 512 share one CPU as 1 to 2.
check_weights() {
    local name share
    for name in light heavy; do
        configure_micro "$name" micro-domu 4 'act=hog every=4 seconds=4'
        runs xl create -p -e "/tmp/$name.cfg"
    done
    runs xl sched-credit2 -d light -w 256
    runs xl sched-credit2 -d heavy -w 512
    begin light heavy
    # dom0 stays out of the way meanwhile.
    sleep 9
    for name in light heavy; do
        eventually "$name has worked" 60 said "$name" MICRO-WORK
    done
    equal "they began together" "$(word light MICRO-WORK 1)" "$(word heavy MICRO-WORK 1)"
    share=$(echo "$(word heavy MICRO-WORK 2) $(word light MICRO-WORK 2)" | awk '{ printf "%.3f", $1 / $2 }')
    echo "heavy did $share times the work of light"
    between "what weight 512 did beside weight 256" "$share" 1.9 2.1
    for name in light heavy; do
        runs xl destroy "$name"
    done
}

# A cap of 25 % gives 25 % of a CPU that nobody else wants.
check_cap() {
    local share
    configure_micro capped micro-domu 4 'act=hog every=4 seconds=4'
    runs xl create -p -e /tmp/capped.cfg
    runs xl sched-credit2 -d capped -c 25
    matches "the cap is told" "$(xl sched-credit2 -d capped)" '^capped +[0-9]+ +256 +25$'
    begin capped
    sleep 9
    eventually "capped has worked" 60 said capped MICRO-WORK
    share=$(word capped MICRO-WORK 3 | awk '{ printf "%.2f", $1 / 4e7 }')
    echo "capped ran $share % of the time"
    between "per cent of a CPU with a cap of 25" "$share" 22 28
    runs xl destroy capped
}

# Eight domains of two vCPUs each on two CPUs finish the same job at about the same time.
check_jobs() {
    local all name times
    all=$(numbered job 8)
    for name in $all; do
        configure_micro "$name" micro-domu 4 'act=job every=4 units=20000' 'vcpus = 2'
        runs xl create -p -e "/tmp/$name.cfg"
    done
    begin $all
    sleep 9
    for name in $all; do
        eventually "$name is done" 120 said "$name" MICRO-JOB
    done
    equal "they began together" "$(for name in $all; do word "$name" MICRO-JOB 1; done | sort -u | wc -l)" 1
    times=$(for name in $all; do word "$name" MICRO-JOB 2; done | sort -n)
    echo "the jobs took" $times
    between "how much longer the last took than the first" \
        "$(echo $times | awk '{ printf "%.3f", $NF / $1 }')" 1 1.1
    for name in $all; do
        runs xl destroy "$name"
    done
}

if [ "$XCPUS" = 1 ]; then
    check_weights
    check_cap
else
    check_jobs
fi
finish
