# Disks, networks, keyboard, screen, clock and buttons, each with its interrupts.
. /tests/report.sh
. /tests/drivers.sh

vcpus=${XVCPUS:-$XCPUS}

# grows NAME PATTERN COMMAND...: interrupts come on the lines that match while the command runs.
grows() {
    local name=$1 pattern=$2 before
    shift 2
    before=$(irqs "$pattern")
    "$@"
    between "interrupts of $name" $(($(irqs "$pattern") - before)) 1 1000000
}

check_disks() {
    local driver disk pattern
    disks=
    for driver in ${XDISKS//:/ }; do
        eventually "a disk appears at $driver" 20 disk_of "$driver"
        disks="$disks $(disk_of "$driver")"
    done
    echo "disks:$disks"
    copy_around $disks
    for disk in $disks; do
        pattern=$(irq_name "$disk")
        grows "$disk" "$pattern" region "$disk" 0 >/dev/null
        moves "$disk" "$pattern" region "$disk" 0
    done
}

check_networks() {
    local driver nic host number=10 sum
    sum=$(region "$(echo $disks | cut -d' ' -f1)" 0 | md5sum)
    for driver in ${XNICS//:/ }; do
        host=10.0.$number.2
        number=$((number + 1))
        eventually "an interface appears with $driver" 20 nic_of "$driver"
        nic=$(nic_of "$driver")
        grows "$nic" "$(irq_name "$nic")" network "$nic" "$host"
        equal "8 MiB fetched by $nic" "$(fetched "$host")" "$sum"
        moves "$nic" "$(irq_name "$nic")" fetched "$host"
    done
}

# moves NAME PATTERN COMMAND...: smp_affinity moves its interrupts to a CPU, and to another.
moves() {
    local name=$1 pattern=$2 irq cpu here there
    shift 2
    [ "$vcpus" -gt 1 ] || return
    for cpu in 1 0; do
        for irq in $(awk -v pattern="(^|[^a-z0-9])$pattern([^a-z0-9]|\$)" '$0 ~ pattern { print $1 + 0 }' /proc/interrupts); do
            echo "$cpu" >"/proc/irq/$irq/smp_affinity_list"
        done
        "$@" >/dev/null
        here=$(irqs "$pattern" $cpu)
        there=$(irqs "$pattern" $((1 - cpu)))
        "$@" >/dev/null
        between "interrupts of $name at CPU $cpu, when sent there" $(($(irqs "$pattern" $cpu) - here)) 1 1000000
        equal "interrupts of $name at CPU $((1 - cpu)), when not sent there" $(($(irqs "$pattern" $((1 - cpu))) - there)) 0
    done
}

# input_event NAME: the file with the events of the input device whose name begins so.
input_event() {
    local device
    for device in /sys/class/input/event*; do
        [[ $(cat "$device/device/name") == "$1"* ]] && echo "/dev/input/${device##*/}" && return
    done
    return 1
}

# pressed NAME DEVICE CODE LINE: the monitor's line leads to this key of the device being down.
pressed() {
    local file
    eventually "an input device is named $2" 20 input_event "$2"
    file=$(input_event "$2")
    cat "$file" >/tmp/events &
    sleep 0.5
    monitor "$4"
    # Type 1, the code, value 1, behind the time of 16 bytes.
    eventually "$1" 10 sh -c "hexdump -ve '24/1 \"%02x\" \"\n\"' /tmp/events | grep -q '^.\{32\}0100$(printf '%02x00' "$3")01000000'"
    kill %%
}

# crt_register N: a register of the screen's controller, by its index and data ports.
crt_register() {
    printf "\\x$1" | dd of=/dev/port bs=1 seek=$((0x3d4)) 2>/dev/null
    dd if=/dev/port bs=1 skip=$((0x3d5)) count=1 2>/dev/null | xxd -p
}

# text_on_screen: the characters in the memory of the text screen, from where the controller shows them.
text_on_screen() {
    local start=$((0x$(crt_register 0c)$(crt_register 0d)))
    monitor "$(printf 'xp /2000hx 0x%x' $((0xb8000 + 2 * start)))" |
        grep -o ' 0x[0-9a-f]*' | sed 's/.*\(..\)$/\1/' | xxd -r -p | tr -c '[:print:]' ' '
}

check_people() {
    grows "the second serial line" ttyS1 open_monitor
    matches "the monitor tells its version" "$(monitor "info version")" '^"?7\.2'
    grows "USB" '[ux]hci.hcd' pressed "a key of the USB keyboard" "QEMU QEMU USB Keyboard" 30 "sendkey a"
    echo "Text of dom0 $((6 * 7))" >/dev/tty1
    matches "dom0's text is in the screen's memory" "$(text_on_screen)" 'Text of dom0 42'
}

alarm() {
    echo 0 >/sys/class/rtc/rtc0/wakealarm
    echo +2 >/sys/class/rtc/rtc0/wakealarm
    sleep 4
}

check_clock() {
    local now then
    now=$(date +%s)
    runs hwclock -u -r
    then=$(cat /sys/class/rtc/rtc0/since_epoch)
    between "the clock's distance from the system's time" $((then - now)) -3 3
    date -u -s '2031-02-03 04:05:06' >/dev/null
    runs hwclock -u -w
    equal "the date that was set" "$(cat /sys/class/rtc/rtc0/date)" 2031-02-03
    date -u -s "@$((now + 2))" >/dev/null
    runs hwclock -u -w
    grows "the clock's alarm" rtc0 alarm
}

load_drivers
check_disks
check_networks
check_people
check_clock
grows "ACPI" acpi pressed "the power button" "Power Button" 116 system_powerdown
cat /proc/interrupts
log=$(dmesg)
lacks "no trouble with interrupts or devices in the kernel's log" "$log" \
    'nobody cared|lost interrupt|timed? ?out|timeout|[Hh]ung|I/O error|NETDEV WATCHDOG|failed command'
# Left unfed, the watchdog ends the machine.
if [ -n "$XWATCHDOG" ]; then
    cat >/tmp/end <<'END'
modprobe i6300esb heartbeat=2 && exec 8>/dev/watchdog && echo WATCHDOG-ARMED && sleep 60
echo WATCHDOG-SLEPT
END
fi
finish
