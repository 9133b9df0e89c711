//! Traps and interrupts: the table, the handler, and probes, which are single instructions that may fault.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use micro_base::trap::Frame;

use crate::console::println;
use crate::{apic, events, kernel};

/// A trap that a probe met.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Vector.
    pub vector: u64,
    /// Error code.
    pub error: u64,
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trap {} error {:#x}", self.vector, self.error)
    }
}

/// Where the next trap continues; zero when none is expected.
pub static FIXUP: AtomicU64 = AtomicU64::new(0);
/// The probe's stack.
pub static STACK: AtomicU64 = AtomicU64::new(0);
/// One more than the vector of the last trap.
static SEEN: AtomicU64 = AtomicU64::new(0);
static ERROR: AtomicU64 = AtomicU64::new(0);

/// Interrupts by their vectors.
static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

/// Behind this one none are taken: with the shortest period there is always another.
pub const ONE_AT_A_TIME: u8 = 0x70;
/// The flag that says whether interrupts are taken.
const INTERRUPTS: u64 = 1 << 9;

/// How many interrupts of this vector were taken.
pub fn count(vector: u8) -> u32 {
    COUNTS[usize::from(vector)].load(Ordering::Acquire)
}

/// Runs instructions that may trap; label `3` is taken. Gives the trap, if there was one.
macro_rules! probe {
    ($code:literal $(, $($operands:tt)*)?) => {{
        // SAFETY: the handler continues behind the code whatever it does; each use names what it changes.
        unsafe {
            core::arch::asm!(
                "lea {probe_end}, [rip + 3f]",
                "mov [rip + {probe_stack}], rsp",
                "mov [rip + {probe_fixup}], {probe_end}",
                $code,
                "3:",
                probe_end = out(reg) _,
                probe_fixup = sym $crate::trap::FIXUP,
                probe_stack = sym $crate::trap::STACK,
                $($($operands)*)?
            );
        }
        $crate::trap::outcome()
    }};
}
pub(crate) use probe;

/// What the probe that has just ended met.
pub fn outcome() -> Option<Trap> {
    FIXUP.store(0, Ordering::Relaxed);
    let seen = SEEN.swap(0, Ordering::Relaxed);
    (seen != 0).then(|| Trap {
        vector: seen - 1,
        error: ERROR.load(Ordering::Relaxed),
    })
}

/// Reads eight bytes, if they can be read.
pub fn try_read(address: u64) -> Result<u64, Trap> {
    let value: u64;
    match probe!("mov {value}, [{address}]", value = inout(reg) 0_u64 => value, address = in(reg) address)
    {
        None => Ok(value),
        Some(trap) => Err(trap),
    }
}

/// Writes eight bytes, if they can be written.
pub fn try_write(address: u64, value: u64) -> Option<Trap> {
    probe!("mov [{address}], {value}", value = in(reg) value, address = in(reg) address)
}

/// The interrupt descriptor table.
#[repr(C, align(4096))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: it is written before interrupts are taken, and read by the CPU.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

unsafe extern "C" {
    static stubs: u8;
}

/// Bytes of one stub.
const STUB: u64 = 16;

/// What LIDT takes.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills the table, and lets this vCPU use it.
pub fn install() {
    let base = &raw const stubs as u64;
    for vector in 0..256_u64 {
        let to = base + vector * STUB;
        // An interrupt gate of DPL 0, or 3 for the vectors that user code may name (APM 2, 4.8.4).
        let kind = if matches!(vector, 3 | 4 | 0x80) {
            0xee
        } else {
            0x8e
        };
        let low = to & 0xffff | 8 << 16 | kind << 40 | (to >> 16 & 0xffff) << 48;
        // SAFETY: nobody else looks at it yet.
        unsafe { (*TABLE.0.get())[vector as usize] = [low, to >> 32] };
    }
    load();
}

/// Lets this vCPU use the table.
pub fn load() {
    load_at(TABLE.0.get() as u64, 0xfff);
}

/// Lets this vCPU use that table.
pub fn load_at(base: u64, limit: u16) {
    let pointer = Pointer { limit, base };
    // SAFETY: it points to our table, or the caller wants the worst.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer) };
}

/// All deliveries end here; called by the stubs.
#[unsafe(no_mangle)]
extern "C" fn trap_entry(frame: &mut Frame) {
    if frame.vector >= 32 || frame.vector == 2 {
        COUNTS[frame.vector as usize & 255].fetch_add(1, Ordering::AcqRel);
        match frame.vector as u8 {
            2 => {}
            // Not by the APIC, unless we send it so ourselves before there is a callback.
            events::VECTOR if events::is_ready() => events::collect(),
            vector => {
                apic::end_of_interrupt();
                if vector == ONE_AT_A_TIME {
                    frame.rflags &= !INTERRUPTS;
                }
            }
        }
        return;
    }
    ERROR.store(frame.error, Ordering::Relaxed);
    SEEN.store(frame.vector + 1, Ordering::Relaxed);
    match FIXUP.swap(0, Ordering::Relaxed) {
        0 => unexpected(frame),
        fixup => {
            frame.rip = fixup;
            // Without the trap, direction, alignment and nested-task flags.
            frame.rflags &= !0x0004_4500;
            frame.cs = 8;
            frame.ss = 16;
            frame.rsp = STACK.load(Ordering::Relaxed);
        }
    }
}

fn unexpected(frame: &Frame) -> ! {
    let address: u64;
    // SAFETY: it reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address) };
    println!(
        "FAILED unexpected trap {} error {:#x} at {:#x} address {address:#x} stack {:#x} flags {:#x}",
        frame.vector, frame.error, frame.rip, frame.rsp, frame.rflags
    );
    kernel::shut_down()
}

/// Takes interrupts from now on, at once what waits: the instruction behind STI is never interrupted.
pub fn enable() {
    // SAFETY: all of them have handlers.
    unsafe { asm!("sti", "nop") };
}

/// Takes none.
pub fn disable() {
    // SAFETY: it only holds them off.
    unsafe { asm!("cli") };
}

/// Sleeps until an interrupt was taken; comes back with interrupts held off.
pub fn sleep() {
    // SAFETY: all of them have handlers.
    unsafe { asm!("sti", "hlt", "cli") };
}
