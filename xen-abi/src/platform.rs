//! Machine-wide operations of the first domain, hypercall `platform_op` (platform.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Version of these layouts (platform.h).
pub const XENPF_INTERFACE_VERSION: u32 = 0x0300_0001;

/// A request (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformOp {
    /// `XENPF_*`.
    pub cmd: u32,
    /// [`XENPF_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// Argument, by operation.
    pub u: [u64; 16],
}

/// Set the wall clock, 32-bit seconds; [`PlatformSettime32`] (platform.h).
pub const XENPF_settime32: u32 = 17;
/// Set a memory type; [`PlatformAddMemtype`] (platform.h).
pub const XENPF_add_memtype: u32 = 31;
/// Remove a memory type; [`PlatformDelMemtype`] (platform.h).
pub const XENPF_del_memtype: u32 = 32;
/// Read a memory type register; [`PlatformReadMemtype`] (platform.h).
pub const XENPF_read_memtype: u32 = 33;
/// Load microcode; [`PlatformMicrocodeUpdate`] (platform.h).
pub const XENPF_microcode_update: u32 = 35;
/// Report a quirk; [`PlatformQuirk`] (platform.h).
pub const XENPF_platform_quirk: u32 = 39;
/// Vendor and model of a CPU; [`PlatformPcpuVersion`] (platform.h).
pub const XENPF_get_cpu_version: u32 = 48;
/// Call EFI; [`PlatformEfiRuntimeCall`] (platform.h).
pub const XENPF_efi_runtime_call: u32 = 49;
/// What the firmware left behind; [`PlatformFirmwareInfo`] (platform.h).
pub const XENPF_firmware_info: u32 = 50;
/// Enter a sleep state; [`PlatformEnterAcpiSleep`] (platform.h).
pub const XENPF_enter_acpi_sleep: u32 = 51;
/// Report a new frequency; [`PlatformChangeFreq`] (platform.h).
pub const XENPF_change_freq: u32 = 52;
/// Idle time of CPUs; [`PlatformGetidletime`] (platform.h).
pub const XENPF_getidletime: u32 = 53;
/// Pass a CPU's ACPI power data; [`PlatformSetProcessorPminfo`] (platform.h).
pub const XENPF_set_processor_pminfo: u32 = 54;
/// State of a CPU; [`PlatformPcpuinfo`] (platform.h).
pub const XENPF_get_cpuinfo: u32 = 55;
/// Take a CPU on-line; [`PlatformCpuOl`] (platform.h).
pub const XENPF_cpu_online: u32 = 56;
/// Take a CPU off-line; [`PlatformCpuOl`] (platform.h).
pub const XENPF_cpu_offline: u32 = 57;
/// A CPU was added; [`PlatformCpuHotadd`] (platform.h).
pub const XENPF_cpu_hotadd: u32 = 58;
/// Memory was added; [`PlatformMemHotadd`] (platform.h).
pub const XENPF_mem_hotadd: u32 = 59;
/// Park CPUs; [`PlatformCoreParking`] (platform.h).
pub const XENPF_core_parking: u32 = 60;
/// Access MSRs; [`PlatformResourceOp`] (platform.h).
pub const XENPF_resource_op: u32 = 61;
/// Set the wall clock; [`PlatformSettime64`] (platform.h).
pub const XENPF_settime64: u32 = 62;
/// Read the hypervisor's symbols; [`PlatformSymdata`] (platform.h).
pub const XENPF_get_symbol: u32 = 63;
/// Quirk: leave interrupt destinations alone (platform.h).
pub const QUIRK_NOIRQBALANCING: u32 = 1;
/// Quirk: the I/O APIC forgets its register index (platform.h).
pub const QUIRK_IOAPIC_BAD_REGSEL: u32 = 2;
/// Quirk: the I/O APIC keeps its register index (platform.h).
pub const QUIRK_IOAPIC_GOOD_REGSEL: u32 = 3;
/// Firmware: BIOS disk; [`FirmwareDiskInfo`] (platform.h).
pub const XEN_FW_DISK_INFO: u32 = 1;
/// Firmware: disk signature; [`FirmwareDiskMbrSignature`] (platform.h).
pub const XEN_FW_DISK_MBR_SIGNATURE: u32 = 2;
/// Firmware: monitor description; [`FirmwareVbeddcInfo`] (platform.h).
pub const XEN_FW_VBEDDC_INFO: u32 = 3;
/// Firmware: EFI (platform.h).
pub const XEN_FW_EFI_INFO: u32 = 4;
/// Firmware: keyboard shift flags, one byte (platform.h).
pub const XEN_FW_KBD_SHIFT_FLAGS: u32 = 5;
/// EFI: version (platform.h).
pub const XEN_FW_EFI_VERSION: u32 = 0;
/// EFI: configuration table (platform.h).
pub const XEN_FW_EFI_CONFIG_TABLE: u32 = 1;
/// EFI: vendor (platform.h).
pub const XEN_FW_EFI_VENDOR: u32 = 2;
/// EFI: memory descriptor of an address (platform.h).
pub const XEN_FW_EFI_MEM_INFO: u32 = 3;
/// EFI: version of runtime services (platform.h).
pub const XEN_FW_EFI_RT_VERSION: u32 = 4;
/// EFI: ROM of a PCI device (platform.h).
pub const XEN_FW_EFI_PCI_ROM: u32 = 5;
/// EFI: Apple properties (platform.h).
pub const XEN_FW_EFI_APPLE_PROPERTIES: u32 = 6;
/// EFI service: read the clock (platform.h).
pub const XEN_EFI_get_time: u32 = 1;
/// EFI service: set the clock (platform.h).
pub const XEN_EFI_set_time: u32 = 2;
/// EFI service: read the alarm (platform.h).
pub const XEN_EFI_get_wakeup_time: u32 = 3;
/// EFI service: set the alarm (platform.h).
pub const XEN_EFI_set_wakeup_time: u32 = 4;
/// EFI service: next count (platform.h).
pub const XEN_EFI_get_next_high_monotonic_count: u32 = 5;
/// EFI service: read a variable (platform.h).
pub const XEN_EFI_get_variable: u32 = 6;
/// EFI service: set a variable (platform.h).
pub const XEN_EFI_set_variable: u32 = 7;
/// EFI service: next variable (platform.h).
pub const XEN_EFI_get_next_variable_name: u32 = 8;
/// EFI service: room for variables (platform.h).
pub const XEN_EFI_query_variable_info: u32 = 9;
/// EFI service: can it take a capsule? (platform.h).
pub const XEN_EFI_query_capsule_capabilities: u32 = 10;
/// EFI service: pass a capsule (platform.h).
pub const XEN_EFI_update_capsule: u32 = 11;
/// Sleep flag: extended registers (platform.h).
pub const XENPF_ACPI_SLEEP_EXTENDED: u32 = 1;
/// Power data: idle states (platform.h).
pub const XEN_PM_CX: u32 = 0;
/// Power data: performance states (platform.h).
pub const XEN_PM_PX: u32 = 1;
/// Power data: throttling states (platform.h).
pub const XEN_PM_TX: u32 = 2;
/// Power data: capabilities (platform.h).
pub const XEN_PM_PDC: u32 = 3;
/// Performance data: control and status registers (platform.h).
pub const XEN_PX_PCT: u32 = 1;
/// Performance data: states (platform.h).
pub const XEN_PX_PSS: u32 = 2;
/// Performance data: platform limit (platform.h).
pub const XEN_PX_PPC: u32 = 4;
/// Performance data: dependencies (platform.h).
pub const XEN_PX_PSD: u32 = 8;
/// CPU flag: on-line (platform.h).
pub const XEN_PCPU_FLAGS_ONLINE: u32 = 1;
/// CPU flag: not there (platform.h).
pub const XEN_PCPU_FLAGS_INVALID: u32 = 2;
/// Parking: set (platform.h).
pub const XEN_CORE_PARKING_SET: u32 = 1;
/// Parking: get (platform.h).
pub const XEN_CORE_PARKING_GET: u32 = 2;
/// Resource: read an MSR (platform.h).
pub const XEN_RESOURCE_OP_MSR_READ: u32 = 0;
/// Resource: write an MSR (platform.h).
pub const XEN_RESOURCE_OP_MSR_WRITE: u32 = 1;

