//! The bound on how often one line may interrupt.

use crate::base::Nanos;

/// Interrupts are counted over this long.
const WINDOW_NS: Nanos = 10_000_000;

/// A line in a storm is masked this long.
const REST_NS: Nanos = 10_000_000;

/// How often a line has interrupted of late.
#[derive(Default)]
pub(super) struct Storm {
    window_start: Nanos,
    count: u32,
    until: Option<Nanos>,
}

impl Storm {
    /// Counts an interrupt; when it is more than `limit` in the window, a rest begins, whose end is
    /// returned.
    pub fn count(&mut self, now: Nanos, limit: u32) -> Option<Nanos> {
        if now.saturating_sub(self.window_start) >= WINDOW_NS {
            self.window_start = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        if self.count <= limit || self.until.is_some() {
            return None;
        }
        self.until = Some(now.saturating_add(REST_NS));
        self.until
    }

    /// Ends the rest if it is over; whether it did.
    pub fn end(&mut self, now: Nanos) -> bool {
        let over = self.until.is_some_and(|until| now >= until);
        if over {
            *self = Self {
                window_start: now,
                ..Self::default()
            };
        }
        over
    }

    /// When the rest ends, if there is one.
    pub fn until(&self) -> Option<Nanos> {
        self.until
    }
}
