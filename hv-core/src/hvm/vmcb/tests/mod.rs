//! The VMCB by the manual's numbers, and the clean bits against a CPU that keeps what it may.

mod clean_bits;

use core::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::hvm::exit::Exit;
use crate::hvm::processor::{Event, EventKind, REGISTERS, Segment, attribute};

const MAPS: Maps = Maps {
    ports: PhysAddr(0x10_0000),
    msrs: PhysAddr(0x20_0000),
};

fn words() -> &'static Words {
    Box::leak(Box::new(
        [const { AtomicU64::new(0xdead_dead_dead_dead) }; 512],
    ))
}

fn with(features: Features) -> Vmcb {
    Vmcb::new(Mfn(0x1234), words(), MAPS, features)
}

fn vmcb() -> Vmcb {
    with(Features::NESTED_PAGING)
}

fn at(vmcb: &Vmcb, offset: usize) -> u64 {
    vmcb.page.get(offset)
}

fn at32(vmcb: &Vmcb, offset: usize) -> u32 {
    vmcb.page.get32(offset)
}

const SEGMENTS: [SegmentName; 10] = [
    SegmentName::Es,
    SegmentName::Cs,
    SegmentName::Ss,
    SegmentName::Ds,
    SegmentName::Fs,
    SegmentName::Gs,
    SegmentName::Ldtr,
    SegmentName::Tr,
    SegmentName::Gdtr,
    SegmentName::Idtr,
];

#[test]
fn a_new_guest_leaves_for_all_that_could_reach_further() {
    let v = vmcb();
    assert_eq!(at32(&v, 0x00), 0x0011_0011, "CR0 and CR4");
    assert_eq!(at32(&v, 0x04), 0xffff_ffff, "debug registers");
    assert_eq!(at32(&v, 0x08), 0x0006_0002, "#DB, #AC, #MC");
    // INTR, NMI, SMI, INIT; RDPMC; CPUID; INVD; HLT; INVLPGA, IOIO, MSR, task switch; shutdown.
    assert_eq!(at32(&v, 0x0c), 0xbd44_800f);
    // VMRUN to SKINIT; WBINVD, MONITOR, MWAIT; XSETBV, RDPRU.
    assert_eq!(at32(&v, 0x10), 0x0000_6e7f);
    assert_eq!(at32(&v, 0x14), 0x0000_001b);
    assert_eq!(at(&v, 0x40), 0x10_0000);
    assert_eq!(at(&v, 0x48), 0x20_0000);
    assert_eq!(at(&v, 0x60), 1 << 24, "V_INTR_MASKING");
    assert_eq!(at(&v, 0x90), 1, "nested paging");
    assert_eq!(at(&v, 0x668), 0x0606_0606_0606_0606, "write-back");
    assert_eq!(at(&v, 0xb8), 0, "nothing else is virtual");
}

#[test]
fn registers_after_a_reset() {
    let v = vmcb();
    assert_eq!(at(&v, 0x4d0), 1 << 12, "EFER.SVME alone");
    assert_eq!(v.read(Register::Efer), 0);
    assert_eq!(at(&v, 0x548), 1 << 6, "CR4.MCE alone");
    assert_eq!(v.read(Register::Cr4), 0);
    assert_eq!(v.read(Register::Cr0), 0x10);
    assert_eq!(v.read(Register::Rip), 0xfff0);
    assert_eq!(v.read(Register::Rflags), 2);
    assert_eq!(v.read(Register::Dr6), 0xffff_0ff0);
    assert_eq!(v.read(Register::Dr7), 0x400);
    assert_eq!(v.read(Register::Pat), 0x0007_0406_0007_0406);
    assert_eq!(v.cpl(), 0);
    let cs = v.segment(SegmentName::Cs);
    assert_eq!((cs.selector, cs.base), (0xf000, 0xffff_0000));
    assert_eq!(at(&v, 0x410), 0x0000_ffff_009b_f000);
    assert_eq!(at(&v, 0x490), 0x0000_ffff_008b_0000, "TR is busy");
    assert!(!v.injecting() && !v.interrupt_shadow() && !v.nmi_masked());
    assert_eq!(v.mfn(), Mfn(0x1234));
}

