//! Traps that hit the hypervisor itself: interrupts while it works, faults with a fix-up, and the
//! rest, which end it with a report.

use core::fmt::Write;
use core::sync::atomic::{AtomicI64, Ordering};

use hv_core::domain::machine_check::Severity;
use hv_core::pv::frame::{GuestFrame, rflags};

use super::cpuinfo::{self, CpuInfo, FRAME_GAP, guest_iret, guest_iret_failed};
use super::layout::{CPU_AREAS, CPU_STRIDE, IMAGE_WINDOW, STACK_BLOCK};
use super::serial::Raw;
use super::{apic, cpu, efi, irq, mce, nmi, percpu};

/// First vector that is not a CPU exception.
pub const FIRST_INTERRUPT: u32 = 0x20;

// SAFETY: the linker script and `traps.S` define them; they are used as addresses.
unsafe extern "C" {
    static fixup_start: [u64; 0];
    static fixup_end: [u64; 0];
    static smap_start: [u64; 0];
    static smap_end: [u64; 0];
    static view_start: [u64; 0];
    static view_end: [u64; 0];
}

/// Writes STAC and CLAC over the prepared places. Call once, before the text is made read-only.
pub fn patch_smap_sites() {
    let (start, end) = (
        (&raw const smap_start) as *const [u64; 2],
        (&raw const smap_end) as *const [u64; 2],
    );
    // SAFETY: the linker script bounds an array of pairs, each the address of a 3-byte NOP in our text,
    // which is still writable at this point of the boot and run by no other CPU, and what goes there.
    unsafe {
        let mut at = start;
        while at < end {
            let [site, code] = *at;
            (site as *mut u8).copy_from_nonoverlapping(code.to_le_bytes().as_ptr(), 3);
            at = at.add(1);
        }
    }
}

/// Makes the entry code change CR3: jumps or calls to where it is done go over the prepared places. Call once, before the text
/// is made read-only.
pub fn patch_view_sites() {
    const CALL: u8 = 0xe8;
    const JMP: u8 = 0xe9;
    let (mut at, end) = (
        (&raw const view_start) as *const [u64; 2],
        (&raw const view_end) as *const [u64; 2],
    );
    // SAFETY: the linker script bounds an array of pairs, each the address of an instruction of at least five bytes in our
    // text, which is still writable at this point of the boot and run by no CPU, and where to go instead.
    unsafe {
        while at < end {
            let [site, target] = *at;
            let distance = target.wrapping_sub(site + 5) as u32;
            let code = site as *mut u8;
            if *code != CALL {
                *code = JMP;
            }
            code.add(1)
                .copy_from_nonoverlapping(distance.to_le_bytes().as_ptr(), 4);
            at = at.add(1);
        }
    }
}

fn fixup(rip: u64) -> Option<u64> {
    let start = (&raw const fixup_start) as *const u64;
    let words = ((&raw const fixup_end) as usize - start as usize) / 8;
    // SAFETY: the linker script bounds an array of address pairs in rodata.
    let pairs = unsafe { core::slice::from_raw_parts(start, words) };
    pairs.chunks_exact(2).find(|p| p[0] == rip).map(|p| p[1])
}

/// Called by the entry code for every trap that came from CPL 0.
///
/// # Safety
/// Only the entry code may call it, with the frame it has just pushed.
#[unsafe(no_mangle)]
unsafe extern "C" fn host_trap(pushed: *mut GuestFrame) {
    // SAFETY: the entry code's frame is ours alone, but where `bad_guest_frame` deals with it.
    let frame = unsafe { &mut *pushed };
    let vector = frame.entry & 0xff;
    if vector >= FIRST_INTERRUPT {
        irq::host_interrupt(vector as u8);
        return;
    }
    match vector {
        // A watchpoint of the guest's on memory that we copy, or single-step left on: ours to ignore.
        // SAFETY: clearing the status bits has no other effect.
        1 => unsafe { cpu::set_dr6(0xffff_0ff0) },
        2 => nmi::from_host(frame),
        18 => host_machine_check(frame),
        _ => {
            let rip = frame.rip;
            if rip == (&raw const guest_iret) as u64 {
                bad_guest_frame(pushed);
            } else if let Some(next) = fixup(rip) {
                frame.rip = next;
            } else if !efi::recover(frame, vector) {
                fatal(frame, name(vector), |_| ());
            }
        }
    }
}

