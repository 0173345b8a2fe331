//! Sizes and durations as OpenWhisk's settings write them: those of Typesafe's and Scala's libraries.
//!
//! Not those of messages and documents, where `MB` is 1048576 bytes (M-12); source: `Size.scala`,
//! `com.typesafe.config.ConfigMemorySize`, `scala.concurrent.duration.Duration`.

use proto::unit::Bytes;
use std::time::Duration;

/// A number, then nothing, blanks and a unit, or a unit. None where there is no number.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// `2048m`, `2048 Mi` and `2048 MiB` are powers of 1024, `2048 MB` of 1000, a bare number is bytes (P-28).
pub fn size(text: &str) -> Option<Bytes> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "" | "B" | "b" | "byte" | "bytes" => 1,
        "kB" | "kilobyte" | "kilobytes" => 1000,
        "MB" | "megabyte" | "megabytes" => 1000_u64.pow(2),
        "GB" | "gigabyte" | "gigabytes" => 1000_u64.pow(3),
        "TB" | "terabyte" | "terabytes" => 1000_u64.pow(4),
        "k" | "K" | "Ki" | "KiB" | "kibibyte" | "kibibytes" => 1 << 10,
        "m" | "M" | "Mi" | "MiB" | "mebibyte" | "mebibytes" => 1 << 20,
        "g" | "G" | "Gi" | "GiB" | "gibibyte" | "gibibytes" => 1 << 30,
        "t" | "T" | "Ti" | "TiB" | "tebibyte" | "tebibytes" => 1 << 40,
        _ => return None,
    };
    let bytes = number * scale as f64;
    // Larger ones than this lose their last digits, and nobody has them.
    (bytes < (1_u64 << 53) as f64).then_some(Bytes(bytes as u64))
}

/// `100 ms`, `10 seconds`, `5 m`, `1minute`; a bare number is milliseconds (P-29).
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let nanos = match unit {
        "d" | "day" | "days" => 86_400_000_000_000_u64,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        _ => return None,
    };
    let total = number * nanos as f64;
    // As long as Scala's: some 292 years.
    (total < i64::MAX as f64).then(|| Duration::from_nanos(total as u64))
}

/// A duration, or `Inf` for no limit.
pub fn timeout(text: &str) -> Option<Option<Duration>> {
    match text.trim() {
        "Inf" | "+Inf" | "PlusInf" => Some(None),
        text => duration(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-28: binary and decimal units, and megabytes that are bytes / 1048576 rounded down.
    #[test]
    fn sizes_follow_typesafes_rules() {
        let cases = [
            ("2048m", 2_147_483_648),
            ("2048 m", 2_147_483_648),
            ("2048 Mi", 2_147_483_648),
            ("2048 MB", 2_048_000_000),
            ("2147483648", 2_147_483_648),
            ("1.5g", 1_610_612_736),
            (" 16 k ", 16_384),
            ("1 kB", 1000),
            ("6068", 6068),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Some(Bytes(bytes)), "{text}");
        }
        assert_eq!(size("512 MB").map(Bytes::as_mib), Some(488));
        for text in ["", "m", "-1m", "2x", "2 m b", "1e3m", "99999999 t", "1.2.3m"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    /// P-29: durations with and without blanks, and `Inf` where a time limit may be switched off.
    #[test]
    fn durations_follow_scalas_rules() {
        let cases = [
            ("100 ms", 100),
            ("10 seconds", 10_000),
            ("5 m", 300_000),
            ("1 minute", 60_000),
            ("10minutes", 600_000),
            ("1m", 60_000),
            ("0.5 s", 500),
            ("250", 250),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "soon",
            "-1 s",
            "1 fortnight",
            "Inf",
            "1e30 d",
            "99999999999 d",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(timeout("Inf"), Some(None));
        assert_eq!(timeout("1 s"), Some(Some(Duration::from_secs(1))));
        assert_eq!(timeout("never"), None);
    }
}
