use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use xen_abi::hypercall::__HYPERVISOR_platform_op as CALL;
use xen_abi::platform::PlatformOp;

use super::*;
use crate::base::PhysAddr;
use crate::boot::efi::{EfiFacts, EfiProblem, EfiRegion};
use crate::hypercall::testing::{Fixture, GUEST, GUEST_SIZE, NOWHERE};

const NAME: u64 = GUEST + 0x1000;
const VALUE: u64 = GUEST + 0x3000;
const NOT_FOUND: u64 = ERROR | 14;

type Guid = [u8; 16];
/// Attributes and values by names.
type Variables = BTreeMap<(Vec<u8>, Guid), (u32, Vec<u8>)>;

/// Firmware with variables. It looks at what it is given more closely than real firmware.
struct FakeEfi {
    facts: EfiFacts,
    variables: Mutex<Variables>,
    calls: Mutex<Vec<Service>>,
}

/// Address of a part of the memory, which must be in it.
fn at(argument: EfiArgument, len: usize, memory: &[u8]) -> usize {
    let At(at) = argument else {
        panic!("a pointer, not {argument:?}")
    };
    assert!(at + len <= memory.len());
    at
}

/// A name up to its end, which there must be.
fn name_at(argument: EfiArgument, memory: &[u8]) -> Vec<u8> {
    let start = at(argument, 2, memory);
    let end = end_of(&memory[start..]).expect("a name ends");
    assert!(end < MAX_NAME);
    memory[start..start + end].to_vec()
}

fn guid_at(argument: EfiArgument, memory: &[u8]) -> Guid {
    let at = at(argument, 16, memory);
    memory[at..at + 16].try_into().unwrap()
}

impl EfiServices for FakeEfi {
    fn facts(&self) -> &EfiFacts {
        &self.facts
    }

    fn call(&self, service: Service, a: [EfiArgument; 5], memory: &mut [u8]) -> Result<u64, Errno> {
        self.calls.lock().unwrap().push(service);
        let mut variables = self.variables.lock().unwrap();
        match service {
            Service::GetTime => {
                let (time, caps) = (at(a[0], 16, memory), at(a[1], 12, memory));
                memory[time..time + 16].fill(0x11);
                memory[caps..caps + 9].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, 1]);
            }
            Service::SetTime => {
                let time = at(a[0], 16, memory);
                assert_eq!((memory[time + 7], memory[time + 15]), (0, 0));
            }
            Service::GetWakeupTime => {
                memory[at(a[0], 1, memory)] = 1;
                memory[at(a[1], 1, memory)] = 1;
                at(a[2], 16, memory);
            }
            Service::SetWakeupTime => match (a[0], a[1]) {
                (Value(0 | 1), Value(0)) => {}
                (Value(0 | 1), when) => drop(at(when, 16, memory)),
                other => panic!("{other:?}"),
            },
            Service::GetVariable => {
                let key = (name_at(a[0], memory), guid_at(a[1], memory));
                let (attributes, size) = (at(a[2], 4, memory), at(a[3], 8, memory));
                let room = word(memory, size) as usize;
                let data = at(a[4], room, memory);
                let Some((bits, value)) = variables.get(&key) else {
                    return Ok(NOT_FOUND);
                };
                put(memory, size, &(value.len() as u64));
                if value.len() > room {
                    return Ok(BUFFER_TOO_SMALL);
                }
                put(memory, attributes, bits);
                memory[data..data + value.len()].copy_from_slice(value);
            }
            Service::SetVariable => {
                let key = (name_at(a[0], memory), guid_at(a[1], memory));
                let (Value(bits), Value(len)) = (a[2], a[3]) else {
                    panic!("values")
                };
                let data = at(a[4], len as usize, memory);
                let value = memory[data..data + len as usize].to_vec();
                variables.insert(key, (bits as u32, value));
            }
            Service::GetNextVariableName => {
                let size = at(a[0], 8, memory);
                let room = word(memory, size) as usize;
                let place = at(a[1], room, memory);
                let key = (name_at(a[1], memory), guid_at(a[2], memory));
                let mut all = variables.keys();
                if !key.0.is_empty() && all.find(|k| **k == key).is_none() {
                    return Ok(INVALID_PARAMETER);
                }
                let Some((name, guid)) = all.next() else {
                    return Ok(NOT_FOUND);
                };
                put(memory, size, &(name.len() as u64 + 2));
                if name.len() + 2 > room {
                    return Ok(BUFFER_TOO_SMALL);
                }
                put(memory, place, name.as_slice());
                memory[place + name.len()..place + name.len() + 2].fill(0);
                put(memory, at(a[2], 16, memory), guid);
            }
            Service::QueryVariableInfo => {
                for (argument, value) in a[1..4].iter().zip([100u64, 50, 10]) {
                    put(memory, at(*argument, 8, memory), &value);
                }
            }
            Service::GetNextHighMonotonicCount => put(memory, at(a[0], 4, memory), &77u32),
            Service::ResetSystem => panic!("no guest resets the machine so"),
        }
        Ok(0)
    }
}

