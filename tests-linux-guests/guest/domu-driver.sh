# A guest serves the network of another (xl devd, as Debian has it), is killed, and another takes its place.
. /tests/report.sh
. /tests/domus.sh

LIMIT=300

# The driver domain runs what dom0 runs, less what is for other guests.
make_image() {
    (cd / && find init tests usr bin sbin lib lib64 etc var dev/console -xdev | cpio -o -H newc) >/run/driver.cpio
    mkdir -p /run/more
    (cd /run/more && mkdir -p proc sys dev run tmp root mnt && find proc sys dev run tmp root mnt | cpio -o -H newc) >>/run/driver.cpio
}

create_driver() {
    configure driver 256 "ramdisk = '/run/driver.cpio'" "driver_domain = 1" \
        "extra = 'console=hvc0 rdinit=/tests/driver-domain.sh'"
    creates driver
}

# nic NAME MAC: what the guest calls the network card with this address.
nic() { guest "$1" "grep -l $2 /sys/class/net/*/address | cut -d/ -f5"; }
has_mac() { [ -n "$(nic "$1" "$2")" ]; }

start_backends
make_bridge
start_counting
make_image
create_driver
matches "it is not the control domain" "$(guest driver 'cat /proc/xen/capabilities; echo .')" '^\.$'
configure client 96 "vif = ['mac=00:16:3e:00:02:02,backend=driver,bridge=xenbr0', 'mac=00:16:3e:00:00:02,bridge=xenbr0']"
creates client
joins client 2 "$(nic client 00:16:3e:00:02:02)" 10.0.2
joins client 2 "$(nic client 00:16:3e:00:00:02)" 10.0.0
eventually "the driver domain answers" 60 reaches client 10.0.2.1
guest driver 'head -c 8M /dev/urandom >/run/www/data' >/dev/null
equal "a stream from the driver domain" "$(fetches client 10.0.2.1 data)" "$(guest driver 'md5sum </run/www/data')"
eventually "dom0 answers too" 60 reaches client 10.0.0.1

id=$(xl domid driver)
destroys driver
equal "the client lives on" "$(guest client 'echo $((12 * 12))')" 144
eventually "dom0 still answers it" 30 reaches client 10.0.0.1
if reaches client 10.0.2.1; then fail "a killed driver domain" "answers"; else ok "a killed driver domain does not answer"; fi

create_driver
lacks "the new driver domain has another number" "$(xl domid driver)" "^$id\$"
run xl network-detach client 0
runs xl network-attach client mac=00:16:3e:00:02:03 backend=driver bridge=xenbr0
eventually "its network card appears" 60 has_mac client 00:16:3e:00:02:03
guest client "ip addr flush dev $(nic client 00:16:3e:00:02:02)" >/dev/null
joins client 3 "$(nic client 00:16:3e:00:02:03)" 10.0.2
eventually "the new driver domain answers" 60 reaches client 10.0.2.1
guest driver 'head -c 8M /dev/urandom >/run/www/data' >/dev/null
equal "a stream from the new driver domain" "$(fetches client 10.0.2.1 data)" "$(guest driver 'md5sum </run/www/data')"
eventually "dom0 answers beside it" 30 reaches client 10.0.0.1
destroys client
destroys driver
eventually "all memory is free again" 30 all_free
finish
