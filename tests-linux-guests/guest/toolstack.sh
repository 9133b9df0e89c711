# xl and its kin against the hypervisor: the same fields as Xen's, with the true values.
. /tests/report.sh

vcpus=${XVCPUS:-$XCPUS}
mem_of_dom0() { xl list 0 | awk '$2 == 0 { print $3 }'; }
mem_of_dom0_is() { [ "$(mem_of_dom0)" = "$1" ]; }

check_info() {
    local key
    runs xl info
    for key in host release version machine nr_cpus max_cpu_id nr_nodes cores_per_socket \
        threads_per_core cpu_mhz hw_caps virt_caps total_memory free_memory sharing_freed_memory \
        sharing_used_memory outstanding_claims free_cpus xen_major xen_minor xen_extra xen_version \
        xen_caps xen_scheduler xen_pagesize platform_params xen_changeset xen_commandline \
        cc_compiler cc_compile_by cc_compile_domain cc_compile_date build_id xend_config_format; do
        matches "xl info has $key" "$OUT" "^$key *:"
    done
    equal "xl info nr_cpus" "$(value nr_cpus)" "$XCPUS"
    equal "xl info max_cpu_id" "$(value max_cpu_id)" $((XCPUS - 1))
    equal "xl info nr_nodes" "$(value nr_nodes)" 1
    equal "xl info cores times threads" \
        $(($(value cores_per_socket) * $(value threads_per_core))) "$XCPUS"
    between "xl info cpu_mhz" "$(value cpu_mhz)" 100 9000
    matches "xl info hw_caps" "$(value hw_caps)" '^([0-9a-f]{8}:){7}[0-9a-f]{8}$'
    matches "xl info hw_caps is not empty" "$(value hw_caps)" '^0*[1-9a-f]'
    matches "xl info virt_caps" "$(value virt_caps)" '\bpv\b.*\bgnttab-v1\b'
    between "xl info total_memory" "$(value total_memory)" $((XTOTAL - 16)) "$XTOTAL"
    between "xl info free_memory" "$(value free_memory)" $(((XTOTAL - XDOM0) * 3 / 4)) $((XTOTAL - XDOM0))
    # 40 bytes for each page are tables; Xen 4.17 needs as much and up to 4 MiB.
    between "MiB that the hypervisor itself uses" $((XTOTAL - XDOM0 - $(value free_memory))) \
        1 $((XTOTAL / 100 + 4))
    equal "xl info outstanding_claims" "$(value outstanding_claims)" 0
    equal "xl info free_cpus" "$(value free_cpus)" 0
    matches "xl info xen_version" "$(value xen_version)" \
        "^$(value xen_major)\.$(value xen_minor)"
    equal "xl info xen_major and xen_minor" "$(value xen_major).$(value xen_minor)" 4.17
    matches "xl info xen_caps" "$(value xen_caps)" '\bxen-3\.0-x86_64\b'
    equal "xl info xen_scheduler" "$(value xen_scheduler)" credit2
    equal "xl info xen_pagesize" "$(value xen_pagesize)" 4096
    equal "xl info platform_params" "$(value platform_params)" virt_start=0xffff800000000000
    matches "xl info xen_commandline" "$(value xen_commandline)" "dom0_mem=${XDOM0}M"
    matches "xl info cc_compiler" "$(value cc_compiler)" .
    matches "xl info build_id" "$(value build_id)" '^[0-9a-f]+$'

    runs xl info -n
    for key in cpu_topology numa_info; do
        matches "xl info -n has $key" "$OUT" "^$key *:"
    done
    local cpu rows
    matches "xl info -n lists node 0" "$OUT" "^ *0: +$(value total_memory) +[0-9]+ +10$"
    rows=$(echo "$OUT" | sed -n '/^cpu_topology/,/^device topology/p' | grep -Ec '^ *[0-9]+:')
    # Of a single CPU without topology leaves Xen reports no core and no socket: no row.
    if [ "$XCPUS" -eq 1 ]; then
        between "xl info -n rows of CPUs" "$rows" 0 1
        return
    fi
    equal "xl info -n rows of CPUs" "$rows" "$XCPUS"
    for cpu in $(seq 0 $((XCPUS - 1))); do
        matches "xl info -n lists CPU $cpu" "$OUT" "^ *$cpu: +[0-9]+ +[0-9]+ +0$"
    done
}

