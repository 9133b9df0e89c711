//! Records against the layouts of the ABI, against each other, and damaged.

use core::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use std::sync::{Mutex, OnceLock};
use xen_abi::hvm_save as abi;
use xen_abi::hvm_save::*;
use zerocopy::FromZeros;

use super::*;
use crate::base::{Mfn, PhysAddr};
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{Policies, Which};
use crate::hvm::lapic::{Facts, Lapic};
use crate::hvm::processor::{Event, EventKind, Processor, Register, Segment, SegmentName};
use crate::hvm::state::HvmState;
use crate::hvm::svm_facts::Features;
use crate::hvm::vmcb::{Maps, Vmcb, Words};
use crate::pv::frame::rflags;
use crate::pv::state::StateBox;
use crate::time::TscScale;

/// Lines of the FPU image of the reference machine.
const LINES: usize = 0xa88_usize.div_ceil(64);
const NOW: u64 = 5_000_000_000;

fn policies() -> &'static Policies {
    static POLICIES: OnceLock<Policies> = OnceLock::new();
    POLICIES.get_or_init(|| Policies::new(&reference_cpu(), &ALL_ON))
}

pub(crate) fn terms() -> Terms<'static> {
    let policy = policies().get(Which::HvmDefault);
    Terms {
        policy,
        components: Components::new(policies().get(Which::Host), policy),
        now: NOW,
        tsc: Clock::starting_at(1_000, TscScale::from_khz(2_600_000).unwrap()),
    }
}

/// A vCPU as after a reset, and its control block.
pub(crate) struct Made {
    pub state: StateBox<HvmState>,
    page: &'static Words,
}

/// Pages that nobody has: what is leaked is used again.
static PAGES: Mutex<Vec<&'static Words>> = Mutex::new(Vec::new());

impl Drop for Made {
    fn drop(&mut self) {
        PAGES.lock().unwrap().push(self.page);
    }
}

impl Made {
    pub fn new(vcpu: u32) -> Self {
        let used = PAGES.lock().unwrap().pop();
        let page = used.unwrap_or_else(|| Box::leak(Box::new([const { AtomicU64::new(0) }; 512])));
        let maps = Maps {
            ports: PhysAddr(0x10_0000),
            msrs: PhysAddr(0x20_0000),
        };
        let facts = Facts {
            x2apic: true,
            tsc_deadline: true,
            physical_bits: 40,
        };
        let block = Vmcb::new(Mfn(0x1234), page, maps, Features::NESTED_PAGING);
        let state = HvmState::at_reset(block, Lapic::new(vcpu, facts), LINES).unwrap();
        Self { state, page }
    }

    fn word(&self, offset: usize) -> u64 {
        self.page[offset / 8].load(Ordering::Relaxed)
    }

    /// The checks of VMRUN on the saved state (AMD APM vol. 2, 15.5.1), by the manual's offsets.
    pub fn check_entry(&self) {
        const LONG: u64 = 1 << 8;
        const PAGING: u64 = 1 << 31;
        let (efer, cr4, cr3, cr0) = (
            self.word(0x4d0),
            self.word(0x548),
            self.word(0x550),
            self.word(0x558),
        );
        assert_ne!(efer & 1 << 12, 0, "EFER.SVME");
        assert!(
            cr0 & 1 << 30 != 0 || cr0 & 1 << 29 == 0,
            "CR0.NW without CD"
        );
        assert_eq!(cr0 >> 32, 0, "CR0");
        let bits = terms().policy.physical_address_bits();
        assert_eq!(cr3 >> bits, 0, "CR3");
        assert_eq!(cr4 & !0x37_0fff, 0, "CR4 {cr4:#x}");
        let (dr7, dr6) = (self.word(0x560), self.word(0x568));
        assert_eq!((dr6 >> 32, dr7 >> 32), (0, 0), "DR6 and DR7");
        assert_eq!(efer & !0x5d01, 0, "EFER {efer:#x}");
        if efer & LONG != 0 && cr0 & PAGING != 0 {
            assert_ne!(cr4 & 1 << 5, 0, "long mode without PAE");
            assert_ne!(cr0 & 1, 0, "long mode without protection");
            let attributes = self.word(0x410) >> 16 & 0xfff;
            assert_ne!(attributes & 0x600, 0x600, "CS.L and CS.D");
        }
        let event = self.word(0xa8);
        if event & 1 << 31 != 0 {
            let (kind, vector) = (event >> 8 & 7, event & 0xff);
            assert!(matches!(kind, 0 | 2 | 3 | 4), "event {event:#x}");
            assert!(
                kind != 3 || (vector < 32 && vector != 2),
                "event {event:#x}"
            );
        }
        let mxcsr = u32::from_le_bytes(self.state.fpu[0].0[24..28].try_into().unwrap());
        assert_eq!(mxcsr & !0xffff, 0, "MXCSR");
    }

