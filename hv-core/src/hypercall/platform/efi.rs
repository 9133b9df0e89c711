//! EFI for the control domain: what the firmware says of itself, and calls of its runtime services
//! (xen/platform.h, `xenpf_efi_info` and `xenpf_efi_runtime_call`; UEFI 2.10, chapter 8).
//!
//! Nothing of the caller's reaches the firmware but values and copies: a name ends within its bound, a size is that
//! of our buffer.

use alloc::vec::Vec;

use xen_abi::errno::Errno;
use xen_abi::platform::{self as abi, PlatformEfiRuntimeCall, PlatformFirmwareInfo};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::super::context::{AnyCtx, Host};
use crate::base::PAGE_SIZE;
use crate::boot::efi::Service;
use crate::domain::{EfiArgument, EfiServices};

/// Longest name of a variable, in bytes with its end; longest value.
const MAX_NAME: usize = 2048;
const MAX_DATA: usize = 120 << 10;
/// Status words (UEFI 2.10, appendix D).
const ERROR: u64 = 1 << 63;
const INVALID_PARAMETER: u64 = ERROR | 2;
const BUFFER_TOO_SMALL: u64 = ERROR | 5;
/// Flags in `misc` (platform.h).
const SET_CLEARS_NS: u32 = 1;
const WAKEUP_ENABLED: u32 = 1;
const WAKEUP_PENDING: u32 = 2;
const ENABLE: u32 = 1;
const ENABLE_ONLY: u32 = 2;

use EfiArgument::{At, Value};

/// No argument.
const NONE: EfiArgument = Value(0);

/// Where the parts of a variable's call lie in its memory.
mod part {
    pub const GUID: usize = 0;
    pub const SIZE: usize = 16;
    pub const ATTRIBUTES: usize = 24;
    pub const NAME: usize = 32;
    pub const DATA: usize = NAME + super::MAX_NAME;
}

