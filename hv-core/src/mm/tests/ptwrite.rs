//! Emulated stores: their effect on entries, registers and flags.

use super::checker::check;
use super::machine::*;
use super::ptdecode::{Bank, RIP};
use crate::base::{GuestVa, Mfn};
use crate::mm::pins::*;
use crate::mm::ptwrite::{WriteFault, emulate_write};
use crate::mm::*;
use proptest::prelude::*;

/// Address at which the L1 table (frame 3) is mapped read-only.
const TABLE_VA: u64 = 0x7000;

/// Frames 0..4 are L4..L1 over each other; the L1 maps itself read-only and frame 4 writable.
fn live() -> Fake {
    let m = Fake::with_domain(8);
    for t in 0..3 {
        m.poke(t, 0, pte(t + 1, P | RW | US));
    }
    m.poke(3, 7, pte(3, P));
    m.poke(3, 1, pte(4, P | RW | US));
    assert_eq!(
        pin(&m, DOM, Mfn(0), Level::L4, &mut OwedPuts::new()),
        Ok(())
    );
    m
}

fn run(m: &Fake, regs: &mut Bank, va: u64, bytes: &[u8]) -> WriteFault {
    let mut owed = OwedPuts::new();
    let r = emulate_write(m, DOM, Mfn(0), GuestVa(va), bytes, regs, &mut owed);
    check(m, &[]);
    r
}

/// RDI points to entry 1 of the table.
fn bank() -> Bank {
    let mut b = Bank::default();
    b.gpr[7] = TABLE_VA + 8;
    b
}

const MAPPED: u64 = 4 << 12 | P | RW | US | Pte::GLOBAL;

#[test]
fn mov_changes_the_entry_with_all_checks() {
    let m = live();
    let mut regs = bank();
    regs.gpr[6] = pte(5, P | RW | US);
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &[0x48, 0x89, 0x37]),
        WriteFault::Done
    );
    assert_eq!(m.peek(3, 1), pte(5, P | RW | US) | Pte::GLOBAL);
    assert_eq!(regs.rip, RIP + 3);
    assert_eq!(m.f(5).type_state().page_type(), PageType::Writable);
    // A table mapped writable: the guest gets its own fault.
    regs.gpr[6] = pte(2, P | RW | US);
    let before = regs.clone();
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &[0x48, 0x89, 0x37]),
        WriteFault::NotHandled
    );
    assert_eq!(regs, before);
}

#[test]
fn xchg_returns_what_stood_there() {
    let m = live();
    let mut regs = bank();
    regs.gpr[0] = 0;
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &[0x48, 0x87, 0x07]),
        WriteFault::Done
    );
    assert_eq!((regs.gpr[0], m.peek(3, 1)), (MAPPED, 0));
    assert_eq!(m.f(4).type_state().count(), 0);
}

#[test]
fn locked_byte_and_makes_the_mapping_read_only() {
    let m = live();
    let mut regs = bank();
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &[0xf0, 0x80, 0x27, 0xfd]),
        WriteFault::Done
    );
    assert_eq!(m.peek(3, 1), MAPPED & !RW);
    assert_eq!((m.f(4).type_state().count(), m.f(4).references()), (0, 2));
}

#[test]
fn cmpxchg_stores_only_on_a_match() {
    let m = live();
    let code = [0xf0, 0x48, 0x0f, 0xb1, 0x37];
    let mut regs = bank();
    regs.gpr[0] = MAPPED ^ Pte::DIRTY;
    regs.gpr[6] = 0;
    assert_eq!(run(&m, &mut regs, TABLE_VA + 8, &code), WriteFault::Done);
    assert_eq!(
        (m.peek(3, 1), regs.gpr[0], regs.flags & 0x40),
        (MAPPED, MAPPED, 0)
    );
    assert_eq!(run(&m, &mut regs, TABLE_VA + 8, &code), WriteFault::Done);
    assert_eq!(
        (m.peek(3, 1), regs.gpr[0], regs.flags & 0x40),
        (0, MAPPED, 0x40)
    );
}

