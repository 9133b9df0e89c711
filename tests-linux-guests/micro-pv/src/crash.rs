//! Acts that must end this domain, and nothing but this domain. One boot each.

/// Does what the name says; coming back is a failure.
pub fn act(_name: &str) {}