    /// All that records tell.
    pub fn told(&self) -> Vec<u8> {
        let mut out = Writer::default();
        for kind in KINDS {
            let _said = save(&mut out, kind, 0, &self.state, true, &terms()).unwrap();
        }
        out.end().unwrap()
    }
}

/// A stream of two vCPUs.
pub(crate) fn stream() -> Vec<u8> {
    let vcpus = [Made::new(0), Made::new(1)];
    let mut out = Writer::with_room(FRAME + 2 * max_len(&terms())).unwrap();
    out.begin(0x600f20, 2_600_000).unwrap();
    for kind in KINDS {
        for (id, vcpu) in (0..).zip(&vcpus) {
            let _said = save(&mut out, kind, id, &vcpu.state, true, &terms()).unwrap();
        }
    }
    out.end().unwrap()
}

/// What `xl create` gives the first vCPU of a PVH domain.
pub(crate) fn first_record() -> HvmHwCpu {
    HvmHwCpu {
        cs_arbytes: 0xc9b,
        ds_arbytes: 0xc93,
        es_arbytes: 0xc93,
        ss_arbytes: 0xc93,
        tr_arbytes: 0x8b,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        es_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: 0x67,
        cr0: 0x11,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        rbx: 0x10_0000,
        rip: 0x100_0000,
        ..HvmHwCpu::new_zeroed()
    }
}

fn record<'a>(kind: u16, body: &'a [u8]) -> Record<'a> {
    Record {
        kind,
        instance: 0,
        body,
    }
}

fn load_cpu(made: &mut Made, cpu: &HvmHwCpu) -> Result<Loaded, Refused> {
    let record = record(abi::HVM_SAVE_CODE_CPU, cpu.as_bytes());
    let loaded = load(&mut made.state, &record, &terms());
    made.check_entry();
    loaded
}

#[test]
fn the_toolstacks_first_registers_are_taken() {
    let mut made = Made::new(0);
    assert_eq!(load_cpu(&mut made, &first_record()), Ok(Loaded::Registers));
    let state = &made.state;
    assert_eq!((state.regs.rip, state.regs.rbx), (0x100_0000, 0x10_0000));
    assert_eq!((state.regs.rflags, state.waits_for_start), (2, false));
    let code = state.processor.segment(SegmentName::Cs);
    assert_eq!((code.attributes, code.limit), (0xc9b, u32::MAX));
    assert_eq!(state.processor.read(Register::Cr0), 0x11);
    assert_eq!(state.fpu[0].0[..2], [0x7f, 3], "the FPU of a reset");
    // Its TSC begins at zero.
    let told = describe_cpu(state, &terms());
    assert_eq!((told.tsc, told.flags), (0, 1));
    let later = Terms {
        now: NOW + 1_000_000,
        ..terms()
    };
    assert_eq!(describe_cpu(state, &later).tsc, 2_600_000);
}

