//! Tests of the local APIC.

use proptest::prelude::*;

use super::*;

mod addressing;
mod interrupts;
mod msrs;
mod records;
mod registers;
mod timer;

const FACTS: Facts = Facts {
    x2apic: true,
    tsc_deadline: true,
    physical_bits: 46,
};

/// Time that stands at `.0`, with a TSC that runs at 2 GHz and was 1000 at time 0.
struct At(Nanos);

impl TimeSource for At {
    fn now(&self) -> Nanos {
        self.0
    }

    fn time_of_tsc(&self, tsc: u64) -> Nanos {
        tsc.saturating_sub(1000).div_ceil(2)
    }
}

// Offsets in the page.
const ID: u32 = 0x20;
const TPR: u32 = 0x80;
const EOI: u32 = 0xb0;
const LDR: u32 = 0xd0;
const DFR: u32 = 0xe0;
const SVR: u32 = 0xf0;
const ESR: u32 = 0x280;
const ICR: u32 = 0x300;
const ICR2: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LINT0: u32 = 0x350;
const LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const INITIAL: u32 = 0x380;
const CURRENT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;

/// A local APIC in xAPIC mode, enabled by software.
fn enabled(vcpu: u32) -> Lapic {
    let mut lapic = Lapic::new(vcpu, FACTS);
    let _ = write(&mut lapic, SVR, 0x1ff);
    lapic
}

/// One in x2APIC mode.
fn enabled_x2(vcpu: u32) -> Lapic {
    let mut lapic = enabled(vcpu);
    let base = lapic.read_msr(BASE_MSR, &At(0)).unwrap();
    let _ = lapic.write_msr(BASE_MSR, base | 1 << 10, &At(0)).unwrap();
    lapic
}

fn write(lapic: &mut Lapic, offset: u32, value: u32) -> Effect {
    lapic.write_mmio(offset, 4, value.into(), &At(0))
}

fn read(lapic: &mut Lapic, offset: u32) -> u32 {
    lapic.read_mmio(offset, 4, &At(0)) as u32
}