#[test]
fn what_is_in_force_is_not_all_that_the_guest_sees() {
    let mut v = vmcb();
    // PG, CD, NW, WP, PE.
    let cr0 = 1 << 31 | 1 << 30 | 1 << 29 | 1 << 16 | 1;
    v.write(Register::Cr0, cr0);
    assert_eq!(v.read(Register::Cr0), cr0);
    assert_eq!(at(&v, 0x558), 1 << 31 | 1 << 16 | 1, "caching stays on");
    v.write(Register::Cr4, 0x20);
    assert_eq!((v.read(Register::Cr4), at(&v, 0x548)), (0x20, 0x60));
    v.write(Register::Cr4, 0x60);
    assert_eq!((v.read(Register::Cr4), at(&v, 0x548)), (0x60, 0x60));
    v.write(Register::Pat, 0x0101);
    assert_eq!(v.read(Register::Pat), 0x0101);
    assert_eq!(at(&v, 0x668), 0x0606_0606_0606_0606);
}

#[test]
fn long_mode_is_active_when_it_is_on_with_paging() {
    let mut v = vmcb();
    let (lme, lma, svme, nxe, pg) = (1 << 8, 1 << 10, 1 << 12, 1 << 11, 1 << 31);
    v.write(Register::Efer, lma | nxe);
    assert_eq!((v.read(Register::Efer), at(&v, 0x4d0)), (nxe, nxe | svme));
    v.write(Register::Efer, lme);
    assert_eq!((v.read(Register::Efer), at(&v, 0x4d0)), (lme, lme | svme));
    v.write(Register::Cr0, pg | 1);
    assert_eq!(v.read(Register::Efer), lme | lma);
    assert_eq!(at(&v, 0x4d0), lme | lma | svme);
    v.write(Register::Cr0, 1);
    assert_eq!((v.read(Register::Efer), at(&v, 0x4d0)), (lme, lme | svme));
}

#[test]
fn ss_takes_the_privilege_level_with_it() {
    let mut v = vmcb();
    let user = Segment {
        selector: 0x2b,
        attributes: 0xcf3,
        limit: u32::MAX,
        base: 0,
    };
    v.set_segment(SegmentName::Ss, user);
    assert_eq!(v.cpl(), 3);
    assert_eq!(v.page.get(0x4c8) >> 24 & 0xff, 3);
    assert_eq!(v.segment(SegmentName::Ss), user);
    // After SYSCALL or SYSRET the attributes of SS are what they were.
    v.page.set(0x4c8, 0);
    assert_eq!(v.segment(SegmentName::Ss).dpl(), 0);
    v.set_segment(SegmentName::Ds, user);
    assert_eq!(v.cpl(), 0);
    assert!(user.is_big() && !user.is_long() && user.attributes & attribute::G != 0);
}

#[test]
fn the_window_is_a_virtual_interrupt_that_leaves() {
    let mut v = vmcb();
    v.set_task_priority(0xf);
    v.want_interrupt_window(true);
    assert_eq!(at(&v, 0x60), 1 << 24 | 1 << 20 | 0xf << 16 | 1 << 8 | 0xf);
    assert_eq!(at32(&v, 0x0c) & 1 << 4, 1 << 4);
    assert_eq!(v.task_priority(), 0xf);
    v.want_interrupt_window(false);
    assert_eq!(at(&v, 0x60), 1 << 24 | 0xf);
    assert_eq!(at32(&v, 0x0c) & 1 << 4, 0);
    v.set_task_priority(0x12);
    assert_eq!(v.task_priority(), 2);
}