/// Argument of [`XENPF_settime32`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformSettime32 {
    /// Seconds since 1970.
    pub secs: u32,
    /// Nanoseconds.
    pub nsecs: u32,
    /// System time to which that belongs, in nanoseconds.
    pub system_time: u64,
}

/// Argument of [`XENPF_settime64`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformSettime64 {
    /// Seconds since 1970.
    pub secs: u64,
    /// Nanoseconds.
    pub nsecs: u32,
    /// Reserved; zero.
    pub mbz: u32,
    /// System time to which that belongs, in nanoseconds.
    pub system_time: u64,
}

/// Argument of [`XENPF_add_memtype`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformAddMemtype {
    /// First frame.
    pub mfn: u64,
    /// Number of frames.
    pub nr_mfns: u64,
    /// MTRR type.
    pub r#type: u32,
    /// Out: name.
    pub handle: u32,
    /// Out: register used.
    pub reg: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of [`XENPF_del_memtype`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformDelMemtype {
    /// Name, or 0.
    pub handle: u32,
    /// Register.
    pub reg: u32,
}

/// Argument of [`XENPF_read_memtype`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformReadMemtype {
    /// Register.
    pub reg: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Out: first frame.
    pub mfn: u64,
    /// Out: number of frames.
    pub nr_mfns: u64,
    /// Out: MTRR type.
    pub r#type: u32,
    /// Padding.
    pub _pad1: [u8; 4],
}

