//! The way from the loader's entry to the first guest.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ops::Range;

use hv_core::base::{Mfn, PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use hv_core::boot::PhysMem;
use hv_core::boot::acpi::{self, AcpiFacts};
use hv_core::boot::cmdline::{
    Baud, ConsoleSink, Dom0Mode, LogLevel, LogThreshold, Options, Parsed, SchedulerName,
};
use hv_core::boot::efi::EfiFacts;
use hv_core::boot::info::{BootInfo, Module, Rsdp, VideoInfo};
use hv_core::boot::memmap::{MemoryMap, UsableFrames};
use hv_core::boot::modules::check_modules;
use hv_core::console::levels::Thresholds;
use hv_core::mm::buddy::Buddy;

use super::layout::DIRECT_MAP;
use super::{
    console, cpu, cpuinfo, dom0, efi, fpu, heap, high, host, memory, pages, percpu, power, serial,
    setup, smp, tables, traps, vga, view,
};
use crate::say;

/// Physical memory by the boot's map: all below 4 GiB, and what is asked for above. Not after that map's end.
pub struct EarlyMemory;

impl PhysMem for EarlyMemory {
    fn read(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let end = addr.0.checked_add(len as u64)?;
        let mapped = end <= 4 << 30 || high::reach(addr.0, len as u64);
        // SAFETY: the boot's tables map all of it, and nothing writes what the loader left.
        mapped.then(|| unsafe {
            core::slice::from_raw_parts((DIRECT_MAP + addr.0) as *const u8, len)
        })
    }
}

/// What the first half of the boot hands to the second, which runs on the boot CPU's own stack.
pub struct Boot {
    /// Options and what dom0's command line gets from ours.
    pub command_line: Parsed,
    /// The loader's information.
    pub info: BootInfo,
    /// The memory map.
    pub memory: MemoryMap,
    /// Frames of the M2P.
    pub m2p: Vec<Option<Mfn>>,
    /// The firmware's static tables.
    pub acpi: AcpiFacts,
    /// dom0's kernel, unpacked.
    pub kernel: Vec<u8>,
    /// The firmware, where it is EFI.
    pub efi: Option<EfiFacts>,
}

/// The heap's first memory, before the memory map is known.
#[repr(C, align(4096))]
struct FirstHeap(UnsafeCell<[u8; 512 << 10]>);
// SAFETY: handed to the allocator once, by the boot CPU.
unsafe impl Sync for FirstHeap {}
static FIRST_HEAP: FirstHeap = FirstHeap(UnsafeCell::new([0; 512 << 10]));

/// Stops the boot with a line that says why.
pub fn refuse(why: core::fmt::Arguments<'_>) -> ! {
    say!("****************************************");
    say!("Cannot boot: {why}");
    say!("****************************************");
    // Not even without `noreboot`: the next boot would find the same.
    power::stop_for_good()
}

/// Stops the boot because there is not enough RAM for something of ours.
pub fn short_of_ram(what: &str) -> ! {
    refuse(format_args!(
        "the machine has too little RAM: none left for {what}"
    ))
}

/// Called by boot.S with what the loader left in its registers.
#[unsafe(no_mangle)]
extern "C" fn start(protocol: u32, info: u32) -> ! {
    serial::init(0x3f8, 115_200);
    tables::fill_idt(8, false);
    tables::load_idt();
    // SAFETY: the array is used for nothing else.
    unsafe { heap::add(FIRST_HEAP.0.get() as *mut u8, 512 << 10) };
    console::install_logger();
    let mut info = match BootInfo::parse(&EarlyMemory, protocol, PhysAddr(u64::from(info))) {
        Ok(info) => info,
        Err(why) => refuse(format_args!("the boot loader's information: {why}")),
    };
    let width = cpu::identity()
        .get_processor_capacity_feature_info()
        .map_or(36, |c| c.physical_address_bits());
    host::set_address_width(u32::from(width));
    let (memory, warnings) = MemoryMap::new(&info.memory_map, 1 << width.min(42));
    let command_line = Parsed::new(&info.command_line);
    configure_console(&command_line.options, &info, &memory);
    banner(&info, &command_line);
    setup::require_features();

    say!("Memory map of the {}:", info.protocol);
    memory.regions().iter().for_each(|r| say!(" {r}"));
    warnings.iter().for_each(|w| log::warn!("{w}"));
    let (image, image_len) = memory::image();
    if let Err(why) = check_modules(&info.modules, &memory, image.0..image.0 + image_len) {
        refuse(format_args!("{why}"));
    }
    let efi = efi::discover(&info);
    let free = free_frames(&info, &memory);
    let first_run = start_pages(&free);
    let acpi = read_acpi(&info);

    fpu::discover();
    view::decide(command_line.options.xpti);
    setup::cpu_features();
    if setup::has_smap() {
        traps::patch_smap_sites();
    }
    if view::isolation().any() {
        traps::patch_view_sites();
    }
    memory::map_ram(&memory);
    vga::map();
    let early = more_pages(&free, first_run);
    console::console()
        .lock()
        .enlarge(command_line.options.conring_size);
    let tables = memory::build(&memory);
    hand_over_pages(&free, &info, &early, &tables.spare);
    info.modules
        .iter_mut()
        .filter(|m| is_low(m))
        .for_each(raise_module);
    say!(
        "System RAM: {} MiB ({} KiB)",
        memory.total_frames() >> 8,
        memory.total_frames() << 2
    );

    let kernel = dom0::unpack_kernel(&info);
    let boot = Box::new(Boot {
        command_line,
        info,
        memory,
        m2p: tables.m2p,
        acpi,
        kernel,
        efi,
    });
    to_own_stack(boot)
}

fn configure_console(options: &Options, info: &BootInfo, memory: &MemoryMap) {
    let wanted = options.console.contains(&ConsoleSink::Com1);
    match options.com1 {
        _ if !wanted => serial::init(0, 0),
        Some(settings) => {
            let baud = match settings.baud {
                Baud::Auto => 0,
                Baud::Rate(rate) => rate,
            };
            serial::init(settings.io_base, baud);
        }
        None => serial::init(0x3f8, 0),
    }
    // What is unknown is text mode, but for EFI, which has none.
    let dark = info.video == VideoInfo::Unknown && info.efi.system_table.is_some();
    if options.console.contains(&ConsoleSink::Vga) && !dark {
        vga::take(&info.video, memory);
    }
    let threshold = thresholds(options.loglvl);
    console::console()
        .lock()
        .configure(threshold, thresholds(options.guest_loglvl));
    super::clock::set_slop(options.timer_slop.into());
    power::set_plan(options.after_panic, options.reset);
}

fn banner(info: &BootInfo, command_line: &Parsed) {
    let abi = command_line.options.abi;
    say!(
        "Xenolith {} (Xen ABI {}.{})",
        env!("CARGO_PKG_VERSION"),
        abi.major,
        abi.minor
    );
    say!("Bootloader: {} ({})", info.loader_name, info.protocol);
    say!("Command line: {}", info.command_line);
    command_line.diagnostics.iter().for_each(|d| say!("{d}"));
    let options = &command_line.options;
    let without_effect = [
        (options.scheduler == SchedulerName::Null, "sched=null"),
        (options.dom0_mode == Dom0Mode::Pvh, "dom0=pvh"),
        (options.com2.is_some(), "com2="),
    ];
    for (_, name) in without_effect.iter().filter(|(given, _)| *given) {
        say!("Option \"{name}\" is not implemented and has no effect");
    }
    say!("Video: {}", info.video);
    let (image, len) = memory::image();
    say!("Image: {} KiB at {image:#x}", len >> 10);
}

/// RAM that nobody uses: without the first MiB, the image and the modules.
fn free_frames(info: &BootInfo, memory: &MemoryMap) -> UsableFrames {
    let mut free = UsableFrames::new(memory);
    for module in &info.modules {
        free.carve_out(module.start, module.len);
    }
    smp::choose_trampoline(free.find_low(1));
    free.carve_out_low_mib();
    let (start, len) = memory::image();
    free.carve_out(start, len);
    free
}

/// Lets the boot allocate: from the largest run that its own tables map. Returns that run.
fn start_pages(free: &UsableFrames) -> Range<u64> {
    match largest(free, (4u64 << 30) / PAGE_SIZE as u64) {
        Some(run) => {
            pages::start_early(Mfn(run.start), Mfn(run.end));
            run
        }
        None => refuse(format_args!("no usable RAM below 4 GiB in the memory map")),
    }
}

/// The largest run of frames below `limit`.
fn largest(free: &UsableFrames, limit: u64) -> Option<Range<u64>> {
    let runs = free.runs().map(|run| run.start.0..run.end.0.min(limit));
    runs.filter(|run| run.start < run.end)
        .max_by_key(|run| run.end - run.start)
}

/// The runs that the boot takes pages from.
struct EarlyRuns {
    /// The run that is in use.
    current: Range<u64>,
    /// What was taken of the run before, at its upper end.
    taken: Range<u64>,
}

/// All RAM is mapped: goes on with the largest run of all where that is another one, so that tables for
/// much RAM do not eat the memory that devices can reach.
fn more_pages(free: &UsableFrames, first: Range<u64>) -> EarlyRuns {
    let others = free.runs().map(|run| run.start.0..run.end.0).map(|run| {
        // The first run may be the part below 4 GiB of a larger one.
        if run.contains(&first.start) {
            first.end.max(run.start)..run.end
        } else {
            run
        }
    });
    let best = others
        .max_by_key(|run| run.end.saturating_sub(run.start))
        .unwrap_or(0..0);
    if best.end.saturating_sub(best.start) <= first.end - first.start {
        return EarlyRuns {
            current: first.clone(),
            taken: first.end..first.end,
        };
    }
    let (_, end) = pages::start_early(Mfn(best.start), Mfn(best.end));
    EarlyRuns {
        current: best,
        taken: end.0..first.end,
    }
}

fn read_acpi(info: &BootInfo) -> AcpiFacts {
    let (facts, warnings) = match &info.rsdp {
        Some(Rsdp::Copy(bytes)) => AcpiFacts::parse_copy(&EarlyMemory, bytes),
        Some(Rsdp::Address(at)) => AcpiFacts::parse(&EarlyMemory, *at),
        None => match acpi::find_rsdp(&EarlyMemory) {
            Some(at) => AcpiFacts::parse(&EarlyMemory, at),
            None => {
                log::warn!("ACPI: no RSDP: one CPU, no I/O APIC");
                (AcpiFacts::default(), Vec::new())
            }
        },
    };
    facts.tables.iter().for_each(|t| say!("{t}"));
    warnings.iter().for_each(|w| say!("{w}"));
    facts
}

/// Gives all free RAM to the page allocator, and the modules' RAM as pages that are in use.
fn hand_over_pages(free: &UsableFrames, info: &BootInfo, early: &EarlyRuns, spare: &[Range<u64>]) {
    let mut rest = free.clone();
    for range in [&early.taken, &early.current] {
        rest.carve_out(
            Mfn(range.start).addr(),
            (range.end - range.start) << PAGE_SHIFT,
        );
    }
    let mut buddy = Buddy::new();
    rest.runs().for_each(|run| add(&mut buddy, run));
    for run in spare {
        add(&mut buddy, Mfn(run.start)..Mfn(run.end));
    }
    for module in info.modules.iter().filter(|m| !is_low(m)) {
        let frames = module_frames(module);
        add(&mut buddy, frames.clone());
        for frame in frames.start.0..frames.end.0 {
            // Taken until dom0 is built, or for good where it becomes dom0's.
            let taken = buddy.take(Mfn(frame), 0);
            debug_assert!(taken.is_ok(), "the region was just added");
        }
    }
    // The run that this function itself allocates from goes last: its bits are made while it still
    // serves, and the small heap gets room for the allocator's lists before it ends.
    let words = Buddy::words_for(&(Mfn(early.current.start)..Mfn(early.current.end)));
    let store: &'static mut [u64] = Box::leak(alloc::vec![0u64; words].into_boxed_slice());
    drop(Vec::<u8>::with_capacity(24 << 10));
    let (start, end) = pages::start_early(Mfn(0), Mfn(0));
    if let Err(why) = buddy.add_region_in(start..end, store) {
        refuse(format_args!("page allocator: {why:?}"));
    }
    pages::start_buddy(buddy);
}

/// Whether a module lies in the first MiB, where GRUB puts small ones and no frame is anybody's RAM.
fn is_low(module: &Module) -> bool {
    module.len != 0 && module.start.0 < 1 << 20
}

/// Copies a module to pages of the allocator.
fn raise_module(module: &mut Module) {
    let frames = module_frames(module);
    let count = frames.end.0 - frames.start.0;
    let order = count.next_power_of_two().trailing_zeros();
    let Some(to) = pages::alloc_block(order, 64, 0) else {
        refuse(format_args!(
            "no memory for {} bytes of a module",
            module.len
        ));
    };
    let len = module.len as usize;
    // SAFETY: nothing writes what the loader left, and the block was just given to this function.
    unsafe { pages::ram_mut(to.addr(), len).copy_from_slice(pages::ram(module.start, len)) };
    pages::free_tail(to.0 + count, to.0 + (1 << order));
    module.start = to.addr();
}

/// Every frame that a module touches.
pub fn module_frames(module: &Module) -> Range<Mfn> {
    let first = module.start.mfn();
    if module.len == 0 {
        // Nowhere, and its page may be anybody's.
        return first..first;
    }
    first..Mfn((module.start.0 + module.len).div_ceil(PAGE_SIZE as u64))
}

fn add(buddy: &mut Buddy, run: Range<Mfn>) {
    if let Err(why) = buddy.add_region(run.clone()) {
        log::warn!("RAM at frame {:#x} is not used: {why:?}", run.start);
    }
}

/// Goes on in `continue_boot` on the boot CPU's final stack.
fn to_own_stack(boot: Box<Boot>) -> ! {
    let data = percpu::create(0, 0);
    let Some(info) = tables::create_area(0, data) else {
        refuse(format_args!("no memory for the boot CPU's stacks"))
    };
    tables::fill_idt(tables::HYP_CS, true);
    tables::load(0);
    let stack = info as u64 - cpuinfo::FRAME_GAP;
    // SAFETY: the stack is mapped and empty; the argument is an owned pointer that the callee takes back.
    unsafe {
        core::arch::asm!(
            "mov rsp, {stack}", "xor ebp, ebp", "call {next}", "ud2",
            stack = in(reg) stack, in("rdi") Box::into_raw(boot), next = sym continue_boot, options(noreturn)
        )
    }
}

extern "C" fn continue_boot(boot: *mut Boot) -> ! {
    // SAFETY: from `to_own_stack`, which has given it up.
    let mut boot = unsafe { Box::from_raw(boot) };
    super::bringup::machine(&boot);
    if let Some(facts) = boot.efi.take() {
        efi::init(facts);
    }
    super::bringup::cpus(&boot);
    super::setup_hv::hypervisor(&boot);
    let options = &boot.command_line.options;
    let (watch_for, mwait) = (options.watch_for(), options.mwait_idle);
    dom0::create(boot);
    super::watchdog::begin(watch_for);
    super::idle::begin(mwait);
    super::run::run_cpu()
}

/// The console's thresholds for an option's.
pub fn thresholds(option: LogThreshold) -> Thresholds {
    let word = |level| match level {
        LogLevel::None => "none",
        LogLevel::Error => "error",
        LogLevel::Warning => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug => "all",
    };
    let text = alloc::format!("{}/{}", word(option.always), word(option.limited));
    Thresholds::parse(&text).unwrap_or(Thresholds::HOST)
}
