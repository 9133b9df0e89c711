//! GDT, IDT, TSS, stacks and the SYSCALL stub of each CPU.

use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{CpuId, Mfn, PAGE_SIZE};
use hv_core::pv::frame::{GuestFrame, rflags};
use hv_core::pv::state::PvState;
use x86_64::VirtAddr;
use x86_64::instructions::tables::{lgdt, lidt};
use x86_64::structures::DescriptorTablePointer;
use xen_abi::arch_x86::{FLAT_RING3_CS64, FLAT_RING3_SS64};

use super::cpu::{self, msr};
use super::cpuinfo::{CpuInfo, INFO_SIZE, syscall_common, sysenter_entry, trap_stubs};
use super::layout::{self, cpu_area};
use super::paging::{self, flag};
use super::percpu::PerCpu;
use super::{pages, paging::table};

/// Selectors of our own descriptors: in the GDT page that the ABI reserves
/// (FIRST_RESERVED_GDT_PAGE, xen/arch-x86/xen.h).
pub const HYP_CS: u16 = 0xe008;
/// Our data segment.
pub const HYP_DS: u16 = 0xe010;
/// Our task state segment.
pub const TSS_SELECTOR: u16 = 0xe040;
const LDT_SELECTOR: u16 = 0xe050;
/// Index of the page inside the GDT window that is ours.
pub const RESERVED_GDT_PAGE: u64 = 14;

/// Interrupt stack indices (1-based, as in the gate), in the order of their place in the block.
const IST_OF: [(usize, u8); 4] = [(8, 1), (2, 2), (18, 3), (1, 4)];

#[repr(C, align(4096))]
struct Idt([AtomicU64; 512]);
static IDT: Idt = Idt([const { AtomicU64::new(0) }; 512]);
static IDT_ONCE: Mutex<()> = Mutex::new(rank::IDT, ());

/// Fills the IDT: interrupt gates for all vectors, code segment `cs`; stacks of their own when `ist`.
pub fn fill_idt(cs: u16, ist: bool) {
    let _one = IDT_ONCE.lock();
    let stubs = (&raw const trap_stubs) as u64;
    for vector in 0..256usize {
        let at = stubs + vector as u64 * 16;
        let stack = IST_OF
            .iter()
            .find(|(v, _)| ist && *v == vector)
            .map_or(0, |(_, s)| u64::from(*s));
        // INT3, INTO and INT 0x80 are for guests to use directly.
        let dpl: u64 = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let low = (at & 0xffff)
            | u64::from(cs) << 16
            | stack << 32
            | (0x8e | dpl << 5) << 40
            | (at >> 16 & 0xffff) << 48;
        IDT.0[vector * 2].store(low, Ordering::Relaxed);
        IDT.0[vector * 2 + 1].store(at >> 32, Ordering::Relaxed);
    }
}

/// Loads the IDT on this CPU.
pub fn load_idt() {
    // SAFETY: the table is static and was filled before.
    unsafe { lidt(&pointer(idt_address(), 4095)) };
}

/// Where the IDT is.
pub fn idt_address() -> u64 {
    (&raw const IDT) as u64
}

/// What LGDT and LIDT take.
fn pointer(base: u64, limit: u16) -> DescriptorTablePointer {
    DescriptorTablePointer {
        limit,
        base: VirtAddr::new_truncate(base),
    }
}

