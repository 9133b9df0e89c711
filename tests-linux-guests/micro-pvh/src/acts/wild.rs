//! Hypercalls with anything in their registers, events to ourselves, parameters.

use xen_abi::event_channel as evtchn;
use xen_abi::hypercall::{
    __HYPERVISOR_event_channel_op, __HYPERVISOR_grant_table_op, __HYPERVISOR_multicall,
    __HYPERVISOR_sched_op, __HYPERVISOR_vcpu_op, __HYPERVISOR_xen_version,
};
use xen_abi::xen::DOMID_SELF;

use micro_base::memory::read;

use crate::apic::write_msr;
use crate::call::{hypercall, raw};
use crate::console::println;
use crate::pages::{HOLE, PAGE, SCRATCH};
use crate::random::Random;
use crate::{events, trap};

/// An event to ourselves, many times.
pub fn events(_: &mut Random) {
    events::init();
    let port = events::to_self();
    for round in 0..400 {
        assert_eq!(events::notify(port), 0, "an event is sent");
        if round % 2 == 0 {
            trap::enable();
            trap::disable();
        } else {
            trap::sleep();
        }
        assert!(events::fired(port), "it comes, round {round}");
        if round % 100 == 0 {
            println!("events: round {round}");
        }
    }
    println!("events to ourselves: all came");
}

/// Whether the call would end us, stop us, or cut our console off.
fn is_fatal(number: u64, args: &[u64; 6]) -> bool {
    let number = number as u32;
    (number == __HYPERVISOR_sched_op && !matches!(args[0] as u32, 0 | 7..))
        || (number == __HYPERVISOR_vcpu_op && matches!(args[0] as u32, 0..=2))
        // Anything that was registered is written to from then on: not to what is ours.
        || (number == __HYPERVISOR_vcpu_op && matches!(args[0] as u32, 5 | 10 | 13))
        // What closes the console's port, or gives events another place.
        || (number == __HYPERVISOR_event_channel_op
            && matches!(args[0] as u32, evtchn::EVTCHNOP_close | evtchn::EVTCHNOP_reset | evtchn::EVTCHNOP_init_control))
        || (number == __HYPERVISOR_multicall && is_fatal_list(args[0], (args[1] as u32).into()))
        || (number == __HYPERVISOR_grant_table_op && reaches_us(args[1], 64 * u64::from(args[2] as u32)))
}

/// The same for so many calls in a list, each of eight words: the number, room for its result, arguments.
fn is_fatal_list(from: u64, calls: u64) -> bool {
    let end = from.saturating_add(64 * calls);
    if calls == 0 || end <= OURS.start || from >= OURS.end {
        return false;
    }
    let is_fatal_at = |at: u64| {
        let args = [2, 3, 4, 5, 6, 7].map(|index| read(at + 8 * index));
        is_fatal(read(at), &args)
    };
    reaches_us(from, 64 * calls)
        || !from.is_multiple_of(8)
        || (from..end).step_by(64).any(is_fatal_at)
}

/// Where code, stack and data are, scratch pages among them.
const OURS: core::ops::Range<u64> = 0x20_0000..0x40_0000;

/// Whether that much of memory has something of ours that is no scratch page: each element of a list gets its result there.
fn reaches_us(from: u64, bytes: u64) -> bool {
    let to = from.saturating_add(bytes);
    let scratch = SCRATCH[0].address()..=SCRATCH[12].address();
    let inside = scratch.contains(&from) && scratch.contains(&to);
    from < OURS.end && to > OURS.start && !inside
}

