# A PV guest and a PVH guest at the same time: created, asked, shut down, and nothing of them left.
. /tests/report.sh
. /tests/domus.sh

start_backends
start_counting "memory = 96"
for kind in pv pvh; do
    XTYPE=$kind
    configure "$kind" 96
    creates "$kind"
    equal "its kernel is Debian's" "$(guest "$kind" 'uname -r')" "$(cat /guest/release)"
    equal "it runs on Xen" "$(guest "$kind" 'cat /sys/hypervisor/type')" xen
    equal "what kind of guest it is" "$(guest "$kind" 'cat /sys/hypervisor/guest_type' | tr A-Z a-z)" "$kind"
done
runs xl list
equal "xl list's rows" "$(echo "$OUT" | tail -n +2 | wc -l)" 3
for kind in pv pvh; do
    equal "a shell answers still" "$(guest "$kind" 'echo $((6 * 7)) is it')" "42 is it"
    shuts_down "$kind"
done
eventually "all their memory is free again" 20 all_free
finish
