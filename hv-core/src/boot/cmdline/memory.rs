//! `dom0_mem=`: how much memory dom0 gets and how far it may grow.

use super::values::{size, unsigned};
use crate::base::{PAGE_SHIFT, PAGE_SIZE};

/// An amount of memory, absolute or relative to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemAmount {
    /// So many bytes, and so many percent of all memory on top.
    Of {
        /// Bytes.
        bytes: u64,
        /// Percent of all memory, below 100.
        percent: u8,
    },
    /// All but so many bytes and percent.
    AllBut {
        /// Bytes.
        bytes: u64,
        /// Percent of all memory, below 100.
        percent: u8,
    },
}

impl MemAmount {
    /// `[-][size+]percent%` or `[-]size`.
    fn parse(text: &str) -> Option<Self> {
        let (text, rest) = match text.strip_prefix('-') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (bytes, percent) = match text.strip_suffix('%') {
            None => (size(text)?, 0),
            Some(text) => {
                let (bytes, percent) = match text.rsplit_once('+') {
                    Some((bytes, percent)) => (size(bytes)?, percent),
                    None => (0, text),
                };
                let percent = unsigned(percent).filter(|&percent| percent < 100)?;
                (bytes, u8::try_from(percent).ok()?)
            }
        };
        Some(if rest {
            Self::AllBut { bytes, percent }
        } else {
            Self::Of { bytes, percent }
        })
    }

    /// Pages, where `available` pages are free and the machine has `total`.
    fn pages(self, available: u64, total: u64) -> u64 {
        let sum = |bytes: u64, percent: u8| {
            let share = u128::from(total) * u128::from(percent) / 100;
            let share = u64::try_from(share).unwrap_or(u64::MAX);
            bytes.div_ceil(PAGE_SIZE as u64).saturating_add(share)
        };
        match self {
            Self::Of { bytes, percent } => sum(bytes, percent),
            Self::AllBut { bytes, percent } => available.saturating_sub(sum(bytes, percent)),
        }
    }
}

/// The parts of `dom0_mem=`, each as given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dom0Mem {
    /// The plain amount.
    pub amount: Option<MemAmount>,
    /// `min:`
    pub min: Option<MemAmount>,
    /// `max:`
    pub max: Option<MemAmount>,
}

/// What `dom0_mem=` comes to on a machine, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dom0Pages {
    /// dom0 begins with so many.
    pub initial: u64,
    /// It may grow to so many; `u64::MAX` for no limit.
    pub limit: u64,
}

impl Dom0Mem {
    /// The amount that was asked for outright, in pages, whatever there is.
    #[must_use]
    pub fn asked(&self, available: u64, total: u64) -> Option<u64> {
        Some(self.amount?.pages(available, total))
    }

    /// Takes a comma separated list; parts that are not in it keep their value. All or nothing.
    pub(super) fn update(&mut self, list: &str) -> Option<()> {
        let mut new = *self;
        for item in list.split(',') {
            let (part, text) = if let Some(text) = item.strip_prefix("min:") {
                (&mut new.min, text)
            } else if let Some(text) = item.strip_prefix("max:") {
                (&mut new.max, text)
            } else {
                (&mut new.amount, item)
            };
            *part = Some(MemAmount::parse(text)?);
        }
        *self = new;
        Some(())
    }

    /// The numbers of pages when `available` are free and the machine has `total`. Without an
    /// amount all but a reserve of a sixteenth or 128 MiB, the smaller of the two. `max:` wins over
    /// `min:`, and nothing makes it more than there is.
    #[must_use]
    pub fn resolve(&self, available: u64, total: u64) -> Dom0Pages {
        let reserve = (available / 16).min(128 << (20 - PAGE_SHIFT));
        let pages = |amount: MemAmount| amount.pages(available, total);
        let wanted = self.amount.map_or(available - reserve, pages);
        let limit = self.max.map_or(u64::MAX, pages);
        let initial = wanted.max(self.min.map_or(0, pages)).min(limit);
        Dom0Pages {
            initial: initial.min(available),
            limit,
        }
    }
}
