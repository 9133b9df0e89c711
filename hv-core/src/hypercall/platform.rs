//! platform_op: what the control domain's kernel does with the machine (xen/platform.h).

mod efi;

use alloc::vec::Vec;

use xen_abi::errno::Errno;
use xen_abi::platform::{self as abi, PlatformOp};
use xen_abi::xen::XenctlBitmap;

use super::arguments::{argument, edit};
use super::context::{AnyCtx, Args, DONE, Host, Reply};
use super::hotplug;
use crate::base::CpuId;
use crate::domain::{Family, SleepRequest};
use crate::sched::CpuSet;
use crate::time::wallclock::WallClock;

/// The only sleep state that can be entered: soft off.
const SOFT_OFF: u32 = 5;
/// Sleep states that ACPI has.
const SLEEP_STATES: core::ops::RangeInclusive<u32> = 1..=SOFT_OFF;
/// More bytes than any vendor's container of microcode has.
const LARGEST_MICROCODE: u32 = 16 << 20;
/// Bit of a PM1 control register that enters the state (ACPI 4.8.3.2.1, SLP_EN).
const SLEEP_ENABLE: u16 = 1 << 13;
/// The only revision of a _PDC buffer (Intel Processor Vendor-Specific ACPI, "_PDC").
const PDC_REVISION: u32 = 1;
/// Capabilities in it that mean registers of the CPU: performance states, throttling, C1 and the deeper
/// idle states by MWAIT.
const PDC_NATIVE: u32 = 1 | 1 << 2 | 1 << 8 | 1 << 9;

/// platform_op(argument).
///
/// # Errors
/// `EPERM`, `EACCES` for another interface version, `EFAULT`, those of the sub-operations;
/// `EOPNOTSUPP` for what is not implemented, `ENOSYS` for an unknown command.
pub fn platform_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    let at = args[0];
    let mut op: PlatformOp = cx.read(at)?;
    if op.interface_version != abi::XENPF_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    match op.cmd {
        abi::XENPF_settime64 => return set_time64(cx, argument(&op.u)?),
        abi::XENPF_settime32 => return set_time32(cx, argument(&op.u)?),
        abi::XENPF_enter_acpi_sleep => return enter_sleep(cx, argument(&op.u)?),
        abi::XENPF_firmware_info => edit(&mut op.u, |request| firmware_info(cx, request))?,
        abi::XENPF_efi_runtime_call => edit(&mut op.u, |call| efi::call(cx, call))?,
        abi::XENPF_get_cpuinfo => edit(&mut op.u, |info| cpu_info(cx, info))?,
        abi::XENPF_get_cpu_version => edit(&mut op.u, |info| cpu_version(cx, info))?,
        abi::XENPF_cpu_online | abi::XENPF_cpu_offline => {
            let request: abi::PlatformCpuOl = argument(&op.u)?;
            return hotplug::platform(cx, args, op.cmd, request.cpuid);
        }
        abi::XENPF_core_parking => edit(&mut op.u, |request| core_parking(cx, request))?,
        abi::XENPF_microcode_update => {
            let request: abi::PlatformMicrocodeUpdate = argument(&op.u)?;
            if !(1..=LARGEST_MICROCODE).contains(&request.length) {
                return Err(Errno::EINVAL);
            }
            let file: Vec<u8> = cx.read_array(request.data.address(), request.length as usize)?;
            cx.domain.machine.load_microcode(&file)?;
            return DONE;
        }
        abi::XENPF_set_processor_pminfo => return power_data(cx, &argument(&op.u)?),
        abi::XENPF_getidletime => edit(&mut op.u, |info| idle_time(cx, info))?,
        other => return Err(refuse(cx, other)),
    }
    cx.write(at, &op)?;
    DONE
}

