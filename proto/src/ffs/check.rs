//! What types and schemas do not say about a document, in sentences that name the place.

use crate::decode::DecodeError;
use std::fmt::Display;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) fn flaw(path: impl Display, reason: impl Display) -> DecodeError {
    DecodeError {
        path: path.to_string(),
        reason: reason.to_string(),
    }
}

/// For counts too: `value` is then how many there are.
pub(super) fn at_least<N: PartialOrd + Display>(
    path: impl Display,
    value: N,
    least: N,
) -> Result<(), DecodeError> {
    if value < least {
        return Err(flaw(path, format_args!("{value}, expected at least {least}")));
    }
    Ok(())
}

pub(super) fn not_negative(path: impl Display, value: f64) -> Result<(), DecodeError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(flaw(path, format_args!("{value}, expected 0 or more")))
}

pub(super) fn instant(path: &str, text: &str) -> Result<(), DecodeError> {
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(_) => Ok(()),
        Err(_) => Err(flaw(
            path,
            format_args!("{text:?}, expected an instant such as 2026-01-02T03:04:05Z"),
        )),
    }
}
