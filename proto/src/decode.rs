//! Bytes to a document, with errors that say where.

use serde::de::DeserializeOwned;

/// Why a text is not the document asked for: the member, its value, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", At(path))]
pub struct DecodeError {
    /// Such as `user.namespace.name` or `annotations[2].key`; empty for the whole text.
    pub path: String,
    pub reason: String,
}

struct At<'a>(&'a str);

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            "" => Ok(()),
            path => write!(f, "{path}: "),
        }
    }
}

/// Reads one JSON text.
///
/// # Errors
/// The text is not UTF-8, not JSON, or not a `T`.
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, DecodeError> {
    // The path costs an allocation per member, so only a text that fails is read with it.
    serde_json::from_slice(text).map_err(|error| with_path::<T>(text).unwrap_or_else(|| bare(&error)))
}

fn with_path<T: DeserializeOwned>(text: &[u8]) -> Option<DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let error = serde_path_to_error::deserialize::<_, T>(&mut json).err()?;
    let path = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    Some(DecodeError {
        path,
        reason: error.into_inner().to_string(),
    })
}

fn bare(error: &serde_json::Error) -> DecodeError {
    DecodeError {
        path: String::new(),
        reason: error.to_string(),
    }
}
