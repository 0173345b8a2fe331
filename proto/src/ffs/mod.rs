//! Our own documents: the config layer (one directory per instance), the control socket, the
//! `ffs` annotation, and what the invoker asks of a stage's runtime over HTTP.
//!
//! Unknown members are ignored by readers; missing required ones are errors. Times are
//! milliseconds, sizes bytes, instants RFC 3339 in UTC.

pub mod annotation;
pub mod dag;
pub mod profile;
pub mod ranking;
pub mod migs;
pub mod assignment;
pub mod state;
pub mod control;
pub mod build;
pub mod timing;

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
