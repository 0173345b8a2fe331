//! Actions, subjects and the requests to containers: what the recordings do not show.

use proto::decode::decode;
use proto::json::Json;
use proto::whisk::action::ActionDocument;
use proto::whisk::action_proxy::{RunBody, about, environment, split_arguments};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::exec::{Code, Exec, Place, is_base64};
use proto::whisk::limits::{ActionLimits, Bounds, EffectiveLimits, SystemLimits, UserLimits};
use proto::whisk::parameter::Annotations;
use proto::whisk::subject::AuthDocument;
use serde_json::{Value, json};

fn action() -> Value {
    json!({
        "_id": "guest/img/classify", "_rev": "1-a", "entityType": "action", "namespace": "guest/img", "name": "classify",
        "version": "0.0.3", "publish": false, "updated": 1795315012507_u64, "parameters": [{"key": "p", "value": 1.50}],
        "annotations": [{"key": "ffs", "value": {"slo_ms": 450}}],
        "exec": {"kind": "python:3.11", "code": "def main(a): return a", "binary": false, "main": "main"},
        "limits": {"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1},
    })
}

fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut action = action();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = action
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("an object");
    match value {
        Some(value) => drop(parent.insert(name.to_owned(), value)),
        None => drop(parent.remove(name).expect("it is there")),
    }
    action
}

