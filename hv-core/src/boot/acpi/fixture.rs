//! Tables built by hand for tests: those of the PC that the emulator models, and a larger machine.

use crate::boot::phys::FakeMem;

/// A table in the making.
pub(super) struct Builder(Vec<u8>);

impl Builder {
    /// A table with its header; revision 1 unless changed.
    pub(super) fn new(signature: &[u8; 4]) -> Self {
        let mut bytes = signature.to_vec();
        bytes.extend([0, 0, 0, 0, 1, 0]);
        bytes.extend(b"BOCHS BXPC    ");
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(b"BXPC");
        bytes.extend(1_u32.to_le_bytes());
        Self(bytes)
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Zeros up to a length.
    pub(super) fn pad(mut self, len: usize) -> Self {
        self.0.resize(len, 0);
        self
    }

    /// Overwrites bytes.
    pub(super) fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The table with length and checksum.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[4..8].copy_from_slice(&len.to_le_bytes());
        self.sealed()
    }

    /// The table with its checksum only.
    pub(super) fn sealed(mut self) -> Vec<u8> {
        self.0[9] = 0;
        self.0[9] = checksum(&self.0);
        self.0
    }
}

/// The byte that makes the sum 0.
pub(super) fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte))
}

/// A root pointer of ACPI 1.0.
pub(super) fn rsdp_v1(rsdt: u32) -> Vec<u8> {
    let mut bytes = b"RSD PTR \0BOCHS \0".to_vec();
    bytes.extend(rsdt.to_le_bytes());
    bytes[8] = checksum(&bytes);
    bytes
}

/// A root pointer of ACPI 2.0.
pub(super) fn rsdp_v2(rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut bytes = b"RSD PTR \0BOCHS \x02".to_vec();
    bytes.extend(rsdt.to_le_bytes());
    bytes[8] = checksum(&bytes);
    bytes.extend(36_u32.to_le_bytes());
    bytes.extend(xsdt.to_le_bytes());
    bytes.extend([0; 4]);
    bytes[32] = checksum(&bytes);
    bytes
}

/// MADT entries.
pub(super) fn local_apic(uid: u8, id: u8, flags: u32) -> Vec<u8> {
    [&[0, 8, uid, id][..], &flags.to_le_bytes()].concat()
}

pub(super) fn io_apic(id: u8, address: u32, gsi: u32) -> Vec<u8> {
    [
        &[1, 12, id, 0][..],
        &address.to_le_bytes(),
        &gsi.to_le_bytes(),
    ]
    .concat()
}

pub(super) fn irq_override(irq: u8, gsi: u32, flags: u16) -> Vec<u8> {
    [
        &[2, 10, 0, irq][..],
        &gsi.to_le_bytes(),
        &flags.to_le_bytes(),
    ]
    .concat()
}

/// A MADT with these entries.
pub(super) fn madt(entries: &[Vec<u8>]) -> Builder {
    Builder::new(b"APIC")
        .u32(0xfee0_0000)
        .u32(1)
        .bytes(&entries.concat())
}

/// The entries of the emulator's MADT for two CPUs.
pub(super) fn pc_entries() -> Vec<Vec<u8>> {
    vec![
        local_apic(0, 0, 1),
        local_apic(1, 1, 1),
        io_apic(0, 0xfec0_0000, 0),
        irq_override(0, 2, 0),
        irq_override(5, 5, 13),
        irq_override(9, 9, 13),
        irq_override(10, 10, 13),
        irq_override(11, 11, 13),
        vec![4, 6, 0xff, 0, 0, 1],
    ]
}

/// The emulator's FADT, of ACPI 1.0.
pub(super) fn pc_fadt() -> Builder {
    Builder::new(b"FACP")
        .u32(0x9ffe_0000)
        .u32(0x9ffe_0040)
        .pad(116)
        .set(46, &9_u16.to_le_bytes())
        .set(56, &0x600_u32.to_le_bytes())
        .set(64, &0x604_u32.to_le_bytes())
        .set(76, &0x608_u32.to_le_bytes())
        .set(88, &[4, 2, 0, 4])
        .set(108, &[0x32])
        .set(112, &0x80a5_u32.to_le_bytes())
}

/// A generic address.
pub(super) fn address(space: u8, bits: u8, address: u64) -> Vec<u8> {
    [&[space, bits, 0, 0][..], &address.to_le_bytes()].concat()
}

pub(super) fn hpet(space: u8, base: u64) -> Builder {
    Builder::new(b"HPET")
        .u32(0x8086_a201)
        .bytes(&address(space, 0, base))
        .bytes(&[0, 0x80, 0x0c, 0])
}

