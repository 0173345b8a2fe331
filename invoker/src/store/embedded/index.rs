//! Under which headings a document is listed, and at what time. What OpenWhisk's CouchDB views emit.

use crate::store::{Database, Query};
use serde_json::Value;

/// The heading of all activation records, whoever's they are.
pub(super) const EVERYTHING: &str = "";

/// The headings of a document, and its time in milliseconds since the epoch.
pub(super) fn entries(database: Database, body: &Value) -> (Vec<String>, i64) {
    match database {
        Database::Auth => (subject(body), 0),
        Database::Entity => (entity(body), integer(body, "updated")),
        Database::Activation => (activation(body), integer(body, "start")),
    }
}

/// The heading that answers a query.
pub(super) fn heading(database: Database, query: &Query) -> String {
    match (database, &query.kind, &query.name) {
        (Database::Entity, Some(kind), _) => kinded(kind, &query.namespace),
        (Database::Activation, _, Some(name)) => named(&query.namespace, name),
        _ => query.namespace.clone(),
    }
}

/// A record without what may be large.
pub(super) fn summary(body: &Value) -> Value {
    let Value::Object(members) = body else {
        return body.clone();
    };
    let small = members.iter().filter(|(name, _)| *name != "logs");
    let without_result = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Object(response) if name == "response" => {
                let small = response.iter().filter(|(name, _)| *name != "result");
                Value::Object(small.map(|(name, value)| (name.clone(), value.clone())).collect())
            }
            value => value.clone(),
        };
        (name.clone(), value)
    };
    Value::Object(small.map(without_result).collect())
}

fn subject(body: &Value) -> Vec<String> {
    let namespaces = body["namespaces"].as_array();
    let headings = namespaces
        .into_iter()
        .flatten()
        .flat_map(|n| [&n["name"], &n["uuid"]]);
    let mut headings: Vec<String> = headings.filter_map(|h| h.as_str().map(str::to_owned)).collect();
    headings.sort_unstable();
    headings.dedup();
    headings
}

fn entity(body: &Value) -> Vec<String> {
    let path = text(body, "namespace");
    let root = path.split('/').next().unwrap_or_default();
    let mut paths = vec![path];
    if root != path {
        paths.push(root);
    }
    let kind = body["entityType"].as_str();
    let with_kind = paths.iter().filter_map(|p| kind.map(|k| kinded(k, p)));
    with_kind.chain(paths.iter().map(|p| (*p).to_owned())).collect()
}

fn activation(body: &Value) -> Vec<String> {
    let namespace = text(body, "namespace");
    vec![
        EVERYTHING.to_owned(),
        namespace.to_owned(),
        named(namespace, &called_as(body)),
    ]
}

/// `hello`, or `pkg/hello`; through a binding with the binding's name.
fn called_as(body: &Value) -> String {
    let name = text(body, "name");
    let annotations = body["annotations"].as_array();
    let annotation = |key: &str| {
        let found = annotations.into_iter().flatten().find(|a| a["key"] == key);
        found
            .and_then(|a| a["value"].as_str())
            .map(|v| v.split('/').collect::<Vec<_>>())
    };
    match (annotation("binding").as_deref(), annotation("path").as_deref()) {
        (Some([_, binding, ..]), _) => format!("{binding}/{name}"),
        (_, Some([_, package, _])) => format!("{package}/{name}"),
        _ => name.to_owned(),
    }
}

fn kinded(kind: &str, path: &str) -> String {
    // No name holds a line break, so no two headings are alike.
    format!("{kind}\n{path}")
}

fn named(namespace: &str, name: &str) -> String {
    format!("{namespace}\n{name}")
}

fn text<'a>(body: &'a Value, key: &str) -> &'a str {
    body[key].as_str().unwrap_or_default()
}

fn integer(body: &Value, key: &str) -> i64 {
    body[key].as_i64().unwrap_or_default()
}
