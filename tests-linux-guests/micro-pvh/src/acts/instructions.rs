//! Every instruction that a hypervisor intercepts, and the same from user mode.

use core::arch::asm;

use micro_base::memory::{read, write};

use crate::console::println;
use crate::pages::{SCRATCH, entry_of, root};
use crate::random::Random;
use crate::trap::probe;

macro_rules! tried {
    ($(($name:literal, $($code:tt)*))*) => {
        $( println!("{}: {:?}", $name, probe!($($code)*)); )*
    };
}

/// Each in kernel mode.
pub fn all(_: &mut Random) {
    let page = SCRATCH[0].address();
    let hole = 1_u64 << 40;
    tried! {
        ("INVD", "invd")
        ("WBINVD", "wbinvd")
        ("INVLPG", "invlpg [{a}]", a = in(reg) page)
        ("INVLPG of nothing", "invlpg [{a}]", a = in(reg) 1_u64 << 47)
        ("RDTSC", "rdtsc", out("eax") _, out("edx") _)
        ("RDTSCP", "rdtscp", out("eax") _, out("ecx") _, out("edx") _)
        ("RDPMC", "rdpmc", out("eax") _, in("ecx") 0, out("edx") _)
        ("RDPMC of none", "rdpmc", out("eax") _, in("ecx") 99, out("edx") _)
        ("MONITOR", "monitor", in("rax") page, in("ecx") 0, in("edx") 0)
        ("MWAIT", "mwait", in("eax") 0, in("ecx") 0)
        ("PAUSE", "pause")
        ("XGETBV", "xgetbv", out("eax") _, in("ecx") 0, out("edx") _)
        ("XSETBV of nothing", "xsetbv", in("eax") 0, in("ecx") 0, in("edx") 0)
        ("XSETBV of another", "xsetbv", in("eax") 1, in("ecx") 1, in("edx") 0)
        ("VMRUN", "vmrun rax", in("rax") page)
        ("VMLOAD", "vmload rax", in("rax") page)
        ("VMSAVE", "vmsave rax", in("rax") page)
        ("VMRUN of nothing", "vmrun rax", in("rax") hole)
        ("STGI", "stgi")
        ("CLGI", "clgi")
        ("SKINIT", "skinit", in("eax") 0)
        ("INVLPGA", "invlpga rax, ecx", in("rax") page, in("ecx") 0)
        ("VMCALL", "vmcall", inout("rax") 17_u64 => _, in("rdi") 0, in("rsi") 0)
        ("VMMCALL", "vmmcall", inout("rax") 17_u64 => _, in("rdi") 0, in("rsi") 0)
        ("VMXON", "vmxon [{a}]", a = in(reg) page)
        ("VMLAUNCH", "vmlaunch")
        ("INVEPT", "invept {a}, [{b}]", a = in(reg) 1_u64, b = in(reg) page)
        ("INVVPID", "invvpid {a}, [{b}]", a = in(reg) 1_u64, b = in(reg) page)
        ("INVPCID", "invpcid {a}, [{b}]", a = in(reg) 2_u64, b = in(reg) page)
        ("GETSEC", "getsec", inout("eax") 0 => _)
        ("RSM", "rsm")
        ("ENCLS", ".byte 0x0f, 0x01, 0xcf", inout("eax") 0 => _)
        ("PCONFIG", ".byte 0x0f, 0x01, 0xc5", inout("eax") 0 => _)
        ("RDRAND", "rdrand eax", out("eax") _)
        ("RDPID", "rdpid rax", out("rax") _)
        ("RDPRU", ".byte 0x0f, 0x01, 0xfd", out("eax") _, in("ecx") 0, out("edx") _)
        ("CLAC", "clac")
        ("SGDT", "sgdt [{a}]", a = in(reg) page)
        ("SIDT", "sidt [{a}]", a = in(reg) page)
        ("SLDT", "sldt ax", out("ax") _)
        ("STR", "str ax", out("ax") _)
        ("LLDT of nothing", "lldt ax", in("ax") 0x1000_u16)
        ("LLDT", "lldt ax", in("ax") 0_u16)
        ("LTR of nothing", "ltr ax", in("ax") 0x1000_u16)
        ("LGDT of nothing", "lgdt [{a}]", a = in(reg) hole)
        ("LIDT of nothing", "lidt [{a}]", a = in(reg) hole)
        ("far jump to a task", "push 0x1000; push 0; retf")
        ("segment of nothing", "mov fs, ax", in("ax") 0x1000_u16)
        ("UD2", "ud2")
        ("INT 0x80", "int 0x80")
        ("division", "div ecx", inout("eax") 1 => _, inout("edx") 0 => _, in("ecx") 0)
        ("not canonical", "mov {a}, [{a}]", a = inout(reg) 1_u64 << 47 => _)
        ("not mapped", "mov {a}, [{a}]", a = inout(reg) hole => _)
        ("SYSCALL without an entry", "syscall", out("rcx") _, out("r11") _)
        ("SYSENTER without an entry", "sysenter")
        ("lock on a register", ".byte 0xf0, 0x90")
        ("sixteen bytes", ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90")
        ("CR1", ".byte 0x0f, 0x20, 0xc8", out("rax") _)
        ("CR7", ".byte 0x0f, 0x22, 0xf8", in("rax") 0)
        ("CR8 by LOCK", ".byte 0xf0, 0x0f, 0x20, 0xc0", out("rax") _)
    }
    prefixed();
    code_on_two_pages();
}

/// Intercepted instructions behind prefixes, whose length has to be found out.
fn prefixed() {
    tried! {
        ("VMMCALL behind prefixes", ".byte 0x66, 0x3e, 0x48, 0x0f, 0x01, 0xd9", inout("rax") 17_u64 => _, in("rdi") 0, in("rsi") 0)
        ("HLT behind prefixes", "sti; .byte 0x2e, 0x66, 0xf3, 0x90; cli")
        ("RDMSR behind prefixes", ".byte 0x66, 0x66, 0xf2, 0x0f, 0x32", out("eax") _, in("ecx") 0x1b, out("edx") _)
        ("IN behind prefixes", ".byte 0x66, 0x66, 0x2e, 0xed", out("eax") _, in("dx") 0x1234_u16)
        ("WBINVD behind prefixes", ".byte 0x66, 0x36, 0x0f, 0x09")
        ("RDTSC behind prefixes", ".byte 0x66, 0x66, 0x0f, 0x31", out("eax") _, out("edx") _)
        ("INVLPG with all of an address", ".byte 0x65, 0x0f, 0x01, 0xbc, 0x08, 0, 0, 0x20, 0", in("rax") 0, in("rcx") 0)
    }
}

/// CPUID with its second byte on a page that is not mapped: a page fault, not an exit.
fn code_on_two_pages() {
    // The 2 MiB from 12 MiB up are memory, those from 14 MiB up are taken away.
    let entry = entry_of(0xe0_0000);
    let old: u64 = read(entry);
    let last = 0xdf_ffff_u64;
    write(last, 0x0f_u8);
    write(entry, 0_u64);
    let met =
        probe!("invlpg [{a}]; inc {a}; invlpg [{a}]; dec {a}; jmp {a}", a = inout(reg) last => _);
    println!("CPUID whose end is not there: {met:?}");
    write(entry, old);
    // CPUID and a way back over the border, the second half after it is there again.
    for (offset, byte) in [0x0f_u8, 0xa2, 0x41, 0xff, 0xe7].into_iter().enumerate() {
        write(last + offset as u64, byte);
    }
    let met = probe!("push rbx; lea r15, [rip + 2f]; jmp {a}; 2:; pop rbx", a = in(reg) last,
        inout("eax") 0 => _, out("ecx") _, out("edx") _, out("r15") _);
    println!("CPUID over the border of two pages: {met:?}");
}

/// Gives all memory to user mode, or takes it back.
fn for_user(yes: bool) {
    let bit = |entry: u64| {
        let old: u64 = read(entry);
        write(entry, if yes { old | 4 } else { old & !4 });
    };
    bit(root().address());
    let directories = crate::pages::below(root().address(), 0);
    bit(directories);
    for entry in 0..8 {
        bit(entry_of(entry << 21));
    }
    // SAFETY: the same tables again.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _) };
}

/// A task-state segment, of which only the stack of CPL 0 matters.
static TASK: crate::pages::Page = crate::pages::Page::new();

/// A GDT with a task-state segment at 0x30.
fn task() {
    let gdt = SCRATCH[15].address();
    let task = TASK.address();
    for (index, entry) in [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_9b00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0x0000_8900_0000_0067 | (task & 0xff_ffff) << 16 | (task >> 24 & 0xff) << 56,
        task >> 32,
    ]
    .into_iter()
    .enumerate()
    {
        write(gdt + index as u64 * 8, entry);
    }
    let stack = SCRATCH[14].address() + 4096;
    write(task + 4, stack);
    // No map of ports: all are forbidden to user mode.
    write(task + 0x66, 0xffff_u16);
    write(SCRATCH[13].address(), 0x3f_u16);
    write(SCRATCH[13].address() + 2, gdt);
    // SAFETY: the same segments as before, and one more.
    unsafe { asm!("lgdt [{a}]", "ltr {t:x}", a = in(reg) SCRATCH[13].address(), t = in(reg) 0x30) };
}

/// Instructions in user mode. Each must be a trap of the guest's own.
pub fn user(_: &mut Random) {
    task();
    for_user(true);
    let codes: &[(&str, &[u8])] = &[
        ("VMMCALL", &[0x0f, 0x01, 0xd9]),
        ("VMCALL", &[0x0f, 0x01, 0xc1]),
        // rbx is kept, in r15.
        ("CPUID", &[0x49, 0x89, 0xdf, 0x0f, 0xa2, 0x4c, 0x89, 0xfb]),
        ("RDMSR", &[0x0f, 0x32]),
        ("WRMSR", &[0x0f, 0x30]),
        ("HLT", &[0xf4]),
        ("IN", &[0xec]),
        ("OUT", &[0xee]),
        ("INSB", &[0x6c]),
        ("mov from CR0", &[0x0f, 0x20, 0xc0]),
        ("mov to CR3", &[0x0f, 0x22, 0xd8]),
        ("mov from DR7", &[0x0f, 0x21, 0xf8]),
        ("CLTS", &[0x0f, 0x06]),
        ("INVD", &[0x0f, 0x08]),
        ("WBINVD", &[0x0f, 0x09]),
        ("INVLPG", &[0x0f, 0x01, 0x38]),
        ("VMRUN", &[0x0f, 0x01, 0xd8]),
        ("STGI", &[0x0f, 0x01, 0xdc]),
        ("XSETBV", &[0x0f, 0x01, 0xd1]),
        ("MONITOR", &[0x0f, 0x01, 0xc8]),
        ("RDTSC", &[0x0f, 0x31]),
        ("RDPMC", &[0x0f, 0x33]),
        ("LGDT", &[0x0f, 0x01, 0x10]),
        ("LTR", &[0x0f, 0x00, 0xd8]),
        ("SGDT", &[0x0f, 0x01, 0x00]),
        ("INT 0x80", &[0xcd, 0x80]),
        ("INT 14", &[0xcd, 14]),
        ("the APIC's page", &[0x8b, 0x06]),
        ("PAUSE", &[0xf3, 0x90]),
        ("ICEBP", &[0xf1]),
    ];
    let page = SCRATCH[1].address();
    for (name, code) in codes {
        for (offset, byte) in code.iter().chain(&[0x0f, 0x0b]).enumerate() {
            write(page + offset as u64, *byte);
        }
        // Behind each stands UD2: trap 6 there means that it was executed.
        let met = probe!("mov {s}, rsp; push 0x23; push {s}; push 0x2; push 0x2b; push {page}; iretq",
            s = out(reg) _, page = in(reg) page,
            inout("rax") SCRATCH[7].address() => _, out("rcx") _, out("rdx") _, in("rsi") 0xfee0_0020_u64, out("r15") _
        );
        println!("user mode: {name}: {met:?}");
    }
    for_user(false);
}
