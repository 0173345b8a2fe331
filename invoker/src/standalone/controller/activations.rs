//! Activation records, as a client sees them: `Activations.scala`, `WhiskActivation.scala`.

use super::actions::without;
use super::{Controller, Refusal};
use crate::store::{Database, Document, Query};
use axum::http::StatusCode;
use proto::id::ActivationId;
use proto::whisk::activation::Status;
use proto::whisk::name::EntityName;
use serde_json::{Value, json};

/// Which part of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub skip: usize,
    pub limit: usize,
    /// Only how many there are.
    pub count: bool,
}

/// Which activations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivationFilter {
    /// `hello` or `pkg/hello`.
    pub name: Option<String>,
    /// Milliseconds since the epoch, inclusive.
    pub since: Option<i64>,
    pub upto: Option<i64>,
    /// Whole records instead of summaries.
    pub docs: bool,
}

impl Controller {
    pub async fn list_activations(
        &self,
        namespace: &EntityName,
        filter: ActivationFilter,
        page: Page,
    ) -> Result<Value, Refusal> {
        let query = Query {
            namespace: namespace.to_string(),
            kind: None,
            name: filter.name,
            since: filter.since,
            upto: filter.upto,
            skip: page.skip,
            limit: page.limit,
            docs: filter.docs,
        };
        if page.count {
            return Ok(json!({ "activations": self.store.count(Database::Activation, &query).await? }));
        }
        let found = self.store.list(Database::Activation, &query).await?;
        let shown = found.into_iter().map(|document| match filter.docs {
            true => whole(document.body),
            false => summary(&document.body),
        });
        Ok(shown.collect())
    }

    /// The record with its logs.
    pub async fn get_activation(&self, namespace: &EntityName, id: ActivationId) -> Result<Value, Refusal> {
        self.record(namespace, id)
            .await
            .map(|document| whole(document.body))
    }

    pub async fn get_result(&self, namespace: &EntityName, id: ActivationId) -> Result<Value, Refusal> {
        let mut record = self.record(namespace, id).await?;
        Ok(extended_response(record.body["response"].take()))
    }

    pub async fn get_logs(&self, namespace: &EntityName, id: ActivationId) -> Result<Value, Refusal> {
        let mut record = self.record(namespace, id).await?;
        Ok(json!({ "logs": record.body["logs"].take() }))
    }

    async fn record(&self, namespace: &EntityName, id: ActivationId) -> Result<Document, Refusal> {
        let record = self
            .store
            .get(Database::Activation, &format!("{namespace}/{id}"), None)
            .await?;
        record.ok_or_else(Refusal::not_found)
    }
}

/// The id in a path.
///
/// # Errors
/// `BadRequest` in the controller's words.
pub fn activation_id(text: &str) -> Result<ActivationId, Refusal> {
    text.parse().map_err(|_| match text.encode_utf16().count() {
        32 => Refusal::bad_request("The activation id is not valid."),
        length => Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("Activation id length is {length} but must be 32."),
        ),
    })
}

/// A record or an ack's activation as a client sees it: the code of the response in words.
pub(super) fn whole(activation: Value) -> Value {
    let mut view = without(
        Ok(activation),
        &["_id", "_rev", "_attachments", "entityType", "updated"],
    );
    view["response"] = extended_response(view["response"].take());
    let (start, end) = (view["start"].as_i64(), view["end"].as_i64());
    match end {
        Some(0) => drop(view.as_object_mut().map(|view| view.shift_remove("end"))),
        end if view["duration"].is_null() => view["duration"] = json!(end.zip(start).map(|(e, s)| e - s)),
        _ => {}
    }
    view
}

fn extended_response(mut response: Value) -> Value {
    let code = response["statusCode"]
        .as_u64()
        .and_then(|code| u8::try_from(code).ok());
    let status = code
        .and_then(|code| Status::try_from(code).ok())
        .unwrap_or(Status::WhiskError);
    if let Some(members) = response.as_object_mut() {
        members.shift_remove("statusCode");
        members.insert("status".into(), status.to_string().into());
        members.insert("success".into(), (status == Status::Success).into());
    }
    response
}

/// What CouchDB's view gives: an activation that has not ended has neither end nor duration nor status.
fn summary(body: &Value) -> Value {
    let mut summary = json!({
        "activationId": body["activationId"],
        "annotations": body["annotations"],
        "name": body["name"],
        "namespace": body["namespace"],
        "publish": body["publish"],
        "start": body["start"],
        "version": body["version"],
    });
    if !body["cause"].is_null() {
        summary["cause"] = body["cause"].clone();
    }
    if let (Some(start), Some(end)) = (body["start"].as_i64(), body["end"].as_i64())
        && end != 0
    {
        summary["duration"] = (end - start).into();
        summary["end"] = end.into();
        summary["statusCode"] = body["response"]["statusCode"].clone();
    }
    summary
}
