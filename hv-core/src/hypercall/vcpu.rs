//! vcpu_op and set_timer_op: bringing vCPUs up and down, their timers, and where they share data.

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::errno::Errno;
use xen_abi::hvm_vcpu::VcpuHvmContext;
use xen_abi::vcpu as abi;
use xen_abi::xen::{VCPU_INFO_SIZE, VcpuTimeInfo};
use zerocopy::{FromZeros, IntoBytes};

use super::contained;
use super::context::{AnyCtx, AnyState, Args, DONE, Host, Outcome, Reply};
use crate::base::{GuestVa, Mfn, PAGE_SIZE};
use crate::domain::{Domain, DomainKind, Owed, RunFlags, Vcpu, VcpuState};
use crate::events;
use crate::hvm::first;
use crate::hvm::processor::{Processor, Register};
use crate::pv::context;

/// vcpu_op(cmd, vcpu, argument).
///
/// # Errors
/// `ENOENT` for a vCPU that does not exist, `ENOSYS` for unknown commands, and those of each.
pub fn vcpu_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let id = u32::try_from(args[1]).map_err(|_| Errno::ENOENT)?;
    let domain = cx.domain.clone();
    let vcpu = domain.vcpu(id).ok_or(Errno::ENOENT)?;
    let at = args[2];
    match args[0] as u32 {
        abi::VCPUOP_initialise => initialise(cx, vcpu, args),
        abi::VCPUOP_up => up(&domain, vcpu),
        abi::VCPUOP_down => down(cx, &domain, vcpu),
        abi::VCPUOP_is_up => Ok(Outcome::Return(u64::from(vcpu.is_up()))),
        abi::VCPUOP_get_runstate_info => {
            let info = vcpu.runstate.lock().info_at(domain.machine.now());
            cx.write(at, &info)?;
            DONE
        }
        abi::VCPUOP_register_runstate_memory_area => register_runstate(cx, vcpu, at),
        abi::VCPUOP_register_vcpu_info => register_vcpu_info(cx, &domain, vcpu, at),
        abi::VCPUOP_register_vcpu_time_memory_area => register_time(cx, vcpu, at),
        abi::VCPUOP_set_periodic_timer => {
            let request: abi::VcpuSetPeriodicTimer = cx.read(at)?;
            domain.change_timers(vcpu, |timers, now| {
                timers.set_periodic(request.period_ns, now)
            })?;
            DONE
        }
        abi::VCPUOP_stop_periodic_timer => {
            domain.change_timers(vcpu, |timers, now| Ok(timers.stop_periodic(now)))?;
            DONE
        }
        // These two are for the vCPU itself only: its deadline is in its own time.
        abi::VCPUOP_set_singleshot_timer | abi::VCPUOP_stop_singleshot_timer
            if id != cx.vcpu.id =>
        {
            Err(Errno::EINVAL)
        }
        abi::VCPUOP_set_singleshot_timer => {
            let request: abi::VcpuSetSingleshotTimer = cx.read(at)?;
            domain.change_timers(vcpu, |timers, now| {
                Ok(timers.set_singleshot(request.timeout_abs_ns, now))
            })?;
            DONE
        }
        abi::VCPUOP_stop_singleshot_timer => {
            domain.change_timers(vcpu, |timers, now| Ok(timers.stop_singleshot(now)))?;
            DONE
        }
        abi::VCPUOP_send_nmi => {
            domain.send_nmi(vcpu);
            DONE
        }
        abi::VCPUOP_get_physid => physical_id(cx, vcpu, at),
        _ => Err(Errno::ENOSYS),
    }
}

/// Which processor a vCPU is, for the ACPI of a control domain whose vCPUs cannot move.
fn physical_id<H: Host>(cx: &AnyCtx<'_, H>, vcpu: &Vcpu, at: u64) -> Reply {
    let sched = cx.domain.sched;
    let affinity = vcpu.unit.get().and_then(|unit| sched.affinity(unit));
    let allowed = affinity.map(|a| a.hard.intersection(&cx.domain.pool_cpus()));
    let Some(cpu) = allowed
        .filter(|cpus| cpus.len() == 1)
        .and_then(|cpus| cpus.iter().next())
    else {
        return Err(Errno::EINVAL);
    };
    if !cx.domain.is_control() {
        return Err(Errno::EINVAL);
    }
    let place = cx
        .hv
        .facts
        .processor
        .cpus
        .get(cpu as usize)
        .ok_or(Errno::EINVAL)?;
    let phys_id = u64::from(place.acpi_id) << 32 | u64::from(place.apic_id);
    cx.write(at, &abi::VcpuGetPhysid { phys_id })?;
    DONE
}