#[test]
fn bit_operations_report_the_old_bit() {
    let m = live();
    let mut regs = bank();
    let btr_accessed = [0xf0, 0x48, 0x0f, 0xba, 0x37, 5];
    m.poke(3, 1, MAPPED | Pte::ACCESSED);
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &btr_accessed),
        WriteFault::Done
    );
    assert_eq!((m.peek(3, 1), regs.flags & 1), (MAPPED, 1));
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &btr_accessed),
        WriteFault::Done
    );
    assert_eq!(regs.flags & 1, 0);
}

#[test]
fn half_an_entry_can_be_written() {
    let m = live();
    let mut regs = bank();
    let clear_low_half = [0xc7, 0x07, 0, 0, 0, 0];
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &clear_low_half),
        WriteFault::Done
    );
    assert_eq!(m.peek(3, 1), 0);
    let set_high_half = [0xc7, 0x47, 4, 1, 0, 0, 0];
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 12, &set_high_half),
        WriteFault::Done
    );
    assert_eq!(m.peek(3, 1), 1 << 32);
}

#[test]
fn what_is_not_a_store_to_a_table_is_the_guests_fault() {
    let m = live();
    let mov = [0x48, 0x89, 0x37];
    let mut regs = bank();
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 16, &mov),
        WriteFault::NotHandled,
        "another address"
    );
    assert_eq!(
        run(&m, &mut regs, 0x1008, &mov),
        WriteFault::NotHandled,
        "a data page"
    );
    assert_eq!(
        run(&m, &mut regs, 0x9000, &mov),
        WriteFault::NotHandled,
        "nothing mapped"
    );
    regs.gpr[7] = TABLE_VA + 12;
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 12, &mov),
        WriteFault::NotHandled,
        "not aligned"
    );
    regs.gpr[7] = TABLE_VA + 8;
    assert_eq!(
        run(&m, &mut regs, TABLE_VA + 8, &[0xf3, 0x48, 0xab]),
        WriteFault::NotHandled,
        "repeated"
    );
    assert_eq!(regs, bank());
}

#[test]
fn stos_stores_once_and_moves_on() {
    let m = live();
    let mut regs = bank();
    regs.gpr[0] = pte(5, P | US);
    let code = [0x48, 0xab];
    assert_eq!(run(&m, &mut regs, TABLE_VA + 8, &code), WriteFault::Done);
    assert_eq!(m.peek(3, 1), pte(5, P | US) | Pte::GLOBAL);
    assert_eq!((regs.gpr[7], regs.rip), (TABLE_VA + 16, RIP + 2));
    // Four bytes, and down.
    regs.flags |= 1 << 10;
    regs.gpr[0] = 0;
    regs.gpr[7] = TABLE_VA + 12;
    assert_eq!(run(&m, &mut regs, TABLE_VA + 12, &[0xab]), WriteFault::Done);
    assert_eq!(regs.gpr[7], TABLE_VA + 8);
}

#[test]
fn tables_of_higher_levels_are_not_written_by_stores() {
    let m = live();
    m.poke(4, 0, 0);
    for table in 0..3 {
        let mut regs = bank();
        let own = update::Keep::Nothing;
        let mut held = None;
        let at = crate::base::PhysAddr(3 << 12 | 5 << 3);
        update::mmu_update(
            &m,
            &entries::Whose::own(DOM),
            &mut held,
            at,
            pte(table, P | US),
            own,
            &mut OwedPuts::new(),
        )
        .unwrap();
        update::end_batch(&m, &mut held, &mut OwedPuts::new()).unwrap();
        regs.gpr[7] = 0x5008;
        let done = run(&m, &mut regs, 0x5008, &[0x48, 0x89, 0x37]);
        assert_eq!(done, WriteFault::NotHandled, "L{}", 4 - table);
    }
}

