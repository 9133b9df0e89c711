//! vCPUs that are reset and started again and again.

use micro_base::memory::{read, write};
use xen_abi::hypercall::__HYPERVISOR_vcpu_op;
use xen_abi::vcpu::{VCPUOP_down, VCPUOP_is_up, VCPUOP_up};

use crate::apic;
use crate::call::hypercall;
use crate::console::println;
use crate::random::Random;
use crate::second::{self, ANSWER, APIC, ASK, INIT, REAL, START_UP};
use crate::trap::{self, count};

/// Starts at random pages with code that only stops, resets in the middle of everything.
pub fn storm(random: &mut Random) {
    send_many(random, 0x60);
    second::start();
    println!("started after the storm");
    for which in [0_u64, 1, 2, 1 << 31] {
        let is_up = hypercall(__HYPERVISOR_vcpu_op, [VCPUOP_is_up.into(), which, 0]);
        println!("vCPU {which:#x} is up: {is_up}");
    }
    for _ in 0..500 {
        hypercall(__HYPERVISOR_vcpu_op, [VCPUOP_down.into(), 1, 0]);
        hypercall(__HYPERVISOR_vcpu_op, [VCPUOP_up.into(), 1, 0]);
        apic::command(APIC, random.one_of(&[INIT, START_UP | 7, 0x60]));
    }
    apic::command(APIC, INIT);
    second::start();
    println!("started after ups and downs");
    apic::command(APIC, INIT);
}

/// The same with NMIs: one that comes before there is a table of handlers ends the domain.
pub fn storm_with_nmis(random: &mut Random) {
    send_many(random, 4 << 8);
}

fn send_many(random: &mut Random, other: u32) {
    second::prepare();
    apic::enable();
    // Pages below 640 KiB that begin with CLI, HLT and a jump to that.
    for page in 8..128_u64 {
        write(page * 4096, 0xfd_eb_f4_fa_u32);
    }
    for _ in 0..500 {
        let command = match random.below(6) {
            0 => INIT,
            1 => START_UP | second::LONG as u32,
            2 => START_UP | REAL as u32,
            3 => START_UP | (8 + random.below(120)) as u32,
            4 => other,
            _ => 32 + random.below(200) as u32,
        };
        apic::command(APIC, command);
        // To vCPUs that are not there.
        apic::command(
            0x10 + random.below(0xe0) as u32,
            command & !0x4700 | random.one_of(&[0x4500, 0x4600, 0x400, 0]),
        );
    }
    println!("storm: it has come up: {}", second::starts() > 10);
    apic::command(APIC, INIT);
}

/// A vCPU that stays in real mode and counts when it is woken.
pub fn real(_: &mut Random) {
    second::prepare();
    apic::enable();
    let counter = REAL * 4096 + 0x800;
    write(counter, 0_u16);
    apic::command(APIC, INIT);
    apic::command(APIC, START_UP | REAL as u32);
    while read::<u16>(counter) == 0 {
        core::hint::spin_loop();
    }
    for _ in 0..500 {
        // It wakes up for what it cannot take, and has no table to take an NMI by.
        apic::command(APIC, 0x60);
    }
    println!("real mode: {} rounds", read::<u16>(counter));
    apic::command(APIC, INIT);
}

/// Two vCPUs ask each other, then send to each other as fast as they can.
pub fn two(_: &mut Random) {
    second::start();
    for _ in 0..300 {
        let before = count(ANSWER);
        apic::command(APIC, u32::from(ASK));
        while count(ANSWER) == before {
            trap::sleep();
        }
    }
    println!("asked and answered: {}", count(ANSWER));
    second::work(1);
    trap::enable();
    for _ in 0..500 {
        apic::command(APIC, 0x51);
    }
    trap::disable();
    second::work(0);
    println!("crossed: {} {}", count(0x50) > 100, count(0x51) > 100);
    apic::command(APIC, INIT);
}
