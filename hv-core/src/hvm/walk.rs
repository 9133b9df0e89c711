//! The walk through a guest's own page tables, as the processor does it (AMD APM vol. 2, 5; Intel SDM vol. 3, 4).
//!
//! For accesses that we make in a guest's name: operands of hypercalls, instructions and their operands. All kinds of
//! paging are known: none, 32-bit with 4 MiB pages, PAE, and the tables of long mode with 4 or 5 levels. Tables are read
//! entry by entry, once each, through [`GuestPhysical`]; the guest may change them meanwhile, and gets then what the
//! processor might have given it.
//!
//! Accessed and dirty bits are set as by the processor, by compare-and-swap, when the access is known to be
//! allowed. An entry that changed since it was read starts the walk again.

use arrayvec::ArrayVec;

use format::Tables;

mod format;
#[cfg(test)]
mod tests;

/// Times that entries may change under a walk.
const TRIES: u32 = 16;
/// Most levels of tables.
const LEVELS: usize = 5;

/// CR0 bits that matter here.
pub mod cr0 {
    /// Protected mode.
    pub const PE: u64 = 1 << 0;
    /// Writes of the kernel respect read-only entries.
    pub const WP: u64 = 1 << 16;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits that matter here.
pub mod cr4 {
    /// 4 MiB pages in 32-bit tables.
    pub const PSE: u64 = 1 << 4;
    /// Tables of 64-bit entries.
    pub const PAE: u64 = 1 << 5;
    /// Five levels.
    pub const LA57: u64 = 1 << 12;
    /// No fetches of the kernel from user pages.
    pub const SMEP: u64 = 1 << 20;
    /// No accesses of the kernel to user pages, but with RFLAGS.AC.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys.
    pub const PKE: u64 = 1 << 22;
}

/// EFER bits that matter here.
pub mod efer {
    /// Long mode is active.
    pub const LMA: u64 = 1 << 10;
    /// NX has a meaning.
    pub const NXE: u64 = 1 << 11;
}

/// RFLAGS.AC.
const AC: u64 = 1 << 18;

/// Bits of a page table entry (the same in all formats).
pub mod entry {
    /// In use.
    pub const PRESENT: u64 = 1 << 0;
    /// Writes allowed.
    pub const WRITABLE: u64 = 1 << 1;
    /// Usable at CPL 3.
    pub const USER: u64 = 1 << 2;
    /// Set on use.
    pub const ACCESSED: u64 = 1 << 5;
    /// Set on a write.
    pub const DIRTY: u64 = 1 << 6;
    /// Maps a large page, above the last level.
    pub const LARGE: u64 = 1 << 7;
    /// No instruction fetch; only in 64-bit entries.
    pub const NX: u64 = 1 << 63;
}

/// Bits of a page fault's error code.
pub mod error {
    /// The translation is present: the access was not allowed.
    pub const PRESENT: u32 = 1 << 0;
    /// A write.
    pub const WRITE: u32 = 1 << 1;
    /// From user mode.
    pub const USER: u32 = 1 << 2;
    /// A reserved bit is set.
    pub const RESERVED: u32 = 1 << 3;
    /// A fetch, where fetches can be forbidden.
    pub const FETCH: u32 = 1 << 4;
    /// Refused by a protection key.
    pub const KEY: u32 = 1 << 5;
}

/// Bytes of a guest's physical memory, as its page tables are read. Implementations look at RAM only.
pub trait GuestPhysical {
    /// The aligned 8 bytes at this guest physical address, read at once; `None` where there is no RAM.
    fn load(&self, gpa: u64) -> Option<u64>;

    /// Stores `new` in the aligned 8 bytes if they are `old`, and says whether they were; `None` where there is no RAM that the
    /// guest may write.
    fn compare_exchange(&self, gpa: u64, old: u64, new: u64) -> Option<bool>;
}

/// The registers that decide how addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PagingMode {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// RFLAGS, for AC.
    pub rflags: u64,
    /// PKRU, where CR4.PKE is set.
    pub pkru: u32,
    /// Bits of a physical address as the guest's CPUID says (8000_0008, EAX\[7:0\]); 32 to 52.
    pub address_bits: u8,
    /// Whether its CPUID has pages of 1 GiB (8000_0001, EDX\[26\]).
    pub gigabyte_pages: bool,
}

