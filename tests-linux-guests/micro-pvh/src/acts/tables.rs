//! Page tables that point anywhere.

use core::arch::asm;

use micro_base::memory::{read, write};

use crate::console::println;
use crate::pages::{SCRATCH, entry_of, root};
use crate::random::Random;
use crate::trap::{Trap, probe, try_read, try_write};
use crate::{apic, second};

/// The addresses that the wild entries map: 2 MiB at 3 GiB, where nothing is.
const PLACE: u64 = 0xc000_0000;

/// Outcomes of accesses.
#[derive(Default)]
struct Met {
    done: u32,
    page_faults: u32,
    reserved: u32,
    others: u32,
}

impl Met {
    fn note(&mut self, trap: Option<Trap>) {
        match trap {
            None => self.done += 1,
            Some(Trap { vector: 14, error }) if error & 8 != 0 => self.reserved += 1,
            Some(Trap { vector: 14, .. }) => self.page_faults += 1,
            Some(_) => self.others += 1,
        }
    }
}

fn flush() {
    // SAFETY: the same tables again.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _) };
}

/// An entry that maps frames which are not there, or tables that are not: never our own memory.
fn wild_entry(random: &mut Random) -> u64 {
    let flags = random.next() & 0xfff | 1;
    let frame = match random.below(5) {
        0 => 0xd0000 + random.below(0x1000),
        1 => 0xfec00 + random.below(0x400),
        2 => 1 << (20 + random.below(20)),
        3 => random.below(1 << 40),
        _ => 0xffff_ffff,
    };
    // Beyond 16 MiB.
    let frame = if frame < 0x1000 {
        frame + 0x1000
    } else {
        frame
    };
    // No table or page that is ours can be written by such an entry.
    let high = if random.below(4) == 0 {
        random.next() & 0xfff0_0000_0000_0000
    } else {
        0
    };
    frame << 12 & 0x000f_ffff_ffff_f000 | flags | high
}

/// Entries of every level, read and written and run through.
pub fn wild(random: &mut Random) {
    let mut met = Met::default();
    let table = &SCRATCH[2];
    let entry = entry_of(PLACE);
    let old: u64 = read(entry);
    for round in 0..1000_u64 {
        for index in 0..8 {
            table.set_word(index, wild_entry(random));
        }
        // At once, or with a table of ours in between.
        let to = if round % 2 == 0 {
            wild_entry(random)
        } else {
            table.address() | 7
        };
        write(entry, to);
        flush();
        let at = PLACE + random.below(8) * 4096 + random.below(4089);
        met.note(try_read(at).err());
        met.note(try_write(at, random.next()));
        met.note(probe!("lock inc dword ptr [{a}]", a = in(reg) at));
        met.note(
            probe!("rep movsb", inout("rcx") 64_u64 => _, inout("rsi") at => _,
            inout("rdi") SCRATCH[3].address() => _),
        );
        met.note(probe!("rep stosq", inout("rcx") 600_u64 => _, inout("rdi") at => _, in("rax") 0));
        met.note(probe!("cmpxchg16b [{a}]; nop", a = in(reg) at & !15, out("rax") _, out("rdx") _));
    }
    write(entry, old);
    flush();
    println!(
        "wild tables: done {}, page faults {}, reserved bits {}, others {}",
        met.done, met.page_faults, met.reserved, met.others
    );
    roots(random);
}

/// Third-level and fourth-level entries, and tables where devices are or nothing is.
fn roots(random: &mut Random) {
    let mut met = Met::default();
    for _ in 0..500 {
        let index = 1 + random.below(511);
        root().set_word(index, wild_entry(random));
        flush();
        let address = (index << 39) as i64;
        let address = if index > 255 {
            address | -1 << 48
        } else {
            address
        };
        met.note(try_read(address as u64).err());
        met.note(try_write(address as u64 + 8, 1));
        root().set_word(index, 0);
    }
    flush();
    println!(
        "wild roots: done {}, page faults {}, reserved bits {}, others {}",
        met.done, met.page_faults, met.reserved, met.others
    );
}

/// One vCPU changes an entry all the time while the other accesses a device through it, so that what the hypervisor walks
/// is not what the CPU walked.
pub fn race(random: &mut Random) {
    second::start();
    let entry = entry_of(PLACE);
    let old: u64 = read(entry);
    second::FLIPS[0].store(entry, core::sync::atomic::Ordering::Release);
    second::FLIPS[1].store(0xfee0_0083, core::sync::atomic::Ordering::Release);
    second::FLIPS[2].store(
        SCRATCH[4].address() & !0x1f_ffff | 0x83,
        core::sync::atomic::Ordering::Release,
    );
    second::work(2);
    let mut met = Met::default();
    for _ in 0..5000 {
        let at = PLACE + apic::VERSION + (random.below(4) << 4);
        // Reads only: what is written might be our code.
        met.note(try_read(at).err());
        // SAFETY: it forgets a translation.
        unsafe { asm!("invlpg [{}]", in(reg) PLACE) };
    }
    second::work(0);
    apic::command(second::APIC, second::INIT);
    write(entry, old);
    flush();
    println!(
        "raced tables: done {}, others {}",
        met.done,
        met.page_faults + met.others + met.reserved
    );
}
