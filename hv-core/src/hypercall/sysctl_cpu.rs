//! The operations of sysctl about CPUs, memory, schedulers and CPU policies.

use xen_abi::GuestHandle;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry};
use xen_abi::errno::Errno;
use xen_abi::physdev::PhysdevPciDevice;
use xen_abi::sysctl as abi;
use zerocopy::{Immutable, IntoBytes};

use super::arguments::{argument, edit};
use super::context::{AnyCtx, Host};
use crate::base::PAGE_SHIFT;
use crate::cpuid::policy::{MAX_LEAVES, MSRS};
use crate::cpuid::{Policy, Which};
use crate::sched::Scheduler;

/// Distance of the only node to itself, as firmware tables have it (ACPI 5.2.17).
const LOCAL_DISTANCE: u32 = 10;
/// What guests of the built-in kinds can have.
const CAPABILITIES: u32 = abi::XEN_SYSCTL_PHYSCAP_pv
    | abi::XEN_SYSCTL_PHYSCAP_gnttab_v1
    | abi::XEN_SYSCTL_PHYSCAP_gnttab_v2;
/// And where the CPUs can run guests in containers.
const CONTAINED: u32 = abi::XEN_SYSCTL_PHYSCAP_hvm | abi::XEN_SYSCTL_PHYSCAP_hap;
/// Most PCI devices that one call asks about.
const MAX_DEVICES: u32 = 1 << 13;

/// The machine at a glance.
pub(super) fn phys_info<H: Host>(
    cx: &AnyCtx<'_, H>,
    info: &mut abi::SysctlPhysInfo,
) -> Result<(), Errno> {
    let facts = &cx.hv.facts;
    let features = cx.hv.services.policies.get(Which::Host).featureset();
    let mut hw_cap = [0; 8];
    hw_cap
        .iter_mut()
        .zip(&features)
        .for_each(|(to, from)| *to = *from);
    *info = abi::SysctlPhysInfo {
        threads_per_core: facts.processor.threads_per_core(),
        cores_per_socket: facts.processor.cores_per_socket(),
        nr_cpus: cx.hv.backing.sched.online().len(),
        max_cpu_id: facts.processor.max_cpu(),
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: facts.tsc_khz,
        capabilities: match facts.hvm {
            Some(_) => CAPABILITIES | CONTAINED,
            None => CAPABILITIES,
        },
        total_pages: facts.total_pages,
        free_pages: cx.hv.backing.machine.free_pages(),
        outstanding_pages: cx.hv.backing.machine.claimed(),
        max_mfn: facts.max_page.saturating_sub(1),
        hw_cap,
        ..abi::SysctlPhysInfo::default()
    };
    Ok(())
}

pub(super) fn idle_times<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlGetCpuInfo,
) -> Result<(), Errno> {
    let count = request
        .max_cpus
        .min(cx.hv.facts.processor.cpus.len() as u32);
    for cpu in 0..count {
        let idletime = cx.hv.backing.machine.idle(cpu).time;
        let slot = cx.element::<abi::SysctlCpuInfo>(request.info.address(), cpu.into())?;
        cx.write(slot, &abi::SysctlCpuInfo { idletime })?;
    }
    request.nr_cpus = count;
    Ok(())
}

/// Free bytes of the machine. Free memory is not counted by address.
pub(super) fn free_memory<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlAvailHeap,
) -> Result<(), Errno> {
    if request.min_bitwidth != 0 || request.max_bitwidth != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    // All memory is in node 0, or asked for as a whole (-1); in any other node there is none.
    request.avail_bytes = match request.node {
        ..=0 => cx.hv.backing.machine.free_pages() << PAGE_SHIFT,
        _ => 0,
    };
    Ok(())
}

