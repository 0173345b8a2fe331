//! `ffs-invoker policies`: what the setting and the annotation key `policy` may name.

use scheduler::policy::policies;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// List the scheduling policies, the default first.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(Arguments {}: &Arguments) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(list().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn list() -> String {
    let longest = policies().iter().map(|policy| policy.name().len()).max();
    let width = longest.unwrap_or(0);
    let mut text = String::new();
    for policy in policies() {
        let (name, sentence) = (policy.name(), policy.sentence());
        writeln!(text, "{name:width$}  {sentence}").expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_has_a_line_that_begins_with_its_name() {
        let text = list();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        let expected: Vec<&str> = policies().iter().map(|policy| policy.name()).collect();
        assert_eq!(names, expected);
        assert_eq!(names[0], "fluidfaas");
        assert!(text.lines().all(|line| line.ends_with('.')), "{text}");
    }
}
