//! Calls of the firmware's runtime services.
//!
//! They run in physical mode, on a root of their own: what the firmware keeps for them and our buffer stand where
//! they are, beside the hypervisor's slots. The stack is the CPU's own, so interrupts come as ever. The guest's
//! FPU state and breakpoints are taken off the CPU for the time. Its user mappings are global: the TLB is emptied
//! once the root is loaded.
//!
//! A fault in the firmware's code ends the call, and all calls: what it has left half done nobody knows.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{Mfn, PAGE_SIZE, PhysAddr};
use hv_core::boot::efi::{
    Cache, EfiFacts, EfiRevision, EfiSystemTable, RuntimeMapping, Service, kind,
};
use hv_core::boot::info::BootInfo;
use hv_core::cpuid::xstate::FpuLine;
use hv_core::domain::{EfiArgument, EfiServices};
use hv_core::pv::frame::GuestFrame;
use hv_core::time::wallclock::Civil;
use spin::Once;
use xen_abi::errno::Errno;

use super::context::NO_BREAKPOINTS;
use super::layout::FIRST_SLOT;
use super::paging::{self, Largest, flag};
use super::start::EarlyMemory;
use super::{cpu, fpu, pages, percpu, serial, tlb, traps};
use crate::say;

/// The buffer for what calls read and write: `1 << order` pages.
const BUFFER_ORDER: u32 = 5;
/// EFI_SUCCESS, EFI_UNSUPPORTED and EFI_DEVICE_ERROR (UEFI 2.10, appendix D).
const UNSUPPORTED: u64 = 1 << 63 | 3;
const DEVICE_ERROR: u64 = 1 << 63 | 7;
/// No argument.
const NONE: EfiArgument = EfiArgument::Value(0);
/// First address that is not in the lower half, where the firmware runs.
const LOWER_HALF: u64 = 1 << 47;

/// The firmware, once it can be called.
static FIRMWARE: Once<Firmware> = Once::new();
/// The CPU that runs the firmware's code, plus one.
static INSIDE: AtomicU32 = AtomicU32::new(0);
/// The last fault in it: vector, address of the instruction, address of the access.
static FAULT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

struct Firmware {
    facts: EfiFacts,
    root: Mfn,
    buffer: PhysAddr,
    state: Mutex<State>,
}

/// What the one who calls has.
struct State {
    /// Room for the guest's FPU state.
    fpu: Vec<FpuLine>,
    /// Whether a call has faulted.
    off: bool,
}

/// How a call ended.
#[repr(C)]
struct Ended {
    status: u64,
    faulted: u64,
}

core::arch::global_asm!(
    ".section .bss",
    ".balign 8",
    "efi_stack: .skip 8",
    ".section .text.asm, \"ax\"",
    ".balign 16",
    // efi_call(rdi = function, rsi = five arguments) -> rax = status, rdx = whether it faulted.
    "efi_call:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "mov [rip + efi_stack], rsp",
    "and rsp, -16",
    "sub rsp, 48",
    "mov rax, [rsi + 32]",
    "mov [rsp + 32], rax",
    "mov rcx, [rsi]",
    "mov rdx, [rsi + 8]",
    "mov r8, [rsi + 16]",
    "mov r9, [rsi + 24]",
    "call rdi",
    "xor edx, edx",
    "2: mov rsp, [rip + efi_stack]",
    "popfq",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    "efi_faulted:",
    "mov edx, 1",
    "jmp 2b",
);

// SAFETY: the assembly above defines them, the function with these arguments.
unsafe extern "C" {
    fn efi_call(function: u64, arguments: *const [u64; 5]) -> Ended;
    static efi_faulted: [u8; 0];
    static efi_stack: u64;
}

/// What the firmware says of itself; to be read before the memory of its boot services is used for anything.
pub fn discover(info: &BootInfo) -> Option<EfiFacts> {
    let found = match info.efi.system_table? {
        EfiSystemTable::Narrow(_) => Err(hv_core::boot::efi::EfiProblem::Narrow),
        EfiSystemTable::Wide(at) => EfiFacts::read(&EarlyMemory, at, info.efi.memory.clone()),
    };
    match found {
        Ok(facts) => {
            let revision = EfiRevision(facts.revision);
            let vendor: alloc::string::String = char::decode_utf16(facts.vendor.iter().copied())
                .map(|c| c.unwrap_or('?'))
                .collect();
            say!("EFI {revision} by {vendor}");
            Some(facts)
        }
        Err(why) => {
            say!("EFI: {why}: its runtime services are not used");
            None
        }
    }
}

