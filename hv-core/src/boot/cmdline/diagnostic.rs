//! What is said about a command line; each finding prints as one sentence.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Most findings kept; a line can hold more nonsense than a log should.
const MAX_FINDINGS: usize = 64;

/// One finding about the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnostic {
    /// An option of Xen's, or a form of one, that Xenolith does not have; it has no effect.
    NotImplemented(String),
    /// A word that neither Xen nor Xenolith knows.
    Unknown(String),
    /// A known option with a value that makes no sense; it has no effect.
    BadValue {
        /// The whole word.
        word: String,
        /// What would have made sense.
        expected: &'static str,
    },
    /// So many findings followed that were not kept.
    More(usize),
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotImplemented(word) => {
                write!(
                    f,
                    "command line: option '{word}' is not implemented and has no effect"
                )
            }
            Self::Unknown(word) => {
                write!(
                    f,
                    "command line: option '{word}' is unknown and has no effect"
                )
            }
            Self::BadValue { word, expected } => write!(
                f,
                "command line: option '{word}' has no effect, its value should be {expected}"
            ),
            Self::More(count) => write!(f, "command line: {count} more options have no effect"),
        }
    }
}

/// Findings being gathered, up to a bound.
#[derive(Default)]
pub(super) struct Findings {
    list: Vec<Diagnostic>,
    dropped: usize,
}

impl Findings {
    /// Adds a finding.
    pub(super) fn add(&mut self, finding: Diagnostic) {
        if self.list.len() < MAX_FINDINGS {
            self.list.push(finding);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds that this form of an option is not implemented.
    pub(super) fn missing(&mut self, option: &str, form: &str) {
        self.add(Diagnostic::NotImplemented(format!("{option}={form}")));
    }

    /// The findings, ended by a count of those that were dropped.
    pub(super) fn into_list(mut self) -> Vec<Diagnostic> {
        if self.dropped > 0 {
            self.list.push(Diagnostic::More(self.dropped));
        }
        self.list
    }
}
