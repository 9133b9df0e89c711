//! A vCPU's state beyond its `vcpu_guest_context`, read and set while the domain rests: what is behind XSAVE
//! (`XEN_DOMCTL_getvcpuextstate`), entry points for 32-bit programs (`XEN_DOMCTL_get_ext_vcpucontext`) and MSRs
//! (`XEN_DOMCTL_get_vcpu_msrs`; domctl.h).

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use xen_abi::arch_x86::FLAT_KERNEL_CS;
use xen_abi::domctl::{DomctlExtVcpuContext, DomctlVcpuExtState, DomctlVcpuMsr, DomctlVcpuMsrs};
use xen_abi::errno::Errno;
use zerocopy::IntoBytes;

use super::{After, policy, refused};
use crate::base::{GuestVa, VcpuId};
use crate::cpuid::xstate::Components;
use crate::cpuid::{Policy, Which, msr};
use crate::domain::{Domain, VcpuState};
use crate::hvm::records::MACHINE_CHECK;
use crate::hypercall::arguments::{argument, store};
use crate::hypercall::context::{AnyCtx, Host};
use crate::pv::state::{Callback, Callbacks};

/// The number of banks in MCG_CAP.
const BANK_COUNT: u64 = 0xff;
/// Most registers that a vCPU can have of its own.
const MAX_REGISTERS: usize = 4;

/// Does something with the state of a vCPU of another domain, which rests meanwhile.
fn at_rest<R>(
    domain: &Domain,
    vcpu: VcpuId,
    what: impl FnOnce(&mut VcpuState) -> R,
) -> Result<R, Errno> {
    let vcpu = domain.vcpu(vcpu).ok_or(Errno::ESRCH)?;
    let _rest = domain.at_rest();
    domain.fetch_state(vcpu);
    let done = vcpu.state.lock().as_mut().map(what);
    // One that never got registers has no more than those of reset.
    done.ok_or(Errno::ENODATA)
}

/// What the CPUs of a domain are, if it has this one.
fn policy_of<H: Host>(cx: &AnyCtx<'_, H>, domain: &Domain, vcpu: VcpuId) -> Result<Policy, Errno> {
    domain.vcpu(vcpu).ok_or(Errno::ESRCH)?;
    Ok(domain.policy.now(policy::of_kind(cx, domain)))
}

/// What of XSAVE's state a vCPU of the domain has.
fn components<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    vcpu: VcpuId,
) -> Result<Components<'static>, Errno> {
    let policy = policy_of(cx, domain, vcpu)?;
    Ok(Components::new(
        cx.hv.services.policies.get(Which::Host),
        &policy,
    ))
}

/// What is behind XSAVE; to no buffer, its size at most.
pub(super) fn extended<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &mut DomctlVcpuExtState,
) -> Result<(), Errno> {
    let components = components(cx, domain, request.vcpu)?;
    let asks = request.size == 0 && request.xfeature_mask == 0;
    if asks || request.buffer.is_null() {
        request.xfeature_mask = components.mask();
        request.size = components.max_len() as u64;
        return Ok(());
    }
    let image = at_rest(domain, request.vcpu, |state| match state {
        VcpuState::Pv(state) => components.describe(state.xcr0, &state.fpu),
        VcpuState::Hvm(state) => components.describe(state.xcr0, &state.fpu),
    })??;
    if request.size < image.len() as u64 || request.xfeature_mask != components.mask() {
        return Err(Errno::EINVAL);
    }
    cx.host.copy_out(request.buffer.address(), &image)?;
    request.size = image.len() as u64;
    Ok(())
}

/// Sets what is behind XSAVE.
pub(super) fn set_extended<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &DomctlVcpuExtState,
) -> Result<After, Errno> {
    let components = components(cx, domain, request.vcpu)?;
    let refuse = |(errno, why)| refused(domain, "setvcpuextstate", why, errno);
    if request.size > components.max_len() as u64 {
        return Err(refuse((Errno::EINVAL, "longer than any state here")));
    }
    let image: Vec<u8> = cx.read_array(request.buffer.address(), request.size as usize)?;
    at_rest(domain, request.vcpu, |state| {
        let fpu = match state {
            VcpuState::Pv(state) => &mut state.fpu,
            VcpuState::Hvm(state) => &mut state.fpu,
        };
        let Some(xcr0) = components.adopt(fpu, &image)? else {
            return Ok(());
        };
        match state {
            VcpuState::Pv(state) => state.choose_xcr0(xcr0, components.mask()),
            VcpuState::Hvm(state) => state.xcr0 = xcr0,
        }
        Ok(())
    })?
    .map_err(refuse)?;
    Ok(After::Nothing)
}

/// Entry points for 32-bit programs, and what the guest sees of machine checks.
pub(super) fn further(domain: &Domain, request: &mut DomctlExtVcpuContext) -> Result<(), Errno> {
    // Guests in containers enter their kernels without us.
    let callbacks = at_rest(domain, request.vcpu, |state| {
        state.pv().map_or(Callbacks::default(), |pv| pv.callbacks)
    })?;
    // The selector is the same for all callbacks.
    let selector = |callback: &Callback| {
        if callback.address == 0 {
            0
        } else {
            FLAT_KERNEL_CS
        }
    };
    let (sysenter, syscall) = (callbacks.sysenter, callbacks.syscall32);
    *request = DomctlExtVcpuContext {
        vcpu: request.vcpu,
        size: size_of::<DomctlExtVcpuContext>() as u32,
        syscall32_callback_eip: syscall.address,
        sysenter_callback_eip: sysenter.address,
        syscall32_callback_cs: selector(&syscall),
        sysenter_callback_cs: selector(&sysenter),
        syscall32_disables_events: syscall.masks_events.into(),
        sysenter_disables_events: sysenter.masks_events.into(),
        vmce: [MACHINE_CHECK, 0, 0, 0],
        ..DomctlExtVcpuContext::default()
    };
    Ok(())
}

