//! What the policy layers need of the hardware.

use core::alloc::Layout;
use core::sync::atomic::{AtomicU32, AtomicU64};

use xen_abi::errno::Errno;

use super::hotplug::{CpuWay, Progress};
use crate::base::{CpuId, DomId, Mfn, Nanos, VcpuId};
use crate::mm::Holdings;
use crate::sched::Unit;

/// The machine as the layers above see it. RAM stays mapped for good, hence the `'static` views; all
/// access to memory that a guest may hold goes through atomics.
pub trait Machine: Send + Sync {
    /// A frame of RAM as 64-bit words.
    fn words(&self, mfn: Mfn) -> &'static [AtomicU64; 512];
    /// A frame of RAM as 32-bit words.
    fn words32(&self, mfn: Mfn) -> &'static [AtomicU32; 1024];
    /// Copies bytes inside memory that the caller keeps from going away; the ranges may overlap.
    /// Guests may use the frames meanwhile: bytes beside the copied ones are not written. Words are copied one at a time;
    /// hardware has a faster way.
    fn copy_bytes(&self, from: (Mfn, u16), to: (Mfn, u16), len: u16) {
        let source = (self.words(from.0), usize::from(from.1));
        let target = (self.words(to.0), usize::from(to.1));
        super::pagecopy::copy(source, target, usize::from(len));
    }
    /// Takes a reference to a domain's page as writable memory.
    ///
    /// # Errors
    /// `EINVAL` when it is not the domain's or in use as something else, `EAGAIN` when that is being
    /// decided at this moment.
    fn take_writable(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno>;
    /// Drops what `take_writable` took.
    fn drop_writable(&self, mfn: Mfn);
    /// Whose page it is at this moment; nothing where it is no domain's.
    fn owner_of(&self, mfn: Mfn) -> Option<DomId>;
    /// Takes a reference to a domain's page for a mapping of it that is perhaps in another domain's map, or for a
    /// copy: as writable memory with `write`, else one that only keeps the page.
    ///
    /// # Errors
    /// As [`Self::take_writable`].
    fn take_mapped(&self, mfn: Mfn, owner: DomId, write: bool) -> Result<(), Errno>;
    /// Drops what `take_mapped` took.
    fn drop_mapped(&self, mfn: Mfn, write: bool);
    /// Makes every CPU that may hold translations of the domain's memory forget them, nested ones included. A CPU that runs a guest of
    /// the domain has left it when this returns. Waits for other CPUs: not to be called with interrupts off, or with a lock that
    /// others take with interrupts off.
    fn flush_domain(&self, domain: &super::Domain);
    /// Gives a page of ours to a domain to see: it owns the page, and our reference keeps it alive.
    ///
    /// # Errors
    /// `EBUSY` when somebody has the page already, `ESRCH` when the domain is dying.
    fn share_with(&self, mfn: Mfn, with: &Holdings) -> Result<(), Errno>;
    /// Makes a free page the domain's own, after flushes that older uses of it still owe. It counts in the domain's
    /// account, which the caller has charged, until its last reference goes.
    ///
    /// # Errors
    /// `EBUSY` when somebody has the page already, `ESRCH` when the domain is dying: the caller keeps the page.
    fn assign(&self, mfn: Mfn, to: &Holdings) -> Result<(), Errno>;
    /// Takes a page from its owner, which must be its only user; it is nobody's then. The account is left to the caller.
    ///
    /// # Errors
    /// `EINVAL` when it is not the domain's, `EBUSY` when it is in use.
    fn steal(&self, mfn: Mfn, from: &Holdings) -> Result<(), Errno>;
    /// Drops the owner's claim to a page of its account: it is freed, and leaves the account, when its last user lets go.
    ///
    /// # Errors
    /// `EINVAL` when it is not the domain's or was given up already.
    fn relinquish(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno>;
    /// References to a page beside its owner's claim, at this moment; nothing where it is no page of the owner's account, or was given up.
    fn users(&self, mfn: Mfn, owner: DomId) -> Option<u64>;
    /// A zeroed page that nobody has; `None` when memory has run out.
    fn alloc_page(&self) -> Option<Mfn>;
    /// A block of `1 << order` pages below `1 << address_bits` bytes, aligned to its size, with whatever is in them: nobody
    /// gets one before [`Self::zero_pages`]. Of the pages that are claimed it may take `claimed`, which are claimed no longer then.
    fn alloc_unzeroed(&self, order: u32, address_bits: u32, claimed: u64) -> Option<Mfn>;
    /// Fills pages with zeros that nobody else has.
    fn zero_pages(&self, first: Mfn, pages: u64);
    /// The same block, zeroed.
    fn alloc_block(&self, order: u32, address_bits: u32, claimed: u64) -> Option<Mfn> {
        let first = self.alloc_unzeroed(order, address_bits, claimed)?;
        self.zero_pages(first, 1 << order);
        Some(first)
    }
    /// Gives back pages of a block that nobody else has had; `claimed` of them are claimed again.
    fn free_block(&self, first: Mfn, pages: u64, claimed: u64);
    /// Keeps free pages for who may take them by [`Self::alloc_block`]; nobody else gets the last ones.
    ///
    /// # Errors
    /// `ENOMEM` when so many are not free and unclaimed.
    fn claim(&self, pages: u64) -> Result<(), Errno>;
    /// Ends a claim to so many pages.
    fn drop_claim(&self, pages: u64);
    /// Pages claimed by all.
    fn claimed(&self) -> u64;
    /// Gives back one page.
    fn free_page(&self, mfn: Mfn);
    /// Pages that nobody has.
    fn free_pages(&self) -> u64;
    /// Writes the machine-to-phys table.
    fn set_m2p(&self, mfn: Mfn, gfn: u64);
    /// Reads the machine-to-phys table; all ones where there is none.
    fn m2p(&self, mfn: Mfn) -> u64;
    /// System time.
    fn now(&self) -> Nanos;
    /// The CPU that runs this.
    fn this_cpu(&self) -> CpuId;
    /// Makes a CPU leave its guest or its idle halt and look at what it owes.
    fn interrupt(&self, cpu: CpuId);
    /// As `interrupt`, and the CPU asks the scheduler again.
    fn reschedule(&self, cpu: CpuId);
    /// The domain that owns the devices went down: power off, reboot or stop, as the reason says.
    /// The work is done by the run loop; this returns.
    fn hardware_shutdown(&self, reason: super::ShutdownReason);
    /// Enters an ACPI sleep state as the control domain's AML wants it. The work is done by the run
    /// loop once every CPU has left its guest; this returns.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a state that is not supported or a machine without the registers for it.
    fn enter_sleep(&self, request: SleepRequest) -> Result<(), Errno>;
    /// How a CPU has idled since boot; nothing for a CPU that was never started.
    fn idle(&self, cpu: CpuId) -> IdleTimes;
    /// One step of taking a CPU that the scheduler no longer has out of the machine, or of bringing it back. Called
    /// again while it is pending, for one CPU at a time.
    ///
    /// # Errors
    /// `EIO` when a CPU does not answer or has a clock of its own; it is out then.
    fn move_cpu(&self, cpu: CpuId, way: CpuWay) -> Result<Progress, Errno>;
    /// Loads the patch for this machine's CPUs out of a file of microcode: on this CPU now, on the others soon. What
    /// comes of it is said on the console.
    ///
    /// # Errors
    /// `EINVAL` for a file that is damaged or another maker's, `ENOENT` when no patch in it is for these CPUs, `EEXIST`
    /// when none is newer, `EIO` when the CPU refuses it, `ENOMEM`.
    fn load_microcode(&self, file: &[u8]) -> Result<(), Errno>;
    /// Arms the one timer of a vCPU; `None` stops it. When it is due, the run loop calls
    /// `Domain::fire_timers`.
    fn arm_vcpu_timer(&self, unit: Unit, deadline: Option<Nanos>);
    /// Sets a block of the heap aside: the next one of just this layout that this CPU asks for, which is to be soon, is
    /// it. For what cannot be had in a way that may fail. One caller at a time.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn set_aside(&self, block: Layout) -> Result<(), Errno>;
    /// Drops our reference to a page given out by `share_with`: it is freed when the domain has let go.
    fn unshare(&self, mfn: Mfn);
}

/// How a CPU has idled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdleTimes {
    /// Time spent idle.
    pub time: Nanos,
    /// How often it began to idle.
    pub entries: u64,
    /// How often its timer interrupted it, idle or not.
    pub timer_interrupts: u64,
}

/// What to write to enter a sleep state (ACPI 4.8.3.2, PM1 control registers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SleepRequest {
    /// The state: 5 is soft off.
    pub state: u32,
    /// Value for PM1a control, with SLP_TYP and SLP_EN.
    pub pm1a: u16,
    /// Value for PM1b control; of no meaning on machines without that block.
    pub pm1b: u16,
}

/// Connects physical interrupts to domains (irq layer). Called with the domain's event ledger held.
pub trait PirqLayer: Send + Sync {
    /// Starts delivery to `vcpu` of `domain`.
    ///
    /// # Errors
    /// `EPERM` when the domain may not have it, `EBUSY` when it is taken, `EINVAL` for none such.
    fn bind(
        &self,
        domain: &super::Domain,
        pirq: u32,
        sharing: crate::events::PirqSharing,
        vcpu: VcpuId,
    ) -> Result<(), Errno>;
    /// Ends delivery.
    fn unbind(&self, domain: &super::Domain, pirq: u32);
    /// Delivers to another vCPU from now on.
    fn route(&self, domain: &super::Domain, pirq: u32, vcpu: VcpuId);
}
