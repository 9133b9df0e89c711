//! A vCPU's registers (`hvm_hw_cpu`).

use xen_abi::hvm_save::{HvmHwCpu, XEN_X86_FPU_INITIALISED};
use zerocopy::FromZeros;

use super::{Refused, Terms, wrong};
use crate::cpuid::xstate::{FpuLine, LEGACY_FPU, reset_fpu, takes_fpu};
use crate::hvm::controls::Controls;
use crate::hvm::msr::Held;
use crate::hvm::processor::{Event, EventKind, Processor, Register, Segment};
use crate::hvm::registers::Registers;
use crate::hvm::state::HvmState;
use crate::pv::frame::{GuestFrame, rflags};

/// Bits of `pending_event` (AMD APM vol. 2, 15.20).
mod event {
    pub const VECTOR: u32 = 0xff;
    pub const KIND_SHIFT: u32 = 8;
    pub const KIND: u32 = 7;
    pub const HAS_ERROR: u32 = 1 << 11;
    pub const RESERVED: u32 = 0x7fff_f000;
    pub const VALID: u32 = 1 << 31;
}

/// Exceptions that there are: vectors below this, but that of NMIs.
const EXCEPTIONS: u8 = 32;
const NMI_VECTOR: u8 = 2;

/// What a vCPU has in its registers.
#[must_use]
pub fn describe(state: &HvmState, terms: &Terms<'_>) -> HvmHwCpu {
    let mut cpu = HvmHwCpu::new_zeroed();
    let registers = Registers::of(state);
    put_general(&mut cpu, &registers);
    put_segments(&mut cpu, &registers);
    let read = |register| state.processor.read(register);
    cpu.sysenter_cs = read(Register::SysenterCs);
    cpu.sysenter_esp = read(Register::SysenterEsp);
    cpu.sysenter_eip = read(Register::SysenterEip);
    cpu.shadow_gs = read(Register::KernelGsBase);
    cpu.msr_lstar = read(Register::Lstar);
    cpu.msr_star = read(Register::Star);
    cpu.msr_cstar = read(Register::Cstar);
    cpu.msr_syscall_mask = read(Register::Sfmask);
    cpu.msr_efer = registers.controls.efer;
    cpu.msr_tsc_aux = state.msrs.tsc_aux.into();
    let offset = read(Register::TscOffset);
    cpu.tsc = terms.tsc.tsc_at(terms.now).wrapping_add(offset);
    if let Some(waiting) = waiting_event(state) {
        (cpu.pending_event, cpu.error_code) = encode(waiting);
    }
    let (lines, _) = cpu.fpu_regs.as_chunks_mut();
    for (to, from) in lines.iter_mut().zip(&state.fpu) {
        *to = from.0;
    }
    cpu.flags = XEN_X86_FPU_INITIALISED;
    cpu
}

/// What the vCPU takes with its next entry. An NMI that waits for no other to end is among that.
fn waiting_event(state: &HvmState) -> Option<Event> {
    let processor = &state.processor;
    let nmi = state.nmi_pending && !processor.nmi_masked();
    processor.injected().or(nmi.then_some(Event::nmi()))
}

fn put_general(cpu: &mut HvmHwCpu, from: &Registers) {
    let r = &from.regs;
    (cpu.rax, cpu.rbx, cpu.rcx, cpu.rdx) = (r.rax, r.rbx, r.rcx, r.rdx);
    (cpu.rbp, cpu.rsi, cpu.rdi, cpu.rsp) = (r.rbp, r.rsi, r.rdi, r.rsp);
    (cpu.r8, cpu.r9, cpu.r10, cpu.r11) = (r.r8, r.r9, r.r10, r.r11);
    (cpu.r12, cpu.r13, cpu.r14, cpu.r15) = (r.r12, r.r13, r.r14, r.r15);
    (cpu.rip, cpu.rflags) = (r.rip, r.rflags);
    let Controls { cr0, cr3, cr4, .. } = from.controls;
    (cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4) = (cr0, from.cr2, cr3, cr4);
    [cpu.dr0, cpu.dr1, cpu.dr2, cpu.dr3] = from.debug;
    [cpu.dr6, cpu.dr7] = from.status;
}

