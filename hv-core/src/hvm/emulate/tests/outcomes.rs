//! What comes of instructions, case by case.

use super::*;

const DONE: Outcome = Outcome::Done { trap: false };
const RCX: usize = 1;
const RDX: usize = 2;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

#[test]
fn a_store_and_a_load_reach_the_device() {
    let mut bus = Bytes::default();
    let mut state = flat(CodeSize::Bits64);
    state.gpr[RDI] = 0xfee0_00b0;
    state.gpr[0] = 0x1_2345_6789;
    // mov [rdi], eax
    assert_eq!(run(&[0x89, 0x07], &mut state, &mut bus), DONE);
    assert_eq!(bus.log, [(0xfee0_00b0, 4, true)]);
    assert_eq!(state.rip, 0x1002);
    // mov ecx, [rdi]
    state.gpr[RCX] = !0;
    assert_eq!(run(&[0x8b, 0x0f], &mut state, &mut bus), DONE);
    assert_eq!(state.gpr[RCX], 0x2345_6789);
}

#[test]
fn a_single_step_is_told_and_resume_ends() {
    let mut bus = Bytes::default();
    let mut state = flat(CodeSize::Bits32);
    state.rflags |= rflags::TF | rflags::RF;
    assert_eq!(
        run(&[0x89, 0x07], &mut state, &mut bus),
        Outcome::Done { trap: true }
    );
    assert_eq!(state.rflags, 2 | rflags::TF);
}

#[test]
fn segments_have_bases_outside_64_bit_code() {
    let mut bus = Bytes::default();
    let mut state = flat(CodeSize::Bits16);
    state.bases = [0x10, 0x20, 0x30000, 0x40000, 0x5_0000_0000, 0x60];
    state.gpr[RBP] = 0xffff_0010;
    state.rip = 0xfffe;
    // mov [bp+2], al
    assert_eq!(run(&[0x88, 0x46, 0x02], &mut state, &mut bus), DONE);
    assert_eq!(bus.log, [(0x30012, 1, true)]);
    assert_eq!(state.rip, 1, "wraps in 16 bits");
    // The same in 64-bit code has none.
    state.code = CodeSize::Bits64;
    state.gpr[RBP] = 0x10;
    assert_eq!(run(&[0x88, 0x45, 0x02], &mut state, &mut bus), DONE);
    assert_eq!(bus.log.last(), Some(&(0x12, 1, true)));
    // fs: mov [rbp], al; without paging an address has 32 bits
    assert_eq!(run(&[0x64, 0x88, 0x45, 0x00], &mut state, &mut bus), DONE);
    assert_eq!(bus.log.last(), Some(&(0x10, 1, true)));
}

#[test]
fn long_repetitions_come_back_with_progress() {
    let mut bus = Bytes::default();
    let mut state = flat(CodeSize::Bits64);
    state.gpr[RCX] = 100;
    state.gpr[RDI] = 0x8000;
    state.gpr[0] = 0xab;
    let at_once = u64::from(strings::AT_ONCE);
    // rep stosb
    assert_eq!(run(&[0xf3, 0xaa], &mut state, &mut bus), Outcome::Again);
    assert_eq!(
        (state.gpr[RCX], state.gpr[RDI]),
        (100 - at_once, 0x8000 + at_once)
    );
    assert_eq!(state.rip, 0x1000);
    assert_eq!(run(&[0xf3, 0xaa], &mut state, &mut bus), DONE);
    assert_eq!(
        (state.gpr[RCX], state.gpr[RDI], state.rip),
        (0, 0x8064, 0x1002)
    );
    assert_eq!(bus.log.len(), 100);
    // None left: nothing is done.
    assert_eq!(run(&[0xf3, 0xaa], &mut state, &mut bus), DONE);
    assert_eq!(bus.log.len(), 100);
}

#[test]
fn strings_go_to_and_come_from_ports() {
    let mut bus = Bytes::default();
    let mut state = flat(CodeSize::Bits64);
    state.gpr[RCX] = 2;
    state.gpr[RDX] = 0xabcd_03f8;
    state.gpr[RDI] = 0x8000;
    // rep insd; there are no ports of 64 bits
    assert_eq!(run(&[0xf3, 0x48, 0x6d], &mut state, &mut bus), DONE);
    assert_eq!(bus.ports, [(0x3f8, 4, None); 2]);
    assert_eq!(bus.get(0x8000, Width::Qword), 0x4433_2211_4433_2211);
    assert_eq!((state.gpr[RCX], state.gpr[RDI]), (0, 0x8008));
    bus.ports.clear();
    // outsw, downwards
    state.rflags |= rflags::DF;
    state.gpr[RSI] = 0x8001;
    assert_eq!(run(&[0x66, 0x6f], &mut state, &mut bus), DONE);
    assert_eq!(bus.ports, [(0x3f8, 2, Some(0x3322))]);
    assert_eq!(state.gpr[RSI], 0x7fff);
}

