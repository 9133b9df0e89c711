//! The state behind XSAVE as toolstacks carry it (`XEN_DOMCTL_getvcpuextstate`, `XEN_DOMCTL_setvcpuextstate`,
//! domctl.h): XCR0, the components that were ever on in it, and an image in the standard format.

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use super::privop::is_valid_xcr0;
use super::state::{FpuLine, PvState};
use crate::cpuid::Policy;

/// Bytes before the image.
pub const PREFIX: usize = 16;
/// The header in the image (Intel SDM vol. 1, 13.4.2): which components are there, in which format, zeros.
const XSTATE_BV: usize = 512;
const XCOMP_BV: usize = 520;
const RESERVED: core::ops::Range<usize> = 528..576;
/// XCOMP_BV: the image is compacted.
const COMPACTED: u64 = 1 << 63;

/// Which components there are.
#[derive(Clone, Copy)]
pub struct Components<'a> {
    host: &'a Policy,
    /// On in XCR0 while guests are saved and loaded.
    machine: u64,
    /// Those of them that the guest may have.
    guest: u64,
}

/// Why an image is refused, in words too.
pub type Refused = (Errno, &'static str);

impl<'a> Components<'a> {
    /// Those of the machine and of a guest on it.
    #[must_use]
    pub fn new(host: &'a Policy, guest: &Policy) -> Self {
        let machine = host.xcr0_mask();
        Self {
            host,
            machine,
            guest: machine & guest.xcr0_mask(),
        }
    }

    /// Those of the machine.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        self.machine
    }

    /// Bytes that no answer and no request exceeds.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.len(self.machine)
    }

    fn len(&self, components: u64) -> usize {
        if components == 0 {
            PREFIX
        } else {
            PREFIX + self.host.image_size(components) as usize
        }
    }

    /// A vCPU's state. All that the guest may have counts as having been on.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn describe(&self, state: &PvState) -> Result<Vec<u8>, Errno> {
        let len = self.len(self.guest);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        let chosen = if state.xcr0 == 0 {
            self.guest
        } else {
            state.xcr0 & self.guest
        };
        bytes.extend(chosen.to_le_bytes());
        bytes.extend(self.guest.to_le_bytes());
        if self.guest != 0 {
            let image = state.fpu.iter().flat_map(|line| line.0);
            bytes.extend(image.take(len - PREFIX));
            bytes.resize(len, 0);
            let image = &mut bytes[PREFIX..];
            let there = word(image, XSTATE_BV) & self.guest;
            image[XSTATE_BV..XCOMP_BV].copy_from_slice(&there.to_le_bytes());
        }
        Ok(bytes)
    }

    /// Replaces a vCPU's state by one that was described.
    ///
    /// # Errors
    /// `EINVAL` for what the processor would refuse to load or the guest may not have, `EOPNOTSUPP` for a compacted
    /// image. Nothing is changed then.
    pub fn adopt(&self, state: &mut PvState, bytes: &[u8]) -> Result<(), Refused> {
        let invalid = |why| Err((Errno::EINVAL, why));
        let Some((prefix, image)) = bytes.split_at_checked(PREFIX) else {
            return invalid("too short");
        };
        let (xcr0, ever) = (word(prefix, 0), word(prefix, 8));
        if (xcr0, ever) == (0, 0) && image.is_empty() {
            // A vCPU without XSAVE; its FPU came with its registers.
            return Ok(());
        }
        let possible = |value| is_valid_xcr0(self.guest, value);
        if !possible(ever) || !possible(xcr0) || xcr0 & !ever != 0 {
            return invalid("state components that the guest cannot have");
        }
        if bytes.len() != self.len(ever) {
            return invalid("not the size of these state components");
        }
        check_image(image, ever)?;
        fill(&mut state.fpu, image);
        // With all there is it need not be loaded at each switch.
        state.xcr0 = if xcr0 == self.machine { 0 } else { xcr0 };
        Ok(())
    }
}

fn check_image(image: &[u8], components: u64) -> Result<(), Refused> {
    let invalid = |why| Err((Errno::EINVAL, why));
    let format = word(image, XCOMP_BV);
    if format & COMPACTED != 0 {
        return Err((Errno::EOPNOTSUPP, "a compacted image"));
    }
    if format != 0 || image[RESERVED].iter().any(|byte| *byte != 0) {
        return invalid("reserved bytes of the image are set");
    }
    if word(image, XSTATE_BV) & !components != 0 {
        return invalid("the image has more state components than it says");
    }
    if !image.first_chunk().is_some_and(PvState::takes_fpu) {
        return invalid("reserved bits of MXCSR are set");
    }
    Ok(())
}

/// The word at an offset; images are longer than their header.
fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn fill(fpu: &mut [FpuLine], image: &[u8]) {
    fpu.fill(FpuLine([0; 64]));
    for (line, bytes) in fpu.iter_mut().zip(image.chunks(64)) {
        line.0[..bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
