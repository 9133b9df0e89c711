//! What a domain in hardware containers has beside what every domain has, and what the machine must have for it.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xen_abi::errno::Errno;
use xen_abi::hvm_op as abi;
use xen_abi::sched::{SHUTDOWN_MAX, SHUTDOWN_reboot};

use super::machine::Machine;
use crate::cpuid::features::Feature;
use crate::hvm::block::Block;
use crate::hvm::svm_facts::Features;
use crate::hvm::vmcb::{Maps, Vmcb};
use crate::hvm::vmcs::{Common, Vmcs};
use crate::mm::p2m::Format;

#[cfg(test)]
mod tests;

/// Who made the processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "names")]
pub enum Vendor {
    Amd,
    Intel,
}

/// What a control block is made of.
#[derive(Clone, Copy, Debug)]
pub enum BlockShape {
    /// A VMCB of AMD-V.
    Vmcb {
        /// Permission maps, which all vCPUs share.
        maps: Maps,
        /// What the CPUs have.
        features: Features,
    },
    /// A VMCS of VT-x.
    Vmcs(Common),
}

/// What the machine's processors offer for guests in containers.
#[derive(Clone, Copy, Debug)]
pub struct Containers {
    /// Control blocks.
    pub shape: BlockShape,
    /// Nested tables have entries of 1 GiB.
    pub gib_pages: bool,
    /// Width of the addresses that nested tables translate.
    pub address_bits: u8,
}

impl Containers {
    /// Features of the processor that guests in them lack.
    #[must_use]
    pub fn missing_features(&self) -> Vec<Feature> {
        match &self.shape {
            // What has state of a guest's own is switched with it; no instruction needs leave.
            BlockShape::Vmcb { .. } => Vec::new(),
            BlockShape::Vmcs(common) => common.facts.missing_features().collect(),
        }
    }

    /// Whose extensions they are.
    #[must_use]
    pub const fn vendor(&self) -> Vendor {
        match self.shape {
            BlockShape::Vmcb { .. } => Vendor::Amd,
            BlockShape::Vmcs(_) => Vendor::Intel,
        }
    }

    /// How nested tables are written.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self.vendor() {
            Vendor::Amd => Format::Npt,
            Vendor::Intel => Format::Ept,
        }
    }

    /// A control block, as after a reset, in pages of its own ([`Block::pages`]), which [`Machine::free_page`] takes back. It lacks the
    /// nested root.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn make_block(&self, machine: &'static dyn Machine) -> Result<Block, Errno> {
        let page = machine.alloc_page().ok_or(Errno::ENOMEM)?;
        let words = machine.words(page);
        let common = match self.shape {
            BlockShape::Vmcb { maps, features } => {
                return Ok(Vmcb::new(page, words, maps, features).into());
            }
            BlockShape::Vmcs(common) => common,
        };
        let mut task = None;
        if common.wants_task_page() {
            let Some(second) = machine.alloc_page() else {
                machine.free_page(page);
                return Err(Errno::ENOMEM);
            };
            task = Some((second, machine.words(second)));
        }
        Ok(Vmcs::new((page, words), task, common).into())
    }
}

/// Who sets or reads a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setter {
    /// The domain itself.
    Guest,
    /// The toolstack.
    Tool,
}

/// Frames that [`abi::HVM_PARAM_NR_IOREQ_SERVER_PAGES`] may name at most: one bit each.
const MAX_IOREQ_PAGES: u64 = 64;

/// Rules of one parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// The domain and the toolstack set and read it.
    Shared,
    /// The toolstack sets it, the domain reads it.
    Told,
    /// The toolstack alone sets and reads it.
    Private,
    /// The toolstack alone, and once set it stays.
    Once,
    /// Nobody: it is of earlier interfaces, or unassigned.
    Nobody,
}

const fn rule(index: u32) -> Rule {
    match index {
        abi::HVM_PARAM_CALLBACK_IRQ
        | abi::HVM_PARAM_STORE_EVTCHN
        | abi::HVM_PARAM_CONSOLE_EVTCHN
        | abi::HVM_PARAM_VM86_TSS
        | abi::HVM_PARAM_VM86_TSS_SIZED
        | abi::HVM_PARAM_VM_GENERATION_ID_ADDR
        | abi::HVM_PARAM_X87_FIP_WIDTH => Rule::Shared,
        abi::HVM_PARAM_STORE_PFN | abi::HVM_PARAM_CONSOLE_PFN => Rule::Told,
        abi::HVM_PARAM_VIRIDIAN
        | abi::HVM_PARAM_IOREQ_PFN
        | abi::HVM_PARAM_BUFIOREQ_PFN
        | abi::HVM_PARAM_IOREQ_SERVER_PFN
        | abi::HVM_PARAM_NR_IOREQ_SERVER_PAGES
        | abi::HVM_PARAM_ALTP2M
        | abi::HVM_PARAM_MCA_CAP => Rule::Once,
        abi::HVM_PARAM_TIMER_MODE
        | abi::HVM_PARAM_HPET_ENABLED
        | abi::HVM_PARAM_IDENT_PT
        | abi::HVM_PARAM_ACPI_S_STATE
        | abi::HVM_PARAM_VPT_ALIGN
        | abi::HVM_PARAM_ACPI_IOPORTS_LOCATION
        | abi::HVM_PARAM_PAGING_RING_PFN
        | abi::HVM_PARAM_MONITOR_RING_PFN
        | abi::HVM_PARAM_SHARING_RING_PFN
        | abi::HVM_PARAM_TRIPLE_FAULT_REASON => Rule::Private,
        _ => Rule::Nobody,
    }
}