fn machine() -> (Fixture, &'static FakeEfi) {
    let region = |kind, base| EfiRegion {
        kind,
        base: PhysAddr(base),
        len: 0x2000,
        attributes: 15,
    };
    let facts = EfiFacts {
        revision: 0x2_0046,
        vendor: "Maker".encode_utf16().collect(),
        vendor_revision: 9,
        tables: PhysAddr(0x7f00_0000),
        table_count: 12,
        runtime: Err(EfiProblem::NoMap),
        memory: vec![region(7, 0), region(6, 0x4000)],
    };
    let efi: &FakeEfi = Box::leak(Box::new(FakeEfi {
        facts,
        variables: Mutex::default(),
        calls: Mutex::default(),
    }));
    (Fixture::on_firmware(Some(efi)), efi)
}

fn operation(f: &mut Fixture, cmd: u32, union: &[u8]) -> Result<PlatformOp, Errno> {
    let mut op = PlatformOp {
        cmd,
        interface_version: abi::XENPF_INTERFACE_VERSION,
        u: [0x5a5a_5a5a_5a5a_5a5a; 16],
    };
    op.u.as_mut_bytes()[..union.len()].copy_from_slice(union);
    f.put(GUEST, &op);
    f.call(CALL, &[GUEST])?;
    Ok(f.get(GUEST))
}

fn ask(f: &mut Fixture, index: u32, u: [u64; 4]) -> Result<[u64; 4], Errno> {
    let request = PlatformFirmwareInfo {
        r#type: abi::XEN_FW_EFI_INFO,
        index,
        u,
    };
    let op = operation(f, abi::XENPF_firmware_info, request.as_bytes())?;
    let (answer, _) = PlatformFirmwareInfo::read_from_prefix(op.u.as_bytes()).unwrap();
    Ok(answer.u)
}

fn run(
    f: &mut Fixture,
    function: u32,
    misc: u32,
    u: [u64; 5],
) -> Result<PlatformEfiRuntimeCall, Errno> {
    let request = PlatformEfiRuntimeCall {
        function,
        misc,
        status: 0x55,
        u,
    };
    let op = operation(f, abi::XENPF_efi_runtime_call, request.as_bytes())?;
    Ok(PlatformEfiRuntimeCall::read_from_prefix(op.u.as_bytes())
        .unwrap()
        .0)
}

fn put_name(f: &Fixture, name: &str) {
    let text: Vec<u16> = name.encode_utf16().chain([0]).collect();
    f.put(NAME, text.as_slice());
}

#[test]
fn the_firmware_in_its_own_words() {
    let (mut f, _) = machine();
    assert_eq!(
        ask(&mut f, abi::XEN_FW_EFI_VERSION, [0; 4]).unwrap()[0],
        0x2_0046
    );
    let config = ask(&mut f, abi::XEN_FW_EFI_CONFIG_TABLE, [0; 4]).unwrap();
    assert_eq!(config[..2], [0x7f00_0000, 12]);
    let unusable = ask(&mut f, abi::XEN_FW_EFI_RT_VERSION, [0; 4]);
    assert_eq!(unusable, Err(Errno::EOPNOTSUPP));
    // The buffer's size stands above the revision.
    f.put(VALUE, &[0xffffu16; 8]);
    let vendor = ask(&mut f, abi::XEN_FW_EFI_VENDOR, [8 << 32, VALUE, 0, 0]).unwrap();
    assert_eq!(vendor[0], 8 << 32 | 9);
    let text: [u16; 5] = f.get(VALUE);
    assert_eq!(text[..4], "Make".encode_utf16().collect::<Vec<_>>());
    assert_eq!(text[4], 0xffff, "no more than there is room for");
    ask(&mut f, abi::XEN_FW_EFI_VENDOR, [100 << 32, VALUE, 0, 0]).unwrap();
    assert_eq!(f.get::<[u16; 8]>(VALUE)[5..], [0, 0xffff, 0xffff]);
    let wild = ask(&mut f, abi::XEN_FW_EFI_VENDOR, [8 << 32, NOWHERE, 0, 0]);
    assert_eq!(wild, Err(Errno::EFAULT));
    let region = ask(&mut f, abi::XEN_FW_EFI_MEM_INFO, [0x5000, u64::MAX, 0, 0]).unwrap();
    assert_eq!(region, [0x5000, 0x1000, 15, 6]);
    let nowhere = ask(&mut f, abi::XEN_FW_EFI_MEM_INFO, [0x3000, 1, 0, 0]);
    assert_eq!(nowhere, Err(Errno::ESRCH));
    for (index, why) in [
        (abi::XEN_FW_EFI_PCI_ROM, Errno::ENOENT),
        (abi::XEN_FW_EFI_APPLE_PROPERTIES, Errno::ENODATA),
        (7, Errno::EINVAL),
    ] {
        assert_eq!(ask(&mut f, index, [0; 4]), Err(why));
    }
}

