//! The versions of the toolstack's two interfaces, domctl and sysctl: each release of the tools has its
//! own number, and its own layouts (xen/domctl.h, xen/sysctl.h).

use xen_abi::domctl::XEN_DOMCTL_INTERFACE_VERSION;
use xen_abi::errno::Errno;
use xen_abi::sysctl::XEN_SYSCTL_INTERFACE_VERSION;

use super::context::{AnyCtx, Host};
use crate::domain::Family;

/// Interfaces spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interface {
    /// The tools of 4.17.
    V4_17,
}

/// The interface that a request of `family` (domctl or sysctl) carries the number of.
///
/// # Errors
/// `EACCES` for one that is not spoken; the console is told once.
pub fn spoken<H: Host>(
    cx: &AnyCtx<'_, H>,
    family: Family,
    version: u32,
    cmd: u32,
) -> Result<Interface, Errno> {
    let (known, name) = match family {
        Family::Domctl => (
            XEN_DOMCTL_INTERFACE_VERSION,
            "domctl with another interface version",
        ),
        Family::Sysctl => (
            XEN_SYSCTL_INTERFACE_VERSION,
            "sysctl with another interface version",
        ),
        _ => return Err(Errno::EACCES),
    };
    if version == known {
        return Ok(Interface::V4_17);
    }
    cx.hv.note_missing_once(cx.domain.id, family, 0, name);
    log::debug!("{name}: {version:#x}, command {cmd}");
    Err(Errno::EACCES)
}