/// set_timer_op(deadline): the older way to the one-shot timer; 0 stops it.
///
/// # Errors
/// None.
pub fn set_timer_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.domain
        .change_timers(cx.vcpu, |timers, now| Ok(timers.set_timer_op(args[0], now)))?;
    DONE
}

/// Gives a vCPU that was never up its registers.
fn initialise<H: Host>(cx: &mut AnyCtx<'_, H>, vcpu: &Vcpu, args: Args) -> Reply {
    if cx.domain.kind == DomainKind::Hvm {
        return initialise_contained(cx, vcpu, args[2]);
    }
    let mut wanted = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    cx.host.copy_in(wanted.as_mut_bytes(), args[2])?;
    if vcpu.flags() & RunFlags::UNINITIALISED == 0 {
        return Err(Errno::EEXIST);
    }
    match context::build(cx.host, cx.domain, &wanted, cx.state.owed_puts()) {
        Ok(state) => {
            // Two vCPUs may race to initialise a third: the first wins.
            let mut slot = vcpu.state.lock();
            if vcpu.clear_flags(RunFlags::UNINITIALISED) & RunFlags::UNINITIALISED == 0 {
                drop(slot);
                context::give_up(cx.host, state, cx.state.owed_puts());
                return Err(Errno::EEXIST);
            }
            *slot = Some(VcpuState::Pv(state));
            DONE
        }
        Err(context::BuildError::Restart) => Ok(Outcome::Restart(args)),
        Err(context::BuildError::Refused(e)) => Err(e),
    }
}

/// The same in a container.
fn initialise_contained<H: Host>(cx: &AnyCtx<'_, H>, vcpu: &Vcpu, at: u64) -> Reply {
    let wanted: VcpuHvmContext = cx.read(at)?;
    let policy = cx.domain.policy.fix(contained::of_kind(cx, cx.domain));
    // What it does not start with it has as its starter has it.
    let offset = match &cx.state {
        AnyState::Hvm(state) => state.processor.read(Register::TscOffset),
        AnyState::Pv(_) => return Err(Errno::EINVAL),
    };
    // Two vCPUs may race to initialise a third: the first wins. It is nowhere else than here while it is down.
    let mut kept = vcpu.state.lock();
    if vcpu.flags() & RunFlags::UNINITIALISED == 0 {
        return Err(Errno::EEXIST);
    }
    let state = kept.as_mut().and_then(VcpuState::hvm_mut);
    let state = state.ok_or(Errno::EBUSY)?;
    first::start(state, &wanted, policy).map_err(|why| {
        log::info!("d{}v{}: VCPUOP_initialise: {why}", cx.domain.id, vcpu.id);
        Errno::EINVAL
    })?;
    state.processor.write(Register::TscOffset, offset);
    vcpu.clear_flags(RunFlags::UNINITIALISED);
    DONE
}

fn up(domain: &Domain, vcpu: &Vcpu) -> Reply {
    if vcpu.flags() & RunFlags::UNINITIALISED != 0 {
        return Err(Errno::EINVAL);
    }
    if vcpu.clear_flags(RunFlags::DOWN) & RunFlags::DOWN != 0 {
        domain.start(vcpu);
    }
    DONE
}

fn down<H: Host>(cx: &AnyCtx<'_, H>, domain: &Domain, vcpu: &Vcpu) -> Reply {
    // The last vCPU that is up cannot take itself down: nobody could bring it back.
    if !domain.vcpus().iter().any(|v| v.id != vcpu.id && v.is_up()) {
        return Err(Errno::EPERM);
    }
    if vcpu.set_flags(RunFlags::DOWN) & RunFlags::DOWN == 0 {
        domain.stop_vcpu(vcpu);
        if vcpu.id == cx.vcpu.id {
            cx.host.reschedule_here();
        }
    }
    DONE
}