/// Whether a parameter can have a value here. What asks for something that there is not is refused: the value would be a
/// promise.
const fn is_possible(index: u32, value: u64) -> bool {
    match index {
        abi::HVM_PARAM_TIMER_MODE => value <= abi::HVMPTM_one_missed_tick_pending as u64,
        abi::HVM_PARAM_TRIPLE_FAULT_REASON => value <= SHUTDOWN_MAX as u64,
        abi::HVM_PARAM_X87_FIP_WIDTH => matches!(value, 0 | 4 | 8),
        abi::HVM_PARAM_NR_IOREQ_SERVER_PAGES => value != 0 && value <= MAX_IOREQ_PAGES,
        // No Hyper-V interface, no alternate views, no local machine checks, no sleep, no ports of ACPI.
        abi::HVM_PARAM_VIRIDIAN
        | abi::HVM_PARAM_ALTP2M
        | abi::HVM_PARAM_MCA_CAP
        | abi::HVM_PARAM_ACPI_S_STATE
        | abi::HVM_PARAM_ACPI_IOPORTS_LOCATION => value == 0,
        _ => true,
    }
}

/// What a domain in containers has beside what every domain has.
#[derive(Debug)]
pub struct HvmDomain {
    params: [AtomicU64; abi::HVM_NR_PARAMS as usize],
    /// Registers that do not exist read as zero and ignore writes (`XEN_X86_MSR_RELAXED`).
    pub msr_relaxed: AtomicBool,
}

impl Default for HvmDomain {
    fn default() -> Self {
        Self::new()
    }
}

impl HvmDomain {
    /// That of a new domain: all parameters zero but the meaning of a triple fault, which is a reboot.
    #[must_use]
    pub fn new() -> Self {
        let params = [const { AtomicU64::new(0) }; abi::HVM_NR_PARAMS as usize];
        params[abi::HVM_PARAM_TRIPLE_FAULT_REASON as usize]
            .store(SHUTDOWN_reboot.into(), Ordering::Relaxed);
        Self {
            params,
            msr_relaxed: AtomicBool::new(false),
        }
    }

    /// A parameter (`HVM_PARAM_*`); 0 for one that does not exist.
    #[must_use]
    pub fn param(&self, index: u32) -> u64 {
        self.params
            .get(index as usize)
            .map_or(0, |param| param.load(Ordering::SeqCst))
    }

    /// A parameter, for who may read it.
    ///
    /// # Errors
    /// `EINVAL` for one that does not exist, `EPERM` for one that is none of the domain's business.
    pub fn get(&self, index: u32, by: Setter) -> Result<u64, Errno> {
        match rule(index) {
            Rule::Nobody => Err(Errno::EINVAL),
            Rule::Private | Rule::Once if by == Setter::Guest => Err(Errno::EPERM),
            _ => Ok(self.param(index)),
        }
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// As [`Self::get`]; `EEXIST` for another value than before where that stays; `EINVAL` for a value that it cannot have.
    pub fn set(&self, index: u32, value: u64, by: Setter) -> Result<(), Errno> {
        let rule = rule(index);
        if rule == Rule::Nobody {
            return Err(Errno::EINVAL);
        }
        if by == Setter::Guest && rule != Rule::Shared {
            return Err(Errno::EPERM);
        }
        let param = self.params.get(index as usize).ok_or(Errno::EINVAL)?;
        let before = param.load(Ordering::SeqCst);
        if rule == Rule::Once && before != 0 && before != value {
            return Err(Errno::EEXIST);
        }
        if !is_possible(index, value) {
            return Err(Errno::EINVAL);
        }
        param.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// How events are signalled, as `HVM_PARAM_CALLBACK_IRQ` says.
    #[must_use]
    pub fn callback(&self) -> u64 {
        self.param(abi::HVM_PARAM_CALLBACK_IRQ)
    }

    /// What a triple fault means, one of `SHUTDOWN_*` (xen/sched.h).
    #[must_use]
    pub fn triple_fault_reason(&self) -> u32 {
        self.param(abi::HVM_PARAM_TRIPLE_FAULT_REASON) as u32
    }
}