/// Maps a CPU's stacks, GDT page, TSS and stub; returns the address of its `CpuInfo`.
pub fn create_area(cpu_id: CpuId, percpu: *mut PerCpu) -> Option<*mut CpuInfo> {
    let base = cpu_area(cpu_id);
    // Interrupt stacks, each above a guard page, then the main stack at the block's end.
    for page in interrupt_stacks(base) {
        map_pages(page, 1)?;
    }
    let main = layout::MAIN_STACK_PAGE;
    map_pages(
        base + main * PAGE_SIZE as u64,
        layout::STACK_BLOCK / PAGE_SIZE as u64 - main,
    )?;
    let info = (base + layout::STACK_BLOCK - INFO_SIZE) as *mut CpuInfo;
    // SAFETY: the pages under it were just mapped, zeroed, and are this CPU's alone.
    unsafe { (*info).percpu = percpu };
    // SAFETY: it was just made, and stays for good.
    let view = unsafe { &(*percpu).view };

    let gdt = pages::alloc_zeroed()?;
    let tss = pages::alloc_zeroed()?;
    fill_gdt(gdt, base + layout::TSS_OFFSET);
    fill_tss(tss, base);
    // GDT and LDT windows are not global: a vCPU switch changes what they map.
    paging::set_page(
        base + layout::GDT_OFFSET + RESERVED_GDT_PAGE * PAGE_SIZE as u64,
        gdt.addr().0 | flag::DATA,
    );
    paging::set_page(base + layout::TSS_OFFSET, tss.addr().0 | flag::DATA);
    for page in 0..RESERVED_GDT_PAGE {
        paging::set_page(base + layout::GDT_OFFSET + page * PAGE_SIZE as u64, 0);
    }
    for page in 0..16 {
        paging::set_page(base + layout::LDT_OFFSET + page * PAGE_SIZE as u64, 0);
    }
    let stub = pages::alloc_zeroed()?;
    write_stub(stub, base);
    // Executable: from here on nobody can write it, by no address.
    paging::protect_alias(stub.addr(), PAGE_SIZE as u64);
    paging::set_page(base + layout::STUB_OFFSET, stub.addr().0 | flag::TEXT);
    super::view::create(cpu_id, view)?;
    Some(info)
}

/// The pages of an area's interrupt stacks.
pub fn interrupt_stacks(area: u64) -> impl Iterator<Item = u64> {
    let pages = IST_OF.len() as u64 * (layout::IST_PAGES + 1);
    // The first of each is its guard page.
    let mapped = (0..pages).filter(|page| page % (layout::IST_PAGES + 1) != 0);
    mapped.map(move |page| area + page * PAGE_SIZE as u64)
}

/// Makes a CPU's area as it was before that CPU ran: its TSS may be loaded again. The CPU is not running.
pub fn renew_area(cpu_id: CpuId) {
    let area = cpu_area(cpu_id);
    let (low, _) = tss_descriptor(area + layout::TSS_OFFSET);
    let at = (area + layout::GDT_OFFSET + u64::from(TSS_SELECTOR)) as *const AtomicU64;
    // SAFETY: the descriptor lies in that CPU's own GDT page, mapped writable for good.
    unsafe { (*at).store(low, Ordering::Relaxed) };
}

fn tss_descriptor(tss: u64) -> (u64, u64) {
    system_descriptor(tss, 0x67, 0x89)
}

fn map_pages(va: u64, count: u64) -> Option<()> {
    for page in 0..count {
        let mfn = pages::alloc_zeroed()?;
        paging::set_page(va + page * PAGE_SIZE as u64, mfn.addr().0 | flag::DATA);
    }
    Some(())
}

fn fill_gdt(mfn: Mfn, tss: u64) {
    let t = table(mfn);
    let set = |selector: u16, value: u64| {
        t[(selector as usize >> 3) & 511].store(value, Ordering::Relaxed)
    };
    set(HYP_CS, 0x00af_9b00_0000_ffff);
    set(HYP_DS, 0x00cf_9300_0000_ffff);
    set(0xe020, 0x00cf_fb00_0000_ffff);
    set(0xe028, 0x00cf_f300_0000_ffff);
    set(0xe030, 0x00af_fb00_0000_ffff);
    let (low, high) = tss_descriptor(tss);
    set(TSS_SELECTOR, low);
    set(TSS_SELECTOR + 8, high);
}

