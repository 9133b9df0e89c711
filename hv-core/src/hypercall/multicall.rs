//! multicall: several calls for the price of one entry.

use xen_abi::errno::Errno;
use xen_abi::hypercall as nr;
use xen_abi::xen::MulticallEntry;

use super::context::{AnyCtx, Args, Host, Outcome, Reply};
use super::front;

/// multicall(list, count): each entry's result is written back into it.
///
/// # Errors
/// `EFAULT` when an entry cannot be read or written.
pub fn multicall<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    // The count has 32 bits in the ABI.
    let (mut list, mut left) = (args[0], args[1] & 0xffff_ffff);
    let mut entry = MulticallEntry::default();
    while left != 0 {
        if cx.host.preempt_pending() {
            return Ok(Outcome::Restart([list, left, 0, 0, 0, 0]));
        }
        cx.read_here(&mut entry, list)?;
        let args = entry.args;
        let result = match u32::try_from(entry.op) {
            // It changes the frame that this call returns through.
            Ok(nr::__HYPERVISOR_iret) => Err(Errno::ENOSYS),
            // A list in a list would have no place for how far it came.
            Ok(nr::__HYPERVISOR_multicall) => Err(Errno::EINVAL),
            _ => front::dispatch(cx, entry.op, args),
        };
        let value = match result {
            Ok(Outcome::Return(value)) => value,
            Err(e) => e.to_ret() as u64,
            Ok(Outcome::Crash) => return Ok(Outcome::Crash),
            Ok(Outcome::Resume) => 0,
            Ok(Outcome::Restart(again)) => {
                entry.args.copy_from_slice(&again);
                cx.write(list, &entry)?;
                return Ok(Outcome::Restart([list, left, 0, 0, 0, 0]));
            }
        };
        // Only the result: the guest may reuse the rest of the entry meanwhile.
        let at = list
            .checked_add(core::mem::offset_of!(MulticallEntry, result) as u64)
            .ok_or(Errno::EFAULT)?;
        cx.write_here(at, &value)?;
        list = cx.element::<MulticallEntry>(list, 1)?;
        left -= 1;
    }
    Ok(Outcome::Return(0))
}
