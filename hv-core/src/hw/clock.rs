//! System time from the TSC, the local APIC timer, and the deadlines of this CPU.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_core::base::Nanos;
use hv_core::boot::acpi::AcpiFacts;
use hv_core::time::reference::{HpetWidth, PmWidth};
use hv_core::time::timers::one_interrupt;
use hv_core::time::{Clock, Counter, Reference, TimerId, TscScale, calibrate_patiently};
use spin::Once;

use super::cpu::{inb, inl, outb, rdtsc};
use super::percpu::{self, softirq};
use super::{apic, paging};

static CLOCK: Once<Clock> = Once::new();
static HZ: AtomicU64 = AtomicU64::new(0);
/// Deadlines that are so close together share an interrupt.
static SLOP: AtomicU64 = AtomicU64::new(0);
/// Local APIC timer ticks in a second.
static APIC_HZ: AtomicU32 = AtomicU32::new(0);

struct HpetCounter(u64);

impl Counter for HpetCounter {
    fn read(&self) -> u64 {
        // SAFETY: the HPET's registers are mapped for good; reading the counter has no effect.
        unsafe { core::ptr::read_volatile((self.0 + 0xf0) as *const u64) }
    }
}

struct PmCounter(u16);

impl Counter for PmCounter {
    fn read(&self) -> u64 {
        u64::from(inl(self.0))
    }
}

struct PitCounter;

impl Counter for PitCounter {
    fn read(&self) -> u64 {
        outb(0x43, 0x80);
        let low = inb(0x42);
        u64::from(low) | u64::from(inb(0x42)) << 8
    }
}

/// Measures the TSC against the best reference there is; `None` when none gives a plausible answer.
pub fn init(acpi: &AcpiFacts) -> Option<&'static str> {
    let (hz, name) = by_hpet(acpi)
        .or_else(|| by_pm_timer(acpi))
        .or_else(by_pit)?;
    let scale = TscScale::from_hz(hz)?;
    HZ.store(hz, Ordering::Relaxed);
    CLOCK.call_once(|| Clock::starting_at(rdtsc(), scale));
    Some(name)
}

fn measure<C: Counter>(reference: &Reference<C>) -> Option<(u64, &'static str)> {
    match calibrate_patiently(rdtsc, reference) {
        Ok(hz) => Some((hz, reference.name())),
        Err(why) => {
            log::warn!("TSC against {}: {why:?}", reference.name());
            None
        }
    }
}

fn by_hpet(acpi: &AcpiFacts) -> Option<(u64, &'static str)> {
    let base = paging::map_mmio(acpi.hpet_address()?, 4096);
    let (capabilities, config) = (base as *const u64, (base + 0x10) as *mut u64);
    // SAFETY: registers of the HPET, which is ours; bit 0 of the configuration starts the counter,
    // bit 1 (legacy routing) goes off.
    let caps = unsafe {
        config.write_volatile((config.read_volatile() | 1) & !2);
        capabilities.read_volatile()
    };
    let width = if caps & (1 << 13) != 0 {
        HpetWidth::Bits64
    } else {
        HpetWidth::Bits32
    };
    measure(&Reference::hpet(
        HpetCounter(base),
        (caps >> 32) as u32,
        width,
    )?)
}

fn by_pm_timer(acpi: &AcpiFacts) -> Option<(u64, &'static str)> {
    let timer = acpi.fadt.as_ref()?.pm_timer?;
    let width = if timer.bits == 32 {
        PmWidth::Bits32
    } else {
        PmWidth::Bits24
    };
    measure(&Reference::pm_timer(PmCounter(timer.port), width))
}

fn by_pit() -> Option<(u64, &'static str)> {
    // Channel 2, gate on, speaker off, mode 2, count 65536.
    outb(0x61, (inb(0x61) & !2) | 1);
    outb(0x43, 0xb4);
    outb(0x42, 0);
    outb(0x42, 0);
    measure(&Reference::pit(PitCounter))
}

/// The clock that guests are told of.
pub fn clock() -> Clock {
    *CLOCK
        .get()
        .expect("the clock is set before anything asks for it")
}

/// System time: nanoseconds since the clock was set; 0 before.
#[inline]
pub fn now() -> Nanos {
    CLOCK.get().map_or(0, |c| c.at(rdtsc()))
}

