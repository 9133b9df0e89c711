# Measures disks and networks; cargo xtask bench reads the BENCH lines and compares hypervisors.
. /tests/report.sh
. /tests/drivers.sh

# disk_at SLOT: the name of the disk behind the PCI device there.
disk_at() {
    local disk
    for disk in /sys/block/*; do
        [[ $(readlink -f "$disk/device") == */0000:00:"$1".0/* ]] || continue
        basename "$disk"
        return
    done
    return 1
}

# counted NAME PATTERN COMMAND...: notes its figure, and how many interrupts came meanwhile.
counted() {
    local name=$1 before
    before=$(irqs "$2")
    shift 2
    "$@" >>/tmp/bench 2>&1
    equal "measuring $name succeeds" "$?" 0
    echo "BENCH $name, interrupts $(($(irqs "$irq") - before))" >>/tmp/bench
}

# reads NAME SLOT BYTES TIMES OPERATIONS
reads() {
    local disk
    eventually "a disk appears in slot $2" 20 disk_at "$2"
    disk=$(disk_at "$2")
    irq=$(irq_name "$disk")
    counted "$1" "$irq" bench read "$1" "/dev/$disk" "$3" "$4" "$5"
}

# fetches NAME DRIVER NETWORK
fetches() {
    local nic
    eventually "an interface appears with $2" 20 nic_of "$2"
    nic=$(nic_of "$2")
    network "$nic" "$3.2"
    irq=$(irq_name "$nic")
    counted "$1" "$irq" bench fetch "$1" "$3.100" 8 8
}

load_drivers
reads "4 KiB, NVMe, MSI-X" 10 4096 4000 4000
reads "4 KiB, virtio, MSI-X" 11 4096 4000 4000
reads "4 KiB, virtio, line" 12 4096 4000 4000
reads "4 KiB, AHCI" 13 4096 4000 4000
reads "MiB by 64 KiB, virtio" 11 65536 1024 64
reads "MiB by 1 MiB, virtio" 11 1048576 128 128
reads "MiB by 64 KiB, AHCI" 13 65536 1024 64
reads "MiB by 1 MiB, AHCI" 13 1048576 128 128
fetches "MiB fetched, e1000" e1000 10.0.10
fetches "MiB fetched, virtio" virtio_net 10.0.11
dmesg -n 1
cat /tmp/bench
finish
