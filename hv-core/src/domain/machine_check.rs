//! Machine checks: what a CPU's banks hold, how bad that is, and what waits for dom0 to fetch (Intel SDM vol. 3, 16;
//! AMD APM vol. 2, 9).
//!
//! The handler of the exception may hit anywhere and takes no lock: it leaves what it found in its CPU's [`Slot`], atomics
//! only, and the run loop moves that into [`Telemetry`], which is bounded; what finds no room is counted.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use xen_abi::mca as abi;
use zerocopy::IntoBytes;

use super::processor::CpuPlace;
use crate::base::lock::{Mutex, rank};

/// Registers of a CPU's machine-check banks.
pub trait BankRegisters {
    /// Reads one; `None` where it is missing.
    fn read(&self, msr: u32) -> Option<u64>;
    /// Writes zero to one, if it is there.
    fn clear(&self, msr: u32);
}

/// Capabilities: the number of banks is in the low byte.
pub const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
/// Control register of bank 0; status, address and miscellaneous follow, then the next bank.
pub const FIRST_CONTROL: u32 = 0x400;
const FIRST_STATUS: u32 = 0x401;
/// More banks than any CPU has.
const MOST_BANKS: u32 = 64;

/// The interrupted code can go on.
const RESTART_VALID: u64 = 1;
/// Bits of a bank's status.
mod status {
    pub const VALID: u64 = 1 << 63;
    pub const OVERFLOW: u64 = 1 << 62;
    pub const UNCORRECTED: u64 = 1 << 61;
    pub const MISC_VALID: u64 = 1 << 59;
    pub const ADDRESS_VALID: u64 = 1 << 58;
    pub const CONTEXT_CORRUPT: u64 = 1 << 57;
    /// Intel: the program needs help at once; AMD: its context is corrupt.
    pub const ACTION_REQUIRED: u64 = 1 << 55;
}

/// A bank that reports something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bank {
    /// Which.
    pub number: u16,
    /// Its registers; those that are not valid are 0.
    pub status: u64,
    /// Physical address.
    pub address: u64,
    /// What else the CPU says.
    pub misc: u64,
}

/// As many banks as one block of telemetry has room for.
const BANKS: usize =
    (abi::MCINFO_WORDS * 8 - size_of::<abi::McinfoGlobal>()) / size_of::<abi::McinfoBank>();

/// What was found on a CPU.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// `MCG_STATUS`.
    pub global: u64,
    /// Time-stamp counter.
    pub tsc: u64,
    /// Banks with a valid status.
    pub banks: ArrayVec<Bank, BANKS>,
}

/// How bad findings are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Nothing is there.
    Nothing,
    /// The hardware has corrected it.
    Corrected,
    /// Something is lost, but nobody has used it yet.
    Recoverable,
    /// What runs, or what it works on, is damaged.
    Fatal,
}

impl Findings {
    /// Reads the banks of this CPU.
    pub fn collect(regs: &impl BankRegisters, tsc: u64) -> Self {
        let mut found = Self {
            global: regs.read(MCG_STATUS).unwrap_or(0),
            tsc,
            banks: ArrayVec::new(),
        };
        for number in 0..banks(regs) {
            let first = FIRST_STATUS + 4 * number;
            let Some(value) = regs.read(first).filter(|s| s & status::VALID != 0) else {
                continue;
            };
            let other = |bit, msr| (value & bit != 0).then(|| regs.read(msr)).flatten();
            // What does not fit stays in its bank, for the next look.
            let _full = found.banks.try_push(Bank {
                number: number as u16,
                status: value,
                address: other(status::ADDRESS_VALID, first + 1).unwrap_or(0),
                misc: other(status::MISC_VALID, first + 2).unwrap_or(0),
            });
        }
        found
    }

    /// Makes room in the banks that were read.
    pub fn clear(&self, regs: &impl BankRegisters) {
        for bank in &self.banks {
            regs.clear(FIRST_STATUS + 4 * u32::from(bank.number));
        }
    }

    /// How bad it is when the CPU raised an exception.
    #[must_use]
    pub fn of_exception(&self) -> Severity {
        // No bank: another CPU's error is told to all.
        if self.global & RESTART_VALID == 0 {
            return Severity::Fatal;
        }
        self.worst()
    }