check_lists() {
    runs xl list
    matches "xl list's heading" "$OUT" '^Name +ID +Mem +VCPUs\s+State\s+Time\(s\)$'
    equal "xl list's number of domains" "$(echo "$OUT" | tail -n +2 | wc -l)" 1
    matches "xl list's row of dom0" "$OUT" "^Domain-0 +0 +$XDOM0 +$vcpus +r----- +[0-9]+\.[0-9]$"
    local spent
    spent=$(echo "$OUT" | awk '$2 == 0 { print $6 }')
    between "xl list's CPU time" "$spent" 0.5 $((600 * XCPUS))
    for ((i = 0; i < 2000; i++)); do :; done
    busybox md5sum /usr/bin/busybox >/dev/null
    between "xl list's CPU time grows" "$(xl list | awk '$2 == 0 { print $6 }')" "$spent" 9999
    runs xl list -v
    matches "xl list -v's UUID" "$OUT" '00000000-0000-0000-0000-000000000000'
    runs xl list -l
    matches "xl list -l domid" "$OUT" '"domid": 0'
    matches "xl list -l name" "$OUT" '"name": "Domain-0"'
    matches "xl list -l type" "$OUT" '"type": "pv"'
    matches "xl list -l max_memkb" "$OUT" "\"max_memkb\": $((XDOM0 * 1024))\b"
    matches "xl list -l scheduler" "$OUT" '"sched": "credit2"'
    matches "xl list -l weight" "$OUT" '"weight": 256'
    matches "xl list -l cap" "$OUT" '"cap": 0'

    runs xl vcpu-list
    equal "xl vcpu-list's rows" "$(echo "$OUT" | tail -n +2 | wc -l)" "$vcpus"
    local cpu
    # A vCPU that was just woken neither runs nor waits.
    for cpu in $(seq 0 $((vcpus - 1))); do
        matches "xl vcpu-list's row $cpu" "$OUT" \
            "^Domain-0 +0 +$cpu +[0-9]+ +(r--|-b-|---) +[0-9]+\.[0-9] +all / all$"
    done
    between "xl vcpu-list's running vCPUs" "$(echo "$OUT" | grep -c ' r-- ')" 1 "$vcpus"
}

check_console() {
    runs xl dmesg
    between "xl dmesg's lines" "$(echo "$OUT" | wc -l)" 5 100000
    matches "xl dmesg names the command line" "$OUT" "dom0_mem=${XDOM0}M"
    local lines
    lines=$(echo "$OUT" | wc -l)
    runs xl debug-keys h
    runs xl dmesg
    between "lines that key h adds to xl dmesg" $(($(echo "$OUT" | wc -l) - lines)) 3 200
    matches "key h lists itself" "$OUT" "key 'h'"
    run xl debug-keys ''
    runs xl uptime
    matches "xl uptime's row" "$OUT" '^Domain-0 +0 +0:[0-9]{2}:[0-9]{2}$'
}

check_scheduler() {
    runs xl cpupool-list
    matches "xl cpupool-list's row" "$OUT" "^Pool-0 +$XCPUS +credit2 +y +1$"
    runs xl cpupool-list -c
    matches "xl cpupool-list -c's row" "$OUT" "^Pool-0 +$(seq -s, 0 $((XCPUS - 1)))$"
    runs xl sched-credit2
    matches "xl sched-credit2's rate limit" "$OUT" '^Cpupool Pool-0: ratelimit=[0-9]+us$'
    matches "xl sched-credit2's row" "$OUT" '^Domain-0 +0 +256 +0$'
    runs xl sched-credit2 -d Domain-0 -w 512
    runs xl sched-credit2 -d Domain-0
    matches "the weight that was set" "$OUT" '^Domain-0 +0 +512 +0$'
    runs xl sched-credit2 -d Domain-0 -w 256
    runs xl sched-credit2 -d Domain-0 -c 50
    runs xl sched-credit2 -d Domain-0
    matches "the new cap" "$OUT" '^Domain-0 +0 +256 +50$'
    runs xl sched-credit2 -d Domain-0 -c 0
    runs xl sched-credit2 -d Domain-0
    matches "no cap" "$OUT" '^Domain-0 +0 +256 +0$'

    local last=$((XCPUS - 1))
    runs xl vcpu-pin Domain-0 0 "$last"
    runs xl vcpu-list
    if [ "$XCPUS" -gt 1 ]; then
        matches "vCPU 0 is pinned" "$OUT" "^Domain-0 +0 +0 +$last +(r--|-b-) +[0-9.]+ +$last / all$"
    fi
    runs xl vcpu-pin Domain-0 0 all
    runs xl vcpu-list
    matches "vCPU 0 is free again" "$OUT" '^Domain-0 +0 +0 +.* all / all$'
}