/// Makes the services callable, where there are any. All RAM is mapped and the hypervisor's slots are final.
#[inline(never)]
pub fn init(facts: EfiFacts) {
    let runtime = match &facts.runtime {
        Ok(runtime) => runtime,
        Err(why) => {
            say!("EFI: {why}: the runtime services are not used");
            return;
        }
    };
    let mut fpu = Vec::new();
    let room = fpu.try_reserve_exact(fpu::lines()).is_ok();
    let (Some(root), Some(buffer), true) = (
        pages::alloc_zeroed(),
        pages::alloc_block(BUFFER_ORDER, 32, 0),
        room,
    ) else {
        say!("EFI: no memory for calls: the runtime services are not used");
        return;
    };
    fpu.resize(fpu::lines(), FpuLine([0; 64]));
    for (at, value) in (FIRST_SLOT..).zip(paging::hypervisor_slots()) {
        paging::table(root)[at].store(value, Ordering::Relaxed);
    }
    runtime.mappings().iter().for_each(|m| map(root, m));
    let (buffer, len) = (buffer.addr(), (PAGE_SIZE as u64) << BUFFER_ORDER);
    let data = flag::DATA & !flag::G;
    paging::map_in(root, buffer.0, buffer, len, data, Largest::Small);
    say!(
        "EFI: runtime services {} in {} parts",
        EfiRevision(runtime.revision),
        runtime.mappings().len()
    );
    if let Some(at) = runtime.function(Service::GetTime) {
        log::debug!("EFI: GetTime is at {at:#x}");
    }
    FIRMWARE.call_once(|| Firmware {
        root,
        buffer,
        state: Mutex::new(rank::EFI, State { fpu, off: false }),
        facts,
    });
}

fn map(root: Mfn, part: &RuntimeMapping) {
    let mut flags = flag::P | flag::A | flag::D;
    if part.writable {
        flags |= flag::RW;
    }
    if !part.executable {
        flags |= flag::NX;
    }
    flags |= match part.cache {
        Cache::WriteBack => 0,
        Cache::WriteThrough => flag::PWT,
        Cache::Uncached => flag::PCD | flag::PWT,
    };
    paging::map_in(
        root,
        part.base.0,
        part.base,
        part.len,
        flags,
        Largest::Large,
    );
}

/// The services for hypercalls; `None` where there are none.
pub fn services() -> Option<&'static dyn EfiServices> {
    FIRMWARE.get().map(|firmware| firmware as &dyn EfiServices)
}

/// Seconds since 1970 by the firmware's clock, for machines without a CMOS clock; 0 where it tells none.
pub fn time_of_day() -> u64 {
    let mut memory = [0; 16];
    let arguments = [EfiArgument::At(0), NONE, NONE, NONE, NONE];
    let told = services().map(|efi| efi.call(Service::GetTime, arguments, &mut memory));
    let seconds = Civil::efi_to_unix(&memory).filter(|_| told == Some(Ok(0)));
    seconds.unwrap_or_else(|| {
        log::warn!("EFI: the firmware tells no time, and there is no CMOS clock");
        0
    })
}

/// Whether a frame holds code or data of the firmware, which the hypervisor runs: dom0 may read it.
pub fn keeps(mfn: Mfn) -> bool {
    FIRMWARE.get().is_some_and(|firmware| {
        let region = firmware.facts.region_of(mfn.addr().0);
        region.is_some_and(|r| matches!(r.kind, kind::RUNTIME_CODE | kind::RUNTIME_DATA))
    })
}

/// How a machine is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in UEFI 2.10, 8.5.1")]
pub enum Reset {
    Cold = 0,
    Warm = 1,
    Shutdown = 2,
}

/// Resets the machine or switches it off by the firmware. The other CPUs have been stopped, so no lock is taken.
/// Returns where the firmware cannot: not there, in the middle of a call, or unwilling.
pub fn reset(how: Reset) {
    let Some(firmware) = FIRMWARE.get() else {
        return;
    };
    if INSIDE.load(Ordering::SeqCst) != 0 {
        return;
    }
    if let Ok(runtime) = &firmware.facts.runtime
        && let Some(function) = runtime.function(Service::ResetSystem)
    {
        serial::write(b"(XEN) Reset by EFI\n");
        firmware.enter(function, &[how as u64, 0, 0, 0, 0]);
    }
}

