//! Making the first domain: its kernel from the first module, its initrd from the second.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use hv_core::base::{Mfn, PAGE_SIZE, PhysAddr};
use hv_core::boot::cmdline::ScreenOwner;
use hv_core::boot::framelist::FrameList;
use hv_core::boot::info::{BootInfo, Module, ScreenMaker};
use hv_core::console::Focus;
use hv_core::domain::{Domain, DomainKind, Limits, Machine, Rights, RunFlags, VcpuState};
use hv_core::hypercall::mmu;
use hv_core::mm::pins::{self, OwedPuts, RootKind};
use hv_core::mm::pte::Level;
use hv_core::mm::{PtResult, Standing, Stop};
use hv_core::pv::frame::rflags;
use hv_core::pv::state::PvState;
use pvh_boot::elf::Kernel;
use pvh_boot::pv::{
    DomainMemory, Initrd, InitrdPlace, Layout, PV_FEATURES, PvKernel, Request, StartOfDay,
    StartState, build,
};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

use super::host::{HW, hv};
use super::start::{Boot, module_frames, refuse};
use super::{console, fpu, heap, memory, pages, percpu, serial, vga};
use crate::say;

/// Most bytes that an unpacked kernel may take.
const KERNEL_LIMIT: usize = 1 << 30;
/// Fewest pages that a dom0 kernel can start in.
const MIN_PAGES: u64 = (96 << 20) / PAGE_SIZE as u64;

/// Unpacks the kernel in the first module; stops the boot in words when that cannot be.
pub fn unpack_kernel(info: &BootInfo) -> Vec<u8> {
    let Some(module) = info.modules.first() else {
        refuse(format_args!(
            "no dom0 kernel: the boot loader gave no module"
        ))
    };
    // SAFETY: the module's memory was carved out of what the allocator gets.
    let file = unsafe { pages::ram(module.start, module.len as usize) };
    match pvh_boot::unwrap_kernel(file, KERNEL_LIMIT) {
        Ok(Cow::Owned(kernel)) => kernel,
        Ok(Cow::Borrowed(kernel)) => {
            let mut copy = Vec::new();
            if copy.try_reserve_exact(kernel.len()).is_err() {
                refuse(format_args!(
                    "dom0 kernel: not enough memory for {} KiB",
                    kernel.len() >> 10
                ));
            }
            copy.extend_from_slice(kernel);
            copy
        }
        Err(why) => refuse(format_args!("dom0 kernel: {why}")),
    }
}

/// dom0's memory while it is built.
struct Memory {
    frames: FrameList,
}

impl DomainMemory for Memory {
    fn mfn(&self, pfn: u64) -> u64 {
        // The builder stays inside the domain that it has planned.
        self.frames.get(pfn).unwrap_or(u64::MAX)
    }

    fn write(&mut self, pfn: u64, offset: usize, bytes: &[u8]) {
        let at = PhysAddr((self.mfn(pfn) << 12) + offset as u64);
        // SAFETY: the frame is dom0's, which does not run yet; the caller stays inside the page.
        unsafe { pages::ram_mut(at, bytes.len()) }.copy_from_slice(bytes);
    }

    fn zero(&mut self, pfn: u64) {
        // SAFETY: as above.
        unsafe { pages::ram_mut(Mfn(self.mfn(pfn)).addr(), PAGE_SIZE) }.fill(0);
    }
}

/// Makes dom0 and wakes its first vCPU. The hypervisor is set up.
#[inline(never)]
pub fn create(boot: Box<Boot>) {
    let kernel = match Kernel::parse(&boot.kernel) {
        Ok(kernel) => kernel,
        Err(why) => refuse(format_args!("dom0 kernel: {why}")),
    };
    let kernel = match PvKernel::check(&kernel, PV_FEATURES) {
        Ok(kernel) => kernel,
        Err(why) => refuse(format_args!("dom0 kernel: {why}")),
    };
    release_modules(&boot.info);
    let initrd = boot.info.modules.get(1);
    let own = heap::pages_of(&boot.kernel);
    let want = memory_wanted(&boot, initrd, own.end - own.start);
    let request = Request {
        nr_pages: want.0,
        initrd_len: initrd.map_or(0, |m| m.len),
    };
    let layout = match Layout::plan(&kernel, &request) {
        Ok(layout) => layout,
        Err(why) => refuse(format_args!("dom0: {why}")),
    };
    let options = &boot.command_line.options;
    let keep = options.screen;
    let cpus = percpu::online().count() as u32;
    let domain = make_domain(options.dom0_max_vcpus.pick(cpus).clamp(1, 128), want.1);
    keep_ports(&domain, &boot);
    let split = own.start + (own.end - own.start).min(layout.nr_pages - layout.end);
    let mut memory = Memory {
        frames: allocate(&layout, initrd, own.start..split),
    };
    let state = load(&boot, &kernel, &layout, &domain, &mut memory);
    adopt(&domain, &memory);
    let total = boot.memory.total_frames();
    pages::free_tail(split, heap::take_pages(boot.kernel).end);
    say_own_memory(total, layout.nr_pages);
    start_vcpu(&domain, &memory, &state);
    drop(memory);
    // The other CPUs wait for there to be something to run.
    for cpu in percpu::online().filter(|c| *c != 0) {
        HW.reschedule(cpu);
    }
    let mut input = console::input().lock();
    input.set_focus(Focus::Dom0);
    let banner = input.banner();
    drop(input);
    say!("{banner}");
    if keep == ScreenOwner::Dom0 && vga::is_ours() {
        say!("The screen is dom0's from here on (vga=keep shares it)");
        vga::give_up();
    }
}

