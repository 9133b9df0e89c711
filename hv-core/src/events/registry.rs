//! The event channels of one domain as a whole, and the book of which ports are taken.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use xen_abi::errno::Errno;
use xen_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;
use xen_abi::xen::NR_VIRQS;

use super::PortNumber;
use super::fifo::{EventArray, Queues};
use super::host::EventHost;
use super::port::{Binding, Port};
use super::table::{BUCKET_PORTS, PortTable, boxed};
use crate::base::lock::{Mutex, MutexGuard, rank};
use crate::base::{DomId, VcpuId};

/// Sizes fixed when a domain is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of vCPUs the domain may have.
    pub vcpus: u32,
    /// Highest port number allowed (`max_evtchn_port` of `XEN_DOMCTL_createdomain`; all ones or
    /// anything beyond the ABI's range: no limit of its own).
    pub max_port: PortNumber,
    /// Number of physical interrupts the domain may name.
    pub pirqs: u32,
}

/// The form of events a guest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Bits in `shared_info`.
    TwoLevel,
    /// Event words linked on queues.
    Fifo,
}

/// What a vCPU has of its own. Aligned so that two vCPUs never share a cache line.
#[repr(align(64))]
pub(super) struct VcpuEvents {
    /// FIFO queues; holding this also keeps the mode and the event array in place.
    pub queues: Mutex<Queues>,
    /// The single port a poll waits for, 0 for any.
    pub poll_port: AtomicU32,
    /// Port of each virtual interrupt, 0 when unbound.
    pub virqs: [AtomicU32; NR_VIRQS as usize],
}

impl VcpuEvents {
    const fn new(vcpu: VcpuId) -> Self {
        Self {
            queues: Mutex::numbered(rank::QUEUES, vcpu, Queues::new()),
            poll_port: AtomicU32::new(0),
            virqs: [const { AtomicU32::new(0) }; NR_VIRQS as usize],
        }
    }
}

/// Which ports are taken, and how far slow operations have come.
pub(super) struct Ledger {
    /// One bit for each port whose bucket exists.
    used: Vec<u64>,
    /// No port may be allocated any more.
    pub dying: bool,
    /// Next port that [`reset`](super::reset) or [`teardown`](super::teardown) looks at.
    pub cursor: PortNumber,
    /// Pages in the event array.
    pub array_pages: usize,
}

