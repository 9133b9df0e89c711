# What a dom0 kernel must find when it has booted.
. /tests/report.sh

vcpus=${XVCPUS:-$XCPUS}
log=$(dmesg)

equal "the hypervisor's type in sysfs" "$(cat /sys/hypervisor/type)" xen
matches "dom0 is the control domain" "$(cat /proc/xen/capabilities)" control_d
matches "the kernel runs as a PV guest" "$log" 'Hypervisor detected: Xen PV'
# Xen 4.17's CPUID leaf for time makes this kernel prefer the TSC itself.
matches "clock source" "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" \
    '^(xen|tsc)$'
# The PM timer is the hypervisor's.
lacks "clock sources" "$(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)" acpi_pm
equal "online CPUs" "$(nproc)" "$vcpus"
total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
between "MemTotal in MiB" "$total" $((XDOM0 * 96 / 100 - 128)) "$XDOM0"

# XFREE on the kernel's command line: all memory was dom0's for the asking, and so much was left over.
if [ -n "$XFREE" ]; then
    between "free memory in MiB" "$(xl info | sed -n 's/^free_memory *: *//p')" \
        $((XFREE * 3 / 4)) $((XFREE + 2))
fi

lacks "no hypercall failed in the kernel's log" "$log" \
    '(hypercall|HYPERVISOR_|xen[-_:].*) ?(failed|error)|xen_mc_flush|Failed to (bind|map).*(xen|irq)'
lacks "no device interrupt could not be set up" "$log" 'unable to (map|bind|set up) .*(irq|gsi|pirq)'
matches "the kernel found the I/O APIC" "$log" 'IOAPIC\[0\]: apic_id'

before=$(cat /proc/interrupts)
start=$(cut -d' ' -f1 /proc/uptime)
day=$(date +%s)
sleep 2
end=$(cut -d' ' -f1 /proc/uptime)
between "uptime that passes in 'sleep 2'" "$(echo "$end $start" | awk '{ print $1 - $2 }')" 1.95 10
between "seconds of date in 'sleep 2'" $(($(date +%s) - day)) 1 11
after=$(cat /proc/interrupts)
ticks() { echo "$1" | awk -v cpu="$2" '$NF == "timer" cpu { print $(2 + cpu) }'; }
for cpu in $(seq 0 $((vcpus - 1))); do
    old=$(ticks "$before" "$cpu")
    between "timer interrupts of CPU $cpu go on" "$(ticks "$after" "$cpu")" $((${old:-0} + 1)) 1000000
done
matches "ACPI's interrupt is bound" "$after" 'xen-pirq.*acpi'
between "PCI devices" "$(ls /sys/bus/pci/devices | wc -l)" 4 64

equal "xenstore: dom0's name" "$(xenstore-read /local/domain/0/name 2>&1)" Domain-0
xenstore-write /tool/test "a value"
equal "xenstore: what was written" "$(xenstore-read /tool/test 2>&1)" "a value"
runs xl list
matches "xl list shows dom0" "$OUT" "^Domain-0 +0 +[0-9]+ +$vcpus +r"
finish
