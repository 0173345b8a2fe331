//! What a client sends to create or change an action: `WhiskActionPut`, `Exec.scala`.

use super::Refusal;
use crate::runtimes::{ImageName, Runtimes};
use proto::decode::decode;
use proto::whisk::exec::{BlackboxExec, Code, Exec, Kind, ManagedExec, is_base64};
use proto::whisk::parameter::{Annotations, Parameter};
use proto::whisk::version::Version;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Most bytes of code, as it is sent (P-83).
pub const CODE_BYTES: usize = 48 << 20;

/// What is absent stays as it is, or gets its default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct ActionPut {
    #[serde(skip)]
    pub exec: Option<Exec>,
    pub annotations: Option<Annotations>,
    pub del_annotations: Option<Vec<String>>,
    pub limits: Option<LimitsPut>,
    pub parameters: Option<Vec<Parameter>>,
    pub publish: Option<bool>,
    pub version: Option<Version>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct LimitsPut {
    pub concurrency: Option<u64>,
    pub instances: Option<u64>,
    /// MB.
    pub logs: Option<u64>,
    /// MB.
    pub memory: Option<u64>,
    /// Milliseconds.
    pub timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct WithExec {
    exec: Option<Map<String, Value>>,
}

impl ActionPut {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// `BadRequest` with what is wrong; `PayloadTooLarge` for code or parameters above their limit.
    pub fn read(body: &[u8], runtimes: &Runtimes, parameter_bytes: usize) -> Result<Self, Refusal> {
        let WithExec { exec } = decode(body).map_err(Refusal::malformed)?;
        let mut put: Self = decode(body).map_err(Refusal::malformed)?;
        put.exec = exec.map(|exec| read_exec(exec, runtimes)).transpose()?;
        put.annotations = put.annotations.map(unique_annotations);
        put.parameters = put.parameters.map(unique);
        put.check_sizes(parameter_bytes)?;
        Ok(put)
    }

    fn check_sizes(&self, parameter_bytes: usize) -> Result<(), Refusal> {
        let code = match self.exec.as_ref().and_then(Exec::code) {
            Some(Code::Inline(code)) => code.len(),
            _ => 0,
        };
        if code > CODE_BYTES {
            return Err(Refusal::too_large("exec", code, CODE_BYTES));
        }
        check_parameters(
            self.parameters.as_deref(),
            self.annotations.as_ref(),
            parameter_bytes,
        )
    }
}

/// Parameters and annotations of an entity are limited in size, each together.
pub(super) fn check_parameters(
    parameters: Option<&[Parameter]>,
    annotations: Option<&Annotations>,
    allowed: usize,
) -> Result<(), Refusal> {
    let size = |key: &str, value: &Value| key.len() + value.to_string().len();
    let parameters = parameters
        .into_iter()
        .flatten()
        .map(|p| size(&p.key, &p.value))
        .sum();
    let annotations = annotations
        .into_iter()
        .flat_map(|a| &a.0)
        .map(|a| size(&a.key, &a.value))
        .sum();
    for (what, is) in [("parameters", parameters), ("annotations", annotations)] {
        if is > allowed {
            return Err(Refusal::too_large(what, is, allowed));
        }
    }
    Ok(())
}

/// Of several parameters of one name the last counts, at the place of the first.
pub(super) fn unique(given: Vec<Parameter>) -> Vec<Parameter> {
    given.into_iter().fold(Vec::new(), overlay)
}

/// `over` laid over `under`: the same name is replaced in its place, a new one comes at the end.
pub(super) fn merged(under: Vec<Parameter>, over: Vec<Parameter>) -> Vec<Parameter> {
    over.into_iter().fold(under, overlay)
}

fn overlay(mut all: Vec<Parameter>, next: Parameter) -> Vec<Parameter> {
    match all.iter_mut().find(|p| p.key == next.key) {
        Some(same) => *same = next,
        None => all.push(next),
    }
    all
}

pub(super) fn unique_annotations(given: Annotations) -> Annotations {
    let mut unique = Annotations::default();
    for annotation in given.0 {
        unique.set(&annotation.key, annotation.value);
    }
    unique
}

fn read_exec(mut exec: Map<String, Value>, runtimes: &Runtimes) -> Result<Exec, Refusal> {
    let Some(Value::String(kind)) = exec.get("kind") else {
        return Err(Refusal::malformed("'kind' must be a string defined in 'exec'"));
    };
    let kind = kind.trim().to_lowercase();
    let main = match exec.remove("main") {
        None | Some(Value::Null) => None,
        Some(Value::String(main)) => Some(main),
        Some(_) => {
            return Err(Refusal::malformed(format_args!(
                "if defined, 'main' be a string in 'exec' for '{kind}' actions"
            )));
        }
    };
    let code = exec.remove("code").filter(|code| !code.is_null());
    match &*kind {
        "sequence" => Err(Refusal::malformed(
            "actions of kind 'sequence' need a cluster: the standalone runs single actions only",
        )),
        "blackbox" => read_blackbox(exec, code, main),
        _ => read_managed(&kind, code, main, runtimes),
    }
}

fn read_blackbox(
    mut exec: Map<String, Value>,
    code: Option<Value>,
    main: Option<String>,
) -> Result<Exec, Refusal> {
    let Some(Value::String(image)) = exec.remove("image") else {
        return Err(Refusal::malformed(
            "'image' must be a string defined in 'exec' for 'blackbox' actions",
        ));
    };
    let image: ImageName = image.parse().map_err(Refusal::malformed)?;
    let code = match code {
        None => None,
        Some(Value::String(code)) if code.trim().is_empty() => None,
        Some(Value::String(code)) => Some(code),
        Some(_) => {
            return Err(Refusal::malformed(
                "'code' must be a string in 'exec' for 'blackbox' actions",
            ));
        }
    };
    Ok(Exec::Blackbox(BlackboxExec {
        image: image.to_string(),
        binary: Some(code.as_ref().is_some_and(|code| is_base64(code.trim()))),
        code: code.map(Code::Inline),
        main,
    }))
}

fn read_managed(
    kind: &str,
    code: Option<Value>,
    main: Option<String>,
    runtimes: &Runtimes,
) -> Result<Exec, Refusal> {
    let Some(runtime) = runtimes.resolve(kind) else {
        let known = runtimes.all().map(|r| &*r.kind).chain(["blackbox"]);
        let known: Vec<String> = known.map(|kind| format!("'{kind}'")).collect();
        return Err(Refusal::malformed(format_args!(
            "The specified runtime '{kind}' is not supported by this platform. Valid values are: {}.",
            known.join(", ")
        )));
    };
    let Some(Value::String(code)) = code else {
        return Err(Refusal::malformed(format_args!(
            "'code' must be a string or attachment object defined in 'exec' for '{kind}' actions"
        )));
    };
    if main.is_none() && runtime.require_main {
        return Err(Refusal::malformed(format_args!(
            "'main' must be a string defined in 'exec' for '{kind}' actions"
        )));
    }
    if runtime.deprecated {
        return Err(deprecated(&runtime.kind));
    }
    Ok(Exec::Managed(ManagedExec {
        kind: Kind::from(&*runtime.kind),
        binary: Some(is_base64(code.trim())),
        code: Code::Inline(code),
        in_jar: false,
        main,
    }))
}

pub(super) fn deprecated(kind: &str) -> Refusal {
    Refusal::bad_request(format!(
        "The '{kind}' runtime is no longer supported. You may read and delete but not update or invoke this action."
    ))
}
