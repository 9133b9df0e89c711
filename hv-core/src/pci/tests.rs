//! Fake functions on a fake bus.

mod registers;

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;

/// A function: its configuration space, and which bits of it can be written.
#[derive(Clone)]
pub struct Function {
    pub space: [u8; 256],
    pub writable: [u8; 256],
}

impl Function {
    /// One with a vendor and nothing else.
    pub fn plain() -> Self {
        let mut new = Self {
            space: [0; 256],
            writable: [0; 256],
        };
        new.space[..4].copy_from_slice(&[0x36, 0x1b, 0x10, 0]);
        new.writable[4..6].copy_from_slice(&[7, 4]);
        new
    }

    pub fn put(&mut self, register: usize, value: u32) {
        self.space[register..register + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub fn get(&self, register: usize) -> u32 {
        u32::from_le_bytes(self.space[register..register + 4].try_into().unwrap())
    }

    fn allow(&mut self, register: usize, bits: u32) {
        self.writable[register..register + 4].copy_from_slice(&bits.to_le_bytes());
    }

    /// A BAR of memory at an address; its size is a power of two.
    pub fn with_bar(mut self, index: usize, base: u32, size: u32) -> Self {
        self.put(0x10 + 4 * index, base);
        self.allow(0x10 + 4 * index, !(size - 1));
        self.space[4] |= 2;
        self
    }

    /// Puts a capability in front of the list.
    fn link(&mut self, at: usize, id: u8) {
        self.space[6] |= 0x10;
        self.space[at] = id;
        self.space[at + 1] = self.space[0x34];
        self.space[0x34] = at as u8;
    }

    /// Messages without a table: 64-bit address; the masks as said by bit 8 of `control`.
    pub fn with_msi(mut self, at: usize, control: u16) -> Self {
        self.link(at, 5);
        self.space[at + 2..at + 4].copy_from_slice(&(control | 0x80).to_le_bytes());
        self.allow(at, 0x71 << 16);
        for offset in [4, 8, 12, 16] {
            self.allow(at + offset, !0);
        }
        self
    }

    /// Messages with a table at the start of a BAR, the pending bits at an offset of 0x800.
    pub fn with_msix(mut self, at: usize, entries: u16, bar: u32) -> Self {
        self.link(at, 0x11);
        self.space[at + 2..at + 4].copy_from_slice(&(entries - 1).to_le_bytes());
        self.allow(at, 0xc000 << 16);
        self.put(at + 4, bar);
        self.put(at + 8, bar | 0x800);
        self
    }
}

/// The bus, and registers in memory.
#[derive(Default)]
pub struct Bus {
    functions: Mutex<BTreeMap<PciAddress, Function>>,
    memory: Mutex<BTreeMap<u64, u32>>,
    /// First byte that is RAM or ours, and the byte behind the last.
    pub taken: Mutex<Vec<(u64, u64)>>,
}

/// Device 3 on bus 0.
pub const DEVICE: PciAddress = PciAddress {
    segment: 0,
    bus: 0,
    devfn: 0x18,
};

impl Bus {
    pub fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    pub fn with(function: Function) -> &'static Self {
        let bus = Self::new();
        bus.plug(DEVICE, function);
        bus
    }

    pub fn plug(&self, at: PciAddress, function: Function) {
        self.functions.lock().unwrap().insert(at, function);
    }

    pub fn function(&self, at: PciAddress) -> Function {
        self.functions.lock().unwrap()[&at].clone()
    }

    /// Four bytes in memory.
    pub fn word(&self, at: u64) -> u32 {
        self.memory.lock().unwrap().get(&at).copied().unwrap_or(0)
    }

    /// Whether anything was ever written there.
    pub fn touched(&self, range: core::ops::Range<u64>) -> bool {
        self.memory.lock().unwrap().range(range).next().is_some()
    }
}

impl PciHost for Bus {
    fn config_read(&self, at: PciAddress, register: u16, bytes: u8) -> u32 {
        let register = usize::from(register);
        let functions = self.functions.lock().unwrap();
        let byte = |i| match functions.get(&at) {
            Some(f) if register + i < 256 => u32::from(f.space[register + i]) << (8 * i),
            _ => 0xff_u32 << (8 * i),
        };
        (0..usize::from(bytes)).map(byte).sum()
    }

    fn config_write(&self, at: PciAddress, register: u16, bytes: u8, value: u32) {
        let mut functions = self.functions.lock().unwrap();
        let Some(function) = functions.get_mut(&at) else {
            return;
        };
        for i in 0..usize::from(bytes) {
            let at = usize::from(register) + i;
            if at < 256 {
                let (new, mask) = ((value >> (8 * i)) as u8, function.writable[at]);
                function.space[at] = function.space[at] & !mask | new & mask;
            }
        }
    }

    fn register_read(&self, at: PhysAddr) -> u32 {
        assert!(!self.is_taken(at, 4), "read of {at:?}");
        self.word(at.0)
    }

    fn register_write(&self, at: PhysAddr, bytes: u8, value: u64) {
        assert!(!self.is_taken(at, bytes.into()), "write to {at:?}");
        assert!(at.0.is_multiple_of(u64::from(bytes)));
        let mut memory = self.memory.lock().unwrap();
        let (word, shift) = (at.0 & !3, 8 * (at.0 & 3));
        let mask = (ones(bytes) << shift) as u32;
        let slot = memory.entry(word).or_default();
        *slot = *slot & !mask | (value << shift) as u32 & mask;
        if bytes == 8 {
            memory.insert(word + 4, (value >> 32) as u32);
        }
    }

    fn is_taken(&self, first: PhysAddr, len: u64) -> bool {
        let taken = self.taken.lock().unwrap();
        taken.iter().any(|t| first.0 < t.1 && t.0 < first.0 + len)
    }
}
