//! TODO-domain.
