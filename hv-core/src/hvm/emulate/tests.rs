//! The emulator: lengths and operands against iced-x86, effects against the processor, outcomes by hand.

use std::collections::BTreeMap;

use super::*;
use crate::hvm::walk::{cr0, cr4, efer};

mod decode;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod native;
mod outcomes;

/// Bytes by guest physical address, all of it "RAM"; what was never written is zero.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Bytes {
    pub bytes: BTreeMap<u64, u8>,
    /// Accesses in order: address, bytes, written?
    pub log: Vec<(u64, u64, bool)>,
    /// Accesses to ports in order: number, bytes, what was written.
    pub ports: Vec<(u16, u64, Option<u64>)>,
}

impl Bytes {
    pub fn get(&self, gpa: u64, width: Width) -> u64 {
        (0..width.bytes()).fold(0, |value, i| {
            let byte = self.bytes.get(&gpa.wrapping_add(i)).copied().unwrap_or(0);
            value | u64::from(byte) << (8 * i)
        })
    }

    pub fn put(&mut self, gpa: u64, width: Width, value: u64) {
        for i in 0..width.bytes() {
            self.bytes
                .insert(gpa.wrapping_add(i), (value >> (8 * i)) as u8);
        }
    }
}

impl GuestPhysical for Bytes {
    fn load(&self, gpa: u64) -> Option<u64> {
        Some(self.get(gpa, Width::Qword))
    }

    fn compare_exchange(&self, _: u64, _: u64, _: u64) -> Option<bool> {
        // Tables of tests have all their bits set.
        None
    }
}

impl Bus for Bytes {
    fn read(&mut self, gpa: u64, width: Width) -> u64 {
        assert!(gpa % 4096 + width.bytes() <= 4096, "over a page's end");
        self.log.push((gpa, width.bytes(), false));
        self.get(gpa, width)
    }

    fn write(&mut self, gpa: u64, width: Width, value: u64) {
        assert!(gpa % 4096 + width.bytes() <= 4096, "over a page's end");
        assert_eq!(value & !width.mask(), 0);
        self.log.push((gpa, width.bytes(), true));
        self.put(gpa, width, value);
    }

    fn input(&mut self, port: u16, width: Width) -> u64 {
        self.ports.push((port, width.bytes(), None));
        0x8877_6655_4433_2211 & width.mask()
    }

    fn output(&mut self, port: u16, width: Width, value: u64) {
        self.ports.push((port, width.bytes(), Some(value)));
    }
}

/// Kernel code without paging.
pub fn flat(code: CodeSize) -> State {
    State {
        gpr: [0; 16],
        rip: 0x1000,
        rflags: 2,
        code,
        cpl: 0,
        bases: [0; 6],
        paging: PagingMode::default(),
    }
}

/// Kernel code in 64-bit mode over tables at 1000 to 4000, whose last maps its first pages as given.
pub fn paged(bus: &mut Bytes, entries: &[u64]) -> State {
    for table in 1..4_u64 {
        bus.put(table << 12, Width::Qword, (table + 1) << 12 | 0x27);
    }
    for (slot, entry) in (0..).zip(entries) {
        bus.put(0x4000 + slot * 8, Width::Qword, *entry);
    }
    State {
        paging: PagingMode {
            cr0: cr0::PE | cr0::PG | cr0::WP,
            cr3: 0x1000,
            cr4: cr4::PAE,
            efer: efer::LMA | efer::NXE,
            address_bits: 48,
            ..PagingMode::default()
        },
        ..flat(CodeSize::Bits64)
    }
}

pub fn run(bytes: &[u8], state: &mut State, bus: &mut Bytes) -> Outcome {
    emulate(&InsnBytes::given(bytes), state, bus)
}
