//! TODO-grants.
