//! TODO-hypercall.
