# A guest whose kernel lies on its own disk, with the menu that GRUB would show.
. /tests/report.sh
. /tests/domus.sh

LIMIT=300
start_backends
ln -s python3.11 /usr/bin/python3
truncate -s 40M /run/disk
mke2fs -F /run/disk >/dev/null
modprobe crc32c-generic
modprobe ext4
mkdir -p /mnt/disk
mount -o loop /run/disk /mnt/disk
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
start_counting
cat >/tmp/one.cfg <<'END'
name = 'one'
memory = 128
bootloader = 'pygrub'
disk = ['file:/run/disk,xvda,w']
END
creates one
matches "its command line is the one of its disk" "$(guest one 'cat /proc/cmdline')" 'from=its-disk'
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
