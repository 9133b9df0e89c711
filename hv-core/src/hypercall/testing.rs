//! A small hypervisor for tests of hypercall handlers: a machine of a few frames, dom0 and what
//! domains a test adds, guest memory as one flat range of addresses, a console that remembers.
//!
//! [`Fixture::call`] goes the way of a guest's call, through the table of calls.

mod host;

use super::tests::fuzz::heap::unlimited;
pub use super::tests::machine::{FRAMES, FakeMachine};
use core::sync::atomic::AtomicU64;
pub use host::FakeHost;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use xen_abi::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{AnyCtx, AnyState, Ctx, Host, Outcome, front};
use crate::base::{DomId, Mfn, PhysAddr, VcpuId};
use crate::boot::cmdline::Parsed;
use crate::console::{ConsoleSink, LogRing, ReadRequest, ReadResult};
use crate::cpuid::Policies;
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::domain::translated::{ADDRESS_BITS, DEFAULT_POOL};
use crate::domain::{
    Backing, BlockShape, Containers, CpuPlace, Diagnostics, Domain, DomainKind, EfiServices, Facts,
    Hypervisor, Identity, Limits, PirqLayer, Processor, Rights, RunFlags, Services, Translated,
};
use crate::events::PirqSharing;
use crate::hvm::lapic::{Facts as LapicFacts, Lapic};
use crate::hvm::state::HvmState;
use crate::hvm::svm_facts::Features;
use crate::hvm::vmcb::{Maps, Vmcb, Words};
use crate::irq::tests::machine as wires;
use crate::mm::p2m::Format;
use crate::pv::frame::GuestFrame;
use crate::pv::state::{PvState, StateBox};
use crate::sched::{Affinity, Layout, Pools, Scheduler};

/// CPUs of the machine; one core each.
pub const CPUS: u32 = 2;
/// Where the caller's memory begins.
pub const GUEST: u64 = 0x10_0000;
/// Its size in bytes.
pub const GUEST_SIZE: usize = 0x2_0000;
/// An address that nothing is mapped at.
pub const NOWHERE: u64 = 0xdead_0000;
/// vCPUs of each domain.
pub const VCPUS: u32 = 2;
/// Pages that a domain may have.
pub const MAX_PAGES: u64 = 64;

/// A console that keeps what is printed.
#[derive(Default)]
pub struct FakeConsole {
    pub control: Mutex<Vec<u8>>,
    pub lines: Mutex<Vec<String>>,
    pub keys: Mutex<Vec<u8>>,
    pub ring: Mutex<Option<LogRing<Vec<u8>>>>,
}

impl FakeConsole {
    /// Adds text to the log ring.
    pub fn log(&self, text: &[u8]) {
        let mut ring = self.ring.lock().unwrap();
        let ring = ring.get_or_insert_with(|| LogRing::try_on_heap(None).unwrap());
        ring.write(text);
    }
}

impl ConsoleSink for FakeConsole {
    fn control_write(&self, text: &[u8]) {
        unlimited(|| self.control.lock().unwrap().extend_from_slice(text));
    }

    fn host_line(&self, line: &str) {
        assert!(!line.contains('\n'));
        unlimited(|| self.lines.lock().unwrap().push(line.to_owned()));
    }

    fn read_input(&self, out: &mut [u8]) -> usize {
        let mut keys = self.keys.lock().unwrap();
        let count = keys.len().min(out.len());
        out[..count].copy_from_slice(&keys[..count]);
        keys.drain(..count);
        count
    }

    fn read_ring(&self, request: ReadRequest, out: &mut [u8]) -> ReadResult {
        unlimited(|| self.log(b""));
        let mut ring = self.ring.lock().unwrap();
        ring.as_mut().unwrap().read(request, out)
    }
}

struct FakeDiagnostics;

impl Diagnostics for FakeDiagnostics {
    fn registers(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "the registers")
    }

    fn interrupts(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "the interrupts")
    }

    fn crash(&self) {
        panic!("the crash that was asked for");
    }

    #[cfg(debug_assertions)]
    fn hang(&self) {
        panic!("the hang that was asked for");
    }
}

struct FakePirqs;

