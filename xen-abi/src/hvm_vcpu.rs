//! The first state of a vCPU of a fully virtualised domain, argument of `VCPUOP_initialise` there (hvm/hvm_vcpu.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Mode: [`VcpuHvmX8632`] (hvm/hvm_vcpu.h).
pub const VCPU_HVM_MODE_32B: u32 = 0;
/// Mode: [`VcpuHvmX8664`] (hvm/hvm_vcpu.h).
pub const VCPU_HVM_MODE_64B: u32 = 1;

/// Registers of a vCPU that starts in a mode of 32 bits (hvm/hvm_vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuHvmX8632 {
    /// Register eax.
    pub eax: u32,
    /// Register ecx.
    pub ecx: u32,
    /// Register edx.
    pub edx: u32,
    /// Register ebx.
    pub ebx: u32,
    /// Register esp.
    pub esp: u32,
    /// Register ebp.
    pub ebp: u32,
    /// Register esi.
    pub esi: u32,
    /// Register edi.
    pub edi: u32,
    /// Register eip.
    pub eip: u32,
    /// Register eflags.
    pub eflags: u32,
    /// Register cr0.
    pub cr0: u32,
    /// Register cr3.
    pub cr3: u32,
    /// Register cr4.
    pub cr4: u32,
    /// Padding.
    pub pad1: u32,
    /// MSR EFER.
    pub efer: u64,
    /// Base of cs.
    pub cs_base: u32,
    /// Base of ds.
    pub ds_base: u32,
    /// Base of ss.
    pub ss_base: u32,
    /// Base of es.
    pub es_base: u32,
    /// Base of tr.
    pub tr_base: u32,
    /// Limit of cs.
    pub cs_limit: u32,
    /// Limit of ds.
    pub ds_limit: u32,
    /// Limit of ss.
    pub ss_limit: u32,
    /// Limit of es.
    pub es_limit: u32,
    /// Limit of tr.
    pub tr_limit: u32,
    /// Attributes of cs: bits 0-3 the type, 4 S, 5-6 DPL, 7 P, 8 AVL, 9 L, 10 D/B, 11 G.
    pub cs_ar: u16,
    /// Attributes of ds: bits 0-3 the type, 4 S, 5-6 DPL, 7 P, 8 AVL, 9 L, 10 D/B, 11 G.
    pub ds_ar: u16,
    /// Attributes of ss: bits 0-3 the type, 4 S, 5-6 DPL, 7 P, 8 AVL, 9 L, 10 D/B, 11 G.
    pub ss_ar: u16,
    /// Attributes of es: bits 0-3 the type, 4 S, 5-6 DPL, 7 P, 8 AVL, 9 L, 10 D/B, 11 G.
    pub es_ar: u16,
    /// Attributes of tr: bits 0-3 the type, 4 S, 5-6 DPL, 7 P, 8 AVL, 9 L, 10 D/B, 11 G.
    pub tr_ar: u16,
    /// Padding.
    pub pad2: [u16; 3],
}

/// Registers of a vCPU that starts in long mode (hvm/hvm_vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuHvmX8664 {
    /// Register rax.
    pub rax: u64,
    /// Register rcx.
    pub rcx: u64,
    /// Register rdx.
    pub rdx: u64,
    /// Register rbx.
    pub rbx: u64,
    /// Register rsp.
    pub rsp: u64,
    /// Register rbp.
    pub rbp: u64,
    /// Register rsi.
    pub rsi: u64,
    /// Register rdi.
    pub rdi: u64,
    /// Register rip.
    pub rip: u64,
    /// Register rflags.
    pub rflags: u64,
    /// Register cr0.
    pub cr0: u64,
    /// Register cr3.
    pub cr3: u64,
    /// Register cr4.
    pub cr4: u64,
    /// MSR EFER.
    pub efer: u64,
}

/// A vCPU's first state (hvm/hvm_vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuHvmContext {
    /// `VCPU_HVM_MODE_*`.
    pub mode: u32,
    /// Zero.
    pub pad: u32,
    /// Registers, by mode.
    pub cpu_regs: [u64; 15],
}
