# A thousand domains that live a moment each, and everything is done to them at once, by hypercalls: what `domu-races` does
# through xl, without xl's two seconds for each.
. /tests/report.sh

guests_left() { xl list | awk 'NR > 2 { print $1, $2, $5 }'; }
none_left() { local left; left=$(guests_left); [ -z "$left" ] || { echo "$left"; false; }; }

# In the same emulator Xen 4.17 died of a null pointer in its credit2 (unpark_parked_units) when a domain with a cap went.
xl dmesg | grep -q Xenolith || uncapped=uncapped

# What the hypervisor sets aside for its first domains it may keep.
runs domain-race 5 $uncapped
eventually "the first ones are gone" 30 none_left
before=$(free-pages)
LIMIT=900 run domain-race "${XROUNDS:-100}" $uncapped
equal "the race ends well" "$RC" 0
echo "$OUT" | grep -E '^(ok|FAILED) ' >>"$REPORT"
echo "$OUT" | grep ' times, refused '
matches "all rounds were made" "$OUT" "^domains come and go: ${XROUNDS:-100} times"
eventually "no domain is left" 30 none_left
echo 1 >/sys/devices/system/cpu/cpu1/online 2>/dev/null
equal "CPUs of dom0" "$(nproc)" 2
equal "where dom0 may run" "$(xl vcpu-list 0 | awk 'NR > 1 { print $7 }' | sort -u)" all
matches "dom0's share is as it was" "$(xl sched-credit2 -d 0)" '^Domain-0 +0 +256 +0$'
between "pages that are lost" $((before - $(free-pages))) -8 8
finish
