//! Sets of CPUs as bitmaps in guest memory (`xenctl_bitmap`, xen.h).

use xen_abi::errno::Errno;
use xen_abi::xen::XenctlBitmap;

use super::context::{AnyCtx, Host};
use crate::sched::{CpuSet, MAX_CPUS};

/// Bytes of a set with all CPUs that can exist.
const BYTES: usize = (MAX_CPUS / 8) as usize;
/// Bits of the largest bitmap that is filled with zeroes behind ours.
const LARGEST: u32 = 1 << 16;

impl<H: Host> AnyCtx<'_, H> {
    /// Reads a set of CPUs; bits beyond those that can exist are dropped.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_cpus(&self, map: &XenctlBitmap) -> Result<CpuSet, Errno> {
        let mut bytes = [0; BYTES];
        let used = (map.nr_bits.div_ceil(8) as usize).min(BYTES);
        self.host
            .copy_in(&mut bytes[..used], map.bitmap.address())?;
        Ok(CpuSet::from_bytes(&bytes[..used], map.nr_bits))
    }

    /// Writes a set of CPUs into as many bits as the caller has; bits that cannot exist become 0.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` for an absurd size.
    pub fn write_cpus(&self, map: &XenctlBitmap, set: &CpuSet) -> Result<(), Errno> {
        if map.nr_bits > LARGEST {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; BYTES];
        set.write_bytes(&mut bytes);
        let total = map.nr_bits.div_ceil(8) as usize;
        let used = total.min(BYTES);
        if used == total && !map.nr_bits.is_multiple_of(8) {
            bytes[used - 1] &= (1 << (map.nr_bits % 8)) - 1;
        }
        self.host.copy_out(map.bitmap.address(), &bytes[..used])?;
        let zeroes = [0; BYTES];
        for at in (used..total).step_by(BYTES) {
            let to = self.element::<u8>(map.bitmap.address(), at as u64)?;
            self.host.copy_out(to, &zeroes[..(total - at).min(BYTES)])?;
        }
        Ok(())
    }
}
