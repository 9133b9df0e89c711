//! Every CPUID leaf, MSR, port and control register.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

use crate::apic::{self, read_msr, write_msr};
use crate::console::println;
use crate::random::Random;
use crate::trap::{Trap, probe};

/// Leaves in ranges: the first and how many.
const LEAVES: &[(u32, u32)] = &[
    (0, 0x40),
    (0x2000_0000, 4),
    (0x4000_0000, 0x110),
    (0x8000_0000, 0x40),
    (0x8086_0000, 8),
    (0xc000_0000, 8),
    (0xffff_fff0, 16),
];

/// All leaves with some subleaves; prints those of the hypervisor and a sum of the others.
pub fn cpuid(random: &mut Random) {
    let mut sum = 0_u64;
    let mut leaves = 0;
    for &(first, count) in LEAVES {
        for leaf in first..=first + (count - 1) {
            for subleaf in (0..8).chain([63, 64, u32::MAX]) {
                let answer = __cpuid_count(leaf, subleaf);
                let words = [answer.eax, answer.ebx, answer.ecx, answer.edx];
                for word in words {
                    sum = sum.rotate_left(5) ^ u64::from(word);
                }
                leaves += 1;
                let shown = leaf & 0xf000_0000 == 0x4000_0000 && leaf & 0xff < 6 && subleaf < 3;
                if shown || matches!((leaf, subleaf), (0 | 1 | 0x8000_0001, 0)) {
                    println!("cpuid {leaf:#x}/{subleaf}: {words:x?}");
                }
            }
        }
    }
    for _ in 0..2000 {
        let _ = __cpuid_count(random.next() as u32, random.next() as u32);
    }
    println!("cpuid: {leaves} leaves, sum {sum:#x}");
}

/// Ranges of MSRs: the first and how many.
const MSRS: &[(u32, u32)] = &[
    (0, 0x2000),
    (0x4000_0000, 0x200),
    (0x4b56_4d00, 0x10),
    (0xc000_0000, 0x200),
    (0xc000_2000, 0x100),
    (0xc001_0000, 0x1300),
    (0xffff_fff0, 16),
];

fn numbers() -> impl Iterator<Item = u32> {
    MSRS.iter()
        .flat_map(|&(first, count)| first..=first + (count - 1))
}

/// Reads all; prints which can be read.
pub fn msrs_read(random: &mut Random) {
    let mut readable = 0;
    for number in numbers() {
        match read_msr(number) {
            // Those of the APIC are its own act's, and machine-check banks are many.
            Ok(_) if matches!(number, 0x400..=0x4ff | 0x800..=0x8ff) => readable += 1,
            Ok(value) => {
                println!("msr {number:#x}: {value:#x}");
                readable += 1;
            }
            Err(Trap {
                vector: 13,
                error: 0,
            }) => {}
            Err(trap) => println!("FAILED msr {number:#x}: {trap:?}"),
        }
    }
    for _ in 0..5000 {
        let _ = read_msr(random.next() as u32);
    }
    println!("msr: {readable} can be read");
}

/// Those whose loss would be ours: EFER, the APIC's base and registers, and where the hypercall page is written.
fn is_vital(number: u32) -> bool {
    matches!(number, 0x1b | 0x800..=0x8ff | 0xc000_0080 | 0x4000_0000..=0x4000_01ff)
}

/// Writes all, with what they have, with bounds and with anything; what can be read is put back.
pub fn msrs_written(random: &mut Random) {
    let mut taken = 0;
    for number in numbers().filter(|number| !is_vital(*number)) {
        let old = read_msr(number);
        let values = [old.unwrap_or(0), 0, !0, 1, random.edgy(), random.next()];
        for value in values {
            match write_msr(number, value) {
                None => taken += 1,
                Some(Trap {
                    vector: 13,
                    error: 0,
                }) => {}
                Some(trap) => println!("FAILED msr {number:#x} := {value:#x}: {trap:?}"),
            }
        }
        if let Ok(old) = old {
            let _ = write_msr(number, old);
        }
    }
    // The hypercall page: nowhere, in the devices' part, beyond all memory.
    let base = core::arch::x86_64::__cpuid(0x4000_0002).ebx;
    for value in [
        0xfee0_0000,
        0xfed0_0000,
        0xd000_0000,
        1 << 40,
        1 << 52,
        !0,
        0xfff,
    ] {
        println!("hypercall page at {value:#x}: {:?}", write_msr(base, value));
    }
    for value in [0, 0x100, 0x901, 0x900, !0, 0xfee0_0000, 1 << 11] {
        // Without the APIC for a moment.
        let old = read_msr(apic::BASE_MSR).unwrap_or(0);
        let trap = write_msr(apic::BASE_MSR, value);
        println!("APIC base := {value:#x}: {trap:?}");
        let _ = write_msr(apic::BASE_MSR, 0);
        let _ = write_msr(apic::BASE_MSR, old);
    }
    println!("msr: {taken} writes were taken");
}