impl PagingMode {
    /// The highest linear address: that of 32 bits outside long mode.
    #[must_use]
    pub const fn last_address(&self) -> u64 {
        match Tables::of(self) {
            Some(Tables::Long(_)) => u64::MAX,
            _ => 0xffff_ffff,
        }
    }
}

/// What is done at the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Kind {
    Read,
    Write,
    Fetch,
}

/// By whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// Code at CPL 3.
    User,
    /// Code below CPL 3.
    Supervisor,
    /// The processor itself, at a structure of the system's (GDT, TSS): RFLAGS.AC does not help.
    Implicit,
}

/// An access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// What is done.
    pub kind: Kind,
    /// By whom.
    pub privilege: Privilege,
}

impl Access {
    /// An access of this kind at a current privilege level.
    #[must_use]
    pub const fn at_cpl(kind: Kind, cpl: u8) -> Self {
        Self {
            kind,
            privilege: if cpl == 3 {
                Privilege::User
            } else {
                Privilege::Supervisor
            },
        }
    }
}

/// What entries of all levels allow together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// Writes (for the kernel only with CR0.WP a condition).
    pub writable: bool,
    /// Accesses from CPL 3.
    pub user: bool,
    /// Fetches.
    pub executable: bool,
}

/// Where an address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Guest physical address.
    pub gpa: u64,
    /// log2 of the page's size in bytes: 12, 21, 22 or 30, and 12 without paging.
    pub page_shift: u32,
    /// What the tables allow.
    pub rights: Rights,
}

/// #PF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// Its error code.
    pub error: u32,
}

/// Why an address leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The guest's tables do not allow the access: #PF.
    Page(PageFault),
    /// The address is none of the linear address space: #GP or #SS.
    NotCanonical,
    /// A table lies where the guest has no RAM.
    NoMemory {
        /// Guest physical address of the entry.
        gpa: u64,
    },
    /// The tables kept changing.
    Unsteady,
}

/// Translates a linear address.
///
/// Outside long mode only its low 32 bits count. Accessed bits are set on the way, and the dirty bit for a write.
///
/// # Errors
/// See `Refused`.
pub fn walk(
    mem: &impl GuestPhysical,
    mode: &PagingMode,
    va: u64,
    access: Access,
) -> Result<Translation, Refused> {
    let Some(tables) = Tables::of(mode) else {
        return Ok(Translation {
            gpa: va & 0xffff_ffff,
            page_shift: 12,
            rights: Rights {
                writable: true,
                user: true,
                executable: true,
            },
        });
    };
    let va = tables.linear(va).ok_or(Refused::NotCanonical)?;
    let fault = Fault { mode, access };
    for _ in 0..TRIES {
        let mut path = Path::new();
        let found = descend(mem, mode, tables, va, &fault, &mut path)?;
        fault.check(&found)?;
        if mark(mem, tables, &path, access.kind)? {
            return Ok(found.translation);
        }
    }
    Err(Refused::Unsteady)
}

/// An entry on the way, with the word that it was read from.
struct Step {
    /// Address of the aligned word.
    gpa: u64,
    word: u64,
    /// Bits by which the entry lies above the word's lowest.
    shift: u32,
    level: u32,
}

type Path = ArrayVec<Step, LEVELS>;

/// The end of the way.
struct Found {
    translation: Translation,
    /// The protection key, in long mode.
    key: Option<u32>,
}

fn descend(
    mem: &impl GuestPhysical,
    mode: &PagingMode,
    tables: Tables,
    va: u64,
    fault: &Fault<'_>,
    path: &mut Path,
) -> Result<Found, Refused> {
    let mut table = tables.root(mode);
    let mut rights = Rights {
        writable: true,
        user: true,
        executable: true,
    };
    for level in (1..=tables.levels()).rev() {
        let at = table + tables.slot_offset(level, va);
        let gpa = at & !7;
        let shift = (at & 7) as u32 * 8;
        let word = mem.load(gpa).ok_or(Refused::NoMemory { gpa })?;
        let value = tables.cut(word >> shift);
        if value & entry::PRESENT == 0 {
            return Err(fault.with(0));
        }
        if value & tables.reserved(mode, level, value) != 0 {
            return Err(fault.with(error::PRESENT | error::RESERVED));
        }
        path.push(Step {
            gpa,
            word,
            shift,
            level,
        });
        if tables.has_rights(level) {
            rights.writable &= value & entry::WRITABLE != 0;
            rights.user &= value & entry::USER != 0;
            rights.executable &= value & entry::NX == 0;
        }
        if level == 1 || tables.is_large(mode, level, value) {
            let page_shift = tables.shift(level);
            let inside = (1 << page_shift) - 1;
            let base = tables.page(mode, level, value) & !inside;
            return Ok(Found {
                translation: Translation {
                    gpa: base | va & inside,
                    page_shift,
                    rights,
                },
                key: tables.key(value),
            });
        }
        table = tables.below(mode, value);
    }
    // Level 1 returns; there are no tables without it.
    Err(fault.with(0))
}