/// A CPU's power data, of which none is used here. What dom0 is about to tell its firmware that the
/// operating system can do loses what the hypervisor would have to do.
fn power_data<H: Host>(cx: &mut AnyCtx<'_, H>, info: &abi::PlatformSetProcessorPminfo) -> Reply {
    match info.r#type {
        abi::XEN_PM_PDC => {}
        abi::XEN_PM_CX | abi::XEN_PM_PX | abi::XEN_PM_TX => {
            return Err(refuse(cx, abi::XENPF_set_processor_pminfo));
        }
        _ => return Err(Errno::EINVAL),
    }
    // The buffer of ACPI's _PDC: revision, number of words, capabilities.
    let at = info.u[0];
    let head: [u32; 2] = cx.read(at)?;
    if head[0] != PDC_REVISION || head[1] == 0 {
        return Err(Errno::EINVAL);
    }
    let capabilities: u32 = cx.read(at.wrapping_add(8))?;
    cx.write(at.wrapping_add(8), &(capabilities & !PDC_NATIVE))?;
    DONE
}

/// No CPU is ever parked.
fn core_parking<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::PlatformCoreParking,
) -> Result<(), Errno> {
    match request.r#type {
        abi::XEN_CORE_PARKING_GET => {
            request.idle_nums = 0;
            Ok(())
        }
        abi::XEN_CORE_PARKING_SET => Err(refuse(cx, abi::XENPF_core_parking)),
        _ => Err(Errno::EINVAL),
    }
}

/// The errno for what is not done, and its name on the log.
fn refuse<H: Host>(cx: &AnyCtx<'_, H>, cmd: u32) -> Errno {
    let (name, errno) = match cmd {
        abi::XENPF_add_memtype => ("platform_op add_memtype", Errno::EOPNOTSUPP),
        abi::XENPF_del_memtype => ("platform_op del_memtype", Errno::EOPNOTSUPP),
        abi::XENPF_read_memtype => ("platform_op read_memtype", Errno::EOPNOTSUPP),
        abi::XENPF_platform_quirk => ("platform_op platform_quirk", Errno::EOPNOTSUPP),
        abi::XENPF_change_freq => ("platform_op change_freq", Errno::EOPNOTSUPP),
        // By which kernels know that their tables of states are of no use here.
        abi::XENPF_set_processor_pminfo => ("platform_op set_processor_pminfo", Errno::ENOSYS),
        abi::XENPF_cpu_hotadd => ("platform_op cpu_hotadd", Errno::EOPNOTSUPP),
        abi::XENPF_mem_hotadd => ("platform_op mem_hotadd", Errno::EOPNOTSUPP),
        abi::XENPF_core_parking => ("platform_op core_parking", Errno::EOPNOTSUPP),
        abi::XENPF_resource_op => ("platform_op resource_op", Errno::EOPNOTSUPP),
        abi::XENPF_get_symbol => ("platform_op get_symbol", Errno::EOPNOTSUPP),
        _ => return Errno::ENOSYS,
    };
    cx.hv
        .note_missing_once(cx.domain.id, Family::Platform, cmd, name);
    errno
}

/// Sets the time of day for all domains.
fn set_time<H: Host>(cx: &AnyCtx<'_, H>, secs: u64, nsecs: u32, system_time: u64) -> Reply {
    let clock = WallClock::set(secs, nsecs, system_time).inspect_err(|_| {
        log::info!(
            "d{}: platform_op settime: {secs}.{nsecs:09} s is no time",
            cx.domain.id
        );
    })?;
    cx.hv.set_wallclock(clock);
    DONE
}

fn set_time64<H: Host>(cx: &AnyCtx<'_, H>, time: abi::PlatformSettime64) -> Reply {
    if time.mbz != 0 {
        return Err(Errno::EINVAL);
    }
    set_time(cx, time.secs, time.nsecs, time.system_time)
}

fn set_time32<H: Host>(cx: &AnyCtx<'_, H>, time: abi::PlatformSettime32) -> Reply {
    set_time(cx, time.secs.into(), time.nsecs, time.system_time)
}

/// Nothing was asked of a BIOS at boot.
fn firmware_info<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    request: &mut abi::PlatformFirmwareInfo,
) -> Result<(), Errno> {
    match request.r#type {
        abi::XEN_FW_DISK_INFO
        | abi::XEN_FW_DISK_MBR_SIGNATURE
        | abi::XEN_FW_VBEDDC_INFO
        | abi::XEN_FW_KBD_SHIFT_FLAGS => Err(Errno::ESRCH),
        abi::XEN_FW_EFI_INFO => efi::info(cx, request),
        _ => Err(Errno::EINVAL),
    }
}