fn register_runstate<H: Host>(cx: &AnyCtx<'_, H>, vcpu: &Vcpu, at: u64) -> Reply {
    let request: abi::VcpuRegisterRunstateMemoryArea = cx.read(at)?;
    if request.addr != 0 {
        check_area(cx.domain, request.addr, size_of::<abi::VcpuRunstateInfo>())?;
    }
    vcpu.runstate_area.store(request.addr, Ordering::Release);
    if request.addr == 0 {
        return DONE;
    }
    // What the area holds of its own vCPU is as of the last change; another vCPU's may not have run for long.
    let own = vcpu.id == cx.vcpu.id;
    let now = cx.domain.machine.now();
    let info = {
        let account = vcpu.runstate.lock();
        if own {
            account.info()
        } else {
            account.info_at(now)
        }
    };
    // A page that is not there yet is the guest's business, now as at every later update.
    let _later = cx.write(request.addr, &info);
    if !own {
        // It may run in another address space, and have changed meanwhile.
        vcpu.owe(Owed::RUNSTATE);
    }
    DONE
}

/// An area that a guest registers must be its own to write: canonical and, where the hypervisor shares its address spaces,
/// outside of that range.
fn check_area(domain: &Domain, at: u64, len: usize) -> Result<(), Errno> {
    use xen_abi::arch_x86::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};
    let end = at.checked_add(len as u64).ok_or(Errno::EFAULT)?;
    let shares = domain.kind == DomainKind::Pv64;
    let ours = shares && at < HYPERVISOR_VIRT_END && end > HYPERVISOR_VIRT_START;
    if ours || !GuestVa(at).is_canonical() || !GuestVa(end).is_canonical() {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

fn register_time<H: Host>(cx: &AnyCtx<'_, H>, vcpu: &Vcpu, at: u64) -> Reply {
    let request: abi::VcpuRegisterTimeMemoryArea = cx.read(at)?;
    check_area(cx.domain, request.addr, size_of::<VcpuTimeInfo>())?;
    vcpu.time_area.store(request.addr, Ordering::Release);
    vcpu.owe(Owed::RUNSTATE);
    DONE
}

/// Moves a vCPU's `vcpu_info` into a page of the guest's own; once in its life.
fn register_vcpu_info<H: Host>(cx: &AnyCtx<'_, H>, domain: &Domain, vcpu: &Vcpu, at: u64) -> Reply {
    let request: abi::VcpuRegisterVcpuInfo = cx.read(at)?;
    let offset = request.offset as usize;
    if offset > PAGE_SIZE - VCPU_INFO_SIZE {
        return Err(Errno::ENXIO);
    }
    if !offset.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    // Only its owner may be using the old area while this copies it.
    if vcpu.id != cx.vcpu.id && vcpu.is_up() {
        return Err(Errno::EINVAL);
    }
    let mut registered = domain.registered_infos.lock();
    if registered.contains(&vcpu.id) {
        return Err(Errno::EINVAL);
    }
    registered.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let frame = domain.take_own_page(request.mfn)?;
    registered.push(vcpu.id);
    drop(registered);
    move_info(domain, vcpu, frame, offset);
    DONE
}

fn move_info(domain: &Domain, vcpu: &Vcpu, frame: Mfn, offset: usize) {
    let new = &domain.machine.words(frame)[offset / 8..(offset + VCPU_INFO_SIZE) / 8];
    match vcpu.info_place() {
        Some((old, from)) => {
            let old = &domain.machine.words(old)[from / 8..(from + VCPU_INFO_SIZE) / 8];
            new.iter()
                .zip(old)
                .for_each(|(n, o)| n.store(o.load(Ordering::SeqCst), Ordering::SeqCst));
        }
        // A vCPU that had none starts masked.
        None => new
            .iter()
            .enumerate()
            .for_each(|(i, w)| w.store(if i == 0 { 1 << 8 } else { 0 }, Ordering::SeqCst)),
    }
    vcpu.set_info_place(frame, offset);
    // Events may have been raised in the old area meanwhile: look at everything once.
    events::reraise(domain, vcpu.id);
    vcpu.owe(Owed::TIME);
}
