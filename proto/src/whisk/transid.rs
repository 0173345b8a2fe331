//! Transaction ids: `common/TransactionId.scala`.

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Goes with a request from the controller into logs, containers and acks (M-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionId {
    /// Ids that begin with `sid_` are the system's own.
    pub id: String,
    /// When the controller accepted the request, in milliseconds since the epoch (M-13).
    pub start: i64,
    /// The caller asked for more log lines; the record is then stored whatever the level says (D-48).
    pub extra_logging: bool,
    pub parent: Option<Box<TransactionId>>,
}

impl TransactionId {
    pub fn new(id: impl Into<String>, start: i64) -> Self {
        Self {
            id: id.into(),
            start,
            extra_logging: false,
            parent: None,
        }
    }

    /// What anything unreadable stands for. Its start is that of the process, or rather the first
    /// time that one was asked for.
    pub fn unknown() -> Self {
        static START: LazyLock<i64> = LazyLock::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        });
        Self::new("sid_unknown", *START)
    }

    pub fn is_system(&self) -> bool {
        self.id.starts_with("sid_")
    }

    fn read(value: Value) -> Option<Self> {
        let Value::Array(items) = value else {
            return None;
        };
        let mut items = items.into_iter();
        let Value::String(id) = items.next()? else {
            return None;
        };
        let mut read = Self::new(id, items.next()?.as_i64()?);
        let mut next = items.next();
        if let Some(Value::Bool(extra)) = next {
            read.extra_logging = extra;
            next = items.next();
        }
        if let Some(parent) = next {
            read.parent = Some(Box::new(Self::read(parent)?));
        }
        items.next().is_none().then_some(read)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// `["id", start]`, then `true` for extra logging, then the parent.
impl Serialize for TransactionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(None)?;
        array.serialize_element(&self.id)?;
        array.serialize_element(&self.start)?;
        if self.extra_logging {
            array.serialize_element(&true)?;
        }
        if let Some(parent) = &self.parent {
            array.serialize_element(parent)?;
        }
        array.end()
    }
}

/// Never fails on JSON: what has another form is [`TransactionId::unknown`].
impl<'de> Deserialize<'de> for TransactionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::read(value).unwrap_or_else(Self::unknown))
    }
}
