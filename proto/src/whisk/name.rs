//! Names and paths of namespaces, packages and actions: `EntityPath.scala`, `FullyQualifiedEntityName.scala`.

use super::version::Version;
use crate::id::{InvalidId, text_id};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

text_id!(
    /// The name of a namespace, package, action, rule or trigger (M-06).
    EntityName, "name",
    "1 to 256 characters, first a letter, digit or _, then also blanks and @ . & -, last not a blank",
    |s| is_name(s)
);

text_id!(
    /// Who acts: at least 5 characters besides blanks at the ends (M-50).
    Subject, "subject", "at least 5 characters",
    |s| s.trim().chars().count() >= 5
);

fn is_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    bytes.len() <= 256
        && word(*first)
        && *last != b' '
        && bytes.iter().all(|b| word(*b) || b"@ .&-".contains(b))
}

/// Names joined by `/`: a namespace, or a namespace and a package (M-07).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntityPath(String);

impl EntityPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace.
    pub fn root(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// The package, if there is one.
    pub fn package(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, package)| package)
    }
}

impl TryFrom<String> for EntityPath {
    type Error = InvalidId;

    /// A leading slash is dropped.
    fn try_from(mut text: String) -> Result<Self, InvalidId> {
        if text.starts_with('/') {
            text.remove(0);
        }
        if text.split('/').all(is_name) {
            return Ok(Self(text));
        }
        Err(InvalidId {
            kind: "path",
            value: text,
            expected: "names joined by /",
        })
    }
}

impl std::str::FromStr for EntityPath {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::try_from(text.to_owned())
    }
}

impl From<EntityPath> for String {
    fn from(path: EntityPath) -> String {
        path.0
    }
}

impl From<EntityName> for EntityPath {
    fn from(name: EntityName) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for EntityPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an action really lives, and through which binding it was called (M-21).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct FullyQualifiedName {
    /// The path of the binding, such as `jane/pictures`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<EntityPath>,
    pub name: EntityName,
    /// Package included, the binding resolved.
    pub path: EntityPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

impl FullyQualifiedName {
    pub fn new(path: EntityPath, name: EntityName) -> Self {
        Self {
            binding: None,
            name,
            path,
            version: None,
        }
    }
}

/// `ns/pkg/name`: also the id of the action's document (D-01).
impl fmt::Display for FullyQualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.path, self.name)
    }
}

impl std::str::FromStr for FullyQualifiedName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (path, name) = text
            .rsplit_once('/')
            .filter(|(path, _)| !path.is_empty())
            .ok_or_else(|| InvalidId {
                kind: "action",
                value: text.to_owned(),
                expected: "a path and a name joined by /",
            })?;
        Ok(Self::new(path.parse()?, name.parse()?))
    }
}

/// An object of path and name, or one string.
impl<'de> Deserialize<'de> for FullyQualifiedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = FullyQualifiedName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with path and name, or a string such as \"guest/img/classify\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FullyQualifiedName, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FullyQualifiedName, A::Error> {
        #[derive(Deserialize)]
        struct Members {
            binding: Option<EntityPath>,
            name: EntityName,
            path: EntityPath,
            version: Option<Version>,
        }
        let Members {
            binding,
            name,
            path,
            version,
        } = Members::deserialize(MapAccessDeserializer::new(map))?;
        Ok(FullyQualifiedName {
            binding,
            name,
            path,
            version,
        })
    }
}