    /// How bad it is when the banks were only looked at: whoever was hit has had an exception.
    #[must_use]
    pub fn of_poll(&self) -> Severity {
        self.worst().min(Severity::Recoverable)
    }

    fn worst(&self) -> Severity {
        let mut worst = Severity::Nothing;
        for Bank { status: s, .. } in &self.banks {
            let fatal = s & status::CONTEXT_CORRUPT != 0
                || s & status::UNCORRECTED != 0
                    && s & (status::ACTION_REQUIRED | status::OVERFLOW) != 0;
            if fatal {
                return Severity::Fatal;
            }
            if s & status::UNCORRECTED != 0 {
                worst = Severity::Recoverable;
            } else if worst == Severity::Nothing {
                worst = Severity::Corrected;
            }
        }
        worst
    }
}

/// Number of banks.
pub fn banks(regs: &impl BankRegisters) -> u32 {
    (regs.read(MCG_CAP).unwrap_or(0) as u32 & 0xff).min(MOST_BANKS)
}

/// Ends the exception: the CPU may raise another.
pub fn end_exception(regs: &impl BankRegisters) {
    regs.clear(MCG_STATUS);
}

/// What the handler of a CPU found and the run loop has not taken yet.
#[derive(Debug)]
pub struct Slot {
    /// 0: empty; 1: being written; 2: full.
    state: AtomicU32,
    words: [AtomicU64; 3 + 4 * BANKS],
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            state: AtomicU32::new(0),
            words: [const { AtomicU64::new(0) }; 3 + 4 * BANKS],
        }
    }
}

impl Slot {
    /// Leaves findings; `false` while the last ones were not taken yet.
    pub fn put(&self, found: &Findings) -> bool {
        let claimed = self
            .state
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        if claimed.is_err() {
            return false;
        }
        let count = found.banks.len() as u64;
        let banks = found.banks.iter();
        let words = [found.global, found.tsc, count]
            .into_iter()
            .chain(banks.flat_map(|b| [b.number.into(), b.status, b.address, b.misc]));
        for (to, word) in self.words.iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        self.state.store(2, Ordering::Release);
        true
    }

    /// Takes what was left.
    pub fn take(&self) -> Option<Findings> {
        if self.state.load(Ordering::Acquire) != 2 {
            return None;
        }
        let word = |index: usize| self.words[index].load(Ordering::Relaxed);
        let count = (word(2) as usize).min(BANKS);
        let banks = (0..count).map(|bank| Bank {
            number: word(3 + 4 * bank) as u16,
            status: word(4 + 4 * bank),
            address: word(5 + 4 * bank),
            misc: word(6 + 4 * bank),
        });
        let found = Findings {
            global: word(0),
            tsc: word(1),
            banks: banks.collect(),
        };
        self.state.store(0, Ordering::Release);
        Some(found)
    }
}

/// How findings came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The CPU raised an exception.
    Exception,
    /// The banks were looked at.
    Poll,
    /// They were there when the CPU started.
    Reset,
}

/// Which of the two queues (arch-x86/xen-mca.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Uncorrected errors.
    Urgent,
    /// Corrected ones.
    NonUrgent,
}

/// A block of telemetry as the ABI has it.
pub fn block(place: CpuPlace, found: &Findings, source: Source, severity: Severity) -> abi::McInfo {
    let how = match source {
        Source::Exception => abi::MC_FLAG_MCE,
        Source::Poll => abi::MC_FLAG_POLLED,
        Source::Reset => abi::MC_FLAG_RESET,
    };
    let what = match severity {
        Severity::Nothing | Severity::Corrected => abi::MC_FLAG_CORRECTABLE,
        Severity::Recoverable => abi::MC_FLAG_UNCORRECTABLE | abi::MC_FLAG_RECOVERABLE,
        Severity::Fatal => abi::MC_FLAG_UNCORRECTABLE,
    };
    let global = abi::McinfoGlobal {
        common: abi::McinfoCommon {
            r#type: abi::MC_TYPE_GLOBAL,
            size: size_of::<abi::McinfoGlobal>() as u16,
        },
        mc_domid: xen_abi::xen::DOMID_INVALID,
        mc_vcpuid: abi::XEN_MC_VCPUID_INVALID,
        mc_socketid: place.socket,
        mc_coreid: place.core as u16,
        mc_core_threadid: place.thread as u16,
        mc_apicid: place.apic_id,
        mc_flags: how | what,
        mc_gstatus: found.global,
    };
    let mut info = abi::McInfo {
        mi_nentries: 1 + found.banks.len() as u32,
        ..abi::McInfo::default()
    };
    let data = info.mi_data.as_mut_bytes();
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(to) = data.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    put(global.as_bytes());
    for bank in &found.banks {
        let entry = abi::McinfoBank {
            common: abi::McinfoCommon {
                r#type: abi::MC_TYPE_BANK,
                size: size_of::<abi::McinfoBank>() as u16,
            },
            mc_bank: bank.number,
            mc_domid: xen_abi::xen::DOMID_INVALID,
            mc_status: bank.status,
            mc_addr: bank.address,
            mc_misc: bank.misc,
            mc_ctrl2: 0,
            mc_tsc: found.tsc,
        };
        put(entry.as_bytes());
    }
    info
}

