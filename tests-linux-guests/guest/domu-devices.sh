# Disks and networks of guests, served by dom0: real disks, files and memory, a bridge; attached while they run.
# What guests copy on the real disks is compared on the host.
. /tests/report.sh
. /tests/domus.sh
. /tests/drivers.sh

LIMIT=180

# disk_region NAME DISK FIRST: the checksum of a region of 8 MiB as the guest reads it.
disk_region() {
    guest "$1" "dd if=/dev/$2 iflag=direct bs=1M count=8 skip=$(($3 * 8)) 2>/dev/null | md5sum"
}

# copies NAME FROM TO: the first region of one disk to the second of the other.
copies() {
    guest "$1" "dd if=/dev/$2 of=/dev/$3 iflag=direct oflag=direct bs=1M count=8 seek=8" ||
        fail "copying from $2 to $3" "dd failed"
}

check_disks() {
    local disk
    runs xl block-list one
    equal "xl block-list's rows" "$(echo "$OUT" | tail -n +2 | wc -l)" 4
    equal "sizes of its disks" "$(guest one 'cat /sys/block/xvd[abcd]/size' | tr '\n' ' ')" "65536 65536 32768 2048 "
    equal "what it reads from the disk $virtio" "$(disk_region one xvda 0)" "$(region "$virtio" 0 | md5sum)"
    equal "what it reads from the disk $sata" "$(disk_region one xvdb 0)" "$(region "$sata" 0 | md5sum)"
    equal "what it reads from the file" "$(disk_region one xvdc 0)" "$(head -c 8M /run/file | md5sum)"
    copies one xvda xvdb
    copies one xvdb xvda
    copies one xvda xvdc
    equal "what it wrote to the disk $virtio" "$(region "$virtio" 1 | md5sum)" "$(region "$sata" 0 | md5sum)"
    equal "what it wrote to the disk $sata" "$(region "$sata" 1 | md5sum)" "$(region "$virtio" 0 | md5sum)"
    equal "what it wrote to the file" "$(tail -c 8M /run/file | md5sum)" "$(region "$virtio" 0 | md5sum)"
    equal "it reads that again" "$(disk_region one xvdc 1)" "$(tail -c 8M /run/file | md5sum)"
    if guest one 'dd if=/dev/zero of=/dev/xvdd bs=1k count=1 oflag=direct' >/dev/null; then
        fail "a disk to be read only" "was written to"
    else
        ok "a disk to be read only cannot be written to"
    fi
    # All at once, past the page cache and through it.
    equal "three disks at once" "$(guest one 'for disk in a b c; do
            (dd if=/dev/xvd$disk bs=64k count=128 2>/dev/null | md5sum >/tmp/sum.$disk) & done; wait
            cat /tmp/sum.a /tmp/sum.b /tmp/sum.c')" \
        "$(for disk in "/dev/$virtio" "/dev/$sata" /run/file; do head -c 8M "$disk" | md5sum; done)"
}

check_networks() {
    local sum
    joins one 11
    joins two 12
    eventually "guest one reaches dom0" 30 reaches one 10.0.0.1
    eventually "guest two reaches dom0" 30 reaches two 10.0.0.1
    eventually "dom0 reaches guest one" 30 ping -c 1 -W 2 10.0.0.11
    eventually "guest one reaches guest two" 30 reaches one 10.0.0.12
    equal "its card's address" "$(guest one 'cat /sys/class/net/eth0/address')" 00:16:3e:00:00:11
    head -c 8M /dev/urandom >/run/www/data
    equal "a stream from dom0 to guest one" "$(fetches one 10.0.0.1 data)" "$(md5sum </run/www/data)"
    sum=$(serves one data)
    equal "a stream from guest one to dom0" "$(wget -q -O - http://10.0.0.11/data | md5sum)" "$sum"
    equal "a stream from guest one to guest two" "$(fetches two 10.0.0.11 data)" "$sum"
    sum=$(serves two other)
    equal "a stream from guest two to guest one" "$(fetches one 10.0.0.12 other)" "$sum"
    runs xl network-list one
    matches "xl network-list's row" "$OUT" '^0 +0 +00:16:3e:00:00:11 +0 +4 '
}

check_attach() {
    local sum
    modprobe brd rd_nr=1 rd_size=16384
    head -c 16M /dev/urandom >/dev/ram0
    runs xl block-attach one phy:/dev/ram0 xvde w
    eventually "the disk that is attached appears" 30 has_disk one xvde
    equal "what is read from it" "$(disk_region one xvde 0)" "$(head -c 8M /dev/ram0 | md5sum)"
    guest one 'dd if=/dev/xvda of=/dev/xvde iflag=direct oflag=direct bs=1M count=8 seek=8' >/dev/null
    equal "what is written to it" "$(region ram0 1 | md5sum)" "$(region "$virtio" 0 | md5sum)"
    runs xl block-detach one xvde
    eventually "the disk that is detached goes" 30 lacks_disk one xvde
    runs xl block-list one
    equal "xl block-list's rows after that" "$(echo "$OUT" | tail -n +2 | wc -l)" 4

    runs xl network-attach one mac=00:16:3e:00:00:21 bridge=xenbr0
    eventually "the network card that is attached appears" 30 has_nic one eth1
    ip addr add 10.0.1.1/24 dev xenbr0
    joins one 21 eth1 10.0.1
    eventually "it reaches dom0" 30 reaches one 10.0.1.1
    equal "a stream by it" "$(fetches one 10.0.1.1 data)" "$(md5sum </run/www/data)"
    runs xl network-detach one 1
    eventually "the network card that is detached goes" 30 lacks_nic one eth1
    eventually "the other one works on" 30 reaches one 10.0.0.1
}

start_backends
load_drivers
make_bridge
virtio=$(disk_of virtio-pci)
sata=$(disk_of ahci)
head -c 16M /dev/urandom >/run/file
head -c 1M /dev/urandom >/run/read-only
configure one 160 \
    "disk = ['phy:/dev/$virtio,xvda,w', 'phy:/dev/$sata,xvdb,w', 'file:/run/file,xvdc,w', 'file:/run/read-only,xvdd,r']" \
    "vif = ['mac=00:16:3e:00:00:11,bridge=xenbr0']"
configure two 128 "vif = ['mac=00:16:3e:00:00:12,bridge=xenbr0']"
start_counting
creates one
creates two
check_disks
check_networks
check_attach
shuts_down one
# With its back ends at work.
destroys two
eventually "no back end is left" 30 no_backends
# Channels and mappings that dom0 has had may keep a piece of the hypervisor's heap, but none is lost with each guest.
eventually "all memory is free but a piece of the heap" 30 all_free 64
BEFORE=$(free-pages)
creates one
shuts_down one
eventually "no back end is left of the last one" 30 no_backends
eventually "all memory is free again" 30 all_free
lacks "nothing wrong in the kernel's log" "$(dmesg)" \
    'I/O error|xen.*(fail|error|invalid)|vif[0-9.]+.*(fail|error)|vbd.*(fail|error)|timed? ?out'
finish
