//! The hypervisor's one value, from the boot's facts.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use hv_core::base::CpuId;
use hv_core::boot::acpi::Fadt;
use hv_core::console::{ConsoleSink, ReadRequest, ReadResult};
use hv_core::domain::{
    Backing, CpuPlace, Diagnostics, Facts, Hypervisor, Identity, Processor, Services,
};
use hv_core::sched::{Credit2, Pools, Position, Scheduler};
use hv_core::time::wallclock::WallClock;

use super::host::{self, HV, HW};
use super::percpu::{self, MAX_UNITS};
use super::start::{Boot, refuse};
use super::{clock, console, cpu, devices, efi, privileged, serial_line};

/// The console as hypercalls reach it.
struct Sink;

impl ConsoleSink for Sink {
    fn control_write(&self, text: &[u8]) {
        console::console().lock().out_only(text);
    }

    fn host_line(&self, line: &str) {
        console::print(format_args!("{line}"));
    }

    fn read_input(&self, out: &mut [u8]) -> usize {
        console::input().lock().read(out)
    }

    fn read_ring(&self, request: ReadRequest, out: &mut [u8]) -> ReadResult {
        console::console().lock().read(request, out)
    }
}

/// Machine state for the debug keys.
struct State;

impl Diagnostics for State {
    fn registers(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        serial_line::registers(out)
    }

    fn interrupts(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        host::hv().irqs.dump(out)
    }

    fn crash(&self) {
        // SAFETY: an undefined instruction is an exception, which ends in a report and a stop.
        unsafe { core::arch::asm!("ud2") };
    }

    #[cfg(debug_assertions)]
    fn hang(&self) {
        cpu::cli();
        let _held = percpu::this().timers.lock();
        loop {
            core::hint::spin_loop();
        }
    }
}

/// Sets everything up that domains stand on. A frame of its own: it has much on the stack.
#[inline(never)]
pub fn hypervisor(boot: &Boot) {
    let options = &boot.command_line.options;
    let facts = facts(boot);
    let cpus = facts.processor.cpus.clone();
    let (count, credit2) = (cpus.len() as CpuId, options.credit2.clone());
    let make = move || {
        let position = |cpu: CpuId| {
            let CpuPlace { socket, core, .. } = cpus[cpu as usize];
            Position { socket, core }
        };
        Credit2::for_machine(count, &position, MAX_UNITS, &credit2)
    };
    let pools: &'static Pools = match Pools::made_by(Box::new(make), count, MAX_UNITS) {
        Ok(pools) => Box::leak(Box::new(pools)),
        Err(why) => refuse(format_args!("scheduler: {why}")),
    };
    for cpu in percpu::online() {
        add_cpu(pools, cpu);
    }
    let irqs = devices::init(boot);
    let backing = Backing {
        machine: &HW,
        sched: pools,
        pools,
        pirqs: irqs,
    };
    let abi = options.abi;
    privileged::init(
        u32::from(abi.major) << 16 | u32::from(abi.minor),
        address_bits(&facts),
    );
    let services = Services {
        console: &Sink,
        policies: &privileged::tables().policies,
        diagnostics: &State,
        efi: efi::services(),
    };
    HV.call_once(|| Hypervisor::new(backing, services, irqs, identity(boot), facts));
    host::fix_slots();
    let fadt = boot.acpi.fadt.as_ref();
    let seconds = if fadt.is_some_and(Fadt::lacks_cmos_clock) {
        efi::time_of_day()
    } else {
        clock::read_rtc(fadt.map_or(0, |f| f.century))
    };
    if let Ok(wall) = WallClock::set(seconds, 0, clock::now()) {
        host::hv().set_wallclock(wall);
    }
}

fn add_cpu(sched: &Pools, cpu: CpuId) {
    if let Err(why) = sched.add_cpu(cpu, clock::now()) {
        log::error!("CPU {cpu} is not scheduled on: {why}");
    }
}

fn identity(boot: &Boot) -> Identity {
    let abi = boot.command_line.options.abi;
    Identity {
        major: abi.major,
        minor: abi.minor,
        extra: ".0-xenolith".to_string(),
        changeset: String::new(),
        compiler: concat!("rustc, Xenolith ", env!("CARGO_PKG_VERSION")).to_string(),
        compile_by: "xenolith".to_string(),
        compile_domain: String::new(),
        compile_date: String::new(),
        command_line: boot.info.command_line.clone(),
        build_id: build_id().to_vec(),
        params: boot.command_line.options.in_effect(),
    }
}

