//! Our own documents: the config layer (one directory per instance), the control socket, the
//! `ffs` annotation, and what the invoker asks of a stage's runtime over HTTP.
//!
//! Unknown members are ignored by readers; missing required ones are errors. Times are
//! milliseconds, sizes bytes, instants RFC 3339 in UTC.

mod check;
pub mod dag;
pub mod profile;
pub mod ranking;
pub mod migs;
pub mod assignment;
pub mod state;
pub mod annotation;
pub mod control;
pub mod weights;
pub mod build;
pub mod timing;
pub mod sandbox;
pub mod schema;

use crate::decode::{DecodeError, decode};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file of the config layer.
pub trait Document: Serialize + DeserializeOwned + JsonSchema {
    /// Name and version, as in the member `schema`.
    const NAME: &'static str;

    /// Whether the parts agree with each other, as far as the document alone can tell.
    ///
    /// # Errors
    /// The first place at which they do not.
    fn check(&self) -> Result<(), DecodeError>;
}

/// Reads a document and checks it.
///
/// # Errors
/// The text is not a `D`, or its parts do not agree.
pub fn read<D: Document>(text: &[u8]) -> Result<D, DecodeError> {
    let document: D = decode(text)?;
    document.check()?;
    Ok(document)
}

/// Declares the constant in a document's `schema` member: a type with one value.
macro_rules! schema_tag {
    ($name:ident, $text:literal) => {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            #[default]
            #[serde(rename = $text)]
            V1,
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "const": $text })
            }
            fn inline_schema() -> bool {
                true
            }
        }
    };
}
pub(crate) use schema_tag;
