//! The stream of records that is the state of a domain in containers beside its memory (hvm/save.h): a descriptor and a body
//! each; a header comes first and an end last. Toolstacks keep it as it is, so what comes back is hostile.

use alloc::vec::Vec;

use xen_abi::errno::Errno;
use xen_abi::hvm_save::{
    HVM_FILE_MAGIC, HVM_FILE_VERSION, HVM_SAVE_CODE_END, HVM_SAVE_CODE_HEADER, HvmSaveDescriptor,
    HvmSaveHeader,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

mod cpu;
mod load;
mod save;
#[cfg(test)]
pub(crate) mod tests;

pub use cpu::{adopt as adopt_cpu, describe as describe_cpu};
pub use load::{Loaded, load};
pub use save::{KINDS, MACHINE_CHECK, Saved, max_len, save};

use crate::base::Nanos;
use crate::cpuid::Policy;
use crate::cpuid::xstate::Components;
use crate::time::Clock;

/// Bytes of a descriptor.
const DESCRIPTOR: usize = size_of::<HvmSaveDescriptor>();

/// What records are made and read by.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// What the domain's CPUs are.
    pub policy: &'a Policy,
    /// What of XSAVE's state they have.
    pub components: Components<'a>,
    /// System time.
    pub now: Nanos,
    /// The machine's TSC as a function of that.
    pub tsc: Clock,
}

/// Why a record or a stream is refused: for the caller, and in words.
pub type Refused = (Errno, &'static str);

/// A refusal of what can never be.
const fn wrong<T>(why: &'static str) -> Result<T, Refused> {
    Err((Errno::EINVAL, why))
}

/// One record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// `HVM_SAVE_CODE_*`.
    pub kind: u16,
    /// Which one of that kind: the vCPU.
    pub instance: u16,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Cuts the first record off; nothing where the bytes end before it does.
    fn cut(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (descriptor, rest) = HvmSaveDescriptor::read_from_prefix(bytes).ok()?;
        let HvmSaveDescriptor {
            typecode,
            instance,
            length,
        } = descriptor;
        let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let record = Self {
            kind: typecode,
            instance,
            body,
        };
        Some((record, rest))
    }

    /// The body as a structure of just that size.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn exactly<T: FromBytes>(&self) -> Result<T, Refused> {
        T::read_from_bytes(self.body).or(wrong("a record of another size"))
    }

    /// The body as a structure that had fewer fields in earlier releases: those that are not there are zero.
    ///
    /// # Errors
    /// `EINVAL` for fewer than `least` bytes, and more than there are.
    pub fn extended<T: FromBytes + IntoBytes>(&self, least: usize) -> Result<T, Refused> {
        let mut value = T::new_zeroed();
        match value.as_mut_bytes().get_mut(..self.body.len()) {
            Some(known) if known.len() >= least => {
                known.copy_from_slice(self.body);
                Ok(value)
            }
            _ => wrong("a record of another size"),
        }
    }
}

/// A stream whose records are whole.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    header: HvmSaveHeader,
    records: &'a [u8],
}

impl<'a> Stream<'a> {
    /// Looks through a stream: a header that is known, whole records, an end. What follows the end is not looked at.
    ///
    /// # Errors
    /// `EINVAL` for no header or one of another format, `ENODATA` where the bytes stop before the end.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Refused> {
        let cut_off = (Errno::ENODATA, "it stops before its end");
        let (first, records) = Record::cut(bytes).ok_or(cut_off)?;
        if first.kind != HVM_SAVE_CODE_HEADER {
            return wrong("no header");
        }
        let header: HvmSaveHeader = first.exactly()?;
        if (header.magic, header.version) != (HVM_FILE_MAGIC, HVM_FILE_VERSION) {
            return wrong("another format");
        }
        let mut rest = records;
        loop {
            let (record, behind) = Record::cut(rest).ok_or(cut_off)?;
            if record.kind == HVM_SAVE_CODE_END {
                return Ok(Self { header, records });
            }
            rest = behind;
        }
    }

    /// What is said of who made it.
    #[must_use]
    pub const fn header(&self) -> &HvmSaveHeader {
        &self.header
    }

    /// The records between header and end, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut rest = self.records;
        core::iter::from_fn(move || {
            let (record, behind) = Record::cut(rest)?;
            rest = behind;
            (record.kind != HVM_SAVE_CODE_END).then_some(record)
        })
    }
}

/// Puts a stream together.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty stream with room for so many bytes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_room(bytes: usize) -> Result<Self, Errno> {
        let mut room = Vec::new();
        room.try_reserve_exact(bytes).map_err(|_| Errno::ENOMEM)?;
        Ok(Self(room))
    }

    /// Adds a record whose body is these parts.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn push(&mut self, kind: u16, instance: u16, parts: &[&[u8]]) -> Result<(), Errno> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let more = DESCRIPTOR + length;
        self.0.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
        let descriptor = HvmSaveDescriptor {
            typecode: kind,
            instance,
            length: length as u32,
        };
        self.0.extend_from_slice(descriptor.as_bytes());
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        Ok(())
    }

    /// The same with one structure.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn put<T: IntoBytes + Immutable>(
        &mut self,
        kind: u16,
        instance: u16,
        body: &T,
    ) -> Result<(), Errno> {
        self.push(kind, instance, &[body.as_bytes()])
    }

    /// Begins a stream.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn begin(&mut self, cpuid: u32, gtsc_khz: u32) -> Result<(), Errno> {
        let header = HvmSaveHeader {
            magic: HVM_FILE_MAGIC,
            version: HVM_FILE_VERSION,
            changeset: 0,
            cpuid,
            gtsc_khz,
        };
        self.put(HVM_SAVE_CODE_HEADER, 0, &header)
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn end(mut self) -> Result<Vec<u8>, Errno> {
        self.push(HVM_SAVE_CODE_END, 0, &[])?;
        Ok(self.0)
    }

    /// What is there behind the first descriptor; nothing where there is none.
    #[must_use]
    pub fn bodies(&self) -> Option<&[u8]> {
        self.0.get(DESCRIPTOR..)
    }
}

/// Bytes of header and end.
pub const FRAME: usize = 2 * DESCRIPTOR + size_of::<HvmSaveHeader>();
