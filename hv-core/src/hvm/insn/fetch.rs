//! Getting at the bytes of an instruction.

use arrayvec::ArrayVec;

use crate::base::insn::MAX_LENGTH;
use crate::hvm::copies::{CopyFault, GuestMemory, copy_in_as};
use crate::hvm::walk::{Access, Kind, PagingMode};

/// Why there are no more bytes.
pub type FetchFault = CopyFault;

/// The bytes at a guest's instruction pointer, copied once: at most 15, fewer where the next page cannot be
/// fetched from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InsnBytes {
    bytes: ArrayVec<u8, MAX_LENGTH>,
    fault: Option<FetchFault>,
}

impl InsnBytes {
    /// Those that the processor gave with the exit.
    #[must_use]
    pub fn given(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.iter().copied().take(MAX_LENGTH).collect(),
            fault: None,
        }
    }

    /// Fetches from the linear address `at` (CS base and instruction pointer).
    ///
    /// An instruction that ends before an unreadable page is whole all the same; only who needs more bytes looks
    /// at the fault.
    #[must_use]
    pub fn fetch(mem: &impl GuestMemory, mode: &PagingMode, cpl: u8, at: u64) -> Self {
        let mut buffer = [0; MAX_LENGTH];
        let access = Access::at_cpl(Kind::Fetch, cpl);
        let fault = copy_in_as(mem, mode, access, at, &mut buffer).err();
        let length = fault.map_or(MAX_LENGTH, |fault| fault.done);
        Self {
            bytes: buffer.into_iter().take(length).collect(),
            fault,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Why they end early.
    #[must_use]
    pub const fn fault(&self) -> Option<FetchFault> {
        self.fault
    }
}