/// Blocks of one queue.
const ROOM: usize = 20;

#[derive(Debug, Default)]
struct Queues {
    last_id: u64,
    /// Oldest first; the flag: fetched and not acknowledged.
    blocks: [Vec<(u64, bool, abi::McInfo)>; 2],
}

/// What dom0 has not fetched and acknowledged yet.
#[derive(Debug)]
pub struct Telemetry(Mutex<Queues>);

impl Default for Telemetry {
    fn default() -> Self {
        Self(Mutex::new(rank::TELEMETRY, Queues::default()))
    }
}

impl Telemetry {
    /// Keeps a block; `false` when there is no room.
    pub fn push(&self, urgency: Urgency, info: abi::McInfo) -> bool {
        let mut queues = self.0.lock();
        queues.last_id += 1;
        let id = queues.last_id;
        let queue = &mut queues.blocks[urgency as usize];
        let fits = queue.len() < ROOM && queue.try_reserve(1).is_ok();
        if fits {
            queue.push((id, false, info));
        }
        fits
    }

    /// The oldest block that was not fetched, with its name.
    #[must_use]
    pub fn oldest(&self, urgency: Urgency) -> Option<(u64, abi::McInfo)> {
        let queues = self.0.lock();
        let mut waiting = queues.blocks[urgency as usize]
            .iter()
            .filter(|(_, fetched, _)| !fetched);
        waiting.next().map(|(id, _, info)| (*id, *info))
    }

    /// A block was fetched.
    pub fn fetched(&self, urgency: Urgency, name: u64) {
        for (id, fetched, _) in &mut self.0.lock().blocks[urgency as usize] {
            *fetched |= *id == name;
        }
    }

