//! The state behind XSAVE: which components a guest may have, and how toolstacks carry it
//! (`XEN_DOMCTL_getvcpuextstate`, `XEN_DOMCTL_setvcpuextstate`, domctl.h; `hvm_hw_cpu_xsave`, hvm/save.h): XCR0, the
//! components that were ever on in it, and an image in the standard format.

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use super::Policy;

/// Bytes of the FPU image that FXSAVE writes.
pub const LEGACY_FPU: usize = 512;
/// Where MXCSR stands there, and its bits that may be set (Intel SDM vol. 1, 10.2.3).
const MXCSR: core::ops::Range<usize> = 24..28;
const MXCSR_BITS: u32 = 0xffff;
/// Bytes before the image in what getvcpuextstate gives.
pub const PREFIX: usize = 16;
/// The header in the image (Intel SDM vol. 1, 13.4.2): which components are there, in which format, zeros.
const XSTATE_BV: usize = 512;
const XCOMP_BV: usize = 520;
const RESERVED: core::ops::Range<usize> = 528..576;
/// XCOMP_BV: the image is compacted.
const COMPACTED: u64 = 1 << 63;

/// A cache line of the FPU image.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct FpuLine(pub [u8; 64]);

/// Puts the power-on values into an FPU image of zeros: FCW 0x37f, MXCSR 0x1f80 (AMD APM vol. 1, 11.4.4).
pub fn reset_fpu(fpu: &mut [FpuLine]) {
    if let Some(first) = fpu.first_mut() {
        first.0[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        first.0[MXCSR].copy_from_slice(&0x1f80_u32.to_le_bytes());
    }
}

/// Whether the processor would load what FXSAVE could have written; it checks MXCSR and nothing else.
#[must_use]
pub fn takes_fpu(image: &[u8; LEGACY_FPU]) -> bool {
    let mxcsr = image[MXCSR].try_into().map_or(u32::MAX, u32::from_le_bytes);
    mxcsr & !MXCSR_BITS == 0
}

/// Whether XCR0 may have a value (Intel SDM vol. 1, 13.3), given the components that there are.
#[must_use]
pub fn is_valid_xcr0(mask: u64, value: u64) -> bool {
    const X87: u64 = 1 << 0;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    const AVX512: u64 = 0b111 << 5;
    let avx512_fits = value & AVX512 == 0 || (value & AVX512 == AVX512 && value & AVX != 0);
    value & !mask == 0 && value & X87 != 0 && (value & AVX == 0 || value & SSE != 0) && avx512_fits
}

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

    /// Those that the guest may have.
    #[must_use]
    pub const fn guest_mask(&self) -> u64 {
        self.guest
    }

    /// The image of a vCPU's state, with what the guest may have; empty where there is no XSAVE.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn image(&self, fpu: &[FpuLine]) -> Result<Vec<u8>, Errno> {
        self.after(&[], fpu)
    }

    /// A vCPU's state as getvcpuextstate gives it. All that the guest may have counts as having been on, and as on
    /// where `xcr0` is 0.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn describe(&self, xcr0: u64, fpu: &[FpuLine]) -> Result<Vec<u8>, Errno> {
        let chosen = if xcr0 == 0 {
            self.guest
        } else {
            xcr0 & self.guest
        };
        self.after(&[chosen, self.guest], fpu)
    }

    /// Words, and after them the image.
    fn after(&self, prefix: &[u64], fpu: &[FpuLine]) -> Result<Vec<u8>, Errno> {
        let len = self.len(self.guest) - PREFIX;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(size_of_val(prefix) + len)
            .map_err(|_| Errno::ENOMEM)?;
        bytes.extend(prefix.iter().flat_map(|word| word.to_le_bytes()));
        let start = bytes.len();
        bytes.extend(fpu.iter().flat_map(|line| line.0).take(len));
        bytes.resize(start + len, 0);
        if let Some(image) = bytes.get_mut(start..).filter(|image| !image.is_empty()) {
            let there = word(image, XSTATE_BV) & self.guest;
            image[XSTATE_BV..XCOMP_BV].copy_from_slice(&there.to_le_bytes());
        }
        Ok(bytes)
    }

    /// Whether a vCPU can have such a state: the value of XCR0, what was ever on in it, and the image.
    ///
    /// # Errors
    /// `EINVAL` for what the processor would refuse to load or the guest may not have, `EOPNOTSUPP` for a compacted
    /// image.
    pub fn check(&self, xcr0: u64, ever: u64, image: &[u8]) -> Result<(), Refused> {
        let invalid = |why| Err((Errno::EINVAL, why));
        let possible = |value| is_valid_xcr0(self.guest, value);
        if !possible(ever) || !possible(xcr0) || xcr0 & !ever != 0 {
            return invalid("state components that the guest cannot have");
        }
        if image.len() != self.len(ever) - PREFIX {
            return invalid("not the size of these state components");
        }
        check_image(image, ever)
    }

    /// Replaces a vCPU's state by one that was described; returns its XCR0, or nothing where there is no XSAVE.
    ///
    /// # Errors
    /// See [`Self::check`]. Nothing is changed then.
    pub fn adopt(&self, fpu: &mut [FpuLine], bytes: &[u8]) -> Result<Option<u64>, Refused> {
        let Some((prefix, image)) = bytes.split_at_checked(PREFIX) else {
            return Err((Errno::EINVAL, "too short"));
        };
        let (xcr0, ever) = (word(prefix, 0), word(prefix, 8));
        if (xcr0, ever) == (0, 0) && image.is_empty() {
            // A vCPU without XSAVE; its FPU came with its registers.
            return Ok(None);
        }
        self.check(xcr0, ever, image)?;
        fill(fpu, image);
        Ok(Some(xcr0))
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
    if !image.first_chunk().is_some_and(takes_fpu) {
        return invalid("reserved bits of MXCSR are set");
    }
    Ok(())
}

/// The word at an offset; images are longer than their header.
fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Replaces what is behind XSAVE by an image that passed [`Components::check`].
pub fn fill(fpu: &mut [FpuLine], image: &[u8]) {
    fpu.fill(FpuLine([0; 64]));
    for (line, bytes) in fpu.iter_mut().zip(image.chunks(64)) {
        line.0[..bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
