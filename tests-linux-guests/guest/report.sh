# Sourced by the test scripts: checks are noted in a file and printed at the end, when nothing else
# writes to the console any more, so that no other line can cut them in two.

REPORT=/tmp/report
: >"$REPORT"

ok() {
    echo "ok $1" >>"$REPORT"
}

# fail NAME WHY
fail() {
    echo "FAILED $1: $(echo "$2" | tr '\n' ' ' | cut -c1-300)" >>"$REPORT"
    echo "  FAILED $1"
}

# equal NAME VALUE WANTED
equal() {
    if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "is '$2', should be '$3'"; fi
}

# matches NAME TEXT REGEX: some line of the text matches the extended regular expression.
matches() {
    if echo "$2" | grep -Eq -- "$3"; then ok "$1"; else fail "$1" "nothing matches '$3' in: $2"; fi
}

# lacks NAME TEXT REGEX: no line of the text matches.
lacks() {
    local found
    if found=$(echo "$2" | grep -E -- "$3"); then fail "$1" "$found"; else ok "$1"; fi
}

# between NAME VALUE LOW HIGH: a number, fractions allowed, both bounds included.
between() {
    if echo "$2 $3 $4" | awk '$1 !~ /^-?[0-9.]+$/ || $1 < $2 || $1 > $3 { exit 1 }'; then
        ok "$1"
    else
        fail "$1" "is '$2', should be from $3 to $4"
    fi
}

# run COMMAND...: runs it under a time limit (LIMIT in seconds, else a minute); its output is left in OUT, its exit code in RC.
run() {
    echo "BEGIN $*"
    OUT=$(timeout "${LIMIT:-60}" "$@" 2>&1)
    RC=$?
    echo "$OUT"
    echo "END $* rc=$RC"
}

# runs COMMAND...: the same, and the command must succeed.
runs() {
    run "$@"
    equal "$* succeeds" "$RC" 0
}

# timer_interrupts [CPUS]: so far, of the machine's last CPUs or of all. Debian's Xen counts them nowhere.
timer_interrupts() {
    xl debug-keys s
    xl dmesg | sed -n 's/.*; \([0-9]*\) timer interrupts$/\1/p' | tail -n "${1:-$XCPUS}" | awk '{ sum += $1 } END { print sum }'
}

# eventually NAME SECONDS COMMAND...: the command succeeds within the time.
eventually() {
    local name=$1 tries=$(($2 * 5)) said
    shift 2
    while ! said=$("$@" 2>&1); do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            fail "$name" "$* did not succeed in time: $said"
            return 1
        fi
        sleep 0.2
    done
    ok "$name"
}

# value KEY: what stands after "KEY :" in the lines of OUT.
value() {
    echo "$OUT" | sed -n "s/^$1 *: *//p" | head -n 1
}

# finish: prints the report and ends the script with its verdict.
finish() {
    dmesg -n 1
    sleep 0.3
    echo
    echo REPORT-BEGIN
    cat "$REPORT"
    echo "REPORT-END $(wc -l <"$REPORT")"
    ! grep -q ^FAILED "$REPORT"
    exit
}

# numbered NAME COUNT: NAME1 to NAMECOUNT.
numbered() {
    seq "$2" | sed "s/^/$1/"
}