check_vcpus() {
    runs xl vcpu-set Domain-0 "$vcpus"
    [ "$vcpus" -gt 1 ] || return
    runs xl vcpu-set Domain-0 1
    eventually "dom0 has one CPU" 20 sh -c '[ "$(nproc)" = 1 ]'
    eventually "vCPU 1 is off line" 10 sh -c 'xl vcpu-list | grep -Eq "^Domain-0 +0 +1 +- +--p"'
    runs xl vcpu-set Domain-0 "$vcpus"
    # The kernel makes the CPUs present; switching them on is left to udev, which is not here.
    eventually "dom0 can switch on all its CPUs" 20 sh -c \
        "echo 1 | tee /sys/devices/system/cpu/cpu*/online; [ \$(nproc) = $vcpus ]"
    runs xl vcpu-list
    equal "xl vcpu-list's paused vCPUs" "$(echo "$OUT" | grep -c -- '--p')" 0
}

check_memory() {
    local less=$((XDOM0 - 64)) free
    free=$(xl info | sed -n 's/^free_memory *: *//p')
    runs xl mem-set 0 "$less"
    eventually "dom0 shrinks to $less MiB" 30 mem_of_dom0_is "$less"
    runs xl info
    between "the memory that this frees" $(($(value free_memory) - free)) 60 66
    runs xl mem-set 0 "$XDOM0"
    eventually "dom0 has $XDOM0 MiB again" 30 mem_of_dom0_is "$XDOM0"
    between "memory in use after that" $((free - $(xl info | sed -n 's/^free_memory *: *//p'))) -2 2
}

check_others() {
    runs xenpm get-cpu-topology
    matches "xenpm get-cpu-topology's heading" "$OUT" '^CPU.core.socket.node'
    local cpu
    if [ "$XCPUS" -gt 1 ]; then
        for cpu in $(seq 0 $((XCPUS - 1))); do
            matches "xenpm get-cpu-topology's CPU $cpu" "$OUT" "^CPU$cpu\s+[0-9]+\s+[0-9]+\s+0$"
        done
    fi
    runs lsevtchn 0
    for cpu in $(seq 0 $((vcpus - 1))); do
        matches "lsevtchn: vCPU $cpu's timer" "$OUT" "^ *[0-9]+: VCPU $cpu: Virtual IRQ 0$"
    done
    matches "lsevtchn: an interrupt between vCPUs" "$OUT" ': IPI$'
    matches "lsevtchn: a device's interrupt" "$OUT" ': Physical IRQ [0-9]+$'
    matches "lsevtchn: xenstored's port" "$OUT" ': Interdomain \(Connected\) - Remote Domain 0, Port [0-9]+$'
    matches "lsevtchn: xenstored's VIRQ for dying domains" "$OUT" 'Virtual IRQ 3$'
    runs xl domid Domain-0
    equal "xl domid Domain-0" "$OUT" 0
    runs xl domname 0
    equal "xl domname 0" "$OUT" Domain-0
    run xl list nosuchdomain
    matches "xl list of a domain that is not there" "$RC $OUT" '^[1-9].*invalid domain identifier'
}

check_info
check_lists
check_console
check_scheduler
check_vcpus
check_memory
check_others
finish
