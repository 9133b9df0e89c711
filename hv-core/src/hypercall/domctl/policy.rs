//! The CPU policy of a domain (`XEN_DOMCTL_get_cpu_policy`, `XEN_DOMCTL_set_cpu_policy`, domctl.h).

use alloc::vec::Vec;

use xen_abi::arch_x86::{CpuidLeaf, MsrEntry};
use xen_abi::domctl::DomctlCpuPolicy;
use xen_abi::errno::Errno;

use super::After;
use crate::cpuid::features::Words;
use crate::cpuid::given::{Refused, check_lengths};
use crate::domain::Domain;
use crate::hypercall::arguments::{argument, store};
use crate::hypercall::contained;
use crate::hypercall::context::{AnyCtx, Host};
use crate::hypercall::sysctl_cpu::list_policy;

pub(super) use crate::hypercall::contained::of_kind;

/// From now on the domain's policy stays: the domain is about to run.
pub(super) fn fix<H: Host>(cx: &AnyCtx<'_, H>, domain: &Domain) {
    let policy = domain.policy.fix(of_kind(cx, domain));
    contained::settle_policy(domain, policy);
}

/// The domain's policy; to no buffers, how much room is enough.
pub(super) fn get<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &mut DomctlCpuPolicy,
) -> Result<(), Errno> {
    let policy = domain.policy.now(of_kind(cx, domain));
    let DomctlCpuPolicy {
        nr_leaves,
        nr_msrs,
        leaves,
        msrs,
        ..
    } = request;
    list_policy(cx, &policy, (*leaves, nr_leaves), (*msrs, nr_msrs))
}

/// Puts leaves and registers over those of a domain that has not run yet; what is wrong with them is told in the
/// request.
pub(super) fn set<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    union: &mut [u64],
) -> Result<After, Errno> {
    let mut request: DomctlCpuPolicy = argument(union)?;
    match adopt(cx, domain, &request) {
        Ok(missing) => {
            for (index, word) in missing.iter().enumerate().filter(|(_, word)| **word != 0) {
                log::info!(
                    "d{}: CPU features {word:#x} of word {index} cannot be had: left out",
                    domain.id
                );
            }
            Ok(After::Nothing)
        }
        Err(Wrong::Call(errno)) => Err(errno),
        Err(Wrong::Policy(why)) => {
            (request.err_leaf, request.err_subleaf) = (why.leaf, why.subleaf);
            request.err_msr = why.msr;
            store(union, &request)?;
            log::info!(
                "d{}: CPU policy refused: {} (leaf {:#x}, sub-leaf {:#x}, MSR {:#x})",
                domain.id,
                why.why,
                why.leaf,
                why.subleaf,
                why.msr
            );
            Ok(After::Refuse(why.errno))
        }
    }
}

/// What is wrong.
enum Wrong {
    /// With the policy.
    Policy(Refused),
    /// With anything else.
    Call(Errno),
}

impl From<Refused> for Wrong {
    fn from(why: Refused) -> Self {
        Self::Policy(why)
    }
}

impl From<Errno> for Wrong {
    fn from(errno: Errno) -> Self {
        Self::Call(errno)
    }
}

/// Returns the features that were asked for and are not there.
fn adopt<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &DomctlCpuPolicy,
) -> Result<Words, Wrong> {
    check_lengths(request.nr_leaves, request.nr_msrs)?;
    let leaves: Vec<CpuidLeaf> =
        cx.read_array(request.leaves.address(), request.nr_leaves as usize)?;
    let msrs: Vec<MsrEntry> = cx.read_array(request.msrs.address(), request.nr_msrs as usize)?;
    let mut policy = domain.policy.now(of_kind(cx, domain));
    policy.overlay(&leaves, &msrs)?;
    let (policy, missing) = policy.settled(cx.hv.services.policies, domain.kind)?;
    domain.policy.give(policy).inspect_err(|e| {
        log::info!("d{}: CPU policy: {e:?}: it may run already", domain.id);
    })?;
    Ok(missing)
}