pub(super) fn cpu_topology<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlCpuTopoInfo,
) -> Result<(), Errno> {
    let online = cx.hv.backing.sched.online();
    let known = cx.hv.facts.processor.cpus.len() as u32;
    if request.cputopo.is_null() {
        request.num_cpus = known;
        return Ok(());
    }
    request.num_cpus = request.num_cpus.min(known);
    for (cpu, place) in (0..request.num_cpus).zip(&cx.hv.facts.processor.cpus) {
        let found = if online.contains(cpu) {
            abi::SysctlCpuTopo {
                core: place.core,
                socket: place.socket,
                node: 0,
            }
        } else {
            abi::SysctlCpuTopo {
                core: abi::XEN_INVALID_CORE_ID,
                socket: abi::XEN_INVALID_SOCKET_ID,
                node: abi::XEN_INVALID_NODE_ID,
            }
        };
        let slot = cx.element::<abi::SysctlCpuTopo>(request.cputopo.address(), cpu.into())?;
        cx.write(slot, &found)?;
    }
    Ok(())
}

/// All memory counts as one node.
pub(super) fn numa_nodes<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlNumaInfo,
) -> Result<(), Errno> {
    if request.meminfo.is_null() && request.distance.is_null() {
        request.num_nodes = 1;
        return Ok(());
    }
    request.num_nodes = request.num_nodes.min(1);
    if request.num_nodes == 0 {
        return Ok(());
    }
    if !request.meminfo.is_null() {
        let node = abi::SysctlMeminfo {
            memsize: cx.hv.facts.total_pages << PAGE_SHIFT,
            memfree: cx.hv.backing.machine.free_pages() << PAGE_SHIFT,
        };
        cx.write(request.meminfo.address(), &node)?;
    }
    if !request.distance.is_null() {
        cx.write(request.distance.address(), &LOCAL_DISTANCE)?;
    }
    Ok(())
}

/// Nodes of PCI devices: none is known to the hypervisor.
pub(super) fn pci_topology<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlPciTopoInfo,
) -> Result<(), Errno> {
    if request.num_devs == 0 {
        return Ok(());
    }
    if request.devs.is_null() || request.nodes.is_null() || request.num_devs > MAX_DEVICES {
        return Err(Errno::EINVAL);
    }
    for index in 0..request.num_devs {
        let device = cx.element::<PhysdevPciDevice>(request.devs.address(), index.into())?;
        cx.read::<PhysdevPciDevice>(device)?;
        let slot = cx.element::<u32>(request.nodes.address(), index.into())?;
        cx.write(slot, &abi::XEN_INVALID_DEV)?;
    }
    Ok(())
}

