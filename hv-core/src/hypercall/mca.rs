//! mca: machine checks as the control domain's kernel fetches them (arch-x86/xen-mca.h).

use xen_abi::errno::Errno;
use xen_abi::mca::{self as abi, Mc, McFetch, McLogicalCpu, McPhyscpuinfo, McinfoMsr};

use super::arguments::edit;
use super::context::{AnyCtx, Args, DONE, Host, Reply};
use crate::base::CpuId;
use crate::cpuid::Which;
use crate::domain::machine_check::{MCG_CAP, Urgency};
use crate::domain::{Family, Processor};

/// mca(argument).
///
/// # Errors
/// `EPERM`, `EACCES` for another interface version, `EINVAL`, `EFAULT`; `EOPNOTSUPP` for what is
/// not implemented, `ENOSYS` for an unknown command.
pub fn mca<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    let at = args[0];
    let mut op: Mc = cx.read(at)?;
    if op.interface_version != abi::XEN_MCA_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    match op.cmd {
        abi::XEN_MC_physcpuinfo => edit(&mut op.u, |info| list_cpus(cx, info))?,
        abi::XEN_MC_fetch => edit(&mut op.u, |request| fetch(cx, request))?,
        // Nobody but the control domain hears of machine checks.
        abi::XEN_MC_notifydomain => return Err(Errno::EINVAL),
        other => return Err(refuse_mca(cx, other)),
    }
    cx.write(at, &op)?;
    DONE
}

fn refuse_mca<H: Host>(cx: &AnyCtx<'_, H>, cmd: u32) -> Errno {
    let name = match cmd {
        abi::XEN_MC_msrinject => "mca msrinject",
        abi::XEN_MC_mceinject => "mca mceinject",
        abi::XEN_MC_inject_v2 => "mca inject_v2",
        _ => return Errno::ENOSYS,
    };
    cx.hv
        .note_missing_once(cx.domain.id, Family::Mca, cmd, name);
    Errno::EOPNOTSUPP
}

/// The oldest block of a queue, or that one is no longer needed.
fn fetch<H: Host>(cx: &AnyCtx<'_, H>, request: &mut McFetch) -> Result<(), Errno> {
    let urgency = match request.flags & !abi::XEN_MC_ACK {
        abi::XEN_MC_URGENT => Urgency::Urgent,
        abi::XEN_MC_NONURGENT => Urgency::NonUrgent,
        _ => return Err(Errno::EINVAL),
    };
    let telemetry = &cx.hv.telemetry;
    if request.flags & abi::XEN_MC_ACK != 0 {
        telemetry.acknowledge(urgency, request.fetch_id);
        request.flags = abi::XEN_MC_OK;
        return Ok(());
    }
    if request.data == 0 {
        return Err(Errno::EINVAL);
    }
    let Some((id, info)) = telemetry.oldest(urgency) else {
        (request.flags, request.fetch_id) = (abi::XEN_MC_NODATA, 0);
        return Ok(());
    };
    cx.write(request.data, &info)?;
    telemetry.fetched(urgency, id);
    (request.flags, request.fetch_id) = (abi::XEN_MC_OK, id);
    Ok(())
}

fn list_cpus<H: Host>(cx: &AnyCtx<'_, H>, request: &mut McPhyscpuinfo) -> Result<(), Errno> {
    let online = cx.hv.backing.sched.online();
    let mut count = online.len();
    if !request.info.is_null() {
        if request.ncpus == 0 {
            return Err(Errno::EINVAL);
        }
        count = count.min(request.ncpus);
        let caps = cx.hv.services.policies.get(Which::Host).featureset();
        for (index, cpu) in online.iter().take(count as usize).enumerate() {
            let slot = cx.element::<McLogicalCpu>(request.info.address(), index as u64)?;
            cx.write(slot, &describe(&cx.hv.facts.processor, cpu, count, &caps))?;
        }
    }
    request.ncpus = count;
    Ok(())
}

fn describe(processor: &Processor, cpu: CpuId, online: u32, caps: &[u32]) -> McLogicalCpu {
    let place = processor
        .cpus
        .get(cpu as usize)
        .copied()
        .unwrap_or_default();
    let cores = processor.cores_per_socket();
    let mut out = McLogicalCpu {
        mc_cpunr: cpu,
        mc_chipid: place.socket,
        mc_coreid: place.core as u16,
        mc_threadid: place.thread as u16,
        mc_apicid: place.apic_id,
        mc_ncores: cores,
        mc_ncores_active: cores.min(online),
        mc_nthreads: processor.threads_per_core(),
        mc_cpuid_level: processor.max_leaf as i32,
        mc_family: processor.family,
        mc_vendor: processor.vendor_code(),
        mc_model: processor.model,
        mc_step: processor.stepping,
        mc_cache_alignment: processor.cache_line,
        ..McLogicalCpu::default()
    };
    (out.mc_nmsrvals, out.mc_msrvalues[0]) = (
        1,
        McinfoMsr {
            reg: MCG_CAP.into(),
            value: processor.mcg_cap,
        },
    );
    out.mc_vendorid[..processor.vendor.len()].copy_from_slice(&processor.vendor);
    let brand = processor.brand.as_flattened();
    out.mc_brandid[..brand.len()].copy_from_slice(brand);
    for (word, cap) in out.mc_cpu_caps.iter_mut().zip(caps) {
        *word = *cap;
    }
    out
}