fn put_segments(cpu: &mut HvmHwCpu, from: &Registers) {
    let [cs, ds, es, fs, gs, ss, tr, ldtr] = from.segments;
    macro_rules! put {
        ($($name:ident: $selector:ident $limit:ident $base:ident $attributes:ident,)*) => {
            $(
                cpu.$selector = $name.selector.into();
                cpu.$limit = $name.limit;
                cpu.$base = $name.base;
                cpu.$attributes = $name.attributes.into();
            )*
        };
    }
    put! {
        cs: cs_sel cs_limit cs_base cs_arbytes,
        ds: ds_sel ds_limit ds_base ds_arbytes,
        es: es_sel es_limit es_base es_arbytes,
        fs: fs_sel fs_limit fs_base fs_arbytes,
        gs: gs_sel gs_limit gs_base gs_arbytes,
        ss: ss_sel ss_limit ss_base ss_arbytes,
        tr: tr_sel tr_limit tr_base tr_arbytes,
        ldtr: ldtr_sel ldtr_limit ldtr_base ldtr_arbytes,
    }
    let [gdtr, idtr] = from.tables;
    (cpu.gdtr_base, cpu.gdtr_limit) = (gdtr.base, gdtr.limit);
    (cpu.idtr_base, cpu.idtr_limit) = (idtr.base, idtr.limit);
}

/// Replaces a vCPU's registers. It does not wait for a start-up message then.
///
/// # Errors
/// `EINVAL` for what it cannot have. Nothing is changed then.
pub fn adopt(state: &mut HvmState, cpu: &HvmHwCpu, terms: &Terms<'_>) -> Result<(), Refused> {
    let invalid = |why| (xen_abi::errno::Errno::EINVAL, why);
    let mut registers = read_registers(cpu).map_err(invalid)?;
    registers.check(terms.policy).map_err(invalid)?;
    let held = read_held(cpu);
    if held.iter().any(|(which, _, value)| !which.takes(*value)) {
        return wrong("MSRs that it cannot have");
    }
    let Ok(tsc_aux) = u32::try_from(cpu.msr_tsc_aux) else {
        return wrong("TSC_AUX beyond 32 bits");
    };
    if cpu.flags & !XEN_X86_FPU_INITIALISED != 0 {
        return wrong("unknown flags");
    }
    let has_fpu = cpu.flags & XEN_X86_FPU_INITIALISED != 0;
    if has_fpu && !takes_fpu(&cpu.fpu_regs) {
        return wrong("reserved bits of MXCSR");
    }
    let waiting = decode(cpu.pending_event, cpu.error_code).map_err(invalid)?;
    let masked = registers.regs.rflags & rflags::IF == 0;
    if masked && waiting.is_some_and(|event| event.kind == EventKind::Interrupt) {
        // Nobody had got it, and Intel's processors do not give it (Intel SDM vol. 3, 27.3.1.4).
        return wrong("an interrupt that rflags mask");
    }

    // PAT belongs to the memory types, whose record may have come before.
    let pat = state.processor.read(Register::Pat);
    state.processor.reset();
    state.processor.write(Register::Pat, pat);
    registers.put(state);
    for (_, register, value) in held {
        state.processor.write(register, value);
    }
    let offset = cpu.tsc.wrapping_sub(terms.tsc.tsc_at(terms.now));
    state.processor.write(Register::TscOffset, offset);
    if let Some(event) = waiting {
        state.processor.inject(event);
    }
    state.msrs.tsc_aux = tsc_aux;
    state.nmi_pending = false;
    state.waits_for_start = false;
    set_fpu(&mut state.fpu, has_fpu.then_some(&cpu.fpu_regs));
    Ok(())
}

/// Replaces the FPU by what FXSAVE has written, or by that of a reset; the other components are as after a reset.
fn set_fpu(fpu: &mut [FpuLine], image: Option<&[u8; LEGACY_FPU]>) {
    fpu.fill(FpuLine([0; 64]));
    let Some(image) = image else {
        reset_fpu(fpu);
        return;
    };
    let (lines, _) = image.as_chunks();
    for (to, from) in fpu.iter_mut().zip(lines) {
        to.0 = *from;
    }
    // The header of XSAVE: x87 and SSE are there.
    if let Some(header) = fpu.get_mut(LEGACY_FPU / 64) {
        header.0[0] = 0b11;
    }
}

