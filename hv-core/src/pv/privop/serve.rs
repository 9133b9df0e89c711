//! The whole way of a #GP or #UD: emulates the instruction and carries out what follows from it.

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::arch_x86::{FLAT_RING3_CS32, FLAT_RING3_CS64};
use xen_abi::errno::Errno;
use xen_abi::xen::VCPU_INFO_CR2;

use super::{CodeSegment, Effect, PrivEnv, PrivTables, Stepping, Trap, Verdict, emulate, hardware_cr4};
use crate::base::{DomId, VcpuId};
use crate::domain::{Domain, Rights, Vcpu};
use crate::events::EventHost;
use crate::hypercall::{Ctx, Flush, Host, SegmentBase, TaskSwitched, mmu, sched};
use crate::mm::Stop;
use crate::mm::pins::RootKind;
use crate::pv::bounce::{self, Undeliverable};
use crate::pv::cpuid::guest::GuestTsc;
use crate::pv::frame::RETURN_BY_SYSRET;
use crate::pv::ports::{PortBus, PortMap, Width};
use crate::pv::state::PvState;

/// Byte 1 of the first word of `vcpu_info`.
const UPCALL_MASK: u64 = 0xff << 8;
const UPCALL_MASKED: u64 = 1 << 8;

/// Bits of a code descriptor (AMD APM vol. 2, 4.8.1).
mod descriptor {
    pub const CODE: u64 = 1 << 43;
    pub const NOT_SYSTEM: u64 = 1 << 44;
    pub const PRESENT: u64 = 1 << 47;
    pub const LONG: u64 = 1 << 53;
    pub const DEFAULT_32: u64 = 1 << 54;
    pub const GRANULAR: u64 = 1 << 55;
    /// Base 0, limit all ones.
    pub const EXTENT: u64 = 0xff0f_00ff_ffff_ffff;
    pub const FLAT_EXTENT: u64 = 0x000f_0000_0000_ffff;
}

/// What the CPU under a PV guest does for emulation, beyond what hypercalls need of it.
pub trait PrivHost: Host + PortBus {
    /// Takes over those bits of `hardware_cr4` that change with the vCPU; at its switch too.
    fn load_guest_cr4(&self, bits: u64);
    /// XCR0 of the vCPU that runs, 0 where XSAVE is off.
    fn xcr0(&self) -> u64;
    /// Changes XCR0 of the vCPU that runs; `false` when it cannot have another.
    fn load_xcr0(&self, value: u64) -> bool {
        value == self.xcr0()
    }
    /// TSC_AUX of the vCPU that runs; never asked for when the set-up says `TscAux::Missing`.
    fn tsc_aux(&self) -> u32 {
        0
    }
    /// Changes TSC_AUX of the vCPU that runs, see `tsc_aux`.
    fn load_tsc_aux(&self, _value: u32) {}
    /// The TSC.
    fn tsc(&self) -> u64;
    /// Reads an MSR that may be missing.
    fn read_host_msr(&self, index: u32) -> Option<u64>;
    /// IBPB.
    fn forget_branches(&self);
}

/// Handles an exception that may stand for a privileged instruction.
///
/// # Errors
/// `Undeliverable` when the guest cannot even be given its exception.
pub fn serve<H: PrivHost>(cx: &mut Ctx<'_, H>, tables: &PrivTables, why: Trap) -> Result<(), Undeliverable> {
    let env = Running { host: cx.host, domain: cx.domain, vcpu: cx.vcpu, tables };
    match emulate(&env, cx.regs, cx.state, why) {
        Verdict::Done(effect, stepping) => {
            carry_out(cx, effect);
            match stepping {
                Stepping::Off => Ok(()),
                Stepping::DebugTrap => bounce::trap(cx, 1, None),
            }
        }
        Verdict::NewBase { mfn, next_rip } => match mmu::set_root(cx, RootKind::Kernel, Some(mfn)) {
            Ok(()) => {
                cx.regs.rip = next_rip;
                cx.regs.entry &= !RETURN_BY_SYSRET;
                Ok(())
            }
            // The guest runs into the same instruction again.
            Err(Stop::Restart) => Ok(()),
            Err(Stop::Refused(_)) => reflect(cx, why),
        },
        Verdict::Again => Ok(()),
        Verdict::Reflect => reflect(cx, why),
        Verdict::PageFault { address, error } => bounce::page_fault(cx, address, error),
    }
}

fn reflect<H: PrivHost>(cx: &mut Ctx<'_, H>, why: Trap) -> Result<(), Undeliverable> {
    match why {
        Trap::GeneralProtection { error } => bounce::trap(cx, 13, Some(error)),
        Trap::InvalidOpcode => bounce::trap(cx, 6, None),
    }
}

fn carry_out<H: PrivHost>(cx: &mut Ctx<'_, H>, effect: Effect) {
    let mask_word = || cx.domain.vcpu_info(cx.vcpu.id).map(|info| &info[0]);
    match effect {
        Effect::Nothing => {}
        Effect::Block => sched::block(cx),
        Effect::FlushPage(va) => cx.host.flush_here(Flush::Page(va)),
        Effect::WriteBackCaches => cx.host.write_back_caches(),
        Effect::MaskEvents => {
            if let Some(word) = mask_word() {
                word.fetch_or(UPCALL_MASKED, Ordering::SeqCst);
            }
        }
        // What is pending is found on the way back to the guest.
        Effect::UnmaskEvents => {
            if let Some(word) = mask_word() {
                word.fetch_and(!UPCALL_MASK, Ordering::SeqCst);
            }
        }
    }
}

