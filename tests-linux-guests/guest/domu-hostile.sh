# Our own small kernel as a hostile domU: each time something else, by its command line. Each gets the interface's
# errors or its own end; dom0 and a bystander go on, and afterwards the memory is free again.
. /tests/report.sh
. /tests/micros.sh

# HOSTILE on the kernel's command line: only those whose name contains it.
wanted() { [[ $1 == *"$HOSTILE"* ]]; }

free_mib() { xl info | sed -n 's/^free_memory *: *//p'; }

pings=0
# The bystander answers.
bystander_answers() {
    pings=$((pings + 1))
    xenstore-write "/local/domain/$bystander/data/ping" "$pings"
    eventually "$1: the bystander is well" 30 pong_is "$pings"
}
pong_is() { [ "$(xenstore-read "/local/domain/$bystander/data/pong" 2>/dev/null)" = "$1" ]; }

down() { [[ $(state "$1") == s* ]]; }

# hostile NAME WORDS STATE [LINE...]: a domain does what the words say, and ends in this state of `xl list`.
hostile() {
    local name=$1 words=$2 end=$3
    wanted "$name" || return
    shift 3
    configure_micro "$name" micro-pv 8 "$words" "vcpus = 2" "on_crash = 'preserve'" "$@"
    runs xl create -e "/tmp/$name.cfg"
    eventually "$name: it ends" 180 down "$name"
    equal "$name: how it ends" "$(state "$name")" "$end"
    if [ "$end" = s ]; then
        take_report "$name"
    else
        equal "$name: it did not live on" "$(said "$name" MICRO-SURVIVED && echo yes)" ""
    fi
    grep -a -e ^absent -e ^FAILED -e '^[a-z_]* [0-9]*: -' "$CONSOLES/guest-$name.log"
    run xl destroy "$name"
    eventually "$name: it is gone" 30 gone "$name"
    bystander_answers "$name"
}

configure_micro bystander micro-domu 4 'act=wait'
runs xl create -e /tmp/bystander.cfg
bystander=$(xl domid bystander)
eventually "the bystander waits" 60 said bystander MICRO-WAITS
before=$(free_mib)

# The checks that dom0 passes, with what others get.
hostile calls 'area=registers,version,unknown,multicall,traps,callbacks' s
hostile segments 'area=gdt,descriptor,ldt,segment-base,debug-registers,switches' s
hostile tables 'area=mmu-update,l1-entries,table-entries,va-mapping,mmuext,pins,frames' s
hostile memory 'area=memory-op,memory-facts,physmap,reservation-wild,reservation,exchange' s
hostile events 'area=events-refused,events-bind,events-loopback,events-delivery,events-many' s 'max_event_channels = 4095'
hostile grants 'area=grant-calls,grant-table,grant-maps,grant-copies,granted' s
hostile vcpus 'area=vcpu-op,vcpu-places,timers,clock,sched-op,second-vcpu' s
hostile devices 'area=physdev-call,physdev-io' s
hostile privileged 'area=msrs,control-registers,instructions' s
hostile faults 'area=page-faults,table-writes,user-mode,returns' s

# What only a hostile one does.
for act in race-entry race-pin race-arguments event-flood timer-flood exhaust-memory rights foreign-frames \
    foreign-tables foreign-grants; do
    hostile "$act" "hostile=$act" s
done
hostile exhaust-grants 'hostile=exhaust-grants' s 'max_grant_frames = 6'
hostile exhaust-maptrack 'hostile=exhaust-maptrack' s 'max_maptrack_frames = 4'

# What ends it.
for act in no-stack stack-of-theirs stack-not-canonical iret-hole iret-of-theirs no-handler handlers-of-theirs \
    code-gone shutdown-crash; do
    hostile "crash-$act" "crash=$act" sc
done
hostile crash-watchdog 'crash=watchdog' sw 'on_watchdog = "preserve"'

between "free MiB afterwards" "$(free_mib)" $((before - 1)) $((before + 1))
runs xl shutdown bystander
eventually "the bystander ends when it is asked to" 60 state_is bystander s
runs xl destroy bystander
finish
