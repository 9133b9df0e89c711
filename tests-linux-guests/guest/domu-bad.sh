# Guests that cannot be: each is refused with a reason, and nothing of it is left.
. /tests/report.sh
. /tests/domus.sh

LIMIT=120
# Our hypervisor says in its own log why it refuses something; Debian's does so only if it was built for that.
ours() { xl dmesg | grep -q Xenolith; }

# refused WHAT REGEX [LINE...]: a guest with these lines is not created; our log says why.
refused() {
    local what=$1 why=$2 lines
    shift 2
    configure bad 96 "$@"
    lines=$(xl dmesg | wc -l)
    run xl create -p /tmp/bad.cfg
    matches "refused: $what" "$RC" '^[1-9]'
    equal "nothing is left: $what" "$(field bad 2)" ""
    eventually "no page is left: $what" 20 all_free
    if [ -n "$why" ] && ours; then
        matches "our log says why: $what" "$(xl dmesg | tail -n "+$((lines + 1))")" "$why"
    fi
}

start_backends
start_counting
head -c 100000 /dev/urandom >/tmp/random
head -c 3000000 /guest/vmlinuz >/tmp/cut
refused "a kernel of random bytes" '' "kernel = '/tmp/random'"
refused "a kernel that is cut off" '' "kernel = '/tmp/cut'"
refused "a kernel that is a program" '' "kernel = '/usr/bin/busybox'"
refused "a kernel that is not there" '' "kernel = '/tmp/none'"
refused "more memory than there is" 'pages?\b|memory|MiB' "memory = 100000"
refused "less memory than its kernel takes" '' "memory = 16"
refused "too many vCPUs" 'vCPU' "maxvcpus = 9000"
refused "a version of grant tables that does not exist" 'grant' "max_grant_version = 7"
refused "a disk that is not there" '' "disk = ['phy:/dev/none,xvda,w']"

# One whose kernel finds no init crashes by itself.
configure bad 96 "ramdisk = '/tmp/random'" "on_crash = 'preserve'"
runs xl create /tmp/bad.cfg
show_console bad
eventually "a guest without an initramfs crashes" 180 state_is bad '[-rb]{2}[-p]sc-'
matches "its kernel says why" "$(cat $CONSOLES/guest-bad.log)" 'Kernel panic - not syncing: (VFS: Unable to mount root|No working init)'
runs xl destroy bad
eventually "it is gone" 60 gone bad
eventually "all memory is free again" 20 all_free

run xl pause nobody
matches "xl pause of nobody fails" "$RC" '^[1-9]'
run xl destroy nobody
matches "xl destroy of nobody fails" "$RC" '^[1-9]'
run xl destroy 0
matches "xl destroy of dom0 fails" "$RC" '^[1-9]'
runs xl list
equal "xl list's rows in the end" "$(echo "$OUT" | tail -n +2 | wc -l)" 1
finish
