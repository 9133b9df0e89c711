//! What a guest may do to its own map of memory.

use xen_abi::GuestHandle;
use xen_abi::memory::*;
use xen_abi::xen::DOMID_SELF;

use crate::call::{memory, send};
use crate::console::{self, println};
use crate::events;
use crate::pages::{HOLE, PAGE, SCRATCH};
use crate::random::Random;
use crate::trap::{try_read, try_write};

fn reservation(command: u32, frame: u64, order: u32) -> i64 {
    let frames = &SCRATCH[11];
    frames.set_word(0, frame);
    let ask = MemoryReservation {
        extent_start: GuestHandle::new(frames.address()),
        nr_extents: 1,
        extent_order: order,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    memory(command, &ask).0
}

fn remove(gpfn: u64) -> i64 {
    let ask = RemoveFromPhysmap {
        domid: DOMID_SELF,
        gpfn,
        ..RemoveFromPhysmap::default()
    };
    memory(XENMEM_remove_from_physmap, &ask).0
}

/// Every space at every kind of place, and away again.
pub fn physmap(random: &mut Random) {
    let own = SCRATCH[6].frame();
    let places = [
        ("a page of ours", own),
        ("where nothing is", HOLE + 1),
        ("the APIC's page", 0xfee00),
        ("the I/O APIC's page", 0xfec00),
        ("the console's page", console::frame()),
        ("beyond 4 GiB", 1 << 21),
        ("far beyond", 1 << 36),
        ("too far", 1 << 40),
        ("no number", !0),
    ];
    for (place, frame) in places {
        for space in 0..7_u32 {
            for index in [0, 1, 0x8000_0000_0000_0000, own + 1, HOLE, !0] {
                // The console's page is to stay where it is.
                if frame == console::frame() && index != !0 {
                    continue;
                }
                let mapped = events::map(space, index, frame);
                if mapped != 0 {
                    continue;
                }
                println!("space {space} index {index:#x} at {place}: mapped");
                if frame == console::frame() {
                    continue;
                }
                if frame < 1 << 20 {
                    let _ = try_read(frame * PAGE);
                    let _ = try_write(frame * PAGE, random.next());
                }
                println!("  and away: {}", remove(frame));
            }
        }
        if frame == console::frame() {
            continue;
        }
        println!(
            "{place}: removed {}, populated {}, given back {}, taken {}",
            remove(frame),
            reservation(XENMEM_populate_physmap, frame, 0),
            reservation(XENMEM_decrease_reservation, frame, 0),
            reservation(XENMEM_increase_reservation, frame, 0)
        );
        for order in [1, 9, 10, 18, 63, u32::MAX] {
            println!(
                "{place}, order {order}: populated {}, given back {}",
                reservation(XENMEM_populate_physmap, frame & !0x1ff | 0x20_0000, order),
                reservation(
                    XENMEM_decrease_reservation,
                    frame & !0x1ff | 0x20_0000,
                    order
                )
            );
        }
    }
    // What is written to the shared info page wherever it is is one page.
    println!("exchange: {}", send_exchange(own));
    assert!(matches!(
        reservation(XENMEM_populate_physmap, own, 0),
        0 | 1
    ));
    println!("a page of ours is there again: {:x?}", try_read(own * PAGE));
    events::forget();
    for space in [0, 1] {
        // The same frame again and again, at places that move.
        for round in 0..500 {
            events::map(space, 0, HOLE + 16 + round % 64);
        }
        for round in 0..64 {
            remove(HOLE + 16 + round);
        }
    }
}

fn send_exchange(frame: u64) -> i64 {
    let [first, second] = [&SCRATCH[12], &SCRATCH[13]];
    first.set_word(0, frame);
    second.set_word(0, frame);
    let list = |at: u64| MemoryReservation {
        extent_start: GuestHandle::new(at),
        nr_extents: 1,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    let ask = MemoryExchange {
        r#in: list(first.address()),
        out: list(second.address()),
        nr_exchanged: 0,
    };
    memory(XENMEM_exchange, &ask).0
}

/// Pages go and come, while they are used.
pub fn balloon(random: &mut Random) {
    let mut refused = 0;
    for _ in 0..1500 {
        // The last of 16 MiB, which nothing uses.
        let frame = 0xc00 + random.below(0x300);
        let order = random.one_of(&[0, 0, 0, 1, 3]);
        let frame = frame >> order << order;
        let done = reservation(XENMEM_decrease_reservation, frame, order);
        let gone = try_read(frame * PAGE);
        let back = reservation(XENMEM_populate_physmap, frame, order);
        if (done, back) != (1, 1) {
            refused += 1;
        }
        let _ = gone;
        if let Some(trap) = try_write(frame * PAGE, 1) {
            println!("FAILED a page that came back: {trap:?}");
            return;
        }
        if try_read(frame * PAGE + 8) != Ok(0) {
            println!("FAILED a page that came back is not of zeros");
            return;
        }
    }
    println!("balloon: {refused} refused");
    let domain = MemoryDomain { domid: DOMID_SELF };
    println!(
        "reservation {}, at most {}",
        send(
            xen_abi::hypercall::__HYPERVISOR_memory_op,
            XENMEM_current_reservation,
            &domain
        ),
        send(
            xen_abi::hypercall::__HYPERVISOR_memory_op,
            XENMEM_maximum_reservation,
            &domain
        )
    );
}
