# A vCPU that has a CPU to itself is left alone there: no tick, no end of a slice. By how many timer interrupts its CPU takes,
# which Debian's Xen does not tell.
. /tests/report.sh
. /tests/micros.sh

last=$((XCPUS - 1))
# hog NAME: a domain computes, on the last CPU, and asks for nothing.
hog() {
    configure_micro "$1" micro-domu 4 'act=hog every=1 seconds=60' "cpus = '$last'"
    runs xl create -e "/tmp/$1.cfg"
    eventually "$1 is on its CPU" 30 is_running "$1"
}
is_running() { xl vcpu-list "$1" | grep -qE "^$1 +[0-9]+ +0 +$last +r-- "; }

# taken: timer interrupts of that CPU in five seconds.
taken() {
    local before
    before=$(timer_interrupts 1)
    sleep 5
    echo $(($(timer_interrupts 1) - before))
}

# dom0 stays away from there.
runs xl vcpu-pin Domain-0 all 0
hog one
between "timer interrupts beside a lone vCPU in five seconds" "$(taken)" 0 25
# Where two share the CPU, they take turns.
hog other
between "timer interrupts beside two" "$(taken)" 100 10000
runs xl destroy other
eventually "the other is gone" 30 gone other
between "timer interrupts beside the one that is left" "$(taken)" 0 25
runs xl destroy one
eventually "it is gone" 30 gone one
finish
