//! domctl operations about what a domain is told of the machine, and what of the machine it may use.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::domctl as abi;
use xen_abi::errno::Errno;

use super::{After, refused};
use crate::domain::{Domain, DomainKind};
use crate::hvm::hypercall_page;
use crate::hypercall::contained;
use crate::hypercall::context::{AnyCtx, Host};
use crate::time::DomainTsc;

/// Bytes of one stub in a hypercall page.
const STUB: usize = 32;
/// `push rcx; push r11; mov eax, N; syscall; pop r11; pop rcx; ret`.
const CALL: [u8; 14] = [
    0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
];
/// The same for iret, which never returns and finds rcx, r11 and rax on the stack: `push rcx; push r11; push rax;
/// mov eax, N; syscall`.
const IRET: [u8; 11] = [0x51, 0x41, 0x53, 0x50, 0xb8, 0, 0, 0, 0, 0x0f, 0x05];

/// Writes stubs that make hypercalls into one of the domain's pages.
pub(super) fn hypercall_page<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: abi::DomctlHypercallInit,
) -> Result<After, Errno> {
    let page = domain
        .take_own_page(request.gmfn)
        .map_err(|e| refused(domain, "hypercall_init", "not a page of its memory", e))?;
    let words = domain.machine.words(page);
    match domain.kind {
        DomainKind::Pv64 => write_pv_stubs(words),
        DomainKind::Hvm => {
            let vendor = contained::of_kind(cx, domain).vendor();
            let contents = hypercall_page::contents(vendor);
            let (parts, _) = contents.as_chunks();
            for (word, bytes) in words.iter().zip(parts) {
                word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
            }
        }
    }
    domain.machine.drop_writable(page);
    Ok(After::Nothing)
}

/// The stubs of a PV guest, which are of 64-bit code.
fn write_pv_stubs(words: &[AtomicU64; 512]) {
    for (number, stub) in (0u32..).zip(words.chunks_exact(STUB / 8)) {
        let mut code = [0xcc; STUB];
        if number == xen_abi::hypercall::__HYPERVISOR_iret {
            code[..IRET.len()].copy_from_slice(&IRET);
            code[5..9].copy_from_slice(&number.to_le_bytes());
        } else {
            code[..CALL.len()].copy_from_slice(&CALL);
            code[4..8].copy_from_slice(&number.to_le_bytes());
        }
        let (parts, _) = code.as_chunks();
        for (word, bytes) in stub.iter().zip(parts) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }
}

/// The domain's time of day differs from the machine's.
pub(super) fn time_offset<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Arc<Domain>,
    request: abi::DomctlSetTimeOffset,
) -> Result<After, Errno> {
    let seconds = request.time_offset_seconds;
    domain.time_offset.store(seconds, Ordering::Relaxed);
    if !domain.is_dying() {
        cx.hv.publish_wallclock(domain);
    }
    Ok(After::Nothing)
}

/// What its TSC is.
pub(super) fn tsc_info<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    info: &mut abi::DomctlTscInfo,
) -> Result<(), Errno> {
    let tsc = *domain.tsc.lock();
    *info = tsc.info(domain.machine.now(), cx.hv.facts.tsc_khz);
    Ok(())
}

/// Chooses its TSC, before it runs.
pub(super) fn set_tsc_info<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    info: abi::DomctlTscInfo,
) -> Result<After, Errno> {
    let refuse = |why| refused(domain, "settscinfo", why, Errno::EINVAL);
    if domain.policy.is_fixed() {
        return Err(refuse("it may run already"));
    }
    let now = domain.machine.now();
    let tsc = DomainTsc::new(&info, now, cx.hv.facts.tsc_khz).map_err(refuse)?;
    *domain.tsc.lock() = tsc;
    Ok(After::Nothing)
}

/// Whether a domain may use an interrupt, ports or memory of devices: none but dom0 may, so that taking a right
/// away changes nothing.
pub(super) fn permission(domain: &Domain, what: &str, allow: u8) -> Result<After, Errno> {
    if allow != 0 && !domain.is_control() {
        let why = "devices cannot be given to domains";
        return Err(refused(domain, what, why, Errno::EOPNOTSUPP));
    }
    if allow == 0 && domain.is_control() {
        let why = "dom0's rights cannot be taken away";
        return Err(refused(domain, what, why, Errno::EOPNOTSUPP));
    }
    Ok(After::Nothing)
}
