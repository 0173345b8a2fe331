//! Versions of entities: `SemVer.scala`.

use crate::id::InvalidId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `major.minor.patch`, at least one of them not 0 (M-08).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The last part raised by one, as an update does.
    pub const fn next(self) -> Self {
        Self {
            patch: self.patch.saturating_add(1),
            ..self
        }
    }
}

/// 0.0.1: what has no version yet.
impl Default for Version {
    fn default() -> Self {
        Self {
            major: 0,
            minor: 0,
            patch: 1,
        }
    }
}

impl FromStr for Version {
    type Err = InvalidId;

    /// Missing parts are 0.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            kind: "version",
            value: text.to_owned(),
            expected: "three numbers such as 0.0.1, not all of them 0",
        };
        let mut parts = [0_u32; 3];
        for (index, part) in text.split('.').enumerate() {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let number = digits.then(|| part.parse().ok()).flatten();
            *parts.get_mut(index).ok_or_else(invalid)? = number.ok_or_else(invalid)?;
        }
        match parts {
            [0, 0, 0] => Err(invalid()),
            [major, minor, patch] => Ok(Self { major, minor, patch }),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
