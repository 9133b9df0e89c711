//! Command-line options, taken one by one so that what is left over can be refused.

use crate::failure::{Failure, Result};

/// The words after the command's name.
#[derive(Debug)]
pub struct Arguments {
    words: Vec<String>,
    /// What follows `--`.
    passed_on: Vec<String>,
}

impl Arguments {
    /// Splits the words at `--`.
    pub fn new(words: &[String]) -> Self {
        let at = words.iter().position(|word| word == "--");
        let (words, passed_on) = match at {
            Some(at) => (&words[..at], &words[at + 1..]),
            None => (words, &[][..]),
        };
        Self {
            words: words.to_vec(),
            passed_on: passed_on.to_vec(),
        }
    }

    /// Takes an option without a value; true if it was given.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// Whether a word is among those not yet taken.
    pub fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word == name)
    }

    /// Takes an option with a value.
    pub fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.words.iter().position(|word| word == name) else {
            return Ok(None);
        };
        if at + 1 == self.words.len() {
            return Err(Failure::new(format!("{name} needs a value")));
        }
        self.words.remove(at);
        Ok(Some(self.words.remove(at)))
    }

    /// Takes an option whose value is a number.
    pub fn number(&mut self, name: &str) -> Result<Option<u32>> {
        self.value(name)?
            .map(|text| {
                text.parse()
                    .map_err(|_| Failure::new(format!("{name}: {text} is not a number")))
            })
            .transpose()
    }

    /// Takes a word that is not an option.
    pub fn word(&mut self) -> Option<String> {
        let at = self.words.iter().position(|word| !word.starts_with("--"))?;
        Some(self.words.remove(at))
    }

    /// What stood after `--`.
    pub fn passed_on(&mut self) -> Vec<String> {
        std::mem::take(&mut self.passed_on)
    }

    /// Fails when something was not taken.
    pub fn finish(self) -> Result<()> {
        match self.words.first().or(self.passed_on.first()) {
            None => Ok(()),
            Some(word) => Err(Failure::new(format!("unknown argument: {word}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn arguments(line: &str) -> Arguments {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::new(&words)
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let mut given = arguments("--b 3 word --a -- --rest");
        assert!(given.flag("--a"));
        assert_eq!(given.number("--b").expect("a number"), Some(3));
        assert_eq!(given.word().as_deref(), Some("word"));
        assert_eq!(given.passed_on(), ["--rest"]);
        assert!(given.finish().is_ok());
    }

    #[test]
    fn what_is_left_over_is_refused() {
        assert!(arguments("--unknown").finish().is_err());
        assert!(arguments("-- word").finish().is_err());
        assert!(arguments("--n").number("--n").is_err());
        assert!(arguments("--n x").number("--n").is_err());
    }
}
