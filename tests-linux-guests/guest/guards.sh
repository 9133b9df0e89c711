# What stays the hypervisor's: dom0 reaches for it in every way it has, and the machine works on.
. /tests/report.sh
. /tests/drivers.sh

SELF=0x7ff0 IO=0x7ff1 XEN=0x7ff2
ours=$(xl dmesg | grep -m 1 -o Xenolith)

# real PORT: what the machine itself has there, by QEMU's monitor.
real() {
    monitor "i /b $1" | grep -Eo '= 0x[0-9a-f]+' | cut -c3-
}

check_ports() {
    local port before
    for port in 0x20 0x21 0x22 0x23 0x40 0x41 0xa0 0xa1 0x3f8 0x3f9 0x3fa 0x3fb 0x3fc 0x3fd 0x3fe 0x3ff; do
        equal "in from port $port" "$(reach in "$port")" 0xff
        equal "/dev/port at $port" "$(dd if=/dev/port bs=1 skip=$((port)) count=1 2>/dev/null | xxd -p)" ff
    done
    # Two ports, of which one or none is dom0's.
    equal "in of two bytes from port 0x20" "$(reach in2 0x20)" 0xffff
    equal "in of four bytes from port 0x3f8" "$(reach in4 0x3f8)" 0xffffffff
    # It would read it as a second clock.
    port=$(dmesg | grep -m 1 -o 'PM-Timer IO Port: 0x[0-9a-f]*' | grep -o '0x.*')
    equal "in of four bytes from the PM timer at $port" "$(reach in4 "$port")" 0xffffffff
    # Scratch and divisor registers of the console's line, masks of the interrupt controllers.
    for port in 0x3ff 0x3fb 0x3f9 0x21 0xa1; do
        before=$(real "$port")
        reach out "$port" 0x5a
        printf '\x5a' | dd of=/dev/port bs=1 seek=$((port)) 2>/dev/null
        equal "port $port once written to" "$(real "$port")" "$before"
    done
    # Not these, but their neighbours are dom0's.
    lacks "the second serial line" "$(reach in 0x2fb)" '^0xff$'
    lacks "the keyboard's controller" "$(reach in 0x64)" '^0xff$'
    if [ -n "$ours" ]; then
        before=$(real 0x4d0)
        reach out 0x4d0 0xff
        equal "the edge and level registers once written to" "$(real 0x4d0)" "$before"
    fi
}

check_pci_ports() {
    local address=0x80000000 wanted
    wanted=$(printf '%#x' $(($(cat /sys/bus/pci/devices/0000:00:00.0/device) << 16 | $(cat /sys/bus/pci/devices/0000:00:00.0/vendor))))
    reach out4 0xcf8 $address
    equal "the PCI address that was written" "$(reach in4 0xcf8)" $address
    equal "the PCI device behind it" "$(reach in4 0xcfc)" "$wanted"
    reach out 0xcf8 0x55
    equal "a byte at the address port is none of it" "$(reach in4 0xcf8)" $address
    xl debug-keys i
    equal "the address after the hypervisor's own work" "$(reach in4 0xcf8)" $address
    reach out4 0xcf8 0x12345678
    equal "PCI data without the enable bit" "$(reach in4 0xcfc)" 0xffffffff
}

# refused NAME ACCESS: it did not come through.
refused() {
    matches "$1" "$2" '^(refused: .*|fault)$'
}

check_registers() {
    local way
    for way in $SELF $IO $XEN; do
        refused "the local APIC by way of $way" "$(reach map $way 0xfee00 0x20)"
        # The index register of the I/O APIC, the configuration of HPET.
        reach map $way 0xfec00 0 0x7
        lacks "the I/O APIC is not written by way of $way" "$(word 0xfec00000)" '0x0*7$'
        before=$(word 0xfed00010)
        reach map $way 0xfed00 0x10 $((before ^ 1))
        equal "HPET is not written by way of $way" "$(word 0xfed00010)" "$before"
    done
    for address in 0xfee00020 0xfec00000 0xfed00010; do
        run reach mem $address 0x7
        lacks "/dev/mem does not write $address" "$OUT" '^written$'
    done
}

check_memory() {
    local slot
    for slot in $(seq 0 15); do
        run reach poke $((0xffff800000000000 + (slot << 39)))
        equal "slot $((256 + slot)) is neither read nor written" "$OUT" fault
    done
    # The first 8 MiB, in which the image lies, then a sample of the rest.
    run reach frames 256 2047 1
    matches "frames were tried" "$OUT" '^tried 5376,'
    lacks "frames near the image" "$OUT" '^as'
    # At its end the firmware has its tables, which are no RAM.
    run reach frames 2048 $((XTOTAL * 256 - 256)) 61
    matches "dom0 reaches its own frames" "$OUT" '^tried [0-9]+, own [1-9][0-9]{3}'
    lacks "frames that are not dom0's" "$OUT" '^as'
}

open_monitor
echo "the hypervisor is ours: '$ours'"
check_ports
check_pci_ports
check_registers
check_memory
runs xl info
equal "dom0 works on" "$(xl list | tail -n +2 | wc -l)" 1
finish
