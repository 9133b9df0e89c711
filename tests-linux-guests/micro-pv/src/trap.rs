//! Traps: the table, the handler, and probes, which are single instructions that may fault.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use micro_base::trap::Frame;
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, TI_IF, TrapInfo};
use xen_abi::hypercall::{__HYPERVISOR_callback_op, __HYPERVISOR_set_trap_table};
use xen_abi::xen::VCPU_INFO_CR2;

use crate::call::{hypercall, send};
use crate::console::println;
use crate::memory::Page;
use crate::{checks, kernel};

/// Vector of an event upcall in a [`Frame`].
const EVENT: u64 = 256;
/// Vector of a failsafe callback in a [`Frame`].
pub const FAILSAFE: u64 = 257;
/// Vector of a system call from user mode in a [`Frame`].
pub const SYSCALL: u64 = 258;
/// Vector of a non-maskable interrupt in a [`Frame`].
pub const NMI: u64 = 259;
/// Vector that user mode reaches by `int`.
pub const SOFT: u64 = 0x80;

/// A trap that a probe met.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Vector.
    pub vector: u64,
    /// Error code.
    pub error: u64,
    /// Faulting address; zero unless a page fault.
    pub address: u64,
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "trap {} error {:#x} at {:#x}",
            self.vector, self.error, self.address
        )
    }
}

/// A page fault.
pub const fn page_fault(error: u64, address: u64) -> Option<Trap> {
    Some(Trap {
        vector: 14,
        error,
        address,
    })
}

/// A general protection fault.
pub const fn protection(error: u64) -> Option<Trap> {
    other(13, error)
}

/// Any other trap.
pub const fn other(vector: u64, error: u64) -> Option<Trap> {
    Some(Trap {
        vector,
        error,
        address: 0,
    })
}

