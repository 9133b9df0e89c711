//! TODO-boot.
