//! Counting checks.

use tests_linux_guests::report::Check;

use crate::failure::Result;

/// How many checks passed, and which failed.
#[derive(Debug, Default)]
pub struct Tally {
    /// Those that passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: Vec<Check>,
    /// Those that are only reported.
    pub reported: usize,
}

impl Tally {
    /// Prints a check and counts it.
    pub fn count(&mut self, check: &Check) {
        println!("{check}");
        match check.failure {
            None => self.passed += 1,
            Some(_) => self.failed.push(check.clone()),
        }
    }

    /// Prints a check whose verdict does not count.
    pub fn report(&mut self, check: &Check) {
        println!("reported, does not count: {check}");
        self.reported += 1;
    }

    /// Counts a step as one check.
    pub fn step(&mut self, name: &str, result: Result<()>) {
        self.count(&match result {
            Ok(()) => Check::passed(name),
            Err(failure) => Check::failed(name, failure.to_string()),
        });
    }

    /// Prints the sum, and once more what failed: thousands of lines may be between.
    pub fn sum(&self) {
        for check in &self.failed {
            println!("{check}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
    }
}