fn read_registers(cpu: &HvmHwCpu) -> Result<Registers, &'static str> {
    let segment = |selector, limit, base, attributes| {
        Ok::<_, &str>(Segment {
            selector: u16::try_from(selector).map_err(|_| "a selector beyond 16 bits")?,
            attributes: u16::try_from(attributes)
                .map_err(|_| "segment attributes beyond 16 bits")?,
            limit,
            base,
        })
    };
    let table = |limit, base| Segment {
        limit,
        base,
        ..Segment::default()
    };
    let c = cpu;
    Ok(Registers {
        regs: GuestFrame {
            rax: c.rax,
            rbx: c.rbx,
            rcx: c.rcx,
            rdx: c.rdx,
            rbp: c.rbp,
            rsi: c.rsi,
            rdi: c.rdi,
            rsp: c.rsp,
            r8: c.r8,
            r9: c.r9,
            r10: c.r10,
            r11: c.r11,
            r12: c.r12,
            r13: c.r13,
            r14: c.r14,
            r15: c.r15,
            rip: c.rip,
            rflags: c.rflags,
            ..GuestFrame::default()
        },
        controls: Controls {
            cr0: c.cr0,
            cr3: c.cr3,
            cr4: c.cr4,
            efer: c.msr_efer,
        },
        cr2: c.cr2,
        debug: [c.dr0, c.dr1, c.dr2, c.dr3],
        status: [c.dr6, c.dr7],
        segments: [
            segment(c.cs_sel, c.cs_limit, c.cs_base, c.cs_arbytes)?,
            segment(c.ds_sel, c.ds_limit, c.ds_base, c.ds_arbytes)?,
            segment(c.es_sel, c.es_limit, c.es_base, c.es_arbytes)?,
            segment(c.fs_sel, c.fs_limit, c.fs_base, c.fs_arbytes)?,
            segment(c.gs_sel, c.gs_limit, c.gs_base, c.gs_arbytes)?,
            segment(c.ss_sel, c.ss_limit, c.ss_base, c.ss_arbytes)?,
            segment(c.tr_sel, c.tr_limit, c.tr_base, c.tr_arbytes)?,
            segment(c.ldtr_sel, c.ldtr_limit, c.ldtr_base, c.ldtr_arbytes)?,
        ],
        tables: [
            table(c.gdtr_limit, c.gdtr_base),
            table(c.idtr_limit, c.idtr_base),
        ],
    })
}

/// MSRs of the record that the processor holds.
fn read_held(cpu: &HvmHwCpu) -> [(Held, Register, u64); 8] {
    [
        (Held::SysenterCs, Register::SysenterCs, cpu.sysenter_cs),
        (Held::SysenterEsp, Register::SysenterEsp, cpu.sysenter_esp),
        (Held::SysenterEip, Register::SysenterEip, cpu.sysenter_eip),
        (Held::KernelGsBase, Register::KernelGsBase, cpu.shadow_gs),
        (Held::Lstar, Register::Lstar, cpu.msr_lstar),
        (Held::Star, Register::Star, cpu.msr_star),
        (Held::Cstar, Register::Cstar, cpu.msr_cstar),
        (Held::Sfmask, Register::Sfmask, cpu.msr_syscall_mask),
    ]
}

/// An event in the form of the record, and its error code.
fn encode(event: Event) -> (u32, u32) {
    let kind = match event.kind {
        EventKind::Interrupt => 0,
        EventKind::Nmi => 2,
        EventKind::Exception => 3,
        EventKind::SoftwareInterrupt => 4,
    };
    let has_error = if event.error.is_some() {
        event::HAS_ERROR
    } else {
        0
    };
    let word = event::VALID | u32::from(event.vector) | kind << event::KIND_SHIFT | has_error;
    (word, event.error.unwrap_or(0))
}

/// The event of a record, if there is one that a processor can deliver.
fn decode(word: u32, error: u32) -> Result<Option<Event>, &'static str> {
    if word & event::VALID == 0 {
        return Ok(None);
    }
    let impossible = Err("an event that there is not");
    if word & event::RESERVED != 0 {
        return impossible;
    }
    let vector = (word & event::VECTOR) as u8;
    let (kind, fits) = match word >> event::KIND_SHIFT & event::KIND {
        0 => (EventKind::Interrupt, true),
        2 => (EventKind::Nmi, vector == NMI_VECTOR),
        3 => (
            EventKind::Exception,
            vector < EXCEPTIONS && vector != NMI_VECTOR,
        ),
        4 => (EventKind::SoftwareInterrupt, true),
        _ => return impossible,
    };
    let error = (word & event::HAS_ERROR != 0).then_some(error);
    if !fits || (error.is_some() && kind != EventKind::Exception) {
        return impossible;
    }
    Ok(Some(Event {
        kind,
        vector,
        error,
    }))
}
