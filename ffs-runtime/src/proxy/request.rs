//! Bodies of `/init` and `/run`: checked here as far as the proxy needs them, and passed on as the
//! text they came as.

use axum::body::Bytes;
use proto::ffs::build::{BuildRequest, ProfileRequest};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Longest body: OpenWhisk's 48 MiB of code in base64, and what stands around it.
pub const MAX_BODY: usize = 48 * 1024 * 1024 / 3 * 4 + 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("the body of {path} is not JSON: {source}")]
    NotJson {
        path: &'static str,
        source: serde_json::Error,
    },
    #[error("the body of {path} is {found}, expected a JSON object")]
    NotAnObject { path: &'static str, found: &'static str },
    #[error("member {member:?} of {path} is {found}, expected {expected}")]
    Member {
        path: &'static str,
        member: &'static str,
        found: &'static str,
        expected: &'static str,
    },
    #[error("the body of {path} lacks what it needs: {source}")]
    Incomplete {
        path: &'static str,
        source: serde_json::Error,
    },
    #[error("Missing main/no code to execute.")]
    NoCode,
}

/// The value of `/init` as the Python process gets it: all of `env` are strings.
///
/// # Errors
/// The body is not `{"value": {"code": …}}`.
pub fn init_value(body: &Bytes) -> Result<Bytes, Malformed> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        value: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        code: Option<&'a RawValue>,
        #[serde(borrow)]
        env: Option<&'a RawValue>,
    }
    const PATH: &str = "/init";
    let member = |member, found, expected| Malformed::Member {
        path: PATH,
        member,
        found,
        expected,
    };
    let Body { value } = object(PATH, body)?;
    let value = value.ok_or(member("value", "missing", "an object"))?;
    if kind(value) != "an object" {
        return Err(member("value", kind(value), "an object"));
    }
    let parts: Parts<'_> = object(PATH, value.get().as_bytes())?;
    match parts.code {
        None => return Err(Malformed::NoCode),
        Some(code) if code.get() == "\"\"" => return Err(Malformed::NoCode),
        Some(code) if kind(code) != "a string" => return Err(member("code", kind(code), "a string")),
        Some(_) => {}
    }
    match parts.env.map(|env| (env, kind(env))) {
        None => Ok(body.slice_ref(value.get().as_bytes())),
        Some((env, "an object")) => {
            let variables: BTreeMap<String, &RawValue> = object(PATH, env.get().as_bytes())?;
            if variables.values().all(|value| kind(value) == "a string") {
                Ok(body.slice_ref(value.get().as_bytes()))
            } else {
                with_strings(value, variables)
            }
        }
        Some((_, found)) => Err(member("env", found, "an object")),
    }
}

/// Spells the members of `env` as OpenWhisk does where they are not strings: null as nothing,
/// everything else as its JSON.
fn with_strings(value: &RawValue, variables: BTreeMap<String, &RawValue>) -> Result<Bytes, Malformed> {
    let not_json = |source| Malformed::NotJson {
        path: "/init",
        source,
    };
    let mut whole: BTreeMap<String, Box<RawValue>> = serde_json::from_str(value.get()).map_err(not_json)?;
    let mut env = serde_json::Map::new();
    for (name, variable) in variables {
        let text = match serde_json::from_str(variable.get()).map_err(not_json)? {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        env.insert(name, Value::String(text));
    }
    whole.insert(
        "env".into(),
        serde_json::value::to_raw_value(&env).map_err(not_json)?,
    );
    serde_json::to_vec(&whole).map(Bytes::from).map_err(not_json)
}

/// What the proxy itself needs of a `/run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunRequest {
    pub activation_id: Option<String>,
    /// When the action's time ends.
    pub deadline: Option<SystemTime>,
}

/// Checks that the body is an object.
///
/// # Errors
/// It is not.
pub fn run(body: &Bytes) -> Result<RunRequest, Malformed> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        activation_id: Option<&'a RawValue>,
        #[serde(borrow)]
        deadline: Option<&'a RawValue>,
    }
    let parts: Body<'_> = object("/run", body)?;
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    // OpenWhisk sends it as a string; a number means the same.
    let deadline = parts
        .deadline
        .map(|raw| text(raw).unwrap_or_else(|| raw.get().to_owned()));
    Ok(RunRequest {
        activation_id: parts.activation_id.and_then(text),
        deadline: deadline
            .and_then(|text| text.parse().ok())
            .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
    })
}

/// Checks the body of `/ffs/build`.
///
/// # Errors
/// It is not a [`BuildRequest`].
pub fn build(body: &Bytes) -> Result<(), Malformed> {
    let path = "/ffs/build";
    object::<&RawValue>(path, body)?;
    let _: BuildRequest =
        serde_json::from_slice(body).map_err(|source| Malformed::Incomplete { path, source })?;
    Ok(())
}

/// Checks the body of `/ffs/profile`.
///
/// # Errors
/// It is not a [`ProfileRequest`].
pub fn profile(body: &Bytes) -> Result<(), Malformed> {
    let path = "/ffs/profile";
    object::<&RawValue>(path, body)?;
    let _: ProfileRequest =
        serde_json::from_slice(body).map_err(|source| Malformed::Incomplete { path, source })?;
    Ok(())
}