/// Every number with anything.
pub fn hypercalls(random: &mut Random) {
    let mut answers = [0_u32; 64];
    for round in 0..20_000_u64 {
        let page = &SCRATCH[random.below(12) as usize];
        for _ in 0..8 {
            page.set_word(random.below(16), word(random));
        }
        let number = match round % 8 {
            0 => random.edgy(),
            _ => round / 8 % 64,
        };
        let mut args = [0; 6].map(|_| argument(random));
        args[0] = match random.below(4) {
            0 => argument(random),
            _ => random.below(40),
        };
        if random.below(2) == 0 {
            args[1] = page.address();
        }
        if is_fatal(number, &args) {
            continue;
        }
        let answer = raw(number, args);
        answers[usize::from(answer.unsigned_abs() < 64) * (answer.unsigned_abs() & 63) as usize] +=
            1;
    }
    for (error, count) in answers.iter().enumerate().filter(|(_, count)| **count != 0) {
        println!("answers -{error} and what is no error: {count}");
    }
    println!(
        "version after that: {:#x}",
        hypercall(__HYPERVISOR_xen_version, [0, 0])
    );
}

/// As part of a structure. It may be the order of extents: from one of the first frames, 512 of them would take our own.
fn word(random: &mut Random) -> u64 {
    let value = argument(random);
    if (9..16).contains(&(value as u32)) {
        value & !8
    } else {
        value
    }
}

fn argument(random: &mut Random) -> u64 {
    let value = any_argument(random);
    // What answers are written to may be anything but our own code and stack, nor are their frames to be given away.
    if reaches_us(value, 1) || (0x200..0x400).contains(&value) {
        value | 1 << 62
    } else {
        value
    }
}

fn any_argument(random: &mut Random) -> u64 {
    match random.below(10) {
        0 | 1 => random.below(16),
        2 => random.edgy(),
        3 => SCRATCH[random.below(12) as usize].address() + random.below(2) * random.below(PAGE),
        4 => u64::from(DOMID_SELF),
        5 => HOLE * PAGE,
        6 => 0x7ff0 + random.below(16),
        7 => (random.below(8) << 32) | random.below(8),
        8 => 1 << 47,
        _ => random.next(),
    }
}

/// The hypercall page, and what it does.
pub fn page(_: &mut Random) {
    let base = core::arch::x86_64::__cpuid(0x4000_0000);
    println!("hypervisor leaves to {:#x}", base.eax);
    let facts = core::arch::x86_64::__cpuid(0x4000_0002);
    let page = &SCRATCH[5];
    println!(
        "{} pages by MSR {:#x}: {:?}",
        facts.eax,
        facts.ebx,
        write_msr(facts.ebx, page.address())
    );
    // The first bytes of some entries.
    for number in [0_u64, 1, 17, 23, 32, 55, 63] {
        println!("entry {number}: {:x?}", page.word(number * 4).to_le_bytes());
    }
    let version: i64;
    // SAFETY: the page was filled by the hypervisor for that.
    unsafe {
        core::arch::asm!("call {}", in(reg) page.address() + 17 * 32, in("rdi") 0, in("rsi") 0, lateout("rax") version);
    }
    println!("version by that page: {version:#x}");
}

/// Every parameter is read, and written with anything.
pub fn parameters(random: &mut Random) {
    use xen_abi::hvm_op::{
        HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_VM86_TSS,
        HVM_PARAM_VM86_TSS_SIZED,
    };
    for index in (0..48).chain([1 << 16, u32::MAX]) {
        match events::parameter(index) {
            Some(value) => println!("parameter {index}: {value:#x}"),
            None => println!("parameter {index}: none"),
        }
    }
    let kept = [
        HVM_PARAM_CONSOLE_PFN,
        HVM_PARAM_CONSOLE_EVTCHN,
        // Xen ends a domain that changes it once it has run.
        HVM_PARAM_VM86_TSS,
        HVM_PARAM_VM86_TSS_SIZED,
    ];
    for index in (0..48).filter(|index| !kept.contains(index)) {
        let old = events::parameter(index);
        let answers = [
            old.unwrap_or(0),
            0,
            1,
            random.edgy(),
            random.next(),
            1 << 56 | 3,
            2 << 56 | 0xf3,
        ]
        .map(|value| events::set_parameter(index, value));
        println!("parameter {index} is set: {answers:?}");
        if let Some(old) = old {
            events::set_parameter(index, old);
        }
    }
}
