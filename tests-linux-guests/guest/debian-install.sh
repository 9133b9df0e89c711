# cargo xtask install on a running Debian: what update-grub makes of it, and that taking it out leaves nothing behind.
. /tests/report.sh

menu=/boot/grub/grub.cfg

# The file that GRUB's default entry starts, in the words of the program that is tested and read by hand.
default_is() {
    matches "$1: the default entry" "$OUT" "^GRUB starts \"Debian GNU/Linux, with Xen hypervisor\": $2$"
    equal "$1: the first entry with Xen" "$(sed -n 's/^\tmultiboot2\t\([^ ]*\) .*/\1/p' $menu | head -n 1)" "$2"
    matches "$1: GRUB's default" "$(cat $menu)" 'set default="Debian GNU/Linux, with Xen hypervisor"'
    matches "$1: Debian's Xen in the menu" "$(cat $menu)" "menuentry 'Debian GNU/Linux, with Xen 4\.17-amd64 and Linux"
}

install() {
    echo "BEGIN install $*"
    OUT=$(/tests/xtask install --root / "$@" 2>&1)
    RC=$?
    echo "$OUT"
    equal "install $* succeeds" "$RC" 0
}

files() { stat -c '%n %s %a %Y' /boot/*-*; }
files >/tmp/boot
cp $menu /tmp/menu
install --image /tests/xenolith.gz
default_is "installed again" /boot/xenolith-4.17.gz
equal "installed again: the menu is the same" "$(diff /tmp/menu $menu)" ""
equal "installed again: /boot is the same" "$(files | diff /tmp/boot -)" ""
install --uninstall
default_is "taken out" /boot/xen-4.17-amd64.gz
lacks "taken out: the menu" "$(cat $menu)" xenolith
equal "taken out: /boot" "$(ls -A /boot | grep -i xenolith)" ""
install --uninstall
matches "taken out before" "$OUT" 'xenolith-4\.17\.gz is not there'
echo "BEGIN install into another root"
mount --bind / /mnt
OUT=$(/tests/xtask install --root /mnt --image /tests/xenolith.gz 2>&1)
equal "installed into another root" "$?" 0
default_is "installed into another root" /boot/xenolith-4.17.gz
equal "installed into another root: the menu is as it was" "$(diff /tmp/menu $menu)" ""
equal "installed into another root: nothing stays mounted" "$(ls /mnt/proc)" ""
umount /mnt

OUT=$(/tests/xtask install --root /usr --image /tests/xenolith.gz 2>&1)
matches "a folder that is no root" "$OUT" 'has no folder boot'
OUT=$(/tests/xtask install --root / --image /etc/passwd 2>&1)
matches "a file that is no hypervisor" "$OUT" 'not a compressed hypervisor'
mount -t tmpfs -o size=64k tmpfs /mnt
mkdir /mnt/boot
OUT=$(/tests/xtask install --root /mnt --image /tests/xenolith.gz 2>&1)
matches "no room" "$OUT" 'no room in /mnt/boot for another [0-9]+ KiB'
equal "no room: nothing is left" "$(ls -A /mnt/boot)" ""
mount -o remount,ro /mnt
OUT=$(/tests/xtask install --root /mnt --image /tests/xenolith.gz 2>&1)
matches "read-only" "$OUT" 'mounted read-only'
umount /mnt
OUT=$(runuser -u nobody -- /tests/xtask install --root / --uninstall 2>&1)
matches "without permission" "$OUT" 'no permission to write in /boot: run it as root'
finish
