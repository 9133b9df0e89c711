# Machine checks that do not end the machine reach dom0. The emulator's operator makes them when this script says so.
. /tests/report.sh

matches "the kernel's driver is there" "$(ls /dev/mcelog)" mcelog
# The records that came, as 64-bit words in hexadecimal, 20 words each at least.
records() { timeout 5 dd if=/dev/mcelog bs=65536 count=1 2>/dev/null | od -A n -t x8 -v; }
# The driver gives each record once.
record_of() {
    records >>/tmp/records
    grep -q "$1" /tmp/records
}

echo "WANT-CORRECTED"
eventually "a corrected error is found by a look at the banks" 60 record_of 9c000000000000c1
matches "its address" "$(cat /tmp/records)" 0000000056780000
lacks "no uncorrected one yet" "$(cat /tmp/records)" bd000000000000c0
echo "WANT-UNCORRECTED"
eventually "an uncorrected error that nobody has used raises an exception" 60 record_of bd000000000000c0
matches "its address" "$(cat /tmp/records)" 0000000012340000
runs xl dmesg
equal "the machine goes on" "$(echo "$(seq 1 100)" | wc -l)" 100
# A second one: the first was cleared.
echo "WANT-ANOTHER"
eventually "another one" 60 record_of bd000000000000c2
finish