#[test]
fn clocks_and_counters() {
    let (mut f, _) = machine();
    let got = run(&mut f, abi::XEN_EFI_get_time, 0, [0; 5]).unwrap();
    assert_eq!((got.status, got.misc), (0, SET_CLEARS_NS));
    assert_eq!(
        got.u[..3],
        [0x1111_1111_1111_1111, 0x1111_1111_1111_1111, 1 | 2 << 32]
    );
    run(&mut f, abi::XEN_EFI_set_time, 0, [u64::MAX; 5]).unwrap();
    let got = run(&mut f, abi::XEN_EFI_get_wakeup_time, 0, [0; 5]).unwrap();
    assert_eq!(got.misc, WAKEUP_ENABLED | WAKEUP_PENDING);
    for flags in 0..4 {
        run(&mut f, abi::XEN_EFI_set_wakeup_time, flags, [1; 5]).unwrap();
    }
    let function = abi::XEN_EFI_get_next_high_monotonic_count;
    assert_eq!(run(&mut f, function, 0, [0; 5]).unwrap().misc, 77);
    let got = run(&mut f, abi::XEN_EFI_query_variable_info, 0, [7; 5]).unwrap();
    assert_eq!(got.u, [7, 100, 50, 10, 7]);
}

#[test]
fn variables_come_and_go() {
    let (mut f, efi) = machine();
    put_name(&f, "Name");
    f.put(VALUE, &[1u8, 2, 3]);
    let set = run(
        &mut f,
        abi::XEN_EFI_set_variable,
        7,
        [NAME, 3, VALUE, 11, 12],
    )
    .unwrap();
    assert_eq!(set.status, 0);
    f.put(VALUE, &[0u8; 8]);
    let get = run(
        &mut f,
        abi::XEN_EFI_get_variable,
        0,
        [NAME, 8, VALUE, 11, 12],
    )
    .unwrap();
    assert_eq!((get.status, get.misc, get.u[1]), (0, 7, 3));
    assert_eq!(f.get::<[u8; 4]>(VALUE), [1, 2, 3, 0]);
    let small = run(
        &mut f,
        abi::XEN_EFI_get_variable,
        0,
        [NAME, 2, NOWHERE, 11, 12],
    )
    .unwrap();
    assert_eq!((small.status, small.u[1]), (BUFFER_TOO_SMALL, 3));
    let other = run(
        &mut f,
        abi::XEN_EFI_get_variable,
        0,
        [NAME, 8, VALUE, 11, 13],
    )
    .unwrap();
    assert_eq!((other.status, other.u[1]), (NOT_FOUND, 8));

    f.put(NAME, &0u16);
    let function = abi::XEN_EFI_get_next_variable_name;
    let first = run(&mut f, function, 0, [64, NAME, 0, 0, 9]).unwrap();
    assert_eq!((first.status, first.u), (0, [10, NAME, 11, 12, 9]));
    assert_eq!(f.get::<[u16; 2]>(NAME), [u16::from(b'N'), u16::from(b'a')]);
    let last = run(&mut f, function, 0, [64, NAME, 11, 12, 0]).unwrap();
    assert_eq!(last.status, NOT_FOUND);
    f.put(NAME, &0u16);
    let small = run(&mut f, function, 0, [4, NAME, 0, 0, 0]).unwrap();
    assert_eq!((small.status, small.u[0]), (BUFFER_TOO_SMALL, 10));

    // A value that fits into no buffer of ours.
    let key = efi.variables.lock().unwrap().keys().next().unwrap().clone();
    let large = vec![0; MAX_DATA + 1];
    efi.variables.lock().unwrap().insert(key, (7, large));
    put_name(&f, "Name");
    let huge = run(
        &mut f,
        abi::XEN_EFI_get_variable,
        0,
        [NAME, u64::MAX, VALUE, 11, 12],
    );
    assert_eq!(huge, Err(Errno::ENOMEM));
}

