//! The machine's CPUs as facts: where each sits and what they are.

use alloc::vec::Vec;

use crate::base::CpuId;

/// Where a CPU sits. Numbers of cores are unique in their socket only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuPlace {
    /// Local APIC.
    pub apic_id: u32,
    /// What AML calls it.
    pub acpi_id: u32,
    /// Socket.
    pub socket: u32,
    /// Core in its socket.
    pub core: u32,
    /// Thread in its core.
    pub thread: u32,
}

/// What all CPUs of the machine are, from CPUID of the boot CPU.
#[derive(Clone, Debug, Default)]
pub struct Processor {
    /// Vendor, leaf 0 (ebx, edx, ecx).
    pub vendor: [u8; 12],
    /// Brand, leaves 0x80000002 to 0x80000004.
    pub brand: [[u8; 16]; 3],
    /// Highest basic leaf.
    pub max_leaf: u32,
    /// Family with the extended part added.
    pub family: u32,
    /// Model with the extended part.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Width of physical addresses in bits.
    pub address_bits: u8,
    /// Bytes of a cache line that CLFLUSH flushes.
    pub cache_line: u32,
    /// `MCG_CAP`, 0 without machine checks.
    pub mcg_cap: u64,
    /// Every CPU that exists, by number.
    pub cpus: Vec<CpuPlace>,
}

impl Processor {
    /// The highest number of a CPU, 0 while nothing is known.
    #[must_use]
    pub fn max_cpu(&self) -> CpuId {
        (self.cpus.len() as CpuId).saturating_sub(1)
    }

    /// Threads in a core: the most that any core has.
    #[must_use]
    pub fn threads_per_core(&self) -> u32 {
        self.cpus.iter().map(|c| c.thread + 1).max().unwrap_or(1)
    }

    /// Cores in a socket: the most that any socket has.
    #[must_use]
    pub fn cores_per_socket(&self) -> u32 {
        let cpus = || self.cpus.iter().enumerate();
        let starts_core = |at: usize, cpu: &CpuPlace| {
            let same = |c: &CpuPlace| (c.socket, c.core) == (cpu.socket, cpu.core);
            !self.cpus[..at].iter().any(same)
        };
        let cores_of = |socket: u32| {
            cpus()
                .filter(|&(at, cpu)| cpu.socket == socket && starts_core(at, cpu))
                .count()
        };
        let starts_socket =
            |at: usize, cpu: &CpuPlace| !self.cpus[..at].iter().any(|c| c.socket == cpu.socket);
        let largest = cpus()
            .filter(|&(at, cpu)| starts_socket(at, cpu))
            .map(|(_, cpu)| cores_of(cpu.socket))
            .max();
        largest.unwrap_or(1) as u32
    }

    /// The vendor as the machine-check tools know it: 1 Intel, 2 AMD, 0 any other.
    #[must_use]
    pub fn vendor_code(&self) -> u32 {
        match &self.vendor {
            b"GenuineIntel" => 1,
            b"AuthenticAMD" => 2,
            _ => 0,
        }
    }
}
