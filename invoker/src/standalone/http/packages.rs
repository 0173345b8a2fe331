//! `/namespaces/{ns}/packages`.

use super::request::{self, Parameters, User};
use crate::standalone::controller::{Address, Controller, PackagePut, Refusal, own_namespace};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::Value;
use std::sync::Arc;

type Answer = Result<Json<Value>, Refusal>;
type Name = Path<(String, String)>;

pub(super) async fn list(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path(namespace): Path<String>,
    parameters: Parameters,
) -> Answer {
    let namespace = own_namespace(&user, &namespace, "")?;
    let page = parameters.page("packages")?;
    Ok(Json(controller.list_packages(&namespace, page).await?))
}

pub(super) async fn get(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path((namespace, name)): Name,
) -> Answer {
    let address = Address::new(&user, &namespace, None, &name)?;
    Ok(Json(controller.get_package(&address).await?))
}

pub(super) async fn put(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path((namespace, name)): Name,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let address = Address::new(&user, &namespace, None, &name)?;
    let overwrite = parameters.flag("overwrite")?;
    let most = request::most(controller.settings().payload);
    let body = request::body(&headers, body, most.saturating_mul(4)).await?;
    let put = PackagePut::read(&body, most)?;
    let written = controller.put_package(&user, &address, put, overwrite).await?;
    Ok(Json(written))
}

pub(super) async fn delete(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path((namespace, name)): Name,
    parameters: Parameters,
) -> Answer {
    let address = Address::new(&user, &namespace, None, &name)?;
    let force = parameters.flag("force")?;
    Ok(Json(controller.delete_package(&address, force).await?))
}
