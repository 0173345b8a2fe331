//! `/namespaces/{ns}/actions`: each handler with and without a package in the path.

use super::request::{self, Parameters, Transaction, User};
use crate::standalone::controller::{
    ActionPut, Address, CODE_BYTES, Controller, Invocation, Outcome, Refusal, entity_name, extended,
    own_namespace,
};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use proto::json::Json as Raw;
use proto::whisk::activation::{Activation, Status};
use proto::whisk::identity::Identity;
use proto::whisk::name::EntityPath;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ACTIVATION_ID: HeaderName = HeaderName::from_static("x-openwhisk-activation-id");

/// Code, parameters, annotations, and what JSON puts around them.
const PUT_BYTES: usize = CODE_BYTES + (4 << 20);

type Plain = Path<(String, String)>;
type Packed = Path<(String, String, String)>;
type Answer = Result<Json<Value>, Refusal>;

fn plain(user: &Identity, Path((namespace, name)): Plain) -> Result<Address, Refusal> {
    Address::new(user, &namespace, None, &name)
}

fn packed(user: &Identity, Path((namespace, package, name)): Packed) -> Result<Address, Refusal> {
    Address::new(user, &namespace, Some(&package), &name)
}

pub(super) async fn list(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path(namespace): Path<String>,
    parameters: Parameters,
) -> Answer {
    let namespace = own_namespace(&user, &namespace, "")?;
    let page = parameters.page("actions")?;
    Ok(Json(controller.list_actions(&namespace.into(), page).await?))
}

pub(super) async fn list_packed(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path((namespace, package)): Plain,
    parameters: Parameters,
) -> Answer {
    let namespace = own_namespace(&user, &namespace, &package)?;
    let path = format!("{namespace}/{}", entity_name(&package)?);
    let path: EntityPath = path.parse().expect("names joined by / are a path");
    let page = parameters.page("actions")?;
    Ok(Json(controller.list_actions(&path, page).await?))
}

pub(super) async fn get(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Plain,
    parameters: Parameters,
) -> Answer {
    fetch(&controller, plain(&user, path)?, &parameters).await
}

pub(super) async fn get_packed(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Packed,
    parameters: Parameters,
) -> Answer {
    fetch(&controller, packed(&user, path)?, &parameters).await
}

async fn fetch(controller: &Controller, address: Address, parameters: &Parameters) -> Answer {
    let with_code = parameters.get("code").is_none() || parameters.flag("code")?;
    Ok(Json(controller.get_action(&address, with_code).await?))
}

pub(super) async fn put(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Plain,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let address = plain(&user, path)?;
    write(&controller, &user, address, &parameters, &headers, body).await
}

pub(super) async fn put_packed(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Packed,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let address = packed(&user, path)?;
    write(&controller, &user, address, &parameters, &headers, body).await
}

async fn write(
    controller: &Controller,
    user: &Identity,
    address: Address,
    parameters: &Parameters,
    headers: &HeaderMap,
    body: Body,
) -> Answer {
    let overwrite = parameters.flag("overwrite")?;
    let body = request::body(headers, body, PUT_BYTES).await?;
    let settings = controller.settings();
    let put = ActionPut::read(&body, &settings.runtimes, request::most(settings.payload))?;
    let written = controller.put_action(user, &address, put, overwrite).await?;
    Ok(Json(written))
}

pub(super) async fn delete(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Plain,
) -> Answer {
    let address = plain(&user, path)?;
    Ok(Json(controller.delete_action(&address).await?))
}

pub(super) async fn delete_packed(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Packed,
) -> Answer {
    let address = packed(&user, path)?;
    Ok(Json(controller.delete_action(&address).await?))
}

pub(super) async fn invoke(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Plain,
    parameters: Parameters,
    transaction: Transaction,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let address = plain(&user, path)?;
    run(
        &controller,
        &user,
        address,
        &parameters,
        transaction,
        &headers,
        body,
    )
    .await
}

pub(super) async fn invoke_packed(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    path: Packed,
    parameters: Parameters,
    transaction: Transaction,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let address = packed(&user, path)?;
    run(
        &controller,
        &user,
        address,
        &parameters,
        transaction,
        &headers,
        body,
    )
    .await
}

async fn run(
    controller: &Controller,
    user: &Identity,
    action: Address,
    parameters: &Parameters,
    Transaction(transid): Transaction,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let longest = controller.settings().blocking_wait;
    let timeout = |value: &str| {
        let given = value.parse().ok().map(Duration::from_millis);
        let given = given.filter(|given| !given.is_zero() && *given <= longest);
        given.ok_or_else(|| {
            format!(
                "Timeout must be number of milliseconds up to {}.",
                longest.as_millis()
            )
        })
    };
    let wait = parameters.parse("timeout", timeout)?.unwrap_or(longest);
    let (blocking, result) = (parameters.flag("blocking")?, parameters.flag("result")?);
    let invocation = Invocation {
        action,
        arguments: arguments(controller, headers, body).await?,
        wait: blocking.then_some(wait),
        transid,
    };
    Ok(match controller.invoke(user, invocation).await? {
        Outcome::Accepted(id) => {
            let id = id.to_string();
            let body = Json(json!({ "activationId": id }));
            (StatusCode::ACCEPTED, [(ACTIVATION_ID, id)], body).into_response()
        }
        Outcome::Ended(activation) => ended(&activation, result),
    })
}

async fn arguments(controller: &Controller, headers: &HeaderMap, body: Body) -> Result<Raw, Refusal> {
    let most = request::most(controller.settings().payload);
    let announced = headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(length) = announced.filter(|length| *length > most) {
        return Err(Refusal::too_large("Request", length, most));
    }
    let body = request::body(headers, body, most).await?;
    let text = std::str::from_utf8(&body).map_err(Refusal::malformed)?;
    if text.is_empty() {
        return Ok(Raw::empty_object());
    }
    let arguments = Raw::parse(text).map_err(Refusal::malformed)?;
    match arguments.is_object() {
        true => Ok(arguments),
        false => Err(Refusal::malformed("Object expected")),
    }
}

/// A list as the result is shown by itself, whatever was asked for.
fn ended(activation: &Activation, result_only: bool) -> Response {
    let result = activation.response.result.clone();
    let is_list = result.as_ref().is_some_and(Raw::is_array);
    let body = match result {
        Some(result) if result_only || is_list => Json(result).into_response(),
        None if result_only => Json(json!({})).into_response(),
        _ => Json(extended(activation)).into_response(),
    };
    let status = match activation.response.status_code {
        Status::Success => StatusCode::OK,
        Status::ApplicationError | Status::DeveloperError => StatusCode::BAD_GATEWAY,
        Status::WhiskError => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let id = activation.activation_id.to_string();
    (status, [(ACTIVATION_ID, id)], body).into_response()
}
