//! d1, translated, with a vCPU that is loaded: flat code at [`CODE`], memory at the guest frames below [`PAGES`].

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use core::sync::atomic::{AtomicU64, Ordering};

use crate::base::{Gfn, Mfn, PAGE_SIZE, PhysAddr};
use crate::container::{Cell, Memory, Ready, Room, handle, prepare};
use crate::cpuid::msr::MsrLog;
use crate::cpuid::xen::{GuestTsc, MachineFacts};
use crate::domain::{Domain, Machine, Removed, RunFlags, Translated, Vcpu};
use crate::hvm::copies::GuestMemory;
use crate::hvm::exit::Exit;
use crate::hvm::lapic::{Facts, Lapic};
use crate::hvm::processor::{Event, Processor, Register, Segment, SegmentName};
use crate::hvm::state::HvmState;
use crate::hvm::svm_facts::Features;
use crate::hvm::vmcb::layout::{control, save};
use crate::hvm::vmcb::{Maps, Vmcb, Words};
use crate::hypercall::testing::{FakeHost, Fixture};
use crate::hypercall::{Ctx, Host};
use crate::time::{Clock, TscScale};

/// Where the guest's code is.
pub const CODE: u64 = 0x4000;
/// Guest frames with RAM behind them.
pub const PAGES: u64 = 12;
/// The guest's tables: its whole lower 4 GiB at the same addresses, for user mode too.
const TABLES: u64 = 0x1000;
/// Where the registers of the local APIC are.
pub const APIC: u64 = 0xfee0_0000;
/// RFLAGS.IF and TF.
pub const IF: u64 = 1 << 9;
pub const TF: u64 = 1 << 8;
/// The guest's frame with `vcpu_info` at its beginning.
const INFO: u64 = 9;

const FACTS: Facts = Facts {
    x2apic: true,
    tsc_deadline: true,
    physical_bits: 40,
};

/// What a CPU was given.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct GivenToCpu {
    pub xcr0: Option<u64>,
    pub tsc_aux: Option<u32>,
    pub masks: Option<[u32; 4]>,
    pub forgotten: u32,
}

thread_local! {
    static GIVEN: RefCell<GivenToCpu> = RefCell::default();
}

/// Ticks in a nanosecond.
pub const RATE: u64 = 2;

impl Room for FakeHost {
    fn machine_facts(&self) -> MachineFacts {
        MachineFacts {
            version: 0x4_0011,
            tsc_khz: 2_000_000,
            address_bits: 40,
        }
    }

    fn guest_tsc(&self, _: &Domain) -> Option<GuestTsc> {
        None
    }

    fn read_tsc(&self) -> u64 {
        self.machine.now() * RATE
    }

    fn load_xcr0(&self, value: u64) {
        GIVEN.with_borrow_mut(|given| given.xcr0 = Some(value));
    }

    fn load_tsc_aux(&self, value: u32) {
        GIVEN.with_borrow_mut(|given| given.tsc_aux = Some(value));
    }

    fn load_breakpoint_masks(&self, masks: &[u32; 4]) {
        GIVEN.with_borrow_mut(|given| given.masks = Some(*masks));
    }

    fn forget_branches(&self) {
        GIVEN.with_borrow_mut(|given| given.forgotten += 1);
    }

    fn read_machine_msr(&self, _: u32) -> Option<u64> {
        None
    }

    fn msr_log(&self) -> &MsrLog {
        static LOG: OnceLock<MsrLog> = OnceLock::new();
        LOG.get_or_init(MsrLog::new)
    }
}

pub struct World {
    pub f: Fixture,
    pub d: Arc<Domain>,
    /// The vCPU that is loaded.
    pub vcpu: usize,
    words: &'static Words,
}

impl World {
    /// vCPU 0 in 64-bit code, on a CPU that tells nothing of instructions.
    pub fn new() -> Self {
        Self::of(0, Features::NESTED_PAGING)
    }

    /// The same on a CPU that tells all.
    pub fn told() -> Self {
        Self::of(0, Features::NEXT_RIP | Features::DECODE_ASSISTS)
    }

