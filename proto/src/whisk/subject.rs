//! Documents about users: `Subject.scala`, `Identity.scala` and the views over them. Written by
//! operators (`wskadmin`), so members that OpenWhisk does not know are kept.

use super::identity::Namespace;
use super::limits::UserLimits;
use super::name::Subject;
use super::view::ViewAnswer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// What the database of subjects holds and says.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthDocument {
    Subject(SubjectDocument),
    Limits(Box<LimitsDocument>),
    /// The answer of a view over subjects and limits.
    View(ViewAnswer),
}

/// Who may call, with which keys.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectDocument {
    pub id: String,
    pub rev: Option<String>,
    pub subject: Subject,
    /// True: nothing of theirs is run (N-03).
    pub blocked: Option<bool>,
    /// Absent in old documents, which have one `uuid` and `key` instead.
    pub namespaces: Option<Vec<SubjectNamespace>>,
    pub other: Map<String, Value>,
}

/// One namespace of a subject, with the two halves of its `api_key`.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectNamespace {
    pub namespace: Namespace,
    pub key: String,
    pub other: Map<String, Value>,
}

/// The limits of one namespace; its id is `<namespace>/limits`.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsDocument {
    pub id: String,
    pub rev: Option<String>,
    pub limits: UserLimits,
    pub other: Map<String, Value>,
}

impl LimitsDocument {
    /// The namespace that they are for.
    pub fn namespace(&self) -> &str {
        self.id.strip_suffix("/limits").unwrap_or(&self.id)
    }
}

impl<'de> Deserialize<'de> for AuthDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Map::deserialize(deserializer)?;
        let is_limits = matches!(members.get("_id"), Some(Value::String(id)) if id.ends_with("/limits"));
        let read = match () {
            () if members.contains_key("subject") => subject(members).map(Self::Subject),
            () if is_limits => limits(members).map(|limits| Self::Limits(Box::new(limits))),
            () if members.contains_key("rows") => serde_json::from_value(members.into())
                .map(Self::View)
                .map_err(|error| error.to_string()),
            () => Err("neither a member `subject` or `rows`, nor an `_id` that ends with /limits".to_owned()),
        };
        read.map_err(serde::de::Error::custom)
    }
}

fn subject(mut members: Map<String, Value>) -> Result<SubjectDocument, String> {
    let namespaces = match optional::<Vec<Map<String, Value>>>(&mut members, "namespaces")? {
        Some(all) => Some(all.into_iter().map(namespace).collect::<Result<_, _>>()?),
        None => None,
    };
    Ok(SubjectDocument {
        id: required(&mut members, "_id")?,
        rev: optional(&mut members, "_rev")?,
        subject: required(&mut members, "subject")?,
        blocked: optional(&mut members, "blocked")?,
        namespaces,
        other: members,
    })
}

fn namespace(mut members: Map<String, Value>) -> Result<SubjectNamespace, String> {
    Ok(SubjectNamespace {
        namespace: Namespace {
            name: required(&mut members, "name")?,
            uuid: required(&mut members, "uuid")?,
        },
        key: required(&mut members, "key")?,
        other: members,
    })
}

fn limits(mut members: Map<String, Value>) -> Result<LimitsDocument, String> {
    let (id, rev) = (required(&mut members, "_id")?, optional(&mut members, "_rev")?);
    let limits: UserLimits =
        serde_json::from_value(members.clone().into()).map_err(|error| error.to_string())?;
    if let Ok(Value::Object(known)) = serde_json::to_value(&limits) {
        members.retain(|name, _| !known.contains_key(name));
    }
    Ok(LimitsDocument {
        id,
        rev,
        limits,
        other: members,
    })
}

fn required<T: DeserializeOwned>(members: &mut Map<String, Value>, name: &str) -> Result<T, String> {
    let value = members
        .shift_remove(name)
        .ok_or_else(|| format!("missing field `{name}`"))?;
    serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))
}

fn optional<T: DeserializeOwned>(members: &mut Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    let value = members.shift_remove(name).unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))
}

impl Serialize for AuthDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Subject(document) => document.serialize(serializer),
            Self::Limits(document) => document.serialize(serializer),
            Self::View(answer) => answer.serialize(serializer),
        }
    }
}

/// Serializing can use serde's `flatten`: numbers lose digits only on the way in.
#[derive(Serialize)]
struct Members<'a, T> {
    #[serde(rename = "_id", skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "_rev", skip_serializing_if = "Option::is_none")]
    rev: Option<&'a str>,
    #[serde(flatten)]
    known: T,
    #[serde(flatten)]
    other: &'a Map<String, Value>,
}

impl Serialize for SubjectDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Known<'a> {
            subject: &'a Subject,
            #[serde(skip_serializing_if = "Option::is_none")]
            blocked: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            namespaces: Option<&'a [SubjectNamespace]>,
        }
        let known = Known {
            subject: &self.subject,
            blocked: self.blocked,
            namespaces: self.namespaces.as_deref(),
        };
        Members {
            id: Some(&self.id),
            rev: self.rev.as_deref(),
            known,
            other: &self.other,
        }
        .serialize(serializer)
    }
}

impl Serialize for SubjectNamespace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Known<'a> {
            #[serde(flatten)]
            namespace: &'a Namespace,
            key: &'a str,
        }
        let known = Known {
            namespace: &self.namespace,
            key: &self.key,
        };
        Members {
            id: None,
            rev: None,
            known,
            other: &self.other,
        }
        .serialize(serializer)
    }
}

impl Serialize for LimitsDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let members = Members {
            id: Some(&self.id),
            rev: self.rev.as_deref(),
            known: &self.limits,
            other: &self.other,
        };
        members.serialize(serializer)
    }
}
