//! Devices beside the board's own, the files behind them, and what must have become of these.
//!
//! Every disk begins with a region of random bytes. In dom0 each is copied to the second region of the
//! next disk (`guest/drivers.sh`, `copy_around`); afterwards all regions are compared here, on the host.
//!
//! The second serial line leads to QEMU's own monitor (QMP), so that scripts in dom0 can press keys and buttons
//! of the machine and look at its memory.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Check;

/// Bytes of one of the two regions of a disk.
const REGION: usize = 8 << 20;
/// Bytes of a disk.
const DISK: u64 = 32 << 20;

/// What is plugged in.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    /// Names of the disks, which are drives of the emulator with these ids, in the order of copying.
    pub disks: &'static [&'static str],
    /// Options of the emulator without their dash. `DIR` in them is the folder with the disks, in which
    /// `served` is a file with what the first disk's first region has.
    pub options: &'static [(&'static str, &'static str)],
}

/// Devices of a running emulator.
#[derive(Debug)]
pub struct Attached {
    disks: Vec<Disk>,
    folder: PathBuf,
    socket: PathBuf,
}

#[derive(Debug)]
struct Disk {
    name: &'static str,
    /// What its first region has.
    content: Vec<u8>,
}

impl Attached {
    /// Makes the files beside `log` and adds the options.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn attach(devices: &Devices, qemu: &mut Command, log: &Path) -> io::Result<Self> {
        let folder = log.with_extension("files");
        std::fs::create_dir_all(&folder)?;
        let mut disks = Vec::new();
        for (name, seed) in devices.disks.iter().zip(1..) {
            let content = random(seed, REGION);
            let path = folder.join(name);
            std::fs::write(&path, &content)?;
            std::fs::File::options()
                .write(true)
                .open(&path)?
                .set_len(DISK)?;
            let drive = format!("if=none,id={name},format=raw,file={}", path.display());
            qemu.args(["-drive", &drive]);
            disks.push(Disk { name, content });
        }
        std::fs::write(folder.join("served"), random(1, REGION))?;
        for (option, value) in devices.options {
            qemu.arg(format!("-{option}"))
                .arg(value.replace("DIR", &folder.display().to_string()));
        }
        let socket = monitor(qemu, log);
        Ok(Self {
            disks,
            folder,
            socket,
        })
    }

    /// Compares all regions of all disks.
    ///
    /// # Errors
    /// A disk cannot be read.
    pub fn checks(&self) -> io::Result<Vec<Check>> {
        let mut checks = Vec::new();
        let before = self.disks.iter().cycle().skip(self.disks.len().max(1) - 1);
        for (disk, before) in self.disks.iter().zip(before) {
            let name = disk.name;
            let bytes = std::fs::read(self.folder.join(name))?;
            let (first, second) = (&bytes[..REGION], &bytes[REGION..2 * REGION]);
            checks.push(same(
                format!("disk {name} keeps what is not written"),
                first,
                &disk.content,
            ));
            checks.push(same(
                format!("disk {name} has what was copied from disk {}", before.name),
                second,
                &before.content,
            ));
        }
        Ok(checks)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // QEMU removes it itself when it ends well.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Puts the emulator's monitor at the other end of the second serial line: a socket on which it listens and
/// to which it connects as well. Returns the socket's path.
fn monitor(qemu: &mut Command, log: &Path) -> PathBuf {
    let name = log.file_stem().unwrap_or_default().to_string_lossy();
    // In the system's folder: the path of a socket must be short.
    let file = format!("{name}-{}.teller", std::process::id());
    let socket = std::env::temp_dir().join(file);
    let path = socket.display();
    qemu.args([
        "-chardev",
        &format!("socket,id=told,path={path},server=on,wait=off"),
    ])
    .args(["-mon", "chardev=told,mode=control"])
    .args(["-chardev", &format!("socket,id=teller,path={path}")])
    .args(["-device", "isa-serial,index=1,chardev=teller"]);
    socket
}

fn same(name: String, bytes: &[u8], wanted: &[u8]) -> Check {
    let wrong = bytes.iter().zip(wanted).position(|(is, want)| is != want);
    match wrong {
        None => Check::passed(name),
        Some(at) => {
            let count = bytes.iter().zip(wanted).filter(|(a, b)| a != b).count();
            Check::failed(name, format!("{count} bytes differ, the first at {at:#x}"))
        }
    }
}

/// Bytes that repeat nowhere, the same for the same seed (Marsaglia's xorshift64).
fn random(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes / 8).flatten().collect()
}

/// None: for the monitor at the second serial line.
pub const MONITOR: Devices = Devices {
    disks: &[],
    options: &[],
};

