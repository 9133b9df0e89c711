//! The second vCPU.

use core::sync::atomic::{AtomicU64, Ordering};

static ALIVE: AtomicU64 = AtomicU64::new(0);

/// Where the second vCPU starts.
#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    ALIVE.store(1, Ordering::SeqCst);
    loop {}
}
