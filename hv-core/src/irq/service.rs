//! Device vectors of one CPU, from when its local APIC has accepted them to their end.
//!
//! A local APIC ends whatever is highest in service (Intel SDM volume 3, 11.8.5), not what the writer has in
//! mind. Vectors are handled later than they are accepted, and a higher one may be accepted meanwhile; so an
//! end is kept back while a higher vector is in service. Were it not, the higher one's end would be spent on
//! this one: it could be accepted again before its first arrival is handled, which one note stands for, and of
//! two ends that are owed one would never come. The vectors of its class and below would be dead.

use core::cell::Cell;

/// One bit for each vector.
type Bits = [u64; 4];

/// What one CPU has accepted. Only that CPU uses it, with interrupts off.
#[derive(Default)]
pub struct InService {
    /// Accepted, not yet handled.
    noted: Cell<Bits>,
    /// Handled; the end is kept back.
    handled: Cell<Bits>,
}

impl InService {
    /// The local APIC has accepted a vector.
    pub fn note(&self, vector: u8) {
        set(&self.noted, vector, true);
    }

    /// The highest vector that is to be handled. Whoever takes it calls [`end`](Self::end) before the next.
    #[must_use]
    pub fn take(&self) -> Option<u8> {
        let vector = highest(self.noted.get())?;
        set(&self.noted, vector, false);
        Some(vector)
    }

    /// A vector that was taken may come again: `eoi`, which ends the highest in service, is called for it and for
    /// those kept back as soon as nothing higher is in service, each when it is the highest.
    pub fn end(&self, vector: u8, mut eoi: impl FnMut()) {
        set(&self.handled, vector, true);
        while let Some(next) = highest(self.handled.get()) {
            if highest(self.noted.get()) > Some(next) {
                break;
            }
            set(&self.handled, next, false);
            eoi();
        }
    }

    /// Forgets everything: the local APIC was reset.
    pub fn reset(&self) {
        self.noted.set(Bits::default());
        self.handled.set(Bits::default());
    }
}

fn set(bits: &Cell<Bits>, vector: u8, on: bool) {
    let mut words = bits.get();
    let word = &mut words[usize::from(vector) / 64];
    let bit = 1 << (vector % 64);
    *word = if on { *word | bit } else { *word & !bit };
    bits.set(words);
}

fn highest(bits: Bits) -> Option<u8> {
    let (index, word) = bits.iter().enumerate().rev().find(|(_, w)| **w != 0)?;
    Some((index * 64) as u8 + word.ilog2() as u8)
}