impl Ledger {
    /// Marks a port as taken.
    fn take(&mut self, number: PortNumber) {
        if let Some(word) = self.used.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    /// Whether a port is taken.
    pub fn is_taken(&self, number: PortNumber) -> bool {
        self.used
            .get(number as usize / 64)
            .is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// Marks a port as free again.
    pub fn release(&mut self, number: PortNumber) {
        if let Some(word) = self.used.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Number of ports whose bucket exists.
    pub fn known_ports(&self) -> PortNumber {
        (self.used.len() * 64) as PortNumber
    }

    /// Lowest free port at or above `from`.
    fn next_free(&self, from: PortNumber) -> Option<PortNumber> {
        let mut index = from as usize / 64;
        let mut skip = (1u64 << (from % 64)) - 1;
        loop {
            let taken = self.used.get(index)? | skip;
            if taken != !0 {
                return Some((index * 64) as PortNumber + taken.trailing_ones());
            }
            index += 1;
            skip = 0;
        }
    }
}

/// The event channels of a domain.
pub struct Events<D> {
    pub(super) ports: PortTable<D>,
    pub(super) vcpus: Box<[VcpuEvents]>,
    /// Port of each physical interrupt, 0 when unbound.
    pub(super) pirqs: Box<[AtomicU32]>,
    /// vCPUs that poll, one bit each.
    pub(super) polling: Box<[AtomicU64]>,
    pub(super) array: EventArray,
    mode: AtomicU8,
    max_port: PortNumber,
    ledger: Mutex<Ledger>,
}

impl<D: EventHost> Events<D> {
    /// No channels of domain `id`, 2-level ABI.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(id: DomId, limits: Limits) -> Result<Self, Errno> {
        let (vcpus, mut numbers) = (limits.vcpus as usize, 0..limits.vcpus);
        let events = Self {
            ports: PortTable::new(),
            vcpus: boxed(vcpus, || VcpuEvents::new(numbers.next().unwrap_or(0)))?,
            pirqs: boxed(limits.pirqs as usize, || AtomicU32::new(0))?,
            polling: boxed(vcpus.div_ceil(64), || AtomicU64::new(0))?,
            array: EventArray::new(),
            mode: AtomicU8::new(Mode::TwoLevel as u8),
            max_port: limits.max_port.min(EVTCHN_FIFO_NR_CHANNELS - 1),
            ledger: Mutex::numbered(
                rank::LEDGER,
                id.into(),
                Ledger {
                    used: Vec::new(),
                    dying: false,
                    cursor: 0,
                    array_pages: 0,
                },
            ),
        };
        let mut ledger = events.ledger.lock();
        events.grow(&mut ledger)?;
        ledger.take(0);
        drop(ledger);
        *events.port(0)?.binding.lock() = Binding::Reserved;
        Ok(events)
    }

    /// The form of events in use. Stable only while some vCPU's queues are locked.
    pub(super) fn mode(&self) -> Mode {
        if self.mode.load(Ordering::SeqCst) == Mode::Fifo as u8 {
            Mode::Fifo
        } else {
            Mode::TwoLevel
        }
    }

    /// Changes the mode; whoever still delivers in the old one holds some vCPU's queues.
    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// The book of this domain alone.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// A port by number.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is none.
    pub(super) fn port(&self, number: PortNumber) -> Result<&Port<D>, Errno> {
        self.ports.get(number).ok_or(Errno::EINVAL)
    }

    /// What a vCPU has of its own.
    ///
    /// # Errors
    ///
    /// `ENOENT` when the vCPU does not exist.
    pub(super) fn vcpu(&self, d: &D, vcpu: VcpuId) -> Result<&VcpuEvents, Errno> {
        if !d.vcpu_exists(vcpu) {
            return Err(Errno::ENOENT);
        }
        self.vcpus.get(vcpu as usize).ok_or(Errno::ENOENT)
    }

    /// Takes the lowest port that is free and that the guest no longer has on a queue.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the domain dies, `ENOSPC` at its limit, `ENOMEM`.
    pub(super) fn allocate(&self, d: &D, ledger: &mut Ledger) -> Result<PortNumber, Errno> {
        if ledger.dying {
            return Err(Errno::EINVAL);
        }
        let beyond = match self.mode() {
            Mode::TwoLevel => d.layout().two_level_ports(),
            Mode::Fifo => EVTCHN_FIFO_NR_CHANNELS,
        };
        let mut from = 1;
        loop {
            let number = match ledger.next_free(from) {
                Some(number) => number,
                None if ledger.known_ports() < beyond => {
                    from = ledger.known_ports();
                    self.grow(ledger)?;
                    continue;
                }
                None => return Err(Errno::ENOSPC),
            };
            if number >= beyond || number > self.max_port {
                return Err(Errno::ENOSPC);
            }
            if !self.array.is_linked(d, number) {
                ledger.take(number);
                return Ok(number);
            }
            from = number + 1;
        }
    }

    /// Adds a bucket of free ports.
    fn grow(&self, ledger: &mut Ledger) -> Result<(), Errno> {
        const WORDS: usize = BUCKET_PORTS / 64;
        ledger.used.try_reserve(WORDS).map_err(|_| Errno::ENOMEM)?;
        self.ports.grow(ledger.used.len() / WORDS)?;
        ledger.used.resize(ledger.used.len() + WORDS, 0);
        Ok(())
    }
}

/// The books of one or two domains, locked in ascending order of their ids.
pub(super) struct Pair<'a> {
    local: MutexGuard<'a, Ledger>,
    /// Nothing when both are the same domain.
    remote: Option<MutexGuard<'a, Ledger>>,
}

impl<'a> Pair<'a> {
    /// Locks both books; the two may be the same domain.
    pub fn lock<D: EventHost>(local: &'a D, remote: &'a D) -> Self {
        let (l, r) = (local.events(), remote.events());
        if core::ptr::eq(local, remote) {
            return Self {
                local: l.ledger(),
                remote: None,
            };
        }
        if local.id() < remote.id() {
            let local = l.ledger();
            Self {
                local,
                remote: Some(r.ledger()),
            }
        } else {
            let remote = r.ledger();
            Self {
                local: l.ledger(),
                remote: Some(remote),
            }
        }
    }

    /// The first domain's book.
    pub fn local(&mut self) -> &mut Ledger {
        &mut self.local
    }

    /// Whether the second domain dies.
    pub fn remote_is_dying(&self) -> bool {
        self.remote.as_ref().unwrap_or(&self.local).dying
    }
}