/// The linker's hash of the image: the descriptor of its GNU note, behind a header of 16 bytes.
fn build_id() -> &'static [u8] {
    // SAFETY: the linker script defines them; they are used as addresses.
    unsafe extern "C" {
        static build_id_start: [u8; 0];
        static build_id_end: [u8; 0];
    }
    let start = (&raw const build_id_start).cast::<u8>();
    let len = &raw const build_id_end as usize - start as usize;
    // SAFETY: the linker script bounds the note, which lies in the image, read-only.
    let note = unsafe { core::slice::from_raw_parts(start, len) };
    note.get(16..).unwrap_or_default()
}

fn facts(boot: &Boot) -> Facts {
    let madt = boot.acpi.madt.as_ref();
    let local = madt.map_or(hv_core::base::PhysAddr(0xfee0_0000), |m| {
        m.local_apic_address
    });
    let io: alloc::vec::Vec<_> = madt
        .iter()
        .flat_map(|m| &m.io_apics)
        .map(|a| a.address)
        .collect();
    Facts {
        max_page: boot.memory.max_page(),
        total_pages: boot.memory.total_frames(),
        memory_map: boot
            .memory
            .machine_map(local, &io)
            .regions()
            .iter()
            .map(|r| (*r).into())
            .collect(),
        m2p_frames: boot.m2p.clone(),
        tsc_khz: (clock::tsc_hz() / 1000) as u32,
        processor: processor(boot),
        hvm: super::hvm::promise(),
    }
}

/// Physical interrupts that dom0 may bind.
pub fn dom0_pirqs() -> u32 {
    host::hv().irqs.pirq_limit()
}

/// Bits of the highest machine address, as the Xen leaves tell.
fn address_bits(facts: &Facts) -> u32 {
    let last = (facts.max_page.max(1) << 12) - 1;
    (64 - last.leading_zeros()).max(32)
}

/// What the boot CPU says of itself, and where each CPU sits.
fn processor(boot: &Boot) -> Processor {
    let cpu = cpu::identity();
    let signature = cpu.get_feature_info();
    let of_signature = |field: fn(&raw_cpuid::FeatureInfo) -> u8| {
        signature.as_ref().map_or(0, |s| u32::from(field(s)))
    };
    let vendor = cpu
        .get_vendor_info()
        .and_then(|v| v.as_str().as_bytes().first_chunk().copied());
    let mut brand = [[0; 16]; 3];
    if let Some(text) = cpu.get_processor_brand_string() {
        let room = brand.as_flattened_mut().iter_mut();
        room.zip(text.as_str().bytes())
            .for_each(|(to, from)| *to = from);
    }
    Processor {
        vendor: vendor.unwrap_or_default(),
        brand,
        max_leaf: cpu::cpuid(0, 0)[0],
        family: of_signature(|s| s.family_id()),
        model: of_signature(|s| s.model_id()),
        stepping: of_signature(|s| s.stepping_id()),
        address_bits: cpu
            .get_processor_capacity_feature_info()
            .map_or(36, |c| c.physical_address_bits()),
        cache_line: of_signature(|s| s.cflush_cache_line_size()) * 8,
        mcg_cap: super::mce::capabilities(),
        cpus: percpu::online().map(|c| place(boot, c)).collect(),
    }
}

/// Socket, core and thread from the APIC id: the widths are those that the boot CPU tells (leaf 0xb on Intel
/// and newer AMD, else leaf 0x80000008). Read as they are: `raw-cpuid` panics on a kind of level that it does
/// not know.
fn place(boot: &Boot, id: CpuId) -> CpuPlace {
    let apic_id = percpu::apic_id(id).unwrap_or(0);
    let acpi_id = boot
        .acpi
        .madt
        .iter()
        .flat_map(|m| &m.cpus)
        .find(|c| c.apic_id == apic_id)
        .map_or(id, |c| c.acpi_uid);
    let (thread_bits, package_bits) = if cpu::cpuid(0, 0)[0] >= 0xb && cpu::cpuid(0xb, 0)[1] != 0 {
        (cpu::cpuid(0xb, 0)[0] & 0x1f, cpu::cpuid(0xb, 1)[0] & 0x1f)
    } else {
        (0, cpu::cpuid(0x8000_0008, 0)[2] >> 12 & 0xf)
    };
    CpuPlace {
        apic_id,
        acpi_id,
        socket: apic_id.checked_shr(package_bits).unwrap_or(0),
        core: (apic_id & ((1u32 << package_bits) - 1)) >> thread_bits,
        thread: apic_id & ((1 << thread_bits) - 1),
    }
}
