//! What is on the disk: its partitions, packages and settings. All else is Debian's own.

/// Packages beside those of a plain debootstrap.
pub const PACKAGES: &[&str] = &[
    "dbus",
    "efibootmgr",
    "grub-efi-amd64-bin",
    "grub-pc",
    "linux-image-amd64",
    "openssh-server",
    "pciutils",
    "xen-system-amd64",
    "zstd",
];

/// Size of the disk in MiB; the file is sparse.
pub const DISK_MIB: u64 = 4096;

/// A partition: first MiB, size in MiB, type as sfdisk names it.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    /// Where it begins.
    pub from_mib: u64,
    /// How long it is.
    pub mib: u64,
    /// Its type.
    pub kind: &'static str,
}

/// For GRUB's core image on BIOS machines.
pub const BIOS_BOOT: Partition = Partition {
    from_mib: 1,
    mib: 1,
    kind: "21686148-6449-6E6F-744E-656564454649",
};

/// The EFI system partition.
pub const ESP: Partition = Partition {
    from_mib: 2,
    mib: 64,
    kind: "U",
};

/// The root file system, up to the second copy of the partition table.
pub const ROOT: Partition = Partition {
    from_mib: 66,
    mib: DISK_MIB - 66 - 1,
    kind: "L",
};

/// Identifiers of the file systems, so that two disks made from the same packages are alike.
pub const ROOT_UUID: &str = "0fa4a6d5-98c6-4c41-a9c5-1d8d3b1f5a10";
/// The same of the EFI system partition, as `blkid` writes it.
pub const ESP_ID: &str = "5845-4E4F";

/// Files with their content, for which a person would have answered the installer's questions. The Xen lines are those
/// that anybody with a serial console writes there, whichever hypervisor runs.
pub fn files() -> Vec<(&'static str, String)> {
    let mounts = format!(
        "UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\nUUID={ESP_ID} /boot/efi vfat umask=0077 0 1\n"
    );
    let fixed = [
        ("etc/hostname", "debian\n"),
        ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 debian\n"),
        ("etc/default/locale", "LANG=C.UTF-8\n"),
        // The name server of QEMU's user network.
        ("etc/resolv.conf", "nameserver 10.0.2.3\n"),
        (
            "etc/systemd/network/wired.network",
            "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n",
        ),
        (
            "etc/ssh/sshd_config.d/root.conf",
            "# A disk for tests, reached from its own host only.\nPermitRootLogin yes\n",
        ),
        (
            "etc/default/grub.d/serial.cfg",
            "GRUB_TERMINAL=\"console serial\"\n\
             GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\n\
             GRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200\"\n\
             GRUB_CMDLINE_XEN=\"com1=115200,8n1 console=com1,vga\"\n\
             GRUB_CMDLINE_LINUX_XEN_REPLACE=\"console=tty0 console=hvc0\"\n",
        ),
    ];
    let mut files = vec![("etc/fstab", mounts)];
    files.extend(fixed.map(|(path, text)| (path, text.to_owned())));
    files
}

/// What root does once in a shell in place of init, on the first boot.
pub const FIRST_BOOT: &str = "\
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount /boot/efi
grub-install --target=i386-pc /dev/sda &&
grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram &&
update-grub
echo FIRST-BOOT rc=$?
umount /boot/efi
mount -o remount,ro /
echo o >/proc/sysrq-trigger
sleep 60
";
