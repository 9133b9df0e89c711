# Microcode that dom0 brings: looked through, and loaded only if it is for this CPU and newer. The emulated CPU takes none.
. /tests/report.sh

field() { sed -n "s/^$1[[:space:]]*: //p" /proc/cpuinfo | head -n 1; }
family=$(field 'cpu family') model=$(field model) stepping=$(field stepping)
base=$((family < 15 ? family : 15))
signature=$((stepping | (model & 15) << 4 | base << 8 | (model >> 4) << 16 | (family - base) << 20))

# words VALUE...: 32-bit words, the lowest byte first.
words() {
    local value
    for value in "$@"; do
        printf "\\x$(printf %02x $((value & 255)))\\x$(printf %02x $((value >> 8 & 255)))"
        printf "\\x$(printf %02x $((value >> 16 & 255)))\\x$(printf %02x $((value >> 24 & 255)))"
    done
}

# container SIGNATURE REVISION: one patch for one CPU, as AMD packs them.
container() {
    words 0x00414d44 0 32 "$1" 0 0 0x1234 0 0 0 0
    words 1 128 0 "$2" 0 0 0 0 0x1234 0 0 0 0 0 0 0
    words 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
}

# refused NAME FILE: the tool fails, and the machine goes on.
refused() {
    run xen-ucode "$2"
    matches "$1 is refused" "$RC" '^[1-9]'
}

head -c 5000 /usr/bin/busybox >/tmp/other
refused "a file of another format" /tmp/other
container "$signature" 0x7fffffff >/tmp/new
head -c 100 /tmp/new >/tmp/cut
refused "a file that is cut off" /tmp/cut
container 0x12345 0x7fffffff >/tmp/foreign
refused "a patch for another CPU" /tmp/foreign
container "$signature" 1 >/tmp/old
run xen-ucode /tmp/old
refused "a patch that the CPU does not take" /tmp/new
runs xl dmesg
lacks "no other revision runs" "$OUT" 'replaces'
if xl info xen_extra | grep -q xenolith; then
    for words in 'not a file of this CPU.s maker' 'damaged at byte' 'no patch in it is for this CPU' \
        'patch 0x1 is not newer' 'CPU [0-9]+ refuses revision 0x7fffffff'; do
        matches "the log says why: $words" "$OUT" "Microcode: .*$words"
    done
fi
finish
