//! The local APIC and the interrupts that come by it.

use core::arch::asm;

use crate::apic::{self, BASE, read_msr, write_msr};
use crate::console::println;
use crate::pages::SCRATCH;
use crate::random::Random;
use crate::trap::{self, ONE_AT_A_TIME, count, probe, try_read, try_write};

/// Registers whose value may make this vCPU hear nothing more, or begin anew.
fn is_command(register: u64) -> bool {
    register & 0xff0 == apic::COMMAND
}

/// A command that neither stops nor resets a vCPU: fixed and lowest priority to a vector with a handler, or an NMI.
fn harmless(value: u32) -> u32 {
    let kind = match value >> 8 & 7 {
        4 => 4 << 8,
        1 => 1 << 8,
        _ => 0,
    };
    value & 0x000c_0800 | kind | (value & 0xff).max(32)
}

/// Every register, with everything.
pub fn registers(random: &mut Random) {
    apic::enable();
    for register in (0..0x400_u64).step_by(16) {
        print_register(register);
    }
    for _ in 0..60 {
        for register in (0..0x1000_u64).step_by(16) {
            let value = random.edgy() as u32;
            let value = if is_command(register) {
                harmless(value)
            } else {
                value
            };
            let _ = probe!("mov [{a}], {v:e}", a = in(reg) BASE + register, v = in(reg) value);
            let _ = probe!("mov {v:e}, [{a}]", a = in(reg) BASE + register, v = out(reg) _);
        }
        trap::enable();
        trap::disable();
    }
    apic::set(apic::TIMER, 1 << 16);
    apic::enable();
    println!("{} NMIs, {} errors", count(2), count(0xfe));
}

fn print_register(register: u64) {
    let value: u32;
    let met =
        probe!("mov {v:e}, [{a}]", a = in(reg) BASE + register, v = inout(reg) 0_u32 => value);
    if value != 0 || met.is_some() {
        println!("APIC {register:#x}: {value:#x} {met:?}");
    }
}

/// The same registers in every size and by every instruction that an emulator has to know.
pub fn accesses(random: &mut Random) {
    apic::enable();
    let mut traps = 0_u32;
    let scratch = SCRATCH[0].address();
    for _ in 0..300 {
        // Task priority, logical destination, spurious vector, the timer's count: nothing that sends.
        let register = random.one_of(&[0x80_u64, 0xd0, 0xe0, 0x350, 0x360, 0x390, 0x3e0]);
        let a = BASE + register + random.below(2) * random.below(16);
        let v = random.next();
        let met = [
            probe!("mov {v:l}, byte ptr [{a}]", a = in(reg) a, v = out(reg) _),
            probe!("mov {v:x}, word ptr [{a}]", a = in(reg) a, v = out(reg) _),
            probe!("mov {v}, [{a}]", a = in(reg) a, v = out(reg) _),
            probe!("movzx {v:e}, byte ptr [{a}]", a = in(reg) a, v = out(reg) _),
            probe!("movsx {v}, word ptr [{a}]", a = in(reg) a, v = out(reg) _),
            probe!("movsxd {v}, dword ptr [{a}]", a = in(reg) a, v = out(reg) _),
            probe!("mov byte ptr [{a}], {v}", a = in(reg) a, v = in(reg_byte) v as u8),
            probe!("mov word ptr [{a}], {v:x}", a = in(reg) a, v = in(reg) v),
            probe!("mov [{a}], {v}", a = in(reg) a, v = in(reg) v),
            probe!("mov dword ptr [{a}], 0x12345678", a = in(reg) a),
            probe!("and dword ptr [{a}], 0x10", a = in(reg) a),
            probe!("or dword ptr [{a}], {v:e}", a = in(reg) a, v = in(reg) v),
            probe!("xor {v:e}, dword ptr [{a}]", a = in(reg) a, v = inout(reg) v => _),
            probe!("lock add dword ptr [{a}], 1", a = in(reg) a),
            probe!("cmp dword ptr [{a}], 5", a = in(reg) a),
            probe!("test dword ptr [{a}], {v:e}", a = in(reg) a, v = in(reg) v),
            probe!("xchg dword ptr [{a}], {v:e}", a = in(reg) a, v = inout(reg) v => _),
            probe!("lock cmpxchg dword ptr [{a}], {v:e}", a = in(reg) a, v = in(reg) v, out("eax") _),
            probe!("bts dword ptr [{a}], 3", a = in(reg) a),
            probe!("push qword ptr [{a}]; pop {v}", a = in(reg) a, v = out(reg) _),
            probe!("not dword ptr [{a}]", a = in(reg) a),
            probe!("neg dword ptr [{a}]", a = in(reg) a),
            probe!("inc dword ptr [{a}]", a = in(reg) a),
            probe!("shl dword ptr [{a}], 1", a = in(reg) a),
            probe!("rep movsb", inout("rcx") 40_u64 => _, inout("rsi") a => _, inout("rdi") scratch => _),
            probe!("rep movsd", inout("rcx") 3_u64 => _, inout("rsi") scratch + 64 => _, inout("rdi") BASE + 0x390 => _),
            probe!("rep stosd", inout("rcx") 3_u64 => _, in("eax") 0, inout("rdi") BASE + 0x390 => _),
            probe!("lodsd", inout("rsi") a => _, out("eax") _),
            probe!("scasd", inout("rdi") a => _, in("eax") 0),
            probe!("imul {v:e}, dword ptr [{a}]", a = in(reg) a, v = inout(reg) v => _),
            probe!("cmpxchg8b [{a}]", a = in(reg) a, out("eax") _, out("edx") _, out("ecx") _),
            probe!("movdqu xmm0, [{a}]", a = in(reg) a),
            probe!("fld qword ptr [{a}]", a = in(reg) a),
        ];
        traps += met.iter().flatten().count() as u32;
    }
    // Over the end of the page, and over its beginning.
    for at in [BASE - 4, BASE + 0xffc, BASE + 0xffe, BASE + 0xffff] {
        println!("at {at:#x}: {:x?} {:?}", try_read(at), try_write(at, 0));
    }
    apic::set(apic::TIMER, 1 << 16);
    apic::enable();
    println!("APIC by any instruction: {traps} traps");
}

