# Memory of guests: balloons in both directions, also under load, and exact amounts over lives of guests.
# XROUNDS: how many guests are created and destroyed one after another.
. /tests/report.sh
. /tests/domus.sh

LIMIT=180
memory_is() { [ "$(field "$1" 3)" = "$2" ]; }
# total NAME: MiB that its kernel has.
total() { guest "$1" "awk '/^MemTotal/ { print int(\$2 / 1024) }' /proc/meminfo"; }

# sets NAME MIB: by `xl mem-set`; the pages that are free change by just as much.
sets() {
    local was free total
    was=$(field "$1" 3) free=$(free-pages) total=$(total "$1")
    runs xl mem-set "$1" "$2"
    eventually "$1 has $2 MiB" 120 memory_is "$1" "$2"
    equal "pages that this takes, $was to $2 MiB" $((free - $(free-pages))) $((($2 - was) * 256))
    equal "MiB that its kernel has more" $(($(total "$1") - total)) $(($2 - was))
}

check_balloon() {
    configure one 128 "maxmem = 256"
    creates one
    sets one 192
    sets one 112
    sets one 256
    run xl mem-set one 300
    matches "more than maxmem is refused" "$RC" '^[1-9]'
    sets one 128
    runs xl mem-max one 200
    runs xentop -b -i 1
    # xl adds a MiB for what it calls slack. A PVH guest has some pages more, which its balloon does not know.
    matches "xentop shows the new bound" "$OUT" "^ *one [-br]{6} +[0-9]+ +[0-9.]+ +131(072|1[0-9]{2}) +[0-9.]+ +$((201 * 1024)) "
}

check_load() {
    local mib
    guest one '(while [ ! -e /tmp/stop ]; do
        head -c 8388608 /dev/urandom >/tmp/a; cp /tmp/a /tmp/b; cmp /tmp/a /tmp/b || echo wrong >>/tmp/wrong
        echo >>/tmp/rounds; done) & :' >/dev/null
    for mib in 160 120 176 112 192 128; do
        runs xl mem-set one "$mib"
        eventually "under load, it has $mib MiB" 120 memory_is one "$mib"
    done
    guest one 'touch /tmp/stop; while ! [ -s /tmp/rounds ]; do sleep 1; done' >/dev/null
    equal "its memory is what it wrote" "$(guest one 'cat /tmp/wrong')" "cat: can't open '/tmp/wrong': No such file or directory"
    lacks "its kernel did not run out of memory" "$(guest one dmesg)" 'Out of memory|oom-kill|allocation failure'
}

check_lives() {
    local round
    configure short 96
    for round in $(seq 1 "${XROUNDS:-4}"); do
        runs xl create -p -e /tmp/short.cfg
        matches "it is paused" "$(state short)" '^--p---$'
        runs xl destroy short
        eventually "all its memory is free again, life $round" 20 all_free
    done
}

start_backends
start_counting
check_balloon
check_load
shuts_down one
eventually "all its memory is free again" 20 all_free
check_lives
finish
