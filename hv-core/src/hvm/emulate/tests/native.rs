//! The same instruction run by this processor and by the emulator, in the same state: registers, flags and memory are the
//! same afterwards.

use proptest::prelude::*;

use super::*;
use crate::base::alu::flag;
use crate::base::insn::MAX_LENGTH;
use crate::hvm::emulate::decode::{Op, decode};

/// Flags that user code can choose: the arithmetic ones and DF.
const FLAGS: u64 = flag::ARITHMETIC | rflags::DF;
/// Bytes of the buffer that operands lie in.
const BUFFER: usize = 0x2000;
/// Where the registers lie: not in the page of code, where stores would make the processor decode it again.
const REGISTERS: usize = 0x1000 + BUFFER;
const RSP: usize = 4;

unsafe extern "C" {
    fn mmap(at: *mut u8, length: usize, access: i32, flags: i32, file: i32, offset: i64)
    -> *mut u8;
    fn munmap(at: *mut u8, length: usize) -> i32;
}

/// A page that can be written and executed, a buffer, and a page for registers; all below 2 GiB.
struct Playground {
    at: *mut u8,
}

const LENGTH: usize = REGISTERS + 0x1000;

impl Playground {
    fn new() -> Self {
        // Read, write, execute; private, anonymous, below 2 GiB.
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { mmap(core::ptr::null_mut(), LENGTH, 7, 0x62, -1, 0) };
        assert_ne!(at as isize, -1, "no memory for code");
        Self { at }
    }

    fn buffer(&self) -> u64 {
        self.at as u64 + 0x1000
    }

    /// Runs one instruction with these registers, flags and contents of the buffer, and leaves in them what it left.
    fn run(&mut self, insn: &[u8], gpr: &mut [u64; 16], flags: &mut u64, buffer: &mut [u8]) {
        let code = program(insn);
        assert!(code.len() <= 0x1000 && buffer.len() == BUFFER);
        // SAFETY: the mapping has LENGTH bytes and is ours alone; registers lie at an aligned place behind the
        // buffer. The code saves what the calling convention wants kept, has no stack but ours while it
        // uses one, and touches only the mapping if the instruction does, which callers see to.
        unsafe {
            core::ptr::copy_nonoverlapping(code.as_ptr(), self.at, code.len());
            let slots = self.at.add(REGISTERS).cast::<u64>();
            core::ptr::copy_nonoverlapping(gpr.as_ptr(), slots, 16);
            slots.add(16).write(*flags);
            core::ptr::copy_nonoverlapping(buffer.as_ptr(), self.at.add(0x1000), BUFFER);
            let enter: extern "C" fn() = core::mem::transmute(self.at);
            enter();
            core::ptr::copy_nonoverlapping(slots, gpr.as_mut_ptr(), 16);
            *flags = slots.add(16).read();
            core::ptr::copy_nonoverlapping(self.at.add(0x1000), buffer.as_mut_ptr(), BUFFER);
        }
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, which nothing uses any more.
        unsafe { munmap(self.at, LENGTH) };
    }
}

/// Code that loads the registers from their slots (flags in slot 16), runs the instruction and stores them again.
fn program(insn: &[u8]) -> Vec<u8> {
    const STACK: usize = 17;
    let mut code = vec![
        0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x9c,
    ];
    /// An instruction whose operand is a slot, relative to its end.
    fn slot(code: &mut Vec<u8>, opcode: &[u8], field: usize, slot: usize) {
        code.extend(opcode);
        code.push(((field & 7) << 3 | 5) as u8);
        let end = code.len() + 4;
        code.extend(((REGISTERS + slot * 8 - end) as u32).to_le_bytes());
    }
    let rex = |reg: usize| 0x48 | (reg as u8 >> 3) << 2;
    slot(&mut code, &[0x48, 0x89], RSP, STACK);
    slot(&mut code, &[0xff], 6, 16);
    code.push(0x9d);
    for reg in 0..16 {
        slot(&mut code, &[rex(reg), 0x8b], reg, reg);
    }
    code.extend(insn);
    for reg in 0..16 {
        slot(&mut code, &[rex(reg), 0x89], reg, reg);
    }
    slot(&mut code, &[0x48, 0x8b], RSP, STACK);
    code.push(0x9c);
    slot(&mut code, &[0x8f], 0, 16);
    code.extend([
        0x9d, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3,
    ]);
    code
}

