//! Guests that do anything at all.

use proptest::prelude::*;

use super::world::*;
use super::*;
use crate::hvm::exit::Exit;
use crate::hvm::processor::{Event, EventKind, Register};
use crate::hvm::svm_facts::Features;

/// Numbers out of a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A value that may mean something.
    fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => APIC + self.below(0x1000),
            1 => self.below(PAGES << 12),
            2 => self.below(0x100),
            3 => [
                0x10,
                0x1b,
                0x6e0,
                0x830,
                0xc000_0080,
                0xc000_0103,
                0x4000_0000,
            ][self.below(7) as usize],
            4 => 0x8000_0000 + self.below(0x1000),
            5 => self.next() | 0xffff_8000_0000_0000,
            6 => [0x8001_0031, 0x8000_0011, 0x31, 0x20, 0x4_0620, 0x500, 7][self.below(7) as usize],
            _ => self.next(),
        }
    }

    fn event(&mut self) -> Option<Event> {
        let (vector, error) = (self.next() as u8, self.next() as u32);
        Some(match self.below(12) {
            0 => Event::interrupt(vector),
            1 => Event::nmi(),
            2 => Event::exception(vector & 31, self.flag().then_some(error)),
            3 => Event {
                kind: EventKind::SoftwareInterrupt,
                ..Event::interrupt(vector)
            },
            _ => return None,
        })
    }

    /// Mostly one of the instructions that leave containers.
    fn code(&mut self) -> Vec<u8> {
        const KNOWN: [&[u8]; 16] = [
            &[0x0f, 0xa2],
            &[0xf4],
            &[0x0f, 0x30],
            &[0x0f, 0x32],
            &[0x0f, 0x01, 0xd1],
            &[0x0f, 0x01, 0xf0],
            &[0x0f, 0x01, 0xe0],
            &[0x0f, 0x06],
            &[0x0f, 0x22],
            &[0x0f, 0x20],
            &[0x0f, 0x23],
            &[0x0f, 0x21],
            &[0x89],
            &[0x8b],
            &[0xf3, 0xa5],
            &[0xf3, 0xab],
        ];
        let mut code: Vec<u8> = Vec::new();
        if self.below(4) == 0 {
            code.push([0x66, 0x67, 0xf0, 0xf3, 0x48, 0x44][self.below(6) as usize]);
        }
        if self.below(8) != 0 {
            code.extend(KNOWN[self.below(16) as usize]);
        }
        code.extend((0..8).map(|_| self.next() as u8));
        code
    }

    fn exit(&mut self) -> Exit {
        let (write, number) = (self.flag(), self.below(16) as u8);
        match self.below(23) {
            0 => Exit::Interrupt,
            1 => Exit::IretDone,
            2 => Exit::Cpuid,
            3 => Exit::Hlt,
            4 => Exit::Pause,
            5 => Exit::Rdtscp,
            6 => Exit::Wbinvd,
            7 => Exit::Invlpg { address: None },
            8 => Exit::Xsetbv,
            9 => Exit::Hypercall,
            10 | 11 => Exit::Msr { write },
            12 => Exit::Port {
                write,
                port: self.next() as u16,
                size: self.next() as u8,
                string: self.flag(),
                rep: self.flag(),
                next_rip: self.value(),
            },
            13 | 14 => Exit::CrAccess {
                cr: [0, 0, 4, 8, number][self.below(5) as usize],
                write,
                gpr: self.flag().then_some(self.next() as u8),
            },
            15 => Exit::DrAccess {
                dr: number,
                write,
                gpr: self.flag().then_some(self.next() as u8),
            },
            16..=18 => Exit::NestedFault {
                address: self.value(),
                write,
                fetch: self.below(8) == 0,
                present: self.flag(),
                in_walk: self.below(8) == 0,
            },
            19 => Exit::Exception {
                vector: number * 2 + 1,
                error: self.flag().then_some(0),
                address: 0,
            },
            20 => Exit::Forbidden,
            21 => Exit::NmiWindow,
            _ => Exit::InterruptWindow,
        }
    }
}

fn shuffle(w: &mut World, dice: &mut Dice) {
    match dice.below(6) {
        0 => w.protected(),
        1 => w.real(),
        2 => w.user(),
        3 => w.long(),
        // With whatever paging the guest's last writes left.
        _ => {}
    }
    for register in [
        &mut w.f.regs.rax,
        &mut w.f.regs.rbx,
        &mut w.f.regs.rcx,
        &mut w.f.regs.rdx,
        &mut w.f.regs.rsi,
        &mut w.f.regs.rdi,
        &mut w.f.regs.r11,
    ] {
        *register = dice.value();
    }
    w.f.regs.rflags = dice.below(1 << 18) | 2;
    if dice.below(8) == 0 {
        w.set_register(Register::Cr3, dice.value());
    }
    let table = dice.below(PAGES << 9) * 8;
    w.write(table, &dice.value().to_le_bytes());
}

/// Calls that need no more than the registers: others have fuzz tests of their own.
fn harmless_call(w: &mut World, dice: &mut Dice) {
    w.f.regs.rax = [17, 1 << 40, u64::MAX][dice.below(3) as usize];
    let command = dice.below(20);
    (w.f.regs.rdi, w.f.regs.rbx) = (command, command);
}

fn step(w: &mut World, dice: &mut Dice) {
    shuffle(w, dice);
    let event = dice.event();
    w.was_taking(event);
    match dice.below(6) {
        0 => w.vcpu().inbox.interrupt(dice.next() as u8, dice.flag()),
        1 => w.vcpu().inbox.nmi(),
        2 if dice.below(8) == 0 => w.vcpu().inbox.init(),
        3 => w.vcpu().inbox.start_up(dice.next() as u8),
        4 => w.vcpu().owe(dice.below(64) as u32),
        _ => {}
    }
    let exit = dice.exit();
    if exit == Exit::Hypercall {
        harmless_call(w, dice);
    }
    let code = dice.code();
    if dice.flag() {
        w.exit_at(&code, exit);
    } else {
        w.f.regs.rip = dice.value();
        w.exit(exit);
    }
}

proptest! {
    /// Whatever a guest does, it goes on, waits, or its domain is down for a reason.
    #[test]
    fn nothing_that_a_guest_does_is_more_than_its_own_end(seed: u64, told: bool, vcpu in 0..2_usize) {
        let features = if told {
            Features::NEXT_RIP | Features::DECODE_ASSISTS
        } else {
            Features::empty()
        };
        let mut w = World::of(vcpu, features);
        let mut dice = Dice(seed);
        for _ in 0..100 {
            step(&mut w, &mut dice);
            if let Some(reason) = w.down() {
                let known = [
                    xen_abi::sched::SHUTDOWN_poweroff,
                    xen_abi::sched::SHUTDOWN_reboot,
                    xen_abi::sched::SHUTDOWN_crash,
                ];
                prop_assert!(known.contains(&reason), "{reason}");
                prop_assert!(!w.d.runnable(w.vcpu()));
                break;
            }
            let ready = w.prepare();
            if ready == Ready::Look {
                prop_assert!(w.f.hvm.waits_for_start);
                prop_assert!(w.vcpu().flags() != 0 || !w.vcpu().inbox.is_empty());
            } else {
                prop_assert!(!w.f.hvm.waits_for_start);
            }
            w.vcpu().clear_flags(u32::MAX);
            let _taken = w.take_injected();
        }
    }
}
