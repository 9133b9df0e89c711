//! The fake machine.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::*;
use crate::base::Nanos;
use crate::pci::tests::Bus;

/// Inputs of each I/O APIC.
pub const PINS: usize = 24;
/// CPUs of the machine.
pub const CPUS: usize = 4;
/// Where the first I/O APIC is; the next follow at the distance of a page.
pub const BASE: PhysAddr = PhysAddr(0xfec0_0000);

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;

/// One input.
#[derive(Clone, Copy)]
struct Input {
    low: u32,
    high: u32,
    asserted: bool,
}

/// A local APIC: vectors requested and in service.
#[derive(Clone, Default)]
struct Local {
    requested: BTreeSet<u8>,
    in_service: BTreeSet<u8>,
}

struct Wires {
    inputs: Vec<Input>,
    locals: Vec<Local>,
    raised: Vec<(DomId, u32)>,
}

impl Wires {
    /// Sends what an input has to send.
    fn evaluate(&mut self, input: usize) {
        let Input {
            low,
            high,
            asserted,
        } = self.inputs[input];
        if low & LEVEL != 0 && asserted && low & (MASKED | REMOTE_IRR) == 0 {
            self.inputs[input].low |= REMOTE_IRR;
            self.send(low, high);
        }
    }

    fn send(&mut self, low: u32, high: u32) {
        assert_eq!(low >> 8 & 0xf, 0, "fixed delivery to a physical id");
        // APIC ids are twice the CPU's number.
        let cpu = (high >> 24) as usize / 2;
        self.locals[cpu].requested.insert(low as u8);
    }

    /// The end of the highest interrupt in service at a CPU.
    fn end(&mut self, cpu: usize) {
        let vector = self.locals[cpu].in_service.pop_last();
        let vector = vector.expect("an end without an interrupt in service");
        for input in 0..self.inputs.len() {
            let low = self.inputs[input].low;
            if low & LEVEL != 0 && low as u8 == vector {
                self.inputs[input].low &= !REMOTE_IRR;
                self.evaluate(input);
            }
        }
    }
}

/// The whole of it.
pub struct Machine {
    wires: Mutex<Wires>,
    cpu: AtomicU32,
    now: AtomicU64,
    /// Its devices.
    pub bus: &'static Bus,
    /// A CPU that stops; all ones for none.
    pub stopping: AtomicU32,
}

/// How the I/O APICs are set up.
pub struct Setup {
    /// GSI of input 0 of each.
    pub bases: &'static [u32],
    /// ISA interrupts wired in another way.
    pub overrides: Vec<Override>,
    /// What the firmware left in all entries.
    pub left: u32,
}

impl Default for Setup {
    fn default() -> Self {
        let level_high = |irq: u8| Override {
            source_irq: irq,
            gsi: u32::from(irq),
            polarity: Some(Polarity::High),
            trigger: Some(Trigger::Level),
        };
        let timer = Override {
            source_irq: 0,
            gsi: 2,
            polarity: None,
            trigger: None,
        };
        Self {
            bases: &[0],
            overrides: vec![timer, level_high(5), level_high(9)],
            left: 0x0001_0000,
        }
    }
}

