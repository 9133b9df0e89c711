//! Start and end of the run, and the shared info page.

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use micro_base::NoHeap;
pub use micro_base::word;
use xen_abi::hypercall::{__HYPERVISOR_platform_op, __HYPERVISOR_sched_op};
use xen_abi::platform::{
    PlatformEnterAcpiSleep, PlatformOp, XENPF_INTERFACE_VERSION, XENPF_enter_acpi_sleep,
};
use xen_abi::sched::{SCHEDOP_shutdown, SHUTDOWN_poweroff, SchedShutdown};
use xen_abi::start_info::SIF_INITDOMAIN;
use xen_abi::xen::UVMF_INVLPG;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::call::{Argument, hypercall, send};
use crate::console::{self, println};
use crate::memory::{self, Page};
use crate::store::Store;
use crate::{tables, trap};

global_asm!(
    include_str!("../../micro-base/src/trap.S"),
    include_str!("entry.S")
);

#[global_allocator]
static HEAP: NoHeap = NoHeap;

/// Address of the shared info page.
static SHARED: AtomicU64 = AtomicU64::new(0);

/// Address of the shared info page.
pub fn shared_info() -> u64 {
    SHARED.load(Ordering::Relaxed)
}

/// Reads at an offset of the first vCPU's info.
pub fn vcpu_info<T: FromBytes>(offset: usize) -> T {
    memory::read(shared_info() + offset as u64)
}

/// Writes at an offset of the first vCPU's info.
pub fn set_vcpu_info<T: IntoBytes>(offset: usize, value: T) {
    memory::write(shared_info() + offset as u64, value);
}

/// Whose part this kernel plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The first domain, which has the hardware.
    Dom0,
    /// A domain that dom0 has made, without rights.
    DomU,
}

/// Whose part this kernel plays.
pub fn role() -> Role {
    if memory::start_info().flags & SIF_INITDOMAIN != 0 {
        Role::Dom0
    } else {
        Role::DomU
    }
}

/// Our domain's number: a domU asks xenstore for it.
pub fn domain() -> u16 {
    /// One more than the number, once it is known.
    static KNOWN: AtomicU32 = AtomicU32::new(0);
    if role() == Role::Dom0 {
        return 0;
    }
    if KNOWN.load(Ordering::Relaxed) == 0 {
        let number = Store::attach().domain().expect("xenstore knows us");
        KNOWN.store(u32::from(number) + 1, Ordering::Relaxed);
    }
    (KNOWN.load(Ordering::Relaxed) - 1) as u16
}

// SAFETY: each program defines it, with this signature.
unsafe extern "Rust" {
    /// What the program does with the rest of its life.
    safe fn micro_program(line: &str);
}

/// The entry point, called by the assembly.
#[unsafe(no_mangle)]
extern "C" fn micro_main(start_info: u64) -> ! {
    memory::init(start_info);
    console::init();
    println!("micro-pv starts");
    let info = memory::start_info();
    println!(
        "start info at {start_info:#x}: {} pages, {} table pages from {:#x}, p2m {:#x}",
        info.nr_pages, info.nr_pt_frames, info.pt_base, info.mfn_list
    );
    let shared = Page::take();
    let entry = info.shared_info | tables::WRITABLE;
    let result = tables::map(shared.address(), entry, UVMF_INVLPG);
    SHARED.store(shared.address(), Ordering::Relaxed);
    if result != 0 {
        println!("shared info cannot be mapped: {result}");
    }
    trap::install();
    let line = info.cmd_line;
    let length = line.iter().position(|b| *b == 0).unwrap_or(line.len());
    let line = core::str::from_utf8(&line[..length]).unwrap_or("");
    micro_program(line);
    power_off()
}

/// Bit SLP_EN of the PM1 control register.
const SLEEP_ENABLE: u16 = 1 << 13;

/// Ends the machine: by ACPI as an operating system does, else by saying that this domain wants
/// the power off (after which Xen only halts if it is dom0).
pub fn power_off() -> ! {
    if role() == Role::DomU {
        shut_down()
    }
    // The sleep type of S5 is 0 on QEMU's boards.
    let sleep = PlatformEnterAcpiSleep {
        val_a: SLEEP_ENABLE,
        val_b: SLEEP_ENABLE,
        sleep_state: 5,
        flags: 0,
    };
    let operation = platform_op(XENPF_enter_acpi_sleep, &sleep);
    let argument = Argument::new(&operation);
    let result = hypercall(__HYPERVISOR_platform_op, [argument.address()]);
    println!("sleep came back: {result}");
    shut_down()
}

/// Says that this domain wants the power off.
pub fn shut_down() -> ! {
    let reason = SchedShutdown {
        reason: SHUTDOWN_poweroff,
    };
    loop {
        let result = send(__HYPERVISOR_sched_op, SCHEDOP_shutdown, &reason);
        println!("shutdown came back: {result}");
    }
}

/// A platform operation of our version with this content.
pub fn platform_op<T: IntoBytes + Immutable>(cmd: u32, content: &T) -> PlatformOp {
    let mut operation = PlatformOp {
        cmd,
        interface_version: XENPF_INTERFACE_VERSION,
        ..PlatformOp::default()
    };
    let bytes = content.as_bytes();
    operation.u.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    operation
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("FAILED micro-pv itself: got {info}, want none");
    power_off()
}
