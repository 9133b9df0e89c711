# A machine with UEFI, twice: what is written in the first boot must be there in the second, which a reset by the
# firmware leads to.
. /tests/report.sh

vars=/sys/firmware/efi/efivars
own=5c4a6ea1-3a0c-4a6c-9a6e-7c1d2f5b9e10
for module in efivarfs ahci sd-mod; do modprobe "$module"; done
mount -t efivarfs efivarfs "$vars"
for try in $(seq 50); do
    [ -b /dev/sda1 ] && break
    sleep 0.2
done
mark=$vars/XenolithMark-$own

if [ ! -e "$mark" ]; then
    log=$(dmesg)
    matches "the kernel finds EFI" "$log" 'efi: EFI v2\.[0-9]+ by EDK II'
    matches "and its variables" "$log" 'Registered efivars operations'
    matches "and a framebuffer" "$log" 'efifb: mode is [0-9]+x[0-9]+x(24|32)'
    matches "which its console takes" "$log" 'fb0: EFI VGA frame buffer device'
    matches "the firmware's tables" "$log" 'ACPI: XSDT 0x'
    between "EFI variables" "$(ls "$vars" | wc -l)" 15 500

    # A table of the firmware's that lies in memory of its runtime services: "_SM_".
    table=$(echo "$log" | sed -n 's/.* SMBIOS=0x\([0-9a-f]*\) .*/\1/p')
    frame=$((0x$table >> 12)) io=0x7ff1
    equal "dom0 reads the firmware's memory" "$(reach map $io $frame $((0x$table & 4095)))" 0x5f4d535f
    if [ "$(xl dmesg | grep -c Xenolith)" -gt 0 ]; then
        lacks "but cannot write it" "$(reach map $io $frame $((0x$table & 4095)) 0x5f4d5358 2>&1)" written
        equal "which is as it was" "$(reach map $io $frame $((0x$table & 4095)))" 0x5f4d535f
    fi

    runs efibootmgr -v
    matches "efibootmgr lists the medium" "$OUT" '^Boot[0-9A-F]{4}\*? UEFI QEMU DVD-ROM'
    runs efibootmgr -q -c -d /dev/sda -p 1 -L "Xenolith test" -l '\EFI\xen\xenolith.efi'
    runs efibootmgr -q -c -d /dev/sda -p 1 -L "Xenolith other" -l '\other.efi'
    runs efibootmgr -v
    matches "efibootmgr has made an entry" "$OUT" 'Xenolith test.*HD\(1,GPT,.*\\EFI\\xen\\xenolith\.efi'
    number=$(echo "$OUT" | sed -n 's/^Boot\(....\).*Xenolith other.*/\1/p')
    runs efibootmgr -q -b "$number" -B
    runs efibootmgr
    lacks "efibootmgr has deleted another" "$OUT" 'Xenolith other'
    runs efibootmgr -q -n 0001

    # Attributes (non-volatile, boot and runtime access), then the value.
    printf '\007\000\000\000first' >"$vars/XenolithGone-$own"
    chattr -i "$vars/XenolithGone-$own"
    printf '\007\000\000\000second' >"$vars/XenolithGone-$own"
    equal "a variable that is written twice" "$(cat "$vars/XenolithGone-$own" | tail -c +5)" second
    chattr -i "$vars/XenolithGone-$own"
    rm "$vars/XenolithGone-$own"
    equal "and then removed" "$(ls "$vars" | grep -c XenolithGone)" 0
    { printf '\007\000\000\000'; seq 1 4000 | head -c 16000; } >/tmp/large
    cat /tmp/large >"$vars/XenolithMark-$own"
    equal "a variable of 16,000 bytes" "$(md5sum <"$mark")" "$(md5sum </tmp/large)"

    efi-calls >/tmp/calls 2>&1
    equal "efi-calls' exit code" $? 0
    cat /tmp/calls
    grep -E '^(ok|FAILED) ' /tmp/calls >>"$REPORT"
    runs xl info

    # The report is kept where no file system has anything.
    dd if="$REPORT" of=/dev/sda bs=1M seek=16 conv=sync,fsync 2>/dev/null
    reboot -f
    sleep 60
fi

dd if=/dev/sda bs=1M skip=16 count=1 2>/dev/null | tr -d '\0' >"$REPORT"
{ printf '\007\000\000\000'; seq 1 4000 | head -c 16000; } >/tmp/large
equal "the variable after the reset" "$(md5sum <"$mark")" "$(md5sum </tmp/large)"
runs efibootmgr -v
matches "the boot entry after the reset" "$OUT" 'Xenolith test.*\\EFI\\xen\\xenolith\.efi'
matches "the entry of the next boot was used" "$OUT" '^BootCurrent: 0001'
finish
