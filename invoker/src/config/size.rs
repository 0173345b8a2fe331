//! Sizes on our own command line: `512MiB`, `2 GiB`, `100m`. Powers of 1024 throughout.

use proto::unit::Bytes;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("size {value:?} is not valid: expected a number with B, K, M, G or T, such as 512MiB or 2g")]
pub struct InvalidSize {
    pub value: String,
}

/// Parses a size with a binary unit.
///
/// # Errors
/// [`InvalidSize`] names the text.
pub fn parse(text: &str) -> Result<Bytes, InvalidSize> {
    let invalid = || InvalidSize {
        value: text.to_owned(),
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let number: f64 = trimmed[..digits].parse().map_err(|_| invalid())?;
    let shift = match trimmed[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" | "ki" => 10,
        "m" | "mb" | "mib" | "mi" => 20,
        "g" | "gb" | "gib" | "gi" => 30,
        "t" | "tb" | "tib" | "ti" => 40,
        _ => return Err(invalid()),
    };
    let bytes = number * (1u64 << shift) as f64;
    if bytes.is_finite() && bytes <= u64::MAX as f64 {
        Ok(Bytes(bytes as u64))
    } else {
        Err(invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024_in_any_case() {
        assert_eq!(parse("512MiB"), Ok(Bytes::mib(512)));
        assert_eq!(parse("2 g"), Ok(Bytes::mib(2048)));
        assert_eq!(parse("1.5GiB"), Ok(Bytes::mib(1536)));
        assert_eq!(parse("17"), Ok(Bytes(17)));
    }

    #[test]
    fn what_is_no_size_is_named() {
        for text in ["", "GiB", "2x", "-1m", "1e3m", "."] {
            assert_eq!(
                parse(text),
                Err(InvalidSize {
                    value: text.to_owned()
                })
            );
        }
    }
}
