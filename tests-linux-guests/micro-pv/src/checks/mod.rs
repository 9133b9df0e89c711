//! The checks, an area of the interface each.

pub mod bad;
pub mod clock;
mod control;
mod devices;
mod entries;
pub mod events;
mod faults;
mod fifo;
mod foreign;
pub mod granted;
pub mod grants;
mod memop;
mod messages;
pub mod mmu;
mod mmuext;
mod multicall;
mod privileged;
mod registers;
pub mod reservation;
pub mod second;
mod segments;
pub mod timers;
pub mod upcall;
mod user;
pub mod vcpu;
mod version;
pub mod xenstore;

use crate::report;

/// An area: its name and what checks it.
pub type Area = (&'static str, fn());

/// All areas, in the order in which they are checked.
pub const AREAS: &[Area] = &[
    ("first-timer", timers::first),
    ("registers", registers::check),
    ("version", version::version),
    ("console", version::console),
    ("unknown", version::unknown),
    ("multicall", multicall::check),
    ("traps", entries::traps),
    ("callbacks", entries::callbacks),
    ("gdt", segments::gdt),
    ("descriptor", segments::descriptor),
    ("ldt", segments::ldt),
    ("segment-base", segments::bases),
    ("debug-registers", segments::debug),
    ("switches", segments::switches),
    ("mmu-update", mmu::call),
    ("l1-entries", mmu::level1),
    ("table-entries", mmu::higher),
    ("va-mapping", mmu::address),
    ("mmuext", mmuext::call),
    ("pins", mmuext::pins),
    ("frames", mmuext::frames),
    ("memory-op", memop::call),
    ("memory-facts", memop::facts),
    ("physmap", memop::physmap),
    ("reservation-wild", reservation::wild),
    ("reservation", reservation::exchange_of_one),
    ("exchange", reservation::exchange),
    ("events-refused", events::refused),
    ("events-bind", events::bind),
    ("events-loopback", events::loopback),
    ("events-delivery", events::delivery),
    ("events-many", events::many),
    ("fifo", fifo::check),
    ("grant-calls", grants::call),
    ("grant-table", grants::table),
    ("grant-maps", grants::maps),
    ("grant-copies", grants::copies),
    ("granted", granted::check),
    ("foreign", foreign::check),
    ("vcpu-op", vcpu::call),
    ("vcpu-places", vcpu::places),
    ("nmi", vcpu::nmi),
    ("timers", timers::shots),
    ("clock", timers::time),
    ("sched-op", timers::sched),
    ("second-vcpu", second::check),
    ("physdev-call", devices::call),
    ("physdev-io", devices::io),
    ("physdev-interrupts", devices::interrupts),
    ("physdev-refused", messages::refused),
    ("physdev-messages", messages::mapped),
    ("platform-op", control::of_platform),
    ("sysctl", control::of_system),
    ("domctl", control::of_domains),
    ("other-calls", control::others),
    ("msrs", privileged::msrs),
    ("control-registers", privileged::control),
    ("instructions", privileged::instructions),
    ("page-faults", faults::bounce),
    ("table-writes", faults::emulation),
    ("user-mode", user::check),
    ("returns", user::returns),
];

/// Runs all areas, or those of these names, which have commas between them.
pub fn run(only: Option<&str>) {
    for (index, (name, check)) in AREAS.iter().enumerate() {
        if only.is_none_or(|only| only.split(',').any(|only| only == *name)) {
            report::enter(name);
            check();
        }
        if index == 0 {
            timers::stop_periodic();
        }
    }
}