/// Writes dom0's start of day into its memory.
fn load(
    boot: &Boot,
    kernel: &PvKernel<'_>,
    layout: &Layout,
    domain: &Domain,
    memory: &mut Memory,
) -> StartState {
    let line = boot
        .command_line
        .dom0_line(&boot.info.modules[0].command_line);
    let maker = match boot.info.efi.system_table {
        Some(_) => ScreenMaker::Efi,
        None => ScreenMaker::Bios,
    };
    let vga = boot.info.video.for_dom0(&boot.memory, maker);
    let start = StartOfDay {
        shared_info: domain.shared_info.addr().0,
        command_line: line.as_bytes(),
        initrd: Initrd::InPlace,
        vga: vga.as_ref(),
    };
    let state = match build(kernel, layout, &start, memory) {
        Ok(state) => state,
        Err(why) => refuse(format_args!("dom0: {why}")),
    };
    if state.command_line_cut != 0 {
        log::warn!(
            "dom0's command line is too long: the last {} bytes are cut",
            state.command_line_cut
        );
    }
    say!(
        "dom0: {} MiB, {} vCPUs, kernel at {:#x}, entry {:#x}, initrd {} KiB",
        layout.nr_pages >> 8,
        domain.vcpus().len(),
        layout.virt_base,
        state.rip,
        layout.initrd_len >> 10
    );
    say!("dom0 command line: {line}");
    state
}

/// What is neither free nor dom0's.
fn say_own_memory(total: u64, dom0: u64) {
    let own = total.saturating_sub(dom0 + pages::free_count());
    let (heap, tables) = (heap::pages() as u64, memory::table_pages());
    say!(
        "Own memory: {} KiB, of which {} KiB for the tables of all frames and {} KiB of heap",
        own << 2,
        tables << 2,
        heap << 2
    );
}

/// Frees what the kernel's module, of which there is the unpacked kernel, and modules beyond the second
/// occupied.
fn release_modules(info: &BootInfo) {
    for (index, module) in info.modules.iter().enumerate() {
        if index == 1 {
            continue;
        }
        let frames = module_frames(module);
        pages::free_run(frames.start, (frames.end.0 - frames.start.0) as usize);
    }
}

/// Pages that dom0 starts with and may have, from dom0_mem= and what is free: also the pages of its initrd
/// and `own`, those of the unpacked kernel, as they become dom0's.
fn memory_wanted(boot: &Boot, initrd: Option<&Module>, own: u64) -> (u64, u64) {
    let initrd_pages = initrd.map_or(0, |m| m.len.div_ceil(PAGE_SIZE as u64));
    let free = pages::free_count() + initrd_pages + own;
    let wanted = boot
        .command_line
        .options
        .dom0_mem
        .resolve(free, boot.memory.total_frames());
    if let Some(asked) = boot
        .command_line
        .options
        .dom0_mem
        .asked(free, boot.memory.total_frames())
        && asked > free
    {
        refuse(format_args!(
            "dom0_mem asks for {} MiB, but only {} MiB are free",
            asked >> 8,
            free >> 8
        ));
    }
    if wanted.initial < MIN_PAGES {
        refuse(format_args!(
            "dom0 would get {} MiB; a kernel needs at least {} MiB: see dom0_mem",
            wanted.initial >> 8,
            MIN_PAGES >> 8
        ));
    }
    (wanted.initial, wanted.limit.max(wanted.initial))
}

fn make_domain(vcpus: u32, max_pages: u64) -> Arc<Domain> {
    let limits = Limits {
        vcpus,
        max_pages,
        max_port: u32::MAX,
        pirqs: super::setup_hv::dom0_pirqs(),
        grants: hv_core::grants::Limits::default(),
    };
    let made = Domain::new(0, DomainKind::Pv64, Rights::Control, limits, hv().backing)
        .map(Arc::new)
        .and_then(|d| hv().make_vcpus(&d).map(|()| d))
        .and_then(|d| hv().add(d.clone()).map(|()| d));
    match made {
        Ok(domain) => domain,
        Err(why) => refuse(format_args!("dom0: {why}")),
    }
}

/// Ports that are ours on this machine: those of the console's UART, and the PM timer, by which dom0 would only
/// measure the clock that we measured already.
fn keep_ports(domain: &Domain, boot: &Boot) {
    let timer = boot.acpi.fadt.as_ref().and_then(|f| f.pm_timer.as_ref());
    let timer = timer.map_or(0, |t| t.port);
    for (first, count) in [(serial::port(), 8), (timer, 4)] {
        if first != 0
            && domain
                .ports
                .deny(first, first.saturating_add(count - 1))
                .is_err()
        {
            refuse(format_args!(
                "dom0: the ports from {first:#x} cannot be kept from it"
            ));
        }
    }
}