impl Machine {
    pub fn start(setup: Setup) -> (&'static Self, Irqs) {
        let input = Input {
            low: setup.left,
            high: 0,
            asserted: false,
        };
        let machine: &'static Self = Box::leak(Box::new(Self {
            wires: Mutex::new(Wires {
                inputs: vec![input; PINS * setup.bases.len()],
                locals: vec![Local::default(); CPUS],
                raised: Vec::new(),
            }),
            cpu: AtomicU32::new(0),
            now: AtomicU64::new(0),
            bus: Bus::new(),
            stopping: AtomicU32::new(u32::MAX),
        }));
        let chips = setup.bases.iter().enumerate().map(|(i, base)| ChipPlace {
            id: i as u8,
            address: PhysAddr(BASE.0 + i as u64 * 0x1000),
            gsi_base: *base,
            regs: Box::new(Window {
                machine,
                first: i * PINS,
            }),
        });
        let irqs = Irqs::new(machine, chips.collect(), setup.overrides, machine.bus, 40).unwrap();
        (machine, irqs)
    }

    /// Drives a line; a rising edge interrupts when the entry says so.
    pub fn drive(&self, input: usize, asserted: bool) {
        let mut wires = self.wires.lock().unwrap();
        let rises = asserted && !wires.inputs[input].asserted;
        wires.inputs[input].asserted = asserted;
        let Input { low, high, .. } = wires.inputs[input];
        if rises && low & (LEVEL | MASKED) == 0 {
            wires.send(low, high);
        }
        wires.evaluate(input);
    }

    /// One short assertion.
    pub fn pulse(&self, input: usize) {
        self.drive(input, true);
        self.drive(input, false);
    }

    /// A CPU takes its highest interrupt and deals with it.
    pub fn take(&self, irqs: &Irqs, cpu: usize) -> Option<Arrival> {
        let vector = {
            let mut wires = self.wires.lock().unwrap();
            let local = &mut wires.locals[cpu];
            let vector = local.requested.pop_last()?;
            local.in_service.insert(vector);
            vector
        };
        self.cpu.store(cpu as u32, Ordering::Relaxed);
        let arrival = irqs.handle(vector);
        let wires = self.wires.lock().unwrap();
        assert!(
            wires.locals[cpu].in_service.is_empty(),
            "ended exactly once"
        );
        Some(arrival)
    }

    /// All CPUs take all that they have.
    pub fn take_all(&self, irqs: &Irqs) -> Vec<Arrival> {
        let one = || (0..CPUS).find_map(|cpu| self.take(irqs, cpu));
        std::iter::from_fn(one).take(1000).collect()
    }

    /// Sends a vector that no line has to a CPU.
    pub fn inject(&self, cpu: usize, vector: u8) {
        self.wires.lock().unwrap().locals[cpu]
            .requested
            .insert(vector);
    }

    /// What was raised since the last look.
    pub fn raised(&self) -> Vec<(DomId, u32)> {
        std::mem::take(&mut self.wires.lock().unwrap().raised)
    }

    pub fn is_open(&self, input: usize) -> bool {
        self.low(input) & MASKED == 0
    }

    pub fn is_asserted(&self, input: usize) -> bool {
        self.wires.lock().unwrap().inputs[input].asserted
    }

    pub fn low(&self, input: usize) -> u32 {
        self.wires.lock().unwrap().inputs[input].low
    }

    pub fn destination(&self, input: usize) -> u32 {
        self.wires.lock().unwrap().inputs[input].high >> 24
    }

    pub fn pass(&self, time: Nanos) {
        self.now.fetch_add(time, Ordering::Relaxed);
    }
}

impl IrqHost for Machine {
    fn end(&self, _vector: u8) {
        let cpu = self.cpu.load(Ordering::Relaxed) as usize;
        self.wires.lock().unwrap().end(cpu);
    }

    fn apic_id_of(&self, cpu: CpuId) -> Option<u32> {
        match cpu {
            _ if cpu == self.stopping.load(Ordering::Relaxed) => None,
            0..4 => Some(cpu * 2),
            // A CPU that an I/O APIC cannot name.
            4 => Some(0x1ff),
            5 => Some(0xff),
            _ => None,
        }
    }

    fn now(&self) -> Nanos {
        self.now.load(Ordering::Relaxed)
    }

    fn raise(&self, domain: DomId, pirq: u32) {
        self.wires.lock().unwrap().raised.push((domain, pirq));
    }
}

/// The registers of one I/O APIC.
struct Window {
    machine: &'static Machine,
    first: usize,
}

impl IoApicRegs for Window {
    fn read(&self, index: u32) -> u32 {
        match index {
            0 => 0x0300_0000,
            1 => 0x0017_0020,
            0x10..0x40 => {
                let wires = self.machine.wires.lock().unwrap();
                let input = wires.inputs[self.first + (index as usize - 0x10) / 2];
                if index.is_multiple_of(2) {
                    input.low
                } else {
                    input.high
                }
            }
            _ => panic!("read of register {index:#x}"),
        }
    }

    fn write(&self, index: u32, value: u32) {
        assert!((0x10..0x40).contains(&index), "write of {index:#x}");
        let mut wires = self.machine.wires.lock().unwrap();
        let at = self.first + (index as usize - 0x10) / 2;
        if index % 2 == 1 {
            wires.inputs[at].high = value;
            return;
        }
        let input = &mut wires.inputs[at];
        let kept = if value & LEVEL != 0 {
            input.low & REMOTE_IRR
        } else {
            0
        };
        input.low = value & !REMOTE_IRR | kept;
        wires.evaluate(at);
    }
}
