//! What exits cost: `cargo xtask bench --guests --only pvh-micros` compares hypervisors by it.

use core::arch::x86_64::__cpuid;

use micro_base::measure::measure;
use xen_abi::GuestHandle;
use xen_abi::hypercall::__HYPERVISOR_xen_version;
use xen_abi::memory::{MemoryReservation, XENMEM_decrease_reservation, XENMEM_populate_physmap};
use xen_abi::xen::DOMID_SELF;

use micro_base::memory::write;

use crate::call::{hypercall, memory};
use crate::console::println;
use crate::pages::{PAGE, SCRATCH};
use crate::second::{self, ANSWER, APIC, ASK};
use crate::{apic, events, trap};

/// Measures all. Nothing is printed until the end: the console is dom0's work.
pub fn run() {
    events::init();
    apic::enable();
    let port = events::to_self();
    second::start();
    let figures = [
        ("PVH: CPUID", measure(2000, cpuid)),
        ("PVH: null hypercall", measure(5000, null)),
        ("PVH: port without a device", measure(2000, port_in)),
        (
            "PVH: MSR read",
            measure(2000, || _ = apic::read_msr(apic::BASE_MSR)),
        ),
        (
            "PVH: APIC register read",
            measure(2000, || _ = apic::get(apic::VERSION)),
        ),
        ("PVH: event to itself", measure(1000, || event(port))),
        ("PVH: interrupt to itself", measure(1000, interrupt)),
        ("PVH: interrupt there and back", measure(500, ask)),
        ("PVH: APIC timer, least", measure(500, timer)),
        ("PVH: page given, taken, touched", measure(500, page)),
    ];
    for (name, figure) in figures {
        println!("BENCH {name} {}", figure.best);
        println!("COUNTED {}", figure.operations);
    }
    apic::command(APIC, second::INIT);
    println!("MICRO-MEASURED");
}

fn cpuid() {
    let _ = __cpuid(0);
}

fn null() {
    hypercall(__HYPERVISOR_xen_version, [0, 0]);
}

fn port_in() {
    // SAFETY: nothing is behind it.
    unsafe { core::arch::asm!("in al, dx", in("dx") 0x1234_u16, out("al") _) };
}

fn event(port: u32) {
    events::notify(port);
    while !events::fired(port) {
        trap::enable();
        trap::disable();
    }
}

fn interrupt() {
    let before = trap::count(0x41);
    apic::to_self(0x41);
    trap::enable();
    while trap::count(0x41) == before {
        core::hint::spin_loop();
    }
    trap::disable();
}

/// The other vCPU sleeps until it is asked, this one until it has the answer.
fn ask() {
    let before = trap::count(ANSWER);
    apic::command(APIC, u32::from(ASK));
    while trap::count(ANSWER) == before {
        trap::sleep();
    }
}

fn timer() {
    apic::set(apic::DIVIDE, 0xb);
    apic::set(apic::TIMER, 0x71);
    let before = trap::count(0x71);
    apic::set(apic::INITIAL, 1);
    while trap::count(0x71) == before {
        trap::sleep();
    }
}

/// A page of memory goes, comes back, and is touched for the first time.
fn page() {
    let frames = &SCRATCH[11];
    let frame = 0xd00;
    frames.set_word(0, frame);
    let ask = MemoryReservation {
        extent_start: GuestHandle::new(frames.address()),
        nr_extents: 1,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    for command in [XENMEM_decrease_reservation, XENMEM_populate_physmap] {
        assert_eq!(memory(command, &ask).0, 1, "a page");
    }
    write(frame * PAGE, 1_u64);
}
