//! VGA text output, for machines without a serial line; dom0 takes the screen over.

use core::sync::atomic::{AtomicUsize, Ordering};

use hv_core::base::PhysAddr;

use super::layout::direct;

const COLUMNS: usize = 80;
const ROWS: usize = 25;
const BUFFER: PhysAddr = PhysAddr(0xb8000);

static CURSOR: AtomicUsize = AtomicUsize::new(0);

fn cell(index: usize) -> *mut u16 {
    (direct(BUFFER) + index as u64 * 2) as *mut u16
}

/// Writes text at the cursor, scrolling.
pub fn write(text: &[u8]) {
    for &byte in text {
        put(byte);
    }
}

fn put(byte: u8) {
    let mut at = CURSOR.load(Ordering::Relaxed);
    match byte {
        b'\n' => at = (at / COLUMNS + 1) * COLUMNS,
        b'\r' => at = at / COLUMNS * COLUMNS,
        _ => {
            // SAFETY: the text buffer is in the mapped first MiB; the index is below ROWS * COLUMNS.
            unsafe { cell(at).write_volatile(0x0700 | u16::from(byte)) };
            at += 1;
        }
    }
    if at >= COLUMNS * ROWS {
        scroll();
        at -= COLUMNS;
    }
    CURSOR.store(at, Ordering::Relaxed);
}

fn scroll() {
    for index in 0..COLUMNS * ROWS {
        let from = index + COLUMNS;
        // SAFETY: both indices are inside the text buffer.
        unsafe {
            let value = if from < COLUMNS * ROWS {
                cell(from).read_volatile()
            } else {
                0x0720
            };
            cell(index).write_volatile(value);
        }
    }
}
