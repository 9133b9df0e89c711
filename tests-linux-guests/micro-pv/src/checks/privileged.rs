//! Instructions that the hypervisor carries out for the kernel, and those it must not.

use xen_abi::hypercall::__HYPERVISOR_physdev_op;
use xen_abi::physdev::{PHYSDEVOP_set_iopl, PhysdevSetIopl};
use xen_abi::xen::VIRQ_TIMER;

use super::{clock, events, timers, upcall};
use crate::call::send;
use crate::memory::{self, PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables;
use crate::trap::{self, probe, protection};

fn rdmsr(index: u32) -> Result<u64, trap::Trap> {
    let (low, high): (u32, u32);
    match probe!("rdmsr", in("ecx") index, lateout("eax") low, lateout("edx") high) {
        None => Ok(u64::from(high) << 32 | u64::from(low)),
        Some(trap) => Err(trap),
    }
}

fn wrmsr(index: u32, value: u64) -> Option<trap::Trap> {
    probe!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32)
}

/// FS base, GS base and kernel GS base.
const BASES: [(u32, &str); 3] = [
    (0xc000_0100, "FS base"),
    (0xc000_0101, "GS base"),
    (0xc000_0102, "kernel GS base"),
];

/// Model-specific registers.
pub fn msrs() {
    for index in [0x1234, 0x4000_0000, 0x4000_00ff, 0xc000_9999, 0xdead_beef] {
        // The first of the hypervisor's range is its hypercall page; reading it is allowed.
        if index != 0x4000_0000 {
            same(
                format_args!("read {index:#x}"),
                rdmsr(index).err(),
                protection(0),
            );
        }
        same(
            format_args!("write {index:#x}"),
            wrmsr(index, 0),
            protection(0),
        );
    }
    for (index, name) in BASES {
        same(
            format_args!("write {name}"),
            wrmsr(index, 0x1234_5000),
            None,
        );
        same(format_args!("read {name}"), rdmsr(index), Ok(0x1234_5000));
        let got = wrmsr(index, 1 << 47);
        same(
            format_args!("{name} that is not canonical"),
            got,
            protection(0),
        );
        same(
            format_args!("{name} as before"),
            rdmsr(index),
            Ok(0x1234_5000),
        );
        same(format_args!("{name} zero"), wrmsr(index, 0), None);
    }
    let efer = rdmsr(0xc000_0080).unwrap_or(0);
    holds("EFER says long mode", efer & 0x500 == 0x500, efer);
    // What a kernel writes there is looked at by nobody, or refused: never done.
    wrmsr(0xc000_0080, efer & !1);
    same("EFER is as before", rdmsr(0xc000_0080), Ok(efer));
    for index in [0xc000_0081_u32, 0xc000_0082, 0xc000_0084] {
        let name = format_args!("entry point register {index:#x}");
        same(name, wrmsr(index, 0xffff_8300_0000_0000), protection(0));
    }
    same(
        "a system call still works",
        crate::call::raw(17, [7, 0, 0, 0, 0]),
        4096,
    );
    let base = rdmsr(0x1b);
    holds(
        "APIC base",
        base.is_ok_and(|base| base & !0xfff == 0xfee0_0000),
        "another",
    );
    same("write the APIC base", wrmsr(0x1b, 0), protection(0));
}

fn cr0() -> u64 {
    let value: u64;
    let met = probe!("mov {value}, cr0", value = out(reg) value);
    same("read CR0", met, None);
    value
}

/// Control registers.
pub fn control() {
    let before = cr0();
    holds(
        "CR0 has protection, paging, write protection",
        before & 0x8001_0001 == 0x8001_0001,
        before,
    );
    same(
        "write CR0 with TS",
        probe!("mov cr0, {v}", v = in(reg) before | 8),
        None,
    );
    same("it is there", cr0() & 8, 8);
    same("clts", probe!("clts"), None);
    same("it is gone", cr0() & 8, 0);
    for (name, value) in [
        ("no paging", before & !(1 << 31)),
        ("no write protection", before & !(1 << 16)),
        ("nothing", 0),
    ] {
        let met = probe!("mov cr0, {v}", v = in(reg) value);
        same(format_args!("write CR0: {name}"), met, protection(0));
    }
    let value: u64;
    same("read CR3", probe!("mov {v}, cr3", v = out(reg) value), None);
    same(
        "it is our L4",
        value / PAGE,
        memory::frame_at(tables::root()),
    );
    same("write CR3", probe!("mov cr3, {v}", v = in(reg) value), None);
    for (owner, frame) in super::bad::frames().into_iter().take(3) {
        let met = probe!("mov cr3, {v}", v = in(reg) frame.wrapping_mul(PAGE));
        same(format_args!("CR3 {owner}"), met, protection(0));
    }
    others();
    debug_registers();
}

/// CR2, CR4 and CR8.
fn others() {
    same("read CR2", probe!("mov {v}, cr2", v = out(reg) _), None);
    same(
        "write CR2",
        probe!("mov cr2, {v}", v = in(reg) 0x1234_u64),
        None,
    );
    let again: u64;
    same(
        "read CR2 again",
        probe!("mov {v}, cr2", v = out(reg) again),
        None,
    );
    same("it is what was written", again, 0x1234);
    let value: u64;
    same("read CR4", probe!("mov {v}, cr4", v = out(reg) value), None);
    holds("CR4 has PAE", value & 0x20 != 0, value);
    same(
        "write CR4 as it is",
        probe!("mov cr4, {v}", v = in(reg) value),
        None,
    );
    same(
        "CR4 without PAE stays",
        probe!("mov cr4, {v}", v = in(reg) value & !0x20),
        None,
    );
    let again: u64;
    probe!("mov {v}, cr4", v = out(reg) again);
    same("CR4 as before", again, value);
    same(
        "read CR8",
        probe!("mov {v}, cr8", v = out(reg) _),
        protection(0),
    );
}

