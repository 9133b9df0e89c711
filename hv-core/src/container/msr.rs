//! MSRs of a vCPU in a container.

use core::mem;
use core::sync::atomic::Ordering;

use super::interrupts::{act, time, tsc_at};
use super::memory::Memory;
use super::{Cell, Room, instructions};
use crate::base::{DomId, PAGE_SIZE, VcpuId};
use crate::cpuid::msr::MsrLog;
use crate::cpuid::{Policy, Vendor};
use crate::domain;
use crate::hvm::controls::{Controls, Fault};
use crate::hvm::copies::GuestMemory;
use crate::hvm::hypercall_page;
use crate::hvm::lapic::Effect;
use crate::hvm::msr::{self, Held, MsrHost, Strictness};
use crate::hvm::processor::{Processor, Register, SegmentName};
use crate::hypercall::Host;

/// MSRs of the local APIC.
const APIC_BASE: u32 = 0x1b;
const TSC_DEADLINE: u32 = 0x6e0;

/// RDMSR or WRMSR: the number is in ecx, the value in edx:eax; `false`: the guest gets #GP.
pub(super) fn access<H: Host + Room>(cx: &mut Cell<'_, H>, write: bool) -> bool {
    let number = cx.regs.rcx as u32;
    if cx.cpl() != 0 {
        return false;
    }
    // Apart from the rest of the state, which the registers' rules reach for.
    let mut own = mem::take(&mut cx.state.msrs);
    let value = cx.regs.rax & 0xffff_ffff | cx.regs.rdx << 32;
    let done = if write {
        msr::write(&mut Registers(cx), &mut own, number, value)
    } else {
        msr::read(&mut Registers(cx), &own, number)
            .map(|value| (cx.regs.rax, cx.regs.rdx) = (value & 0xffff_ffff, value >> 32))
    };
    cx.state.msrs = own;
    done.is_ok()
}

/// The vCPU as the rules of MSRs see it.
struct Registers<'a, 'b, H: Host>(&'a mut Cell<'b, H>);

/// Where a register of the processor is kept.
enum Kept {
    Register(Register),
    Base(SegmentName),
}

const fn place(which: Held) -> Kept {
    Kept::Register(match which {
        Held::Star => Register::Star,
        Held::Lstar => Register::Lstar,
        Held::Cstar => Register::Cstar,
        Held::Sfmask => Register::Sfmask,
        Held::FsBase => return Kept::Base(SegmentName::Fs),
        Held::GsBase => return Kept::Base(SegmentName::Gs),
        Held::KernelGsBase => Register::KernelGsBase,
        Held::SysenterCs => Register::SysenterCs,
        Held::SysenterEsp => Register::SysenterEsp,
        Held::SysenterEip => Register::SysenterEip,
        Held::Pat => Register::Pat,
    })
}

impl<H: Host + Room> Registers<'_, '_, H> {
    fn write_apic(&mut self, msr: u32, value: u64) -> Result<(), Fault> {
        let time = time(self.0);
        let effect = self.0.state.lapic.write_msr(msr, value, &time);
        act(self.0, effect.map_err(|_| Fault)?);
        Ok(())
    }

    fn read_apic(&self, msr: u32) -> Result<u64, Fault> {
        let time = time(self.0);
        self.0.state.lapic.read_msr(msr, &time).map_err(|_| Fault)
    }
}

impl<H: Host + Room> MsrHost for Registers<'_, '_, H> {
    fn policy(&self) -> &Policy {
        self.0.policy()
    }

    fn name(&self) -> (DomId, VcpuId) {
        (self.0.domain.id, self.0.vcpu.id)
    }

    fn log(&self) -> &MsrLog {
        self.0.host.msr_log()
    }

    fn strictness(&self) -> Strictness {
        match self.0.domain.hvm.as_ref() {
            Some(hvm) if hvm.msr_relaxed.load(Ordering::Relaxed) => Strictness::Relaxed,
            _ => Strictness::Strict,
        }
    }

    fn held(&self, which: Held) -> u64 {
        match place(which) {
            Kept::Register(register) => self.0.register(register),
            Kept::Base(segment) => self.0.state.processor.segment(segment).base,
        }
    }

    fn hold(&mut self, which: Held, value: u64) {
        let processor = &mut self.0.state.processor;
        match place(which) {
            Kept::Register(register) => processor.write(register, value),
            Kept::Base(name) => {
                let mut segment = processor.segment(name);
                segment.base = value;
                processor.set_segment(name, segment);
            }
        }
    }

    fn controls(&self) -> Controls {
        instructions::current(self.0)
    }

    fn set_controls(&mut self, new: Controls) {
        let before = self.controls();
        instructions::adopt(self.0, &before, &new);
    }

    fn tsc(&self) -> u64 {
        let emulated = self.0.domain.tsc.lock().own.is_some();
        if let Some(clock) = self.0.state.clock.as_ref().filter(|_| emulated) {
            return tsc_at(clock, self.0.domain.machine.now());
        }
        let offset = self.0.register(Register::TscOffset);
        self.0.host.read_tsc().wrapping_add(offset)
    }

    fn move_tsc(&mut self, by: u64) {
        let offset = self.0.register(Register::TscOffset).wrapping_add(by);
        self.0.state.processor.write(Register::TscOffset, offset);
        if let Some(clock) = &mut self.0.state.clock {
            clock.tsc = clock.tsc.wrapping_add(by);
        }
        self.0.vcpu.owe(domain::Owed::TIME);
        let time = time(self.0);
        self.0.state.lapic.tsc_changed(&time);
        act(self.0, Effect::Timer);
    }

    fn load_tsc_aux(&mut self, value: u32) {
        self.0.host.load_tsc_aux(value);
    }

    fn load_breakpoint_masks(&mut self, masks: &[u32; 4]) {
        self.0.host.load_breakpoint_masks(masks);
    }

    fn forget_branches(&self) {
        self.0.host.forget_branches();
    }

    fn apic_base(&self) -> u64 {
        self.read_apic(APIC_BASE).unwrap_or(0)
    }

    fn set_apic_base(&mut self, value: u64) -> Result<(), Fault> {
        self.write_apic(APIC_BASE, value)
    }

    fn read_x2apic(&mut self, msr: u32) -> Result<u64, Fault> {
        self.read_apic(msr)
    }

    fn write_x2apic(&mut self, msr: u32, value: u64) -> Result<(), Fault> {
        self.write_apic(msr, value)
    }

    fn tsc_deadline(&self) -> u64 {
        self.read_apic(TSC_DEADLINE).unwrap_or(0)
    }

    fn set_tsc_deadline(&mut self, value: u64) {
        // The policy has it, and no value is refused.
        let _written = self.write_apic(TSC_DEADLINE, value);
    }

    fn fill_hypercall_page(&mut self, gfn: u64) -> Result<(), Fault> {
        let gpa = gfn.checked_mul(PAGE_SIZE as u64).ok_or(Fault)?;
        let vendor = match self.0.hv.facts.hvm.map(|c| c.vendor()) {
            Some(domain::Vendor::Intel) => Vendor::Intel,
            _ => Vendor::Amd,
        };
        let page = hypercall_page::contents(vendor);
        Memory(self.0.domain).write(gpa, &page).ok_or(Fault)
    }

    fn read_machine(&self, msr: u32) -> Option<u64> {
        self.0.host.read_machine_msr(msr)
    }
}