/// Argument of [`XENPF_microcode_update`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformMicrocodeUpdate {
    /// The update.
    pub data: GuestHandle<u8>,
    /// Its size in bytes.
    pub length: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of [`XENPF_platform_quirk`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformQuirk {
    /// `QUIRK_*`.
    pub quirk_id: u32,
}

/// Argument of [`XENPF_efi_runtime_call`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformEfiRuntimeCall {
    /// Service.
    pub function: u32,
    /// Flags, or the counter read.
    pub misc: u32,
    /// Out: EFI status.
    pub status: u64,
    /// Argument of the service.
    pub u: [u64; 5],
}

/// Argument of [`XENPF_firmware_info`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformFirmwareInfo {
    /// `XEN_FW_*`.
    pub r#type: u32,
    /// Which one.
    pub index: u32,
    /// Out: what was found.
    pub u: [u64; 4],
}

/// A BIOS disk (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FirmwareDiskInfo {
    /// BIOS number.
    pub device: u8,
    /// Version of the extensions.
    pub version: u8,
    /// Extensions there are.
    pub interface_support: u16,
    /// Highest cylinder.
    pub legacy_max_cylinder: u16,
    /// Highest head.
    pub legacy_max_head: u8,
    /// Sectors per track.
    pub legacy_sectors_per_track: u8,
    /// Buffer for the drive parameters.
    pub edd_params: GuestHandle<u8>,
}

/// A disk's signature (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FirmwareDiskMbrSignature {
    /// BIOS number.
    pub device: u8,
    /// Padding.
    pub _pad0: [u8; 3],
    /// Signature in the master boot record.
    pub mbr_signature: u32,
}

/// A monitor's description (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FirmwareVbeddcInfo {
    /// Capabilities.
    pub capabilities: u8,
    /// Time to transfer a block.
    pub edid_transfer_time: u8,
    /// Padding.
    pub _pad0: [u8; 6],
    /// Buffer of 128 bytes.
    pub edid: GuestHandle<u8>,
}

