# Our own small kernel as a domU of 4 MiB: console, xenstore, life and end.
. /tests/report.sh
. /tests/micros.sh

free_mib() { xl info | sed -n 's/^free_memory *: *//p'; }
before=$(free_mib)

# Nobody waits for this one's end: it stays until it is destroyed.
configure_micro store micro-domu 4 ''
runs xl create -e /tmp/store.cfg
eventually "store powers off" 120 state_is store s
take_report store
id=$(xl domid store)
matches "store: xl list shows its memory and vCPU" "$(xl list)" "^store +$id +4 +1 +"
equal "store: what it wrote is gone with its place" \
    "$(xenstore-read "/local/domain/$id/data/micro/node" 2>/dev/null)" ""
runs xl destroy store
equal "store is gone" "$(xl domid store 2>/dev/null)" ""

# xl waits for the end of this one.
configure_micro hello micro-domu 4 'act=hello'
runs xl create /tmp/hello.cfg
eventually "hello ends and is cleaned up" 60 gone hello
equal "hello said so" "$(said hello MICRO-HELLO && echo yes)" yes

# This one is asked to end.
configure_micro wait micro-domu 4 'act=wait'
runs xl create /tmp/wait.cfg
eventually "wait waits" 60 said wait MICRO-WAITS
runs xl pause wait
# And blocked, as a rule: it waits for xenstore.
matches "it is paused" "$(state wait)" '^b?p$'
runs xl unpause wait
runs xl shutdown wait
eventually "wait ends when it is asked to" 60 gone wait
equal "it heard the wish" "$(said wait 'MICRO-ASKED Ok' && echo yes)" yes

# A kernel that this one's memory does not hold.
configure_micro large micro-pv 4 ''
run xl create -e /tmp/large.cfg
equal "a kernel larger than the memory is refused" "$((RC != 0))" 1
xl destroy large 2>/dev/null

after=$(free_mib)
between "free MiB afterwards" "$after" $((before - 1)) $((before + 1))
finish
