//! Verdicts: what a boot proved, and what the in-guest script said about its own checks.

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What, as a short sentence.
    pub name: String,
    /// Why it failed; `None` when it passed.
    pub failure: Option<String>,
}

impl Check {
    /// A check that passed.
    #[must_use]
    pub fn passed(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            failure: None,
        }
    }

    /// A check that failed, with the reason.
    #[must_use]
    pub fn failed(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            failure: Some(why.into()),
        }
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.failure {
            None => write!(f, "ok {}", self.name),
            Some(why) => write!(f, "FAILED {}: {why}", self.name),
        }
    }
}

/// Reads the report that a guest script prints between `REPORT-BEGIN` and `REPORT-END n`, where n
/// is the number of its lines: each `ok NAME` or `FAILED NAME: why`. A report that is absent, cut
/// short or empty is a failure of its own.
#[must_use]
pub fn parse(console: &str) -> Vec<Check> {
    let lines = || console.lines().map(str::trim);
    if !lines().any(|line| line == "REPORT-BEGIN") {
        return vec![Check::failed("the script's report", "none was printed")];
    }
    let mut checks: Vec<Check> = lines()
        .skip_while(|line| *line != "REPORT-BEGIN")
        .take_while(|line| !line.starts_with("REPORT-END"))
        .filter_map(parse_line)
        .collect();
    let announced = lines()
        .find_map(|line| line.strip_prefix("REPORT-END "))
        .and_then(|count| count.parse::<usize>().ok());
    if announced != Some(checks.len()) || checks.is_empty() {
        let why = format!("{} lines were read, {announced:?} announced", checks.len());
        checks.push(Check::failed("the script's report", why));
    }
    checks
}

fn parse_line(line: &str) -> Option<Check> {
    if let Some(name) = line.strip_prefix("ok ") {
        return Some(Check::passed(name));
    }
    let rest = line.strip_prefix("FAILED ")?;
    let (name, why) = rest.split_once(": ").unwrap_or((rest, "no reason given"));
    Some(Check::failed(name, why))
}

#[cfg(test)]
mod tests {
    use super::{Check, parse};

    #[test]
    fn a_whole_report_is_read() {
        let checks = parse("x\nREPORT-BEGIN\nok a\nFAILED b: it rained\nREPORT-END 2\nok c\n");
        assert_eq!(
            checks,
            [Check::passed("a"), Check::failed("b", "it rained")]
        );
    }

    #[test]
    fn a_missing_or_short_report_fails() {
        for text in [
            "",
            "ok a\n",
            "REPORT-BEGIN\nok a\n",
            "REPORT-BEGIN\nREPORT-END 0\n",
            "REPORT-BEGIN\nok a\nREPORT-END 2\n",
        ] {
            assert!(parse(text).iter().any(|check| check.failure.is_some()));
        }
    }
}