/// What a register takes of random values: the traps that were met, by vector.
#[derive(Default)]
struct Taken {
    taken: u32,
    refused: u32,
    other: u32,
}

impl Taken {
    fn note(&mut self, trap: Option<Trap>) {
        match trap {
            None => self.taken += 1,
            Some(Trap { vector: 13, .. }) => self.refused += 1,
            Some(_) => self.other += 1,
        }
    }

    fn tell(&self, name: &str) {
        println!(
            "{name}: taken {}, #GP {}, other {}",
            self.taken, self.refused, self.other
        );
    }
}

/// Random values for CR0, CR4, CR8, EFER, XCR0; each is put back at once.
pub fn controls(random: &mut Random) {
    let mut all: [Taken; 6] = Default::default();
    let efer = read_msr(0xc000_0080).unwrap_or(0);
    for round in 0..4000_u32 {
        // At first one bit at a time.
        let bit = 1_u64 << (round % 64);
        let flip = if round < 128 { bit } else { random.edgy() };
        // The value and what it was are in registers: memory may be of no use while it is in effect.
        all[0].note(
            probe!("mov {old}, cr0; xor {v}, {old}; mov cr0, {v}; mov cr0, {old}",
                v = inout(reg) with_cd(flip) => _, old = out(reg) _
            ),
        );
        all[1].note(
            probe!("mov {old}, cr4; xor {v}, {old}; mov cr4, {v}; mov cr4, {old}",
                v = inout(reg) flip => _, old = out(reg) _
            ),
        );
        all[2]
            .note(probe!("mov cr8, {v}; mov cr8, {zero}", v = in(reg) flip, zero = in(reg) 0_u64));
        all[3].note(write_msr(0xc000_0080, efer ^ flip));
        let _ = write_msr(0xc000_0080, efer);
        all[4].note(
            probe!("xsetbv", in("ecx") 0, in("eax") flip as u32, in("edx") (flip >> 32) as u32),
        );
        all[5].note(
            probe!("mov {old}, cr3; or {v}, {old}; mov cr3, {v}; mov cr3, {old}",
                v = inout(reg) 0xff8 & flip => _, old = out(reg) _
            ),
        );
    }
    for (taken, name) in all.iter().zip(["CR0", "CR4", "CR8", "EFER", "XCR0", "CR3"]) {
        taken.tell(name);
    }
    lmsw(random);
}

/// NW only with CD: see [`unchecked`].
fn with_cd(flip: u64) -> u64 {
    if flip & NW != 0 { flip | NW << 1 } else { flip }
}

/// NW in CR0, before CD.
const NW: u64 = 1 << 29;

/// NW without CD, and roots of page tables with bits that no address has: a CPU refuses them. QEMU's takes them, and
/// refuses to run such a guest later.
pub fn unchecked(_: &mut Random) {
    let mut taken = Taken::default();
    taken.note(
        probe!("mov {old}, cr0; or {v}, {old}; mov cr0, {v}; mov cr0, {old}",
            v = inout(reg) NW => _, old = out(reg) _
        ),
    );
    for bit in 40..64 {
        taken.note(
            probe!("mov {old}, cr3; or {v}, {old}; mov cr3, {v}; mov cr3, {old}",
                v = inout(reg) 1_u64 << bit => _, old = out(reg) _
            ),
        );
    }
    taken.tell("what a CPU refuses");
}

/// The old ways to CR0.
fn lmsw(random: &mut Random) {
    for _ in 0..200 {
        let value = random.next() as u32;
        let _ = probe!("lmsw {v:x}; clts; smsw {v:x}", v = inout(reg) value => _);
        let _ = probe!("mov {v}, cr0; and {v:e}, 0xfffffff1; mov cr0, {v}", v = out(reg) _);
    }
}