#[test]
fn what_cannot_be_stored_is_not_read_from_the_port() {
    let mut bus = Bytes::default();
    let mut state = paged(&mut bus, &[0x9000 | 0x61]);
    // insb into a page that is not to be written
    let fault = Exception::page_fault(3, 0x10);
    state.gpr[RDI] = 0x10;
    assert_eq!(run(&[0x6c], &mut state, &mut bus), Outcome::Fault(fault));
    assert_eq!((state.gpr[RDI], state.rip), (0x10, 0x1000));
    assert!(bus.ports.is_empty());
}

#[test]
fn a_fault_in_a_repetition_keeps_what_was_done() {
    let mut bus = Bytes::default();
    let mut state = paged(&mut bus, &[0x9000 | 0x63]);
    state.gpr[RCX] = 10;
    state.gpr[RDI] = 0xffd;
    let fault = Exception::page_fault(2, 0x1000);
    assert_eq!(
        run(&[0xf3, 0xaa], &mut state, &mut bus),
        Outcome::Fault(fault)
    );
    assert_eq!((state.gpr[RCX], state.gpr[RDI]), (7, 0x1000));
}

#[test]
fn an_operand_over_a_pages_end_is_translated_before_it_is_written() {
    let mut bus = Bytes::default();
    let mut state = paged(&mut bus, &[0x9000 | 0x63, 0xc000 | 0x63, 0xd000 | 0x21]);
    state.gpr[RDI] = 0xffe;
    state.gpr[0] = 0x4433_2211;
    assert_eq!(run(&[0x89, 0x07], &mut state, &mut bus), DONE);
    assert_eq!(bus.get(0x9ffe, Width::Word), 0x2211);
    assert_eq!(bus.get(0xc000, Width::Word), 0x4433);
    // mov eax, [rdi]
    state.gpr[0] = 0;
    assert_eq!(run(&[0x8b, 0x07], &mut state, &mut bus), DONE);
    assert_eq!(state.gpr[0], 0x4433_2211);
    // The next page is read-only.
    state.gpr[RDI] = 0x1ffe;
    let writes = bus.log.len();
    let fault = Exception::page_fault(3, 0x2000);
    assert_eq!(
        run(&[0x89, 0x07], &mut state, &mut bus),
        Outcome::Fault(fault)
    );
    assert_eq!(bus.log.len(), writes);
}

#[test]
fn moves_between_a_device_and_memory() {
    let mut bus = Bytes::default();
    let mut state = paged(&mut bus, &[0x9000 | 0x63, 0xfee0_0000 | 0x63]);
    bus.put(0x9010, Width::Dword, 0x1234_5678);
    state.gpr[RSI] = 0x10;
    state.gpr[RDI] = 0x10b0;
    // movsd
    assert_eq!(run(&[0xa5], &mut state, &mut bus), DONE);
    assert_eq!(bus.log, [(0x9010, 4, false), (0xfee0_00b0, 4, true)]);
    assert_eq!((state.gpr[RSI], state.gpr[RDI]), (0x14, 0x10b4));
}

#[test]
fn addresses_between_the_halves_fault_by_segment() {
    let mut bus = Bytes::default();
    let mut state = paged(&mut bus, &[]);
    state.gpr[RDI] = 1 << 50;
    state.gpr[RBP] = 1 << 50;
    assert_eq!(
        run(&[0x89, 0x07], &mut state, &mut bus),
        Outcome::Fault(Exception::PROTECTION)
    );
    assert_eq!(
        run(&[0x89, 0x45, 0], &mut state, &mut bus),
        Outcome::Fault(Exception::STACK)
    );
}

#[test]
fn what_is_not_known_is_told() {
    let mut bus = Bytes::default();
    let mut state = flat(CodeSize::Bits64);
    let before = state.clone();
    // movdqu [rdi], xmm0; push [rdi]; mov eax, ecx; nothing
    for bytes in [
        &[0xf3, 0x0f, 0x7f, 0x07][..],
        &[0xff, 0x37],
        &[0x89, 0xc8],
        &[],
    ] {
        assert_eq!(run(bytes, &mut state, &mut bus), Outcome::Unsupported);
    }
    // lock mov [rdi], eax
    let fault = Outcome::Fault(Exception::INVALID_OPCODE);
    assert_eq!(run(&[0xf0, 0x89, 0x07], &mut state, &mut bus), fault);
    assert_eq!(state, before);
    assert!(bus.log.is_empty());
}

#[test]
fn user_code_has_the_rights_of_user_code() {
    let mut bus = Bytes::default();
    let mut state = paged(&mut bus, &[0x9000 | 0x63]);
    state.cpl = 3;
    let fault = Exception::page_fault(7, 0x8);
    state.gpr[RDI] = 8;
    assert_eq!(
        run(&[0x89, 0x07], &mut state, &mut bus),
        Outcome::Fault(fault)
    );
}