/// Sets them.
pub(super) fn set_further(domain: &Domain, request: &DomctlExtVcpuContext) -> Result<After, Errno> {
    let refuse = |why, errno| Err(refused(domain, "set_ext_vcpucontext", why, errno));
    domain.vcpu(request.vcpu).ok_or(Errno::ESRCH)?;
    let size = request.size as usize;
    if size < core::mem::offset_of!(DomctlExtVcpuContext, vmce) {
        return refuse("too short", Errno::EINVAL);
    }
    let callback = |address, masks_events: u8| Callback {
        address,
        masks_events: masks_events != 0,
    };
    let sysenter = callback(
        request.sysenter_callback_eip,
        request.sysenter_disables_events,
    );
    let syscall = callback(
        request.syscall32_callback_eip,
        request.syscall32_disables_events,
    );
    if [sysenter, syscall]
        .iter()
        .any(|c| !GuestVa(c.address).is_canonical())
    {
        return refuse("an entry point is not canonical", Errno::EINVAL);
    }
    let selectors = [request.sysenter_callback_cs, request.syscall32_callback_cs];
    if selectors
        .iter()
        .any(|cs| !matches!(cs | 3, 3 | FLAT_KERNEL_CS))
    {
        return refuse(
            "entry points outside the flat kernel segment",
            Errno::EINVAL,
        );
    }
    let [capabilities, more @ ..] = request.vmce;
    let told = size >= size_of::<DomctlExtVcpuContext>();
    if told && (capabilities & !BANK_COUNT != 0 || more != [0; 3]) {
        let why = "its machine checks can do more than those here";
        return refuse(why, Errno::EPERM);
    }
    at_rest(domain, request.vcpu, |state| {
        if let Some(state) = state.pv_mut() {
            state.callbacks.sysenter = sysenter;
            state.callbacks.syscall32 = syscall;
        }
    })?;
    Ok(After::Nothing)
}

/// The registers that a vCPU has of its own: address bits that its breakpoints ignore.
fn masks(state: &mut VcpuState) -> &mut [u32; 4] {
    match state {
        VcpuState::Pv(state) => &mut state.debug_masks,
        VcpuState::Hvm(state) => &mut state.msrs.breakpoint_masks,
    }
}

/// MSRs that are not zero; to no buffer, how many there are at most.
pub(super) fn registers<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    union: &mut [u64],
) -> Result<After, Errno> {
    let mut request: DomctlVcpuMsrs = argument(union)?;
    let policy = policy_of(cx, domain, request.vcpu)?;
    let room = request.msr_count as usize;
    let all = msr::carried(&policy);
    request.msr_count = all.len() as u32;
    let mut after = After::WriteBack;
    if !request.msrs.is_null() {
        let found = at_rest(domain, request.vcpu, |state| {
            let values = all.iter().filter_map(|&index| {
                let value = msr::read_mask(masks(state), &policy, index)?;
                let reserved = 0;
                (value != 0).then_some(DomctlVcpuMsr {
                    index,
                    reserved,
                    value,
                })
            });
            values
                .take(MAX_REGISTERS)
                .collect::<ArrayVec<_, MAX_REGISTERS>>()
        })?;
        let fits = &found[..found.len().min(room)];
        cx.host.copy_out(request.msrs.address(), fits.as_bytes())?;
        if fits.len() < found.len() {
            after = After::Refuse(Errno::ENOBUFS);
        }
        request.msr_count = found.len() as u32;
    }
    store(union, &request)?;
    Ok(after)
}

/// Sets MSRs, in order; the first that cannot be set is told.
pub(super) fn set_registers<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    union: &mut [u64],
) -> Result<After, Errno> {
    let mut request: DomctlVcpuMsrs = argument(union)?;
    let policy = policy_of(cx, domain, request.vcpu)?;
    if request.msr_count as usize > MAX_REGISTERS {
        let why = "more registers than a vCPU has of its own";
        return Err(refused(domain, "set_vcpu_msrs", why, Errno::EINVAL));
    }
    let wanted: Vec<DomctlVcpuMsr> =
        cx.read_array(request.msrs.address(), request.msr_count as usize)?;
    let done = at_rest(domain, request.vcpu, |state| {
        wanted
            .iter()
            .take_while(|msr| {
                let DomctlVcpuMsr {
                    index,
                    reserved,
                    value,
                } = **msr;
                reserved == 0 && msr::set_mask(masks(state), &policy, index, value).is_ok()
            })
            .count()
    })?;
    request.msr_count = done as u32;
    store(union, &request)?;
    match wanted.get(done) {
        None => Ok(After::WriteBack),
        Some(msr) => {
            let DomctlVcpuMsr { index, value, .. } = msr;
            log::info!(
                "d{}v{}: set_vcpu_msrs: MSR {index:#x} cannot be {value:#x}",
                domain.id,
                request.vcpu
            );
            Ok(After::Refuse(Errno::EINVAL))
        }
    }
}