/// Sets accessed and dirty bits; `false` if an entry is not what it was.
fn mark(
    mem: &impl GuestPhysical,
    tables: Tables,
    path: &Path,
    kind: Kind,
) -> Result<bool, Refused> {
    let last = path.last().map_or(0, |step| step.level);
    for step in path {
        let mut bits = if tables.has_rights(step.level) {
            entry::ACCESSED
        } else {
            0
        };
        if step.level == last && kind == Kind::Write {
            bits |= entry::DIRTY;
        }
        let wanted = step.word | bits << step.shift;
        if wanted == step.word {
            continue;
        }
        let swapped = mem.compare_exchange(step.gpa, step.word, wanted);
        if !swapped.ok_or(Refused::NoMemory { gpa: step.gpa })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What faults of an access look like, and when there is one.
struct Fault<'a> {
    mode: &'a PagingMode,
    access: Access,
}

impl Fault<'_> {
    /// The fault with these bits and those that the access brings.
    fn with(&self, bits: u32) -> Refused {
        let mode = self.mode;
        let mut error = bits;
        if self.access.kind == Kind::Write {
            error |= error::WRITE;
        }
        if self.access.privilege == Privilege::User {
            error |= error::USER;
        }
        let nx = mode.cr4 & cr4::PAE != 0 && mode.efer & efer::NXE != 0;
        if self.access.kind == Kind::Fetch && (nx || mode.cr4 & cr4::SMEP != 0) {
            error |= error::FETCH;
        }
        Refused::Page(PageFault { error })
    }

    /// Whether the access is allowed where the tables lead.
    fn check(&self, found: &Found) -> Result<(), Refused> {
        let rights = found.translation.rights;
        let denied_by_key = self.denied_by_key(found);
        if self.denied_by_rights(rights) || denied_by_key {
            let key = if denied_by_key { error::KEY } else { 0 };
            return Err(self.with(error::PRESENT | key));
        }
        Ok(())
    }

    fn denied_by_rights(&self, rights: Rights) -> bool {
        let mode = self.mode;
        let user = self.access.privilege == Privilege::User;
        let denied = match self.access.kind {
            Kind::Read => false,
            Kind::Write => !rights.writable && (user || mode.cr0 & cr0::WP != 0),
            // Without EFER.NXE the bit is reserved, or not there.
            Kind::Fetch => !rights.executable,
        };
        let denied_by_owner = match self.access.kind {
            _ if user => !rights.user,
            Kind::Fetch => rights.user && mode.cr4 & cr4::SMEP != 0,
            Kind::Read | Kind::Write => {
                let allowed =
                    self.access.privilege == Privilege::Supervisor && mode.rflags & AC != 0;
                rights.user && mode.cr4 & cr4::SMAP != 0 && !allowed
            }
        };
        denied || denied_by_owner
    }

    /// Protection keys concern data in user pages (Intel SDM vol. 3, 4.6.2).
    fn denied_by_key(&self, found: &Found) -> bool {
        let mode = self.mode;
        let Some(key) = found.key else {
            return false;
        };
        if mode.cr4 & cr4::PKE == 0 || !found.translation.rights.user {
            return false;
        }
        let bits = mode.pkru >> (2 * key);
        let (no_access, no_write) = (bits & 1 != 0, bits & 2 != 0);
        let user = self.access.privilege == Privilege::User;
        match self.access.kind {
            Kind::Fetch => false,
            Kind::Read => no_access,
            Kind::Write => no_access || no_write && (user || mode.cr0 & cr0::WP != 0),
        }
    }
}