/// A 16-byte system descriptor (AMD APM vol. 2, 4.8.3).
fn system_descriptor(base: u64, limit: u64, kind: u64) -> (u64, u64) {
    let low = (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | kind << 40
        | (limit >> 16 & 0xf) << 48
        | (base >> 24 & 0xff) << 56;
    (low, base >> 32)
}

fn fill_tss(mfn: Mfn, area: u64) {
    let t = table(mfn);
    // The 64-bit TSS has its quadwords at odd multiples of 4 (AMD APM vol. 2, 12.2.5): write halves.
    let put = |offset: usize, value: u64| {
        for (half, part) in [(offset, value & 0xffff_ffff), (offset + 4, value >> 32)] {
            let shift = (half & 4) as u64 * 8;
            t[half / 8].fetch_and(!(0xffff_ffff << shift), Ordering::Relaxed);
            t[half / 8].fetch_or(part << shift, Ordering::Relaxed);
        }
    };
    put(4, frame_top(area));
    for index in 1..=IST_OF.len() as u64 {
        put(
            0x24 + 8 * (index as usize - 1),
            area + index * (layout::IST_PAGES + 1) * PAGE_SIZE as u64,
        );
    }
    // I/O map beyond the limit: no port is open by the TSS.
    put(0x64, 0x68 << 16);
}

/// Where the CPU pushes when the guest traps: the end of the frame's hardware part.
fn frame_top(area: u64) -> u64 {
    area + layout::STACK_BLOCK - INFO_SIZE
        + (offset_of!(CpuInfo, regs) + offset_of!(GuestFrame, ss) + 8) as u64
}

/// Writes the SYSCALL entries: 64-bit at 0, the 32-bit one at 64. Each stores the guest's rsp, moves
/// to the frame and pushes what an interrupt would have.
fn write_stub(mfn: Mfn, area: u64) {
    // SAFETY: the page was just allocated and is not mapped anywhere else yet.
    let page = unsafe { pages::ram_mut(mfn.addr(), PAGE_SIZE) };
    for (start, cs) in [
        (0usize, FLAT_RING3_CS64),
        (64, xen_abi::arch_x86::FLAT_RING3_CS32),
    ] {
        let mut code = Code {
            page: &mut *page,
            at: start,
            va: area + layout::STUB_OFFSET,
        };
        let info = area + layout::STACK_BLOCK - INFO_SIZE;
        let scratch = info + offset_of!(CpuInfo, syscall_rsp) as u64;
        code.rip_relative(&[0x48, 0x89, 0x25], scratch); // mov [scratch], rsp
        code.rip_relative(&[0x48, 0x8d, 0x25], frame_top(area)); // lea rsp, [frame_top]
        code.push_imm(FLAT_RING3_SS64 as u32);
        code.rip_relative(&[0xff, 0x35], scratch); // push [scratch]
        code.bytes(&[0x41, 0x53]); // push r11
        code.push_imm(cs as u32);
        code.bytes(&[0x51]); // push rcx
        code.bytes(&[0xff, 0x25, 0, 0, 0, 0]); // jmp [rip]
        code.bytes(&((&raw const syscall_common) as u64).to_le_bytes());
    }
}

struct Code<'a> {
    page: &'a mut [u8],
    at: usize,
    va: u64,
}

impl Code<'_> {
    fn bytes(&mut self, b: &[u8]) {
        self.page[self.at..self.at + b.len()].copy_from_slice(b);
        self.at += b.len();
    }
    fn rip_relative(&mut self, opcode: &[u8], target: u64) {
        self.bytes(opcode);
        let next = self.va + self.at as u64 + 4;
        self.bytes(&(target.wrapping_sub(next) as u32).to_le_bytes());
    }
    fn push_imm(&mut self, value: u32) {
        self.bytes(&[0x68]);
        self.bytes(&value.to_le_bytes());
    }
}

/// Loads this CPU's GDT, TSS, IDT and the entry points of SYSCALL and SYSENTER.
pub fn load(cpu_id: CpuId) {
    let base = cpu_area(cpu_id);
    // SAFETY: the window is mapped for good; its page of ours was filled by `create_area`.
    unsafe { lgdt(&pointer(base + layout::GDT_OFFSET, 0xffff)) };
    // SAFETY: the selectors name the descriptors written by `fill_gdt`; the entry points are the
    // stubs just mapped. Segment registers for data hold null in long mode.
    unsafe {
        core::arch::asm!(
            "push {cs}", "lea {t}, [rip + 2f]", "push {t}", "retfq", "2:",
            "mov ss, {ds:e}", "xor {t:e}, {t:e}", "mov ds, {t:e}", "mov es, {t:e}", "mov fs, {t:e}", "mov gs, {t:e}",
            "ltr {tss:x}", "lldt {t:x}",
            cs = in(reg) u64::from(HYP_CS), ds = in(reg) u32::from(HYP_DS), tss = in(reg) TSS_SELECTOR, t = out(reg) _,
        );
        cpu::wrmsr(msr::STAR, u64::from(HYP_CS) << 32 | 0xe023 << 48);
        cpu::wrmsr(msr::LSTAR, base + layout::STUB_OFFSET);
        cpu::wrmsr(msr::CSTAR, base + layout::STUB_OFFSET + 64);
        let mask = rflags::VIP
            | rflags::VIF
            | rflags::AC
            | rflags::VM
            | rflags::RF
            | rflags::NT
            | rflags::IOPL
            | rflags::DF
            | rflags::IF
            | rflags::TF;
        cpu::wrmsr(msr::SFMASK, mask);
    }
    load_sysenter(base);
    load_idt();
}

