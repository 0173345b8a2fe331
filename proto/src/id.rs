//! Names that are more than strings: checked where they enter, compared by value.

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: expected {expected}")]
pub struct InvalidId {
    pub kind: &'static str,
    pub value: String,
    pub expected: &'static str,
}

/// Declares a text that is checked where it enters.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::id::InvalidId;
            fn try_from(value: String) -> Result<Self, $crate::id::InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(&value) {
                    Ok(Self(value))
                } else {
                    Err($crate::id::InvalidId { kind: $kind, value, expected: $expected })
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::InvalidId;
            fn from_str(text: &str) -> Result<Self, $crate::id::InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use text_id;

/// Says in JSON Schema what the check says in code.
macro_rules! text_schema {
    ($name:ident, $pattern:expr) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_id!(
    /// One component of a function: a node of its DAG.
    ComponentId, "component id", "1 to 64 characters of A-Z a-z 0-9 _ . -",
    |s| (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
);
text_schema!(ComponentId, "^[A-Za-z0-9_.-]{1,64}$");
text_id!(
    /// One running instance of a function; also part of file and container names.
    InstanceId, "instance id", "1 to 64 characters of a-z 0-9 -",
    |s| (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
text_schema!(InstanceId, "^[a-z0-9-]{1,64}$");
text_id!(
    /// One ring of an instance; also part of its file name.
    RingId, "ring id", "1 to 64 characters of A-Z a-z 0-9 _ -",
    |s| (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
);
text_schema!(RingId, "^[A-Za-z0-9_-]{1,64}$");
text_id!(
    /// A MIG device as NVML and `NVIDIA_VISIBLE_DEVICES` spell it (`MIG-<uuid>`), or a whole GPU's UUID.
    SliceUuid, "slice UUID", "a text that begins with MIG- or GPU-",
    |s| (s.starts_with("MIG-") || s.starts_with("GPU-")) && s.len() > 4 && !s.contains(char::is_whitespace)
);
text_schema!(SliceUuid, r"^(MIG|GPU)-\S+$");
text_id!(
    /// A GPU as NVML spells it: `GPU-<uuid>`.
    GpuUuid, "GPU UUID", "a text that begins with GPU-",
    |s| s.starts_with("GPU-") && s.len() > 4 && !s.contains(char::is_whitespace)
);
text_schema!(GpuUuid, r"^GPU-\S+$");
text_id!(
    /// A slice profile: `1g.10gb`, `1c.3g.40gb`, `1g.10gb+me`, or `full` for a GPU without MIG.
    ProfileName, "slice profile", "a name such as 1g.10gb, 3g.40gb+me or full",
    |s| s == "full" || is_profile(s)
);
text_schema!(ProfileName, r"^([1-8]c\.)?[1-8]g\.[0-9]+gb([+-][a-z.]+)?$|^full$");

/// `^([1-8]c\.)?[1-8]g\.[0-9]+gb([+-][a-z.]+)?$`
fn is_profile(text: &str) -> bool {
    let slices =
        |part: &str, unit: u8| matches!(part.as_bytes(), [n, u] if (b'1'..=b'8').contains(n) && *u == unit);
    let (first, rest) = match text.split_once('.') {
        Some(parts) => parts,
        None => return false,
    };
    let (g, memory) = if slices(first, b'c') {
        match rest.split_once('.') {
            Some(parts) => parts,
            None => return false,
        }
    } else {
        (first, rest)
    };
    let (size, suffix) = match memory.find(['+', '-']) {
        Some(at) => (&memory[..at], Some(&memory[at + 1..])),
        None => (memory, None),
    };
    slices(g, b'g')
        && size
            .strip_suffix("gb")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        && suffix.is_none_or(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b == b'.'))
}

/// One activation: exactly 32 characters of 0-9 a-f (M-05). Source: `ActivationId.scala`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationId(u128);

text_schema!(ActivationId, "^[0-9a-f]{32}$");

impl ActivationId {
    pub const fn from_u128(value: u128) -> Self {
        Self(value)
    }

    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl FromStr for ActivationId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = text.len() == 32
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u128::from_str_radix(text, 16) {
            Ok(value) if valid => Ok(Self(value)),
            _ => Err(InvalidId {
                kind: "activation id",
                value: text.to_owned(),
                expected: "exactly 32 characters of 0-9 a-f",
            }),
        }
    }
}

impl Serialize for ActivationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A string, or a number that happens to have 32 digits.
impl<'de> Deserialize<'de> for ActivationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ActivationIdVisitor)
    }
}

struct ActivationIdVisitor;

impl<'de> Visitor<'de> for ActivationIdVisitor {
    type Value = ActivationId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an activation id of exactly 32 characters of 0-9 a-f")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ActivationId, E> {
        text.parse().map_err(E::custom)
    }

    /// How serde_json hands over a number that keeps its digits.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ActivationId, A::Error> {
        let number = serde_json::Number::deserialize(MapAccessDeserializer::new(map))?;
        number.to_string().parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActivationId({self})")
    }
}

/// One lane of an instance, `s<stage>l<lane>`. The head is `s0l0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaneId {
    pub stage: u16,
    pub lane: u16,
}

text_schema!(LaneId, "^s[0-9]+l[0-9]+$");

impl LaneId {
    /// The lane that answers `/init` and `/run`.
    pub const HEAD: Self = Self { stage: 0, lane: 0 };

    pub const fn new(stage: u16, lane: u16) -> Self {
        Self { stage, lane }
    }
}

impl FromStr for LaneId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let number = |digits: &str| -> Option<u16> {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        text.strip_prefix('s')
            .and_then(|rest| rest.split_once('l'))
            .and_then(|(stage, lane)| {
                Some(Self {
                    stage: number(stage)?,
                    lane: number(lane)?,
                })
            })
            .ok_or_else(|| InvalidId {
                kind: "lane id",
                value: text.to_owned(),
                expected: "s<stage>l<lane>, such as s0l0",
            })
    }
}

impl TryFrom<String> for LaneId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<LaneId> for String {
    fn from(id: LaneId) -> String {
        id.to_string()
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}l{}", self.stage, self.lane)
    }
}