/// All transitions of the base register between its states.
pub fn modes(_: &mut Random) {
    let old = read_msr(apic::BASE_MSR).unwrap_or(0);
    let states = [old & !0xc00, old | 0x800, old | 0x400, old | 0xc00];
    for from in states {
        for to in states {
            let _ = write_msr(apic::BASE_MSR, old & !0xc00);
            let _ = write_msr(apic::BASE_MSR, old & !0x400 | 0x800);
            let first = write_msr(apic::BASE_MSR, from);
            let second = write_msr(apic::BASE_MSR, to);
            println!(
                "APIC base {:#x}, {:#x}: {first:?} {second:?}, then {:x?}",
                from & 0xc00,
                to & 0xc00,
                read_msr(apic::BASE_MSR)
            );
        }
    }
    let _ = write_msr(apic::BASE_MSR, 0xfee0_0000);
    let _ = write_msr(apic::BASE_MSR, old);
    apic::enable();
    takes_one("after all modes");
}

/// An interrupt to ourselves still comes.
fn takes_one(when: &str) {
    let before = count(0x41);
    trap::enable();
    apic::to_self(0x41);
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    trap::disable();
    match count(0x41) - before {
        1 => println!("an interrupt came {when}"),
        other => println!("FAILED {other} interrupts came {when}"),
    }
}

/// The registers as MSRs.
pub fn x2apic(random: &mut Random) {
    let has = core::arch::x86_64::__cpuid(1).ecx & 1 << 21 != 0;
    if !has {
        println!("x2APIC: this CPU has none");
    }
    let old = read_msr(apic::BASE_MSR).unwrap_or(0);
    if write_msr(apic::BASE_MSR, old | 0xc00).is_some() {
        println!("x2APIC: refused");
        return;
    }
    apic::by_msr(true);
    apic::enable();
    for number in 0x800..0x900_u32 {
        if let Ok(value) = read_msr(number) {
            println!("msr {number:#x}: {value:#x}");
        }
    }
    let mut taken = 0;
    for _ in 0..60 {
        for number in (0x800..0x900_u32).filter(|n| *n != 0x83f) {
            let value = random.edgy();
            let value = if number == 0x830 {
                u64::from(harmless(value as u32)) | value & 0xf_0000_0000
            } else {
                value
            };
            taken += u32::from(write_msr(number, value).is_none());
            let _ = read_msr(number);
        }
        trap::enable();
        trap::disable();
    }
    let _ = write_msr(0x832, 1 << 16);
    apic::enable();
    takes_one("in x2APIC mode");
    let before = count(0x42);
    trap::enable();
    let met = write_msr(0x83f, 0x42);
    trap::disable();
    println!(
        "self IPI: {met:?}, {} came; {taken} writes taken",
        count(0x42) - before
    );
    println!(
        "its page in that mode: {:x?} {:?}",
        try_read(BASE + apic::VERSION),
        try_write(BASE + apic::TASK_PRIORITY, 0)
    );
    apic::by_msr(false);
    let _ = write_msr(apic::BASE_MSR, old & !0xc00);
    let _ = write_msr(apic::BASE_MSR, old);
    apic::enable();
    takes_one("back in xAPIC mode");
}

