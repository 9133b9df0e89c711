# The firmware's code is damaged while dom0 runs: the call that meets it ends, and so do all calls, but nothing else.
. /tests/report.sh

modprobe efivarfs
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
for try in $(seq 300); do
    told=$(efi-calls time)
    [ "$told" = "errno 0, status 0" ] || break
    sleep 0.2
done
equal "the call in which the firmware crashes" "$told" "errno 0, status 8000000000000007"
equal "those after it" "$(efi-calls time)" "errno 95, status 0"
run cat /sys/firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c
matches "variables cannot be read any more" "$RC" '^[1-9]'
runs xl info
runs xl dmesg
matches "the log says what happened" "$OUT" \
    'EFI: GetTime faulted: invalid opcode at 0x[0-9a-f]*, .*: the runtime services are off from now on'
before=$(cut -d. -f1 /proc/uptime)
sleep 2
between "time goes on" $(($(cut -d. -f1 /proc/uptime) - before)) 1 20
equal "the FPU still works" "$(awk 'BEGIN { printf "%.6f", 1.5 * 2.25 / 3 }')" 1.125000
finish
