//! domctl createdomain and max_vcpus: a domain begins.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{XEN_X86_EMU_LAPIC, XEN_X86_MSR_RELAXED};
use xen_abi::domctl::{self as abi, Domctl, DomctlCreateDomain};
use xen_abi::errno::Errno;

use super::{After, refused};
use crate::domain::{Domain, DomainKind, Hypervisor, Limits};
use crate::grants;
use crate::hypercall::arguments::argument;
use crate::hypercall::contained;
use crate::hypercall::context::{AnyCtx, Host};

/// Most vCPUs of a domain, by kind.
const MAX_VCPUS: u32 = 512;
const MAX_CONTAINED: u32 = 128;
/// Flags that mean nothing here.
const IGNORED_FLAGS: u32 = abi::XEN_DOMCTL_CDF_s3_integrity | abi::XEN_DOMCTL_CDF_oos_off;
/// Flags of a domain in containers: nested paging is the only one there is.
const CONTAINED: u32 = abi::XEN_DOMCTL_CDF_hvm | abi::XEN_DOMCTL_CDF_hap;

/// Says on the log why no domain is made.
fn impossible(why: fmt::Arguments<'_>, errno: Errno) -> Errno {
    log::info!("domctl createdomain: {why}");
    errno
}

/// Makes a domain: paused once by the toolstack, without vCPUs and memory. Its number is written back.
pub(super) fn create<H: Host>(cx: &AnyCtx<'_, H>, op: &mut Domctl) -> Result<After, Errno> {
    let config: DomctlCreateDomain = argument(&op.u)?;
    let kind = kind(cx.hv, &config)?;
    let limits = limits(&config, kind)?;
    let pool = config.cpupool_id;
    let made = cx
        .hv
        .create_domain(op.domain, kind, config.handle, pool, limits);
    let why = |e: &Errno| match e {
        Errno::EEXIST => "the number is taken",
        Errno::ENOENT => "there is no such CPU pool",
        Errno::ENODEV => "its CPU pool has no CPUs",
        _ => "not enough memory",
    };
    match made.map_err(|e| impossible(format_args!("domain {}: {}", op.domain, why(&e)), e))? {
        Some(domain) => {
            if let Some(hvm) = &domain.hvm {
                let relaxed = config.arch.misc_flags & XEN_X86_MSR_RELAXED != 0;
                hvm.msr_relaxed.store(relaxed, Ordering::Relaxed);
            }
            op.domain = domain.id;
            Ok(After::WriteBack)
        }
        None => Ok(After::Again),
    }
}

/// Which kind of domain the configuration asks for, if the machine can run it.
fn kind(hv: &Hypervisor, config: &DomctlCreateDomain) -> Result<DomainKind, Errno> {
    if config.flags & abi::XEN_DOMCTL_CDF_hvm == 0 {
        return Ok(DomainKind::Pv64);
    }
    let refuse = |why: &str, errno| Err(impossible(format_args!("{why}"), errno));
    if hv.facts.hvm.is_none() {
        let why = "an HVM or PVH domain needs AMD-V with nested paging, which this machine does not offer";
        return refuse(why, Errno::EINVAL);
    }
    if config.flags & abi::XEN_DOMCTL_CDF_hap == 0 {
        return refuse("shadow paging is not supported", Errno::EINVAL);
    }
    if config.arch.emulation_flags != XEN_X86_EMU_LAPIC {
        let why = format_args!(
            "devices {:#x}: only PVH domains are supported, whose one device is the local APIC ({XEN_X86_EMU_LAPIC:#x})",
            config.arch.emulation_flags
        );
        return Err(impossible(why, Errno::EOPNOTSUPP));
    }
    Ok(DomainKind::Hvm)
}

/// What the configuration asks for, if a domain of this kind can have it.
fn limits(config: &DomctlCreateDomain, kind: DomainKind) -> Result<Limits, Errno> {
    let refuse = |what: &str, value: u32| {
        Err(impossible(
            format_args!("{what}: {value:#x}"),
            Errno::EINVAL,
        ))
    };
    let (of_kind, most) = match kind {
        DomainKind::Pv64 => (0, MAX_VCPUS),
        DomainKind::Hvm => (CONTAINED, MAX_CONTAINED),
    };
    let others = config.flags & !IGNORED_FLAGS & !of_kind;
    let named = [
        (
            abi::XEN_DOMCTL_CDF_hap,
            "nested paging is for HVM domains, flags",
        ),
        (
            abi::XEN_DOMCTL_CDF_nested_virt,
            "guests cannot be hypervisors themselves, flags",
        ),
        (
            abi::XEN_DOMCTL_CDF_iommu,
            "there is no IOMMU support, flags",
        ),
        (
            abi::XEN_DOMCTL_CDF_vpmu,
            "virtual performance counters are not supported, flags",
        ),
        (
            abi::XEN_DOMCTL_CDF_xs_domain,
            "xenstore domains are not supported, flags",
        ),
        (u32::MAX, "unknown flags"),
    ];
    if let Some((_, why)) = named.iter().find(|(flag, _)| others & flag != 0) {
        return refuse(why, config.flags);
    }
    if !(1..=most).contains(&config.max_vcpus) {
        let why = match kind {
            DomainKind::Pv64 => "vCPUs must be 1 to 0x200",
            DomainKind::Hvm => "vCPUs must be 1 to 0x80",
        };
        return refuse(why, config.max_vcpus);
    }
    if config.iommu_opts != 0 {
        return refuse("IOMMU options without an IOMMU", config.iommu_opts);
    }
    if config.vmtrace_size != 0 {
        return refuse(
            "tracing of vCPUs is not supported, size",
            config.vmtrace_size,
        );
    }
    if kind == DomainKind::Pv64 && config.arch.emulation_flags != 0 {
        return refuse(
            "a PV domain has no emulated devices",
            config.arch.emulation_flags,
        );
    }
    if config.arch.misc_flags & !XEN_X86_MSR_RELAXED != 0 {
        return refuse(
            "unknown options of the architecture",
            config.arch.misc_flags,
        );
    }
    let grants = grants::Limits::for_domain(
        config.max_grant_frames,
        config.max_maptrack_frames,
        config.grant_opts,
        grants::Limits::default(),
    )
    .map_err(|e| {
        let asked = (config.max_grant_frames, config.max_maptrack_frames);
        let why = format_args!(
            "grant table of {} frames and {} maptrack frames with options {:#x}",
            asked.0, asked.1, config.grant_opts
        );
        impossible(why, e)
    })?;
    Ok(Limits {
        vcpus: config.max_vcpus,
        max_pages: 0,
        max_port: config.max_evtchn_port,
        pirqs: 0,
        grants,
    })
}

/// Makes the vCPUs whose number the creation fixed.
pub(super) fn max_vcpus<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Arc<Domain>,
    request: abi::DomctlMaxVcpus,
) -> Result<After, Errno> {
    if domain.is_dying() {
        return Err(refused(domain, "max_vcpus", "it is dying", Errno::EINVAL));
    }
    if request.max != domain.max_vcpus {
        let why = "another number than at its creation";
        return Err(refused(domain, "max_vcpus", why, Errno::EINVAL));
    }
    let made = cx.hv.make_vcpus(domain);
    made.and_then(|()| contained::make_states(cx, domain))
        .map_err(|e| {
            let why = match e {
                Errno::ENOSPC => "there are too many vCPUs on the machine",
                _ => "not enough memory",
            };
            refused(domain, "max_vcpus", why, e)
        })?;
    Ok(After::Nothing)
}