/// The I/O APIC's page, and those of other devices that a guest may not have.
pub fn ioapic(random: &mut Random) {
    for base in [
        0xfec0_0000_u64,
        0xfed0_0000,
        0xfed4_0000,
        0xfeb0_0000,
        0xffff_f000,
    ] {
        for offset in (0..0x1000).step_by(16) {
            let _ = try_write(base + offset, random.edgy());
        }
        println!("page {base:#x}: {:x?}", try_read(base));
    }
}

/// Interrupts of every vector, while they are held off and not, with every priority.
pub fn storm(random: &mut Random) {
    apic::enable();
    // Those below 16 are errors; those from there to 32 have the handlers of traps.
    for vector in (0..16).chain(32..=255_u8) {
        apic::to_self(vector);
    }
    let before: u32 = (32..=255).map(count).sum();
    trap::enable();
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    trap::disable();
    let came: u32 = (32..=255).map(count).sum::<u32>() - before;
    println!("interrupts of all vectors at once: {came} came");
    let sent = 4000;
    let before = (32..=255).map(count).sum::<u32>();
    trap::enable();
    for _ in 0..sent {
        match random.below(8) {
            0 => apic::set(apic::TASK_PRIORITY, random.below(256) as u32),
            // Not by CR8: where an interrupt waits for that, QEMU 7.2 itself ends (an assertion about its lock).
            1 | 2 => trap::disable(),
            3 => trap::enable(),
            _ => apic::to_self(32 + random.below(220) as u8),
        }
    }
    apic::set(apic::TASK_PRIORITY, 0);
    trap::enable();
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    trap::disable();
    println!(
        "interrupts at random: {} came",
        (32..=255).map(count).sum::<u32>() - before
    );
    takes_one("after the storm");
}

/// The timer with its shortest periods, in all modes.
pub fn timer(random: &mut Random) {
    apic::enable();
    for round in 0..60_u32 {
        apic::set(apic::DIVIDE, random.below(16) as u32);
        apic::set(apic::TIMER, (round % 4) << 17 | u32::from(ONE_AT_A_TIME));
        apic::set(apic::INITIAL, random.one_of(&[1, 2, 100, 10_000, !0]));
        let _ = write_msr(0x6e0, random.one_of(&[0, 1, u64::MAX]));
        for _ in 0..20 {
            let _ = apic::get(apic::CURRENT);
            trap::enable();
            trap::disable();
        }
    }
    apic::set(apic::INITIAL, 0);
    apic::set(apic::TIMER, 1 << 16);
    println!("the timer has fired: {}", count(ONE_AT_A_TIME) > 10);
    // And as it should be.
    apic::set(apic::DIVIDE, 0xb);
    apic::set(apic::TIMER, 0x71);
    let before = count(0x71);
    apic::set(apic::INITIAL, 1_000_000);
    while count(0x71) == before {
        trap::sleep();
    }
    println!("it fires once: {}", count(0x71) - before);
    apic::set(apic::TIMER, 1 << 16);
}

/// NMIs to ourselves, one in the handler of the other.
pub fn nmis(_: &mut Random) {
    apic::enable();
    let before = count(2);
    for _ in 0..1000 {
        apic::command(0, 1 << 18 | 4 << 8);
        // Between STI and the next instruction.
        apic::to_self(0x44);
        // SAFETY: all interrupts have handlers.
        unsafe { asm!("sti", "nop", "cli") };
    }
    println!("NMIs: {}, interrupts {}", count(2) - before, count(0x44));
}
