//! TODO-pv.
