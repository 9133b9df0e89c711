# Many guests at once, each with a console and a disk; XMANY of them. With XTYPE=mixed every other one is a PVH guest.
. /tests/report.sh
. /tests/domus.sh

LIMIT=300
AWAIT=1500
mixed=$([ "$XTYPE" = mixed ] && echo mixed)
if [ -n "$mixed" ]; then XTYPE=pvh; fi
start_backends
start_counting
all=$(numbered g "${XMANY:-30}")
for name in $all; do
    if [ -n "$mixed" ]; then XTYPE=$([ "$XTYPE" = pvh ] && echo pv || echo pvh); fi
    echo "the disk of $name" >"/run/disk.$name"
    truncate -s 1M "/run/disk.$name"
    configure "$name" 96 "disk = ['file:/run/disk.$name,xvda,w']"
    runs xl create "/tmp/$name.cfg"
    show_console "$name"
    open_console "$name"
done
for name in $all; do
    if await_line "$name" GUEST-READY "$AWAIT"; then
        ok "$name is up"
    else
        fail "$name is up" "GUEST-READY was not printed"
    fi
done
if [ -n "$XGUESTCPUS" ]; then
    equal "CPUs that they may use" "$(xl vcpu-list | awk 'NR > 1 && $2 > 0 { print $7 }' | sort -u)" "$XGUESTCPUS"
fi
runs xl list
equal "xl list's rows" "$(echo "$OUT" | tail -n +2 | wc -l)" $((${XMANY:-30} + 1))
for name in $all; do
    equal "$name reads its own disk" "$(guest "$name" 'head -n 1 /dev/xvda')" "the disk of $name"
    guest "$name" "echo 'written by $name' | dd of=/dev/xvda bs=512 seek=8 conv=sync oflag=direct" >/dev/null
done
for name in $all; do
    equal "$name wrote to its own disk" "$(tail -c +4097 "/run/disk.$name" | head -n 1)" "written by $name"
done
# One by one: stock xl gives each disk's script ten seconds, and its -w frees what waits for a guest twice when that has
# shut down and is gone before xl looks.
for name in $all; do
    runs xl shutdown "$name"
    eventually "$name has gone" 120 gone "$name"
    close_console "$name"
done
eventually "no back end is left" 60 no_backends
# The heap keeps the pieces, of 64 pages each, in which dom0 still has something: more with more guests.
eventually "all memory is free again" 30 all_free $((XMANY > 16 ? XMANY * 16 / 3 : 32))
BEFORE=$(free-pages)
runs xl create /tmp/g1.cfg
open_console g1
if await_line g1 GUEST-READY "$AWAIT"; then ok "g1 is up again"; else fail "g1 is up again" "GUEST-READY was not printed"; fi
runs xl shutdown g1
eventually "g1 has gone again" 120 gone g1
eventually "no back end is left of it" 60 no_backends
eventually "all memory is free after one more" 30 all_free
finish
