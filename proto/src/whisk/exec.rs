//! What an action runs: `Exec.scala`, `Attachments.scala`.

use crate::id::InvalidId;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The member `exec` of an action's document (D-16).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Members")]
pub enum Exec {
    /// A kind that the runtimes manifest lists.
    Managed(ManagedExec),
    /// Any image.
    Blackbox(BlackboxExec),
    /// Several actions; never sent to an invoker.
    Sequence(SequenceExec),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ManagedExec {
    pub kind: Kind,
    pub code: Code,
    /// Old Java actions keep their code in the member `jar`.
    pub in_jar: bool,
    pub binary: Option<bool>,
    pub main: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BlackboxExec {
    pub image: String,
    pub code: Option<Code>,
    pub binary: Option<bool>,
    pub main: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SequenceExec {
    /// Actions, such as `/guest/hello`.
    pub components: Vec<String>,
}

/// Such as `python:3.11` or `python:default`: trimmed, in lower case (D-29).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Kind(String);

/// Code in the document, or where it is instead.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Code {
    Inline(String),
    Attachment(Attachment),
}

/// D-20.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Scheme and place; see [`Attachment::place`].
    pub attachment_name: String,
    /// MIME type.
    pub attachment_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

/// Where the bytes of an attachment are (D-21 to D-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In the name itself, as URL-safe base64.
    Name(&'a str),
    /// In the document's attachment of that name.
    Document(&'a str),
    /// In a store of the operator's.
    Store { scheme: &'a str, key: &'a str },
}

impl Attachment {
    pub fn place(&self) -> Place<'_> {
        match self.attachment_name.split_once(':') {
            None => Place::Document(&self.attachment_name),
            Some(("mem", content)) => Place::Name(content),
            Some(("couch", name)) => Place::Document(name),
            Some((scheme, key)) => Place::Store { scheme, key },
        }
    }
}

impl Exec {
    /// As the annotation `kind` of a record shows it, but `default` is not resolved.
    pub fn kind(&self) -> &str {
        match self {
            Self::Managed(exec) => exec.kind.as_str(),
            Self::Blackbox(_) => "blackbox",
            Self::Sequence(_) => "sequence",
        }
    }

    /// What goes to `/init`, if anything; blank code of a blackbox is none (D-28).
    pub fn code(&self) -> Option<&Code> {
        match self {
            Self::Managed(exec) => Some(&exec.code),
            Self::Blackbox(exec) => match &exec.code {
                Some(Code::Inline(text)) if text.trim().is_empty() => None,
                code => code.as_ref(),
            },
            Self::Sequence(_) => None,
        }
    }

    /// The function that the runtime is to call (D-32).
    pub fn main(&self) -> &str {
        let main = match self {
            Self::Managed(exec) => &exec.main,
            Self::Blackbox(exec) => &exec.main,
            Self::Sequence(_) => &None,
        };
        main.as_deref().unwrap_or("main")
    }

    /// Whether `/init` gets base64 (D-26): for inline code its text decides, for an attachment the document.
    pub fn is_binary(&self) -> bool {
        match self.code() {
            None => false,
            Some(Code::Inline(text)) => is_base64(text.trim()),
            Some(Code::Attachment(_)) => match self {
                Self::Managed(exec) => exec.binary.unwrap_or(false),
                Self::Blackbox(exec) => exec.binary.unwrap_or(false),
                Self::Sequence(_) => false,
            },
        }
    }
}

/// Only characters of the alphabet, a length that 4 divides, padding at the end alone.
pub fn is_base64(text: &str) -> bool {
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    let body = &text.as_bytes()[..text.len() - padding];
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && body
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"+/".contains(b))
}

impl Kind {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon.
    pub fn family(&self) -> &str {
        self.0.split(':').next().unwrap_or(&self.0)
    }
}

impl From<String> for Kind {
    fn from(text: String) -> Self {
        Self(text.trim().to_lowercase())
    }
}

impl From<&str> for Kind {
    fn from(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
struct Members {
    kind: Kind,
    image: Option<String>,
    code: Option<Code>,
    jar: Option<Code>,
    binary: Option<bool>,
    main: Option<String>,
    components: Option<Vec<String>>,
}

impl TryFrom<Members> for Exec {
    type Error = InvalidId;

    fn try_from(members: Members) -> Result<Self, InvalidId> {
        let Members {
            kind,
            image,
            code,
            jar,
            binary,
            main,
            components,
        } = members;
        let lacks = |expected| InvalidId {
            kind: "exec of kind",
            value: kind.0.clone(),
            expected,
        };
        match kind.as_str() {
            "" => Err(lacks("the name of a kind")),
            "blackbox" => {
                let image = image.filter(|image| is_image(image));
                let image = image.ok_or_else(|| lacks("a member image with the name of an image"))?;
                Ok(Self::Blackbox(BlackboxExec {
                    image,
                    code,
                    binary,
                    main,
                }))
            }
            "sequence" => {
                let components = components.ok_or_else(|| lacks("a member components"))?;
                Ok(Self::Sequence(SequenceExec { components }))
            }
            _ => {
                let in_jar = code.is_none();
                let code = code.or(jar).ok_or_else(|| lacks("a member code (or jar)"))?;
                Ok(Self::Managed(ManagedExec {
                    kind,
                    code,
                    in_jar,
                    binary,
                    main,
                }))
            }
        }
    }
}

impl Serialize for Exec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Default, Serialize)]
        struct Members<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            components: Option<&'a [String]>,
            kind: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            image: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'a Code>,
            #[serde(skip_serializing_if = "Option::is_none")]
            jar: Option<&'a Code>,
            #[serde(skip_serializing_if = "Option::is_none")]
            binary: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            main: Option<&'a str>,
        }
        let mut members = Members {
            kind: self.kind(),
            ..Members::default()
        };
        match self {
            Self::Managed(exec) => {
                let member = if exec.in_jar {
                    &mut members.jar
                } else {
                    &mut members.code
                };
                *member = Some(&exec.code);
                (members.binary, members.main) = (exec.binary, exec.main.as_deref());
            }
            Self::Blackbox(exec) => {
                members.image = Some(&exec.image);
                members.code = exec.code.as_ref();
                (members.binary, members.main) = (exec.binary, exec.main.as_deref());
            }
            Self::Sequence(exec) => members.components = Some(&exec.components),
        }
        members.serialize(serializer)
    }
}

/// What Docker takes as the reference of an image, roughly: `[registry/][path/]name[:tag][@digest]`.
fn is_image(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
        && text
            .split('/')
            .all(|part| part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()))
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CodeVisitor)
    }
}

struct CodeVisitor;

impl<'de> Visitor<'de> for CodeVisitor {
    type Value = Code;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("code as a string, or an attachment object")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Code, E> {
        Ok(Code::Inline(text.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Code, E> {
        Ok(Code::Inline(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Code, A::Error> {
        Attachment::deserialize(MapAccessDeserializer::new(map)).map(Code::Attachment)
    }
}