/// Flags that the architecture leaves undefined.
fn undefined(op: &Op) -> u64 {
    use crate::base::alu::Arith;
    match op {
        Op::Arith(Arith::And | Arith::Or | Arith::Xor, _)
        | Op::ArithLoad(Arith::And | Arith::Or | Arith::Xor, _)
        | Op::Test(_) => flag::AF,
        Op::Bit(..) | Op::BitString(..) => flag::OF | flag::SF | flag::AF | flag::PF,
        _ => 0,
    }
}

/// Bus over the buffer.
struct Buffer {
    at: u64,
    bytes: Vec<u8>,
}

impl GuestPhysical for Buffer {
    fn load(&self, _: u64) -> Option<u64> {
        None
    }
    fn compare_exchange(&self, _: u64, _: u64, _: u64) -> Option<bool> {
        None
    }
}

impl Bus for Buffer {
    fn read(&mut self, gpa: u64, width: Width) -> u64 {
        let from = (gpa - self.at) as usize;
        let mut value = [0; 8];
        let count = width.bytes() as usize;
        value[..count].copy_from_slice(&self.bytes[from..from + count]);
        u64::from_le_bytes(value)
    }

    fn write(&mut self, gpa: u64, width: Width, value: u64) {
        let from = (gpa - self.at) as usize;
        let count = width.bytes() as usize;
        self.bytes[from..from + count].copy_from_slice(&value.to_le_bytes()[..count]);
    }

    fn input(&mut self, _: u16, _: Width) -> u64 {
        unreachable!("a program has no ports")
    }

    fn output(&mut self, _: u16, _: Width, _: u64) {
        unreachable!("a program has no ports")
    }
}

#[derive(Clone, Debug)]
struct Case {
    prefixes: Vec<u8>,
    rex: Option<u8>,
    opcode: Vec<u8>,
    /// Middle field of ModRM; the operand is `[rdi]`, `[r15]` or `[rdi + disp8]`.
    field: u8,
    displacement: Option<i8>,
    immediate: [u8; 4],
    gpr: [u64; 16],
    flags: u64,
    /// Offset of the operand in the buffer.
    offset: u64,
    count: u64,
    fill: u64,
}

fn opcode() -> impl Strategy<Value = Vec<u8>> {
    let arithmetic = (0..8_u8, 0..4_u8).prop_map(|(op, form)| vec![op << 3 | form]);
    let one = vec![
        0x63, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0xf6,
        0xf7, 0xfe, 0xff,
    ];
    let two = vec![
        0xa3, 0xab, 0xb3, 0xbb, 0xba, 0xb0, 0xb1, 0xb6, 0xb7, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3,
    ];
    prop_oneof![
        3 => arithmetic,
        4 => prop::sample::select(one).prop_map(|b| vec![b]),
        4 => prop::sample::select(two).prop_map(|b| vec![0x0f, b]),
        1 => prop::sample::select(vec![0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad]).prop_map(|b| vec![b]),
    ]
}

/// Values among which carries, overflows and equal operands are common.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        any::<i8>().prop_map(|n| n as u64),
        (0..64_u32, -1..2_i64).prop_map(|(bit, n)| (1_u64 << bit).wrapping_add(n as u64)),
        prop::sample::select(vec![0, 0x8080_8080_8080_8080, 0x7f7f_7f7f_7f7f_7f7f, !0]),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let prefixes = prop_oneof![
        4 => Just(vec![]),
        2 => Just(vec![0x66]),
        1 => Just(vec![0xf0]),
        1 => Just(vec![0x66, 0xf0]),
        1 => Just(vec![0xf3]),
        1 => Just(vec![0x67]),
        1 => Just(vec![0x67, 0xf3]),
    ];
    let registers = prop::collection::vec(value(), 16);
    (
        (prefixes, prop::option::of(0x40..0x50_u8), opcode(), 0..8_u8),
        (
            prop::option::of(any::<i8>()),
            any::<[u8; 4]>(),
            registers,
            any::<u64>(),
        ),
        (0x800..0x1800_u64, 0..100_u64, value()),
    )
        .prop_map(
            |(
                (prefixes, rex, opcode, field),
                (displacement, immediate, gpr, flags),
                (offset, count, fill),
            )| Case {
                prefixes,
                rex,
                opcode,
                field,
                displacement,
                immediate,
                gpr: gpr.try_into().unwrap(),
                flags: flags & FLAGS | 2,
                offset,
                count,
                fill,
            },
        )
}

