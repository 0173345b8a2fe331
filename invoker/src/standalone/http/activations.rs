//! `/namespaces/{ns}/activations`.

use super::request::{Parameters, User};
use crate::standalone::controller::{ActivationFilter, Controller, Refusal, activation_id, own_namespace};
use axum::Json;
use axum::extract::{Path, State};
use proto::id::ActivationId;
use proto::whisk::identity::Identity;
use proto::whisk::name::{EntityName, EntityPath};
use serde_json::Value;
use std::sync::Arc;

type Answer = Result<Json<Value>, Refusal>;
type Id = Path<(String, String)>;

pub(super) async fn list(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path(namespace): Path<String>,
    parameters: Parameters,
) -> Answer {
    let namespace = own_namespace(&user, &namespace, "")?;
    let page = parameters.page("activations")?;
    let epoch = |value: &str| {
        let read = value.parse::<i64>();
        read.map_err(|_| format!("Parameter is not a valid value for epoch seconds: {value}"))
    };
    let filter = ActivationFilter {
        name: parameters.parse("name", name)?.flatten(),
        since: parameters.parse("since", epoch)?,
        upto: parameters.parse("upto", epoch)?,
        docs: parameters.flag("docs")?,
    };
    if page.count && filter.docs {
        return Err(Refusal::bad_request(
            "The parameter 'docs' is not permitted with 'count'.",
        ));
    }
    Ok(Json(controller.list_activations(&namespace, filter, page).await?))
}

/// `hello` or `pkg/hello`; blank is no filter.
fn name(value: &str) -> Result<Option<String>, String> {
    if value.trim().is_empty() {
        return Ok(None);
    }
    let path: Option<EntityPath> = value.parse().ok();
    match path.filter(|path| path.as_str().split('/').count() <= 2) {
        Some(path) => Ok(Some(path.to_string())),
        None => Err(format!(
            "Parameter may be a 'simple' name or 'package-name/simple' name: {value}"
        )),
    }
}

pub(super) async fn get(State(controller): State<Arc<Controller>>, User(user): User, id: Id) -> Answer {
    let (namespace, id) = own(&user, id)?;
    Ok(Json(controller.get_activation(&namespace, id).await?))
}

pub(super) async fn result(State(controller): State<Arc<Controller>>, User(user): User, id: Id) -> Answer {
    let (namespace, id) = own(&user, id)?;
    Ok(Json(controller.get_result(&namespace, id).await?))
}

pub(super) async fn logs(State(controller): State<Arc<Controller>>, User(user): User, id: Id) -> Answer {
    let (namespace, id) = own(&user, id)?;
    Ok(Json(controller.get_logs(&namespace, id).await?))
}

fn own(user: &Identity, Path((namespace, id)): Id) -> Result<(EntityName, ActivationId), Refusal> {
    Ok((own_namespace(user, &namespace, &id)?, activation_id(&id)?))
}
