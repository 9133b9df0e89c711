# The messages of devices at work stay the hypervisor's: dom0 tries to write them in every way it has, and the
# devices work on.
. /tests/report.sh
. /tests/drivers.sh

ours=$(xl dmesg | grep -m 1 -o Xenolith)

# function_of DRIVER: the folder of its PCI function.
function_of() {
    readlink -f /sys/bus/pci/drivers/"$1"/0000:*
}

# devfn FUNCTION: device and function in one number; all are on bus 0.
devfn() {
    local name=${1##*:}
    echo $((0x${name%.*} << 3 | ${name#*.}))
}

# byte FUNCTION REGISTER
byte() {
    printf '%d' "0x$(dd "if=$1/config" bs=1 skip="$2" count=1 2>/dev/null | xxd -p)"
}

# capability FUNCTION ID: its register.
capability() {
    local at
    at=$(byte "$1" 52)
    while [ "$at" != 0 ]; do
        [ "$(byte "$1" "$at")" = "$2" ] && echo "$at" && return
        at=$(byte "$1" $((at + 1)))
    done
}

# set_word FILE OFFSET VALUE: writes four bytes by write().
set_word() {
    local shift bytes=
    for shift in 0 8 16 24; do
        bytes="$bytes$(printf '\\x%02x' $(($3 >> shift & 255)))"
    done
    printf "$bytes" | dd "of=$1" bs=4 seek=$(($2 / 4)) conv=notrunc 2>&1 | tail -n 1
}

# same_after NAME ADDRESS BEFORE
same_after() {
    equal "$1" "$(word "$2")" "$3"
}

# The entry 0 of a table: address, its upper half, data, mask.
check_table() {
    local function=$1 table offset before way at
    table=$(($(sed -n '1s/ .*//p' "$function/resource") + 0x2000))
    lacks "the table has a vector" "$(word $((table + 8)))" '^0x0*$'
    for offset in 0 4 8 12; do
        at=$((table + offset))
        before=$(word $at)
        for way in 0x7ff0 0x7ff1 0x7ff2; do
            reach map $way $((at >> 12)) $((at & 4095)) 0x1235
            same_after "word $offset of the table once written by way of $way" $at "$before"
        done
        reach mem $at 0x1235
        same_after "word $offset once written by /dev/mem" $at "$before"
        reach file "$function/resource0" $((0x2000 + offset)) 0x1235
        same_after "word $offset once written by sysfs" $at "$before"
    done
}

# Messages that are registers of configuration space: address, its upper half, data.
check_registers() {
    local function=$1 register window at offset before port
    register=$(capability "$function" 5)
    window=0x$(sed -n 's/^ *\([0-9a-f]*\)-.*PCI MMCONFIG 0000.*/\1/p' /proc/iomem)
    at=$((window + ($(devfn "$function") << 12) + register))
    port=$((0x80000000 | $(devfn "$function") << 8 | register))
    matches "the message's address" "$(word $((at + 4)))" '^0xfee'
    for offset in 4 8 12; do
        before=$(word $((at + offset)))
        reach out4 0xcf8 $((port + offset))
        reach out4 0xcfc 0x1235
        same_after "register $offset of a message once written by ports" $((at + offset)) "$before"
        set_word "$function/config" $((register + offset)) 0x1235
        same_after "register $offset once written by sysfs" $((at + offset)) "$before"
        reach mem $((at + offset)) 0x1235
        same_after "register $offset once written by /dev/mem" $((at + offset)) "$before"
        reach map 0x7ff1 $((at + offset >> 12)) $((at + offset & 4095)) 0x1235
        same_after "register $offset once written by privcmd" $((at + offset)) "$before"
    done
}

# works NAME
works() {
    copy_around "$(disk_of ahci)" "$(disk_of nvme)"
    equal "$1: xl works on" "$(timeout 60 xl list | tail -n +2 | wc -l)" 1
}

for name in ahci sd-mod nvme; do modprobe $name; done
eventually "a disk with registers" 20 disk_of ahci
eventually "a disk with a table" 20 disk_of nvme
cat /proc/interrupts
matches "messages with a table" "$(cat /proc/interrupts)" 'xen-pirq +-msi-x +nvme'
matches "messages without" "$(cat /proc/interrupts)" 'xen-pirq +-msi +ahci'
open_monitor
check_table "$(function_of nvme)"
works "the table"
# Debian's Xen lets dom0 write these.
if [ -n "$ours" ]; then
    check_registers "$(function_of ahci)"
    works "the registers"
fi
finish
