# Sourced by the tests that create domains: their configurations, consoles and what is asked of them.
#
# A guest runs Debian's kernel with /guest/initrd.gz, whose shell shows neither a prompt nor what is typed.
# xenconsoled keeps what each guest prints in a file; that is shown on dom0's console as it comes, behind the
# guest's name. What is typed goes through `xl console`.

declare -A TYPED SAID
CONSOLES=/var/log/xen/console
# Seconds for `xl dump-core`: of a PVH guest it tries to map each of the million frames below 4 GiB, one at a time.
DUMPS=900

start_backends() {
    local module
    for module in xen-gntdev xen-blkback xen-netback bridge loop; do
        modprobe "$module" || fail "module $module" "modprobe failed"
    done
}

# start_counting [LINE...]: how many pages are free is left in BEFORE. What the hypervisor sets aside for itself when
# it first has a guest (with these lines) it may keep, so there has been one.
start_counting() {
    configure first 96 "$@"
    runs xl create -p -e /tmp/first.cfg
    runs xl destroy first
    eventually "the first guest is gone" 60 gone first
    BEFORE=$(free-pages)
}

# configure NAME MEMORY [LINE...]: writes /tmp/NAME.cfg; lines are added, and win over those before them. XTYPE on dom0's
# command line is what kind of guests these are: pv (as without it) or pvh. XGUESTCPUS there: the CPUs that they may use.
# XKERNEL: the file of their kernel.
configure() {
    local name=$1 memory=$2
    shift 2
    {
        echo "name = '$name'"
        echo "type = '${XTYPE:-pv}'"
        echo "memory = $memory"
        echo "kernel = '${XKERNEL:-/guest/vmlinux.gz}'"
        echo "ramdisk = '/guest/initrd.gz'"
        echo "extra = 'console=hvc0'"
        # Where no number of vCPUs is named, xl takes no notice of the CPUs.
        [ -z "$XGUESTCPUS" ] || printf '%s\n' 'vcpus = 1' "cpus = '$XGUESTCPUS'"
        printf '%s\n' "$@"
    } >"/tmp/$name.cfg"
}

# show_console NAME: the guest's console appears on ours from now on.
show_console() {
    tail -n +1 -F "$CONSOLES/guest-$1.log" 2>/dev/null |
        while IFS= read -r line; do echo "$1| ${line%$'\r'}"; done >/dev/console &
}

# open_console NAME: connects to its console, of which nothing has been read yet.
open_console() {
    local in out
    mkdir -p /tmp/consoles
    rm -f "/tmp/consoles/$1".*
    mkfifo "/tmp/consoles/$1.in" "/tmp/consoles/$1.out"
    # Opened both ways, so that nobody waits for the other end and the end does not come by itself.
    exec {in}<>"/tmp/consoles/$1.in" {out}<>"/tmp/consoles/$1.out"
    TYPED[$1]=$in SAID[$1]=$out
    # `xl console` itself waits for this no longer than five seconds.
    eventually "$1 has a console" 60 has_console "$1"
    # What is typed is only passed on from a terminal.
    script -q -c "xl console $1" /dev/null <&"$in" >&"$out" 2>&1 &
}

# has_console NAME: xenconsoled serves the terminal that is written down; the guest's boot loader had another one.
has_console() {
    local tty
    tty=$(xenstore-read "/local/domain/$(xl domid "$1")/console/tty") &&
        grep -qsx "tty-index:[[:space:]]*${tty#/dev/pts/}" "/proc/$(cat /run/xenconsoled.pid)/fdinfo/"*
}

# close_console NAME: the guest is gone; its `xl console` ends by itself.
close_console() {
    local in=${TYPED[$1]} out=${SAID[$1]}
    [ -n "$in" ] || return 0
    exec {in}>&- {out}>&-
    unset "TYPED[$1]" "SAID[$1]"
}

# await_line NAME TEXT SECONDS: reads its console up to a line that begins with the text, which is left in LINE.
await_line() {
    local line
    while IFS= read -r -t "$3" -u "${SAID[$1]}" line; do
        LINE=${line%$'\r'}
        [[ $LINE == "$2"* ]] && return
    done
    LINE=
    return 1
}

# creates NAME: `xl create` of what was configured must succeed; waits for its shell.
creates() {
    runs xl create "/tmp/$1.cfg"
    show_console "$1"
    await_shell "$1"
}

# await_shell NAME: connects to its console and waits for its shell, AWAIT seconds or three minutes.
await_shell() {
    open_console "$1"
    if await_line "$1" GUEST-READY "${AWAIT:-180}"; then
        ok "$1: its console shows that it is up"
    else
        fail "$1: its console shows that it is up" "GUEST-READY was not printed"
    fi
}

