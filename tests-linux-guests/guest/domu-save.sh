# A guest is saved and restored, and goes on: its memory, programs, clock, disk and network.
. /tests/report.sh
. /tests/domus.sh

LIMIT=300
# A guest of 96 MiB has some 30 MiB for all that is set going here: now and then its kernel kills a program.
MIB=128

# What goes on in the guest while it is saved.
set_going() {
    joins one 11
    guest one 'head -c 8388608 /dev/urandom >/tmp/kept; md5sum </tmp/kept >/tmp/sum; echo 0 >/tmp/count
        (while :; do echo $(($(cat /tmp/count) + 1)) >/tmp/next; mv /tmp/next /tmp/count; sleep 0.1; done) & :' >/dev/null
    guest one 'dd if=/tmp/kept of=/dev/xvda bs=1M oflag=direct && sync' >/dev/null
}

# behind: seconds by which its date is behind dom0's; theirs is not the same clock.
behind() {
    local date
    date=$(guest one 'date +%s')
    echo $(($(date +%s) - date))
}

counts_on() { [ "$(guest one 'cat /tmp/count')" -gt "$1" ]; }

# goes_on WHEN: all that is set going goes on; COUNT and UPTIME are from before.
goes_on() {
    equal "what was in memory, $1" "$(guest one 'md5sum </tmp/kept')" "$SUM"
    between "its uptime, $1" "$(guest one 'cut -d" " -f1 /proc/uptime')" "$UPTIME" $((${UPTIME%.*} + 600))
    between "its date beside dom0's as it was, $1" $(($(behind) - BEHIND)) -10 10
    eventually "its program counts on, $1" 30 counts_on "$COUNT"
    equal "what it reads from the disk, $1" "$(guest one 'dd if=/dev/xvda bs=1M count=8 iflag=direct 2>/dev/null | md5sum')" "$SUM"
    guest one 'cat /tmp/count | dd of=/dev/xvda bs=512 seek=16384 oflag=direct conv=sync' >/dev/null
    between "what it writes to the disk, $1" "$(tail -c +8388609 /run/disk | head -n 1)" "$((COUNT + 1))" 1000000000
    eventually "it reaches dom0, $1" 60 reaches one 10.0.0.1
    equal "a stream to it, $1" "$(fetches one 10.0.0.1 data)" "$(md5sum </run/www/data)"
    guest one 'dmesg | grep -q "Call Trace" && dmesg | tail -n 90'
    lacks "no trouble in its kernel's log, $1" "$(guest one dmesg)" 'BUG|WARNING|Oops|Call Trace'
    lacks "its CPU's features, $1" "$(guest one 'cat /proc/cpuinfo')" '\bsse4_2\b'
    look
}

# look: what it says now is what it must have gone on from.
look() {
    COUNT=$(guest one 'cat /tmp/count')
    UPTIME=$(guest one 'cut -d" " -f1 /proc/uptime')
}

restores() {
    runs xl restore "$1"
    open_console one
    # With what its console still had to say.
    eventually "it answers, restored" 60 answers one
}

start_backends
make_bridge
head -c 8M /dev/urandom >/run/www/data
head -c 16M /dev/zero >/run/disk
start_counting
matches "the CPU has the feature that is kept from it" "$(cat /proc/cpuinfo)" '\bsse4_2\b'
configure one "$MIB" "disk = ['file:/run/disk,xvda,w']" "vif = ['mac=00:16:3e:00:00:11,bridge=xenbr0']" \
    "cpuid = 'host,sse4_2=0'" "tsc_mode = '${XTSC:-default}'"
creates one
set_going
SUM=$(guest one 'cat /tmp/sum')
COUNT=1 UPTIME=1 BEHIND=$(behind)
between "seconds that its date is behind dom0's" "$BEHIND" -60 60
goes_on "before it is saved"

id=$(xl domid one)
runs xl save one /run/saved
equal "a guest that is saved is gone" "$(xl domid one 2>/dev/null)" ""
close_console one
# A clock that stood still would be told by that.
sleep 30
between "KiB of what is saved" $(($(stat -c %s /run/saved) / 1024)) 40000 $((MIB * 1150))
eventually "all its memory is free" 20 all_free
restores /run/saved
goes_on "restored"

id=$(xl domid one)
runs xl save -c one /run/again
equal "after a checkpoint it is the same" "$(xl domid one)" "$id"
goes_on "after a checkpoint"

# Without a log of dirty pages, as on Debian's Xen, it is refused and the guest goes on where it is.
run xl migrate -s '' one 'xl migrate-receive'
if [ "$RC" = 0 ]; then
    close_console one
    open_console one
    eventually "it answers, migrated" 60 answers one
    goes_on "migrated"
else
    matches "a refused migration is told" "$OUT" '[Ff]ail|cannot|not supported'
    equal "the guest stays" "$(xl domid one)" "$id"
    goes_on "after a refused migration"
fi
destroys one
restores /run/again
equal "what was in memory, restored once more" "$(guest one 'md5sum </tmp/kept')" "$SUM"
shuts_down one
rm /run/saved /run/again
eventually "all memory is free again" 20 all_free
finish
