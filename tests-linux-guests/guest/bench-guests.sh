# Measures guests; cargo xtask bench --guests reads the BENCH lines and compares hypervisors.
. /tests/report.sh
. /tests/domus.sh
. /tests/micros.sh

# noted NAME COMMAND...: what it prints is kept, and it must succeed.
noted() {
    local name=$1
    shift
    timeout 300 "$@" >>/tmp/bench 2>&1
    equal "measuring $name succeeds" "$?" 0
}

# appears NAME GUEST TEXT: from `xl create` to the text on the guest's console, then destroys it.
appears() {
    noted "$1" bench until "$1" "$CONSOLES/guest-$2.log" "$3" xl create "/tmp/$2.cfg"
    runs xl destroy "$2"
    eventually "$2 is gone" 60 gone "$2"
}

# inside GUEST PREFIX WORDS: `bench WORDS` in the guest, whose console is silent meanwhile; the prefix goes before each
# name.
inside() {
    guest "$1" "bench $3 >/tmp/bench 2>&1; failed=\$?; cat /tmp/bench; [ \$failed = 0 ]" >/tmp/inside
    equal "bench $3 in $1 succeeds" "$?" 0
    sed "s/^BENCH /&$2/" /tmp/inside >>/tmp/bench
}

# warm_up MEMORY: a creation before those that count.
warm_up() {
    configure_micro warm micro-domu "$1" 'act=wait'
    runs xl create -p -e /tmp/warm.cfg
    runs xl destroy warm
}

measure_creation() {
    warm_up 4
    if [ "$XTYPE" != pvh ]; then
        configure_micro small micro-domu 4 'act=wait'
        appears 'xl create to first line, 4 MiB' small MICRO-WAITS
    fi
    configure line 128
    appears 'xl create to first line, Linux' line 'Linux version'
    configure shell 128
    appears 'xl create to a shell, Linux' shell GUEST-READY
}

# What the last of many costs beside the first.
measure_crowd() {
    local number name
    warm_up 96
    for number in $(seq 30); do
        name=crowd$number
        configure_micro "$name" micro-domu 96 'act=wait'
        case $number in
            1 | 30) noted "$name" bench once "xl create -p, number $number" xl create -p -e "/tmp/$name.cfg" ;;
            *) runs xl create -p -e "/tmp/$name.cfg" ;;
        esac
    done
    for name in $(numbered crowd 30); do
        runs xl destroy "$name"
    done
}

# Two small kernels: one answers the other and lends it pages. dom0 sleeps while they measure.
measure_micros() {
    local answering asking native="tsc_mode = 'native'"
    configure_micro answering micro-domu 4 'act=answer' "$native"
    configure_micro asking micro-domu 4 'act=measure' "$native"
    runs xl create -p -e /tmp/answering.cfg
    runs xl create -p -e /tmp/asking.cfg
    answering=$(xl domid answering) asking=$(xl domid asking)
    open_console asking
    xenstore-write "/local/domain/$answering/data/peer" "$asking"
    runs xl unpause answering
    eventually "answering is ready" 30 said answering MICRO-ANSWERS
    xenstore-write "/local/domain/$asking/data/peer" "$answering" "/local/domain/$asking/data/port" \
        "$(tr -d '\r' <"$CONSOLES/guest-answering.log" | sed -n 's/^MICRO-ANSWERS //p')"
    xl unpause asking
    if await_line asking MICRO-MEASURED 60; then
        ok "the small kernels measure"
    else
        fail "the small kernels measure" "$(tail -n 3 "$CONSOLES/guest-asking.log")"
    fi
    tr -d '\r' <"$CONSOLES/guest-asking.log" | grep -aE '^(BENCH|COUNTED) ' >>/tmp/bench
    destroys asking
    destroys answering
}

# What leaving a small PVH kernel costs. dom0 sleeps while it measures.
measure_pvh_micros() {
    configure_micro pvh micro-pvh 16 'act=measure' "type = 'pvh'" 'vcpus = 2' "tsc_mode = 'native'"
    runs xl create -p -e /tmp/pvh.cfg
    open_console pvh
    xl unpause pvh
    if await_line pvh MICRO-MEASURED 120; then
        ok "the small PVH kernel measures"
    else
        fail "the small PVH kernel measures" "$(tail -n 3 "$CONSOLES/guest-pvh.log")"
    fi
    tr -d '\r' <"$CONSOLES/guest-pvh.log" | grep -aE '^(BENCH|COUNTED) ' >>/tmp/bench
    destroys pvh
}

