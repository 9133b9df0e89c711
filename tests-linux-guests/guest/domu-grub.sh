# A guest whose kernel lies on its own disk, with the menu that GRUB shows: a PV guest's is read by pygrub in dom0, a
# PVH guest's by GRUB itself, which runs in the guest.
. /tests/report.sh
. /tests/domus.sh

LIMIT=300
GRUB=/usr/lib/grub-xen/grub-i386-xen_pvh.bin

# make_disk FILE: with a file system that holds a kernel, an initramfs and a menu.
make_disk() {
    truncate -s 40M "$1"
    mke2fs -F "$1" >/dev/null
    modprobe crc32c-generic
    modprobe ext4
    mkdir -p /mnt/disk
    mount -o loop "$1" /mnt/disk
    mkdir -p /mnt/disk/boot/grub
    cp /guest/vmlinuz /guest/initrd.gz /mnt/disk/boot/
    cat >/mnt/disk/boot/grub/grub.cfg <<'END'
set default="1"
set timeout=0
menuentry 'a kernel that is not there' {
    linux /boot/none console=hvc0
}
menuentry 'the one that is meant' {
    linux /boot/vmlinuz console=hvc0 from=its-disk
    initrd /boot/initrd.gz
}
END
    umount /mnt/disk
}

# loader: the lines of a configuration that say what reads the menu.
loader() {
    case $XTYPE in
        pvh) printf '%s\n' "type = 'pvh'" "kernel = '$GRUB'" ;;
        *) echo "bootloader = 'pygrub'" ;;
    esac
}

start_backends
ln -s python3.11 /usr/bin/python3
make_disk /run/disk
start_counting
{
    printf '%s\n' "name = 'one'" 'memory = 128' "disk = ['file:/run/disk,xvda,w']"
    loader
} >/tmp/one.cfg
creates one
matches "its command line is the one of its disk" "$(guest one 'cat /proc/cmdline')" 'from=its-disk'
[ "$XTYPE" != pvh ] || equal "what kind of guest it is" "$(guest one 'cat /sys/hypervisor/guest_type')" PVH
equal "it reads that disk" "$(guest one 'dd if=/dev/xvda bs=1M 2>/dev/null | md5sum')" "$(md5sum </run/disk)"
id=$(xl domid one)
runs xl reboot one
comes_back one "$id"
equal "it answers after the reboot" "$(guest one 'echo $((7 * 8))')" 56
shuts_down one
equal "no copy of its kernel is left" "$(ls /run/xen | grep -c '^boot')" 0
eventually "no back end is left" 30 no_backends
eventually "all its memory is free again" 20 all_free 32
finish
