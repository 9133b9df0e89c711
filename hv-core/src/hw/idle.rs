//! How a CPU waits when it has nothing to do.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::cpu;

/// Idle CPUs wait by MWAIT.
static MWAIT: AtomicBool = AtomicBool::new(false);

/// Decides it, as `mwait-idle` wants.
pub fn begin(wanted: bool) {
    if !wanted {
        return;
    }
    let there = cpu::identity()
        .get_feature_info()
        .is_some_and(|f| f.has_monitor_mwait());
    MWAIT.store(there, Ordering::Relaxed);
    crate::say!(
        "Idle CPUs wait by {}",
        if there {
            "MWAIT"
        } else {
            "HLT: there is no MWAIT"
        }
    );
}

/// Sleeps until an interrupt, or until somebody may have written to `owed`, which was zero when it was last looked at.
/// Interrupts are off before and after.
pub fn wait(owed: &AtomicU32) {
    if !MWAIT.load(Ordering::Relaxed) {
        cpu::halt_until_interrupt();
        return;
    }
    // SAFETY: MONITOR reads the word and no more. Both are there, as `begin` has seen.
    unsafe {
        asm!("monitor", in("rax") owed.as_ptr(), in("ecx") 0, in("edx") 0, options(nostack, preserves_flags));
    }
    // A write from here on ends the wait, one before is seen now.
    if owed.load(Ordering::SeqCst) != 0 {
        return;
    }
    // SAFETY: STI takes effect after MWAIT, which an interrupt ends as it ends HLT. Hint 0 is state C1, without extensions.
    unsafe { asm!("sti", "mwait", "cli", in("eax") 0, in("ecx") 0, options(nostack)) };
}
