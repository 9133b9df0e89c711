# A real Debian as dom0: its services, its tools, its log. XDOM0 is 0 where no dom0_mem was given.
. /tests/report.sh

# The words that both Debian's Xen and the bare machine leave in the log: firmware that is not installed, and a parallel
# port that is no DMA device.
errors() {
    journalctl -b -p "$1" -o cat --no-pager | grep -v -e regulatory.db -e 'wiki.debian.org/Firmware' -e parport_pc
}

check_services() {
    local unit
    echo "BEGIN waiting for the last service"
    equal "the system's state" "$(timeout 600 systemctl is-system-running --wait)" running
    equal "no unit has failed" "$(systemctl --failed --no-legend --plain)" ""
    for unit in xen xendomains ssh systemd-networkd serial-getty@hvc0; do
        equal "unit $unit" "$(systemctl is-active "$unit")" active
    done
    equal "no error in the journal" "$(errors err)" ""
    # The two disks are found in any order.
    matches "root's file system" "$(findmnt -n -o SOURCE,FSTYPE /)" '^/dev/sd[ab]3 ext4$'
    matches "the address" "$(ip -4 -brief address show scope global)" 'UP +10\.0\.2\.15/24'
    runs ping -c 3 10.0.2.2
    matches "SSH answers" "$(head -c 7 0<>/dev/tcp/127.0.0.1/22)" 'SSH-2\.0'
}

check_xen() {
    equal "the hypervisor's type" "$(cat /sys/hypervisor/type)" xen
    equal "the version by which the tools are chosen" "$(/usr/lib/xen-common/bin/xen-version)" 4.17
    equal "the wrapper finds xl" "$(readlink -f /usr/sbin/xl)" /usr/lib/xen-common/bin/xen-utils-wrapper
    for process in oxenstored xenconsoled; do
        runs pgrep "$process"
    done
    runs xenstore-read /local/domain/0/name
    equal "xenstore's name of dom0" "$OUT" Domain-0
    runs xl info
    equal "xl info nr_cpus" "$(value nr_cpus)" "$XCPUS"
    between "xl info total_memory" "$(value total_memory)" $((XTOTAL - 16)) "$XTOTAL"
    matches "xl info xen_commandline" "$(value xen_commandline)" '^placeholder .*com1=115200,8n1'
    runs xl list
    matches "xl list's row of dom0" "$OUT" "^Domain-0 +0 +[0-9]+ +$XCPUS +r-----"
    runs xl dmesg
    matches "xl dmesg names the loader" "$OUT" 'Bootloader: GRUB 2\.06'
    runs xenpm get-cpu-topology
    runs xl vcpu-list
    equal "rows of vcpu-list" "$(echo "$OUT" | grep -c '^Domain-0')" "$XCPUS"
}

mem_of_dom0() { xl list 0 | awk '$2 == 0 { print $3 }'; }
mem_of_dom0_is() { [ "$(mem_of_dom0)" = "$1" ]; }

# Without dom0_mem all memory is dom0's, and autoballoon="auto" of xl.conf makes xl take it from there.
check_memory() {
    local before free
    free=$(xl info | sed -n 's/^free_memory *: *//p')
    before=$(mem_of_dom0)
    if [ "$XDOM0" -ne 0 ]; then
        equal "dom0's memory" "$before" "$XDOM0"
        return
    fi
    between "dom0's memory" "$before" $((XTOTAL * 9 / 10)) "$XTOTAL"
    between "free memory" "$free" 64 160
    runs xl mem-set 0 1000
    eventually "dom0 shrinks" 60 mem_of_dom0_is 1000
    between "free memory afterwards" "$(xl info | sed -n 's/^free_memory *: *//p')" \
        $((free + before - 1004)) $((free + before - 996))
    runs xl mem-set 0 "$before"
    eventually "dom0 grows" 60 mem_of_dom0_is "$before"
}

# GRUB's entry says edd=off where the firmware is UEFI.
check_firmware() {
    if ! xl info | grep -q '^xen_commandline.*edd=off'; then
        equal "no UEFI where there is none" "$(ls -d /sys/firmware/efi 2>/dev/null)" ""
        return
    fi
    runs efibootmgr -v
    matches "efibootmgr's list" "$OUT" '^Boot[0-9A-F]{4}\*? '
    runs mountpoint /boot/efi
}

check_services
check_xen
check_firmware
check_memory
finish