#[test]
fn an_nmi_masks_others_until_iret() {
    let mut v = vmcb();
    v.inject(Event::nmi());
    assert_eq!(at(&v, 0xa8), 0x8000_0202);
    assert!(v.nmi_masked() && v.injecting());
    assert_eq!(at32(&v, 0x0c) >> 20 & 1, 1);
    v.set_nmi_masked(false);
    assert!(!v.nmi_masked());
    assert_eq!(at32(&v, 0x0c) >> 20 & 1, 0);
}

#[test]
fn events_by_the_manual() {
    let mut v = vmcb();
    v.inject(Event::interrupt(0xf3));
    assert_eq!(at(&v, 0xa8), 0x8000_00f3);
    v.inject(Event::exception(14, Some(6)));
    assert_eq!(at(&v, 0xa8), 0x0000_0006_8000_0b0e);
    v.inject(Event::exception(6, None));
    assert_eq!(at(&v, 0xa8), 0x8000_0306);
    v.inject(Event {
        kind: EventKind::SoftwareInterrupt,
        vector: 0x80,
        error: None,
    });
    assert_eq!(at(&v, 0xa8), 0x8000_0480);
    assert!(!v.nmi_masked());
}

#[test]
fn an_interrupted_delivery_is_told_unless_it_happens_again_by_itself() {
    let v = vmcb();
    let told = |raw: u64| {
        v.page.set(0x88, raw);
        v.interrupted_delivery()
    };
    assert_eq!(told(0x0000_00f3), None, "not valid");
    assert_eq!(told(0x8000_00f3), Some(Event::interrupt(0xf3)));
    assert_eq!(told(0x8000_0202), Some(Event::nmi()));
    let fault = Event::exception(13, Some(0x18));
    assert_eq!(told(0x0000_0018_8000_0b0d), Some(fault));
    assert_eq!(told(0x8000_0480), None, "INT n");
    assert_eq!(told(0x8000_0303), None, "INT3");
    assert_eq!(told(0x8000_0304), None, "INTO");
    assert_eq!(told(0x8000_0100), None, "no such kind");
}

#[test]
fn intercepts_come_and_go() {
    let mut v = with(Features::PAUSE_FILTER | Features::PAUSE_THRESHOLD);
    let before: Vec<u32> = (0..6).map(|i| at32(&v, 4 * i)).collect();
    assert_ne!(before[3] & 1 << 23, 0, "PAUSE is counted");
    assert_eq!(at32(&v, 0x3c), 3000 << 16 | 128);
    let bits = [
        (Intercept::Rdtsc, vec![(0x0c, 1 << 14), (0x10, 1 << 7)]),
        (Intercept::Pause, vec![(0x0c, 1 << 23)]),
        (Intercept::DebugRegisters, vec![(0x04, 0xffff_ffff)]),
        (Intercept::Cr3, vec![(0x00, 0x0008_0008)]),
        (Intercept::Breakpoint, vec![(0x08, 1 << 3)]),
        (Intercept::InvalidOpcode, vec![(0x08, 1 << 6)]),
    ];
    for (what, places) in &bits {
        for on in [true, false] {
            v.intercept(*what, on);
            for (offset, bit) in places {
                let expected = if on { *bit } else { 0 };
                assert_eq!(at32(&v, *offset) & bit, expected, "{what:?} {on}");
            }
        }
    }
    v.intercept(Intercept::Pause, true);
    v.intercept(Intercept::DebugRegisters, true);
    let after: Vec<u32> = (0..6).map(|i| at32(&v, 4 * i)).collect();
    assert_eq!(after, before);
}

#[test]
fn a_cpu_that_cannot_count_pauses_does_not_leave_for_each() {
    let mut v = vmcb();
    v.intercept(Intercept::Pause, true);
    assert_eq!(at32(&v, 0x0c) & 1 << 23, 0);
    assert_eq!(at32(&v, 0x3c), 0);
}

