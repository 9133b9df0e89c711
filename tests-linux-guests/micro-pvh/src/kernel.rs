//! Start and end of the run.

use core::arch::global_asm;
use core::panic::PanicInfo;

use micro_base::memory::read;
use micro_base::{NoHeap, word};
use xen_abi::hvm_start_info::{HvmStartInfo, XEN_HVM_START_MAGIC_VALUE};
use xen_abi::hypercall::__HYPERVISOR_sched_op;
use xen_abi::sched::{SCHEDOP_shutdown, SHUTDOWN_poweroff, SchedShutdown};

use crate::call::send;
use crate::console::{self, println};
use crate::{acts, call, trap};

global_asm!(
    include_str!("../../micro-base/src/trap.S"),
    include_str!("entry.S")
);

#[global_allocator]
static HEAP: NoHeap = NoHeap;

/// Longest command line that is read.
const LINE: usize = 256;

/// The entry point, called by the assembly.
#[unsafe(no_mangle)]
extern "C" fn micro_main(start_info: u64) -> ! {
    trap::install();
    call::init();
    console::init();
    let info: HvmStartInfo = read(start_info);
    println!("micro-pvh starts");
    if info.magic != XEN_HVM_START_MAGIC_VALUE {
        println!("FAILED the start info's magic is {:#x}", info.magic);
    }
    let bytes: [u8; LINE] = read(info.cmdline_paddr);
    let length = bytes.iter().position(|b| *b == 0).unwrap_or(LINE);
    let line = core::str::from_utf8(&bytes[..length]).unwrap_or("");
    let seed = word(line, "seed").and_then(|text| text.parse().ok());
    acts::run(word(line, "act").unwrap_or(""), seed.unwrap_or(1));
    shut_down()
}

/// Says that this domain wants the power off.
pub fn shut_down() -> ! {
    let reason = SchedShutdown {
        reason: SHUTDOWN_poweroff,
    };
    loop {
        send(__HYPERVISOR_sched_op, SCHEDOP_shutdown, &reason);
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("FAILED micro-pvh itself: {info}");
    shut_down()
}
