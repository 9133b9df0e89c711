# CPUs go off line and come back, by the tool and by dom0's kernel, under work on all vCPUs.
. /tests/report.sh

last=$((XCPUS - 1))
state=/sys/devices/system/xen_cpu
nr_cpus() { xl info | sed -n 's/^nr_cpus *: *//p'; }
nr_cpus_is() { [ "$(nr_cpus)" = "$1" ]; }
online_is() { [ "$(cat "$state/xen_cpu$1/online")" = "$2" ]; }
on_cpu() { xl vcpu-list 0 | awk -v cpu="$1" 'NR > 1 && $4 == cpu { n++ } END { print n + 0 }'; }

# Something to do.
workers=
for _ in 1 2; do
    (while :; do md5sum /usr/bin/busybox; done >/dev/null) &
    workers="$workers $!"
done

check_one() {
    local cpu=$1
    runs xen-hptool cpu-offline "$cpu"
    equal "xl info's nr_cpus without CPU $cpu" "$(nr_cpus)" "$last"
    runs xl cpupool-list -c
    lacks "the pool's CPUs without CPU $cpu" "$OUT" "^Pool-0.*[ ,]$cpu(,|$)"
    eventually "dom0's kernel is told that CPU $cpu is off line" 10 online_is "$cpu" 0
    equal "vCPUs on CPU $cpu while it is off line" "$(on_cpu "$cpu")" 0
    runs xen-hptool cpu-online "$cpu"
    equal "xl info's nr_cpus with CPU $cpu" "$(nr_cpus)" "$XCPUS"
    eventually "dom0's kernel is told that CPU $cpu is on line" 10 online_is "$cpu" 1
}

# refused WHY COMMAND...
refused() {
    local why=$1
    shift
    run "$@"
    matches "$* is refused" "$RC $OUT" "^1 .*$why"
}

check_errors() {
    refused 'Invalid argument' xen-hptool cpu-offline 0
    refused 'File exists' xen-hptool cpu-online 1
    refused 'Invalid argument' xen-hptool cpu-offline "$XCPUS"
    refused 'Invalid argument' xen-hptool cpu-online 4000
    refused 'Operation not supported' xen-hptool smt-disable
    refused 'Operation not supported' xen-hptool smt-enable
    runs xen-hptool cpu-offline 1
    refused 'File exists' xen-hptool cpu-offline 1
    refused 'Invalid argument' xl vcpu-pin 0 0 1
    runs xenpm get-cpuidle-states 1
    lacks "idle states of a CPU that is off line" "$OUT" '^C1 '
    runs xen-hptool cpu-online 1
}

# A vCPU that may run on one CPU only runs elsewhere while that is off line.
check_pinned() {
    runs xl vcpu-pin 0 1 2
    runs xen-hptool cpu-offline 2
    equal "vCPUs on CPU 2 while it is off line" "$(on_cpu 2)" 0
    equal "the pinned vCPU works" "$(taskset -c 1 echo works)" works
    runs xen-hptool cpu-online 2
    runs xl vcpu-pin 0 1 all
}

check_kernel_side() {
    local cpu
    for cpu in $(seq 1 "$last"); do
        run sh -c "echo 0 >$state/xen_cpu$cpu/online"
        equal "dom0's kernel takes CPU $cpu off line" "$RC" 0
    done
    equal "nr_cpus with one CPU left" "$(nr_cpus)" 1
    equal "vCPUs on CPU 0" "$(on_cpu 0)" "$XCPUS"
    busybox md5sum /usr/bin/busybox >/dev/null
    for cpu in $(seq 1 "$last"); do
        run sh -c "echo 1 >$state/xen_cpu$cpu/online"
        equal "dom0's kernel takes CPU $cpu on line" "$RC" 0
    done
    equal "nr_cpus with all" "$(nr_cpus)" "$XCPUS"
}

check_errors
for cpu in $(seq 1 "$last"); do
    check_one "$cpu"
done
check_pinned
check_kernel_side

# Again and again, with dom0's own vCPUs coming and going beside it.
free=$(xl info | sed -n 's/^free_memory *: *//p')
(for _ in 1 2 3; do
    xl vcpu-set 0 1
    sleep 1
    xl vcpu-set 0 "$XCPUS"
    echo 1 | tee /sys/devices/system/cpu/cpu*/online
    sleep 1
done >/dev/null 2>&1) &
vcpus=$!
failed=0
for round in $(seq 1 "${XROUNDS:-12}"); do
    cpu=$((round % last + 1))
    xen-hptool cpu-offline "$cpu" >/dev/null 2>&1 || failed=$((failed + 1))
    xen-hptool cpu-online "$cpu" >/dev/null 2>&1 || failed=$((failed + 1))
done
wait "$vcpus"
equal "rounds that failed" "$failed" 0
equal "nr_cpus after them" "$(nr_cpus)" "$XCPUS"
between "MiB lost by them" $((free - $(xl info | sed -n 's/^free_memory *: *//p'))) -1 1
for cpu in $(seq 0 "$last"); do
    equal "CPU $cpu runs a pinned program" \
        "$(xl vcpu-pin 0 0 "$cpu" && sleep 0.3 && taskset -c 0 echo here && xl vcpu-list 0 | awk '$3 == 0 { print $4 }')" \
        "here
$cpu"
done
runs xl vcpu-pin 0 0 all
kill $workers
runs xl debug-keys r
finish
