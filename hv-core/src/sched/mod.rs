//! TODO-sched.