#[test]
fn exits_are_decoded_by_what_the_cpu_has() {
    let features = Features::DECODE_ASSISTS | Features::NEXT_RIP;
    let set = |v: &Vmcb| {
        v.page.set(0x70, 0x10);
        v.page.set(0x78, 1 << 63 | 2);
        v.page.set(0x578, 0x1000);
        v.page.set(0xc8, 0x1003);
    };
    let (cr, write) = (0, true);
    let v = with(features);
    set(&v);
    let gpr = Some(2);
    assert_eq!(v.exit(), Exit::CrAccess { cr, write, gpr });
    assert_eq!(v.instruction_length(), Some(3));
    let v = vmcb();
    set(&v);
    let gpr = None;
    assert_eq!(v.exit(), Exit::CrAccess { cr, write, gpr });
    assert_eq!(v.instruction_length(), None);
}

#[test]
fn the_bytes_of_an_instruction_come_with_a_nested_fault() {
    let set = |v: &Vmcb, code| {
        v.page.set(0x70, code);
        v.page
            .set(0xd0, u64::from_le_bytes([15, 1, 2, 3, 4, 5, 6, 7]));
        v.page
            .set(0xd8, u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]));
    };
    let mut bytes = [0; 15];
    let v = with(Features::DECODE_ASSISTS);
    set(&v, 0x400);
    assert_eq!(v.instruction_bytes(&mut bytes), 15);
    assert_eq!(bytes, core::array::from_fn(|i| i as u8 + 1));
    set(&v, 0x72);
    assert_eq!(v.instruction_bytes(&mut bytes), 0);
    let v = vmcb();
    set(&v, 0x400);
    assert_eq!(v.instruction_bytes(&mut bytes), 0);
}

#[test]
fn an_entry_that_was_refused_keeps_the_event_and_the_flush() {
    let mut v = with(Features::CLEAN);
    let asids = Asids::new(16);
    v.inject(Event::interrupt(0x30));
    v.prepare(&asids, 0);
    assert_eq!(at32(&v, 0x5c), 1);
    v.page.set(0x70, u64::MAX);
    v.left(&asids);
    assert!(v.injecting());
    v.prepare(&asids, 0);
    assert_eq!((at32(&v, 0x5c), at32(&v, 0xc0)), (1, 0));
    v.page.set(0x70, 0x60);
    v.left(&asids);
    assert!(!v.injecting());
    v.prepare(&asids, 0);
    assert_eq!((at32(&v, 0x5c), at32(&v, 0xc0)), (0, 0x7ff));
}

#[test]
fn what_changes_the_guests_mappings_changes_its_tag() {
    let asids = Asids::new(0x8000);
    let mut v = vmcb();
    let tag = |v: &mut Vmcb| {
        v.prepare(&asids, 0);
        v.page.set(0x70, 0x60);
        v.left(&asids);
        at32(v, 0x58)
    };
    let first = tag(&mut v);
    assert_eq!(tag(&mut v), first);
    // TS; a bit of CR4 that does not concern paging.
    v.write(Register::Cr0, 0x18);
    v.write(Register::Cr4, 0x600);
    v.write(Register::Cr2, 0x1234);
    assert_eq!(tag(&mut v), first);
    let changes: [fn(&mut Vmcb); 7] = [
        |v| v.write(Register::Cr3, 0x1000),
        |v| v.write(Register::Cr0, 0x8000_0011),
        |v| v.write(Register::Cr0, 0x8001_0011),
        |v| v.write(Register::Cr4, 0x20),
        |v| v.write(Register::Efer, 0x800),
        |v| v.set_nested_root(Mfn(7)),
        Vmcb::forget_translations,
    ];
    let mut last = first;
    for change in changes {
        change(&mut v);
        let new = tag(&mut v);
        assert_ne!(new, last);
        last = new;
    }
    assert_eq!(at(&v, 0xb0), 0x7000);
}