impl EfiServices for Firmware {
    fn facts(&self) -> &EfiFacts {
        &self.facts
    }

    fn call(
        &self,
        service: Service,
        arguments: [EfiArgument; 5],
        memory: &mut [u8],
    ) -> Result<u64, Errno> {
        let runtime = self.facts.runtime.as_ref().map_err(|_| Errno::EOPNOTSUPP)?;
        if memory.len() > PAGE_SIZE << BUFFER_ORDER {
            return Err(Errno::ENOMEM);
        }
        let Some(function) = runtime.function(service) else {
            return Ok(UNSUPPORTED);
        };
        let words = arguments.map(|argument| match argument {
            EfiArgument::Value(value) => value,
            EfiArgument::At(offset) => self.buffer.0 + offset as u64,
        });
        let mut state = self.state.lock();
        if state.off {
            return Err(Errno::EOPNOTSUPP);
        }
        // SAFETY: the buffer is used here only, under the lock.
        let buffer = unsafe { pages::ram_mut(self.buffer, memory.len()) };
        buffer.copy_from_slice(memory);
        let guest = GuestParts::take(&mut state.fpu);
        let ended = self.enter(function, &words);
        guest.give_back(&state.fpu);
        if ended.faulted != 0 {
            state.off = true;
            let [vector, at, access] = FAULT.each_ref().map(|w| w.load(Ordering::Relaxed));
            log::error!(
                "EFI: {service:?} faulted: {} at {at:#x}, address {access:#x}: the runtime services are off from now on",
                traps::name(vector as u32)
            );
            return Ok(DEVICE_ERROR);
        }
        memory.copy_from_slice(buffer);
        Ok(ended.status)
    }
}

impl Firmware {
    /// Calls the firmware on its root.
    fn enter(&self, function: u64, words: &[u64; 5]) -> Ended {
        let root = cpu::cr3();
        // SAFETY: the root has the hypervisor's slots, so all of ours stays mapped.
        unsafe { cpu::set_cr3(self.root.addr().0) };
        tlb::flush_all_here();
        INSIDE.store(percpu::this().id + 1, Ordering::SeqCst);
        // SAFETY: the function is the firmware's, in memory that it keeps for being called; the arguments are values
        // or lie in the buffer, with room for what it writes. A fault in it comes back here.
        let ended = unsafe { efi_call(function, words) };
        INSIDE.store(0, Ordering::SeqCst);
        // SAFETY: the root that was loaded before.
        unsafe { cpu::set_cr3(root) };
        ended
    }
}

/// What the guest has in the CPU and the firmware might change or meet.
struct GuestParts {
    cr0: u64,
    xcr0: u64,
    dr7: u64,
}

impl GuestParts {
    /// Takes them off the CPU, which then is as EFI wants it (UEFI 2.10, 2.3.4.2).
    fn take(image: &mut [FpuLine]) -> Self {
        let parts = Self {
            cr0: cpu::cr0(),
            xcr0: fpu::current_xcr0(),
            dr7: cpu::dr7(),
        };
        fpu::load_xcr0(fpu::xcr0());
        fpu::save(image);
        fpu::reset();
        // SAFETY: no breakpoint is enabled.
        unsafe { cpu::set_dr7(NO_BREAKPOINTS) };
        parts
    }

    fn give_back(&self, image: &[FpuLine]) {
        fpu::restore(image);
        if self.xcr0 != 0 {
            fpu::load_xcr0(self.xcr0);
        }
        // SAFETY: the values from before the call.
        unsafe {
            cpu::set_dr7(self.dr7);
            cpu::set_cr0(self.cr0);
        }
    }
}

/// A fault of this CPU in the firmware's code: sends it back to the caller. `false` when it was none.
pub fn recover(frame: &mut GuestFrame, vector: u32) -> bool {
    let inside = INSIDE.load(Ordering::SeqCst);
    // Early in the boot a CPU has no number, and nobody is inside.
    if inside == 0 || frame.rip >= LOWER_HALF || inside != percpu::this().id + 1 {
        return false;
    }
    let facts = [u64::from(vector), frame.rip, cpu::cr2()];
    for (word, value) in FAULT.iter().zip(facts) {
        word.store(value, Ordering::Relaxed);
    }
    frame.rip = (&raw const efi_faulted) as u64;
    // SAFETY: this CPU wrote it on its way into the firmware.
    frame.rsp = unsafe { efi_stack };
    true
}