fn debug_registers() {
    same(
        "write DR0",
        probe!("mov dr0, {v}", v = in(reg) 0x1000_u64),
        None,
    );
    let value: u64;
    same("read DR0", probe!("mov {v}, dr0", v = out(reg) value), None);
    same("it is what was written", value, 0x1000);
    let theirs = 0xffff_8300_0000_0000_u64;
    same(
        "DR0 of theirs",
        probe!("mov dr0, {v}", v = in(reg) theirs),
        protection(0),
    );
    same(
        "write DR0 again",
        probe!("mov dr0, {v}", v = in(reg) 0_u64),
        None,
    );
    let value: u64;
    same("read DR7", probe!("mov {v}, dr7", v = out(reg) value), None);
    same("nothing is armed", value & 0xff, 0);
}

/// Ports and the like.
pub fn instructions() {
    let iopl = |iopl: u32| {
        send(
            __HYPERVISOR_physdev_op,
            PHYSDEVOP_set_iopl,
            &PhysdevSetIopl { iopl },
        )
    };
    result("I/O privilege 1", iopl(1), 0);
    same(
        "in from a port of the clock",
        probe!("in al, 0x71", lateout("al") _),
        None,
    );
    same(
        "out to port 0x80",
        probe!("out 0x80, al", in("al") 0_u8),
        None,
    );
    let byte: u8;
    same(
        "in from the interrupt controller",
        probe!("in al, 0x21", lateout("al") byte),
        None,
    );
    same("is answered by nobody", byte, 0xff);
    same(
        "out to the interrupt controller",
        probe!("out 0x21, al", in("al") 0_u8),
        None,
    );
    result("I/O privilege 0", iopl(0), 0);
    same(
        "out without privilege",
        probe!("out 0x80, al", in("al") 0_u8),
        protection(0),
    );
    same(
        "in without privilege",
        probe!("in al, 0x71", lateout("al") _),
        protection(0),
    );
    same("cli", probe!("cli"), protection(0));
    same("sti", probe!("sti"), protection(0));
    result("I/O privilege 1 again", iopl(1), 0);
    same("cli with privilege", probe!("cli"), None);
    same("sti with privilege", probe!("sti"), None);
    upcall::hold();
    result("I/O privilege 0 again", iopl(0), 0);
    forbidden();
    cpuid();
    hlt();
}

/// Instructions that are not carried out, and traps that a kernel may cause.
fn forbidden() {
    let page = Page::take();
    page.put(0, &[0xff_u8; 16]);
    let at = page.address();
    for (name, met) in [
        ("lgdt", probe!("lgdt [{a}]", a = in(reg) at)),
        ("lidt", probe!("lidt [{a}]", a = in(reg) at)),
        ("lldt", probe!("lldt {a:x}", a = in(reg) 0x28)),
        ("ltr", probe!("ltr {a:x}", a = in(reg) 0x28)),
        ("lmsw", probe!("lmsw {a:x}", a = in(reg) 0)),
        ("swapgs", probe!("swapgs")),
        ("sysret", probe!("sysretq")),
        ("invlpg", probe!("invlpg [{a}]", a = in(reg) at)),
        ("invd", probe!("invd")),
    ] {
        same(name, met, protection(0));
    }
    same("wbinvd", probe!("wbinvd"), None);
    same("ud2", probe!("ud2"), trap::other(6, 0));
    same("int3", probe!("int3"), trap::other(3, 0));
    // QEMU 7.2 gives twice the error code that a processor does.
    let met = probe!("int 0x50");
    let good = met == protection(0x50 << 3 | 2) || met == protection(0x50 << 4 | 2);
    holds("int 0x50", good, format_args!("{met:?}"));
    page.give_back();
}

fn cpuid() {
    let (a, b, c, d): (u32, u32, u32, u32);
    // LLVM keeps rbx for itself.
    let met = probe!(
        "mov {saved:r}, rbx; .byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; cpuid; xchg {saved:r}, rbx",
        saved = out(reg) b,
        inlateout("eax") 0x4000_0000_u32 => a,
        lateout("ecx") c,
        lateout("edx") d,
    );
    let _ = a;
    same("forced cpuid", met, None);
    let mut name = [0; 12];
    for (at, word) in [b, c, d].into_iter().enumerate() {
        name[at * 4..at * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
    same("it names the hypervisor", &name, b"XenVMMXenVMM");
    let other = probe!(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6f");
    same("another prefix", other, trap::other(6, 0));
    let met = probe!(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; nop");
    holds(
        "the prefix before another instruction",
        met.is_some(),
        "no trap",
    );
}

/// Blocking is a hypercall; were hlt carried out, the timer would end it.
fn hlt() {
    let (_, port) = events::virq(VIRQ_TIMER, 0);
    upcall::set_port_mask(port, 0);
    timers::singleshot(clock::now() + 5_000_000, 0);
    same("hlt", probe!("hlt"), protection(0));
    upcall::hold();
    upcall::collect();
    events::close(port);
}
