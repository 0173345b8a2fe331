//! What is asked of OpenWhisk's views, and what their rows are.
//!
//! Source: `WhiskStore.scala`, `ArtifactActivationStore.scala`, `NamespaceBlacklist.scala`; contract
//! D-41, N-01. The design documents themselves are in `docker/couchdb/design`.

use super::client::segment;
use crate::store::{Database, Query};
use serde_json::{Map, Value, json};

/// View of blocked namespaces, whole; its name is fixed (N-01).
pub(super) const BLOCKED: &str = "_design/namespaceThrottlings/_view/blockedNamespaces\
                                  ?descending=true&reduce=false&stale=update_after";

/// Kinds of entities, each with a view of its own.
const KINDS: [&str; 4] = ["action", "package", "rule", "trigger"];

/// One request to a view, without the paging.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// `_design/<document>/_view/<view>`
    view: String,
    /// Keys from the newest to the oldest, inclusive.
    newest: Value,
    oldest: Value,
}

impl Asked {
    /// The views that answer a query together. None where nothing can be in it.
    pub(super) fn of(database: Database, query: &Query) -> Vec<Self> {
        if matches!((query.since, query.upto), (Some(since), Some(upto)) if since > upto) {
            return Vec::new();
        }
        match database {
            Database::Entity => {
                let kinds = KINDS
                    .into_iter()
                    .filter(|kind| query.kind.as_deref().is_none_or(|asked| asked == *kind));
                let view = |kind| format!("_design/whisks.v2.1.0/_view/{kind}s");
                kinds
                    .map(|kind| Self::between(view(kind), &query.namespace, query))
                    .collect()
            }
            Database::Activation => match &query.name {
                None => {
                    let view = "_design/whisks.v2.1.0/_view/activations".to_owned();
                    vec![Self::between(view, &query.namespace, query)]
                }
                Some(name) => {
                    let view = "_design/whisks-filters.v2.1.1/_view/activations".to_owned();
                    vec![Self::between(view, &format!("{}/{name}", query.namespace), query)]
                }
            },
            Database::Auth => vec![Self {
                view: "_design/subjects.v2.0.0/_view/identities".to_owned(),
                newest: json!([query.namespace, {}]),
                oldest: json!([query.namespace]),
            }],
        }
    }

    fn between(view: String, path: &str, query: &Query) -> Self {
        Self {
            view,
            // An object sorts behind all numbers, and a shorter key before all longer ones.
            newest: json!([path, query.upto.map_or_else(|| json!({}), Into::into)]),
            oldest: query
                .since
                .map_or_else(|| json!([path]), |since| json!([path, since])),
        }
    }

    /// The rows, newest first, behind `<database>/`.
    pub(super) fn rows(&self, skip: usize, limit: usize, docs: bool) -> String {
        format!(
            "{}&reduce=false&skip={skip}&limit={limit}&include_docs={docs}",
            self.range()
        )
    }

    /// The number of rows.
    pub(super) fn count(&self) -> String {
        format!("{}&reduce=true", self.range())
    }

    fn range(&self) -> String {
        let [newest, oldest] = [&self.newest, &self.oldest].map(Value::to_string);
        format!(
            "{}?descending=true&startkey={}&endkey={}",
            self.view,
            segment(&newest),
            segment(&oldest)
        )
    }
}

/// A record as far as the view shows it: the summary has the status beside the other members.
pub(super) fn from_summary(value: Value) -> Value {
    let Value::Object(mut members) = value else {
        return value;
    };
    if let Some(status) = members.shift_remove("statusCode") {
        let response = Map::from_iter([("statusCode".to_owned(), status)]);
        members.insert("response".to_owned(), response.into());
    }
    members.into()
}
