//! I/O ports of a domain: which it may touch, and the few that are shared between domains and us.
//!
//! Every access of a PV guest traps. What it may touch goes to the hardware; elsewhere reads give all
//! ones and writes are dropped, as where no device answers. Index and data pairs (PCI configuration,
//! CMOS) are never driven by two parties at once: each domain has its own index, and the pair is
//! accessed under one lock that the hypervisor's own code takes as well.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use arrayvec::ArrayVec;
use xen_abi::errno::Errno;

use crate::base::lock::{Mutex, RwLock, rank};
use crate::domain::Rights;

#[cfg(test)]
mod tests;

/// PIT mode and command register.
const PIT_COMMAND: u16 = 0x43;
/// CMOS index; bit 7 disables NMIs.
const CMOS_INDEX: u16 = 0x70;
/// CMOS data.
const CMOS_DATA: u16 = 0x71;
/// Edge or level choice of the interrupt controllers.
const ELCR: u16 = 0x4d0;
/// PCI configuration address.
const PCI_ADDRESS: u16 = 0xcf8;
/// Reset control of many chipsets; lies among the bytes of the configuration address.
const RESET_CONTROL: u16 = 0xcf9;
/// PCI configuration data, four bytes.
const PCI_DATA: u16 = 0xcfc;
/// Set in the configuration address when data accesses are configuration cycles (PCI 3.0, 3.2.2.3.2).
const PCI_ENABLE: u32 = 1 << 31;
/// Reserved; on some processors the upper bits of a register above 255, of which nobody here knows whether that is
/// turned on.
const PCI_RESERVED: u32 = 0x7f << 24;
/// Ranges that a map can hold.
const MAX_RANGES: usize = 64;

/// What the hypervisor drives on every PC, first and last port: interrupt controllers, the interrupt
/// mode register, PIT counters 0 and 1.
const OURS: [(u16, u16); 4] = [(0x20, 0x21), (0x22, 0x23), (0x40, 0x41), (0xa0, 0xa1)];

/// Size of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by size")]
pub enum Width {
    Byte,
    Word,
    Dword,
}

impl Width {
    /// Number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// All ones in this size.
    #[must_use]
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

/// The I/O space of the machine.
pub trait PortBus {
    /// IN; the upper bits of smaller sizes are zero.
    fn port_in(&self, port: u16, width: Width) -> u32;
    /// OUT.
    fn port_out(&self, port: u16, width: Width, value: u32);
    /// A domain's write to PCI configuration space, see [`SharedPorts::config_write`]: made as far as the domain may.
    fn guest_config_write(
        &self,
        shared: &SharedPorts,
        (address, lane): (u32, u16),
        width: Width,
        value: u32,
    ) where
        Self: Sized,
    {
        shared.config_write(self, address, lane, width, value);
    }
}

/// Locks of the index and data pairs of the machine: one value for all domains and for ourselves.
pub struct SharedPorts {
    config: Mutex<()>,
    cmos: Mutex<()>,
}

impl Default for SharedPorts {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedPorts {
    /// Nobody has the pairs.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            config: Mutex::new(rank::PORT_PAIR, ()),
            cmos: Mutex::new(rank::PORT_PAIR, ()),
        }
    }

    /// Reads PCI configuration space at `address` as written to port 0xcf8; `lane` is the first byte
    /// in the four of the data port.
    pub fn config_read<B: PortBus>(&self, bus: &B, address: u32, lane: u16, width: Width) -> u32 {
        let _pair = self.config.lock();
        bus.port_out(PCI_ADDRESS, Width::Dword, address);
        bus.port_in(PCI_DATA + (lane & 3), width)
    }

    /// Writes PCI configuration space, see `config_read`.
    pub fn config_write<B: PortBus>(
        &self,
        bus: &B,
        address: u32,
        lane: u16,
        width: Width,
        value: u32,
    ) {
        let _pair = self.config.lock();
        bus.port_out(PCI_ADDRESS, Width::Dword, address);
        bus.port_out(PCI_DATA + (lane & 3), width, value);
    }

    /// Reads a CMOS register (0-127); NMIs stay enabled.
    pub fn cmos_read<B: PortBus>(&self, bus: &B, index: u8) -> u8 {
        let _pair = self.cmos.lock();
        bus.port_out(CMOS_INDEX, Width::Byte, u32::from(index & 0x7f));
        bus.port_in(CMOS_DATA, Width::Byte) as u8
    }

