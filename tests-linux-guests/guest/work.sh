# Work for dom0's kernel: processes, memory, pipes, signals, all CPUs at once.
. /tests/report.sh

vcpus=${XVCPUS:-$XCPUS}

forks() {
    local i
    for ((i = 0; i < $1; i++)); do
        /usr/bin/env true || return 1
    done
}
start=$(cut -d' ' -f1 /proc/uptime)
if forks 150; then ok "150 programs run one after another"; else fail "150 programs" "one failed"; fi
echo "forks took $(cut -d' ' -f1 /proc/uptime) - $start"

wanted=$(head -c 4000000 /usr/lib/xen-4.17/bin/oxenstored | md5sum)
bad=0
pids=
for i in $(seq 1 $((vcpus * 3))); do
    ( for j in 1 2 3 4; do
        [ "$(cat /usr/lib/xen-4.17/bin/oxenstored | head -c 4000000 | cat | md5sum)" = "$wanted" ] || exit 1
      done ) &
    pids="$pids $!"
done
for pid in $pids; do wait "$pid" || bad=$((bad + 1)); done
equal "data stays whole through pipes in $((vcpus * 3)) processes" "$bad" 0

dd if=/dev/urandom of=/tmp/a bs=1M count=48 2>/dev/null
cp /tmp/a /tmp/b
if cmp /tmp/a /tmp/b; then ok "48 MiB are copied whole"; else fail "a copy of 48 MiB" "differs"; fi
rm /tmp/a /tmp/b

equal "floating point: sum of 1/n^2" \
    "$(awk 'BEGIN { for (i = 200000; i > 0; i--) s += 1 / (i * i); printf "%.9f", s }')" 1.644929067
for i in $(seq 1 $((vcpus * 2))); do
    awk -v n="$i" 'BEGIN { for (i = 1; i < 300000; i++) s += (i % 7) * 0.3 * n; printf "%.6f\n", s / n }' >/tmp/fp.$i &
done
wait
equal "floating point: processes side by side agree" "$(cat /tmp/fp.* | sort -u | wc -l)" 1

count=0
trap 'count=$((count + 1))' USR1
for i in $(seq 1 50); do kill -USR1 $$; done
equal "signals that arrived" "$count" 50

for cpu in $(seq 0 $((vcpus - 1))); do
    runs taskset -c "$cpu" sh -c 'exit 0'
done

last=0
back=0
for i in $(seq 1 200); do
    now=$(date +%s%N)
    [ "$now" -ge "$last" ] || back=$((back + 1))
    last=$now
done
equal "times that the clock ran backwards" "$back" 0

# checks PROGRAM: runs it, and takes over what it reports.
checks() {
    local line
    runs "$1"
    while read -r line; do
        case $line in
            "ok "*) ok "${line#ok }" ;;
            "FAILED "*) echo "$line" >>"$REPORT" ;;
        esac
    done <<<"$OUT"
}
checks machine-check
checks programs32
finish