/// Frames for dom0: the initrd's own, at the end those of `last`, which nothing is written to, and for the rest
/// the largest blocks there are.
fn allocate(layout: &Layout, initrd: Option<&Module>, last: Range<u64>) -> FrameList {
    let mut frames = FrameList::new();
    let place = match layout.initrd {
        InitrdPlace::None => None,
        _ => layout.initrd.extent(),
    };
    if let (Some(extent), Some(module)) = (place, initrd) {
        fill(&mut frames, extent.pfn);
        let first = module.start.mfn().0;
        append(&mut frames, first..first + extent.pages);
        clear_tail(module, extent.pages);
    }
    fill(&mut frames, layout.nr_pages - (last.end - last.start));
    append(&mut frames, last);
    frames
}

/// Adds free blocks, the largest there are, until there are `end` frames.
fn fill(frames: &mut FrameList, end: u64) {
    let mut order = 18;
    while frames.len() < end {
        let left = end - frames.len();
        let block = next_block(&mut order, left);
        let used = block.1.min(block.0 + left);
        append(frames, block.0..used);
        pages::free_tail(used, block.1);
    }
}

fn append(frames: &mut FrameList, more: Range<u64>) {
    if frames.push(more).is_err() {
        refuse(format_args!(
            "dom0: not enough memory for its list of frames"
        ));
    }
}

/// The next block of frames, of at most `1 << order` pages and not much more than `left`.
fn next_block(order: &mut u32, left: u64) -> (u64, u64) {
    while *order > 0 && (1u64 << *order) > left.next_power_of_two() {
        *order -= 1;
    }
    loop {
        if let Some(first) = pages::alloc_block(*order, 64, 0) {
            return (first.0, first.0 + (1 << *order));
        }
        match order.checked_sub(1) {
            Some(smaller) => *order = smaller,
            None => refuse(format_args!(
                "dom0: memory ran out, {} KiB short",
                left << 2
            )),
        }
    }
}

/// What lies behind the initrd in its last page is not dom0's to see.
fn clear_tail(module: &Module, module_pages: u64) {
    let end = module.start.0 + module.len;
    let page_end = module.start.0 + module_pages * PAGE_SIZE as u64;
    // SAFETY: the page is the module's last; nobody else uses its rest.
    unsafe { pages::ram_mut(PhysAddr(end), (page_end - end) as usize) }.fill(0);
}

/// Makes the frames dom0's own.
fn adopt(domain: &Arc<Domain>, memory: &Memory) {
    for (first, run) in memory.frames.runs() {
        for (pfn, mfn) in (first..).zip(run) {
            let entered = domain.holdings.enter(&HW, Mfn(mfn), Standing::Own);
            if entered.is_err() {
                refuse(format_args!("dom0: frame {mfn:#x} has an owner already"));
            }
            HW.set_m2p(Mfn(mfn), pfn);
        }
    }
    domain.pages.store(memory.frames.len(), Ordering::Relaxed);
}

/// Repeats a page-table operation until it is through: nothing else waits at this point of the boot.
fn finish<T>(mut step: impl FnMut() -> PtResult<T>) -> Result<T, Stop> {
    loop {
        match step() {
            Err(Stop::Restart) => {
                percpu::this().remote.softirq.store(0, Ordering::Relaxed);
            }
            other => return other,
        }
    }
}

/// Validates the page tables that were built, as it would those of any guest, and starts vCPU 0.
fn start_vcpu(domain: &Arc<Domain>, memory: &Memory, start: &StartState) {
    let root = Mfn(memory.mfn(start.root_pfn));
    let mut owed = OwedPuts::new();
    if finish(|| pins::pin(&HW, domain.id, root, Level::L4, &mut owed)).is_err() {
        refuse(format_args!(
            "dom0: the page tables made for it do not pass the checks"
        ));
    }
    let mut state = match PvState::at_reset(fpu::lines()) {
        Ok(state) => state,
        Err(why) => refuse(format_args!("dom0: {why}")),
    };
    if finish(|| {
        pins::set_base(
            &HW,
            domain.id,
            &mut state.roots,
            RootKind::Kernel,
            Some(root),
            &mut owed,
        )
    })
    .is_err()
    {
        refuse(format_args!(
            "dom0: its root page table does not pass the checks"
        ));
    }
    mmu::show_m2p(&HW, domain, RootKind::Kernel, root);
    state.regs.rip = start.rip;
    state.regs.rsp = start.rsp;
    state.regs.rsi = start.rsi;
    state.regs.cs = u64::from(FLAT_KERNEL_CS);
    state.regs.ss = u64::from(FLAT_KERNEL_SS);
    state.regs.rflags = rflags::IF | rflags::FIXED;
    hv().publish_wallclock(domain);
    let first = &domain.vcpus()[0];
    *first.state.lock() = Some(VcpuState::Pv(state));
    first.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
    domain.start(first);
}