/// Where SYSENTER leads. In long mode CPUs of AMD's have no such instruction; where the selector is null it faults.
fn load_sysenter(area: u64) {
    let there = cpu::identity()
        .get_feature_info()
        .is_some_and(|f| f.has_sysenter_sysexit());
    let cs = if there && !cpu::is_amd() { HYP_CS } else { 0 };
    // SAFETY: the stack is this CPU's frame, the code `sysenter_entry`, the stack segment the descriptor behind that of
    // the code, which is ours too.
    unsafe {
        if cs != 0 {
            cpu::wrmsr(msr::SYSENTER_ESP, frame_top(area));
            cpu::wrmsr(msr::SYSENTER_EIP, (&raw const sysenter_entry) as u64);
        }
        // An old CPU may have none of the three.
        cpu::wrmsr_safe(msr::SYSENTER_CS, u64::from(cs));
    }
}

const _: () = assert!(HYP_DS == HYP_CS + 8);

/// Descriptors in a page.
const PER_PAGE: u32 = (PAGE_SIZE / 8) as u32;

/// Shows a guest's pages of so many descriptors, read-only, in a window of which `shown` pages may show something else.
fn show(
    window: u64,
    shown: &Cell<usize>,
    (frames, descriptors): (&[Option<Mfn>], u32),
    forget: impl Fn(u64),
) {
    let pages = frames.len().min(descriptors.div_ceil(PER_PAGE) as usize);
    let old = shown.replace(pages);
    if pages.max(old) == 0 {
        return;
    }
    // Not global: a vCPU switch changes what is there.
    let entry = |mfn: Mfn| mfn.addr().0 | (flag::RODATA & !flag::G);
    let entries = frames[..pages].iter().map(|f| f.map_or(0, entry));
    let rest = core::iter::repeat_n(0, old.saturating_sub(pages));
    paging::set_row(window, entries.chain(rest), forget);
}

/// Shows a guest's GDT in this CPU's window; `forget` as for [`paging::set_row`].
pub fn show_gdt(this: &PerCpu, state: &PvState, forget: impl Fn(u64)) {
    let window = cpu_area(this.id) + layout::GDT_OFFSET;
    let gdt = (&state.gdt_frames[..], state.gdt_entries);
    show(window, &this.gdt_pages, gdt, forget);
}

/// The same for its LDT, which is loaded.
pub fn show_ldt(this: &PerCpu, state: &PvState, forget: impl Fn(u64)) {
    let window = cpu_area(this.id) + layout::LDT_OFFSET;
    let ldt = (&state.ldt_frames[..], state.ldt_entries);
    show(window, &this.ldt_pages, ldt, forget);
    load_ldt(this.id, state.ldt_entries);
}

/// Takes all pages of guests out of this CPU's windows; no LDT is loaded.
pub fn hide_descriptors(this: &PerCpu) {
    let area = cpu_area(this.id);
    load_ldt(this.id, 0);
    for (offset, shown) in [
        (layout::GDT_OFFSET, &this.gdt_pages),
        (layout::LDT_OFFSET, &this.ldt_pages),
    ] {
        show(area + offset, shown, (&[], 0), cpu::invlpg);
    }
}

/// Points this CPU's LDT descriptor at the LDT window with `entries` entries and loads it; 0: no LDT.
fn load_ldt(cpu_id: CpuId, entries: u32) {
    let base = cpu_area(cpu_id);
    if entries == 0 {
        // SAFETY: a null LDT is always valid.
        unsafe { core::arch::asm!("lldt {0:x}", in(reg) 0u32, options(nostack)) };
        return;
    }
    let (low, high) =
        system_descriptor(base + layout::LDT_OFFSET, u64::from(entries) * 8 - 1, 0x82);
    let gdt = (base + layout::GDT_OFFSET + u64::from(LDT_SELECTOR)) as *const AtomicU64;
    // SAFETY: the descriptor lies in this CPU's own GDT page, mapped writable.
    unsafe {
        (*gdt).store(low, Ordering::Relaxed);
        (*gdt.add(1)).store(high, Ordering::Relaxed);
        core::arch::asm!("lldt {0:x}", in(reg) u32::from(LDT_SELECTOR), options(nostack));
    }
}

/// Loads an IDT without entries: the next interrupt or fault resets the machine.
pub fn load_empty_idt() {
    // SAFETY: only called to reset the machine: that nothing can be handled any more is wanted.
    unsafe { lidt(&pointer(0, 0)) };
}
