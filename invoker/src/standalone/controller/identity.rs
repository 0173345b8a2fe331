//! Who calls: subjects in the store, as operators write them. `Identity.scala`.

use super::{Controller, Error, Refusal};
use crate::standalone::key::Key;
use crate::store::{Database, Document, Query, Store};
use proto::decode::decode;
use proto::whisk::identity::{Identity, Namespace};
use proto::whisk::limits::UserLimits;
use proto::whisk::name::{EntityName, Subject};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const USER: &str = "guest";

#[derive(Deserialize)]
struct SubjectBody {
    subject: Subject,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    namespaces: Vec<NamespaceBody>,
}

#[derive(Deserialize)]
struct NamespaceBody {
    name: EntityName,
    uuid: String,
    key: String,
}

impl Controller {
    /// The user with this key; none if there is none, or it is blocked.
    pub async fn authenticate(&self, uuid: &str, secret: &str) -> Result<Option<Identity>, Refusal> {
        let query = Query {
            namespace: uuid.to_owned(),
            limit: 2,
            ..Query::default()
        };
        for subject in self.store.list(Database::Auth, &query).await? {
            let Some(found) = find(&subject, uuid, secret) else {
                continue;
            };
            let limits = format!("{}/limits", found.namespace.name);
            let limits = self.store.get(Database::Auth, &limits, None).await?;
            return Ok(Some(Identity {
                limits: limits.map(user_limits).unwrap_or_default(),
                ..found
            }));
        }
        Ok(None)
    }
}

fn find(subject: &Document, uuid: &str, secret: &str) -> Option<Identity> {
    let body: SubjectBody = match serde_json::from_value(subject.body.clone()) {
        Ok(body) => body,
        Err(error) => {
            tracing::warn!(subject = subject.id, %error, "a subject's document cannot be read");
            return None;
        }
    };
    let key = |n: &NamespaceBody| Key {
        uuid: n.uuid.clone(),
        secret: n.key.clone(),
    };
    let namespace = body
        .namespaces
        .into_iter()
        .find(|n| key(n).matches(uuid, secret))?;
    let authkey = Map::from_iter([("api_key".to_owned(), Value::from(format!("{uuid}:{secret}")))]);
    (!body.blocked).then(|| Identity {
        authkey,
        limits: UserLimits::default(),
        namespace: Namespace {
            name: namespace.name,
            uuid: namespace.uuid,
        },
        rights: ["READ", "PUT", "DELETE", "ACTIVATE"].map(str::to_owned).into(),
        subject: body.subject,
    })
}

fn user_limits(document: Document) -> UserLimits {
    let read = decode(document.body.to_string().as_bytes());
    read.unwrap_or_else(|error| {
        tracing::warn!(document = document.id, %error, "limits cannot be read, and do not count");
        UserLimits::default()
    })
}

/// Writes the user that `key` belongs to, unless it is there with this key.
pub(super) async fn ensure_user(store: &dyn Store, key: &Key) -> Result<(), Error> {
    let failed = |source| Error::User { user: USER, source };
    let namespace = json!({"name": USER, "uuid": key.uuid, "key": key.secret});
    let body = json!({"subject": USER, "namespaces": [namespace]});
    let before = store.get(Database::Auth, USER, None).await.map_err(failed)?;
    if before.as_ref().is_some_and(|document| document.body == body) {
        return Ok(());
    }
    let revision = before.as_ref().map(|document| &*document.revision);
    store
        .put(Database::Auth, USER, revision, &body)
        .await
        .map(drop)
        .map_err(failed)
}
