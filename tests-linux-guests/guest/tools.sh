# The tools beside xl that people use to look at a hypervisor.
. /tests/report.sh

runs xentop -b -i 1
matches "xentop's row of dom0" "$OUT" "^ *Domain-0 -----r +[0-9]+ +[0-9.]+ +[0-9]+ +[0-9.]+ "
runs xen-cpuid -p
for policy in Raw Host 'PV Max'; do
    matches "xen-cpuid prints the policy $policy" "$OUT" "^$policy policy: [0-9]+ leaves, [0-9]+ MSRs$"
done
matches "xen-cpuid prints leaf 1" "$OUT" '00000001:ffffffff -> [0-9a-f]{8}:[0-9a-f]{8}:[0-9a-f]{8}:[0-9a-f]{8}'
runs xenhypfs tree
matches "xenhypfs has the build's data" "$OUT" 'buildinfo/'
runs xenhypfs cat /buildinfo/version/major
equal "xenhypfs cat of the version" "$OUT" 4
runs xenpm get-cpuidle-states
matches "xenpm's C0" "$OUT" '^C0 '
run xenpm get-cpufreq-para
matches "xenpm says that there is no frequency driver" "$OUT" 'failed to get cpufreq parameter'
run xl psr-hwinfo
matches "xl psr-hwinfo answers" "$OUT" 'Cache Monitoring Technology'
if xl info | grep -q '^xen_extra.*xenolith'; then
    before=$(timer_interrupts)
    sleep 10
    # Its kernel's tick alone would be 2500.
    between "timer interrupts in ten seconds in which nothing happens" $(($(timer_interrupts) - before)) 1 600
fi
runs xl dmesg -c
runs xl dmesg
equal "xl dmesg is empty once cleared" "$OUT" ""
runs xenstore-ls /local/domain/0
matches "xenstore-ls shows dom0" "$OUT" 'name = "Domain-0"'
run xl create /dev/null
matches "xl create without a kernel is refused" "$RC" '^[1-9]'
finish
