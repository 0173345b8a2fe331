//! Answers of a database's views, such as the one over blocked namespaces (N-01): `CouchDbRestClient.scala`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewAnswer {
    /// Absent where the view reduces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    pub rows: Vec<ViewRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewRow {
    /// Of the document that the row comes from; absent where the view reduces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub key: Value,
    pub value: Value,
    /// With `include_docs`: the document that `value` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc: Option<Value>,
}
