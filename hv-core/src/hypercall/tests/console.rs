use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_console_io as CALL;

use crate::hypercall::testing::{Fixture, GUEST, GUEST_SIZE, NOWHERE};

const WRITE: u64 = xen_abi::xen::CONSOLEIO_write as u64;
const READ: u64 = xen_abi::xen::CONSOLEIO_read as u64;

#[test]
fn long_text_survives_preemption() {
    let mut f = Fixture::control();
    let text: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    f.put(GUEST, text.as_slice());
    f.host.preempt_every(1);
    assert_eq!(f.call(CALL, &[WRITE, 1000, GUEST]), Ok(0));
    assert_eq!(*f.console.control.lock().unwrap(), text);
    assert!(f.restarts >= 6);
}

#[test]
fn keys_are_read_as_far_as_there_is_room() {
    let mut f = Fixture::control();
    f.console.keys.lock().unwrap().extend_from_slice(b"hello");
    assert_eq!(f.call(CALL, &[READ, 3, GUEST]), Ok(3));
    assert_eq!(f.get::<[u8; 3]>(GUEST), *b"hel");
    assert_eq!(f.call(CALL, &[READ, 300, GUEST]), Ok(2));
    assert_eq!(f.call(CALL, &[READ, 300, GUEST]), Ok(0));
}

#[test]
fn bad_arguments_are_refused() {
    let mut f = Fixture::control();
    assert_eq!(f.call(CALL, &[WRITE, 1, NOWHERE]), Err(Errno::EFAULT));
    assert_eq!(f.call(CALL, &[WRITE, 1 << 32, GUEST]), Err(Errno::E2BIG));
    assert_eq!(f.call(CALL, &[READ, 1 << 31, GUEST]), Err(Errno::E2BIG));
    let last = GUEST + GUEST_SIZE as u64 - 1;
    for length in [1 << 31, (1 << 32) - 1] {
        let written = f.call(CALL, &[WRITE, length, last]);
        assert_eq!(written, Err(Errno::EFAULT), "where the text ends");
    }
    assert_eq!(f.call(CALL, &[2, 1, GUEST]), Err(Errno::ENOSYS));
    assert_eq!(f.call(CALL, &[WRITE, 0, NOWHERE]), Ok(0));
    let end = GUEST + GUEST_SIZE as u64 - 64;
    assert_eq!(f.call(CALL, &[WRITE, 200, end]), Err(Errno::EFAULT));
    f.console.keys.lock().unwrap().push(b'x');
    assert_eq!(f.call(CALL, &[READ, 1, NOWHERE]), Err(Errno::EFAULT));
}

#[test]
fn only_the_control_domain_may() {
    let mut f = Fixture::guest();
    f.put(GUEST, b"text");
    assert_eq!(f.call(CALL, &[WRITE, 4, GUEST]), Err(Errno::EPERM));
    assert!(f.console.control.lock().unwrap().is_empty());
}
