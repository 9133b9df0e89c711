//! Device vectors of one CPU, from when its local APIC has accepted them to their end.
//!
//! A local APIC ends whatever is highest in service (Intel SDM volume 3, 11.8.5), not what the writer has in
//! mind. Vectors are handled later than they are accepted, and a higher one may be accepted meanwhile; so an
//! end is kept back while a higher vector is in service. Were it not, the higher one's end would be spent on
//! this one: it could be accepted again before its first arrival is handled, which one note stands for, and of
//! two ends that are owed one would never come. The vectors of its class and below would be dead.

use core::cell::Cell;

/// What one CPU has accepted. Only that CPU uses it, with interrupts off.
#[derive(Default)]
pub struct InService {
    /// Accepted, not yet handled.
    noted: Vectors,
    /// Handled; the end is kept back.
    handled: Vectors,
}

impl InService {
    /// The local APIC has accepted a vector.
    pub fn note(&self, vector: u8) {
        self.noted.insert(vector);
    }

    /// The highest vector that is to be handled. Whoever takes it calls [`end`](Self::end) before the next.
    #[must_use]
    pub fn take(&self) -> Option<u8> {
        let vector = self.noted.highest()?;
        self.noted.remove(vector);
        Some(vector)
    }

    /// A vector that was taken may come again: `eoi`, which ends the highest in service, is called for it and for
    /// those kept back as soon as nothing higher is in service, each when it is the highest.
    pub fn end(&self, vector: u8, mut eoi: impl FnMut()) {
        let above = self.noted.highest();
        if self.handled.is_empty() && above < Some(vector) {
            // Nearly always: it came alone.
            eoi();
            return;
        }
        self.handled.insert(vector);
        while let Some(next) = self.handled.highest() {
            if above > Some(next) {
                break;
            }
            self.handled.remove(next);
            eoi();
        }
    }

    /// Forgets everything: the local APIC was reset.
    pub fn reset(&self) {
        self.noted.clear();
        self.handled.clear();
    }
}

/// A set of vectors, whose highest is found at once: each interrupt asks for it several times.
#[derive(Default)]
struct Vectors {
    /// Which of the words have a bit set.
    used: Cell<u8>,
    words: [Cell<u64>; 4],
}

impl Vectors {
    fn is_empty(&self) -> bool {
        self.used.get() == 0
    }

    fn insert(&self, vector: u8) {
        let (index, word) = self.word(vector);
        word.set(word.get() | 1 << (vector % 64));
        self.used.set(self.used.get() | 1 << index);
    }

    fn remove(&self, vector: u8) {
        let (index, word) = self.word(vector);
        word.set(word.get() & !(1 << (vector % 64)));
        if word.get() == 0 {
            self.used.set(self.used.get() & !(1 << index));
        }
    }

    fn highest(&self) -> Option<u8> {
        let index = self.used.get().checked_ilog2()? as u8;
        let (_, word) = self.word(index * 64);
        Some(index * 64 + word.get().checked_ilog2()? as u8)
    }

    fn clear(&self) {
        self.used.set(0);
        self.words.iter().for_each(|word| word.set(0));
    }

    fn word(&self, vector: u8) -> (usize, &Cell<u64>) {
        let index = usize::from(vector / 64);
        (index, &self.words[index])
    }
}