#[test]
fn only_a_guests_own_msrs_are_open() {
    let map: Vec<u64> = (0..maps::MSR_MAP_WORDS).map(maps::msr_map).collect();
    // By the manual: two bits for each, at byte 0, 0x800 and 0x1000.
    for (start, first) in [(0, 0u32), (0x800, 0xc000_0000), (0x1000, 0xc001_0000)] {
        for index in 0..0x2000u32 {
            let bit = start * 8 + index as usize * 2;
            let found = map[bit / 64] >> (bit % 64) & 3;
            let open = maps::OWN_MSRS.contains(&(first + index));
            assert_eq!(found, if open { 0 } else { 3 }, "{:#x}", first + index);
        }
    }
    assert!(map[768..].iter().all(|word| *word == !0));
    assert_eq!(map.iter().map(|w| w.count_zeros()).sum::<u32>(), 20);
    for msr in [0x2000, 0xbfff_ffff, 0xc000_2000, 0xc001_2000, u32::MAX] {
        assert_eq!(maps::msr_place(msr), None);
    }
    assert!((0..maps::PORT_MAP_WORDS).all(|word| maps::port_map(word) == !0));
}

#[test]
fn the_frame_and_the_page_share_four_registers() {
    let mut v = vmcb();
    let regs = GuestFrame {
        rip: 1,
        rsp: 2,
        rflags: 3,
        rax: 4,
        ..GuestFrame::default()
    };
    v.load_frame(&regs);
    let offsets = [0x578, 0x5d8, 0x570, 0x5f8, 0xc8];
    assert_eq!(offsets.map(|offset| at(&v, offset)), [1, 2, 3, 4, 1]);
    for (offset, value) in offsets.into_iter().zip(5..) {
        v.page.set(offset, value);
    }
    let mut regs = GuestFrame {
        rcx: 9,
        ..GuestFrame::default()
    };
    v.store_frame(&mut regs);
    assert_eq!(
        [regs.rip, regs.rsp, regs.rflags, regs.rax, regs.rcx],
        [5, 6, 7, 8, 9]
    );
}

fn segment() -> impl Strategy<Value = Segment> {
    (any::<u16>(), 0u16..0x1000, any::<u32>(), any::<u64>()).prop_map(
        |(selector, attributes, limit, base)| Segment {
            selector,
            attributes,
            limit,
            base,
        },
    )
}

proptest! {
    /// What is written is read, and nothing else changes with it.
    #[test]
    fn registers_do_not_touch_each_other(
        writes in prop::collection::vec((0..REGISTERS.len(), any::<u64>()), 1..60),
        segments in prop::collection::vec((0..SEGMENTS.len(), segment()), 1..20),
    ) {
        let mut v = vmcb();
        let mut model: Vec<u64> = REGISTERS.iter().map(|r| v.read(*r)).collect();
        let (cr0, efer) = (4, 8);
        for (which, value) in writes {
            model[which] = value;
            v.write(REGISTERS[which], value);
            let lma = model[efer] >> 8 & model[cr0] >> 31 & 1;
            model[efer] = model[efer] & !(1 << 10) | lma << 10;
            let found: Vec<u64> = REGISTERS.iter().map(|r| v.read(*r)).collect();
            prop_assert_eq!(&found, &model);
        }
        let mut named: Vec<Segment> = SEGMENTS.iter().map(|s| v.segment(*s)).collect();
        for (which, value) in segments {
            named[which] = value;
            v.set_segment(SEGMENTS[which], value);
            let found: Vec<Segment> = SEGMENTS.iter().map(|s| v.segment(*s)).collect();
            prop_assert_eq!(&found, &named);
            prop_assert_eq!(v.cpl(), named[2].dpl());
        }
        let found: Vec<u64> = REGISTERS.iter().map(|r| v.read(*r)).collect();
        prop_assert_eq!(&found, &model);
    }

    /// A page that another had before is no different.
    #[test]
    fn a_new_vmcb_is_made_of_any_page(garbage: u64) {
        let page = words();
        page.iter().for_each(|word| word.store(garbage, Ordering::Relaxed));
        let _ = Vmcb::new(Mfn(1), page, MAPS, Features::default());
        let fresh = vmcb();
        for (index, word) in page.iter().enumerate() {
            prop_assert_eq!(word.load(Ordering::Relaxed), at(&fresh, index * 8));
        }
    }
}
