//! A vCPU with 64 KiB of memory at one place, a page missing in it and one read-only.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use xen_abi::errno::Errno;

use crate::base::{DomId, VcpuId};
use crate::cpuid::guest::{GuestTsc, MachineFacts};
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{Policies, Policy};
use crate::domain::Rights;
use crate::hypercall::SegmentBase;
use crate::pv::frame::{GuestFrame, rflags};
use crate::pv::msr::MsrLog;
use crate::pv::ports::{PortBus, PortMap, SharedPorts, Width};
use crate::pv::privop::{CodeSegment, PrivEnv, PrivTables, Trap, Verdict, emulate};
use crate::pv::state::{PvState, StateBox};

/// Where the memory lies.
pub const BASE: u64 = 0xffff_8880_0000_0000;
const SIZE: u64 = 0x1_0000;
/// This page is missing.
pub const HOLE: u64 = BASE + 0x8000;
/// This one is read-only.
pub const READ_ONLY: u64 = BASE + 0xa000;
/// Code is put here.
pub const CODE: u64 = BASE + 0x1000;

pub struct World {
    pub tables: PrivTables,
    pub rights: Rights,
    pub ports: PortMap,
    pub memory: RefCell<Vec<u8>>,
    pub segment: Cell<CodeSegment>,
    pub bases: RefCell<BTreeMap<&'static str, u64>>,
    pub debug: RefCell<[u64; 8]>,
    pub cr2: Cell<u64>,
    pub xcr0: Cell<u64>,
    pub aux: Cell<u32>,
    pub barriers: Cell<u32>,
    pub port_log: RefCell<Vec<(char, u16, u16, u32)>>,
    /// Next value to be read from a port.
    pub port_value: Cell<u32>,
    pub host_msrs: BTreeMap<u32, u64>,
}

impl World {
    pub fn new(rights: Rights) -> Self {
        let machine = MachineFacts {
            version: 0x40011,
            tsc_khz: 2_600_000,
            address_bits: 32,
        };
        Self {
            tables: PrivTables {
                policies: Policies::new(&reference_cpu(), &ALL_ON),
                shared_ports: SharedPorts::new(),
                msr_log: MsrLog::new(),
                machine,
            },
            rights,
            ports: PortMap::new(rights),
            memory: RefCell::new(vec![0; SIZE as usize]),
            segment: Cell::new(CodeSegment::Long),
            bases: RefCell::default(),
            debug: RefCell::new([0; 8]),
            cr2: Cell::new(0xdead),
            xcr0: Cell::new(1),
            aux: Cell::new(0),
            barriers: Cell::new(0),
            port_log: RefCell::default(),
            port_value: Cell::new(0x0403_0201),
            host_msrs: BTreeMap::from([(0x8b, 0x0100_0065)]),
        }
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        let start = (at - BASE) as usize;
        self.memory.borrow_mut()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    pub fn get(&self, at: u64, count: usize) -> Vec<u8> {
        let start = (at - BASE) as usize;
        self.memory.borrow()[start..start + count].to_vec()
    }

    /// Runs one instruction at `CODE`.
    pub fn run(
        &self,
        regs: &mut GuestFrame,
        state: &mut PvState,
        code: &[u8],
        why: Trap,
    ) -> Verdict {
        self.put(CODE, code);
        regs.rip = CODE;
        emulate(self, regs, state, why)
    }

    pub fn ports_taken(&self) -> Vec<(char, u16, u16, u32)> {
        self.port_log.take()
    }
}

pub const GP: Trap = Trap::GeneralProtection { error: 0 };

pub fn vcpu() -> (GuestFrame, StateBox) {
    let mut state = PvState::at_reset(8).expect("memory");
    state.iopl = 1;
    (
        GuestFrame {
            cs: 0xe033,
            rflags: rflags::IF | rflags::FIXED,
            ..GuestFrame::default()
        },
        state,
    )
}

/// Whether a range can be accessed.
fn reachable(from: u64, count: usize, write: bool) -> bool {
    (0..count as u64).map(|i| from.wrapping_add(i)).all(|a| {
        (BASE..BASE + SIZE).contains(&a)
            && a & !0xfff != HOLE
            && !(write && a & !0xfff == READ_ONLY)
    })
}

fn base_name(which: SegmentBase) -> &'static str {
    match which {
        SegmentBase::Fs => "fs",
        SegmentBase::GsKernel => "gs",
        SegmentBase::GsUser => "other gs",
    }
}

impl PortBus for World {
    fn port_in(&self, port: u16, width: Width) -> u32 {
        self.port_log
            .borrow_mut()
            .push(('i', port, width.bytes(), 0));
        let value = self.port_value.get();
        self.port_value.set(value.wrapping_add(0x0101_0101));
        value & width.mask()
    }
    fn port_out(&self, port: u16, width: Width, value: u32) {
        self.port_log
            .borrow_mut()
            .push(('o', port, width.bytes(), value));
    }
}

impl PrivEnv for World {
    fn tables(&self) -> &PrivTables {
        &self.tables
    }
    fn domain_id(&self) -> DomId {
        0
    }
    fn vcpu_id(&self) -> VcpuId {
        0
    }
    fn rights(&self) -> Rights {
        self.rights
    }
    fn policy(&self) -> &Policy {
        self.tables
            .policies
            .of_domain(crate::domain::DomainKind::Pv64, self.rights)
    }
    fn ports(&self) -> &PortMap {
        &self.ports
    }
    fn guest_tsc(&self) -> Option<GuestTsc> {
        None
    }
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        // 32-bit code sees the same memory at its low addresses.
        let from = if self.segment.get() == CodeSegment::Flat32 {
            from + BASE
        } else {
            from
        };
        if !reachable(from, to.len(), false) {
            return Err(Errno::EFAULT);
        }
        to.copy_from_slice(&self.get(from, to.len()));
        Ok(())
    }
    fn copy_in_kernel(&self, _state: &PvState, to: &mut [u8], from: u64) -> Result<(), Errno> {
        if !reachable(from, to.len(), false) {
            return Err(Errno::EFAULT);
        }
        to.copy_from_slice(&self.get(from, to.len()));
        Ok(())
    }
    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        if !reachable(to, from.len(), true) {
            return Err(Errno::EFAULT);
        }
        self.put(to, from);
        Ok(())
    }
    fn code_segment(&self, _selector: u16) -> CodeSegment {
        self.segment.get()
    }
    fn read_base(&self, which: SegmentBase) -> u64 {
        self.bases
            .borrow()
            .get(base_name(which))
            .copied()
            .unwrap_or(0)
    }
    fn load_base(&self, which: SegmentBase, value: u64) {
        self.bases.borrow_mut().insert(base_name(which), value);
    }
    fn load_debug_set(&self, state: &PvState) {
        *self.debug.borrow_mut() = state.debug;
    }
    fn load_controls(&self, _state: &PvState) {}
    fn fault_address(&self) -> u64 {
        self.cr2.get()
    }
    fn set_fault_address(&self, address: u64) {
        self.cr2.set(address);
    }
    fn xcr0(&self) -> u64 {
        self.xcr0.get()
    }
    fn tsc_aux(&self) -> u32 {
        self.aux.get()
    }
    fn load_tsc_aux(&self, value: u32) {
        self.aux.set(value);
    }
    fn tsc(&self) -> u64 {
        0x1234_5678_9abc
    }
    fn read_host_msr(&self, index: u32) -> Option<u64> {
        self.host_msrs.get(&index).copied()
    }
    fn forget_branches(&self) {
        self.barriers.set(self.barriers.get() + 1);
    }
}