fn cpu_info<H: Host>(cx: &AnyCtx<'_, H>, info: &mut abi::PlatformPcpuinfo) -> Result<(), Errno> {
    let processor = &cx.hv.facts.processor;
    info.max_present = processor.max_cpu();
    match processor.cpus.get(info.xen_cpuid as usize) {
        Some(place) => {
            info.apic_id = place.apic_id;
            info.acpi_id = place.acpi_id;
            info.flags = if is_online(cx, info.xen_cpuid) {
                abi::XEN_PCPU_FLAGS_ONLINE
            } else {
                0
            };
        }
        None => info.flags = abi::XEN_PCPU_FLAGS_INVALID,
    }
    Ok(())
}

fn cpu_version<H: Host>(
    cx: &AnyCtx<'_, H>,
    info: &mut abi::PlatformPcpuVersion,
) -> Result<(), Errno> {
    let processor = &cx.hv.facts.processor;
    info.max_present = processor.max_cpu();
    let known = is_online(cx, info.xen_cpuid);
    (info.vendor_id, info.family, info.model, info.stepping) = if known {
        let p = processor;
        (p.vendor, p.family, p.model, p.stepping)
    } else {
        ([0; 12], 0, 0, 0)
    };
    Ok(())
}

fn is_online<H: Host>(cx: &AnyCtx<'_, H>, cpu: CpuId) -> bool {
    cx.hv.backing.sched.online().contains(cpu)
}

/// Idle times of the CPUs asked about; those that are not online are taken out of the set.
fn idle_time<H: Host>(
    cx: &AnyCtx<'_, H>,
    info: &mut abi::PlatformGetidletime,
) -> Result<(), Errno> {
    let map = XenctlBitmap {
        bitmap: info.cpumap_bitmap,
        nr_bits: info.cpumap_nr_cpus,
        ..XenctlBitmap::default()
    };
    let asked = cx.read_cpus(&map)?;
    let present: CpuSet = asked.intersection(&cx.hv.backing.sched.online());
    info.now = cx.domain.machine.now();
    for cpu in present.iter() {
        let slot = cx.element::<u64>(info.idletime.address(), cpu.into())?;
        cx.write(slot, &cx.domain.machine.idle(cpu).time)?;
    }
    cx.write_cpus(&map, &present)
}

/// Enters a sleep state with the values that the control domain took from its ACPI tables.
fn enter_sleep<H: Host>(cx: &AnyCtx<'_, H>, request: abi::PlatformEnterAcpiSleep) -> Reply {
    let refused = |why: &str| {
        log::warn!(
            "d{}: platform_op enter_acpi_sleep: state {}: {why}",
            cx.domain.id,
            request.sleep_state
        );
    };
    if request.flags & !abi::XENPF_ACPI_SLEEP_EXTENDED != 0 {
        return Err(Errno::EINVAL);
    }
    if !SLEEP_STATES.contains(&request.sleep_state) {
        refused("no such state");
        return Err(Errno::EINVAL);
    }
    if request.sleep_state != SOFT_OFF {
        refused("only soft off (5) can be entered");
        return Err(Errno::EOPNOTSUPP);
    }
    if request.flags & abi::XENPF_ACPI_SLEEP_EXTENDED != 0 {
        refused("hardware-reduced sleep registers are not supported");
        return Err(Errno::EOPNOTSUPP);
    }
    if request.val_a & SLEEP_ENABLE == 0 {
        refused("the value for PM1a lacks SLP_EN");
        return Err(Errno::EINVAL);
    }
    log::info!("d{}: enters ACPI state S5", cx.domain.id);
    cx.domain.machine.enter_sleep(SleepRequest {
        state: request.sleep_state,
        pm1a: request.val_a,
        pm1b: request.val_b,
    })?;
    DONE
}
