# All disks and networks work at once for XSOAK seconds: every byte is right, and no interrupt is missed.
. /tests/report.sh
. /tests/drivers.sh

# worker NAME COMMAND...: does it until the end, counts it, and keeps what went wrong.
worker() {
    local name=$1
    shift
    while [ ! -e /tmp/stop ]; do
        "$@" || echo "$name: wrong in round $(wc -l <"/tmp/rounds.$name")" >>/tmp/wrong
        echo >>"/tmp/rounds.$name"
    done
}

# rewrite DISK FROM SUM: the first region of a disk is copied behind the regions of this one that the host compares,
# and read again.
rewrite() {
    local place
    for place in 2 3; do
        dd "if=/dev/$2" "of=/dev/$1" iflag=direct oflag=direct bs=1M count=8 seek=$((place * 8)) 2>/dev/null
        [ "$(region "$1" "$place" | md5sum)" = "$3" ] || return
    done
}

# fetches HOST SUM
fetches() {
    [ "$(fetched "$1")" = "$2" ]
}

load_drivers
disks= nics= number=10
for driver in ${XDISKS//:/ }; do
    eventually "a disk appears at $driver" 20 disk_of "$driver"
    disks="$disks $(disk_of "$driver")"
done
served=$(region "$(echo $disks | cut -d' ' -f1)" 0 | md5sum)
for driver in ${XNICS//:/ }; do
    eventually "an interface appears with $driver" 20 nic_of "$driver"
    network "$(nic_of "$driver")" "10.0.$number.2"
    nics="$nics $(nic_of "$driver")"
    number=$((number + 1))
done
for last in $disks; do :; done
before=$last
for disk in $disks; do
    worker "$disk" rewrite "$disk" "$before" "$(region "$before" 0 | md5sum)" &
    before=$disk
done
number=10
for nic in $nics; do
    worker "$nic" fetches "10.0.$number.2" "$served" &
    number=$((number + 1))
done
# Ten times, every device has interrupted since the last look.
for part in 1 2 3 4 5 6 7 8 9 10; do
    for device in $disks $nics; do
        eval "was_$device=$(irqs "$(irq_name "$device")")"
    done
    sleep $((XSOAK / 10))
    for device in $disks $nics; do
        eval "was=\$was_$device"
        between "interrupts of $device in part $part" $(($(irqs "$(irq_name "$device")") - was)) 1 100000000
    done
done
: >/tmp/stop
wait
for device in $disks $nics; do
    between "rounds of $device" "$(wc -l <"/tmp/rounds.$device")" 1 1000000
done
[ -e /tmp/wrong ] || echo none >/tmp/wrong
equal "wrong bytes" "$(cat /tmp/wrong)" none
copy_around $disks
cat /proc/interrupts
lacks "no trouble with interrupts or devices in the kernel's log" "$(dmesg)" \
    'nobody cared|lost interrupt|timed? ?out|timeout|[Hh]ung|I/O error|NETDEV WATCHDOG|failed command|resetting'
lacks "no trouble with interrupts in the hypervisor's log" "$(xl dmesg)" 'storm|interrupt at vector'
finish