/// The IRET into the guest faulted: put the guest's registers back into the frame and return from
/// `enter_guest` with the reason.
fn bad_guest_frame(pushed: *const GuestFrame) {
    let info = percpu::info();
    // SAFETY: this CPU's own block. The frame was pushed below `regs`, in the gap and over the part that had been
    // loaded already (see FRAME_GAP): the two overlap, so both are pointers, and the frame is copied before
    // anything is written.
    unsafe {
        let mut saved = pushed.read();
        percpu::this().failed_vector.set(saved.entry & 0xff);
        // Above the registers lies what IRET was to load, as it was.
        let loaded = &raw const (*info).regs;
        (saved.rip, saved.cs, saved.rflags) = ((*loaded).rip, (*loaded).cs, (*loaded).rflags);
        (saved.rsp, saved.ss) = ((*loaded).rsp, (*loaded).ss);
        (saved.es, saved.ds) = ((*loaded).es, (*loaded).ds);
        (saved.fs, saved.gs) = ((*loaded).fs, (*loaded).gs);
        (&raw mut (*info).regs).write(saved);
    }
    // The trap would return by its own frame, over which `regs` has been written: go on on the host's stack.
    let host_rsp = percpu_host_rsp(info);
    // SAFETY: that stack is as `enter_guest` left it; this does not come back.
    unsafe {
        core::arch::asm!("mov rsp, {0}", "jmp {1}", in(reg) host_rsp, in(reg) (&raw const guest_iret_failed) as u64, options(noreturn));
    }
}

fn percpu_host_rsp(info: *mut CpuInfo) -> u64 {
    // SAFETY: this CPU's own block.
    unsafe { (*info).host_rsp }
}

const _: () = assert!(FRAME_GAP >= 128);

/// An exception in words.
pub fn name(vector: u32) -> &'static str {
    const NAMES: [&str; 22] = [
        "divide error",
        "debug",
        "NMI",
        "breakpoint",
        "overflow",
        "bound range",
        "invalid opcode",
        "device not available",
        "double fault",
        "coprocessor overrun",
        "invalid TSS",
        "segment not present",
        "stack fault",
        "general protection",
        "page fault",
        "reserved",
        "FPU error",
        "alignment check",
        "machine check",
        "SIMD error",
        "virtualization",
        "control protection",
    ];
    NAMES.get(vector as usize).copied().unwrap_or("exception")
}

/// The number of the CPU that crashes, as [`cpu_number`] gives it.
static DYING: AtomicI64 = AtomicI64::new(NOBODY);
const NOBODY: i64 = i64::MIN;

/// First of the CPUs that crash takes the console; the others stop.
pub fn enter_crash() {
    if !first_to_crash() {
        cpu::stop();
    }
}

