# A guest whose second vCPU goes down and up all the time is given vCPUs, pinned, paused, let go and destroyed, and dom0
# loses a vCPU and gets it back, all at once, XROUNDS times. What comes too late or asks for nonsense is told so in
# words, and nothing is stuck.
. /tests/report.sh
. /tests/micros.sh

LIMIT=120
configure_micro r micro-domu 4 'act=flicker' 'vcpus = 2'

# refused TEXT COMMAND...: it says so and fails.
refused() {
    local text=$1
    shift
    run "$@"
    matches "$* says" "$OUT" "$text"
    equal "$* fails" "$([ "$RC" = 0 ] && echo done)" ""
}

check_values() {
    runs xl create -e /tmp/r.cfg
    eventually "its second vCPU flickers" 60 said r MICRO-FLICKERS
    refused 'weight out of range' xl sched-credit2 -d r -w 0
    refused 'weight out of range' xl sched-credit2 -d r -w 65536
    refused 'cap out of range' xl sched-credit2 -d r -c -5
    refused 'cap out of range' xl sched-credit2 -d r -c 201
    matches "its weight and cap are as they were" "$(xl sched-credit2 -d r)" '^r +[0-9]+ +256 +0$'
    # CPUs that are not there, one that is off line, vCPUs that are not there.
    refused 'affinity map is empty' xl vcpu-pin r 0 77
    runs xen-hptool cpu-offline 3
    refused 'Invalid argument' xl vcpu-pin r 0 3
    runs xen-hptool cpu-online 3
    refused 'Invalid argument' xl vcpu-pin r 9 0
    equal "it may run anywhere still" "$(xl vcpu-list r | awk 'NR > 1 { print $7 }' | sort -u)" all
    refused '.' xl vcpu-set r 0
    refused '.' xl vcpu-set r 99
    refused '.' xl pause nosuch
    runs xl destroy r
    eventually "it is gone" 30 gone r
}

# told COMMAND...: notes one that is stuck, crashes, or fails without a word.
told() {
    local words code
    words=$(timeout "$LIMIT" "$@" 2>&1)
    code=$?
    echo "$code $*" >>/tmp/codes
    if [ "$code" -ge 124 ] || { [ "$code" != 0 ] && [ -z "$words" ]; }; then
        echo "$* ends with $code: $words" >>/tmp/silent
    fi
}

# done_of CODE WORDS: how many of these commands ended so.
done_of() { grep -cE "^$1 xl $2" /tmp/codes; }

check_races() {
    local round
    : >/tmp/codes
    : >/tmp/silent
    for round in $(seq "$1"); do
        gone r && told xl create -e /tmp/r.cfg
        told xl vcpu-set r $((1 + round % 2)) &
        told xl vcpu-set 0 $((1 + round / 2 % 2)) &
        told xl vcpu-pin r $((round % 2)) $((round % XCPUS)) &
        { told xl pause r; told xl unpause r; } &
        [ $((round % 5)) = 0 ] && told xl destroy r &
        wait
        echo 1 >/sys/devices/system/cpu/cpu1/online
    done 2>/dev/null
    equal "commands that are stuck, crash or fail without a word" "$(head -n 5 /tmp/silent)" ""
    equal "rounds" "$(grep -c 'vcpu-pin' /tmp/codes)" "$1"
    # Of the rest only those can have failed that came when it was gone.
    equal "guests that were not destroyed" "$(done_of '[1-9][0-9]*' destroy)" 0
    equal "guests that could not be made" "$(done_of '[1-9][0-9]*' create)" 0
    equal "vCPUs that dom0 could not have" "$(done_of '[1-9][0-9]*' 'vcpu-set 0')" 0
    between "pins that were refused" "$(done_of '[1-9][0-9]*' vcpu-pin)" 0 $(($1 / 5))
    between "pauses that were refused" "$(done_of '[1-9][0-9]*' pause)" 0 $(($1 / 5))
}

check_rest() {
    gone r || runs xl destroy r
    eventually "the last one is gone" 30 gone r
    runs xl vcpu-set 0 2
    echo 1 >/sys/devices/system/cpu/cpu1/online 2>/dev/null
    eventually "dom0 has two CPUs again" 20 sh -c '[ "$(nproc)" = 2 ]'
    equal "domains that are left" "$(xl list | wc -l)" 2
    between "pages that are lost" $((before - $(free-pages))) -8 8
    runs xl create -e /tmp/r.cfg
    runs xl destroy r
    eventually "one more comes and goes" 30 gone r
}

check_values
before=$(free-pages)
check_races "${XROUNDS:-20}"
check_rest
finish