/// Argument of [`XENPF_enter_acpi_sleep`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformEnterAcpiSleep {
    /// Value for PM1a, or sleep type a.
    pub val_a: u16,
    /// Value for PM1b, or sleep type b.
    pub val_b: u16,
    /// State to enter.
    pub sleep_state: u32,
    /// `XENPF_ACPI_SLEEP_*`.
    pub flags: u32,
}

/// Argument of [`XENPF_change_freq`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformChangeFreq {
    /// Zero.
    pub flags: u32,
    /// CPU.
    pub cpu: u32,
    /// Frequency in Hz.
    pub freq: u64,
}

/// Argument of [`XENPF_getidletime`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformGetidletime {
    /// In: CPUs asked about; out: those present.
    pub cpumap_bitmap: GuestHandle<u8>,
    /// Number of bits.
    pub cpumap_nr_cpus: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Array by CPU, nanoseconds.
    pub idletime: GuestHandle<u64>,
    /// Out: system time of the answer.
    pub now: u64,
}

/// Argument of [`XENPF_set_processor_pminfo`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformSetProcessorPminfo {
    /// ACPI id of the CPU.
    pub id: u32,
    /// `XEN_PM_*`.
    pub r#type: u32,
    /// The data.
    pub u: [u64; 13],
}

/// Argument of [`XENPF_get_cpuinfo`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformPcpuinfo {
    /// CPU.
    pub xen_cpuid: u32,
    /// Out: highest CPU present.
    pub max_present: u32,
    /// Out: `XEN_PCPU_FLAGS_*`.
    pub flags: u32,
    /// Out: APIC id.
    pub apic_id: u32,
    /// Out: ACPI id.
    pub acpi_id: u32,
}

/// Argument of [`XENPF_get_cpu_version`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformPcpuVersion {
    /// CPU.
    pub xen_cpuid: u32,
    /// Out: highest CPU present.
    pub max_present: u32,
    /// Out: vendor.
    pub vendor_id: [u8; 12],
    /// Out: family.
    pub family: u32,
    /// Out: model.
    pub model: u32,
    /// Out: stepping.
    pub stepping: u32,
}

/// Argument of [`XENPF_cpu_online`] and [`XENPF_cpu_offline`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformCpuOl {
    /// CPU.
    pub cpuid: u32,
}

/// Argument of [`XENPF_cpu_hotadd`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformCpuHotadd {
    /// APIC id.
    pub apic_id: u32,
    /// ACPI id.
    pub acpi_id: u32,
    /// Proximity domain.
    pub pxm: u32,
}

/// Argument of [`XENPF_mem_hotadd`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformMemHotadd {
    /// First frame.
    pub spfn: u64,
    /// End frame (exclusive).
    pub epfn: u64,
    /// Proximity domain.
    pub pxm: u32,
    /// Flags.
    pub flags: u32,
}

/// Argument of [`XENPF_core_parking`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformCoreParking {
    /// `XEN_CORE_PARKING_*`.
    pub r#type: u32,
    /// CPUs parked.
    pub idle_nums: u32,
}

/// One access (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformResourceEntry {
    /// In: `XEN_RESOURCE_OP_*`; out: result if it failed.
    pub u: u32,
    /// Reserved; zero.
    pub rsvd: u32,
    /// Register.
    pub idx: u64,
    /// Value.
    pub val: u64,
}

/// Argument of [`XENPF_resource_op`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformResourceOp {
    /// Number of accesses.
    pub nr_entries: u32,
    /// CPU to do them on.
    pub cpu: u32,
    /// The accesses.
    pub entries: GuestHandle<PlatformResourceEntry>,
}

/// Argument of [`XENPF_get_symbol`] (platform.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformSymdata {
    /// In: size of the buffer; out: length of the name.
    pub namelen: u32,
    /// In: which; out: the next.
    pub symnum: u32,
    /// Buffer for the name.
    pub name: GuestHandle<u8>,
    /// Out: address.
    pub address: u64,
    /// Out: type letter.
    pub r#type: u8,
    /// Padding.
    pub _pad0: [u8; 7],
}