/// Answers a question about EFI.
///
/// # Errors
/// `ENOSYS` where the firmware is not EFI, `ESRCH` for an address in no region, `ENOENT`, `ENODATA` and
/// `EOPNOTSUPP` for what there is not, `EFAULT`, `EINVAL`.
pub fn info<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    request: &mut PlatformFirmwareInfo,
) -> Result<(), Errno> {
    // Kernels take this for "not started by EFI".
    let efi = cx.hv.services.efi.ok_or(Errno::ENOSYS)?;
    let facts = efi.facts();
    let answer = &mut request.u;
    match request.index {
        abi::XEN_FW_EFI_VERSION => set_low(&mut answer[0], facts.revision),
        abi::XEN_FW_EFI_RT_VERSION => {
            let runtime = facts.runtime.as_ref().map_err(|_| Errno::EOPNOTSUPP)?;
            set_low(&mut answer[0], runtime.revision);
        }
        abi::XEN_FW_EFI_CONFIG_TABLE => {
            answer[0] = facts.tables.0;
            set_low(&mut answer[1], facts.table_count);
        }
        abi::XEN_FW_EFI_VENDOR => {
            let room = (answer[0] >> 32) as usize / 2;
            let name = facts.vendor.iter().copied().chain([0]);
            for (at, character) in (0..).step_by(2).zip(name.take(room)) {
                let to = answer[1].checked_add(at).ok_or(Errno::EFAULT)?;
                cx.host.copy_out(to, character.as_bytes())?;
            }
            set_low(&mut answer[0], facts.vendor_revision);
        }
        abi::XEN_FW_EFI_MEM_INFO => {
            let region = facts.region_of(answer[0]).ok_or(Errno::ESRCH)?;
            answer[1] = answer[1].min(region.end() - answer[0]);
            answer[2] = region.attributes;
            set_low(&mut answer[3], region.kind);
        }
        // The boot services that would tell of these have ended before we began.
        abi::XEN_FW_EFI_PCI_ROM => return Err(Errno::ENOENT),
        abi::XEN_FW_EFI_APPLE_PROPERTIES => return Err(Errno::ENODATA),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// A 32-bit field, which is the lower half of its word.
fn set_low(word: &mut u64, value: u32) {
    *word = *word & !0xffff_ffff | u64::from(value);
}

/// Calls a runtime service; the firmware's answer is in `status`.
///
/// # Errors
/// `EOPNOTSUPP` where there are no services or they have crashed, `ENOSYS` for other functions, `EINVAL` for
/// flags that a function does not know, `ENOMEM` for values that are too long, `EFAULT`.
pub fn call<H: Host>(cx: &mut AnyCtx<'_, H>, op: &mut PlatformEfiRuntimeCall) -> Result<(), Errno> {
    let efi = cx.hv.services.efi.ok_or(Errno::ENOSYS)?;
    let flags = match op.function {
        abi::XEN_EFI_set_wakeup_time => ENABLE | ENABLE_ONLY,
        abi::XEN_EFI_set_variable => u32::MAX,
        _ => 0,
    };
    if op.misc & !flags != 0 {
        return Err(Errno::EINVAL);
    }
    op.status = match op.function {
        abi::XEN_EFI_get_time => get_time(efi, op)?,
        abi::XEN_EFI_set_time => {
            let mut time = time_of(op);
            efi.call(Service::SetTime, [At(0), NONE, NONE, NONE, NONE], &mut time)?
        }
        abi::XEN_EFI_get_wakeup_time => get_wakeup_time(efi, op)?,
        abi::XEN_EFI_set_wakeup_time => set_wakeup_time(efi, op)?,
        abi::XEN_EFI_get_next_high_monotonic_count => {
            let mut count = [0; 4];
            let arguments = [At(0), NONE, NONE, NONE, NONE];
            let status = efi.call(Service::GetNextHighMonotonicCount, arguments, &mut count)?;
            op.misc = u32::from_le_bytes(count);
            status
        }
        abi::XEN_EFI_get_variable => get_variable(cx, efi, op)?,
        abi::XEN_EFI_set_variable => set_variable(cx, efi, op)?,
        abi::XEN_EFI_get_next_variable_name => next_name(cx, efi, op)?,
        abi::XEN_EFI_query_variable_info => query_info(efi, op)?,
        // Kernels ask whether a capsule would be taken, and take this for no.
        abi::XEN_EFI_query_capsule_capabilities | abi::XEN_EFI_update_capsule => {
            log::info!("d{}: EFI capsules are not passed on", cx.domain.id);
            return Err(Errno::ENOSYS);
        }
        _ => return Err(Errno::ENOSYS),
    };
    Ok(())
}

/// The time in the request, which has EFI's layout; the bytes between its fields are zero then.
fn time_of(op: &PlatformEfiRuntimeCall) -> [u8; 16] {
    let mut time = [0; 16];
    time.copy_from_slice(&op.u.as_bytes()[..16]);
    (time[7], time[15]) = (0, 0);
    time
}

fn get_time(efi: &dyn EfiServices, op: &mut PlatformEfiRuntimeCall) -> Result<u64, Errno> {
    // The time, and the clock's abilities: resolution, accuracy, whether setting clears what is below a second.
    let mut memory = [0; 32];
    let arguments = [At(0), At(16), NONE, NONE, NONE];
    let status = efi.call(Service::GetTime, arguments, &mut memory)?;
    if status & ERROR == 0 {
        op.u.as_mut_bytes()[..24].copy_from_slice(&memory[..24]);
        op.misc = if memory[24] != 0 { SET_CLEARS_NS } else { 0 };
    }
    Ok(status)
}

fn get_wakeup_time(efi: &dyn EfiServices, op: &mut PlatformEfiRuntimeCall) -> Result<u64, Errno> {
    let mut memory = [0; 24];
    let arguments = [At(16), At(17), At(0), NONE, NONE];
    let status = efi.call(Service::GetWakeupTime, arguments, &mut memory)?;
    if status & ERROR == 0 {
        op.u.as_mut_bytes()[..16].copy_from_slice(&memory[..16]);
        let flag = |at: usize, bit| if memory[at] != 0 { bit } else { 0 };
        op.misc = flag(16, WAKEUP_ENABLED) | flag(17, WAKEUP_PENDING);
    }
    Ok(status)
}

fn set_wakeup_time(efi: &dyn EfiServices, op: &PlatformEfiRuntimeCall) -> Result<u64, Errno> {
    let mut time = time_of(op);
    let enable = Value(u64::from(op.misc & ENABLE));
    let when = if op.misc & ENABLE_ONLY == 0 {
        At(0)
    } else {
        NONE
    };
    let arguments = [enable, when, NONE, NONE, NONE];
    efi.call(Service::SetWakeupTime, arguments, &mut time)
}

fn query_info(efi: &dyn EfiServices, op: &mut PlatformEfiRuntimeCall) -> Result<u64, Errno> {
    let attributes = op.u[0] & 0xffff_ffff;
    let mut memory = [0; 24];
    let arguments = [Value(attributes), At(0), At(8), At(16), NONE];
    let status = efi.call(Service::QueryVariableInfo, arguments, &mut memory)?;
    if status & ERROR == 0 {
        op.u.as_mut_bytes()[8..32].copy_from_slice(&memory);
    }
    Ok(status)
}

/// Memory for a call about a variable of this vendor, with room for `data` bytes.
fn variable_memory(guid: &[u64], data: usize) -> Result<Vec<u8>, Errno> {
    let len = part::DATA + data;
    let mut memory = Vec::new();
    memory.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    memory.resize(len, 0);
    put(&mut memory, part::GUID, guid);
    Ok(memory)
}

fn put<T: IntoBytes + Immutable + ?Sized>(memory: &mut [u8], at: usize, value: &T) {
    let bytes = value.as_bytes();
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn word(memory: &[u8], at: usize) -> u64 {
    u64::read_from_prefix(&memory[at..]).map_or(0, |(word, _)| word)
}

/// Copies a name up to its end, page by page: what lies behind it may not be mapped.
fn read_name<H: Host>(cx: &AnyCtx<'_, H>, memory: &mut [u8], from: u64) -> Result<(), Errno> {
    let name = &mut memory[part::NAME..part::NAME + MAX_NAME];
    let mut done = 0;
    while done < MAX_NAME {
        let at = from.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        // A page's rest may be a single byte: characters are looked at once all of them are there.
        let to_page_end = PAGE_SIZE - at as usize % PAGE_SIZE;
        let len = to_page_end.min(MAX_NAME - done);
        cx.host.copy_in(&mut name[done..done + len], at)?;
        done += len;
        if let Some(end) = end_of(&name[..done]) {
            name[end..].fill(0);
            return Ok(());
        }
    }
    log::info!(
        "d{}: EFI: a variable's name does not end within {MAX_NAME} bytes",
        cx.domain.id
    );
    Err(Errno::EINVAL)
}

/// Where the 16-bit zero begins that ends a name.
fn end_of(name: &[u8]) -> Option<usize> {
    let at = name.chunks_exact(2).position(|c| c == [0, 0])?;
    Some(at * 2)
}

fn get_variable<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    efi: &dyn EfiServices,
    op: &mut PlatformEfiRuntimeCall,
) -> Result<u64, Errno> {
    let [name, size, data, guid @ ..] = op.u;
    let room = size.min(MAX_DATA as u64);
    let mut memory = variable_memory(&guid, room as usize)?;
    read_name(cx, &mut memory, name)?;
    put(&mut memory, part::SIZE, &room);
    let arguments = [
        At(part::NAME),
        At(part::GUID),
        At(part::ATTRIBUTES),
        At(part::SIZE),
        At(part::DATA),
    ];
    let status = efi.call(Service::GetVariable, arguments, &mut memory)?;
    op.u[1] = give_size(cx, status, &memory, (size, room))?;
    if status & ERROR == 0 {
        let value = &memory[part::DATA..][..op.u[1] as usize];
        cx.host.copy_out(data, value)?;
        op.misc = word(&memory, part::ATTRIBUTES) as u32;
    }
    Ok(status)
}

/// The size that the caller is told, of what the firmware has given or would have: he had `asked` for as much as that,
/// and there was `room` for no more.
fn give_size<H: Host>(
    cx: &AnyCtx<'_, H>,
    status: u64,
    memory: &[u8],
    (asked, room): (u64, u64),
) -> Result<u64, Errno> {
    let got = word(memory, part::SIZE);
    match status {
        BUFFER_TOO_SMALL if asked > room => Err(too_long(cx, got)),
        BUFFER_TOO_SMALL => Ok(got),
        _ if status & ERROR == 0 => Ok(got.min(room)),
        _ => Ok(asked),
    }
}

fn set_variable<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    efi: &dyn EfiServices,
    op: &PlatformEfiRuntimeCall,
) -> Result<u64, Errno> {
    let [name, size, data, guid @ ..] = op.u;
    if size > MAX_DATA as u64 {
        return Err(too_long(cx, size));
    }
    let mut memory = variable_memory(&guid, size as usize)?;
    read_name(cx, &mut memory, name)?;
    cx.host.copy_in(&mut memory[part::DATA..], data)?;
    let arguments = [
        At(part::NAME),
        At(part::GUID),
        Value(u64::from(op.misc)),
        Value(size),
        At(part::DATA),
    ];
    efi.call(Service::SetVariable, arguments, &mut memory)
}

fn next_name<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    efi: &dyn EfiServices,
    op: &mut PlatformEfiRuntimeCall,
) -> Result<u64, Errno> {
    let [size, name, guid @ ..] = op.u;
    let room = size.min(MAX_NAME as u64);
    let mut memory = variable_memory(&guid[..2], 0)?;
    let old = &mut memory[part::NAME..part::NAME + room as usize];
    cx.host.copy_in(old, name)?;
    if end_of(old).is_none() {
        // What the firmware would say, if it looked.
        return Ok(INVALID_PARAMETER);
    }
    put(&mut memory, part::SIZE, &room);
    let arguments = [At(part::SIZE), At(part::NAME), At(part::GUID), NONE, NONE];
    let status = efi.call(Service::GetNextVariableName, arguments, &mut memory)?;
    op.u[0] = give_size(cx, status, &memory, (size, room))?;
    if status & ERROR == 0 {
        let new = &memory[part::NAME..][..op.u[0] as usize];
        cx.host.copy_out(name, new)?;
        op.u[2..4].copy_from_slice(&[word(&memory, 0), word(&memory, 8)]);
    }
    Ok(status)
}

fn too_long<H: Host>(cx: &AnyCtx<'_, H>, size: u64) -> Errno {
    log::info!(
        "d{}: EFI: a variable of {size:#x} bytes is more than can be passed on",
        cx.domain.id
    );
    Errno::ENOMEM
}

#[cfg(test)]
mod tests;
