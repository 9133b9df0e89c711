use xen_abi::errno::Errno;
use xen_abi::hypercall::{__HYPERVISOR_vm_assist, __HYPERVISOR_xen_version as CALL};
use xen_abi::version as abi;
use xen_abi::version::{BuildId, CompileInfo, FeatureInfo, PlatformParameters};
use xen_abi::xen::{VMASST_CMD_enable, VMASST_TYPE_pae_extended_cr3};

use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};

fn ask(f: &mut Fixture, cmd: u32, at: u64) -> Result<u64, Errno> {
    f.call(CALL, &[cmd.into(), at])
}

#[test]
fn version_and_page_size_are_returned() {
    let mut f = Fixture::control();
    assert_eq!(ask(&mut f, abi::XENVER_version, 0), Ok(0x4_0011));
    assert_eq!(ask(&mut f, abi::XENVER_pagesize, 0), Ok(4096));
}

#[test]
fn texts_are_copied_out() {
    let mut f = Fixture::control();
    for (cmd, want) in [
        (abi::XENVER_extraversion, ".test"),
        (abi::XENVER_capabilities, "xen-3.0-x86_64 "),
        (abi::XENVER_changeset, "abc"),
        (abi::XENVER_commandline, "console=com1"),
    ] {
        f.put(GUEST, &[0xff_u8; 1100]);
        assert_eq!(ask(&mut f, cmd, GUEST), Ok(0));
        assert_eq!(f.text(GUEST), want);
        assert_eq!(ask(&mut f, cmd, NOWHERE), Err(Errno::EFAULT));
    }
    assert_eq!(ask(&mut f, abi::XENVER_compile_info, GUEST), Ok(0));
    let info: CompileInfo = f.get(GUEST);
    assert_eq!(
        &info.compile_by, b"somebody with a\0",
        "cut, and terminated"
    );
    assert!(info.compiler.starts_with(b"rustc\0"));
}

#[test]
fn platform_parameters_and_handle() {
    let mut f = Fixture::control();
    *f.caller.handle.lock() = [7; 16];
    assert_eq!(ask(&mut f, abi::XENVER_platform_parameters, GUEST), Ok(0));
    let virt_start = 0xffff_8000_0000_0000;
    assert_eq!(
        f.get::<PlatformParameters>(GUEST),
        PlatformParameters { virt_start }
    );
    assert_eq!(ask(&mut f, abi::XENVER_guest_handle, GUEST), Ok(0));
    assert_eq!(f.get::<[u8; 16]>(GUEST), [7; 16]);
}

#[test]
fn features_tell_the_first_domain() {
    let submap = |f: &mut Fixture| {
        f.put(
            GUEST,
            &FeatureInfo {
                submap_idx: 0,
                submap: !0,
            },
        );
        assert_eq!(ask(f, abi::XENVER_get_features, GUEST), Ok(0));
        f.get::<FeatureInfo>(GUEST).submap
    };
    assert_eq!(submap(&mut Fixture::control()), 0x0002_28e0);
    assert_eq!(submap(&mut Fixture::guest()), 0x0002_20e0);
    let mut wide = Fixture::guest();
    let enable = [
        VMASST_CMD_enable.into(),
        VMASST_TYPE_pae_extended_cr3.into(),
    ];
    assert_eq!(wide.call(__HYPERVISOR_vm_assist, &enable), Ok(0));
    assert_eq!(submap(&mut wide), 0x0002_20f0);
    let mut f = Fixture::guest();
    f.put(
        GUEST,
        &FeatureInfo {
            submap_idx: 1,
            submap: 0,
        },
    );
    assert_eq!(
        ask(&mut f, abi::XENVER_get_features, GUEST),
        Err(Errno::EINVAL)
    );
}

#[test]
fn build_id_by_length() {
    let mut f = Fixture::control();
    assert_eq!(ask(&mut f, abi::XENVER_build_id, 0), Ok(20));
    for (len, want) in [
        (0, Err(Errno::EINVAL)),
        (19, Err(Errno::ENOBUFS)),
        (20, Ok(20)),
    ] {
        f.put(GUEST, &BuildId { len });
        assert_eq!(ask(&mut f, abi::XENVER_build_id, GUEST), want);
    }
    assert_eq!(f.get::<u8>(GUEST + 4 + 19), 19);
    assert_eq!(
        ask(&mut f, abi::XENVER_build_id, NOWHERE),
        Err(Errno::EFAULT)
    );
}

#[test]
fn guests_do_not_see_what_is_the_hosts() {
    let mut f = Fixture::guest();
    assert_eq!(ask(&mut f, abi::XENVER_commandline, GUEST), Ok(0));
    assert_eq!(f.text(GUEST), "<denied>");
    assert_eq!(ask(&mut f, abi::XENVER_build_id, 0), Err(Errno::EPERM));
    assert_eq!(ask(&mut f, abi::XENVER_version, 0), Ok(0x4_0011));
}

#[test]
fn unknown_commands_do_not_exist() {
    assert_eq!(ask(&mut Fixture::control(), 11, GUEST), Err(Errno::ENOSYS));
}
