//! Small calls of the control domain's kernel about the machine: machine checks, performance
//! counters, device models (arch-x86/xen-mca.h, xen/xenpmu.h, xen/hvm/dm_op.h).

use xen_abi::errno::Errno;
use xen_abi::mca::{self as abi, Mc, McFetch, McLogicalCpu, McPhyscpuinfo};

use super::arguments::edit;
use super::context::{Args, Ctx, DONE, Host, Reply};
use crate::base::CpuId;
use crate::domain::{Family, PolicyView, Processor};

/// mca(argument).
///
/// # Errors
/// `EPERM`, `EACCES` for another interface version, `EINVAL`, `EFAULT`; `EOPNOTSUPP` for what is
/// not implemented, `ENOSYS` for an unknown command.
pub fn mca<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    let at = args[0];
    let mut op: Mc = cx.read(at)?;
    if op.interface_version != abi::XEN_MCA_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    match op.cmd {
        abi::XEN_MC_physcpuinfo => edit(&mut op.u, |info| list_cpus(cx, info))?,
        abi::XEN_MC_fetch => edit(&mut op.u, fetch)?,
        other => return Err(refuse_mca(cx, other)),
    }
    cx.write(at, &op)?;
    DONE
}

fn refuse_mca<H: Host>(cx: &Ctx<'_, H>, cmd: u32) -> Errno {
    let name = match cmd {
        abi::XEN_MC_notifydomain => "mca notifydomain",
        abi::XEN_MC_msrinject => "mca msrinject",
        abi::XEN_MC_mceinject => "mca mceinject",
        abi::XEN_MC_inject_v2 => "mca inject_v2",
        _ => return Errno::ENOSYS,
    };
    cx.hv
        .note_missing_once(cx.domain.id, Family::Mca, cmd, name);
    Errno::EOPNOTSUPP
}

/// Telemetry is not collected, so there is never any to fetch, nor any to acknowledge.
fn fetch(request: &mut McFetch) -> Result<(), Errno> {
    let asked = request.flags & !abi::XEN_MC_ACK;
    if asked != abi::XEN_MC_URGENT && asked != abi::XEN_MC_NONURGENT {
        return Err(Errno::EINVAL);
    }
    request.flags = if request.flags & abi::XEN_MC_ACK == 0 {
        abi::XEN_MC_NODATA
    } else {
        abi::XEN_MC_OK
    };
    request.fetch_id = 0;
    Ok(())
}

fn list_cpus<H: Host>(cx: &Ctx<'_, H>, request: &mut McPhyscpuinfo) -> Result<(), Errno> {
    let online = cx.hv.backing.sched.online();
    let mut count = online.len();
    if !request.info.is_null() {
        if request.ncpus == 0 {
            return Err(Errno::EINVAL);
        }
        count = count.min(request.ncpus);
        let caps = cx.hv.services.cpu_policy.featureset(PolicyView::Host);
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
    out.mc_vendorid[..processor.vendor.len()].copy_from_slice(&processor.vendor);
    let brand = processor.brand.as_flattened();
    out.mc_brandid[..brand.len()].copy_from_slice(brand);
    for (word, cap) in out.mc_cpu_caps.iter_mut().zip(caps) {
        *word = *cap;
    }
    out
}

/// xenpmu_op(cmd, argument): there are no virtual performance counters.
///
/// # Errors
/// `EOPNOTSUPP`.
pub fn xenpmu_op<H: Host>(_cx: &mut Ctx<'_, H>, _args: Args) -> Reply {
    Err(Errno::EOPNOTSUPP)
}

/// dm_op(domid, nr_buffers, buffers): there are no domains with a device model.
///
/// # Errors
/// `EPERM`; `ENODATA` without buffers, the first of which is the operation; `ENOSYS` for any operation.
pub fn dm_op<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    Err(if args[1] as u32 == 0 {
        Errno::ENODATA
    } else {
        Errno::ENOSYS
    })
}
