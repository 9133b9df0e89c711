# Our own small PVH kernel as a hostile domU: each time something else, by its command line. Each gets the hardware's and the
# interface's errors or its own end; dom0 and a bystander go on, and afterwards the memory is free again.
. /tests/report.sh
. /tests/micros.sh

# HOSTILE on the kernel's command line: only these, with colons between them.
wanted() { [[ -z $HOSTILE || :$HOSTILE: == *:$1:* ]]; }

pings=0
# The bystander answers.
bystander_answers() {
    pings=$((pings + 1))
    xenstore-write "/local/domain/$bystander/data/ping" "$pings"
    eventually "$1: the bystander is well" 30 pong_is "$pings"
}
pong_is() { [ "$(xenstore-read "/local/domain/$bystander/data/pong" 2>/dev/null)" = "$1" ]; }

# ends NAME: within XWAIT seconds of dom0's clock, or three minutes.
ends() {
    local last=$((SECONDS + ${XWAIT:-180}))
    until [[ $(state "$1") == *s* ]]; do
        if [ "$SECONDS" -ge "$last" ]; then
            fail "$1: it ends" "its state is $(state "$1")"
            return
        fi
        sleep 0.5
    done
    ok "$1: it ends"
}

# begins NAME ACT: a domain does what the act says.
begins() {
    configure_micro "$1" micro-pvh 16 "act=$2 seed=${XSEED:-1}" "type = 'pvh'" 'vcpus = 2' "on_crash = 'preserve'" \
        "on_reboot = 'preserve'" "on_poweroff = 'preserve'"
    runs xl create -e "/tmp/$1.cfg"
}

# ended NAME: it is taken away.
ended() {
    runs xl destroy "$1"
    eventually "$1: it is gone" 30 gone "$1"
    bystander_answers "$1"
}

# hostile ACT STATE [ENDS]: a domain does that, and ends in this state of `xl list`: s when it says that it is done, or else,
# with `ends`, it must not come back from what it does; with `any` either is right.
hostile() {
    local act=$1
    wanted "$act" || return
    begins "$act" "$act"
    ends "$act"
    matches "$act: how it ends" "$(state "$act")" "^b?$2\$"
    if [ "$3" = any ]; then
        :
    elif [ "$2" = s ] && [ -z "$3" ]; then
        eventually "$act: it is done" 10 said "$act" "MICRO-PVH $act ok"
    else
        equal "$act: it did not come back" "$(said "$act" "MICRO-PVH $act ok" && echo yes)" ""
    fi
    equal "$act: nothing went wrong there" "$(grep -a ^FAILED "$CONSOLES/guest-$act.log")" ""
    tr -d '\r' <"$CONSOLES/guest-$act.log" | sed "s/^/$act| /"
    ended "$act"
}

configure_micro bystander micro-domu 4 'act=wait'
runs xl create -e /tmp/bystander.cfg
bystander=$(xl domid bystander)
eventually "the bystander waits" 60 said bystander MICRO-WAITS
# What the hypervisor sets aside for its first PVH guest it may keep.
HOSTILE= hostile hello s
before=$(free-pages)

for act in cpuid msr-read msr-write controls debug ports instructions user tables tables-race apic apic-access apic-modes \
    x2apic ioapic interrupts timer nmi sipi real-mode two events hypercalls hypercall-page parameters physmap balloon; do
    hostile "$act" s
done

# What ends it.
for act in triple halt root-gone code-gone stack-hole reboot; do
    hostile "$act" 's[cr]?' ends
done
hostile crash sc ends

# What ends it on some machines: where the CPU takes what it should not, and by chance.
hostile unchecked 's[cr]?' any
hostile sipi-nmi 's[cr]?' any
hostile fetch-hole 's[cr]?' any

# What never ends by itself.
if wanted endless; then
    begins endless endless
    eventually "endless: it has begun" 30 said endless 'MICRO-PVH endless'
    runs xl pause endless
    matches "endless: it is paused" "$(state endless)" 'p'
    runs xl unpause endless
    one=${XGUESTCPUS%%-*}
    runs xl vcpu-pin endless all "${one:-0}"
    ended endless
fi

between "pages that are lost" $((before - $(free-pages))) -8 8
runs xl shutdown bystander
eventually "the bystander ends when it is asked to" 60 state_is bystander s
runs xl destroy bystander
finish
