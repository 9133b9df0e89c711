# Devices and requests that are wrong: each ends in an error and words, and the machine works on.
. /tests/report.sh
. /tests/drivers.sh

PHYSDEV=33 MAP_PIRQ=13 MSI=0 GSI=1 NONE=0xffffffff
# What dom0 calls itself.
SELF=0x7ff0

# pci ID: the folder of the device with this vendor and device number.
pci() {
    local device
    for device in /sys/bus/pci/devices/*; do
        [ "$(cat "$device/vendor") $(cat "$device/device")" = "$1" ] && echo "$device" && return
    done
    return 1
}

# bar DEVICE N: where the kernel has it.
bar() {
    sed -n "$(($2 + 1))s/ .*//p" "$1/resource"
}

# move_bar DEVICE ADDRESS: writes the first two base address registers, which are one of 64 bits.
move_bar() {
    local shift bytes=
    for shift in 0 8 16 24 32 40 48 56; do
        bytes="$bytes$(printf '\\x%02x' $(($2 >> shift & 255)))"
    done
    printf "$bytes" | dd "of=$1/config" bs=8 seek=2 conv=notrunc 2>/dev/null
}

# map_pirq TYPE INDEX PIRQ BUS DEVFN ENTRY TABLE: what the hypercall says.
map_pirq() {
    reach call $PHYSDEV $MAP_PIRQ $SELF "$1" "$2" "$3" "$4" "$5" "$6" 0 "$7" 0
}

lines_about_map_pirq() {
    xl dmesg | grep -c 'd0: map_pirq: '
}

# alive NAME
alive() {
    equal "$1: xl works on" "$(timeout 60 xl list | tail -n +2 | wc -l)" 1
}

check_requests() {
    local said before
    for said in "$GSI 4000 $NONE 0 0 0 0" "$GSI 4294967295 $NONE 0 0 0 0" "77 1 $NONE 0 0 0 0" \
        "$MSI $NONE $NONE 0xff 0xff 0 0" "$MSI $NONE $NONE 0xffffffff 0xffffffff 0xffffffff 0" \
        "$MSI $NONE $NONE 0 0 0 0" "$GSI 1 0x7fffffff 0 0 0 0"; do
        before=$(lines_about_map_pirq)
        matches "map_pirq $said" "$(map_pirq $said)" '^refused: '
        equal "map_pirq $said: lines on the console" $(($(lines_about_map_pirq) - before)) 1
    done
    alive "nonsense asked of map_pirq"
}

# A device whose registers are moved onto something else: those stay what they are.
check_moves() {
    local device=$1 before slot target
    slot=$((0x$(basename "$device" | cut -d: -f3 | cut -d. -f1)))
    before=$(bar "$device" 0)
    # Another device's, the I/O APIC's, HPET's.
    for target in "$(bar "$(pci '0x1234 0x11e8')" 0)" 0xfec00000 0xfed00000; do
        move_bar "$device" "$target"
        alive "registers of a device at $target"
    done
    # RAM and the local APIC's: the table lies two pages further.
    for target in 0x100000 0xfee00000; do
        move_bar "$device" "$target"
        matches "MSI-X of a device with its registers at $target" \
            "$(map_pirq $MSI $NONE $NONE 0 $((slot << 3)) 0 $((target)))" '^refused: '
        alive "registers of a device at $target"
    done
    move_bar "$device" "$before"
    modprobe nvme
    eventually "the device works where it was" 20 disk_of nvme
    matches "its interrupts" "$(cat /proc/interrupts)" 'xen-pirq +-msi-x +nvme'
    copy_around "$(disk_of nvme)"
}

# A line that is never let go, which the network card shares.
check_stuck_line() {
    local device=$1 registers
    echo 1 >"$device/enable"
    registers=$(bar "$device" 0)
    equal "the two share a line" "$(cat "$device/irq")" "$(cat "/sys/class/net/$nic/device/irq")"
    equal "the line is asked for" "$(reach mem $((registers + 0x60)) 1 | tail -n 1)" written
    eventually "the kernel gives the line up" 60 sh -c 'dmesg | grep -q "nobody cared"'
    alive "a line that never drops"
    # The kernel looks after the card now and then.
    eventually "the gateway answers beside it" 20 ping -c 1 -W 2 10.0.10.2
    reach mem $((registers + 0x64)) 1
}

for name in e1000 virtio-pci; do modprobe $name; done
eventually "an interface appears" 20 nic_of e1000
nic=$(nic_of e1000)
network "$nic" 10.0.10.2
run lspci
cat /sys/bus/pci/devices/*/resource | sort -u | head -40
open_monitor
check_requests
check_moves "$(pci '0x1b36 0x0010')"
check_stuck_line "$(pci '0x1234 0x11e8')"
cat /proc/interrupts
matches "the console names the line" "$(xl dmesg)" 'GSI [0-9]+: more than [0-9]+ interrupts'
finish