#[test]
fn nonsense_does_not_reach_the_firmware() {
    let (mut f, efi) = machine();
    put_name(&f, "Name");
    let variable = abi::XEN_EFI_get_variable;
    let set = abi::XEN_EFI_set_variable;
    let next = abi::XEN_EFI_get_next_variable_name;
    for (function, misc, u, why) in [
        (0, 0, [0; 5], Errno::ENOSYS),
        (abi::XEN_EFI_update_capsule, 0, [0; 5], Errno::ENOSYS),
        (
            abi::XEN_EFI_query_capsule_capabilities,
            0,
            [0; 5],
            Errno::ENOSYS,
        ),
        (u32::MAX, 0, [0; 5], Errno::ENOSYS),
        (abi::XEN_EFI_get_time, 1, [0; 5], Errno::EINVAL),
        (abi::XEN_EFI_set_wakeup_time, 4, [0; 5], Errno::EINVAL),
        (abi::XEN_EFI_query_variable_info, 1, [0; 5], Errno::EINVAL),
        (variable, 1, [NAME, 8, VALUE, 0, 0], Errno::EINVAL),
        (variable, 0, [NOWHERE, 8, VALUE, 0, 0], Errno::EFAULT),
        (variable, 0, [u64::MAX, 8, VALUE, 0, 0], Errno::EFAULT),
        (set, 7, [NAME, 8, NOWHERE, 0, 0], Errno::EFAULT),
        (set, 7, [NAME, 1 << 63, VALUE, 0, 0], Errno::ENOMEM),
        (set, 7, [NAME, u64::MAX, VALUE, 0, 0], Errno::ENOMEM),
        (next, 0, [8, NOWHERE, 0, 0, 0], Errno::EFAULT),
    ] {
        assert_eq!(
            run(&mut f, function, misc, u),
            Err(why),
            "{function} {u:x?}"
        );
    }
    // A name that never ends, and one that ends where memory does.
    f.put(NAME, &[0x41u8; MAX_NAME]);
    assert_eq!(
        run(&mut f, variable, 0, [NAME, 8, VALUE, 0, 0]),
        Err(Errno::EINVAL)
    );
    let end = GUEST + GUEST_SIZE as u64;
    f.put(end - 100, &[0x41u8; 100]);
    assert_eq!(
        run(&mut f, variable, 0, [end - 100, 8, VALUE, 0, 0]),
        Err(Errno::EFAULT)
    );
    let unended = run(&mut f, next, 0, [100, end - 100, 0, 0, 0]).unwrap();
    assert_eq!(unended.status, INVALID_PARAMETER);
    assert!(efi.calls.lock().unwrap().is_empty());
    f.put(end - 4, &[0x41u8, 0, 0, 0]);
    let found = run(&mut f, variable, 0, [end - 4, 8, VALUE, 0, 0]).unwrap();
    assert_eq!(found.status, NOT_FOUND);
    // No rights, no answer.
    let mut guest = Fixture::guest();
    assert_eq!(
        run(&mut guest, abi::XEN_EFI_get_time, 0, [0; 5]),
        Err(Errno::EPERM)
    );
}

proptest! {
    #[test]
    fn whatever_is_asked_stays_in_its_memory(
        function in 0u32..13,
        misc in prop_oneof![Just(0u32), 0u32..8, any::<u32>()],
        words in proptest::array::uniform5(prop_oneof![
            Just(NAME), Just(VALUE), 0u64..3000, any::<u64>(), Just(1u64 << 63),
            GUEST..GUEST + GUEST_SIZE as u64 + 10,
        ]),
        name in proptest::collection::vec(prop_oneof![Just(0u16), any::<u16>()], 0..1200),
    ) {
        let (mut f, _) = machine();
        f.put(NAME, name.as_slice());
        let _ = run(&mut f, function, misc, words);
        put_name(&f, "Name");
        let set = run(&mut f, abi::XEN_EFI_set_variable, 7, [NAME, 3, VALUE, words[3], 1]);
        prop_assert_eq!(set.unwrap().status, 0);
        let _ = run(&mut f, function, misc, words);
    }
}