/// Reads an object; serde alone would take an array for a structure too.
fn object<'a, T: Deserialize<'a>>(path: &'static str, text: &'a [u8]) -> Result<T, Malformed> {
    let not_json = |source| Malformed::NotJson { path, source };
    let raw: &RawValue = serde_json::from_slice(text).map_err(not_json)?;
    if kind(raw) != "an object" {
        return Err(Malformed::NotAnObject {
            path,
            found: kind(raw),
        });
    }
    serde_json::from_str(raw.get()).map_err(not_json)
}

fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// JSON with pieces cut out or put in.
    fn nearly_json() -> impl Strategy<Value = Bytes> {
        let whole = r#"{"value":{"code":"c","env":{"A":1}},"deadline":"9","kind":"1g.10gb","example":{}}"#;
        let edit = (
            0..=whole.len(),
            0..4_usize,
            prop::collection::vec(any::<u8>(), 0..4),
        );
        prop::collection::vec(edit, 0..6).prop_map(move |edits| {
            let mut bytes = whole.as_bytes().to_vec();
            for (at, cut, put) in edits {
                let at = at.min(bytes.len());
                let end = (at + cut).min(bytes.len());
                bytes.splice(at..end, put);
            }
            bytes.into()
        })
    }

    proptest! {
        #[test]
        fn no_body_is_too_odd_to_be_judged(body in nearly_json()) {
            let is_json = serde_json::from_slice::<&RawValue>(&body).is_ok();
            match init_value(&body) {
                Ok(value) => prop_assert!(serde_json::from_slice::<serde_json::Map<_, _>>(&value).is_ok()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            prop_assert!(is_json || run(&body).is_err());
            prop_assert!(build(&body).is_err() && profile(&body).is_err(), "neither is complete");
        }
    }

    fn init(text: &str) -> Result<String, String> {
        init_value(&Bytes::copy_from_slice(text.as_bytes()))
            .map(|value| String::from_utf8_lossy(&value).into_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_value_of_init_passes_as_it_came() {
        let value = r#"{ "name":"a", "x": 1e400,"code":"def main(a): pass", "env":{"A":"1","B":"\ud83d"} }"#;
        assert_eq!(init(&format!(r#"{{"value": {value} }}"#)), Ok(value.into()));
    }

    #[test]
    fn variables_that_are_not_strings_become_their_json() {
        let value =
            init(r#"{"value":{"code":"c","env":{"N":null,"B":true,"I":3,"O":{"a":[1, 2.50]},"S":"s"}}}"#);
        let value: Value = serde_json::from_str(&value.expect("lenient")).expect("JSON");
        let expected = serde_json::json!({"N": "", "B": "true", "I": "3", "O": "{\"a\":[1,2.50]}", "S": "s"});
        assert_eq!(value["env"], expected);
        assert_eq!(value["code"], "c");
    }

    #[test]
    fn what_is_wrong_with_an_init_is_named() {
        for (body, sentence) in [
            ("[]", "the body of /init is an array, expected a JSON object"),
            ("{}", r#"member "value" of /init is missing, expected an object"#),
            (
                r#"{"value":3}"#,
                r#"member "value" of /init is a number, expected an object"#,
            ),
            (
                r#"{"value":["n","c"]}"#,
                r#"member "value" of /init is an array, expected an object"#,
            ),
            (r#"{"value":{}}"#, "Missing main/no code to execute."),
            (r#"{"value":{"code":""}}"#, "Missing main/no code to execute."),
            (r#"{"value":{"code":null}}"#, "Missing main/no code to execute."),
            (
                r#"{"value":{"code":[]}}"#,
                r#"member "code" of /init is an array, expected a string"#,
            ),
            (
                r#"{"value":{"code":"c","env":"A=1"}}"#,
                r#"member "env" of /init is a string, expected an object"#,
            ),
        ] {
            assert_eq!(init(body).unwrap_err(), sentence);
        }
        assert!(
            init("{")
                .unwrap_err()
                .starts_with("the body of /init is not JSON: EOF")
        );
        assert!(
            init("")
                .unwrap_err()
                .starts_with("the body of /init is not JSON: EOF")
        );
    }

    #[test]
    fn a_run_says_when_its_time_ends() {
        let run = |text: &str| run(&Bytes::copy_from_slice(text.as_bytes()));
        let at = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1767225660301));
        assert_eq!(
            run(r#"{"value":{},"deadline":"1767225660301"}"#)
                .expect("an object")
                .deadline,
            at
        );
        assert_eq!(
            run(r#"{"deadline":1767225660301}"#).expect("an object").deadline,
            at
        );
        for odd in ["null", "\"soon\"", "-1", "1e99", "\"18446744073709551615\"", "[]"] {
            let request = run(&format!(r#"{{"deadline":{odd}}}"#)).expect("an object");
            assert_eq!(request.activation_id, None, "{odd}");
        }
        assert!(run("3").is_err() && run("").is_err() && run("{} {}").is_err());
    }
}
