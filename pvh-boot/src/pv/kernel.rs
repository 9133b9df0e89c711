//! Whether a kernel can be started as a 64-bit PV domain, and what it asks for.

use core::fmt;

use alloc::vec::Vec;

use crate::elf::{Kernel, Segment, XenNotes, feature_name};
use xen_abi::arch_x86::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};
use xen_abi::features::*;

use super::PAGE_SIZE;

/// Bits of `XENFEAT_*` that a 64-bit PV domain of this hypervisor may require.
///
/// `writable_page_tables` is among them although XENVER_get_features does not show it to PV
/// domains: it means that the kernel writes to live tables, and such writes are emulated.
pub const PV_FEATURES: u32 = (1 << XENFEAT_writable_page_tables)
    | (1 << XENFEAT_pae_pgdir_above_4gb)
    | (1 << XENFEAT_mmu_pt_update_preserve_ad)
    | (1 << XENFEAT_highmem_assist)
    | (1 << XENFEAT_gnttab_map_avail_bits)
    | (1 << XENFEAT_dom0)
    | (1 << XENFEAT_memory_op_vnode_supported);

/// The interface name that kernels for this ABI carry.
const INTERFACE: &str = "xen-3.0";
const GENERIC_LOADER: &str = "generic";
const LINUX: &str = "linux";

/// A kernel that can run as the first domain, with its addresses resolved.
#[derive(Clone, Debug)]
pub struct PvKernel<'a> {
    /// Where the first virtual CPU starts.
    pub entry: u64,
    /// Virtual address of pseudo-physical address 0.
    pub virt_base: u64,
    /// What is to be loaded; addresses are pseudo-physical, ascending.
    pub segments: Vec<Segment<'a>>,
    /// First pseudo-physical address after the last segment.
    pub end: u64,
    /// Virtual address of the page to fill with hypercall stubs, if there is one.
    pub hypercall_page: Option<u64>,
    /// Virtual address at which the p2m list is wanted; otherwise it goes into the initial mapping.
    pub init_p2m: Option<u64>,
    /// Whether the initrd may stay unmapped, named by frame number.
    pub unmapped_initrd: bool,
}

/// Why a kernel cannot run as a 64-bit PV first domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PvError<'a> {
    /// For another version of the interface.
    WrongInterface(&'a str),
    /// It wants a loader of another type.
    WrongLoader(&'a str),
    /// It requires a feature (bit number) that is not offered.
    MissingFeature(u32),
    /// It requires a feature of unknown name.
    UnknownFeature(&'a str),
    /// It says that it cannot be the first domain.
    NotDom0,
    /// It can only run with hardware virtualisation (PVH).
    OnlyPvh,
    /// It wants its symbol table loaded.
    WantsSymbols,
    /// It cannot live with a hypervisor that starts where ours does; its lowest address.
    HypervisorHole(u64),
    /// An address note lies outside what it must lie in.
    BadAddress(&'static str, u64),
    /// Memory for the list of segments ran out.
    OutOfMemory,
}

impl fmt::Display for PvError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongInterface(name) => write!(
                f,
                "the kernel is for the interface \"{name}\", not for \"{INTERFACE}\""
            ),
            Self::WrongLoader(name) => {
                write!(
                    f,
                    "the kernel wants the loader \"{name}\", not \"{GENERIC_LOADER}\""
                )
            }
            Self::MissingFeature(bit) => match feature_name(*bit) {
                Some(name) => write!(
                    f,
                    "the kernel requires the feature {name}, which PV domains do not have here"
                ),
                None => write!(f, "the kernel requires feature {bit}, which is not offered"),
            },
            Self::UnknownFeature(name) => {
                write!(
                    f,
                    "the kernel requires the feature \"{name}\", which is unknown"
                )
            }
            Self::NotDom0 => write!(f, "the kernel says that it cannot be the first domain"),
            Self::OnlyPvh => write!(
                f,
                "the kernel has a PVH entry but no PV one: it was built without PV support"
            ),
            Self::WantsSymbols => write!(
                f,
                "the kernel wants its symbol table loaded (BSD_SYMTAB), which is not supported"
            ),
            Self::HypervisorHole(low) => write!(
                f,
                "the kernel leaves room for a hypervisor only from {low:#x}, \
                 this one starts at {HYPERVISOR_VIRT_START:#x}"
            ),
            Self::BadAddress(what, address) => {
                write!(f, "the kernel's {what} {address:#x} is not in its place")
            }
            Self::OutOfMemory => write!(f, "no memory for the list of segments"),
        }
    }
}

impl core::error::Error for PvError<'_> {}