impl PirqLayer for FakePirqs {
    fn bind(&self, _: &Domain, pirq: u32, _: PirqSharing, _: VcpuId) -> Result<(), Errno> {
        if pirq == 9 { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn unbind(&self, _: &Domain, _: u32) {}
    fn route(&self, _: &Domain, _: u32, _: VcpuId) {}
}

/// The whole world of a test.
pub struct Fixture {
    pub hv: &'static Hypervisor,
    pub machine: &'static FakeMachine,
    pub console: &'static FakeConsole,
    pub host: FakeHost,
    /// Who makes the calls.
    pub caller: Arc<Domain>,
    pub state: StateBox,
    /// State of a caller that is translated.
    pub hvm: StateBox<HvmState>,
    pub regs: GuestFrame,
    /// Times that [`Fixture::call`] was restarted.
    pub restarts: u32,
}

impl Fixture {
    /// dom0 makes the calls.
    pub fn control() -> Self {
        Self::on_firmware(None)
    }

    /// The same on a machine with EFI.
    pub fn on_firmware(efi: Option<&'static dyn EfiServices>) -> Self {
        Self::on(FakeMachine::new(), efi, None)
    }

    /// dom0 makes the calls, on a machine whose CPUs run guests in containers.
    pub fn with_containers() -> Self {
        Self::on(FakeMachine::new(), None, Some(Self::containers(false)))
    }

    /// The same where nested tables have entries of 1 GiB, with 1 GiB of pages ([`FakeMachine::with_block`]).
    pub fn with_gib_pages() -> Self {
        Self::on(
            FakeMachine::with_block(),
            None,
            Some(Self::containers(true)),
        )
    }

    fn containers(gib_pages: bool) -> Containers {
        let maps = Maps {
            ports: PhysAddr(0x1000),
            msrs: PhysAddr(0x4000),
        };
        Containers {
            shape: BlockShape::Vmcb {
                maps,
                features: Features::NESTED_PAGING | Features::NEXT_RIP,
            },
            gib_pages,
            address_bits: 40,
        }
    }

    fn on(
        machine: &'static FakeMachine,
        efi: Option<&'static dyn EfiServices>,
        hvm: Option<Containers>,
    ) -> Self {
        let console: &'static FakeConsole = Box::leak(Box::default());
        let pools = scheduler();
        let backing = Backing {
            machine,
            sched: pools,
            pools,
            pirqs: &FakePirqs,
        };
        let (_, irqs) = wires::Machine::start(wires::Setup::default());
        let irqs = Box::leak(Box::new(irqs));
        let services = Services {
            efi,
            ..services(console)
        };
        let hv = Hypervisor::new(
            backing,
            services,
            irqs,
            identity(),
            Facts { hvm, ..facts() },
        );
        let hv: &'static Hypervisor = Box::leak(Box::new(hv));
        assert!(machine.hv.set(hv).is_ok());
        let host = FakeHost::new(machine);
        let caller = add_domain(hv, 0, Rights::Control);
        let state = PvState::at_reset(host.fpu_lines()).unwrap();
        let hvm = contained_state(host.fpu_lines());
        Self {
            hv,
            machine,
            console,
            host,
            caller,
            state,
            hvm,
            regs: GuestFrame::default(),
            restarts: 0,
        }
    }

    /// A domain without rights makes the calls: d1.
    pub fn guest() -> Self {
        let mut fixture = Self::control();
        fixture.caller = fixture.add(1);
        fixture
    }

    /// Adds a domain without rights.
    pub fn add(&self, id: DomId) -> Arc<Domain> {
        add_domain(self.hv, id, Rights::Guest)
    }

    /// Adds a domain without rights whose guest frames are translated.
    pub fn add_translated(&self, id: DomId) -> Arc<Domain> {
        let mut domain = new_domain(self.hv, id, DomainKind::Hvm, Rights::Guest);
        let map = Translated::new(id, self.machine, Format::Npt, ADDRESS_BITS, DEFAULT_POOL);
        let mut map = map.unwrap();
        if self.hv.facts.hvm.as_ref().is_some_and(|c| c.gib_pages) {
            map.allow_gib_pages();
        }
        domain.translated = Some(map);
        enter_domain(self.hv, domain)
    }

    /// Makes a hypercall, again and again while it is preempted.
    pub fn call(&mut self, number: u32, args: &[u64]) -> Result<u64, Errno> {
        let mut now = [0; 6];
        now[..args.len()].copy_from_slice(args);
        loop {
            match self.call_once(number, now)? {
                Outcome::Return(value) => return Ok(value),
                Outcome::Restart(again) => now = again,
                other => panic!("an outcome that this call cannot have: {other:?}"),
            }
            self.restarts += 1;
            assert!(self.restarts < 10_000, "a call that never ends");
        }
    }

    /// Makes a hypercall once.
    pub fn call_once(&mut self, number: u32, args: [u64; 6]) -> Result<Outcome, Errno> {
        self.with_any(|cx| front::dispatch(cx, number.into(), args))
    }

    /// Does something with what handlers work with.
    pub fn with<R>(&mut self, what: impl FnOnce(&mut Ctx<'_, FakeHost>) -> R) -> R {
        let caller = self.caller.clone();
        what(&mut Ctx {
            hv: self.hv,
            host: &self.host,
            domain: &caller,
            vcpu: &caller.vcpus()[0],
            state: &mut self.state,
            regs: &mut self.regs,
        })
    }

    /// The same for a caller of either kind.
    pub fn with_any<R>(&mut self, what: impl FnOnce(&mut AnyCtx<'_, FakeHost>) -> R) -> R {
        let caller = self.caller.clone();
        let state = match caller.kind {
            DomainKind::Pv64 => AnyState::Pv(&mut self.state),
            DomainKind::Hvm => AnyState::Hvm(&mut self.hvm),
        };
        what(&mut Ctx {
            hv: self.hv,
            host: &self.host,
            domain: &caller,
            vcpu: &caller.vcpus()[0],
            state,
            regs: &mut self.regs,
        })
    }

    /// Writes a value into the caller's memory.
    pub fn put<T: IntoBytes + Immutable + ?Sized>(&self, at: u64, value: &T) {
        self.host.copy_out(at, value.as_bytes()).unwrap();
    }

    /// Reads a value from the caller's memory.
    pub fn get<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        self.host.copy_in(value.as_mut_bytes(), at).unwrap();
        value
    }

    /// A zero-terminated text in the caller's memory.
    pub fn text(&self, at: u64) -> String {
        let bytes = (at..).map(|a| self.get::<u8>(a)).take_while(|b| *b != 0);
        String::from_utf8(bytes.collect()).unwrap()
    }
}

/// A vCPU in a container, of no domain.
fn contained_state(fpu_lines: usize) -> StateBox<HvmState> {
    let nowhere = Maps {
        ports: PhysAddr(0),
        msrs: PhysAddr(0),
    };
    let facts = LapicFacts {
        x2apic: true,
        tsc_deadline: false,
        physical_bits: 40,
    };
    let page: &Words = Box::leak(Box::new([const { AtomicU64::new(0) }; 512]));
    let block = Vmcb::new(Mfn(0), page, nowhere, Features::empty());
    HvmState::at_reset(block, Lapic::new(0, facts), fpu_lines).unwrap()
}

/// Those of the reference machine.
pub fn policies() -> &'static Policies {
    static POLICIES: OnceLock<Policies> = OnceLock::new();
    POLICIES.get_or_init(|| Policies::new(&reference_cpu(), &ALL_ON))
}

/// The parts of the binary that tools reach.
pub fn services(console: &'static FakeConsole) -> Services {
    Services {
        console,
        policies: policies(),
        diagnostics: &FakeDiagnostics,
        efi: None,
    }
}

fn scheduler() -> &'static Pools {
    let layout = Layout {
        max_cpus: 4,
        group_width: 4,
        max_units: 32,
    };
    let sched = Pools::new(layout).unwrap();
    for cpu in 0..CPUS {
        sched.add_cpu(cpu, 0).unwrap();
        assert_eq!(sched.schedule(cpu, 0).next, None, "the CPU idles");
    }
    Box::leak(Box::new(sched))
}

fn add_domain(hv: &'static Hypervisor, id: DomId, rights: Rights) -> Arc<Domain> {
    enter_domain(hv, new_domain(hv, id, DomainKind::Pv64, rights))
}

fn new_domain(hv: &'static Hypervisor, id: DomId, kind: DomainKind, rights: Rights) -> Domain {
    let limits = Limits {
        vcpus: VCPUS,
        max_pages: MAX_PAGES,
        max_port: 1023,
        pirqs: 16,
        grants: crate::grants::Limits::default(),
    };
    let domain = Domain::new(id, kind, rights, limits, hv.backing).unwrap();
    domain.create_vcpus(VCPUS).unwrap();
    domain
}

fn enter_domain(hv: &'static Hypervisor, domain: Domain) -> Arc<Domain> {
    let domain = Arc::new(domain);
    for vcpu in domain.vcpus() {
        hv.schedule_vcpu(&domain, vcpu, &Affinity::ANY).unwrap();
    }
    let first = &domain.vcpus()[0];
    first.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
    if domain.rights == Rights::Control {
        first.set_running(Some(0));
    }
    hv.add(domain.clone()).unwrap();
    domain
}

fn identity() -> Identity {
    Identity {
        major: 4,
        minor: 17,
        extra: ".test".into(),
        changeset: "abc".into(),
        compiler: "rustc".into(),
        compile_by: "somebody with a long name".into(),
        compile_domain: "here".into(),
        compile_date: "today".into(),
        command_line: "console=com1".into(),
        build_id: (0..20).collect(),
        params: Parsed::new("loglvl=info/all noreboot").options.in_effect(),
    }
}

fn facts() -> Facts {
    let place = |cpu| CpuPlace {
        apic_id: cpu * 2,
        acpi_id: cpu + 1,
        core: cpu,
        ..CpuPlace::default()
    };
    Facts {
        max_page: FRAMES as u64,
        total_pages: FRAMES as u64,
        tsc_khz: 2_600_000,
        processor: Processor {
            vendor: *b"AuthenticAMD",
            family: 15,
            model: 107,
            stepping: 1,
            address_bits: 40,
            // One more than is started.
            cpus: (0..=CPUS).map(place).collect(),
            ..Processor::default()
        },
        ..Facts::default()
    }
}
