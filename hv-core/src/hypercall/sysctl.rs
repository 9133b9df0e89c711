//! sysctl: the toolstack's questions about the machine (xen/sysctl.h). CPUs, memory and schedulers
//! are in `sysctl_cpu`.

use xen_abi::domctl::DomctlGetDomainInfo;
use xen_abi::errno::Errno;
use xen_abi::sysctl::{self as abi, Sysctl};

use super::arguments::{argument, edit, store};
use super::context::{AnyCtx, Args, DONE, Host, Reply};
use super::interface::{Interface, spoken};
use super::{debugkeys, domain_info, hotplug, pools, sysctl_cpu as cpu, sysctl_power as power};
use crate::console::{AfterRead, ReadRequest};
use crate::domain::Family;

/// Most text that one call copies out of the log ring; readers ask until nothing is left.
const MAX_TEXT: usize = 64 << 10;
/// Most keys that one call presses.
const MAX_KEYS: u32 = 64;

/// sysctl(request).
///
/// # Errors
/// `EPERM` for all but the control domain, `EACCES` for an interface version that is not spoken,
/// `EFAULT`, those of the operations, and for what is not implemented the errno by which tools
/// know that.
pub fn sysctl<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    let at = args[0];
    let mut op: Sysctl = cx.read(at)?;
    let Interface::V4_17 = spoken(cx, Family::Sysctl, op.interface_version, op.cmd)?;
    if op.cmd == abi::XEN_SYSCTL_cpu_hotplug {
        return hotplug::operation(cx, args, argument(&op.u)?);
    }
    if op.cmd == abi::XEN_SYSCTL_cpupool_op {
        let mut request = argument(&op.u)?;
        let reply = pools::operation(cx, args, &mut request)?;
        store(&mut op.u, &request)?;
        cx.write(at, &op)?;
        return Ok(reply);
    }
    let result = run(cx, &mut op);
    // Room that is too small is an error that comes with the size needed.
    if result.is_ok() || result == Err(Errno::ENOBUFS) {
        cx.write(at, &op)?;
    }
    result?;
    DONE
}

fn run<H: Host>(cx: &AnyCtx<'_, H>, op: &mut Sysctl) -> Result<(), Errno> {
    let u = &mut op.u;
    match op.cmd {
        abi::XEN_SYSCTL_readconsole => edit(u, |r| read_console(cx, r)),
        abi::XEN_SYSCTL_getdomaininfolist => edit(u, |r| list_domains(cx, r)),
        abi::XEN_SYSCTL_debug_keys => edit(u, |r| debug_keys(cx, r)),
        abi::XEN_SYSCTL_physinfo => edit(u, |r| cpu::phys_info(cx, r)),
        abi::XEN_SYSCTL_sched_id => edit(u, |r: &mut abi::SysctlSchedId| {
            r.sched_id = cx.hv.backing.sched.id();
            Ok(())
        }),
        abi::XEN_SYSCTL_getcpuinfo => edit(u, |r| cpu::idle_times(cx, r)),
        abi::XEN_SYSCTL_availheap => edit(u, |r| cpu::free_memory(cx, r)),
        abi::XEN_SYSCTL_cputopoinfo => edit(u, |r| cpu::cpu_topology(cx, r)),
        abi::XEN_SYSCTL_numainfo => edit(u, |r| cpu::numa_nodes(cx, r)),
        abi::XEN_SYSCTL_pcitopoinfo => edit(u, |r| cpu::pci_topology(cx, r)),
        abi::XEN_SYSCTL_scheduler_op => edit(u, |r| cpu::scheduler(cx, r)),
        abi::XEN_SYSCTL_pm_op => edit(u, |r| power::operation(cx, r)),
        abi::XEN_SYSCTL_get_pmstat => edit(u, |r| power::statistics(cx, r)),
        // CPUID of other domains is not masked by hardware, so there is no such capability.
        abi::XEN_SYSCTL_get_cpu_levelling_caps => edit(u, |r: &mut abi::SysctlCpuLevellingCaps| {
            r.caps = 0;
            Ok(())
        }),
        abi::XEN_SYSCTL_get_cpu_featureset => edit_always(u, |r| cpu::featureset(cx, r)),
        abi::XEN_SYSCTL_get_cpu_policy => edit_always(u, |r| cpu::policy(cx, r)),
        other => Err(refuse(cx, other)),
    }
}

