//! TODO-irq.
