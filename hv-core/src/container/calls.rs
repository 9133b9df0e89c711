//! Hypercalls of guests in containers.

use super::{Cell, Room, crash};
use crate::base::insn::CodeSize;
use crate::hypercall::{Host, front, narrow};
use crate::pv::frame::rflags;
use xen_abi::errno::Errno;

/// VMMCALL or VMCALL, both of this length.
const LENGTH: u8 = 3;

/// The guest has made a hypercall. Only its kernel may.
pub(super) fn hypercall<H: Host + Room>(cx: &mut Cell<'_, H>) {
    let code = cx.code_size();
    let stepped = cx.regs.rflags & rflags::TF != 0;
    cx.pass(LENGTH);
    let after = cx.regs.rip;
    if !dispatch(cx, code) {
        return crash(cx);
    }
    // A call that is to go on has not ended yet.
    if stepped && cx.regs.rip == after {
        cx.single_step();
    }
}

/// Makes the call; `false` when the domain is to go down for it.
fn dispatch<H: Host + Room>(cx: &mut Cell<'_, H>, code: CodeSize) -> bool {
    if cx.cpl() != 0 {
        cx.regs.rax = Errno::EPERM.to_ret() as u64;
        return true;
    }
    match code {
        CodeSize::Bits64 => front::hvm64(&mut cx.any(), LENGTH),
        CodeSize::Bits32 => narrow::call(&mut cx.any(), LENGTH),
        CodeSize::Bits16 => {
            cx.regs.rax = Errno::ENOSYS.to_ret() as u64;
            true
        }
    }
}
