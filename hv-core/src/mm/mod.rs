//! TODO-mm.
pub mod buddy;
