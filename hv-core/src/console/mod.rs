//! TODO-console.