# starts NAME COMMAND: has its shell begin something whose answer nobody waits for.
starts() {
    echo "$2" >&"${TYPED[$1]}"
}

# guest NAME COMMAND: what its shell answers is printed; fails as the command does, or with 99 without an answer.
guest() {
    local line end="ANSWER-$BASHPID-$RANDOM "
    [ ! -e "/tmp/consoles/$1.mute" ] || return 99
    echo "{ $2; } </dev/null 2>&1; end=\$?; echo; echo $end\$end" >&"${TYPED[$1]}"
    while IFS= read -r -t 120 -u "${SAID[$1]}" line; do
        line=${line%$'\r'}
        if [[ $line == "$end"* ]]; then
            return "${line#"$end"}"
        fi
        [ -z "$line" ] || echo "$line"
    done
    # Nobody waits for it again.
    touch "/tmp/consoles/$1.mute"
    fail "the shell of $1 answers" "not to: $2"
    return 99
}

answers() { guest "$1" true >/dev/null; }

# field NAME NUMBER: of its row in `xl list`; nothing when it is not there.
field() {
    xl list | awk -v name="$1" -v number="$2" '$1 == name { print $number }'
}

gone() { ! xl domid "$1" >/dev/null 2>&1; }

# all_free [KEPT]: as many pages as when counting started, or less by a few: what a hypervisor keeps for dom0 since
# it mapped pages of guests, for disks and networks.
all_free() {
    local free
    free=$(free-pages)
    [ "$free" -le "$BEFORE" ] && [ "$free" -ge $((BEFORE - ${1:-0})) ] || { echo "$free of $BEFORE are free"; false; }
}

# state NAME: its six letters in `xl list`.
state() { field "$1" 5; }

# state_is NAME REGEX
state_is() { state "$1" | grep -Eqx -- "$2" || { xl list; false; }; }

# other_id NAME ID: it runs, with another number than that.
other_id() {
    local id
    id=$(xl domid "$1") && [ "$id" != "$2" ]
}

# comes_back NAME ID [SECONDS]: with another number than that, within two minutes or so long; its shell is waited for.
comes_back() {
    close_console "$1"
    eventually "$1 comes back" "${3:-120}" other_id "$1" "$2" && await_shell "$1"
}

# destroys NAME: by `xl destroy`.
destroys() {
    runs xl destroy "$1"
    eventually "$1 is gone" 60 gone "$1"
    close_console "$1"
}

# shuts_down NAME: by `xl shutdown`, and it goes away.
shuts_down() {
    runs xl shutdown "$1"
    eventually "$1 has gone" 120 gone "$1"
    close_console "$1"
}

# add_bridge: the network 10.0.0.0/24, in which dom0 is number 1.
add_bridge() {
    brctl addbr xenbr0
    ip addr add 10.0.0.1/24 dev xenbr0
    ip link set xenbr0 up
}

# make_bridge: the same, and dom0 serves the folder /run/www.
make_bridge() {
    add_bridge
    mkdir -p /run/www
    httpd -h /run/www
}

# joins NAME NUMBER [NIC [NETWORK]]: the guest's network card gets the address 10.0.0.NUMBER.
joins() {
    guest "$1" "ip addr add ${4:-10.0.0}.$2/24 dev ${3:-eth0} && ip link set ${3:-eth0} up" ||
        fail "$1 joins the network" "ip failed"
}

# serves NAME FILE: the guest serves a file that it makes of 8 MiB, whose checksum is printed.
serves() {
    guest "$1" "mkdir -p /run/www; [ -e /run/www/$2 ] || httpd -h /run/www
        head -c 8388608 /dev/urandom >/run/www/$2; md5sum </run/www/$2"
}

# fetches NAME ADDRESS FILE: the checksum of the file as it comes to the guest.
fetches() {
    guest "$1" "wget -q -O - http://$2/$3 | md5sum"
}

# reaches NAME ADDRESS: by ping.
reaches() {
    guest "$1" "ping -c 1 -W 2 $2" >/dev/null
}

# has_disk NAME DISK, has_nic NAME NIC: whether the guest has it.
has_disk() { guest "$1" "[ -e /sys/block/$2 ]"; }
lacks_disk() { guest "$1" "[ ! -e /sys/block/$2 ]"; }
has_nic() { guest "$1" "[ -e /sys/class/net/$2 ]"; }
lacks_nic() { guest "$1" "[ ! -e /sys/class/net/$2 ]"; }

# backends_left: what is left of the back ends of guests that have gone.
backends_left() {
    ls /sys/class/net | grep '^vif'
    losetup -a
    ls /sys/bus/xen-backend/devices
}
no_backends() { local left; left=$(backends_left); [ -z "$left" ] || { echo "$left"; false; }; }
