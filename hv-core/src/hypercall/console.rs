//! console_io: the control domain's way to the operator (xen/xen.h, `CONSOLEIO_*`).

use xen_abi::errno::Errno;
use xen_abi::xen as abi;

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};

/// Bytes copied at a time. A serial line takes about ten milliseconds for as many, so other work is
/// looked at after each.
const CHUNK: usize = 128;

/// console_io(cmd, count, buffer). Other domains print through their own console rings.
///
/// # Errors
/// `EPERM` for all but the control domain, `E2BIG` for a count beyond 32 bits (of keys: 31), `EFAULT`, `ENOSYS`.
pub fn console_io<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    let count = u32::try_from(args[1]).map_err(|_| Errno::E2BIG)?;
    match args[0] as u32 {
        abi::CONSOLEIO_write => write(cx, args),
        // The result is a count, too, and must not look like an error.
        abi::CONSOLEIO_read if i32::try_from(count).is_err() => Err(Errno::E2BIG),
        abi::CONSOLEIO_read => read(cx, count as usize, args[2]),
        _ => Err(Errno::ENOSYS),
    }
}

fn write<H: Host>(cx: &AnyCtx<'_, H>, [cmd, mut left, mut at, ..]: Args) -> Reply {
    let mut chunk = [0; CHUNK];
    while left != 0 {
        let text = &mut chunk[..left.min(CHUNK as u64) as usize];
        cx.host.copy_in(text, at)?;
        cx.hv.services.console.control_write(text);
        left -= text.len() as u64;
        at = cx.element::<u8>(at, text.len() as u64)?;
        if left != 0 && cx.host.preempt_pending() {
            return Ok(Outcome::Restart([cmd, left, at, 0, 0, 0]));
        }
    }
    DONE
}

/// Returns how many keys were there. What cannot be copied out is lost, as keys without a reader are.
fn read<H: Host>(cx: &AnyCtx<'_, H>, count: usize, at: u64) -> Reply {
    let mut chunk = [0; CHUNK];
    let mut done = 0;
    while done < count {
        let room = (count - done).min(CHUNK);
        let got = cx
            .hv
            .services
            .console
            .read_input(&mut chunk[..room])
            .min(room);
        if got == 0 {
            break;
        }
        let to = cx.element::<u8>(at, done as u64)?;
        cx.host.copy_out(to, &chunk[..got])?;
        done += got;
        // More may be typed than this call carries: the guest asks again.
        if cx.host.preempt_pending() {
            break;
        }
    }
    Ok(Outcome::Return(done as u64))
}
