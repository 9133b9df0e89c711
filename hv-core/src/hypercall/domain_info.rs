//! A domain and its vCPUs as the toolstack sees them (`xen_domctl_getdomaininfo`, domctl.h).

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{ArchDomainConfig, XEN_X86_EMU_LAPIC, XEN_X86_MSR_RELAXED};
use xen_abi::domctl::{
    DomctlGetDomainInfo, DomctlGetVcpuInfo, XEN_DOMINF_blocked, XEN_DOMINF_dying, XEN_DOMINF_hap,
    XEN_DOMINF_hvm_guest, XEN_DOMINF_paused, XEN_DOMINF_running, XEN_DOMINF_shutdown,
    XEN_DOMINF_shutdownshift, XEN_INVALID_MAX_VCPU_ID,
};

use crate::base::{CpuId, Nanos, PAGE_SHIFT};
use crate::domain::{Domain, DomainKind, Hypervisor, RunFlags, Vcpu};

/// Flags of a vCPU that waits for something.
const WAITING: u32 = RunFlags::BLOCKED | RunFlags::POLLING;

/// Describes a domain.
#[must_use]
pub fn describe(hv: &Hypervisor, domain: &Domain) -> DomctlGetDomainInfo {
    let now = domain.machine.now();
    let vcpus = domain.vcpus();
    let cpupool = hv.backing.pools.pool_of(domain.id);
    let time: Nanos = vcpus.iter().map(|v| cpu_time(v, now)).sum();
    DomctlGetDomainInfo {
        domain: domain.id,
        flags: flags(domain),
        tot_pages: domain.pages.load(Ordering::Relaxed),
        max_pages: domain.max_pages.load(Ordering::Relaxed),
        outstanding_pages: domain.claim.load(Ordering::Relaxed),
        shared_info_frame: domain.own_number(domain.shared_info),
        cpu_time: time + domain.cpu_time.load(Ordering::Relaxed),
        nr_online_vcpus: domain.online_vcpus(),
        max_vcpu_id: match vcpus.len() {
            0 => XEN_INVALID_MAX_VCPU_ID,
            n => n as u32 - 1,
        },
        handle: *domain.handle.lock(),
        cpupool,
        gpaddr_bits: match &domain.translated {
            Some(map) => (map.limit().ilog2() + PAGE_SHIFT) as u8,
            None => hv.facts.processor.address_bits,
        },
        arch_config: ArchDomainConfig {
            emulation_flags: match domain.kind {
                DomainKind::Pv64 => 0,
                DomainKind::Hvm => XEN_X86_EMU_LAPIC,
            },
            misc_flags: domain.hvm.as_ref().map_or(0, |hvm| {
                bit(hvm.msr_relaxed.load(Ordering::Relaxed), XEN_X86_MSR_RELAXED)
            }),
        },
        ..DomctlGetDomainInfo::default()
    }
}

/// `XEN_DOMINF_*`. Whether a domain runs or waits is said of its vCPUs that are up; with none, neither.
fn flags(domain: &Domain) -> u32 {
    let mut flags = 0;
    let mut up = domain.vcpus().iter().filter(|v| v.is_up()).peekable();
    if up.peek().is_some() {
        let all_wait = up.clone().all(|v| v.flags() & WAITING != 0);
        let one_runs = up.any(|v| v.running_on().is_some());
        flags |= bit(all_wait, XEN_DOMINF_blocked) | bit(one_runs, XEN_DOMINF_running);
    }
    let shutdown = *domain.shutdown.lock();
    // All ones until the guest says something, as tools expect it.
    let reason = match shutdown {
        Some(reason) => reason.0,
        None => domain.shutdown_code.load(Ordering::Relaxed),
    };
    let contained = domain.kind == DomainKind::Hvm;
    flags
        | bit(contained, XEN_DOMINF_hvm_guest | XEN_DOMINF_hap)
        | bit(shutdown.is_some(), XEN_DOMINF_shutdown)
        | bit(domain.is_paused_by_tool(), XEN_DOMINF_paused)
        | bit(domain.dying.load(Ordering::Relaxed), XEN_DOMINF_dying)
        | reason << XEN_DOMINF_shutdownshift
}

const fn bit(on: bool, bit: u32) -> u32 {
    if on { bit } else { 0 }
}

/// Describes a vCPU.
#[must_use]
pub fn describe_vcpu(domain: &Domain, vcpu: &Vcpu, now: Nanos) -> DomctlGetVcpuInfo {
    DomctlGetVcpuInfo {
        vcpu: vcpu.id,
        online: vcpu.is_up().into(),
        blocked: (vcpu.flags() & WAITING != 0).into(),
        running: vcpu.running_on().is_some().into(),
        cpu_time: cpu_time(vcpu, now),
        cpu: mapping(domain, vcpu),
        ..DomctlGetVcpuInfo::default()
    }
}

/// The CPU that a vCPU is on, and for one that does not run, where it may go on: the CPU it ran on
/// last unless its affinity forbids that by now.
fn mapping(domain: &Domain, vcpu: &Vcpu) -> CpuId {
    let last = vcpu.cpu();
    let affinity = vcpu.unit.get().and_then(|unit| domain.sched.affinity(unit));
    let Some(affinity) = affinity.filter(|_| vcpu.running_on().is_none()) else {
        return last;
    };
    let online = domain.pool_cpus();
    let allowed = affinity.effective(&online).intersection(&online);
    if allowed.contains(last) {
        return last;
    }
    allowed.iter().next().unwrap_or(last)
}

/// Nanoseconds that a vCPU has run.
fn cpu_time(vcpu: &Vcpu, now: Nanos) -> Nanos {
    vcpu.runstate.lock().cpu_time(now)
}
