# Sourced by the tests that create domains of our own small kernels, /guest/micro-pv and /guest/micro-domu.

# What xenconsoled keeps of each.
CONSOLES=/var/log/xen/console

# configure_micro NAME KERNEL MEMORY WORDS [LINE...]: writes /tmp/NAME.cfg; lines are added, and win over those
# before them. XGUESTCPUS on dom0's command line: the CPUs that they may use.
configure_micro() {
    local name=$1 kernel=$2 memory=$3 words=$4
    shift 4
    {
        echo "name = '$name'"
        echo "kernel = '/guest/$kernel'"
        echo "memory = $memory"
        echo "maxmem = $memory"
        echo "cmdline = '$words'"
        # Where no number of vCPUs is named, xl takes no notice of the CPUs.
        [ -z "$XGUESTCPUS" ] || printf '%s\n' 'vcpus = 1' "cpus = '$XGUESTCPUS'"
        printf '%s\n' "$@"
    } >"/tmp/$name.cfg"
}

# said NAME TEXT: its console shows a line that begins with the text.
said() { grep -q "^$2" "$CONSOLES/guest-$1.log" 2>/dev/null; }

# state NAME: the letters of its state in `xl list`, without the dashes.
state() { xl list | awk -v name="$1" '$1 == name { gsub("-", "", $5); print $5 }'; }

state_is() { [ "$(state "$1")" = "$2" ] || { state "$1"; false; }; }

gone() { ! xl domid "$1" >/dev/null 2>&1; }

# take_report NAME: its checks count as ours. xenconsoled may not have read them all yet.
take_report() {
    local log="$CONSOLES/guest-$1.log"
    eventually "$1: the result is on its console" 30 said "$1" MICRO-RESULT
    tr -d '\r' <"$log" | grep -aE '^(ok|FAILED) ' | sed "s/^\(ok\|FAILED\) /&$1: /" >>"$REPORT"
    matches "$1: no check failed" "$(grep -a ^MICRO-RESULT "$log")" 'passed [0-9]+ failed 0 '
}
