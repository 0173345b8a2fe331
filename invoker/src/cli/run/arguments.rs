//! The Scala invoker's command line, and two options of ours.
//!
//! Source: `Invoker.scala`, `parse`; contract P-02 … P-05.

use std::path::PathBuf;

/// What the tokens after `run` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub unique_name: Option<String>,
    pub displayed_name: Option<String>,
    pub id: Option<u32>,
    pub overwrite_id: Option<u32>,
    pub config: Option<PathBuf>,
    pub print_config: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidCommandLine {
    #[error(
        "argument {0:?} is not known: expected --id N, --uniqueName NAME, --displayedName NAME, --overwriteId N, --config FILE or --print-config"
    )]
    Unknown(String),
    #[error("{option} has no value: expected {expected} as the next argument")]
    NoValue {
        option: &'static str,
        expected: &'static str,
    },
    #[error("{option} is {value:?}: expected a whole number, 0 or more")]
    NoId { option: &'static str, value: String },
}

impl CommandLine {
    /// Options in any order, each value the next token; a bare number is the id.
    ///
    /// # Errors
    /// `InvalidCommandLine` for anything else.
    pub(super) fn parse(tokens: &[String]) -> Result<Self, InvalidCommandLine> {
        let mut line = Self::default();
        let mut tokens = tokens.iter();
        while let Some(token) = tokens.next() {
            let mut value = |option, expected| {
                let next = tokens.next();
                next.ok_or(InvalidCommandLine::NoValue { option, expected })
            };
            match token.as_str() {
                "--uniqueName" => line.unique_name = name(value("--uniqueName", "a name")?),
                "--displayedName" => line.displayed_name = name(value("--displayedName", "a name")?),
                "--id" => line.id = Some(id("--id", value("--id", "a number")?)?),
                "--overwriteId" => {
                    line.overwrite_id = Some(id("--overwriteId", value("--overwriteId", "a number")?)?);
                }
                "--config" => line.config = Some(value("--config", "a file")?.into()),
                "--print-config" => line.print_config = true,
                bare if line.id.is_none() && bare.parse::<u32>().is_ok() => line.id = bare.parse().ok(),
                other => return Err(InvalidCommandLine::Unknown(other.to_owned())),
            }
        }
        Ok(line)
    }
}

/// A name that is blank is none.
fn name(text: &str) -> Option<String> {
    let name = text.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// As large as the Scala invoker's.
fn id(option: &'static str, text: &str) -> Result<u32, InvalidCommandLine> {
    let id = text.parse::<i32>().ok().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| InvalidCommandLine::NoId {
        option,
        value: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CommandLine, InvalidCommandLine> {
        let tokens: Vec<String> = text.split('|').map(str::to_owned).collect();
        CommandLine::parse(&tokens)
    }

    /// P-02: options in any order; a blank name counts as absent.
    #[test]
    fn options_come_in_any_order_and_blank_names_are_none() {
        let one = parse("--id|3|--uniqueName| a |--displayedName|  |--overwriteId|2").unwrap();
        let other = parse("--overwriteId|2|--displayedName||--uniqueName|a|--id|3").unwrap();
        assert_eq!(one, other);
        assert_eq!((one.id, one.overwrite_id), (Some(3), Some(2)));
        assert_eq!(
            (one.unique_name.as_deref(), one.displayed_name),
            (Some("a"), None)
        );
        assert_eq!(CommandLine::parse(&[]).unwrap(), CommandLine::default());
    }

    /// P-04: old compose files give a bare number.
    #[test]
    fn a_bare_number_is_the_id() {
        assert_eq!(parse("7").unwrap().id, Some(7));
        assert!(parse("7|8").is_err() && parse("--id|7|8").is_err());
    }

    /// P-03: anything else is refused, by name.
    #[test]
    fn other_tokens_are_refused_by_name() {
        for (text, named) in [
            ("--id=3", "\"--id=3\""),
            ("--id|x", "\"x\""),
            ("--id|-1", "\"-1\""),
            ("--id|3000000000", "\"3000000000\""),
            ("--foo", "\"--foo\""),
            ("--id|1|invoker", "\"invoker\""),
            ("--overwriteId", "--overwriteId has no value"),
        ] {
            let refused = parse(text).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
