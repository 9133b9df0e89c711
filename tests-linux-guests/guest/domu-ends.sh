# What becomes of guests that end, by what their configurations say: on_crash, on_reboot, on_poweroff.
. /tests/report.sh
. /tests/domus.sh

LIMIT=180
crash() { starts "$1" 'echo c >/proc/sysrq-trigger'; }

start_backends
start_counting

configure kept 96 "on_crash = 'preserve'"
creates kept
crash kept
eventually "a crashed guest that is kept is shown as such" 60 state_is kept '[-rb]{2}[-p]sc-'
matches "its kernel's words" "$(cat $CONSOLES/guest-kept.log)" 'Kernel panic - not syncing: sysrq triggered crash'
LIMIT=$DUMPS runs xl dump-core kept /run/core
equal "a crashed guest can be dumped" "$(head -c 4 /run/core | tr '\177' '!')" '!ELF'
rm -f /run/core
destroys kept

configure again 96 "on_crash = 'restart'" "on_poweroff = 'preserve'"
creates again
id=$(xl domid again)
crash again
comes_back again "$id"
# Without its folder it would be the one of busybox, which asks an init that is not there.
starts again /sbin/poweroff
eventually "a guest that went off and is kept is shown as such" 60 state_is again '[-rb]{2}[-p]s--'
destroys again

mkdir -p /var/lib/xen/dump
configure dumped 96 "on_crash = 'coredump-restart'" "on_reboot = 'destroy'"
creates dumped
id=$(xl domid dumped)
crash dumped
comes_back dumped "$id" "$DUMPS"
equal "its dump" "$(head -c 4 /var/lib/xen/dump/* | tr '\177' '!')" '!ELF'
rm -f /var/lib/xen/dump/*
starts dumped /sbin/reboot
eventually "a guest that may not come back does not" 60 gone dumped
close_console dumped

eventually "all memory is free again" 20 all_free
runs xl list
equal "xl list's rows after that" "$(echo "$OUT" | tail -n +2 | wc -l)" 1
finish
