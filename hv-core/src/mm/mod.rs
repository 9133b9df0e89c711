//! TODO-mm.
