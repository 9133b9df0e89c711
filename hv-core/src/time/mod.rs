//! TODO-time.