/// Debug registers, and what they do.
pub fn debug(random: &mut Random) {
    let mut taken = Taken::default();
    for _ in 0..500 {
        let value = random.edgy();
        taken.note(probe!("mov dr0, {v}", v = in(reg) value));
        taken.note(probe!("mov dr3, {v}", v = in(reg) value));
        taken.note(probe!("mov dr6, {v}", v = in(reg) value));
        // Without what would break on our own code: no breakpoints, no general detect.
        taken.note(probe!("mov dr7, {v}", v = in(reg) value & !0x20ff));
        taken.note(probe!("mov dr4, {v}", v = in(reg) value));
        taken.note(probe!("mov {v}, dr5", v = out(reg) _));
    }
    taken.tell("debug registers");
    let zero = 0_u64;
    let _ = probe!("mov dr7, {v}", v = in(reg) zero);
    let _ = probe!("mov dr6, {v}", v = in(reg) zero);
    let met = probe!("mov dr7, {v}; mov {w}, dr6", v = in(reg) 0x2000_u64, w = out(reg) _);
    println!("a look at them while that is to be told: {met:?}");
    let _ = probe!("mov dr7, {v}", v = in(reg) zero);
    let met = probe!("pushfq; or qword ptr [rsp], 0x100; popfq; rdmsr; nop",
        out("eax") _, in("ecx") 0x1b, out("edx") _);
    println!("single steps over RDMSR: {met:?}");
    let met = probe!("pushfq; or qword ptr [rsp], 0x100; popfq; in al, 0x80; nop", out("al") _);
    println!("single steps over IN: {met:?}");
    println!("ICEBP: {:?}", probe!(".byte 0xf1"));
    println!("INT3: {:?}", probe!("int3"));
}

/// Every port, in every size.
pub fn ports(random: &mut Random) {
    let mut answers = 0_u32;
    let mut traps = 0_u32;
    for port in 0..=u16::MAX {
        let (mut byte, mut word, mut long) = (0_u8, 0_u16, 0_u32);
        let met = [
            probe!("in al, dx", in("dx") port, inout("al") byte),
            probe!("in ax, dx", in("dx") port, inout("ax") word),
            probe!("in eax, dx", in("dx") port, inout("eax") long),
        ];
        traps += met.iter().flatten().count() as u32;
        if (byte, word, long) != (!0, !0, !0) {
            answers += 1;
            if answers < 40 {
                println!("port {port:#x}: {byte:#x} {word:#x} {long:#x}");
            }
        }
    }
    for port in 0..=u16::MAX {
        // The log of the hypervisor would fill.
        if port == 0xe9 {
            continue;
        }
        let value = random.next() as u32;
        // SAFETY: a guest may write to any port; there is nothing behind them that is ours.
        unsafe {
            asm!("out dx, al", in("dx") port, in("al") value as u8);
            asm!("out dx, ax", in("dx") port, in("ax") value as u16);
            asm!("out dx, eax", in("dx") port, in("eax") value);
        }
    }
    let page = crate::pages::SCRATCH[0].address();
    for port in [0x60_u16, 0x64, 0x70, 0x71, 0xcf8, 0xcfc, 0x1000, 0xfffe] {
        let met = [
            probe!("rep insb", in("dx") port, inout("rcx") 4096_u64 => _, inout("rdi") page => _),
            probe!("rep outsd", in("dx") port, inout("rcx") 1024_u64 => _, inout("rsi") page => _),
            probe!("std; insw; outsw; cld", in("dx") port, inout("rdi") page + 64 => _, inout("rsi") page + 64 => _),
            // From where nothing is mapped: a page fault.
            probe!("outsb", in("dx") port, inout("rsi") 1_u64 << 40 => _),
            probe!("insb", in("dx") port, inout("rdi") 1_u64 << 40 => _),
            probe!("rep insb", in("dx") port, inout("rcx") 0_u64 => _, inout("rdi") 1_u64 << 40 => _),
            // Beyond the end of memory.
            probe!("rep insb", in("dx") port, inout("rcx") 64_u64 => _, inout("rdi") 0xd000_0000_u64 => _),
            probe!("rep outsb", in("dx") port, inout("rcx") 64_u64 => _, inout("rsi") 0xd000_0000_u64 => _),
        ];
        println!("strings at port {port:#x}: {met:?}");
        let traps = met.map(|met| met.map(|trap| (trap.vector, trap.error)));
        let (read, written) = (Some((14, 0)), Some((14, 2)));
        assert_eq!(
            traps,
            [None, None, None, read, written, None, None, None],
            "what strings meet"
        );
        for word in 0..crate::pages::PAGE / 8 {
            assert_eq!(
                crate::pages::SCRATCH[0].word(word),
                u64::MAX,
                "a port has ones"
            );
        }
    }
    println!("ports: {answers} answer, {traps} traps");
}