    pub fn of(vcpu: usize, features: Features) -> Self {
        let mut f = Fixture::with_containers();
        let d = f.add_translated(1);
        f.caller = d.clone();
        let words: &'static Words = Box::leak(Box::new([const { AtomicU64::new(0) }; 512]));
        let maps = Maps {
            ports: PhysAddr(0),
            msrs: PhysAddr(0),
        };
        let block = Vmcb::new(Mfn(0), words, maps, features);
        let lapic = Lapic::new(vcpu as u32, FACTS);
        f.hvm = HvmState::at_reset(block, lapic, f.host.fpu_lines()).unwrap();
        GIVEN.take();
        let mut w = Self { f, d, vcpu, words };
        for gfn in 0..PAGES {
            let page = w.f.machine.page_of(1);
            w.map()
                .add_ram(Gfn(gfn), page, 0, &mut Removed::new())
                .unwrap();
        }
        w.load();
        w
    }

    fn load(&mut self) {
        let state = &mut self.f.hvm;
        state.waits_for_start = false;
        state.physical = (40, true);
        state.clock = Some(Clock {
            tsc: 0,
            ns: 0,
            scale: TscScale::from_khz(2_000_000).unwrap(),
        });
        for (id, vcpu) in self.d.vcpus().iter().enumerate() {
            let lapic = Lapic::new(id as u32, FACTS);
            vcpu.inbox.publish(lapic.address());
        }
        let vcpu = &self.d.vcpus()[self.vcpu];
        vcpu.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
        vcpu.set_running(Some(0));
        let info = self.map().lookup(Gfn(INFO)).unwrap().0;
        vcpu.set_info_place(info, 0);
        self.write(TABLES, &((TABLES + 0x1000) | 7).to_le_bytes());
        for gib in 0..4_u64 {
            let entry = gib << 30 | 0x87;
            self.write(TABLES + 0x1000 + 8 * gib, &entry.to_le_bytes());
        }
        self.long();
    }

    /// 64-bit code at CPL 0, paging on.
    pub fn long(&mut self) {
        self.mode(0x8001_0031, 0x20, 0x500, (0xa9b, 0xc93));
    }

    /// 32-bit code without paging.
    pub fn protected(&mut self) {
        self.mode(0x31, 0, 0, (0xc9b, 0xc93));
    }

    /// Real mode.
    pub fn real(&mut self) {
        self.mode(0x30, 0, 0, (0x9b, 0x93));
    }

    /// 64-bit code at CPL 3.
    pub fn user(&mut self) {
        self.mode(0x8001_0031, 0x20, 0x500, (0xafb, 0xcf3));
    }

    fn mode(&mut self, cr0: u64, cr4: u64, efer: u64, (code, data): (u16, u16)) {
        let processor = &mut self.f.hvm.processor;
        for (register, value) in [
            (Register::Cr3, TABLES),
            (Register::Cr4, cr4),
            (Register::Efer, efer),
            (Register::Cr0, cr0),
        ] {
            processor.write(register, value);
        }
        for (name, attributes) in [(SegmentName::Cs, code), (SegmentName::Ss, data)] {
            let segment = Segment {
                selector: 8,
                attributes,
                limit: u32::MAX,
                base: 0,
            };
            processor.set_segment(name, segment);
        }
        self.f.regs.rip = CODE;
        self.f.regs.rsp = 0x6000;
        self.f.regs.rflags = 2;
    }

    pub fn map(&self) -> &Translated {
        self.d.translated.as_ref().unwrap()
    }

    pub fn vcpu(&self) -> &Vcpu {
        &self.d.vcpus()[self.vcpu]
    }

