//! ACPI tables of our own for the emulated machine, whole or broken.
//!
//! QEMU's `-acpitable` sets length and checksum right whatever it is given. So the machine's own
//! tables are switched off and the firmware is handed these by the interface that QEMU uses itself:
//! `etc/acpi/tables` and `etc/acpi/rsdp`, and a script `etc/table-loader` that says where they go and
//! which pointers and checksums to fill in.

use std::io;
use std::path::Path;
use std::process::Command;

/// The machine's ACPI tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// Those of the emulator.
    Usual,
    /// None; for this the board must be `pc,acpi=off`, as for those that follow.
    None,
    /// A MADT with two CPUs and the I/O APIC, nothing wrong.
    Whole,
    /// The MADT's checksum is wrong.
    WrongChecksum,
    /// The MADT's header says fewer bytes than the header itself has.
    CutLength,
    /// The MADT's header says 4 GiB less one byte.
    EndlessLength,
    /// The second entry of the MADT has no length.
    BadEntry,
    /// The pointer in the list of tables leads nowhere.
    WildPointer,
    /// The list of tables lists itself.
    Cycle,
    /// Nothing wrong, but they lie above 4 GiB; the machine has RAM there.
    Far,
}

/// Bytes of a table's header.
const HEADER: usize = 36;
/// Offsets in the header.
const LENGTH: usize = 4;
const CHECKSUM: usize = 9;
/// The list of tables, with one pointer, comes first in the file.
const LIST_LEN: usize = HEADER + 4;
const MADT: usize = LIST_LEN;
/// Entries in the MADT begin after its two words.
const ENTRIES: usize = MADT + HEADER + 8;
/// Bytes of an entry for a CPU.
const CPU_LEN: usize = 8;
/// Bytes of the first version of the root pointer, and where its parts are.
const ROOT_LEN: usize = 20;
const ROOT_CHECKSUM: usize = 8;
const ROOT_POINTER: usize = 16;
/// Where no memory is.
const NOWHERE: u32 = 0xf000_0000;

/// Names of the files as the firmware knows them.
const TABLES_FILE: &str = "etc/acpi/tables";
const ROOT_FILE: &str = "etc/acpi/rsdp";
const SCRIPT_FILE: &str = "etc/table-loader";

impl Tables {
    /// Adds what hands the tables to the firmware; files go into `folder`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn give(self, qemu: &mut Command, folder: &Path) -> io::Result<()> {
        if matches!(self, Self::Usual | Self::None) {
            return Ok(());
        }
        if self == Self::Far {
            return give_far(qemu, folder);
        }
        for (name, bytes) in [
            (TABLES_FILE, self.tables()),
            (ROOT_FILE, root()),
            (SCRIPT_FILE, self.script()),
        ] {
            let place = folder.join(name.replace('/', "-"));
            std::fs::write(&place, bytes)?;
            let value = format!("name={name},file={}", place.display());
            qemu.args(["-fw_cfg", &value]);
        }
        Ok(())
    }

    /// The list of tables and the MADT.
    fn tables(self) -> Vec<u8> {
        let first = match self {
            Self::WildPointer => NOWHERE,
            Self::Cycle => 0,
            _ => MADT as u32,
        };
        let mut file = table(b"RSDT", &first.to_le_bytes());
        file.extend(madt());
        let length = MADT + LENGTH..MADT + LENGTH + 4;
        match self {
            Self::CutLength => file[length].copy_from_slice(&(HEADER as u32 - 1).to_le_bytes()),
            Self::EndlessLength => file[length].copy_from_slice(&u32::MAX.to_le_bytes()),
            Self::BadEntry => file[ENTRIES + CPU_LEN + 1] = 0,
            _ => {}
        }
        file
    }

    /// What the firmware does with the files.
    fn script(self) -> Vec<u8> {
        const HIGH: u8 = 1;
        const LOW: u8 = 2;
        let end = self.tables().len();
        let mut script = Script::default();
        script.place(TABLES_FILE, 64, HIGH);
        script.place(ROOT_FILE, 16, LOW);
        if self != Self::WildPointer {
            script.point(TABLES_FILE, TABLES_FILE, HEADER);
        }
        script.sum(TABLES_FILE, CHECKSUM, 0..LIST_LEN);
        script.sum(TABLES_FILE, MADT + CHECKSUM, MADT..end);
        if self == Self::WrongChecksum {
            // The sum of all but the signature, when the checksum is right already: off by that.
            script.sum(TABLES_FILE, MADT + CHECKSUM, MADT + LENGTH..end);
        }
        script.point(ROOT_FILE, TABLES_FILE, ROOT_POINTER);
        script.sum(ROOT_FILE, ROOT_CHECKSUM, 0..ROOT_LEN);
        script.0
    }
}