/// Runs an instruction `op [rdi], rsi` (RAX for cmpxchg) on the host processor: (memory, rax, rsi, status flags).
#[cfg(target_arch = "x86_64")]
macro_rules! on_host {
    ($text:literal, $mem:expr, $rax:expr, $rsi:expr) => {{
        let mut mem: u64 = $mem;
        let (mut rax, mut rsi, flags): (u64, u64, u64) = ($rax, $rsi, 0);
        let mut flags = flags;
        // SAFETY: the instruction writes only `mem` and the registers named here; the flags are saved
        // through the stack, whose red zone is not used as `nostack` is not given.
        unsafe {
            core::arch::asm!(
                $text, "pushfq", "pop {f}",
                f = lateout(reg) flags, in("rdi") &mut mem, inout("rax") rax, inout("rsi") rsi,
            );
        }
        let _ = (&mut flags, &mut rax, &mut rsi);
        (mem, rax, rsi, flags & 0x8d5)
    }};
}

#[cfg(target_arch = "x86_64")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// On an entry that is not present all bits are the guest's, so the results must be the processor's own.
    #[test]
    fn results_and_flags_are_the_processors(mem in any::<u64>(), rax in any::<u64>(), rsi in any::<u64>(), same in any::<bool>()) {
        let mem = mem & !1;
        let rsi = rsi & !1;
        let rax = if same { mem } else { rax };
        type Outcome = (u64, u64, u64, u64);
        // AF (0x10) is undefined after and, or, xor; all but CF after bit operations are unchanged here.
        let cases: [(&[u8], Outcome, u64); 12] = [
            (&[0x48, 0x01, 0x37], on_host!("add [rdi], rsi", mem, rax, rsi), 0x8d5),
            (&[0x66, 0x29, 0x37], on_host!("sub [rdi], si", mem, rax, rsi), 0x8d5),
            (&[0x48, 0x29, 0x37], on_host!("sub [rdi], rsi", mem, rax, rsi), 0x8d5),
            (&[0x21, 0x37], on_host!("and [rdi], esi", mem, rax, rsi), 0x8c5),
            (&[0x48, 0x09, 0x37], on_host!("or [rdi], rsi", mem, rax, rsi), 0x8c5),
            (&[0x40, 0x30, 0x37], on_host!("xor [rdi], sil", mem, rax, rsi), 0x8c5),
            (&[0xf0, 0x48, 0x0f, 0xb1, 0x37], on_host!("lock cmpxchg [rdi], rsi", mem, rax, rsi), 0x8d5),
            (&[0xf0, 0x0f, 0xb1, 0x37], on_host!("lock cmpxchg [rdi], esi", mem, rax, rsi), 0x8d5),
            (&[0x48, 0x87, 0x37], on_host!("xchg [rdi], rsi", mem, rax, rsi), 0),
            (&[0x66, 0x87, 0x37], on_host!("xchg [rdi], si", mem, rax, rsi), 0),
            (&[0x48, 0x0f, 0xba, 0x2f, 0x23], on_host!("bts qword ptr [rdi], 35", mem, rax, rsi), 1),
            (&[0x0f, 0xba, 0x3f, 0x07], on_host!("btc dword ptr [rdi], 7", mem, rax, rsi), 1),
        ];
        for (bytes, expected, flag_mask) in cases {
            let m = live();
            m.poke(3, 9, mem);
            let mut regs = bank();
            regs.gpr[7] = TABLE_VA + 72;
            regs.gpr[0] = rax;
            regs.gpr[6] = rsi;
            prop_assert_eq!(run(&m, &mut regs, TABLE_VA + 72, bytes), WriteFault::Done);
            let got = (m.peek(3, 9), regs.gpr[0], regs.gpr[6], regs.flags & flag_mask);
            let expected = (expected.0, expected.1, expected.2, expected.3 & flag_mask);
            prop_assert_eq!(got, expected, "{:02x?}", bytes);
        }
    }
}
