use xen_abi::arch_x86::TrapInfo;
use xen_abi::callback::*;
use xen_abi::errno::Errno;
use xen_abi::hypercall::{
    __HYPERVISOR_callback_op, __HYPERVISOR_nmi_op, __HYPERVISOR_set_trap_table,
};
use xen_abi::nmi::{NmiCallback, XENNMI_register_callback, XENNMI_unregister_callback};

use crate::hypercall::testing::{Fixture, GUEST};

const HANDLER: u64 = 0xffff_ffff_8100_0000;

fn nmi_handler(f: &Fixture) -> u64 {
    f.state.traps[2].address
}

#[test]
fn three_calls_set_the_one_handler_of_nmis() {
    let mut f = Fixture::control();
    assert!(!f.state.takes_nmi());
    f.put(
        GUEST,
        &CallbackRegister {
            r#type: CALLBACKTYPE_nmi,
            address: HANDLER,
            ..CallbackRegister::default()
        },
    );
    let register = [CALLBACKOP_register.into(), GUEST];
    assert_eq!(f.call(__HYPERVISOR_callback_op, &register), Ok(0));
    assert_eq!(nmi_handler(&f), HANDLER);
    assert!(f.state.takes_nmi());
    f.state.nmi_masked = true;
    assert!(!f.state.takes_nmi(), "one at a time");
    f.state.nmi_masked = false;

    f.put(
        GUEST,
        &CallbackUnregister {
            r#type: CALLBACKTYPE_nmi,
            ..CallbackUnregister::default()
        },
    );
    let unregister = [CALLBACKOP_unregister.into(), GUEST];
    assert_eq!(f.call(__HYPERVISOR_callback_op, &unregister), Ok(0));
    assert_eq!(nmi_handler(&f), 0);

    f.put(
        GUEST,
        &NmiCallback {
            handler_address: HANDLER + 0x10,
            ..NmiCallback::default()
        },
    );
    let register = [XENNMI_register_callback.into(), GUEST];
    assert_eq!(f.call(__HYPERVISOR_nmi_op, &register), Ok(0));
    assert_eq!(nmi_handler(&f), HANDLER + 0x10);
    let unregister = [XENNMI_unregister_callback.into(), 0];
    assert_eq!(f.call(__HYPERVISOR_nmi_op, &unregister), Ok(0));
    assert!(!f.state.takes_nmi());

    // What Linux does: vector 2 of the trap table.
    let entry = TrapInfo {
        vector: 2,
        cs: 0xe033,
        address: HANDLER + 0x20,
        ..TrapInfo::default()
    };
    f.put(GUEST, &[entry, TrapInfo::default()]);
    assert_eq!(f.call(__HYPERVISOR_set_trap_table, &[GUEST]), Ok(0));
    assert_eq!(nmi_handler(&f), HANDLER + 0x20);
}

#[test]
fn only_that_of_nmis_is_unregistered() {
    let mut f = Fixture::control();
    f.put(
        GUEST,
        &CallbackUnregister {
            r#type: CALLBACKTYPE_event,
            ..CallbackUnregister::default()
        },
    );
    let unregister = [CALLBACKOP_unregister.into(), GUEST];
    assert_eq!(
        f.call(__HYPERVISOR_callback_op, &unregister),
        Err(Errno::EINVAL)
    );
}