/// A disk whose messages are registers and one whose messages are a table, on the board q35.
pub const GUARDED: Devices = Devices {
    disks: &["sata", "nvme"],
    options: &[
        ("device", "ide-hd,drive=sata,bus=ide.0"),
        ("device", "nvme,drive=nvme,serial=nvme"),
    ],
};

/// QEMU's default PC: a disk on each kind of controller, two networks, USB 1.
pub const PC: Devices = Devices {
    disks: &["ide", "sata", "virtio", "nvme"],
    options: &[
        ("device", "ide-hd,drive=ide,bus=ide.0"),
        ("device", "ich9-ahci,id=ahci"),
        ("device", "ide-hd,drive=sata,bus=ahci.0"),
        ("device", "virtio-blk-pci,drive=virtio"),
        ("device", "nvme,drive=nvme,serial=nvme"),
        ("netdev", NETWORK_10),
        ("device", "e1000,netdev=net10"),
        ("netdev", NETWORK_11),
        ("device", "virtio-net-pci,netdev=net11"),
        ("device", "piix3-usb-uhci"),
        ("device", "usb-kbd"),
        ("device", "i6300esb"),
        ("action", "watchdog=poweroff"),
    ],
};

/// The same for the board q35, whose own controller takes the SATA disk.
pub const Q35: Devices = Devices {
    disks: &["sata", "virtio", "nvme"],
    options: &[
        ("device", "ide-hd,drive=sata,bus=ide.0"),
        ("device", "virtio-blk-pci,drive=virtio"),
        ("device", "nvme,drive=nvme,serial=nvme"),
        ("netdev", NETWORK_10),
        ("device", "e1000e,netdev=net10"),
        ("netdev", NETWORK_11),
        ("device", "virtio-net-pci,netdev=net11"),
        ("device", "qemu-xhci"),
        ("device", "usb-kbd"),
    ],
};

/// Disks that dom0 serves to its guests: these do the copying.
pub const SERVED: Devices = Devices {
    disks: &["virtio", "sata"],
    options: &[
        ("device", "virtio-blk-pci,drive=virtio"),
        ("device", "ich9-ahci,id=ahci"),
        ("device", "ide-hd,drive=sata,bus=ahci.0"),
    ],
};

/// What `guest/bench-devices.sh` measures: disks that answer at once and keep nothing, each at its place on the bus.
pub const MEASURED: Devices = Devices {
    disks: &[],
    options: &[
        ("drive", "if=none,id=nvme,driver=null-co,size=1G"),
        ("device", "nvme,addr=10,drive=nvme,serial=nvme"),
        ("drive", "if=none,id=msix,driver=null-co,size=1G"),
        ("device", "virtio-blk-pci,addr=11,drive=msix"),
        ("drive", "if=none,id=line,driver=null-co,size=1G"),
        ("device", "virtio-blk-pci,addr=12,vectors=0,drive=line"),
        ("drive", "if=none,id=sata,driver=null-co,size=1G"),
        ("device", "ich9-ahci,id=ahci,addr=13"),
        ("device", "ide-hd,drive=sata,bus=ahci.0"),
        ("netdev", NETWORK_10),
        ("device", "e1000,netdev=net10"),
        ("netdev", NETWORK_11),
        ("device", "virtio-net-pci,netdev=net11"),
    ],
};

/// Functions with tables of messages, for a kernel that drives none of them.
pub const MESSAGES: Devices = Devices {
    disks: &[],
    options: &[
        ("device", "nvme,serial=nvme"),
        ("device", "virtio-rng-pci"),
        ("device", "e1000e"),
        ("device", "qemu-xhci"),
    ],
};

/// Devices that are made to misbehave: huge registers, and a line that its network card shares.
pub const BAD: Devices = Devices {
    disks: &["nvme"],
    options: &[
        ("device", "pci-testdev,addr=0x5,membar=64G"),
        ("object", "memory-backend-ram,id=shared,size=256M"),
        ("device", "ivshmem-plain,addr=0x6,memdev=shared"),
        ("device", "nvme,addr=0x7,drive=nvme,serial=nvme"),
        ("netdev", NETWORK_10),
        ("device", "e1000,addr=0x8,netdev=net10"),
        ("device", "edu,addr=0xc"),
    ],
};

/// A network whose machine 100 sends the file to whom connects to its port 80.
const NETWORK_10: &str = "user,id=net10,net=10.0.10.0/24,\
    guestfwd=tcp:10.0.10.100:80-cmd:cat DIR/served";
const NETWORK_11: &str = "user,id=net11,net=10.0.11.0/24,\
    guestfwd=tcp:10.0.11.100:80-cmd:cat DIR/served";