/// As `edit`, but the argument is put back also with an error.
fn edit_always<T>(
    union: &mut [u64],
    change: impl FnOnce(&mut T) -> Result<(), Errno>,
) -> Result<(), Errno>
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
{
    let mut result = Ok(());
    edit(union, |value| {
        result = change(value);
        Ok(())
    })?;
    result
}

/// The errno for what is not done, and its name on the log. The numbers are those by which tools
/// tell "not built in" from "not on this machine".
fn refuse<H: Host>(cx: &AnyCtx<'_, H>, cmd: u32) -> Errno {
    let (name, errno) = match cmd {
        abi::XEN_SYSCTL_tbuf_op => ("sysctl tbuf_op", Errno::ENOSYS),
        abi::XEN_SYSCTL_perfc_op => ("sysctl perfc_op", Errno::ENOSYS),
        abi::XEN_SYSCTL_lockprof_op => ("sysctl lockprof_op", Errno::ENOSYS),
        abi::XEN_SYSCTL_livepatch_op => ("sysctl livepatch_op", Errno::ENOSYS),
        abi::XEN_SYSCTL_coverage_op => ("sysctl coverage_op", Errno::EOPNOTSUPP),
        abi::XEN_SYSCTL_psr_cmt_op => ("sysctl psr_cmt_op", Errno::ENODEV),
        abi::XEN_SYSCTL_psr_alloc => ("sysctl psr_alloc", Errno::ENODEV),
        abi::XEN_SYSCTL_page_offline_op => ("sysctl page_offline_op", Errno::EOPNOTSUPP),
        _ => return Errno::ENOSYS,
    };
    cx.hv
        .note_missing_once(cx.domain.id, Family::Sysctl, cmd, name);
    errno
}

fn read_console<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlReadConsole,
) -> Result<(), Errno> {
    let after = if request.clear != 0 {
        AfterRead::Clear
    } else {
        AfterRead::Keep
    };
    let mut from = (request.incremental != 0).then_some(request.index);
    let wanted = (request.count as usize).min(MAX_TEXT);
    let mut chunk = [0; 512];
    let mut done = 0;
    loop {
        let room = (wanted - done).min(chunk.len());
        let ask = ReadRequest { from, after };
        let got = cx.hv.services.console.read_ring(ask, &mut chunk[..room]);
        let count = got.count.min(room);
        let to = cx.element::<u8>(request.buffer.address(), done as u64)?;
        cx.host.copy_out(to, &chunk[..count])?;
        from = Some(got.index);
        done += count;
        request.index = got.index;
        if count == 0 || done == wanted {
            break;
        }
    }
    request.count = done as u32;
    Ok(())
}

fn list_domains<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlGetDomainInfoList,
) -> Result<(), Errno> {
    let mut next = Some(request.first_domain);
    let mut count = 0;
    while count < request.max_domains
        && let Some(domain) = next.and_then(|id| cx.hv.domain_from(id))
    {
        let slot = cx.element::<DomctlGetDomainInfo>(request.buffer.address(), u64::from(count))?;
        cx.write(slot, &domain_info::describe(cx.hv, &domain))?;
        count += 1;
        next = domain.id.checked_add(1);
    }
    request.num_domains = count;
    Ok(())
}

fn debug_keys<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlDebugKeys,
) -> Result<(), Errno> {
    if request.nr_keys > MAX_KEYS {
        return Err(Errno::E2BIG);
    }
    for index in 0..request.nr_keys {
        let key = cx.read::<u8>(cx.element::<u8>(request.keys.address(), index.into())?)?;
        debugkeys::press(cx.hv, key);
    }
    Ok(())
}
