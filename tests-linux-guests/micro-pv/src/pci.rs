//! Configuration space of PCI functions, by the two ports, which the hypervisor emulates.

use core::arch::asm;

/// A function of segment 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its bus.
    pub bus: u8,
    /// Its device and function.
    pub devfn: u8,
}

/// Functions that are there, with a capability of this kind, and where that is.
pub fn with_capability(kind: u8) -> impl Iterator<Item = (Function, u16)> {
    let all = (0..=255).map(|devfn| Function { bus: 0, devfn });
    all.filter_map(move |f| Some((f, f.capability(kind)?)))
}

impl Function {
    fn select(self, register: u16) -> u16 {
        let address = 1 << 31
            | u32::from(self.bus) << 16
            | u32::from(self.devfn) << 8
            | u32::from(register & 0xfc);
        // SAFETY: selects a register; nothing of ours depends on it.
        unsafe { asm!("out dx, eax", in("dx") 0xcf8_u16, in("eax") address) };
        0xcfc + (register & 3)
    }

    /// Reads four bytes.
    pub fn read(self, register: u16) -> u32 {
        let port = self.select(register);
        let value;
        // SAFETY: a read of configuration space.
        unsafe { asm!("in eax, dx", in("dx") port, out("eax") value) };
        value
    }

    /// Writes two bytes.
    pub fn write_word(self, register: u16, value: u16) {
        let port = self.select(register);
        // SAFETY: the functions have no driver, so their DMA is off.
        unsafe { asm!("out dx, ax", in("dx") port, in("ax") value) };
    }

    fn capability(self, kind: u8) -> Option<u16> {
        if self.read(0) == !0 || self.read(4) >> 20 & 1 == 0 {
            return None;
        }
        let mut at = self.read(0x34) as u16 & 0xfc;
        for _ in 0..48 {
            if at < 0x40 {
                return None;
            }
            let head = self.read(at);
            if head as u8 == kind {
                return Some(at);
            }
            at = (head >> 8) as u16 & 0xfc;
        }
        None
    }

    /// Where a BAR of memory below 4 GiB is.
    pub fn bar(self, index: u16) -> u64 {
        u64::from(self.read(0x10 + 4 * index) & !0xf)
    }
}
