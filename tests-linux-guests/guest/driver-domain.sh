#!/bin/bash
# First process of a driver domain: the network 10.0.2.0/24, in which it is number 1, and xl's daemon that
# connects other guests to it. Then a shell as guests have it.

export PATH=/usr/sbin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/xen /run/www /var/log/xen
for module in xenfs xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xen-netback bridge; do
    modprobe "$module"
done
mount -t xenfs xenfs /proc/xen
ip link set lo up
brctl addbr xenbr0
ip addr add 10.0.2.1/24 dev xenbr0
ip link set xenbr0 up
httpd -h /run/www
xl devd
echo "xl devd: $?"
dmesg -n 1
stty -echo </dev/hvc0
echo "GUEST-READY $(cut -d' ' -f1 /proc/uptime)"
while :; do
    bash </dev/hvc0 2>&1 | cat >/dev/hvc0
done
