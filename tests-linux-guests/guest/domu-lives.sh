# Lives of domains of our own small kernel, 4 MiB each: XLIVES of them one after another, a page that outlives its
# owner, XMANY at once, and a few at once again. All memory comes back, to the page.
. /tests/report.sh
. /tests/micros.sh

LIMIT=300

# What the hypervisor sets aside for itself when it first has a guest it may keep.
modprobe xen-gntdev
configure_micro first micro-domu 4 'act=hello'
runs xl create -e /tmp/first.cfg
eventually "the first one ends" 60 state_is first s
runs xl destroy first
eventually "the first one is gone" 60 gone first
before=$(free-pages)
all_free() { [ "$(free-pages)" = "$before" ] || { echo "$(free-pages) of $before are free"; false; }; }

check_lives() {
    local life
    configure_micro short micro-domu 4 'act=hello'
    for life in $(seq "$1"); do
        run xl create -e /tmp/short.cfg
        [ "$RC" = 0 ] || { fail "life $life begins" "$OUT"; return; }
        # Some end while they run, some before their first instruction, some are at their end.
        [ $((life % 3)) = 0 ] && sleep 0.3
        run xl destroy short
        [ "$RC" = 0 ] || { fail "life $life ends" "$OUT"; return; }
        eventually "all memory is free after life $life" 30 all_free
    done
}

# A page that dom0 has mapped outlives its owner, and with it the owner's number and name for the dead.
zombies() { xl list | grep -cE '^\(null\) +[0-9]+ .* [-rbpsc]{5}d'; }
zombies_are() { [ "$(zombies)" = "$1" ] || { xl list; false; }; }
check_zombie() {
    local id
    configure_micro lender micro-domu 4 'act=lend'
    runs xl create -e /tmp/lender.cfg
    eventually "lender ends" 60 state_is lender s
    id=$(xl domid lender)
    rm -f /tmp/hold.in /tmp/hold.out
    mkfifo /tmp/hold.in /tmp/hold.out
    hold-grant "$id" "$(sed -n 's/^MICRO-LENDS \([0-9]*\).*/\1/p' "$CONSOLES/guest-lender.log")" \
        </tmp/hold.in >/tmp/hold.out 2>&1 &
    exec 5>/tmp/hold.in 6</tmp/hold.out
    equal "dom0 reads the page that is lent" "$(page_says)" 1e27
    runs xl destroy lender
    eventually "its owner is a zombie" 30 zombies_are 1
    matches "it keeps its number" "$(xl list)" "^\(null\) +$id "
    equal "the page is as it was" "$(page_says)" 1e27
    equal "memory is not all free" "$(all_free >/dev/null && echo yes)" ""
    exec 5>&- 6<&-
    eventually "the zombie goes once the page is given back" 30 zombies_are 0
    eventually "all memory is free after the zombie" 30 all_free
}
page_says() { echo >&5; read -r -t 10 -u 6 word && echo "$word"; }

# All wait at once; each has its console and its place in xenstore.
waiting() { grep -l ^MICRO-WAITS "$CONSOLES"/guest-many*.log 2>/dev/null | wc -l; }
all_wait() { [ "$(waiting)" = "$1" ] || { echo "$(waiting) of $1 wait"; false; }; }
listed() { xl list | grep -c '^many'; }
none_listed() { [ "$(listed)" = 0 ] || { echo "$(listed) are left"; false; }; }
check_many() {
    local name id
    for name in $(numbered many "$1"); do
        configure_micro "$name" micro-domu 4 'act=wait'
        run xl create -e "/tmp/$name.cfg"
        [ "$RC" = 0 ] || { fail "$name begins" "$OUT"; break; }
    done
    eventually "$1 domains wait, with a console each" 120 all_wait "$1"
    equal "rows of xl list" "$(listed)" "$1"
    # By number: xl reads the names of all domains to find one.
    for id in $(xl list | awk '/^many/ { print $2 }'); do
        run xl destroy "$id"
        [ "$RC" = 0 ] || { fail "domain $id ends" "$OUT"; break; }
    done
    eventually "all $1 of them are gone" 60 none_listed
    rm -f "$CONSOLES"/guest-many*.log
}

check_lives "${XLIVES:-20}"
check_zombie
check_many "${XMANY:-20}"
# What dom0 itself grew by while it had so many, event channels and mappings, stays where it is in the heap, and with
# each a piece of that. What is lost instead would be missed again after the next.
kept=$((before - $(free-pages)))
between "pages that are kept for dom0 after them" "$kept" 0 $((256 + 2 * ${XMANY:-20}))
before=$(free-pages)
check_many 20
eventually "all memory is free after the second crowd" 30 all_free
finish