/// Whether no other CPU has the console for its end; interrupts are off then.
pub fn first_to_crash() -> bool {
    cpu::cli();
    DYING
        .compare_exchange(NOBODY, cpu_number(), Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
}

/// The CPU that ends the machine with its report.
pub fn crashing() -> Option<i64> {
    Some(DYING.load(Ordering::Acquire)).filter(|cpu| *cpu != NOBODY)
}

/// A machine check hit the hypervisor. What it does is noted, as with an NMI; a fatal one ends here.
fn host_machine_check(frame: &GuestFrame) {
    // Without data of its own yet, a CPU has nowhere to note it.
    if cpu_number() < 0 || mce::exception(percpu::this()) == Severity::Fatal {
        fatal(frame, "machine check", machine_check_banks);
    }
    if frame.rflags & rflags::IF == 0 {
        apic::remind_self();
    }
}

/// A machine check hit while a guest ran. After a fatal one nothing may go on: what it damaged is not known.
pub fn guest_machine_check() {
    if mce::exception(percpu::this()) == Severity::Fatal {
        // SAFETY: this CPU's own frame; the guest is out.
        let regs = unsafe { (*percpu::info()).regs };
        fatal(
            &regs,
            "machine check while a guest ran",
            machine_check_banks,
        )
    }
}

/// What the machine-check registers hold (AMD APM vol. 2, 9.3).
fn machine_check_banks(out: &mut Raw) {
    const MCG_CAP: u32 = 0x179;
    const FIRST_STATUS: u32 = 0x401;
    const VALID: u64 = 1 << 63;
    const ADDRESS_VALID: u64 = 1 << 58;
    let banks = cpu::rdmsr_safe(MCG_CAP).unwrap_or(0) as u32 & 0xff;
    for bank in 0..banks {
        let register = FIRST_STATUS + 4 * bank;
        let Some(status) = cpu::rdmsr_safe(register).filter(|s| s & VALID != 0) else {
            continue;
        };
        let _ = write!(
            out,
            "(XEN) machine check bank {bank}: status {status:#018x}"
        );
        if status & ADDRESS_VALID != 0
            && let Some(address) = cpu::rdmsr_safe(register + 1)
        {
            let _ = write!(out, ", address {address:#x}");
        }
        let _ = writeln!(out);
    }
}

/// Ends the hypervisor with what `more` tells, registers and a back-trace.
fn fatal(frame: &GuestFrame, what: &str, more: impl FnOnce(&mut Raw)) -> ! {
    enter_crash();
    end_report(report(frame, what, more))
}

/// Tells what has ended the hypervisor, for the first CPU to crash.
pub fn report(frame: &GuestFrame, what: &str, more: impl FnOnce(&mut Raw)) -> Raw {
    let mut out = Raw;
    let _ = writeln!(out, "\n(XEN) ****************************************");
    let _ = writeln!(
        out,
        "(XEN) Xenolith crashed on CPU {}: {what}, error code {:#x}",
        cpu_number(),
        frame.error_code
    );
    more(&mut out);
    let _ = writeln!(
        out,
        "(XEN) rip {:#018x}  cs {:#06x}  rflags {:#010x}",
        frame.rip, frame.cs, frame.rflags
    );
    let _ = writeln!(
        out,
        "(XEN) cr2 {:#018x}  cr3 {:#018x}  cr0 {:#010x}  cr4 {:#010x}",
        cpu::cr2(),
        cpu::cr3(),
        cpu::cr0(),
        cpu::cr4()
    );
    let f = frame;
    for row in [
        [
            ("rax", f.rax),
            ("rbx", f.rbx),
            ("rcx", f.rcx),
            ("rdx", f.rdx),
        ],
        [
            ("rsi", f.rsi),
            ("rdi", f.rdi),
            ("rbp", f.rbp),
            ("rsp", f.rsp),
        ],
        [("r8 ", f.r8), ("r9 ", f.r9), ("r10", f.r10), ("r11", f.r11)],
        [
            ("r12", f.r12),
            ("r13", f.r13),
            ("r14", f.r14),
            ("r15", f.r15),
        ],
    ] {
        let _ = write!(out, "(XEN)");
        for (name, value) in row {
            let _ = write!(out, " {name} {value:016x}");
        }
        let _ = writeln!(out);
    }
    backtrace(&mut out, frame.rip, frame.rbp);
    out
}

/// Nothing more is told.
pub fn end_report(mut out: Raw) -> ! {
    let _ = writeln!(out, "(XEN) ****************************************");
    super::power::after_crash()
}

/// The CPU's number, or -1 before it has data.
fn cpu_number() -> i64 {
    let rsp = cpuinfo::current() as u64;
    if (CPU_AREAS..CPU_AREAS + percpu::MAX_CPUS as u64 * CPU_STRIDE).contains(&rsp) {
        i64::from(percpu::this().id)
    } else {
        -1
    }
}

/// Return addresses by the chain of frame pointers; stops at the first that is not on this stack.
pub fn backtrace(out: &mut dyn Write, rip: u64, mut rbp: u64) {
    let _ = writeln!(out, "(XEN) Back-trace (cargo xtask symbolize names these):");
    let _ = writeln!(out, "(XEN)    [<{rip:016x}>]");
    let image = IMAGE_WINDOW..IMAGE_WINDOW + (1 << 30);
    let here = cpuinfo::current() as u64;
    for _ in 0..32 {
        let on_stack = rbp & 7 == 0
            && (rbp & !(STACK_BLOCK - 1) == here & !(STACK_BLOCK - 1) || image.contains(&rbp));
        if !on_stack {
            break;
        }
        // SAFETY: the address lies on the stack that is in use, or in our image: both mapped.
        let (next, ret) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        if !image.contains(&ret) {
            break;
        }
        let _ = writeln!(out, "(XEN)    [<{ret:016x}>]");
        if next <= rbp {
            break;
        }
        rbp = next;
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    enter_crash();
    let (rip, rbp): (u64, u64);
    // SAFETY: reads registers only.
    unsafe {
        core::arch::asm!("lea {}, [rip]", "mov {}, rbp", out(reg) rip, out(reg) rbp, options(nomem, nostack))
    };
    let mut out = Raw;
    let _ = writeln!(out, "\n(XEN) ****************************************");
    let _ = writeln!(out, "(XEN) Panic on CPU {}: {info}", cpu_number());
    backtrace(&mut out, rip, rbp);
    apic::stop_others();
    let _ = writeln!(out, "(XEN) ****************************************");
    super::power::after_crash()
}