/// The vCPU that trapped, on its CPU.
struct Running<'a, H: PrivHost> {
    host: &'a H,
    domain: &'a Domain,
    vcpu: &'a Vcpu,
    tables: &'a PrivTables,
}

impl<H: PrivHost> Running<'_, H> {
    fn fault_address_word(&self) -> Option<&'static AtomicU64> {
        let (frame, offset) = self.vcpu.info_place()?;
        self.domain.machine.words(frame).get((offset + VCPU_INFO_CR2) / 8)
    }

    /// A descriptor of the guest's.
    fn descriptor(&self, state: &PvState, selector: u16) -> Option<u64> {
        let index = usize::from(selector >> 3);
        let (frames, entries): (&[_], _) = if selector & 4 == 0 {
            (&state.gdt_frames, state.gdt_entries)
        } else {
            (&state.ldt_frames, state.ldt_entries)
        };
        if index >= entries as usize {
            return None;
        }
        let frame = (*frames.get(index / 512)?)?;
        Some(self.domain.machine.words(frame)[index % 512].load(Ordering::Relaxed))
    }
}

impl<H: PrivHost> PortBus for Running<'_, H> {
    fn port_in(&self, port: u16, width: Width) -> u32 {
        self.host.port_in(port, width)
    }
    fn port_out(&self, port: u16, width: Width, value: u32) {
        self.host.port_out(port, width, value);
    }
}

impl<H: PrivHost> PrivEnv for Running<'_, H> {
    fn tables(&self) -> &PrivTables {
        self.tables
    }
    fn domain_id(&self) -> DomId {
        self.domain.id
    }
    fn vcpu_id(&self) -> VcpuId {
        self.vcpu.id
    }
    fn rights(&self) -> Rights {
        self.domain.rights
    }
    fn ports(&self) -> &PortMap {
        &self.domain.ports
    }
    fn guest_tsc(&self) -> Option<GuestTsc> {
        None
    }
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        self.host.copy_in(to, from)
    }
    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        self.host.copy_out(to, from)
    }
    fn code_segment(&self, state: &PvState, selector: u16) -> CodeSegment {
        match selector {
            FLAT_RING3_CS64 => CodeSegment::Long,
            FLAT_RING3_CS32 => CodeSegment::Flat32,
            _ => self.descriptor(state, selector).map_or(CodeSegment::Other, classify),
        }
    }
    fn read_base(&self, which: SegmentBase) -> u64 {
        self.host.read_base(which)
    }
    fn load_base(&self, which: SegmentBase, value: u64) {
        self.host.load_base(which, value);
    }
    fn load_debug(&self, index: usize, value: u64) {
        self.host.load_debug(index, value);
    }
    fn read_debug(&self, index: usize) -> u64 {
        self.host.read_debug(index)
    }
    fn load_controls(&self, state: &PvState) {
        self.host.set_task_switched(if state.task_switched { TaskSwitched::Set } else { TaskSwitched::Clear });
        self.host.load_guest_cr4(hardware_cr4(state));
    }
    fn fault_address(&self) -> u64 {
        self.fault_address_word().map_or(0, |word| word.load(Ordering::Relaxed))
    }
    fn set_fault_address(&self, address: u64) {
        if let Some(word) = self.fault_address_word() {
            word.store(address, Ordering::Relaxed);
        }
    }
    fn xcr0(&self) -> u64 {
        self.host.xcr0()
    }
    fn load_xcr0(&self, value: u64) -> bool {
        self.host.load_xcr0(value)
    }
    fn tsc_aux(&self) -> u32 {
        self.host.tsc_aux()
    }
    fn load_tsc_aux(&self, value: u32) {
        self.host.load_tsc_aux(value);
    }
    fn tsc(&self) -> u64 {
        self.host.tsc()
    }
    fn read_host_msr(&self, index: u32) -> Option<u64> {
        self.host.read_host_msr(index)
    }
    fn forget_branches(&self) {
        self.host.forget_branches();
    }
}

/// What a descriptor makes of a code selector.
fn classify(value: u64) -> CodeSegment {
    use descriptor as d;
    let code = d::CODE | d::NOT_SYSTEM | d::PRESENT;
    let is_code = value & code == code;
    match value & (d::LONG | d::DEFAULT_32) {
        d::LONG if is_code => CodeSegment::Long,
        d::DEFAULT_32 if is_code && value & d::GRANULAR != 0 && value & d::EXTENT == d::FLAT_EXTENT => {
            CodeSegment::Flat32
        }
        _ => CodeSegment::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_segments_are_told_apart() {
        for (value, segment) in [
            (0x00af_9b00_0000_ffff, CodeSegment::Long),
            (0x00af_fb00_0000_ffff, CodeSegment::Long),
            (0x00cf_fb00_0000_ffff, CodeSegment::Flat32),
            // 16-bit, another base, a smaller limit, data, not present, a call gate.
            (0x008f_fb00_0000_ffff, CodeSegment::Other),
            (0x00cf_fb01_0000_ffff, CodeSegment::Other),
            (0x00c0_fb00_0000_ffff, CodeSegment::Other),
            (0x00cf_f300_0000_ffff, CodeSegment::Other),
            (0x00af_7b00_0000_ffff, CodeSegment::Other),
            (0x00af_ec00_0000_ffff, CodeSegment::Other),
            (0, CodeSegment::Other),
        ] {
            assert_eq!(classify(value), segment, "{value:#x}");
        }
    }
}
