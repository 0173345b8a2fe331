//! Sizes as texts: `Size.scala`.

use crate::id::InvalidId;
use crate::unit::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An amount and its unit, such as `256 MB`; powers of 1024 (M-12). Equal if the bytes are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize {
    amount: u64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    B,
    KB,
    MB,
    GB,
}

impl Unit {
    const fn bytes(self) -> u64 {
        match self {
            Self::B => 1,
            Self::KB => 1 << 10,
            Self::MB => 1 << 20,
            Self::GB => 1 << 30,
        }
    }
}

impl ByteSize {
    pub const fn bytes(self) -> Bytes {
        Bytes(self.amount * self.unit.bytes()) // `from_str` has seen that it fits
    }
}

/// Written in bytes with unit B, as instance ids are (M-42).
impl From<Bytes> for ByteSize {
    fn from(bytes: Bytes) -> Self {
        Self {
            amount: bytes.0,
            unit: Unit::B,
        }
    }
}

impl PartialEq for ByteSize {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for ByteSize {}

impl FromStr for ByteSize {
    type Err = InvalidId;

    /// Digits, at most one blank, a unit in any case, and at most one blank at either end.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        parse(text).ok_or_else(|| InvalidId {
            kind: "size",
            value: text.to_owned(),
            expected: "a number and a unit B, KB, MB or GB, such as 256 MB",
        })
    }
}

fn parse(text: &str) -> Option<ByteSize> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    let text = text.strip_suffix(' ').unwrap_or(text);
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit
        .strip_prefix(' ')
        .unwrap_or(unit)
        .to_ascii_uppercase()
        .as_str()
    {
        "B" => Unit::B,
        "K" | "KB" => Unit::KB,
        "M" | "MB" => Unit::MB,
        "G" | "GB" => Unit::GB,
        _ => return None,
    };
    let amount: u64 = digits.parse().ok()?;
    amount.checked_mul(unit.bytes())?;
    Some(ByteSize { amount, unit })
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.amount, self.unit)
    }
}
