//! The first registers of a vCPU as a kernel gives them (`vcpu_hvm_context`, hvm/hvm_vcpu.h).

use xen_abi::hvm_vcpu::{
    VCPU_HVM_MODE_32B, VCPU_HVM_MODE_64B, VcpuHvmContext, VcpuHvmX8632, VcpuHvmX8664,
};
use zerocopy::{FromBytes, IntoBytes};

use super::controls::{Controls, cr0, efer};
use super::processor::{Processor, Register, Segment, attribute};
use super::registers::Registers;
use super::state::HvmState;
use crate::cpuid::Policy;
use crate::pv::frame::GuestFrame;

#[cfg(test)]
mod tests;

/// Types of segments (AMD APM vol. 2, 4.7): what a data segment needs to be written, a code segment, one to be read; a busy task.
const WRITABLE: u16 = 1 << 1;
const CODE: u16 = 1 << 3;
const READABLE: u16 = 1 << 1;
const TYPE: u16 = 0xf;
const BUSY_TASK: u16 = 0xb;
/// A present table of local descriptors, empty.
const NO_LDT: Segment = Segment {
    selector: 0,
    attributes: attribute::P | 2,
    limit: 0,
    base: 0,
};
/// The segments of a vCPU that starts in 64-bit code.
const FLAT_CODE: u16 = 0xa9b;
const FLAT_DATA: u16 = 0xc93;
const TASK: u16 = attribute::P | BUSY_TASK;
const TASK_LIMIT: u32 = 0x67;

/// Puts a vCPU's first registers in place of those of reset. It does not wait for a start-up message then.
///
/// # Errors
/// In words, why it cannot start so; nothing is changed.
pub fn start(
    state: &mut HvmState,
    wanted: &VcpuHvmContext,
    policy: &Policy,
) -> Result<(), &'static str> {
    if wanted.pad != 0 {
        return Err("padding is not zero");
    }
    let bytes = wanted.cpu_regs.as_bytes();
    let mut registers = match wanted.mode {
        VCPU_HVM_MODE_32B => {
            let (context, _) =
                VcpuHvmX8632::read_from_prefix(bytes).map_err(|_| "registers are missing")?;
            narrow(&context)?
        }
        VCPU_HVM_MODE_64B => {
            let (context, _) =
                VcpuHvmX8664::read_from_prefix(bytes).map_err(|_| "registers are missing")?;
            wide(&context)?
        }
        _ => return Err("no such mode"),
    };
    let lma = registers.controls.cr0 & cr0::PG != 0 && registers.controls.efer & efer::LME != 0;
    if lma {
        registers.controls.efer |= efer::LMA;
    }
    registers.controls.cr0 |= cr0::ET;
    registers.check(policy)?;
    let pat = state.processor.read(Register::Pat);
    state.processor.reset();
    state.processor.write(Register::Pat, pat);
    registers.put(state);
    state.waits_for_start = false;
    Ok(())
}

/// What the two modes have in common.
fn common(regs: GuestFrame, controls: Controls, named: [Segment; 5]) -> Registers {
    let [cs, ds, es, ss, tr] = named;
    let none = Segment::default();
    Registers {
        regs,
        controls,
        cr2: 0,
        debug: [0; 4],
        status: [0; 2],
        segments: [cs, ds, es, none, none, ss, tr, NO_LDT],
        tables: [none; 2],
    }
}

fn wide(c: &VcpuHvmX8664) -> Result<Registers, &'static str> {
    if c.cr0 & (cr0::PE | cr0::PG) != cr0::PE | cr0::PG || c.efer & efer::LME == 0 {
        return Err("64-bit code outside of long mode");
    }
    let flat = |attributes| Segment {
        attributes,
        limit: u32::MAX,
        ..Segment::default()
    };
    let task = Segment {
        attributes: TASK,
        limit: TASK_LIMIT,
        ..Segment::default()
    };
    let regs = GuestFrame {
        rax: c.rax,
        rbx: c.rbx,
        rcx: c.rcx,
        rdx: c.rdx,
        rsi: c.rsi,
        rdi: c.rdi,
        rbp: c.rbp,
        rsp: c.rsp,
        rip: c.rip,
        rflags: c.rflags,
        ..GuestFrame::default()
    };
    let controls = Controls {
        cr0: c.cr0,
        cr3: c.cr3,
        cr4: c.cr4,
        efer: c.efer,
    };
    let data = flat(FLAT_DATA);
    Ok(common(
        regs,
        controls,
        [flat(FLAT_CODE), data, data, data, task],
    ))
}

fn narrow(c: &VcpuHvmX8632) -> Result<Registers, &'static str> {
    if c.pad1 != 0 || c.pad2 != [0; 3] {
        return Err("padding is not zero");
    }
    let segment = |base: u32, limit, attributes| Segment {
        selector: 0,
        attributes,
        limit,
        base: base.into(),
    };
    let code = segment(c.cs_base, c.cs_limit, c.cs_ar);
    let data = segment(c.ds_base, c.ds_limit, c.ds_ar);
    let extra = segment(c.es_base, c.es_limit, c.es_ar);
    let stack = segment(c.ss_base, c.ss_limit, c.ss_ar);
    let task = segment(c.tr_base, c.tr_limit, c.tr_ar);
    check_code(&code)?;
    check_stack(&stack, &code)?;
    check_data(&data)?;
    check_data(&extra)?;
    let kind = task.attributes & (TYPE | attribute::S | attribute::P);
    if kind != TASK {
        return Err("TR is no busy task");
    }
    if c.eip > c.cs_limit {
        return Err("eip is beyond the code segment");
    }
    let regs = GuestFrame {
        rax: c.eax.into(),
        rbx: c.ebx.into(),
        rcx: c.ecx.into(),
        rdx: c.edx.into(),
        rsi: c.esi.into(),
        rdi: c.edi.into(),
        rbp: c.ebp.into(),
        rsp: c.esp.into(),
        rip: c.eip.into(),
        rflags: c.eflags.into(),
        ..GuestFrame::default()
    };
    let controls = Controls {
        cr0: c.cr0.into(),
        cr3: c.cr3.into(),
        cr4: c.cr4.into(),
        efer: c.efer,
    };
    Ok(common(regs, controls, [code, data, extra, stack, task]))
}

const fn is_ordinary(segment: &Segment) -> bool {
    segment.attributes & (attribute::P | attribute::S) == attribute::P | attribute::S
}

fn check_code(code: &Segment) -> Result<(), &'static str> {
    if !is_ordinary(code) || code.attributes & CODE == 0 {
        return Err("CS is no code segment");
    }
    if code.is_long() {
        return Err("64-bit code in the mode of 32 bits");
    }
    Ok(())
}

fn check_stack(stack: &Segment, code: &Segment) -> Result<(), &'static str> {
    if !is_ordinary(stack) || stack.attributes & (CODE | WRITABLE) != WRITABLE {
        return Err("SS cannot be written");
    }
    if stack.dpl() != code.dpl() {
        return Err("CS and SS are of different levels");
    }
    Ok(())
}

/// DS and ES may be absent.
fn check_data(data: &Segment) -> Result<(), &'static str> {
    if data.attributes & attribute::P == 0 {
        return Ok(());
    }
    let unreadable = data.attributes & (CODE | READABLE) == CODE;
    if !is_ordinary(data) || unreadable {
        return Err("a data segment that cannot be read");
    }
    Ok(())
}