fn read(action: &Value) -> Result<ActionDocument, String> {
    decode(action.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn comes_out_the_same(action: &Value) -> ActionDocument {
    let read = read(action).expect("readable");
    assert_eq!(serde_json::to_value(&read).expect("encodes"), *action);
    read
}

/// D-10, D-11, D-12, D-13, D-14, D-15, D-16, D-17, D-18, D-19: optional members of an action may be absent.
#[test]
fn d_10_to_d_19_optional_members_of_an_action_may_be_absent() {
    comes_out_the_same(&action());
    for pointer in [
        "/_rev",
        "/entityType",
        "/updated",
        "/exec/main",
        "/exec/binary",
        "/limits/logs",
        "/limits/concurrency",
    ] {
        comes_out_the_same(&with(pointer, None));
    }
}

/// D-30: what an action needs it needs.
#[test]
fn d_30_what_an_action_needs_it_needs() {
    for pointer in [
        "/_id",
        "/namespace",
        "/name",
        "/version",
        "/publish",
        "/parameters",
        "/annotations",
        "/exec",
        "/limits",
        "/exec/kind",
        "/limits/memory",
        "/limits/timeout",
    ] {
        let name = pointer.rsplit('/').next().expect("a name");
        let error = read(&with(pointer, None)).expect_err(pointer);
        assert!(
            error.contains(&format!("missing field `{name}`")),
            "{pointer}: {error}"
        );
    }
    for (pointer, value) in [
        ("/name", json!("-x")),
        ("/version", json!("0.0.0")),
        ("/publish", json!("no")),
        ("/limits/memory", json!("256")),
        ("/limits/memory", json!(-1)),
        ("/exec/kind", json!(3)),
        ("/exec/code", json!(null)),
        ("/exec/code", json!(["x"])),
        ("/exec/code", json!({"attachmentName": "mem:"})),
        ("/exec", json!({"kind": " ", "code": "x"})),
        ("/annotations", json!({})),
        ("/exec", json!({"kind": "blackbox"})),
        ("/exec", json!({"kind": "blackbox", "image": "a b"})),
        ("/exec", json!({"kind": "sequence"})),
    ] {
        assert!(
            read(&with(pointer, Some(value.clone()))).is_err(),
            "{pointer} {value}"
        );
    }
}

/// D-11: a package a rule or a trigger is no action.
#[test]
fn d_11_a_package_a_rule_or_a_trigger_is_no_action() {
    for other in ["package", "rule", "trigger"] {
        let error = read(&with("/entityType", Some(json!(other)))).expect_err(other);
        assert!(
            error.contains(&format!("unknown variant `{other}`, expected `action`")),
            "{error}"
        );
    }
}

/// D-15, D-18, W-02, W-03: parameters and annotations keep any JSON.
#[test]
fn d_15_and_d_18_parameters_and_annotations_keep_any_json() {
    let parameters = r#"[{"key":"a","value":{"n":1e400},"init":true},{"key":"b","value":"x","encryption":"aes-256"},{"key":"c","value":null}]"#;
    let annotations = r#"[{"key":"a","value":[0.10,null]},{"key":"b","value":12345678901234567890123}]"#;
    let text = with("/parameters", Some(json!("PARAMETERS")));
    let text = text.to_string().replace("\"PARAMETERS\"", parameters);
    let text = text.replace(r#"[{"key":"ffs","value":{"slo_ms":450}}]"#, annotations);
    let read: ActionDocument = decode(text.as_bytes()).expect("readable");
    let encoded = serde_json::to_string(&read).expect("encodes");
    assert_eq!(
        decode::<Value>(encoded.as_bytes()),
        decode::<Value>(text.as_bytes())
    );
    assert!(
        encoded.contains("1e+400") && encoded.contains(annotations),
        "{encoded}"
    );
}

/// D-16, D-16a, D-16b, D-16c, D-16d: each kind of exec is told from the others.
#[test]
fn d_16_each_kind_of_exec_is_told_from_the_others() {
    let attached = json!({"attachmentName": "couch:1-2", "attachmentType": "text/plain"});
    for exec in [
        json!({"kind": "python:3", "code": "x"}),
        json!({"kind": "nodejs:20", "code": attached, "binary": true, "main": "f.g"}),
        json!({"kind": "java", "jar": attached, "main": "A"}),
    ] {
        let document = comes_out_the_same(&with("/exec", Some(exec)));
        assert!(matches!(document.exec, Exec::Managed(_)) && document.exec.code().is_some());
    }
    let blackbox = json!({"kind": "blackbox", "image": "localhost:5000/a/b:1", "binary": false});
    assert_eq!(
        comes_out_the_same(&with("/exec", Some(blackbox))).exec.code(),
        None
    );
    let sequence = json!({"kind": "sequence", "components": ["/guest/a", "/guest/p/b"]});
    assert_eq!(
        comes_out_the_same(&with("/exec", Some(sequence))).exec.kind(),
        "sequence"
    );
}

/// D-19, D-24: there is at most one attachment, and it is the one that is named.
#[test]
fn d_19_and_d_24_there_is_at_most_one_attachment_and_it_is_the_one_that_is_named() {
    let stored = |name: &str| json!({ name: {"content_type": "text/plain", "stub": true, "length": 3} });
    let named = |name: &str| json!({"kind": "python:3", "code": {"attachmentName": name, "attachmentType": "text/plain"}});
    for (name, kept, agree) in [
        ("couch:1-2", "1-2", true),
        ("codefile", "codefile", true),
        ("couch:1-2", "2-3", false),
        ("mem:eA==", "1-2", false),
    ] {
        let mut action = with("/exec", Some(named(name)));
        action["_attachments"] = stored(kept);
        let document = comes_out_the_same(&action);
        let attachment = document.attachment().expect("an attachment");
        assert_eq!(document.agrees_with(attachment), agree, "{name} {kept}");
    }
    let none = comes_out_the_same(&with("/exec", Some(named("couch:1-2"))));
    assert!(none.agrees_with(none.attachment().expect("an attachment")));
    let mut two = action();
    two["_attachments"] = json!({"a": {}, "b": {}});
    assert!(
        read(&two)
            .expect_err("two")
            .contains("2 attachments, expected at most one")
    );
}

/// D-20, D-21, D-22, D-23: the name of an attachment says where it is.
#[test]
fn d_21_to_d_23_the_name_of_an_attachment_says_where_it_is() {
    let place = |name: &str| {
        let exec = json!({"kind": "python:3", "code": {"attachmentName": name, "attachmentType": "x"}});
        let Ok(Exec::Managed(exec)) = decode::<Exec>(exec.to_string().as_bytes()) else {
            panic!("managed")
        };
        let Code::Attachment(attachment) = exec.code else {
            panic!("attached")
        };
        match attachment.place() {
            Place::Name(content) => format!("name {content}"),
            Place::Document(name) => format!("document {name}"),
            Place::Store { scheme, key } => format!("store {scheme} {key}"),
        }
    };
    assert_eq!(place("mem:-_A="), "name -_A=");
    assert_eq!(place("couch:2d393437"), "document 2d393437");
    assert_eq!(place("codefile"), "document codefile");
    assert_eq!(place("s3:bucket/a:b"), "store s3 bucket/a:b");
}

/// D-26: inline code decides itself whether it is binary and an attachment does not.
#[test]
fn d_26_inline_code_decides_itself_whether_it_is_binary_and_an_attachment_does_not() {
    let binary = |exec: Value| {
        decode::<Exec>(exec.to_string().as_bytes())
            .expect("readable")
            .is_binary()
    };
    assert!(binary(
        json!({"kind": "python:3", "code": " YWJj\n", "binary": false})
    ));
    assert!(!binary(
        json!({"kind": "python:3", "code": "def main(a): return a", "binary": true})
    ));
    let attached = json!({"attachmentName": "mem:", "attachmentType": "x"});
    assert!(binary(
        json!({"kind": "python:3", "code": attached, "binary": true})
    ));
    assert!(!binary(json!({"kind": "python:3", "code": attached})));
    for (text, expected) in [
        ("", false),
        ("YWI=", true),
        ("YQ==", true),
        ("Y===", false),
        ("Y=Jj", false),
        ("YWJ", false),
        ("YW-j", false),
        ("====", false),
    ] {
        assert_eq!(is_base64(text), expected, "{text:?}");
    }
}

/// D-28, D-32: blank code is none and main is main unless said.
#[test]
fn d_28_and_d_32_blank_code_is_none_and_main_is_main_unless_said() {
    let exec: Exec = decode(br#"{"kind":"blackbox","image":"x","code":" "}"#).expect("readable");
    assert_eq!((exec.code(), exec.main()), (None, "main"));
    let exec: Exec = decode(br#"{"kind":"python:3","code":"x","main":"f.g"}"#).expect("readable");
    assert_eq!(exec.main(), "f.g");
}

/// D-29: kinds are compared trimmed and in lower case.
#[test]
fn d_29_kinds_are_compared_trimmed_and_in_lower_case() {
    let document = read(&with("/exec/kind", Some(json!(" Python:DEFAULT ")))).expect("readable");
    assert_eq!(document.exec.kind(), "python:default");
    let Exec::Managed(exec) = document.exec else {
        panic!("managed")
    };
    assert_eq!(exec.kind.family(), "python");
}

/// D-33, M-55, V-09, E-30, E-31, E-32, E-33, E-34, E-35, E-36, E-37: the first violated limit is reported in OpenWhisk's words.
#[test]
fn d_33_and_m_55_the_first_violated_limit_is_reported_in_openwhisks_words() {
    let system = SystemLimits::default();
    let limits = |timeout, memory, concurrency, logs| {
        system.fill(&ActionLimits {
            timeout,
            memory,
            concurrency: Some(concurrency),
            logs: Some(logs),
            instances: None,
        })
    };
    let no = UserLimits::default();
    let text = |limits: EffectiveLimits, user: &UserLimits| {
        system
            .check(&limits, user, &no)
            .map_err(|violation| violation.to_string())
    };
    assert_eq!(text(limits(60_000, 256, 1, 10), &no), Ok(()));
    for (all, expected) in [
        (
            limits(300_001, 1024, 2, 11),
            "duration 300001 milliseconds exceeds allowed threshold of 300000 milliseconds",
        ),
        (
            limits(99, 1024, 2, 11),
            "duration 99 milliseconds below allowed threshold of 100 milliseconds",
        ),
        (
            limits(100, 1024, 2, 11),
            "memory size 1024 MB exceeds allowed threshold of 512 MB",
        ),
        (
            limits(100, 127, 2, 11),
            "memory size 127 MB below allowed threshold of 128 MB",
        ),
        (
            limits(100, 128, 2, 11),
            "concurrency 2 exceeds allowed threshold of 1",
        ),
        (
            limits(100, 128, 0, 11),
            "concurrency 0 below allowed threshold of 1",
        ),
        (
            limits(100, 128, 1, 11),
            "log size 11 MB exceeds allowed threshold of 10 MB",
        ),
    ] {
        assert_eq!(text(all, &no), Err(format!("requirement failed: {expected}")));
    }
    let user = |edit: fn(&mut UserLimits)| {
        let mut user = UserLimits::default();
        edit(&mut user);
        user
    };
    let wide = user(|user| user.max_action_memory = Some(1024));
    assert_eq!(
        text(limits(100, 768, 1, 0), &wide),
        Err("requirement failed: memory size 768 MB exceeds allowed threshold of 512 MB".into())
    );
    let low = user(|user| user.min_action_memory = Some(64));
    assert_eq!(
        text(limits(100, 100, 1, 0), &low),
        Err("requirement failed: memory size 100 MB below allowed threshold of 128 MB".into())
    );
    let more_logs = user(|user| user.min_action_logs = Some(5));
    assert_eq!(
        text(limits(100, 128, 1, 4), &more_logs),
        Err("requirement failed: log size 4 MB below allowed threshold of 5 MB".into())
    );
    let tight = user(|user| user.max_action_timeout = Some(1000));
    let defaults = user(|user| user.max_action_timeout = Some(2000));
    assert!(
        system.check(&limits(1500, 256, 1, 0), &no, &defaults).is_ok(),
        "the default holds where the user has none"
    );
    assert!(
        system.check(&limits(1500, 256, 1, 0), &tight, &defaults).is_err(),
        "the user's own wins"
    );
    let raised = SystemLimits {
        concurrency: Bounds { min: 1, max: 500 },
        ..system
    };
    assert!(raised.check(&limits(100, 128, 500, 0), &no, &no).is_ok());
}

/// D-17, W-06: gaps in the limits are filled with the standard.
#[test]
fn d_17_gaps_in_the_limits_are_filled_with_the_standard() {
    let limits: ActionLimits =
        decode(br#"{"timeout":1,"memory":2,"instances":3,"new":4}"#).expect("readable");
    let filled = serde_json::to_value(SystemLimits::default().fill(&limits)).expect("encodes");
    assert_eq!(
        filled,
        json!({"concurrency": 1, "logs": 10, "memory": 2, "timeout": 1})
    );
}

/// W-12: an annotation is truthy unless it is false zero empty or null.
#[test]
fn w_12_an_annotation_is_truthy_unless_it_is_false_zero_empty_or_null() {
    for (value, truthy) in [
        (json!(true), true),
        (json!(false), false),
        (json!(1), true),
        (json!(0), false),
        (json!(-0.0), false),
        (json!(0.5), true),
        (json!(""), false),
        (json!("false"), true),
        (json!(null), false),
        (json!([]), true),
        (json!({}), true),
    ] {
        let annotations: Annotations = [("provide-api-key", value.clone())].into_iter().collect();
        assert_eq!(annotations.is_truthy("provide-api-key", true), truthy, "{value}");
    }
    let zero: Annotations = decode(br#"[{"key":"k","value":0e5}]"#).expect("readable");
    assert!(!zero.is_truthy("k", true));
    assert!(Annotations::default().is_truthy("k", true) && !Annotations::default().is_truthy("k", false));
}

#[test]
fn subjects_keep_what_operators_wrote_into_them() {
    for document in [
        json!({"_id": "guest", "subject": "guest", "namespaces": [{"name": "guest", "uuid": "u", "key": "k", "since": 1.50}], "mail": "a@b"}),
        json!({"_id": "oldie", "_rev": "3-a", "subject": "oldie", "uuid": "u", "key": "k"}),
        json!({"_id": "blocked", "subject": "blocked", "blocked": true, "namespaces": []}),
        json!({"_id": "jane/limits", "_rev": "1-a", "invocationsPerMinute": 0, "note": {"by": "ops"}, "maxPayloadSize": "1 MB"}),
    ] {
        let read: AuthDocument = decode(document.to_string().as_bytes()).expect("readable");
        assert_eq!(serde_json::to_value(&read).expect("encodes"), document);
    }
    for (bad, reason) in [
        (json!({"_id": "x"}), "neither a member `subject` or `rows`"),
        (
            json!({"_id": "x", "subject": "anna"}),
            "subject: subject \"anna\" is not valid",
        ),
        (
            json!({"_id": "x", "subject": "annas", "namespaces": [{"name": "a", "uuid": "u"}]}),
            "missing field `key`",
        ),
        (json!({"_id": "x/limits", "maxPayloadSize": 5}), "invalid type"),
        (
            json!({"_id": "x", "subject": "annas", "blocked": "yes"}),
            "blocked: invalid type",
        ),
    ] {
        let error = decode::<AuthDocument>(bad.to_string().as_bytes())
            .expect_err("bad")
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
}

fn message(content: Value, init_args: Value) -> ActivationMessage {
    let text = json!({
        "transid": ["nF3k", 1], "action": {"path": "guest/img", "name": "classify", "binding": "jane/pictures"}, "revision": null,
        "user": {"subject": "jane-doe", "namespace": {"name": "jane", "uuid": "u"}, "authkey": {"api_key": "u:k", "n": 7},
            "rights": [], "limits": {}},
        "activationId": "3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b", "rootControllerIndex": {"asString": "0"}, "blocking": true,
        "content": content, "initArgs": init_args, "lockedArgs": {},
    });
    decode(text.to_string().as_bytes()).expect("readable")
}

/// C-05, C-07, C-07a, C-07b, C-07c, C-07d, C-07e, C-07f, C-07g, C-13: a container learns about its activation in strings.
#[test]
fn c_07_a_container_learns_about_its_activation_in_strings() {
    let message = message(json!({}), json!([]));
    let without_key = about(
        &message,
        "0.0.9".parse().expect("a version"),
        1_767_225_660_301,
        false,
    );
    let expected = json!({
        "namespace": "jane", "action_name": "/guest/img/classify", "action_version": "0.0.9",
        "activation_id": "3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b", "transaction_id": "nF3k", "deadline": "1767225660301",
    });
    assert_eq!(serde_json::to_value(&without_key).expect("encodes"), expected);
    let with_key = about(
        &message,
        "0.0.9".parse().expect("a version"),
        1_767_225_660_301,
        true,
    );
    assert_eq!(
        (with_key["api_key"].as_str(), with_key["n"].as_str()),
        ("u:k", "7")
    );
}

/// C-11, C-12: arguments for init leave the run and become environment.
#[test]
fn c_11_and_c_12_arguments_for_init_leave_the_run_and_become_environment() {
    let content = json!({"s": "text", "n": null, "b": true, "f": 1.50, "o": {"a": [1, 2]}, "x": 1, "__OW_NAMESPACE": "no"});
    let message = message(
        content,
        json!(["s", "n", "b", "f", "o", "__OW_NAMESPACE", "absent"]),
    );
    let (run, init) = split_arguments(message.content.as_ref(), &message.init_args);
    assert_eq!(run.as_str(), r#"{"x":1}"#);
    let env = environment(init, &[("namespace".to_owned(), "jane".to_owned())].into());
    let expected = json!({"s": "text", "n": "", "b": "true", "f": "1.5", "o": "{\"a\":[1,2]}", "__OW_NAMESPACE": "jane"});
    assert_eq!(serde_json::to_value(&env).expect("encodes"), expected);
}

/// C-06, C-11: arrays are left alone, and no arguments are an empty object.
#[test]
fn c_06_and_c_11_arrays_are_left_alone_and_no_arguments_are_an_empty_object() {
    let array = Json::from(json!(["k", {"k": 1}]));
    assert_eq!(
        split_arguments(Some(&array), &["k".to_owned()]),
        (array.clone(), vec![])
    );
    assert_eq!(split_arguments(None, &["k".to_owned()]).0.as_str(), "{}");
    let object = Json::from(json!({"k": 1}));
    assert_eq!(split_arguments(Some(&object), &[]), (object.clone(), vec![]));
}

/// C-07: a run request is read leniently.
#[test]
fn c_07_a_run_request_is_read_leniently() {
    let body: RunBody =
        decode(br#"{"value":{"a":1},"deadline":5,"api_key":null,"namespace":"x"}"#).expect("readable");
    assert_eq!(
        body.about,
        [
            ("deadline".to_owned(), "5".to_owned()),
            ("namespace".to_owned(), "x".to_owned())
        ]
        .into()
    );
    let body: RunBody = decode(b"{}").expect("readable");
    assert_eq!(body.value.as_str(), "{}");
}