    /// Writes a CMOS register (0-127); NMIs stay enabled.
    pub fn cmos_write<B: PortBus>(&self, bus: &B, index: u8, value: u8) {
        let _pair = self.cmos.lock();
        bus.port_out(CMOS_INDEX, Width::Byte, u32::from(index & 0x7f));
        bus.port_out(CMOS_DATA, Width::Byte, u32::from(value));
    }
}

/// First and last port of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    first: u16,
    last: u16,
}

/// How one byte-sized port is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Denied,
    Plain,
    ReadOnly,
    PitCommand,
    CmosIndex,
    CmosData,
}

/// Which ports a domain may touch, and its own copies of the index registers.
pub struct PortMap {
    /// Sorted, apart from each other by at least one port.
    allowed: RwLock<ArrayVec<Range, MAX_RANGES>>,
    config_address: AtomicU32,
    cmos_index: AtomicU8,
}

impl PortMap {
    /// The ports that go with the rights: all but ours for the control domain, none for a guest.
    #[must_use]
    pub fn new(rights: Rights) -> Self {
        let mut allowed = ArrayVec::new();
        if rights == Rights::Control {
            let mut first = 0;
            for (from, to) in OURS {
                if first < from {
                    allowed.push(Range {
                        first,
                        last: from - 1,
                    });
                }
                first = to + 1;
            }
            allowed.push(Range {
                first,
                last: u16::MAX,
            });
        }
        Self {
            allowed: RwLock::new(rank::PORT_MAP, allowed),
            config_address: AtomicU32::new(0),
            cmos_index: AtomicU8::new(0),
        }
    }

    /// Whether all ports from `first` to `last` are the domain's.
    #[must_use]
    pub fn permits(&self, first: u16, last: u16) -> bool {
        let allowed = self.allowed.read();
        let after = allowed.partition_point(|r| r.first <= first);
        after
            .checked_sub(1)
            .and_then(|i| allowed.get(i))
            .is_some_and(|r| last <= r.last)
    }

    /// Gives the domain the ports from `first` to `last`.
    ///
    /// # Errors
    /// `EINVAL` for a range that ends before it begins, `ENOMEM` when the ranges are too scattered.
    pub fn permit(&self, first: u16, last: u16) -> Result<(), Errno> {
        if first > last {
            return Err(Errno::EINVAL);
        }
        let mut allowed = self.allowed.write();
        let touches = |r: &Range| {
            u32::from(r.first) <= u32::from(last) + 1 && u32::from(first) <= u32::from(r.last) + 1
        };
        let joined = allowed
            .iter()
            .filter(|r| touches(r))
            .fold(Range { first, last }, |sum, r| Range {
                first: sum.first.min(r.first),
                last: sum.last.max(r.last),
            });
        let mut ranges: ArrayVec<Range, MAX_RANGES> =
            allowed.iter().copied().filter(|r| !touches(r)).collect();
        let at = ranges.partition_point(|r| r.first < joined.first);
        ranges.try_insert(at, joined).map_err(|_| Errno::ENOMEM)?;
        *allowed = ranges;
        Ok(())
    }

    /// Takes the ports from `first` to `last` away: of a guest, or what the hypervisor drives itself
    /// (its console's UART).
    ///
    /// # Errors
    /// As `permit`.
    pub fn deny(&self, first: u16, last: u16) -> Result<(), Errno> {
        if first > last {
            return Err(Errno::EINVAL);
        }
        let mut allowed = self.allowed.write();
        let mut ranges = ArrayVec::<Range, MAX_RANGES>::new();
        for range in allowed.iter() {
            let below = first.checked_sub(1).map(|end| Range {
                first: range.first,
                last: range.last.min(end),
            });
            let above = last.checked_add(1).map(|start| Range {
                first: range.first.max(start),
                last: range.last,
            });
            let whole = range.last < first || range.first > last;
            let parts = if whole {
                [Some(*range), None]
            } else {
                [below, above]
            };
            for part in parts.into_iter().flatten().filter(|p| p.first <= p.last) {
                ranges.try_push(part).map_err(|_| Errno::ENOMEM)?;
            }
        }
        *allowed = ranges;
        Ok(())
    }

    /// A guest's IN.
    pub fn read<B: PortBus>(&self, bus: &B, shared: &SharedPorts, port: u16, width: Width) -> u32 {
        if port == PCI_ADDRESS && width == Width::Dword {
            return self.config_address.load(Ordering::Relaxed);
        }
        if let Some((address, lane)) = self.config_cycle(port, width) {
            return address.map_or(width.mask(), |a| shared.config_read(bus, a, lane, width));
        }
        if self.is_plain(port, width) {
            return bus.port_in(port, width) & width.mask();
        }
        (0..width.bytes()).fold(0, |value, byte| {
            let at = port.checked_add(byte);
            let part = at.map_or(0xff, |p| self.read_byte(bus, shared, p, width));
            value | u32::from(part) << (8 * byte)
        })
    }