    /// A block that was fetched is no longer needed; others of that name are let be.
    pub fn acknowledge(&self, urgency: Urgency, name: u64) {
        self.0.lock().blocks[urgency as usize].retain(|(id, fetched, _)| *id != name || !*fetched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Two banks of a CPU.
    #[derive(Default)]
    struct Fake(RefCell<BTreeMap<u32, u64>>);

    impl BankRegisters for Fake {
        fn read(&self, msr: u32) -> Option<u64> {
            self.0.borrow().get(&msr).copied()
        }
        fn clear(&self, msr: u32) {
            if let Some(value) = self.0.borrow_mut().get_mut(&msr) {
                *value = 0;
            }
        }
    }

    fn cpu(global: u64, statuses: &[u64]) -> Fake {
        let fake = Fake::default();
        let mut regs = fake.0.borrow_mut();
        regs.insert(MCG_CAP, statuses.len() as u64 | 0x100);
        regs.insert(MCG_STATUS, global);
        for (bank, status) in (0..).zip(statuses) {
            regs.insert(FIRST_STATUS + 4 * bank, *status);
            regs.insert(FIRST_STATUS + 4 * bank + 1, 0x1000 + u64::from(bank));
        }
        drop(regs);
        fake
    }

    #[test]
    fn only_valid_banks_and_registers_count() {
        let fake = cpu(5, &[0, 1 << 63 | 1 << 58 | 7, 1 << 63 | 1 << 59]);
        let found = Findings::collect(&fake, 99);
        let numbers: Vec<_> = found.banks.iter().map(|b| (b.number, b.address)).collect();
        assert_eq!(numbers, [(1, 0x1001), (2, 0)]);
        assert_eq!((found.global, found.tsc), (5, 99));
        found.clear(&fake);
        assert!(Findings::collect(&fake, 0).banks.is_empty());
    }

    #[test]
    fn more_banks_than_fit_wait() {
        let fake = cpu(1, &[1 << 63; 200]);
        let mut seen = 0;
        loop {
            let found = Findings::collect(&fake, 0);
            if found.banks.is_empty() {
                break;
            }
            seen += found.banks.len();
            found.clear(&fake);
        }
        assert_eq!(seen, MOST_BANKS as usize);
    }

    #[test]
    fn what_is_fatal() {
        let uncorrected = 1 << 63 | 1 << 61 | 1 << 60;
        let of =
            |global, statuses: &[u64]| Findings::collect(&cpu(global, statuses), 0).of_exception();
        assert_eq!(of(5, &[uncorrected]), Severity::Recoverable);
        assert_eq!(of(5, &[1 << 63]), Severity::Corrected);
        assert_eq!(of(4, &[1 << 63]), Severity::Fatal);
        assert_eq!(of(5, &[0]), Severity::Nothing);
        for bit in [57, 55, 62] {
            assert_eq!(of(5, &[1 << 63, uncorrected | 1 << bit]), Severity::Fatal);
        }
        let poll = Findings::collect(&cpu(0, &[uncorrected | 1 << 57]), 0);
        assert_eq!(poll.of_poll(), Severity::Recoverable);
        let poll = Findings::collect(&cpu(0, &[0]), 0);
        assert_eq!(poll.of_poll(), Severity::Nothing);
    }

    #[test]
    fn a_slot_holds_one_until_it_is_taken() {
        let slot = Slot::default();
        assert_eq!(slot.take(), None);
        let found = Findings::collect(&cpu(5, &[1 << 63 | 1 << 58; 20]), 3);
        assert_eq!(found.banks.len(), BANKS);
        assert!(slot.put(&found));
        assert!(!slot.put(&Findings::default()));
        assert_eq!(slot.take(), Some(found));
        assert_eq!(slot.take(), None);
    }

    #[test]
    fn a_block_has_the_layout_that_readers_walk() {
        let found = Findings::collect(&cpu(5, &[1 << 63 | 1 << 58, 1 << 63]), 77);
        let place = CpuPlace {
            apic_id: 6,
            ..CpuPlace::default()
        };
        let info = block(place, &found, Source::Exception, Severity::Recoverable);
        let bytes = info.mi_data.as_bytes();
        let mut at = 0;
        let mut kinds = Vec::new();
        for _ in 0..info.mi_nentries {
            let half = |o: usize| u16::from_le_bytes([bytes[at + o], bytes[at + o + 1]]);
            kinds.push(half(0));
            at += usize::from(half(2));
        }
        assert_eq!(kinds, [0, 1, 1]);
        // Whoever walks on finds an entry without a size.
        assert_eq!(bytes[at..at + 4], [0; 4]);
    }

    #[test]
    fn queues_are_bounded_and_keep_their_order() {
        let telemetry = Telemetry::default();
        let info = |n| abi::McInfo {
            mi_nentries: n,
            ..abi::McInfo::default()
        };
        for n in 0..ROOM as u32 {
            assert!(telemetry.push(Urgency::Urgent, info(n)));
        }
        assert!(!telemetry.push(Urgency::Urgent, info(99)));
        assert!(telemetry.oldest(Urgency::NonUrgent).is_none());
        for n in 0..ROOM as u32 {
            let (id, got) = telemetry.oldest(Urgency::Urgent).unwrap();
            assert_eq!(got.mi_nentries, n);
            telemetry.acknowledge(Urgency::Urgent, id);
            assert!(telemetry.oldest(Urgency::Urgent).is_some(), "not fetched");
            telemetry.fetched(Urgency::Urgent, id);
            telemetry.acknowledge(Urgency::Urgent, id);
        }
        assert!(telemetry.oldest(Urgency::Urgent).is_none());
        assert!(telemetry.push(Urgency::Urgent, info(1)));
    }
}
