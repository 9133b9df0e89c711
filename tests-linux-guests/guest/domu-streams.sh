# What `xl restore` is given when the file of a saved guest was cut off or a bit of it has turned over: a domain or an error, and
# nothing of either is left. XROUNDS of each; the same places in each run.
. /tests/report.sh
. /tests/domus.sh

RANDOM=${XSEED:-1}
rounds=${XROUNDS:-30}
whole=/run/whole damaged=/run/damaged

# place ROUND: a byte of the file: near its begin, near its end, anywhere. The former hold the records, between them are pages.
place() {
    local any=$((RANDOM << 15 | RANDOM))
    case $(($1 % 3)) in
        0) at=$((any % 8192)) ;;
        1) at=$((size - 1 - any % 12288)) ;;
        2) at=$((any % size)) ;;
    esac
}

# restored: whether the damaged file makes a domain, which is taken away. What `xl` leaves behind that ends by a signal is, too.
restored() {
    timeout 120 xl restore -p -e "$damaged" >/run/restore.out 2>&1
    local rc=$?
    [ "$rc" != 124 ] || hung=$((hung + 1))
    xl list small >/dev/null 2>&1 && xl destroy small
    return "$rc"
}

# put PLACE BYTE: into the damaged file.
put() { printf "\\$(printf %03o "$2")" | dd "of=$damaged" bs=1 "seek=$1" conv=notrunc 2>/dev/null; }

# has_gone: no domain but dom0 is left.
has_gone() { [ "$(xl list | tail -n +2 | wc -l)" = 1 ] || { xl list; false; }; }

all_back() { [ "$(free-pages)" = "$before" ] || { echo "$(free-pages) of $before pages"; false; }; }

LIMIT=300
start_backends
configure small 96 'vcpus = 2'
creates small
runs xl save small "$whole"
close_console small
size=$(stat -c %s "$whole")
between "bytes of the file" "$size" 60000000 110000000
cp "$whole" "$damaged"
hung=0
if restored; then ok "the whole file is restored"; else fail "the whole file is restored" "$(cat /run/restore.out)"; fi
eventually "it has gone" 30 has_gone
before=$(free-pages)

taken=0
for round in $(seq "$rounds"); do
    place "$round"
    head -c "$at" "$whole" >"$damaged"
    if restored; then
        taken=$((taken + 1))
        echo "cut at $at of $size: restored"
    fi
done
equal "cut files that were restored" "$taken" 0
equal "errors in words for the last of them" "$(grep -c . /run/restore.out | sed 's/^[1-9].*/yes/')" yes

taken=0
cp "$whole" "$damaged"
for round in $(seq "$rounds"); do
    place "$round"
    bit=$((1 << RANDOM % 8))
    byte=$(od -An -tu1 -j "$at" -N 1 "$whole")
    put "$at" $((byte ^ bit))
    if restored; then taken=$((taken + 1)); else echo "bit $bit at $at of $size: $(tail -n 1 /run/restore.out)"; fi
    put "$at" "$byte"
done
echo "with a bit turned over $taken of $rounds were restored"
equal "those of which xl did not come back" "$hung" 0
eventually "no domain is left" 30 has_gone
eventually "the memory is free again" 30 all_back
runs xl restore "$whole"
open_console small
eventually "it answers, restored" 60 answers small
equal "it works" "$(guest small 'echo $((6 * 7))')" 42
destroys small
finish
