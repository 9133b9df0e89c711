//! The second vCPU: started by INIT and start-up interrupts, and what it does.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use micro_base::memory::{read, write};

use crate::{apic, trap};

/// INIT, and a start-up interrupt at a page.
pub const INIT: u32 = 0x4500;
/// The page is added.
pub const START_UP: u32 = 0x4600;
/// Page at which it starts and goes to long mode.
pub const LONG: u64 = 7;
/// Page at which it stays in real mode and counts.
pub const REAL: u64 = 6;
/// Its APIC: twice the vCPU's number, on Xen.
pub const APIC: u32 = 2;
/// Vector by which it is asked, and answers.
pub const ASK: u8 = 0x60;
/// Vector of its answer.
pub const ANSWER: u8 = 0x61;

unsafe extern "C" {
    static ap_start: u8;
    static ap_end: u8;
    static ap_real: u8;
    static ap_real_end: u8;
}

/// How often it has come up.
static STARTS: AtomicU32 = AtomicU32::new(0);
/// What it is to do: 0 sleep and answer, 1 send, 2 change an entry of a table.
static WORK: AtomicU32 = AtomicU32::new(0);
/// The address of that entry, and its two values.
pub static FLIPS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Gives it something to do; it has to be woken for it.
pub fn work(what: u32) {
    WORK.store(what, Ordering::Release);
    if what != 0 {
        apic::command(APIC, u32::from(ASK));
    }
}

fn copy(page: u64, from: u64, to: u64) {
    for offset in 0..to - from {
        write(page * 4096 + offset, read::<u8>(from + offset));
    }
}

/// Puts its code in place.
pub fn prepare() {
    copy(LONG, &raw const ap_start as u64, &raw const ap_end as u64);
    copy(
        REAL,
        &raw const ap_real as u64,
        &raw const ap_real_end as u64,
    );
}

/// How often it has come up.
pub fn starts() -> u32 {
    STARTS.load(Ordering::Acquire)
}

/// Starts it in long mode, and waits for it.
pub fn start() {
    prepare();
    apic::enable();
    let before = starts();
    apic::command(APIC, INIT);
    apic::command(APIC, START_UP | LONG as u32);
    for _ in 0..1_u64 << 32 {
        if starts() != before {
            return;
        }
        core::hint::spin_loop();
    }
    panic!("the second vCPU does not start");
}

/// Its life.
#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    trap::load();
    apic::enable();
    STARTS.fetch_add(1, Ordering::AcqRel);
    let mut asked = trap::count(ASK);
    loop {
        match WORK.load(Ordering::Acquire) {
            0 => {
                trap::sleep();
                while trap::count(ASK) != asked {
                    asked = asked.wrapping_add(1);
                    apic::command(0, u32::from(ANSWER));
                }
            }
            1 => {
                trap::enable();
                apic::command(0, 0x50);
                trap::disable();
            }
            _ => {
                let [entry, first, second] =
                    [0, 1, 2].map(|i: usize| FLIPS[i].load(Ordering::Relaxed));
                write(entry, first);
                write(entry, second);
            }
        }
    }
}