impl<'a> PvKernel<'a> {
    /// Checks a kernel against what is offered: `features` is a set of `XENFEAT_*` bits, usually
    /// [`PV_FEATURES`].
    ///
    /// # Errors
    /// The kernel is for something else, needs something that is not offered, or its addresses
    /// contradict each other.
    pub fn check(kernel: &Kernel<'a>, features: u32) -> Result<Self, PvError<'a>> {
        check_compatibility(&kernel.notes, features)?;
        let virt_base = kernel.notes.virt_base.unwrap_or(0);
        let segments = pseudo_physical(kernel)?;
        let first = segments.first().map_or(0, |segment| segment.paddr);
        let end = segments.last().map_or(0, Segment::end);
        let checked = Self {
            entry: kernel.notes.entry.unwrap_or(kernel.entry),
            virt_base,
            segments,
            end,
            hypercall_page: kernel.notes.hypercall_page,
            init_p2m: kernel.notes.init_p2m,
            unmapped_initrd: kernel.notes.mod_start_pfn == Some(true),
        };
        checked.check_addresses(first)?;
        Ok(checked)
    }

    fn check_addresses(&self, first: u64) -> Result<(), PvError<'a>> {
        let base = PvError::BadAddress("virtual base", self.virt_base);
        if !self.virt_base.is_multiple_of(PAGE_SIZE) || !is_guest_address(self.virt_base) {
            return Err(base);
        }
        let start = self.virt_base.checked_add(first).ok_or(base)?;
        let end = self.virt_base.checked_add(self.end).ok_or(base)?;
        if !(start..end).contains(&self.entry) {
            return Err(PvError::BadAddress("entry point", self.entry));
        }
        if let Some(page) = self.hypercall_page
            && (!page.is_multiple_of(PAGE_SIZE) || !(start..end).contains(&page))
        {
            return Err(PvError::BadAddress("hypercall page", page));
        }
        if let Some(p2m) = self.init_p2m
            && (!p2m.is_multiple_of(PAGE_SIZE) || !is_guest_address(p2m))
        {
            return Err(PvError::BadAddress("place for the p2m list", p2m));
        }
        Ok(())
    }
}

/// Whether a PV guest may map this address: canonical and outside the hypervisor's range.
pub(super) fn is_guest_address(address: u64) -> bool {
    let top = (address as i64) >> 47;
    (top == 0 || top == -1) && !(HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(&address)
}

/// The segments at their pseudo-physical addresses.
fn pseudo_physical<'a>(kernel: &Kernel<'a>) -> Result<Vec<Segment<'a>>, PvError<'a>> {
    let offset = kernel.notes.paddr_offset.unwrap_or(0);
    let mut segments = Vec::new();
    segments
        .try_reserve_exact(kernel.segments.len())
        .map_err(|_| PvError::OutOfMemory)?;
    for segment in &kernel.segments {
        let paddr = segment
            .paddr
            .checked_sub(offset)
            .ok_or(PvError::BadAddress("physical offset", offset))?;
        segments.push(Segment { paddr, ..*segment });
    }
    Ok(segments)
}

fn check_compatibility<'a>(notes: &XenNotes<'a>, offered: u32) -> Result<(), PvError<'a>> {
    if notes.entry.is_none() && notes.xen_version.is_none() && notes.phys32_entry.is_some() {
        return Err(PvError::OnlyPvh);
    }
    if let Some(name) = notes.xen_version
        && name != INTERFACE
    {
        return Err(PvError::WrongInterface(name));
    }
    // Linux kernels are taken whatever their loader note says.
    if let Some(name) = notes.loader
        && name != GENERIC_LOADER
        && notes.guest_os != Some(LINUX)
    {
        return Err(PvError::WrongLoader(name));
    }
    if notes.bsd_symtab == Some(true) {
        return Err(PvError::WantsSymbols);
    }
    if let Some(low) = notes.hv_start_low
        && low > HYPERVISOR_VIRT_START
    {
        return Err(PvError::HypervisorHole(low));
    }
    check_features(notes, offered)
}

fn check_features<'a>(notes: &XenNotes<'a>, offered: u32) -> Result<(), PvError<'a>> {
    if let Some(name) = notes.unknown_required {
        return Err(PvError::UnknownFeature(name));
    }
    let lacking = notes.all_features().required & !offered;
    if lacking != 0 {
        return Err(PvError::MissingFeature(lacking.trailing_zeros()));
    }
    // Only the bitmap speaks about dom0: the string is older than the question (features.h).
    match notes.supported_features {
        Some(set) if set & (1 << XENFEAT_dom0) == 0 => Err(PvError::NotDom0),
        _ => Ok(()),
    }
}