#[test]
fn a_stream_is_laid_out_as_tools_look_for_it() {
    let bytes = stream();
    assert!(bytes.len() <= FRAME + 2 * max_len(&terms()));
    let parsed = Stream::new(&bytes).unwrap();
    assert_eq!(parsed.header().gtsc_khz, 2_600_000);
    let found: Vec<_> = parsed
        .records()
        .map(|r| (r.kind, r.instance, r.body.len()))
        .collect();
    let image = policies()
        .get(Which::Host)
        .image_size(terms().components.guest_mask()) as usize;
    let each = [
        (2, 1032),
        (5, 24),
        (6, 1024),
        (14, 240),
        (16, 24 + image),
        (18, 32),
        (19, 8),
    ];
    let expected: Vec<_> = each
        .iter()
        .flat_map(|(kind, len)| [(*kind, 0, *len), (*kind, 1, *len)])
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn one_that_is_down_has_no_registers() {
    let made = Made::new(1);
    let mut out = Writer::default();
    let said = save(
        &mut out,
        abi::HVM_SAVE_CODE_CPU,
        1,
        &made.state,
        false,
        &terms(),
    );
    assert_eq!(said, Ok(Saved::Nothing));
    assert_eq!(out.bodies(), None);
    let said = save(
        &mut out,
        abi::HVM_SAVE_CODE_PIT,
        1,
        &made.state,
        true,
        &terms(),
    );
    assert_eq!(said, Err(Errno::EINVAL));
}

#[test]
fn a_stream_that_stops_or_begins_otherwise_is_refused() {
    let bytes = stream();
    for length in 0..bytes.len() {
        let refused = Stream::new(&bytes[..length]).unwrap_err();
        assert_eq!(refused.0, Errno::ENODATA, "{length}");
    }
    let with = |at: usize, value: u8| {
        let mut damaged = bytes.clone();
        damaged[at] = value;
        Stream::new(&damaged).map(drop).unwrap_err().0
    };
    // Another first record, magic, version; a body beyond the end.
    assert_eq!(with(0, 2), Errno::EINVAL);
    assert_eq!(with(8, 0), Errno::EINVAL);
    assert_eq!(with(12, 2), Errno::EINVAL);
    assert_eq!(with(4, 23), Errno::EINVAL);
    assert_eq!(with(7, 0xff), Errno::ENODATA);
    // What follows the end is nobody's.
    let mut longer = bytes.clone();
    longer.extend([0xff; 5]);
    let (before, after) = (Stream::new(&bytes).unwrap(), Stream::new(&longer).unwrap());
    assert!(before.records().eq(after.records()));
}

#[test]
fn registers_that_cannot_be_are_refused() {
    type Change = fn(&mut HvmHwCpu);
    let wrong: [Change; 38] = [
        |c| c.cr0 = 1 << 32 | 0x11,
        |c| c.cr0 = 1 << 31,
        |c| c.cr0 = 1 << 29 | 0x11,
        |c| c.cr4 = 1 << 13,
        |c| c.cr4 = 1 << 63,
        |c| c.cr4 = 1 << 17,
        |c| c.cr3 = 1 << 52,
        |c| c.msr_efer = 1 << 12,
        |c| c.msr_efer = 1 << 10,
        |c| (c.msr_efer, c.cr0) = (0x500, 0x8000_0011),
        |c| c.rflags = 1 << 63,
        |c| c.rflags = 1 << 3,
        |c| (c.rflags, c.cr0) = (1 << 17, 0x10),
        |c| c.dr6 = 1 << 32,
        |c| c.dr7 = 1 << 33 | 0x400,
        |c| c.dr7 = 1 << 15 | 0x400,
        |c| c.cs_sel = 1 << 16,
        |c| c.cs_arbytes = 0x1_0c9b,
        |c| c.cs_arbytes = 0x1c9b,
        |c| c.cs_base = 1 << 32,
        |c| c.fs_base = 1 << 48,
        |c| c.gdtr_base = 1 << 47,
        |c| c.idtr_limit = 0x1_0000,
        |c| c.tr_arbytes = 0x9b,
        |c| c.rip = 1 << 32,
        |c| c.msr_lstar = 1 << 48,
        |c| c.msr_syscall_mask = 1 << 32,
        |c| c.sysenter_cs = 1 << 32,
        |c| c.msr_tsc_aux = 1 << 32,
        |c| c.flags = 2,
        |c| (c.flags, c.fpu_regs[27]) = (1, 1),
        |c| c.pending_event = 1 << 31 | 1 << 8,
        |c| c.pending_event = 1 << 31 | 3 << 8 | 32,
        |c| c.pending_event = 1 << 31 | 1 << 12,
        // An interrupt while they are off; code of a level that is not that of the stack; system segments of the
        // local table.
        |c| c.pending_event = 1 << 31 | 0x30,
        |c| c.cs_arbytes = 0xcfb,
        |c| c.tr_sel = 0x2c,
        |c| (c.ldtr_sel, c.ldtr_arbytes) = (0x2c, 0x82),
    ];
    for (n, change) in wrong.iter().enumerate() {
        let mut made = Made::new(0);
        let before = made.told();
        let mut cpu = first_record();
        change(&mut cpu);
        let refused = load_cpu(&mut made, &cpu).unwrap_err();
        assert_eq!(refused.0, Errno::EINVAL, "{n}");
        assert_eq!(made.told(), before, "{n}: {}", refused.1);
    }
    // Not so where the mode has a single level.
    let mut cpu = first_record();
    (cpu.cr0, cpu.ss_arbytes) = (0x10, 0xcf3);
    assert!(load_cpu(&mut Made::new(0), &cpu).is_err());
}

#[test]
fn long_mode_needs_all_of_its_parts() {
    let mut cpu = first_record();
    (cpu.cr0, cpu.cr3, cpu.cr4, cpu.msr_efer) = (0x8000_0011, 0x5000, 0x20, 0xd01);
    (cpu.cs_arbytes, cpu.rip) = (0xa9b, 0xffff_ffff_8100_0000);
    let _runs = load_cpu(&mut Made::new(0), &cpu).unwrap();
    let with = |change: fn(&mut HvmHwCpu)| {
        let mut cpu = cpu;
        change(&mut cpu);
        load_cpu(&mut Made::new(0), &cpu).map(drop)
    };
    assert!(with(|c| c.cs_arbytes = 0xe9b).is_err(), "of 64 and 32 bits");
    assert!(with(|c| c.rip = 1 << 50).is_err(), "not canonical");
    assert!(with(|c| c.cr4 = 0).is_err(), "no PAE");
    assert!(with(|c| c.msr_efer = 0x901).is_err(), "LMA is not set");
    assert!(with(|c| c.rflags = 1 << 17).is_err(), "virtual 8086 mode");
    assert!(
        with(|c| c.cr4 = 0x2_0020).is_ok()
            == terms().policy.has(crate::cpuid::features::Feature::PCID)
    );
}

#[test]
fn what_waits_to_be_delivered_comes_along() {
    for event in [
        Event::interrupt(0xf3),
        Event::exception(14, Some(7)),
        Event::exception(6, None),
        Event::nmi(),
        Event {
            kind: EventKind::SoftwareInterrupt,
            vector: 0x80,
            error: None,
        },
    ] {
        let mut made = Made::new(0);
        made.state.regs.rflags |= rflags::IF;
        made.state.processor.inject(event);
        let cpu = describe_cpu(&made.state, &terms());
        let mut other = Made::new(0);
        let _runs = load_cpu(&mut other, &cpu).unwrap();
        assert_eq!(other.state.processor.injected(), Some(event));
    }
    let mut made = Made::new(0);
    made.state.nmi_pending = true;
    let cpu = describe_cpu(&made.state, &terms());
    assert_eq!(cpu.pending_event, 1 << 31 | 2 << 8 | 2);
}

#[test]
fn other_records_are_checked() {
    let mut made = Made::new(0);
    let mut with = |kind, body: &[u8]| {
        let loaded = load(&mut made.state, &record(kind, body), &terms());
        loaded.map_err(|(errno, _)| errno)
    };
    let mut caps = HvmVmceVcpu {
        caps: 9,
        ..HvmVmceVcpu::default()
    };
    let kind = abi::HVM_SAVE_CODE_VMCE_VCPU;
    assert_eq!(with(kind, caps.as_bytes()), Ok(Loaded::Nothing));
    caps.caps |= 1 << 27;
    assert_eq!(with(kind, caps.as_bytes()), Err(Errno::EPERM));
    let kind = abi::HVM_SAVE_CODE_TSC_ADJUST;
    assert_eq!(with(kind, &[1; 8]), Ok(Loaded::Nothing));
    assert_eq!(with(kind, &[1; 9]), Err(Errno::EINVAL));
    let kind = abi::HVM_SAVE_CODE_MTRR;
    assert_eq!(with(kind, &[0xff; 240]), Err(Errno::EINVAL));
    for kind in [
        abi::HVM_SAVE_CODE_PIC,
        abi::HVM_SAVE_CODE_HEADER,
        21,
        u16::MAX,
    ] {
        assert_eq!(with(kind, &[0; 24]), Err(Errno::EINVAL));
    }
    let kind = abi::CPU_MSR_CODE;
    assert_eq!(with(kind, &[0; 8]), Ok(Loaded::Nothing));
    assert_eq!(with(kind, &[0xff; 8]), Err(Errno::EINVAL));
    let one = HvmOneMsr {
        index: 0x48,
        _rsvd: 0,
        val: 1,
    };
    let list = [&[1, 0, 0, 0, 0, 0, 0, 0], one.as_bytes()].concat();
    assert_eq!(with(kind, &list), Err(Errno::EINVAL));
    assert_eq!(with(abi::CPU_XSAVE_CODE, &[0; 23]), Err(Errno::EINVAL));
    assert_eq!(made.state.msrs.tsc_adjust, u64::from_le_bytes([1; 8]));
}

fn arbitrary_segment(kinds: &'static [u16]) -> impl Strategy<Value = Segment> {
    let parts = (
        any::<u16>(),
        prop::sample::select(kinds),
        any::<u32>(),
        any::<u32>(),
    );
    parts.prop_map(|(selector, attributes, limit, base)| Segment {
        selector,
        attributes,
        limit,
        base: base.into(),
    })
}

/// What becomes of a stream, each record for its vCPU.
pub(crate) fn load_all(vcpus: &mut [Made], bytes: &[u8]) -> Result<u32, Refused> {
    let mut count = 0;
    for record in Stream::new(bytes)?.records() {
        let Some(vcpu) = vcpus.get_mut(usize::from(record.instance)) else {
            return wrong("no such vCPU");
        };
        let loaded = load(&mut vcpu.state, &record, &terms());
        vcpu.check_entry();
        let _what = loaded?;
        count += 1;
    }
    Ok(count)
}

proptest! {
    /// What a vCPU is comes back as it was.
    #[test]
    fn a_state_is_carried(
        data in arbitrary_segment(&[0xc93, 0x93, 0xcf3, 0]),
        code in arbitrary_segment(&[0xc9b, 0x9b, 0xc9f]),
        values: [u64; 16],
        flags in 0..1u64 << 16,
        debug: [u64; 4],
        tsc: u64,
        aux: u32,
    ) {
        let mut made = Made::new(0);
        let _runs = load_cpu(&mut made, &first_record()).unwrap();
        let state = &mut *made.state;
        for name in [SegmentName::Ds, SegmentName::Es, SegmentName::Fs, SegmentName::Gs] {
            state.processor.set_segment(name, data);
        }
        state.processor.set_segment(SegmentName::Cs, code);
        let r = &mut state.regs;
        [r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, ..] = values;
        let [.., r8, r9, r10, r11, r12, r13, r14, r15] = values;
        (r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15) =
            (r8, r9, r10, r11, r12, r13, r14, r15);
        r.rflags = flags & 0x7fd5 | 2;
        state.debug = debug;
        state.msrs.tsc_aux = aux;
        state.processor.write(Register::TscOffset, tsc);
        state.processor.write(Register::KernelGsBase, values[3] & 0x7fff_ffff_ffff);
        state.processor.write(Register::Star, values[4]);
        state.fpu[1].0[0] = aux as u8;
        state.fpu[9].0[1] = 7;
        state.fpu[8].0[0] = 7;
        let before = made.told();
        let mut other = Made::new(0);
        let mut bytes = Writer::default();
        bytes.begin(0, 0).unwrap();
        let bytes = [bytes.end().unwrap(), before.clone()].concat();
        // The end of the empty stream goes.
        let bytes = [&bytes[..FRAME - 8], &bytes[FRAME..]].concat();
        prop_assert_eq!(load_all(core::slice::from_mut(&mut other), &bytes), Ok(7));
        prop_assert_eq!(other.told(), before);
    }

    /// Damaged records: no panic, and what they leave behind can be entered.
    #[test]
    fn whatever_is_loaded_can_be_entered(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut bytes = stream();
        for (at, value) in damage {
            *at.get_mut(&mut bytes) = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut vcpus = [Made::new(0), Made::new(1)];
        let _refused = load_all(&mut vcpus, &bytes);
        vcpus.iter().for_each(Made::check_entry);
    }

    /// Registers of rubbish.
    #[test]
    fn rubbish_is_refused_or_can_be_entered(
        words in prop::collection::vec(any::<u64>(), 64),
        cr0: u64, cr4: u64, efer: u64, event: u32, attributes: [u16; 8],
    ) {
        let mut cpu = first_record();
        for (to, from) in cpu.fpu_regs.chunks_mut(8).zip(&words) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        (cpu.cr0, cpu.cr4, cpu.msr_efer) = (cr0 & 0xe005_003f, cr4 & 0x37_ffff, efer & 0x5f01);
        [cpu.cs_arbytes, cpu.ss_arbytes, cpu.tr_arbytes, ..] = attributes.map(|a| u32::from(a & 0xfff));
        (cpu.pending_event, cpu.rflags) = (event, words[0] & 0x3f_ffff);
        (cpu.cr3, cpu.flags) = (words[1] >> 20, words[2] as u32 & 1);
        let _refused = load_cpu(&mut Made::new(0), &cpu);
    }
}
