# Sourced by the tests of devices: drivers, and what can be asked of them.

# Drivers, by the names under which the kernel has them.
load_drivers() {
    local name
    for name in button evdev hid-generic usbhid uhci-hcd ehci-pci xhci-pci \
        ata-piix ahci sd-mod virtio-pci virtio-blk nvme e1000 e1000e virtio-net; do
        modprobe "$name" || fail "driver $name" "modprobe failed"
    done
}

# open_monitor: QEMU's monitor listens at the second serial line and speaks QMP (JSON, a line each).
open_monitor() {
    monitor_asked=0
    stty -F /dev/ttyS1 raw -echo
    exec 9<>/dev/ttyS1
    # The first part of its greeting may have been echoed; 0xff ends whatever it took for a command.
    printf '\377\n' >&9
    ask_monitor qmp_capabilities '{}'
}

# ask_monitor COMMAND ARGUMENTS: the answer is printed, its line ends as such.
ask_monitor() {
    local line
    monitor_asked=$((monitor_asked + 1))
    printf '{"execute": "%s", "arguments": %s, "id": %d}\n' "$1" "$2" "$monitor_asked" >&9
    while IFS= read -r -t 10 line <&9; do
        line=${line%$'\r'}
        [[ $line == *", \"id\": $monitor_asked}" ]] || continue
        line=${line%, \"id\": *}
        printf '%b\n' "${line#'{"return": '}"
        return
    done
    echo "the monitor does not answer"
    return 1
}

# monitor LINE: has it done by QEMU's monitor for people; the answer is printed.
monitor() {
    ask_monitor human-monitor-command "{\"command-line\": \"$1\"}"
}

# word ADDRESS: four bytes of the machine's memory or registers, by QEMU's monitor.
word() {
    monitor "xp /1wx $1" | grep -Eo ': 0x[0-9a-f]+' | cut -c3-
}

# pci_driver PATH: the driver of the PCI device that the device at this path of sysfs hangs on.
pci_driver() {
    local path
    path=$(readlink -f "$1" | grep -Eo '^/sys/devices/pci.*/[0-9a-f]{4}:[0-9a-f:]+\.[0-7]')
    basename "$(readlink "$path/driver")"
}

# disk_of DRIVER: the name of the disk of 32 MiB behind it.
disk_of() {
    local disk
    for disk in /sys/block/*; do
        [ "$(cat "$disk/size")" = 65536 ] && [ "$(pci_driver "$disk/device")" = "$1" ] || continue
        basename "$disk"
        return
    done
    return 1
}

# nic_of DRIVER: the name of its network interface.
nic_of() {
    local nic
    for nic in /sys/class/net/*; do
        [ "$(basename "$(readlink "$nic/device/driver")")" = "$1" ] || continue
        basename "$nic"
        return
    done
    return 1
}

# irq_name DISK-OR-NIC: a pattern for the lines of /proc/interrupts that are its own.
irq_name() {
    case $1 in
        vd*) basename "$(readlink "/sys/block/$1/device")" ;;
        sd*) pci_driver "/sys/block/$1/device" ;;
        nvme*) echo 'nvme[0-9]+q[0-9]+' ;;
        *)
            local device
            device=$(basename "$(readlink -f "/sys/class/net/$1/device")")
            case $device in virtio*) echo "$device" ;; *) echo "$1" ;; esac
            ;;
    esac
}

# irqs PATTERN [CPU]: interrupts so far on the lines that match, on all CPUs or on one.
irqs() {
    awk -v pattern="(^|[^a-z0-9])$1([^a-z0-9]|\$)" -v cpu="$2" '
        NR == 1 { cpus = NF }
        NR > 1 && $0 ~ pattern {
            for (i = 0; i < cpus; i++) if (cpu == "" || cpu == i) sum += $(i + 2)
        }
        END { print sum + 0 }' /proc/interrupts
}

# region DISK FIRST: reads a region of 8 MiB from the disk itself; FIRST counts regions.
region() {
    dd "if=/dev/$1" iflag=direct bs=1M count=8 skip=$(($2 * 8)) 2>/dev/null
}

# copy_around DISK...: the first region of each becomes the second of the next.
copy_around() {
    local last disk before sum
    for last; do :; done
    before=$last
    for disk; do
        dd "if=/dev/$before" "of=/dev/$disk" iflag=direct oflag=direct bs=1M count=8 seek=8 2>/tmp/dd ||
            fail "copying from $before to $disk" "$(cat /tmp/dd)"
        before=$disk
    done
    before=$last
    for disk; do
        sum=$(region "$before" 0 | md5sum)
        equal "what was copied from $before is on $disk" "$(region "$disk" 1 | md5sum)" "$sum"
        before=$disk
    done
}

# network NIC HOST: gives it an address in the network of HOST (10.0.N.2), which must answer.
network() {
    ip addr add "${2%.*}.15/24" dev "$1"
    ip link set "$1" up
    eventually "$1: the gateway answers" 20 ping -c 1 -W 2 "$2"
}

# fetched HOST: the checksum of the file that machine 100 of its network serves.
fetched() {
    nc "${1%.*}.100" 80 </dev/null | md5sum
}
