use proptest::prelude::*;
use xen_abi::hvm_vcpu::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::hvm::processor::SegmentName;
use crate::hvm::records::tests::{Made, terms};

fn context<T: IntoBytes + zerocopy::Immutable>(mode: u32, registers: &T) -> VcpuHvmContext {
    let mut context = VcpuHvmContext::new_zeroed();
    context.mode = mode;
    registers
        .write_to_prefix(context.cpu_regs.as_mut_bytes())
        .unwrap();
    context
}

/// What a kernel gives that starts another CPU in protected mode.
fn protected() -> VcpuHvmX8632 {
    VcpuHvmX8632 {
        eip: 0x1000,
        esp: 0x8000,
        cr0: 1,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        es_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: 0x67,
        cs_ar: 0xc9b,
        ds_ar: 0xc93,
        es_ar: 0xc93,
        ss_ar: 0xc93,
        tr_ar: 0x8b,
        ..VcpuHvmX8632::default()
    }
}

fn long() -> VcpuHvmX8664 {
    VcpuHvmX8664 {
        rip: 0xffff_ffff_8100_0000,
        rsp: 0xffff_8880_0000_1000,
        rdi: 7,
        cr0: 0x8000_0011,
        cr3: 0x5000,
        cr4: 0x20,
        efer: 0x100,
        ..VcpuHvmX8664::default()
    }
}

fn started(context: &VcpuHvmContext) -> Result<Made, &'static str> {
    let mut made = Made::new(1);
    start(&mut made.state, context, terms().policy)?;
    made.check_entry();
    Ok(made)
}

#[test]
fn a_vcpu_starts_where_it_is_told_to() {
    let made = started(&context(VCPU_HVM_MODE_32B, &protected())).unwrap();
    assert_eq!((made.state.regs.rip, made.state.regs.rsp), (0x1000, 0x8000));
    assert!(!made.state.waits_for_start);
    assert_eq!(made.state.processor.cpl(), 0);
    let made = started(&context(VCPU_HVM_MODE_64B, &long())).unwrap();
    assert_eq!(made.state.regs.rdi, 7);
    assert_eq!(made.state.processor.read(Register::Efer), 0x500);
    let code = made.state.processor.segment(SegmentName::Cs);
    assert!(code.is_long() && !code.is_big());
}

#[test]
fn what_cannot_start_is_refused() {
    type Change = fn(&mut VcpuHvmX8632);
    let wrong: [Change; 15] = [
        |c| c.pad1 = 1,
        |c| c.pad2[1] = 1,
        |c| c.cs_ar = 0xc93,
        |c| c.cs_ar = 0xc8b,
        |c| c.cs_ar = 0xc1b,
        |c| c.cs_ar = 0xa9b,
        |c| c.cs_ar = 0x1c9b,
        |c| c.ss_ar = 0xc91,
        |c| c.ss_ar = 0xcf3,
        |c| c.ds_ar = 0xc99,
        |c| c.tr_ar = 0x89,
        |c| c.tr_ar = 0x9b,
        |c| c.cs_limit = 0xfff,
        |c| c.cr0 = 0x8000_0000,
        |c| c.efer = 1 << 12,
    ];
    for (n, change) in wrong.iter().enumerate() {
        let mut registers = protected();
        change(&mut registers);
        let refused = started(&context(VCPU_HVM_MODE_32B, &registers)).err();
        assert!(refused.is_some(), "{n}");
    }
    for change in [
        |c: &mut VcpuHvmX8664| c.cr0 = 0x11,
        |c: &mut VcpuHvmX8664| c.efer = 0,
        |c: &mut VcpuHvmX8664| c.cr4 = 0,
        |c: &mut VcpuHvmX8664| c.rip = 1 << 60,
        |c: &mut VcpuHvmX8664| c.cr3 = 1 << 60,
    ] {
        let mut registers = long();
        change(&mut registers);
        assert!(started(&context(VCPU_HVM_MODE_64B, &registers)).is_err());
    }
    assert!(started(&context(2, &long())).is_err());
    let mut padded = context(VCPU_HVM_MODE_64B, &long());
    padded.pad = 1;
    assert!(started(&padded).is_err());
}

proptest! {
    /// Whatever is asked for: refused, or the hardware takes it.
    #[test]
    fn whatever_starts_can_be_entered(mode in 0..3u32, words: [u64; 15], good: [bool; 15]) {
        let mut wanted = match mode {
            VCPU_HVM_MODE_32B => context(mode, &protected()),
            _ => context(mode, &long()),
        };
        for ((to, from), good) in wanted.cpu_regs.iter_mut().zip(words).zip(good) {
            if !good {
                *to = from;
            }
        }
        let _refused = started(&wanted);
    }
}
