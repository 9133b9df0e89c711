//! TODO-events.
