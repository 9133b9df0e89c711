//! xen_version: what the hypervisor says about itself (xen/version.h).

use xen_abi::arch_x86::HYPERVISOR_VIRT_START;
use xen_abi::errno::Errno;
use xen_abi::features as feat;
use xen_abi::version::{self as abi, BuildId, CompileInfo, FeatureInfo, PlatformParameters};
use xen_abi::xen::VMASST_TYPE_pae_extended_cr3;

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use crate::base::PAGE_SIZE;
use crate::domain::{Domain, DomainKind, Identity};

/// Kinds of guests that can be run, as tools look for them; each name is followed by a space.
const CAPABILITIES: &str = "xen-3.0-x86_64 ";
/// The same where the CPUs can run guests in containers.
const WITH_CONTAINERS: &str = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
/// What domains without rights get in place of a text that is none of their business.
const DENIED: &str = "<denied>";

/// Features of every 64-bit PV guest. `memory_op_vnode_supported` says that a virtual node may be named; no domain
/// has a virtual topology, so naming one places nothing.
const PV_FEATURES: u32 = 1 << feat::XENFEAT_mmu_pt_update_preserve_ad
    | 1 << feat::XENFEAT_highmem_assist
    | 1 << feat::XENFEAT_gnttab_map_avail_bits
    | 1 << feat::XENFEAT_memory_op_vnode_supported
    | 1 << feat::XENFEAT_direct_mapped;

/// Features of every guest in a container: its memory is translated, and its events come as a vector.
const HVM_FEATURES: u32 = 1 << feat::XENFEAT_writable_page_tables
    | 1 << feat::XENFEAT_auto_translated_physmap
    | 1 << feat::XENFEAT_hvm_callback_vector
    | 1 << feat::XENFEAT_hvm_safe_pvclock
    | 1 << feat::XENFEAT_memory_op_vnode_supported
    | 1 << feat::XENFEAT_not_direct_mapped;

/// xen_version(cmd, argument).
///
/// # Errors
/// `EFAULT`, `EINVAL` for an unknown word of features, `ENOSYS` for an unknown command, and those
/// of the build id.
pub fn xen_version<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    // Guests make this call only to have their events looked at: nothing else may happen here.
    if args[0] as u32 == abi::XENVER_version {
        return Ok(Outcome::Return(number(&cx.hv.identity)));
    }
    other_than_version(cx, args)
}

#[inline(never)]
fn other_than_version<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let identity = &cx.hv.identity;
    let at = args[1];
    match args[0] as u32 {
        abi::XENVER_extraversion => {
            put_text::<{ abi::XEN_EXTRAVERSION_LEN }, H>(cx, at, &identity.extra)
        }
        abi::XENVER_compile_info => put(cx, at, &compile_info(identity)),
        abi::XENVER_capabilities => {
            let text = match cx.hv.facts.hvm {
                Some(_) => WITH_CONTAINERS,
                None => CAPABILITIES,
            };
            put_text::<{ abi::XEN_CAPABILITIES_INFO_LEN }, H>(cx, at, text)
        }
        abi::XENVER_changeset => {
            put_text::<{ abi::XEN_CHANGESET_INFO_LEN }, H>(cx, at, &identity.changeset)
        }
        abi::XENVER_platform_parameters => {
            let virt_start = HYPERVISOR_VIRT_START;
            put(cx, at, &PlatformParameters { virt_start })
        }
        abi::XENVER_get_features => get_features(cx, at),
        abi::XENVER_pagesize => Ok(Outcome::Return(PAGE_SIZE as u64)),
        abi::XENVER_guest_handle => {
            let handle = *cx.domain.handle.lock();
            put(cx, at, &handle)
        }
        abi::XENVER_commandline => {
            let text = if cx.domain.is_control() {
                &identity.command_line
            } else {
                DENIED
            };
            put_text::<{ abi::XEN_COMMANDLINE_LEN }, H>(cx, at, text)
        }
        abi::XENVER_build_id => build_id(cx, at),
        _ => Err(Errno::ENOSYS),
    }
}

/// The version as one number.
fn number(identity: &Identity) -> u64 {
    u64::from(identity.major) << 16 | u64::from(identity.minor)
}

fn put<H: Host, T: zerocopy::IntoBytes + zerocopy::Immutable>(
    cx: &AnyCtx<'_, H>,
    at: u64,
    value: &T,
) -> Reply {
    cx.write(at, value)?;
    DONE
}

fn put_text<const N: usize, H: Host>(cx: &AnyCtx<'_, H>, at: u64, text: &str) -> Reply {
    put(cx, at, &terminated::<N>(text))
}

/// The text in an array of the ABI: cut so that at least one zero follows, zeroes behind.
fn terminated<const N: usize>(text: &str) -> [u8; N] {
    let mut array = [0; N];
    let kept = text.len().min(N.saturating_sub(1));
    array[..kept].copy_from_slice(&text.as_bytes()[..kept]);
    array
}

fn compile_info(identity: &Identity) -> CompileInfo {
    CompileInfo {
        compiler: terminated(&identity.compiler),
        compile_by: terminated(&identity.compile_by),
        compile_domain: terminated(&identity.compile_domain),
        compile_date: terminated(&identity.compile_date),
    }
}

fn get_features<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let mut info: FeatureInfo = cx.read(at)?;
    if info.submap_idx >= feat::XENFEAT_NR_SUBMAPS {
        return Err(Errno::EINVAL);
    }
    info.submap = features_of(cx.domain);
    put(cx, at, &info)
}

/// The first (and only) word of features.
fn features_of(domain: &Domain) -> u32 {
    let kind = match domain.kind {
        DomainKind::Pv64 => PV_FEATURES,
        DomainKind::Hvm => HVM_FEATURES,
    };
    let first = if domain.is_control() {
        1 << feat::XENFEAT_dom0
    } else {
        0
    };
    // CR3 has room for every frame; what the kernel is told is whether it asked for that.
    let wide = if domain.has_assist(VMASST_TYPE_pae_extended_cr3) {
        1 << feat::XENFEAT_pae_pgdir_above_4gb
    } else {
        0
    };
    kind | first | wide
}

/// The build id: its length without a buffer, else the bytes behind the header.
fn build_id<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    cx.require_control()?;
    let id = &cx.hv.identity.build_id;
    if id.is_empty() {
        return Err(Errno::ENODATA);
    }
    let length = Ok(Outcome::Return(id.len() as u64));
    if at == 0 {
        return length;
    }
    let header: BuildId = cx.read(at)?;
    if header.len == 0 {
        return Err(Errno::EINVAL);
    }
    if id.len() > header.len as usize {
        return Err(Errno::ENOBUFS);
    }
    let bytes = cx.element::<BuildId>(at, 1)?;
    cx.host.copy_out(bytes, id)?;
    length
}