/// Where the next trap continues; zero when none is expected.
#[unsafe(export_name = "probe_fixup")]
pub static FIXUP: AtomicU64 = AtomicU64::new(0);
/// The probe's stack, for traps that come from another.
#[unsafe(export_name = "probe_stack")]
pub static STACK: AtomicU64 = AtomicU64::new(0);
/// Whether [`FIXUP`] was used, and by which trap.
static SEEN: AtomicU64 = AtomicU64::new(0);
static VECTOR: AtomicU64 = AtomicU64::new(0);
static ERROR: AtomicU64 = AtomicU64::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);
static CODE_SEGMENT: AtomicU64 = AtomicU64::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
/// rbx, r15, r9 and rdi of the last trap.
static REGISTERS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Runs instructions that may trap; label `3` is taken. Gives the trap, if there was one.
macro_rules! probe {
    ($code:literal $(, $($operands:tt)*)?) => {{
        // SAFETY: the handler continues behind the code whatever it does; each use names what it
        // changes.
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
    if SEEN.swap(0, Ordering::Relaxed) == 0 {
        return None;
    }
    Some(Trap {
        vector: VECTOR.load(Ordering::Relaxed),
        error: ERROR.load(Ordering::Relaxed),
        address: ADDRESS.load(Ordering::Relaxed),
    })
}

/// Event mask that was saved with the last trap.
pub fn saved_mask() -> u64 {
    CODE_SEGMENT.load(Ordering::Relaxed) >> 32 & 0xff
}

/// Where the last trap happened.
pub fn place() -> u64 {
    RIP.load(Ordering::Relaxed)
}

/// rbx, r15, r9 and rdi at the last trap; [`leave_to`] sets them to [`LEFT`].
pub fn registers() -> [u64; 4] {
    [0, 1, 2, 3].map(|index: usize| REGISTERS[index].load(Ordering::Relaxed))
}

/// What [`registers`] are after [`leave_to`]; also in the assembly.
pub const LEFT: [u64; 4] = [0x0bbb, 0x1555, 0x0999, 0x0ddd];

/// Code segment of the last trap.
pub fn code_segment() -> u64 {
    CODE_SEGMENT.load(Ordering::Relaxed) & 0xffff
}

/// Reads eight bytes, if they can be read.
pub fn try_read(address: u64) -> Result<u64, Trap> {
    let value: u64;
    match probe!("mov {value}, [{address}]", value = inout(reg) 0_u64 => value,
        address = in(reg) address)
    {
        None => Ok(value),
        Some(trap) => Err(trap),
    }
}

/// Writes eight bytes, if they can be written.
pub fn try_write(address: u64, value: u64) -> Option<Trap> {
    probe!("mov [{address}], {value}", value = in(reg) value, address = in(reg) address)
}

// SAFETY: the assembly of this crate defines them, the function with these arguments.
unsafe extern "C" {
    fn leave(frame: *const [u64; 5]);
    static trap_stubs: u8;
    static event_stub: u8;
    static failsafe_stub: u8;
    static syscall_stub: u8;
    static soft_stub: u8;
    static nmi_stub: u8;
}

/// Returns by hypercall to rip, cs, rflags, rsp and ss; gives the trap that led back.
pub fn leave_to(frame: [u64; 5]) -> Option<Trap> {
    // SAFETY: it comes back by way of the trap handler with the registers a function keeps.
    unsafe { leave(&raw const frame) };
    outcome()
}

/// Bytes of one stub.
const STUB: u64 = 16;

/// Addresses of the stubs for traps, events, failsafe, system calls, `int 0x80` and NMI.
pub fn stubs() -> [u64; 6] {
    [
        &raw const trap_stubs as u64,
        &raw const event_stub as u64,
        &raw const failsafe_stub as u64,
        &raw const syscall_stub as u64,
        &raw const soft_stub as u64,
        &raw const nmi_stub as u64,
    ]
}

/// Fills `page` with our trap table.
pub fn fill_table(page: &Page) {
    let [traps, .., soft, _] = stubs();
    let info = |vector: u8, dpl: u8, address: u64| TrapInfo {
        vector,
        flags: TI_IF | dpl,
        cs: FLAT_KERNEL_CS,
        address,
        ..TrapInfo::default()
    };
    for vector in 0..32_u8 {
        let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
        let entry = info(vector, dpl, traps + u64::from(vector) * STUB);
        page.put(u64::from(vector) * 16, &entry);
    }
    page.put(32 * 16, &info(SOFT as u8, 3, soft));
    page.put(33 * 16, &TrapInfo::default());
}

/// Registers the handlers; the results are checked by `checks::callbacks`.
pub fn install() {
    use xen_abi::callback::{
        CALLBACKOP_register, CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall,
        CallbackRegister,
    };
    let table = Page::take();
    fill_table(table);
    let result = hypercall(__HYPERVISOR_set_trap_table, [table.address()]);
    if result != 0 {
        println!("set_trap_table: {result}");
    }
    table.give_back();
    let [_, event, failsafe, syscall, ..] = stubs();
    for (kind, address) in [
        (CALLBACKTYPE_event, event),
        (CALLBACKTYPE_failsafe, failsafe),
        (CALLBACKTYPE_syscall, syscall),
    ] {
        let register = CallbackRegister {
            r#type: kind,
            address,
            ..CallbackRegister::default()
        };
        let result = send(__HYPERVISOR_callback_op, CALLBACKOP_register, &register);
        if result != 0 {
            println!("callback {kind}: {result}");
        }
    }
}

/// All deliveries end here; called by the stubs.
#[unsafe(no_mangle)]
extern "C" fn trap_entry(frame: &mut Frame) {
    match frame.vector {
        EVENT => return checks::upcall::handle(),
        NMI => return checks::upcall::count_nmi(),
        _ => {}
    }
    VECTOR.store(frame.vector, Ordering::Relaxed);
    ERROR.store(frame.error, Ordering::Relaxed);
    CODE_SEGMENT.store(frame.cs, Ordering::Relaxed);
    RIP.store(frame.rip, Ordering::Relaxed);
    for (place, index) in REGISTERS.iter().zip([11, 0, 6, 8]) {
        place.store(frame.general[index], Ordering::Relaxed);
    }
    let address = match frame.vector {
        14 => kernel::vcpu_info::<u64>(VCPU_INFO_CR2),
        _ => 0,
    };
    ADDRESS.store(address, Ordering::Relaxed);
    SEEN.store(1, Ordering::Relaxed);
    match FIXUP.swap(0, Ordering::Relaxed) {
        0 => unexpected(frame, address),
        fixup => resume(frame, fixup),
    }
}

/// Goes on behind the probe, in kernel mode and on its stack.
fn resume(frame: &mut Frame, fixup: u64) {
    frame.rip = fixup;
    // Without the trap, direction, alignment and identification flags.
    frame.rflags &= !0x0024_0500;
    let mask = frame.cs & 0xff_0000_0000;
    frame.cs = u64::from(FLAT_KERNEL_CS & !3) | mask;
    frame.ss = FLAT_KERNEL_SS.into();
    frame.rsp = STACK.load(Ordering::Relaxed);
}

fn unexpected(frame: &Frame, address: u64) -> ! {
    println!(
        "FAILED unexpected trap {} error {:#x} at {:#x}: got address {address:#x} stack {:#x} flags {:#x}, want none",
        frame.vector, frame.error, frame.rip, frame.rsp, frame.rflags
    );
    kernel::power_off()
}
