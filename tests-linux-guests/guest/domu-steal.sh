# More work than CPUs: where the time of each vCPU goes, as its kernel counts it and as the tools see it. XEXACT=1: the
# machine counts time by instructions, so that nothing but the scheduler decides who gets how much.
. /tests/report.sh
. /tests/domus.sh

LIMIT=180
# Seconds that are looked at.
SPAN=12

# Files with the time and the ticks of each CPU, the guest's and our own.
guest_ticks() { guest steal 'cut -d" " -f1 /proc/uptime; grep "^cpu[0-9]" /proc/stat' >"$1"; }
own_ticks() { { cut -d' ' -f1 /proc/uptime; grep '^cpu[0-9]' /proc/stat; } >"$1"; }

# shares FIRST SECOND: for each CPU its name, the sum of its ticks and those stolen, both in percent of the time between.
shares() {
    awk '/^[0-9]/ { began = now; now = $1; next }
        { sum = 0; for (i = 2; i <= 9; i++) sum += $i }
        NR == FNR { all[$1] = sum; stolen[$1] = $9; next }
        { printf "%s %.1f %.1f\n", $1, (sum - all[$1]) / (now - began), ($9 - stolen[$1]) / (now - began) }' "$1" "$2"
}

# check_shares WHO FIRST SECOND CPUS
check_shares() {
    local cpu sum stolen
    shares "$2" "$3" >/tmp/shares
    while read -r cpu sum stolen; do
        echo "SHARE $1 $cpu: $sum % of the time counted, $stolen % of it stolen"
        if [ -n "$XEXACT" ]; then
            between "$1 $cpu: its times add up to what went by, in percent" "$sum" 95 105
            between "$1 $cpu: what others took, in percent" "$stolen" 30 85
        else
            # Ticks that a busy host swallowed are in no account, but nothing is counted twice.
            between "$1 $cpu: its times add up to no more than went by, in percent" "$sum" 0 110
        fi
    done </tmp/shares
    equal "$1: CPUs looked at" "$(wc -l </tmp/shares)" "$4"
}

# busy COUNT: so many loops in dom0 that never end.
busy() {
    local number
    for number in $(seq "$1"); do
        while :; do :; done &
        HOGS="$HOGS $!"
    done
}

# spent FIRST SECOND: what all domains ran and all CPUs idled, in percent of the CPUs' time.
spent() {
    cat "$1" "$2" | awk -v cpus="$XCPUS" '$1 == "before" { if (!n++) began = $2 }
        $1 == "after" { ended = $2 }
        $1 == "idle" { sum[n] += $2 } $1 == "domain" { sum[n] += $3 }
        END { printf "%.3f\n", 100 * (sum[2] - sum[1]) / (cpus * (ended - began)) }'
}

start_backends
configure steal 128 "vcpus = 2"
creates steal
equal "vCPUs on line" "$(guest steal 'cat /sys/devices/system/cpu/online')" 0-1
guest steal 'for hog in 1 2; do (while :; do :; done) & done' >/dev/null
busy "$XCPUS"
sleep 1
guest_ticks /tmp/guest.1
own_ticks /tmp/own.1
cpu-times >/tmp/times.1
sleep "$SPAN"
cpu-times >/tmp/times.2
own_ticks /tmp/own.2
guest_ticks /tmp/guest.2
kill $HOGS
check_shares guest /tmp/guest.1 /tmp/guest.2 2
check_shares dom0 /tmp/own.1 /tmp/own.2 "$XCPUS"
# No CPU is in two accounts at once. The rest is the hypervisor's own.
least=0
[ -z "$XEXACT" ] || least=90
between "what ran and idled, in percent of the CPUs' time" "$(spent /tmp/times.1 /tmp/times.2)" "$least" 100.1
runs xl list
runs xl vcpu-list
destroys steal
finish
