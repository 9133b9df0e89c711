# Measures; cargo xtask bench reads the BENCH lines and compares hypervisors.
. /tests/report.sh
bench >/tmp/bench 2>&1
equal "bench succeeds" "$?" 0
bench 10 xl list >>/tmp/bench 2>&1
equal "timing xl list succeeds" "$?" 0
bench 10 xl info >>/tmp/bench 2>&1
equal "timing xl info succeeds" "$?" 0
# What is neither dom0's nor free of the machine's RAM (MiB).
free=$(xl info | sed -n 's/^free_memory *: *//p')
echo "BENCH hypervisor's memory, MiB $((XTOTAL - XDOM0 - free))" >>/tmp/bench
dmesg -n 1
cat /tmp/bench
finish