impl Case {
    /// The instruction, cut to its length; `None` if the emulator does not know it, or it faults.
    fn bytes(&self) -> Option<Vec<u8>> {
        let modrm = self.field << 3 | 7 | if self.displacement.is_some() { 0x40 } else { 0 };
        let mut bytes = [&self.prefixes[..], self.rex.as_slice(), &self.opcode].concat();
        if !is_string(&self.opcode) {
            bytes.push(modrm);
            bytes.extend(self.displacement.map(|d| d as u8));
        }
        bytes.extend(self.immediate);
        bytes.truncate(MAX_LENGTH);
        let insn = decode(&bytes, CodeSize::Bits64)
            .ok()
            .filter(|insn| !insn.bad_lock)?;
        bytes.truncate(insn.length.into());
        Some(bytes)
    }

    /// Registers with operands in the buffer.
    fn registers(&self, buffer: u64) -> [u64; 16] {
        let mut gpr = self.gpr;
        // A bus lock for an operand in two lines of the cache is so dear that Linux slows down who takes one.
        let locks = self.prefixes.contains(&0xf0) || matches!(self.opcode[0], 0x86 | 0x87);
        let at = buffer + if locks { self.offset & !7 } else { self.offset };
        let base = if self.rex.is_some_and(|rex| rex & 1 != 0) {
            15
        } else {
            7
        };
        gpr[base] = at.wrapping_sub(self.displacement.unwrap_or(0) as u64);
        if is_string(&self.opcode) {
            gpr[1] = self.count;
            gpr[6] = buffer + 0x1000;
            gpr[7] = at;
        } else if self.opcode[0] == 0x0f && matches!(self.opcode[1], 0xa3 | 0xab | 0xb3 | 0xbb) {
            // Offsets of bits that stay in the buffer: of any sign, and some bytes away.
            let reg = usize::from(self.field) | self.rex.map_or(0, |rex| usize::from(rex & 4) << 1);
            if reg != base {
                gpr[reg] = ((gpr[reg] as i64) % 0x3000) as u64;
                if self.rex.is_none_or(|rex| rex & 8 == 0) {
                    gpr[reg] = gpr[reg] & 0xffff_ffff | self.gpr[0] << 32;
                }
            }
        }
        gpr
    }
}

fn is_string(opcode: &[u8]) -> bool {
    matches!(opcode, [0xa4 | 0xa5 | 0xaa..=0xad])
}

/// Whether a bit string's register is the address at once: the bit lies anywhere.
fn leads_away(case: &Case) -> bool {
    let reg = case.field | case.rex.map_or(0, |rex| (rex & 4) << 1);
    let base = if case.rex.is_some_and(|rex| rex & 1 != 0) {
        15
    } else {
        7
    };
    case.opcode[0] == 0x0f && matches!(case.opcode[1], 0xa3 | 0xab | 0xb3 | 0xbb) && reg == base
}

fn compare(playground: &mut Playground, case: &Case) -> bool {
    let Some(bytes) = case.bytes().filter(|_| !leads_away(case)) else {
        return false;
    };
    let op = decode(&bytes, CodeSize::Bits64).unwrap().op;
    let at = playground.buffer();
    let mut buffer = case.fill.to_le_bytes().repeat(BUFFER / 8);
    let mut state = State {
        gpr: case.registers(at),
        rflags: case.flags,
        ..flat(CodeSize::Bits64)
    };
    let (mut gpr, mut flags) = (state.gpr, case.flags);
    let mut bus = Buffer {
        at,
        bytes: buffer.clone(),
    };
    loop {
        match run_over(&bytes, &mut state, &mut bus) {
            Outcome::Again => {}
            Outcome::Done { .. } => break,
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }
    playground.run(&bytes, &mut gpr, &mut flags, &mut buffer);
    let defined = FLAGS & !undefined(&op);
    assert_eq!(state.gpr, gpr, "{bytes:02x?} {op:?} {case:x?}");
    assert_eq!(
        state.rflags & defined,
        flags & defined,
        "{bytes:02x?} {op:?} {case:x?}"
    );
    assert_eq!(state.rip, 0x1000 + bytes.len() as u64);
    assert!(
        bus.bytes == buffer,
        "{bytes:02x?} {op:?}: memory differs, {case:x?}"
    );
    true
}

fn run_over(bytes: &[u8], state: &mut State, bus: &mut Buffer) -> Outcome {
    emulate(&InsnBytes::given(bytes), state, bus)
}

#[test]
fn the_processor_does_the_same() {
    use proptest::strategy::ValueTree;
    let mut playground = Playground::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = case();
    let mut ran = 0;
    for _ in 0..10_000 {
        let case = strategy.new_tree(&mut runner).unwrap().current();
        ran += u32::from(compare(&mut playground, &case));
    }
    assert!(ran > 4_000, "only {ran} of the cases are instructions");
}