    /// A guest's OUT.
    pub fn write<B: PortBus>(
        &self,
        bus: &B,
        shared: &SharedPorts,
        port: u16,
        width: Width,
        value: u32,
    ) {
        let value = value & width.mask();
        if port == PCI_ADDRESS && width == Width::Dword {
            // The low two bits are hard-wired to zero.
            self.config_address.store(value & !3, Ordering::Relaxed);
        } else if let Some((address, lane)) = self.config_cycle(port, width) {
            if let Some(address) = address {
                bus.guest_config_write(shared, (address, lane), width, value);
            }
        } else if self.is_plain(port, width) {
            bus.port_out(port, width, value);
        } else {
            for byte in 0..width.bytes() {
                if let Some(at) = port.checked_add(byte) {
                    self.write_byte(bus, shared, at, width, (value >> (8 * byte)) as u8);
                }
            }
        }
    }

    /// Whether an access lies in the configuration data port; then the address to use, if it makes a
    /// cycle at all, and the first byte.
    fn config_cycle(&self, port: u16, width: Width) -> Option<(Option<u32>, u16)> {
        let lane = port
            .checked_sub(PCI_DATA)
            .filter(|lane| lane + width.bytes() <= 4)?;
        let address = self.config_address.load(Ordering::Relaxed);
        let cycle = address & (PCI_ENABLE | PCI_RESERVED) == PCI_ENABLE
            && self.permits(PCI_ADDRESS, PCI_DATA + 3);
        Some((cycle.then_some(address), lane))
    }

    /// Whether an access may go to the hardware as it is.
    fn is_plain(&self, port: u16, width: Width) -> bool {
        let Some(last) = port.checked_add(width.bytes() - 1) else {
            return false;
        };
        self.permits(port, last) && (port..=last).all(|p| self.treatment(p, width) == Place::Plain)
    }

    /// How a permitted port is treated in an access of that size.
    fn treatment(&self, port: u16, width: Width) -> Place {
        match port {
            PIT_COMMAND => Place::PitCommand,
            CMOS_INDEX => Place::CmosIndex,
            CMOS_DATA => Place::CmosData,
            // Which lines are level-triggered is ours to choose, but good to know.
            ELCR | 0x4d1 => Place::ReadOnly,
            RESET_CONTROL if width == Width::Byte => Place::Plain,
            // Only whole double words reach the configuration address.
            PCI_ADDRESS..=0xcff => Place::Denied,
            _ => Place::Plain,
        }
    }

    fn place(&self, port: u16, width: Width) -> Place {
        if self.permits(port, port) {
            self.treatment(port, width)
        } else {
            Place::Denied
        }
    }

    fn read_byte<B: PortBus>(&self, bus: &B, shared: &SharedPorts, port: u16, width: Width) -> u8 {
        match self.place(port, width) {
            Place::Plain | Place::ReadOnly => bus.port_in(port, Width::Byte) as u8,
            Place::CmosIndex => self.cmos_index.load(Ordering::Relaxed),
            Place::CmosData => shared.cmos_read(bus, self.cmos_index.load(Ordering::Relaxed)),
            // The command register cannot be read back.
            Place::Denied | Place::PitCommand => 0xff,
        }
    }

    fn write_byte<B: PortBus>(
        &self,
        bus: &B,
        shared: &SharedPorts,
        port: u16,
        width: Width,
        value: u8,
    ) {
        match self.place(port, width) {
            Place::Plain => bus.port_out(port, Width::Byte, u32::from(value)),
            Place::CmosIndex => self.cmos_index.store(value, Ordering::Relaxed),
            Place::CmosData => {
                shared.cmos_write(bus, self.cmos_index.load(Ordering::Relaxed), value)
            }
            Place::PitCommand => {
                if let Some(command) = counter_2_part(value) {
                    bus.port_out(port, Width::Byte, u32::from(command));
                }
            }
            Place::Denied | Place::ReadOnly => {}
        }
    }
}

/// What is left of a PIT command when counters 0 and 1 are taken out (82C54 data sheet, control word
/// and read-back command).
fn counter_2_part(command: u8) -> Option<u8> {
    const READ_BACK: u8 = 3;
    match command >> 6 {
        2 => Some(command),
        READ_BACK if command & 1 << 3 != 0 => Some(command & !0b110),
        _ => None,
    }
}