/// The MADT: two CPUs and the I/O APIC.
fn madt() -> Vec<u8> {
    let mut madt = Vec::new();
    madt.extend(0xfee0_0000_u32.to_le_bytes());
    madt.extend(1_u32.to_le_bytes());
    for cpu in [0, 1] {
        madt.extend([0, CPU_LEN as u8, cpu, cpu, 1, 0, 0, 0]);
    }
    madt.extend([1, 12, 0, 0]);
    madt.extend(0xfec0_0000_u32.to_le_bytes());
    madt.extend(0_u32.to_le_bytes());
    table(b"APIC", &madt)
}

/// Puts the tables above 4 GiB before the firmware starts, which only has to place the root pointer.
fn give_far(qemu: &mut Command, folder: &Path) -> io::Result<()> {
    /// Where the list of tables is, and where the MADT, in another GiB.
    const LIST: u64 = 0x1_2345_6040;
    const TABLE: u64 = 0x1_7fff_fff0;
    let mut list = table(b"XSDT", &TABLE.to_le_bytes());
    let mut madt = madt();
    balance(&mut list, CHECKSUM);
    balance(&mut madt, CHECKSUM);
    for (name, bytes, at) in [("far-list", list, LIST), ("far-madt", madt, TABLE)] {
        let place = folder.join(name);
        std::fs::write(&place, bytes)?;
        let file = place.display();
        let value = format!("loader,file={file},addr={at:#x},force-raw=on");
        qemu.args(["-device", &value]);
    }
    let mut root = root();
    root[15] = 2;
    root.extend(36_u32.to_le_bytes());
    root.extend(LIST.to_le_bytes());
    root.extend([0; 4]);
    balance(&mut root[..ROOT_LEN], ROOT_CHECKSUM);
    balance(&mut root, 32);
    let mut script = Script::default();
    script.place(ROOT_FILE, 16, 2);
    for (name, bytes) in [(ROOT_FILE, root), (SCRIPT_FILE, script.0)] {
        let place = folder.join(name.replace('/', "-"));
        std::fs::write(&place, bytes)?;
        let value = format!("name={name},file={}", place.display());
        qemu.args(["-fw_cfg", &value]);
    }
    Ok(())
}

/// Sets a byte so that all add up to 0.
fn balance(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = bytes[at].wrapping_sub(sum);
}

/// A table with its header; the checksum is left to the firmware.
fn table(signature: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend(((HEADER + content.len()) as u32).to_le_bytes());
    table.extend([1, 0]);
    table.extend(b"TESTERBADINPUT");
    table.extend(1_u32.to_le_bytes());
    table.extend(b"TEST");
    table.extend(1_u32.to_le_bytes());
    table.extend(content);
    table
}

/// The root pointer: to offset 0 of the tables.
fn root() -> Vec<u8> {
    let mut root = b"RSD PTR \0TESTER\0".to_vec();
    root.resize(ROOT_LEN, 0);
    root
}

/// Commands of `etc/table-loader`, 128 bytes each (QEMU's interface to its firmwares).
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    /// Puts a file into memory.
    fn place(&mut self, file: &str, align: u32, zone: u8) {
        self.command(1, &[file], |fields| {
            fields.extend(align.to_le_bytes());
            fields.push(zone);
        });
    }

    /// Adds the address of `target` to the 32-bit pointer at `offset` of `file`.
    fn point(&mut self, file: &str, target: &str, offset: usize) {
        self.command(2, &[file, target], |fields| {
            fields.extend((offset as u32).to_le_bytes());
            fields.push(4);
        });
    }

    /// Sets the byte at `offset` so that `bytes` add up to 0.
    fn sum(&mut self, file: &str, offset: usize, bytes: std::ops::Range<usize>) {
        self.command(3, &[file], |fields| {
            for word in [offset, bytes.start, bytes.len()] {
                fields.extend((word as u32).to_le_bytes());
            }
        });
    }

    fn command(&mut self, number: u32, names: &[&str], rest: impl FnOnce(&mut Vec<u8>)) {
        let mut fields = number.to_le_bytes().to_vec();
        for name in names {
            let end = fields.len() + 56;
            fields.extend(name.as_bytes());
            fields.resize(end, 0);
        }
        rest(&mut fields);
        fields.resize(128, 0);
        self.0.extend(fields);
    }
}