    /// Writes the guest's memory.
    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        Memory(&self.d).write(gpa, bytes).unwrap();
    }

    pub fn read(&self, gpa: u64) -> u64 {
        let mut bytes = [0; 8];
        Memory(&self.d).read(gpa, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    pub fn cell<R>(&mut self, what: impl FnOnce(&mut Cell<'_, FakeHost>) -> R) -> R {
        let domain = self.d.clone();
        what(&mut Ctx {
            hv: self.f.hv,
            host: &self.f.host,
            domain: &domain,
            vcpu: &domain.vcpus()[self.vcpu],
            state: &mut self.f.hvm,
            regs: &mut self.f.regs,
        })
    }

    /// The guest leaves for this at an instruction of its code.
    pub fn exit_at(&mut self, code: &[u8], exit: Exit) {
        assert!(code.len() <= PAGE_SIZE);
        self.write(CODE, code);
        self.f.regs.rip = CODE;
        self.exit(exit);
    }

    pub fn exit(&mut self, exit: Exit) {
        self.cell(|cx| handle(cx, exit));
    }

    /// The guest leaves as the hardware says it: code, the two words of information, the length of the instruction.
    pub fn hardware(&mut self, code: u64, info: (u64, u64), length: u64) {
        self.set_word(control::EXIT_CODE, code);
        self.set_word(control::EXIT_INFO_1, info.0);
        self.set_word(control::EXIT_INFO_2, info.1);
        self.set_word(save::RIP, self.f.regs.rip);
        self.set_word(control::NEXT_RIP, self.f.regs.rip + length);
        let exit = self.f.hvm.processor.exit();
        self.exit(exit);
    }

    /// The guest was taking this event when it left.
    pub fn was_taking(&mut self, event: Option<Event>) {
        // In the control block both have the same form.
        let before = self.words[control::EVENT_INJECTION / 8].load(Ordering::Relaxed);
        let masked = self.f.hvm.processor.nmi_masked();
        if let Some(event) = event {
            self.f.hvm.processor.inject(event);
        }
        let raw = match event {
            Some(_) => self.words[control::EVENT_INJECTION / 8].load(Ordering::Relaxed),
            None => 0,
        };
        self.set_word(control::EXIT_INTERRUPT_INFO, raw);
        self.set_word(control::EVENT_INJECTION, before);
        self.f.hvm.processor.set_nmi_masked(masked);
    }

    fn set_word(&self, offset: usize, value: u64) {
        self.words[offset / 8].store(value, Ordering::Relaxed);
    }

    pub fn prepare(&mut self) -> Ready {
        self.cell(prepare)
    }

    /// What the next entry gives the guest; then the guest has it.
    pub fn enter(&mut self) -> Option<Event> {
        assert_eq!(self.prepare(), Ready::Enter);
        self.take_injected()
    }

    pub fn take_injected(&mut self) -> Option<Event> {
        let event = self.f.hvm.processor.injected();
        self.set_word(control::EVENT_INJECTION, 0);
        event
    }

    /// Whether the CPU is asked for an exit once the guest takes interrupts.
    pub fn wants_window(&self) -> bool {
        self.words[control::VIRTUAL_INTERRUPT / 8].load(Ordering::Relaxed) & 1 << 8 != 0
    }

    pub fn register(&self, which: Register) -> u64 {
        self.f.hvm.processor.read(which)
    }

    pub fn set_register(&mut self, which: Register, value: u64) {
        self.f.hvm.processor.write(which, value);
    }

    /// How far the instruction pointer is behind [`CODE`].
    pub fn passed(&self) -> u64 {
        self.f.regs.rip.wrapping_sub(CODE)
    }

    /// Why the domain is down.
    pub fn down(&self) -> Option<u32> {
        self.d.shutdown.lock().map(|reason| reason.0)
    }

    pub fn given(&self) -> GivenToCpu {
        GIVEN.with_borrow(Clone::clone)
    }

    /// The local APIC is enabled by software.
    pub fn enable_apic(&mut self) {
        self.apic_write(0xf0, 0x1ff);
    }

    /// MOV to a register of the local APIC.
    pub fn apic_write(&mut self, offset: u64, value: u32) {
        let (rax, rbx, rip) = (self.f.regs.rax, self.f.regs.rbx, self.f.regs.rip);
        self.f.regs.rax = value.into();
        self.f.regs.rbx = APIC + offset;
        // mov [rbx], eax
        self.exit_at(&[0x89, 0x03], fault(APIC + offset, true));
        assert_eq!(self.passed(), 2);
        (self.f.regs.rax, self.f.regs.rbx, self.f.regs.rip) = (rax, rbx, rip);
    }

    /// MOV from a register of the local APIC.
    pub fn apic_read(&mut self, offset: u64) -> u32 {
        let (rax, rbx, rip) = (self.f.regs.rax, self.f.regs.rbx, self.f.regs.rip);
        self.f.regs.rbx = APIC + offset;
        // mov eax, [rbx]
        self.exit_at(&[0x8b, 0x03], fault(APIC + offset, false));
        assert_eq!(self.passed(), 2);
        let value = self.f.regs.rax as u32;
        (self.f.regs.rax, self.f.regs.rbx, self.f.regs.rip) = (rax, rbx, rip);
        value
    }

    /// Something is pending for the vCPU, or nothing more is.
    pub fn set_pending(&self, pending: bool) {
        self.write(INFO << 12, &[pending.into()]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.f.machine.recycle();
        }
    }
}

/// A nested fault at an instruction's operand.
pub fn fault(address: u64, write: bool) -> Exit {
    Exit::NestedFault {
        address,
        write,
        fetch: false,
        present: false,
        in_walk: false,
    }
}
