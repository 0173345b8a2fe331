//! What is here, and what is not.

use super::request::{Parameters, User};
use crate::standalone::controller::{Controller, Refusal, own_namespace};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use proto::whisk::limits::Bounds;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const MB: u64 = 1 << 20;

/// `GET /`: limits and runtimes. `Controller.scala`.
pub(super) async fn root(State(controller): State<Arc<Controller>>) -> Json<Value> {
    let settings = controller.settings();
    let limits = &settings.limits;
    let mut bounds = Map::new();
    // Milliseconds and bytes.
    for (what, Bounds { min, max }, unit) in [
        ("duration", limits.timeout, 1),
        ("memory", limits.memory, MB),
        ("logs", limits.logs, MB),
    ] {
        for (prefix, bound) in [("min", min), ("max", max)] {
            let value = Value::from(bound.saturating_mul(unit));
            bounds.insert(format!("default_{prefix}_action_{what}"), value.clone());
            bounds.insert(format!("{prefix}_action_{what}"), value);
        }
    }
    for unlimited in ["actions_per_minute", "triggers_per_minute", "concurrent_actions"] {
        bounds.insert(unlimited.into(), i32::MAX.into());
    }
    bounds.insert("sequence_length".into(), 0.into());
    Json(json!({
        "api_paths": ["/api/v1"],
        "description": "OpenWhisk",
        "limits": bounds,
        "runtimes": settings.runtimes.to_info(),
        "support": {"github": env!("CARGO_PKG_REPOSITORY"), "slack": ""},
    }))
}

/// `GET /api/v1`. `RestAPIs.scala`.
pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "api_version": "1.0.0",
        "api_version_path": "v1",
        "build": concat!("ffs-invoker ", env!("CARGO_PKG_VERSION")),
        "buildno": env!("CARGO_PKG_VERSION"),
        "description": "OpenWhisk API",
    }))
}

pub(super) async fn namespaces(User(user): User) -> Json<Value> {
    Json(json!([user.namespace.name]))
}

/// The limits of the caller's namespace, the system's where it has none. `Limits.scala`.
pub(super) async fn limits(
    State(controller): State<Arc<Controller>>,
    User(user): User,
    Path(namespace): Path<String>,
) -> Result<Json<Value>, Refusal> {
    own_namespace(&user, &namespace, "")?;
    let system = &controller.settings().limits;
    let mut shown = user.limits;
    for (own, bound) in [
        (&mut shown.min_action_memory, system.memory.min),
        (&mut shown.max_action_memory, system.memory.max),
        (&mut shown.min_action_timeout, system.timeout.min),
        (&mut shown.max_action_timeout, system.timeout.max),
        (&mut shown.min_action_logs, system.logs.min),
        (&mut shown.max_action_logs, system.logs.max),
        (&mut shown.min_action_concurrency, system.concurrency.min),
        (&mut shown.max_action_concurrency, system.concurrency.max),
    ] {
        own.get_or_insert(bound);
    }
    Ok(Json(serde_json::to_value(&shown).expect("limits are JSON")))
}

/// The list of a kind that there is none of.
pub(super) async fn nothing(
    User(user): User,
    Path(namespace): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Refusal> {
    own_namespace(&user, &namespace, "")?;
    parameters.page("entities")?;
    Ok(Json(json!([])))
}

pub(super) async fn absent(
    User(user): User,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<(), Refusal> {
    own_namespace(&user, &namespace, &name)?;
    Err(Refusal::not_found())
}

pub(super) async fn unsupported(
    User(user): User,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<(), Refusal> {
    own_namespace(&user, &namespace, &name)?;
    Err(Refusal::new(
        StatusCode::NOT_IMPLEMENTED,
        "Triggers and rules need a cluster: the standalone runs actions only.",
    ))
}
