//! What Xen 4.17 answers a domain without rights where dom0 gets something else.

use core::fmt::{self, Write};

use xen_abi::errno::Errno;
use xen_abi::errno::Errno::{EACCES, EINVAL, EPERM, ESRCH};

/// Checks, by the beginning of area and name, and the answer; the first that fits counts.
const ANSWERS: &[(&str, i64)] = &[
    ("version/build_id", no(EPERM)),
    ("mmu-update/tables of domain 0", no(EPERM)),
    // Neither devices nor how they are cached are a domU's.
    ("l1-entries/map a frame behind RAM", no(EPERM)),
    ("va-mapping/a frame behind RAM", no(EPERM)),
    ("l1-entries/uncached", no(EINVAL)),
    ("l1-entries/write-combining", no(EINVAL)),
    ("mmuext/flush 12", no(EACCES)),
    ("mmuext/flush 18", no(EINVAL)),
    ("va-mapping/of ourselves by number", no(EPERM)),
    ("va-mapping/of DOMID_IO", no(EPERM)),
    ("va-mapping/of DOMID_XEN", no(EPERM)),
    ("memory-op/memory_op 10, ", no(EPERM)),
    ("memory-facts/current_reservation by number", no(EPERM)),
    ("memory-facts/maximum_reservation by number", no(EPERM)),
    // xl lets a domain have 1 MiB more than it is given.
    ("memory-facts/maximum_reservation of", no(ESRCH)),
    ("memory-facts/maximum_reservation", 2304),
    ("memory-facts/machine_memory_map", no(EPERM)),
    ("memory-facts/memory_map of dom0", 0),
    // Arguments are looked at before rights.
    ("physmap/claim nothing of DOMID_SELF", no(EINVAL)),
    ("physmap/claim with ", no(EINVAL)),
    ("physmap/claim ", no(EPERM)),
    // There is a domain 1 by now.
    ("physmap/add_to_physmap of domain 1", no(EACCES)),
    ("physmap/get_pod_target of domain 1", no(EINVAL)),
    ("physmap/set_pod_target of domain 1", no(EINVAL)),
    ("physmap/acquire_resource of domain 1", no(EPERM)),
    ("physmap/get_vnumainfo of domain 1", no(EPERM)),
    ("exchange/of another domain", no(EPERM)),
    ("reservation-wild/populate when we have all", 1),
    ("reservation-wild/increase when we have all", 1),
    ("reservation/get another", 1),
    ("exchange/order 12 for 4096", no(EPERM)),
    ("exchange/order 13 for 8192", no(EPERM)),
    ("events-bind/bind a pIRQ that is not mapped", no(EINVAL)),
    ("vcpu-op/operation 12, ", no(EINVAL)),
    ("sched-op/operation 7, ", no(EPERM)),
    ("sched-op/pin_override", no(EPERM)),
    ("physdev-call/operation 24, ", no(EPERM)),
    ("physdev-call/operation 29, ", no(EPERM)),
    ("physdev-io/operation 8 on", no(EPERM)),
    ("physdev-io/operation 9 on", no(EPERM)),
];

/// Checks of calls that are not a domU's, by the beginning of area and name: where Xen looks at arguments before rights,
/// a hypervisor that looks at rights first answers [`EPERM`].
const FORBIDDEN: &[&str] = &[
    "memory-facts/set_memory_map",
    "physmap/claim ",
    "physmap/get_pod_target",
    "physmap/set_pod_target",
    "physmap/add_to_physmap of domain 1",
    "mmuext/flush 12",
    "mmuext/flush 18",
    "sched-op/remote_shutdown",
    "physdev-call/operation ",
];

const fn no(error: Errno) -> i64 {
    error.to_ret()
}

/// The answer for a check of this area and name, if it is not dom0's.
pub fn answer(check: &dyn fmt::Display) -> Option<i64> {
    let name = Beginning::of(check);
    ANSWERS.iter().find(|row| name.is(row.0)).map(|row| row.1)
}

/// Whether a check of this area and name may also be refused for want of rights.
pub fn is_forbidden(check: &dyn fmt::Display) -> bool {
    let name = Beginning::of(check);
    FORBIDDEN.iter().any(|begin| name.is(begin))
}

/// The beginning of a text.
struct Beginning {
    bytes: [u8; 64],
    used: usize,
}

impl Beginning {
    fn of(text: &dyn fmt::Display) -> Self {
        let mut name = Self {
            bytes: [0; 64],
            used: 0,
        };
        // Our own writer never fails.
        let _ = write!(name, "{text}");
        name
    }

    fn is(&self, begin: &str) -> bool {
        self.bytes[..self.used].starts_with(begin.as_bytes())
    }
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let count = text.len().min(self.bytes.len() - self.used);
        self.bytes[self.used..self.used + count].copy_from_slice(&text.as_bytes()[..count]);
        self.used += count;
        Ok(())
    }
}