pub(super) fn rsdt(tables: &[u32]) -> Vec<u8> {
    let list = Builder::new(b"RSDT");
    tables.iter().fold(list, |list, &at| list.u32(at)).finish()
}

pub(super) fn xsdt(tables: &[u64]) -> Vec<u8> {
    let list = Builder::new(b"XSDT");
    tables.iter().fold(list, |list, &at| list.u64(at)).finish()
}

pub(super) const PC_RSDP: u64 = 0xf_59d0;

/// The emulator's PC: the addresses are those of its boot log.
pub(super) fn pc() -> FakeMem {
    let mut mem = FakeMem::default();
    mem.put(PC_RSDP, &rsdp_v1(0x9ffe_1b33));
    let list = [0x9ffe_19df, 0x9ffe_1a53, 0x9ffe_1ad3, 0x9ffe_1b0b];
    mem.put(0x9ffe_1b33, &rsdt(&list));
    mem.put(0x9ffe_19df, &pc_fadt().finish());
    mem.put(0x9ffe_0040, &Builder::new(b"DSDT").pad(0x199f).finish());
    mem.put(
        0x9ffe_0000,
        &[&b"FACS"[..], &64_u32.to_le_bytes(), &[0; 56]].concat(),
    );
    mem.put(0x9ffe_1a53, &madt(&pc_entries()).finish());
    mem.put(0x9ffe_1ad3, &hpet(0, 0xfed0_0000).finish());
    mem.put(0x9ffe_1b0b, &Builder::new(b"WAET").u32(2).finish());
    mem
}

pub(super) const SERVER_RSDP: u64 = 0x7000_0000;

/// A server with 64-bit tables: x2APICs, extended power management registers, PCI segments and
/// affinities.
pub(super) fn server() -> FakeMem {
    let mut mem = FakeMem::default();
    mem.put(SERVER_RSDP, &rsdp_v2(0, 0x7000_1000));
    let list = [0x7000_2000, 0x7000_3000, 0, 0x7000_4000, 0x7000_5000];
    mem.put(0x7000_1000, &xsdt(&list));
    let x2apic = |id: u32, flags: u32| {
        let words = [id, flags, id + 1000];
        let content: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        [&[9, 16, 0, 0][..], &content].concat()
    };
    let mut entries = vec![
        [&[5, 12, 0, 0][..], &0xfee0_0000_u64.to_le_bytes()].concat(),
        local_apic(1, 2, 0),
        x2apic(0x100, 1),
        x2apic(0x101, 2),
        io_apic(8, 0xfec0_0000, 0),
        io_apic(9, 0xfec0_1000, 24),
        [&[10, 12, 5, 0][..], &[0xff; 4], &[1, 0, 0, 0]].concat(),
        [&[3, 8, 15, 0][..], &30_u32.to_le_bytes()].concat(),
        vec![0x7f, 4, 1, 2],
    ];
    entries.push(local_apic(7, 2, 1));
    mem.put(0x7000_2000, &madt(&entries).finish());
    let fadt = pc_fadt()
        .pad(268)
        .set(8, &[5])
        .set(36, &[0; 8])
        .set(112, &(1_u32 << 8 | 1 << 10).to_le_bytes())
        .set(116, &address(1, 8, 0xcf9))
        .set(128, &[6])
        .set(140, &0x7000_6000_u64.to_le_bytes())
        .set(148, &address(1, 32, 0x1800))
        .set(172, &address(1, 16, 0x1804))
        .set(208, &address(1, 32, 0x1808));
    mem.put(0x7000_3000, &fadt.finish());
    mem.put(0x7000_6000, &Builder::new(b"DSDT").finish());
    let mut mcfg = Builder::new(b"MCFG").u64(0);
    for (base, segment, first, last) in [
        (0xe000_0000_u64, 0_u8, 0, 0xff),
        (0x8_0000_0000, 1, 0x10, 0x20),
        (0xf000_0000, 2, 9, 3),
    ] {
        mcfg = mcfg.u64(base).bytes(&[segment, 0, first, last, 0, 0, 0, 0]);
    }
    mem.put(0x7000_4000, &mcfg.finish());
    let srat = Builder::new(b"SRAT")
        .u32(1)
        .u64(0)
        .bytes(&[0, 16, 2, 5, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .bytes(&[0, 16, 2, 6, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .bytes(&[1, 40, 3, 0, 0, 0, 0, 0])
        .u64(0x1_0000_0000)
        .u64(0x8000_0000)
        .u32(0)
        .u32(3)
        .u64(0)
        .bytes(&[2, 24, 0, 0, 4, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0])
        .u64(0);
    mem.put(0x7000_5000, &srat.finish());
    mem
}
