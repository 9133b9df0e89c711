# The life of a guest by xl's commands.
. /tests/report.sh
. /tests/domus.sh

LIMIT=180
seconds_of() { field "$1" 6; }

check_lists() {
    local id=$1
    runs xl list -l one
    matches "xl list -l: its number" "$OUT" "\"domid\": $id\b"
    matches "xl list -l: its name" "$OUT" '"name": "one"'
    matches "xl list -l: its kernel" "$OUT" '"kernel": "/guest/vmlinux.gz"'
    matches "xl list -l: its memory" "$OUT" '"target_memkb": 98304\b'
    runs xl vcpu-list one
    matches "xl vcpu-list's row" "$OUT" "^one +$id +0 +[0-9]+ +(r--|-b-|---) +[0-9]+\.[0-9] +all / all$"
    runs xentop -b -i 1
    matches "xentop's row" "$OUT" '^ *one [-br]{6} +[0-9]+ +[0-9.]+ +98(304|368) +[0-9.]+ '
    runs xl uptime one
    matches "xl uptime's row" "$OUT" "^one +$id +0:[0-9]{2}:[0-9]{2}$"
    runs xenstore-read "/local/domain/$id/name"
    equal "its name in xenstore" "$OUT" one
}

check_pause() {
    local spent
    # Something that would take time.
    guest one 'while :; do :; done & echo $! >/tmp/busy' >/dev/null
    runs xl pause one
    matches "a paused guest is shown as such" "$(state one)" '^[-rb]{2}p---$'
    spent=$(seconds_of one)
    sleep 2
    equal "a paused guest takes no time" "$(seconds_of one)" "$spent"
    runs xl unpause one
    equal "it answers again" "$(guest one 'echo $((5 + 6))')" 11
    matches "it is not shown as paused any more" "$(state one)" '^[-rb]{2}----$'
    between "it takes time again" "$(seconds_of one)" "$(echo "$spent" | awk '{ print $1 + 0.1 }')" 9999
    guest one 'kill $(cat /tmp/busy)' >/dev/null
}

check_names() {
    local id=$1
    runs xl rename one other
    equal "the new name's number" "$(xl domid other)" "$id"
    equal "the number's new name" "$(xl domname "$id")" other
    run xl domid one
    matches "nobody has the old name" "$RC" '^[1-9]'
    runs xl rename other one
    equal "the first name's number again" "$(xl domid one)" "$id"
}

check_keys() {
    runs xl sysrq one h
    eventually "xl sysrq reaches its kernel" 20 said_in_guest 'sysrq: HELP'
    runs xl trigger one nmi 0
    eventually "xl trigger nmi reaches its kernel" 20 said_in_guest 'NMI received\|NMI: '
}
said_in_guest() { guest one dmesg | grep "$1"; }

check_dump() {
    # What is looked for in the dump is computed there, so it is nowhere else.
    guest one 'echo "found-$((6 * 7000007))" >/tmp/marker' >/dev/null
    LIMIT=$DUMPS runs xl dump-core one /run/core
    equal "the dump is an ELF file" "$(head -c 4 /run/core | tr '\177' '!')" '!ELF'
    between "its size in KiB" $(($(stat -c %s /run/core) / 1024)) 98304 110000
    between "the guest's memory is in it" "$(tr -s '\0' '\n' </run/core | grep -ac found-42000042)" 1 20
    rm /run/core
    equal "the guest lives on" "$(guest one 'echo $((8 * 8))')" 64
}

start_backends
start_counting
configure one 96
creates one
id=$(xl domid one)
run xl create /tmp/one.cfg
matches "a second guest of this name is refused" "$RC" '^[1-9]'
matches "that is said" "$OUT" 'already exists'
check_lists "$id"
check_pause
check_names "$id"
check_keys
check_dump

runs xl reboot one
comes_back one "$id"
equal "it answers after the reboot" "$(guest one 'echo $((9 * 9))')" 81
between "its uptime is that of a new kernel" "$(guest one 'cut -d. -f1 /proc/uptime')" 0 100
destroys one
eventually "all its memory is free again" 20 all_free
finish
