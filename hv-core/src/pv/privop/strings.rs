//! INS and OUTS with their REP prefix: in bounded portions, so that a guest cannot keep the CPU.

use super::Effect;
use super::PrivEnv;
use super::execute::{Refusal, Step, is_canonical, segment_base};
use super::fetch::Access;
use super::privdecode::{AddressSize, Repeat, StringIo};
use crate::base::PAGE_SIZE;
use crate::pv::frame::{GuestFrame, rflags};
use crate::pv::ports::Width;

/// Bytes done before the guest is left to itself for a moment: a disk sector.
const PORTION: usize = 512;

/// One run of elements that lie upwards in one page, or a single element.
struct Run {
    /// Address of the first byte.
    address: u64,
    /// Elements.
    count: usize,
}

/// INS: from the port in DX to memory at rdi.
pub(super) fn input<E: PrivEnv>(
    env: &E,
    regs: &mut GuestFrame,
    io: &StringIo,
) -> Result<Step, Refusal> {
    let Some(run) = next_run(regs, io, 0, regs.rdi)? else {
        return Ok(Step::Done(Effect::Nothing));
    };
    let bytes = run.count * usize::from(io.width.bytes());
    let mut buffer = [0; PORTION];
    let data = &mut buffer[..bytes];
    // What is read from a device is gone: be sure first that it can be put down. These bytes are
    // about to be overwritten anyway.
    env.copy_in(data, run.address)
        .map_err(|_| fault(env, &run, bytes, Access::Write))?;
    env.copy_out(run.address, data)
        .map_err(|_| fault(env, &run, bytes, Access::Write))?;
    let port = regs.rdx as u16;
    for element in data.chunks_exact_mut(io.width.bytes().into()) {
        let value = env
            .ports()
            .read(env, &env.tables().shared_ports, port, io.width);
        element.copy_from_slice(&value.to_le_bytes()[..element.len()]);
    }
    env.copy_out(run.address, data)
        .map_err(|_| fault(env, &run, bytes, Access::Write))?;
    regs.rdi = moved(regs, io, regs.rdi, run.count);
    Ok(finish(regs, io, run.count))
}

/// OUTS: from memory at rsi to the port in DX.
pub(super) fn output<E: PrivEnv>(
    env: &E,
    regs: &mut GuestFrame,
    io: &StringIo,
) -> Result<Step, Refusal> {
    let base = segment_base(env, io.segment);
    let Some(run) = next_run(regs, io, base, regs.rsi)? else {
        return Ok(Step::Done(Effect::Nothing));
    };
    let bytes = run.count * usize::from(io.width.bytes());
    let mut buffer = [0; PORTION];
    let data = &mut buffer[..bytes];
    env.copy_in(data, run.address)
        .map_err(|_| fault(env, &run, bytes, Access::Read))?;
    let port = regs.rdx as u16;
    for element in data.chunks_exact(io.width.bytes().into()) {
        let mut value = [0; 4];
        value[..element.len()].copy_from_slice(element);
        env.ports().write(
            env,
            &env.tables().shared_ports,
            port,
            io.width,
            u32::from_le_bytes(value),
        );
    }
    regs.rsi = moved(regs, io, regs.rsi, run.count);
    Ok(finish(regs, io, run.count))
}

/// What to do at once; `None` when the count is zero.
fn next_run(
    regs: &GuestFrame,
    io: &StringIo,
    base: u64,
    offset: u64,
) -> Result<Option<Run>, Refusal> {
    let wanted = match (io.repeat, io.size) {
        (Repeat::Once, _) => 1,
        (Repeat::Counted, AddressSize::Bits64) => regs.rcx,
        (Repeat::Counted, AddressSize::Bits32) => regs.rcx & 0xffff_ffff,
    };
    let offset = match io.size {
        AddressSize::Bits64 => offset,
        AddressSize::Bits32 => offset & 0xffff_ffff,
    };
    let address = base.wrapping_add(offset);
    let size = u64::from(io.width.bytes());
    if !is_canonical(address, size) {
        return Err(Refusal::Exception);
    }
    let in_page = (PAGE_SIZE - address as usize % PAGE_SIZE) / size as usize;
    // With a 32-bit address the next element may lie at 0.
    let upwards = regs.rflags & rflags::DF == 0 && io.size == AddressSize::Bits64;
    let most = if upwards {
        in_page.clamp(1, PORTION / size as usize)
    } else {
        1
    };
    Ok((wanted != 0).then_some(Run {
        address,
        count: wanted.min(most as u64) as usize,
    }))
}

/// Which page could not be reached: the first, or the second of an element across the border.
fn fault<E: PrivEnv>(env: &E, run: &Run, bytes: usize, access: Access) -> Refusal {
    let border = (run.address | (PAGE_SIZE as u64 - 1)).wrapping_add(1);
    let crosses = run.address % PAGE_SIZE as u64 + bytes as u64 > PAGE_SIZE as u64;
    let mut byte = [0];
    let first_is_fine = env.copy_in(&mut byte, run.address).is_ok()
        && (access == Access::Read || env.copy_out(run.address, &byte).is_ok());
    let address = if crosses && first_is_fine {
        border
    } else {
        run.address
    };
    Refusal::PageFault { address, access }
}

/// rsi or rdi after `count` elements.
fn moved(regs: &GuestFrame, io: &StringIo, from: u64, count: usize) -> u64 {
    let distance = count as u64 * u64::from(io.width.bytes());
    let to = if regs.rflags & rflags::DF == 0 {
        from.wrapping_add(distance)
    } else {
        from.wrapping_sub(distance)
    };
    match io.size {
        AddressSize::Bits64 => to,
        AddressSize::Bits32 => to & 0xffff_ffff,
    }
}

/// Counts down; done when nothing is left.
fn finish(regs: &mut GuestFrame, io: &StringIo, count: usize) -> Step {
    if io.repeat == Repeat::Once {
        return Step::Done(Effect::Nothing);
    }
    let left = match io.size {
        AddressSize::Bits64 => regs.rcx,
        AddressSize::Bits32 => regs.rcx & 0xffff_ffff,
    } - count as u64;
    regs.rcx = left;
    if left == 0 {
        Step::Done(Effect::Nothing)
    } else {
        Step::Unfinished
    }
}

const _: () = assert!(PORTION.is_multiple_of(Width::Dword.bytes() as usize));