/// TSC ticks in a second.
pub fn tsc_hz() -> u64 {
    HZ.load(Ordering::Relaxed)
}

/// The TSC value `us` microseconds from now.
pub fn tsc_after_us(us: u64) -> u64 {
    rdtsc() + (u128::from(us) * u128::from(tsc_hz()) / 1_000_000) as u64
}

/// Waits.
pub fn delay_us(us: u64) {
    let until = tsc_after_us(us);
    while rdtsc() < until {
        core::hint::spin_loop();
    }
}

/// Measures the local APIC timer against the TSC; once, on the boot CPU.
pub fn calibrate_apic_timer() {
    if apic::tsc_deadline() {
        return;
    }
    let mut best = 0u64;
    for _ in 0..3 {
        apic::set_timer(u32::MAX);
        let (t0, a0) = (rdtsc(), apic::timer_left());
        delay_us(1_000);
        let (a1, t1) = (apic::timer_left(), rdtsc());
        apic::set_timer(0);
        let rate = (u128::from(a0.wrapping_sub(a1)) * u128::from(tsc_hz())
            / u128::from((t1 - t0).max(1))) as u64;
        best = best.max(rate);
    }
    APIC_HZ.store(best.clamp(1, u64::from(u32::MAX)) as u32, Ordering::Relaxed);
}

/// The local APIC timer's rate in Hz, 0 where TSC deadlines are used.
pub fn apic_hz() -> u32 {
    APIC_HZ.load(Ordering::Relaxed)
}

/// Takes `timer_slop=`.
pub fn set_slop(slop: Nanos) {
    SLOP.store(slop, Ordering::Relaxed);
}

/// Sets this CPU's hardware timer to the earliest of its slice's end and all deadlines, or to those just after.
pub fn program() {
    let this = percpu::this();
    let slice = Some(this.slice_end.get()).filter(|end| *end != 0);
    let others = slice
        .into_iter()
        .chain(super::devices::next_storm_end())
        .chain(Some(this.next_look.get()))
        .chain(super::watchdog::next_look(this));
    let heap = this.timers.lock();
    let next = one_interrupt(heap.early().chain(others), SLOP.load(Ordering::Relaxed));
    drop(heap);
    set_hardware(next);
}

fn set_hardware(deadline: Option<Nanos>) {
    let this = percpu::this();
    if this.armed_for.replace(deadline.unwrap_or(0)) == deadline.unwrap_or(0) && deadline.is_some()
    {
        return;
    }
    let Some(at) = deadline else {
        if apic::tsc_deadline() {
            apic::set_deadline(0)
        } else {
            apic::set_timer(0)
        }
        return;
    };
    let now = now();
    if at <= now {
        this.armed_for.set(0);
        this.remote
            .softirq
            .fetch_or(softirq::TIMER, Ordering::Relaxed);
    } else {
        wake_at(at, now);
    }
}

/// Sets the hardware timer alone, whatever it was set to.
pub fn wake_at(at: Nanos, now: Nanos) {
    if apic::tsc_deadline() {
        apic::set_deadline(clock().tsc_at(at));
    } else {
        let ahead = u128::from(at.saturating_sub(now));
        let ticks = (ahead * u128::from(apic_hz())).div_ceil(1_000_000_000);
        apic::set_timer(ticks.clamp(1, u128::from(u32::MAX)) as u32);
    }
}

/// Stops this CPU's hardware timer.
pub fn stop() {
    set_hardware(None);
}

/// Notes that the hardware timer has fired: it must be set again.
pub fn fired() {
    percpu::this().armed_for.set(0);
}

/// Takes the timers that are due on this CPU.
pub fn take_due(mut handle: impl FnMut(TimerId)) {
    let now = now();
    loop {
        let due = percpu::this().timers.lock().pop_due(now);
        match due {
            Some((id, _)) => handle(id),
            None => break,
        }
    }
}

/// Reads the CMOS clock: seconds since 1970, 0 when it makes no sense.
pub fn read_rtc(century: u8) -> u64 {
    struct Cmos;
    impl hv_core::time::wallclock::RtcRegisters for Cmos {
        fn read(&self, index: u8) -> u8 {
            outb(0x70, index);
            inb(0x71)
        }
    }
    hv_core::time::wallclock::read_rtc(&Cmos, Some(century)).unwrap_or_else(|why| {
        log::warn!("CMOS clock: {why:?}");
        0
    })
}