pub(super) fn scheduler<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlSchedulerOp,
) -> Result<(), Errno> {
    let pools = cx.hv.backing.pools;
    let sched = pools.policy(request.cpupool_id).ok_or(Errno::ESRCH)?;
    if request.sched_id != sched.id() {
        return Err(Errno::EINVAL);
    }
    match request.cmd {
        abi::XEN_SYSCTL_SCHEDOP_getinfo => {
            let ratelimit_us = sched.ratelimit_us();
            edit(&mut request.u, |p: &mut abi::SysctlCredit2Schedule| {
                p.ratelimit_us = ratelimit_us;
                Ok(())
            })
        }
        abi::XEN_SYSCTL_SCHEDOP_putinfo => {
            let wanted: abi::SysctlCredit2Schedule = argument(&request.u)?;
            sched.set_ratelimit_us(wanted.ratelimit_us)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// A policy that tools may see.
///
/// # Errors
/// `EOPNOTSUPP` for HVM guests' where there can be none.
fn listed<H: Host>(cx: &AnyCtx<'_, H>, which: Which) -> Result<&'static Policy, Errno> {
    let policies = cx.hv.services.policies;
    match which {
        Which::HvmMax | Which::HvmDefault if !policies.has_hvm() => Err(Errno::EOPNOTSUPP),
        _ => Ok(policies.get(which)),
    }
}

/// Feature words. With too little room, as many as fit and `ENOBUFS`.
pub(super) fn featureset<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlCpuFeatureset,
) -> Result<(), Errno> {
    let view = match request.index {
        abi::XEN_SYSCTL_cpu_featureset_raw => Which::Raw,
        abi::XEN_SYSCTL_cpu_featureset_host => Which::Host,
        abi::XEN_SYSCTL_cpu_featureset_pv => Which::PvDefault,
        abi::XEN_SYSCTL_cpu_featureset_pv_max => Which::PvMax,
        abi::XEN_SYSCTL_cpu_featureset_hvm => Which::HvmDefault,
        abi::XEN_SYSCTL_cpu_featureset_hvm_max => Which::HvmMax,
        _ => return Err(Errno::EINVAL),
    };
    let words = listed(cx, view)?.featureset();
    let room = if request.features.is_null() {
        None
    } else {
        Some((request.features.address(), request.nr_features))
    };
    let (count, result) = put_some(cx, room, &words);
    request.nr_features = count;
    result
}

/// CPUID leaves and MSRs of a view. Without buffers, how much room is enough for any view.
pub(super) fn policy<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlCpuPolicy,
) -> Result<(), Errno> {
    let view = match request.index {
        abi::XEN_SYSCTL_cpu_policy_raw => Which::Raw,
        abi::XEN_SYSCTL_cpu_policy_host => Which::Host,
        abi::XEN_SYSCTL_cpu_policy_pv_max => Which::PvMax,
        abi::XEN_SYSCTL_cpu_policy_pv_default => Which::PvDefault,
        abi::XEN_SYSCTL_cpu_policy_hvm_max => Which::HvmMax,
        abi::XEN_SYSCTL_cpu_policy_hvm_default => Which::HvmDefault,
        _ => return Err(Errno::EINVAL),
    };
    let policy = listed(cx, view)?;
    let (leaves, msrs) = (&mut request.nr_leaves, &mut request.nr_msrs);
    list_policy(cx, policy, (request.leaves, leaves), (request.msrs, msrs))
}

/// Writes the leaves and registers of a policy; to no buffer, how much room is enough for any.
pub(super) fn list_policy<H: Host>(
    cx: &AnyCtx<'_, H>,
    policy: &Policy,
    (leaves, nr_leaves): (GuestHandle<CpuidLeaf>, &mut u32),
    (msrs, nr_msrs): (GuestHandle<MsrEntry>, &mut u32),
) -> Result<(), Errno> {
    let (mut leaves_done, mut msrs_done) = (Ok(()), Ok(()));
    if leaves.is_null() {
        *nr_leaves = MAX_LEAVES as u32;
    } else {
        let room = Some((leaves.address(), *nr_leaves));
        (*nr_leaves, leaves_done) = put_some(cx, room, &policy.leaves()?);
    }
    if msrs.is_null() {
        *nr_msrs = MSRS as u32;
    } else {
        let room = Some((msrs.address(), *nr_msrs));
        (*nr_msrs, msrs_done) = put_some(cx, room, &policy.msrs());
    }
    leaves_done.and(msrs_done)
}

/// Writes as much of a list as there is room for; returns how many elements were written (all there
/// are, when nobody gave room), and `ENOBUFS` if some did not fit.
fn put_some<H: Host, T: IntoBytes + Immutable>(
    cx: &AnyCtx<'_, H>,
    room: Option<(u64, u32)>,
    list: &[T],
) -> (u32, Result<(), Errno>) {
    let Some((at, room)) = room else {
        return (list.len() as u32, Ok(()));
    };
    let fits = &list[..list.len().min(room as usize)];
    let copied = cx.host.copy_out(at, fits.as_bytes());
    let all = if fits.len() == list.len() {
        Ok(())
    } else {
        Err(Errno::ENOBUFS)
    };
    (fits.len() as u32, copied.and(all))
}
