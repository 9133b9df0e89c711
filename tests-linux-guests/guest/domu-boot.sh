# One guest: created, asked, shut down, and nothing of it left. XMEMORY on dom0's command line: its MiB.
. /tests/report.sh
. /tests/domus.sh

mib=${XMEMORY:-96}
start_backends
start_counting "memory = $mib"
configure one "$mib" "kernel = '${XKERNEL:-/guest/vmlinuz}'"
creates one
id=$(xl domid one)
between "its number" "$id" 1 32751
equal "xl domname of that" "$(xl domname "$id")" one
equal "a shell answers" "$(guest one 'echo $((6 * 7)) is it')" "42 is it"
equal "its kernel is Debian's" "$(guest one 'uname -r')" "$(cat /guest/release)"
equal "it runs on Xen" "$(guest one 'cat /sys/hypervisor/type')" xen
case $XTYPE in
    pvh)
        equal "what kind of guest it is" "$(guest one 'cat /sys/hypervisor/guest_type')" PVH
        matches "its kernel uses the hypervisor's clock" \
            "$(guest one 'cat /sys/devices/system/clocksource/clocksource0/current_clocksource')" '^(xen|tsc)$'
        ;;
    *) matches "it runs as a PV guest" "$(guest one dmesg)" 'Hypervisor detected: Xen PV' ;;
esac
lacks "it is not the control domain" "$(guest one 'dmesg')" 'Xen PV dom0|initial domain'
between "its MemTotal in KiB" "$(guest one "awk '/^MemTotal/ { print \$2 }' /proc/meminfo")" 30000 $((mib * 1024))
runs xl list
matches "xl list shows it" "$OUT" "^one +$id +$mib +1 +(r----|-b---|-----)- +[0-9]+\.[0-9]$"
matches "xl list still shows dom0" "$OUT" "^Domain-0 +0 +$XDOM0 "
# Its pages, two more for each MiB that xl sets aside for tables, and what all guests take.
between "pages that it takes" $((BEFORE - $(free-pages))) $((mib * 256)) $((mib * 258 + 1232))
shuts_down one
eventually "all its memory is free again" 20 all_free
runs xl list
equal "xl list's rows after that" "$(echo "$OUT" | tail -n +2 | wc -l)" 1
finish
