//! Machine checks of this CPU: the exception, and a look at the banks now and then for what raised none.

use core::sync::atomic::Ordering;

use hv_core::base::Nanos;
use hv_core::domain::machine_check::{
    BankRegisters, FIRST_CONTROL, Findings, MCG_CAP, Severity, Source, banks, end_exception,
};

use super::host::HV;
use super::percpu::{self, PerCpu, softirq};
use super::{clock, cpu};

/// Between two looks.
const INTERVAL: Nanos = 5_000_000_000;
const MCG_CTL: u32 = 0x17b;
/// MCG_CAP: there is MCG_CTL.
const HAS_CTL: u64 = 1 << 8;

struct Registers;

impl BankRegisters for Registers {
    fn read(&self, msr: u32) -> Option<u64> {
        cpu::rdmsr_safe(msr)
    }

    fn clear(&self, msr: u32) {
        set(msr, 0);
    }
}

fn set(msr: u32, value: u64) {
    // SAFETY: these registers decide which errors are reported, or hold such reports; nothing else.
    unsafe { cpu::wrmsr_safe(msr, value) };
}

/// `MCG_CAP`, 0 on a CPU without machine checks.
pub fn capabilities() -> u64 {
    cpu::identity()
        .get_feature_info()
        .filter(|f| f.has_mce() && f.has_mca())
        .and_then(|_| cpu::rdmsr_safe(MCG_CAP))
        .unwrap_or(0)
}

/// Lets all banks of this CPU report.
pub fn init_cpu() {
    if capabilities() & HAS_CTL != 0 {
        set(MCG_CTL, !0);
    }
    // The firmware of older Intel CPUs keeps bank 0 for itself (SDM vol. 3, 16.3.2.1).
    let keeps_first = cpu::identity()
        .get_feature_info()
        .is_some_and(|f| f.family_id() == 6 && f.model_id() < 0x1a);
    for bank in u32::from(keeps_first)..banks(&Registers) {
        set(FIRST_CONTROL + 4 * bank, !0);
    }
}

/// The exception hit this CPU. Takes no lock: unless it is fatal, the run loop reports it.
pub fn exception(this: &PerCpu) -> Severity {
    let found = Findings::collect(&Registers, cpu::rdtsc());
    let severity = found.of_exception();
    if severity != Severity::Fatal {
        // A second one before the first was reported only leaves its banks to the next look.
        if this.machine_check.put(&found) {
            found.clear(&Registers);
        }
        this.remote
            .softirq
            .fetch_or(softirq::SERIAL, Ordering::Relaxed);
        end_exception(&Registers);
    }
    severity
}

/// Tells what the exception left.
pub fn report() {
    let this = percpu::this();
    if let (Some(found), Some(hv)) = (this.machine_check.take(), HV.get()) {
        hv.report_machine_check(this.id, &found, Source::Exception, found.of_exception());
    }
}

/// Looks at the banks, if it is time.
pub fn poll(this: &PerCpu) {
    let (now, due) = (clock::now(), this.next_look.get());
    if now < due {
        return;
    }
    this.next_look.set(now.saturating_add(INTERVAL));
    let found = Findings::collect(&Registers, cpu::rdtsc());
    let severity = found.of_poll();
    if severity == Severity::Nothing {
        return;
    }
    found.clear(&Registers);
    let source = if due == percpu::FIRST_LOOK {
        Source::Reset
    } else {
        Source::Poll
    };
    if let Some(hv) = HV.get() {
        hv.report_machine_check(this.id, &found, source, severity);
    }
}
