//! Durations in settings: `100 ms`, `10 seconds`, `5 m`, `1 minute` (P-29).

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "duration {value:?} is not valid: expected a number with ns, us, ms, s, m, h or d, such as 10 seconds"
)]
pub struct InvalidDuration {
    pub value: String,
}

/// Parses a duration as Typesafe's configuration library does; a bare number is milliseconds.
///
/// # Errors
/// [`InvalidDuration`] names the text.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration {
        value: text.to_owned(),
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let number: f64 = trimmed[..digits].parse().map_err(|_| invalid())?;
    let seconds = match trimmed[digits..].trim() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1e-9,
        "us" | "micro" | "micros" | "microsecond" | "microseconds" => 1e-6,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "second" | "seconds" => 1.0,
        "m" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        _ => return Err(invalid()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_original_is_read() {
        assert_eq!(parse("100 ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse("10 seconds"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("5 m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1minute"), Ok(Duration::from_secs(60)));
        assert_eq!(parse("250"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_no_duration_is_named() {
        for text in ["", "minutes", "5 fortnights", "-1 s"] {
            assert_eq!(
                parse(text),
                Err(InvalidDuration {
                    value: text.to_owned()
                })
            );
        }
    }
}