# For how long a guest stands still that is moved to this host, while it does next to nothing.
measure_migration() {
    configure moving 128
    creates moving
    starts moving 'bench pause "longest pause, xl migrate" /tmp/moved >/tmp/bench &'
    noted migration bench once 'xl migrate' xl migrate -s '' moving 'xl migrate-receive'
    close_console moving
    open_console moving
    guest moving 'touch /tmp/moved; wait; cat /tmp/bench' | grep '^BENCH ' >>/tmp/bench ||
        fail "the guest tells how long it stood still" "it printed nothing"
    destroys moving
}

# How late a small kernel that sleeps and works a little wakes beside eight that never sleep.
measure_wakeups() {
    local name all native="tsc_mode = 'native'"
    all=$(numbered hog 8)
    for name in $all; do
        configure_micro "$name" micro-domu 4 'act=hog every=4 seconds=12' "$native"
        runs xl create -p -e "/tmp/$name.cfg"
    done
    configure_micro waker micro-domu 4 'act=wake every=4' "$native"
    runs xl create -p -e /tmp/waker.cfg
    for name in $all waker; do
        runs xl unpause "$name"
    done
    sleep 12
    eventually "waker has slept and woken" 120 said waker MICRO-WOKE
    tr -d '\r' <"$CONSOLES/guest-waker.log" | grep -a '^BENCH ' >>/tmp/bench
    for name in $all waker; do
        runs xl destroy "$name"
    done
}

measure_disks() {
    inside one '' 'read "4 KiB read, phy" /dev/xvda 4096 4000 4000'
    inside one '' 'read "MiB read, phy, 64 MiB" /dev/xvda 1048576 64 64'
    inside one '' 'write "MiB written, phy, 64 MiB" /dev/xvda 1048576 64 64'
    inside one '' 'write "MiB written, file, 256 MiB" /dev/xvdb 1048576 256 256'
    inside one '' 'read "MiB read, file, 256 MiB" /dev/xvdb 1048576 256 256'
}

measure_networks() {
    joins one 11
    joins two 12
    eventually "guest one reaches dom0" 30 reaches one 10.0.0.1
    eventually "guest one reaches guest two" 30 reaches one 10.0.0.12
    runs bench serve 16
    guest one 'bench serve 16' || fail "guest one serves" "bench serve failed"
    guest two 'bench serve 16' || fail "guest two serves" "bench serve failed"
    inside one '' 'fetch "MiB by TCP, dom0 to domU" 10.0.0.1 16 4'
    noted "TCP to dom0" bench fetch "MiB by TCP, domU to dom0" 10.0.0.11 16 4
    inside one '' 'fetch "MiB by TCP, domU to domU" 10.0.0.12 16 4'
}

# wanted PART: whether this part is measured; all are, unless the command line names one.
wanted() { [ "${XPART:-$1}" = "$1" ]; }
# named PART: only when the command line does.
named() { [ "$XPART" = "$1" ]; }

# What measures in guests with Linux needs two of them.
measure_linux() {
    configure one 128 "disk = ['phy:/dev/ram0,xvda,w', 'file:/run/disk,xvdb,w']" \
        "vif = ['mac=00:16:3e:00:00:11,bridge=xenbr0']"
    # As it is by default, Xen's guests have a TSC of their own where the CPU does not promise that it is steady: each
    # reading of it is a trap.
    configure two 128 "vif = ['mac=00:16:3e:00:00:12,bridge=xenbr0']" "tsc_mode = 'native'"
    creates one
    creates two
    if wanted loops; then
        inside one 'domU: ' loops
        inside two 'native TSC: ' loops
    fi
    if wanted disks; then measure_disks; fi
    if wanted networks; then measure_networks; fi
    destroys one
    destroys two
}

start_backends
modprobe brd rd_nr=1 rd_size=65536
truncate -s 256M /run/disk
add_bridge
if wanted creation; then measure_creation; fi
if wanted crowd; then measure_crowd; fi
if wanted micros; then measure_micros; fi
if named pvh-micros; then measure_pvh_micros; fi
if named migration; then measure_migration; fi
if wanted wakeups; then measure_wakeups; fi
if wanted loops || wanted disks || wanted networks; then measure_linux; fi
dmesg -n 1
sleep 1
cat /tmp/bench
finish
