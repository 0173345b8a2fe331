//! Activations from message to record, in containers that answer what the contract speaks of: the
//! real daemon, and an engine whose containers are HTTP servers in this test.
#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "contract_run/bench.rs"]
mod bench;
#[path = "support/stand_in_engine.rs"]
#[allow(dead_code)]
mod stand_in_engine;
#[path = "contract_run/probe.rs"]
mod probe;

use bench::{Bench, action, comparable, message, recording};
use ffs_invoker::container::{Error, Logs};
use probe::{Probe, Reply, Seen, ok};
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const NO_VALID_RESPONSE: &str = "The action did not produce a valid response and exited unexpectedly.";

/// C-01, C-03, C-04, C-04a, C-04b, C-04c, C-04d, C-04e, C-05, C-06, C-07, C-07a, C-07b, C-07c, C-07d,
/// C-07e, C-07f, C-07g, C-08, C-09, C-11, C-12, C-13, C-14, M-20, M-24, M-28, M-52, W-12: what a
/// container is sent is what OpenWhisk sends, for a cold and for a warm run.
#[tokio::test]
async fn a_container_is_asked_what_openwhisk_asks() {
    for name in ["recpy", "recnokey", "recinit"] {
        let recorded = [name.to_owned(), format!("{name}.2")]
            .map(|label| recording(&format!("container-http/{label}.json")).unwrap());
        let body = |of: &Value| -> Value { serde_json::from_str(of["body"].as_str().unwrap()).unwrap() };
        let init = &body(&recorded[0]["init"])["value"];
        let env: BTreeMap<String, String> = serde_json::from_value(init["env"].clone()).unwrap();
        let with_key = env.contains_key("__OW_API_KEY");
        let document = action(
            name,
            json!({"version": "0.0.1",
                "exec": {"code": init["code"], "main": init["main"]},
                "annotations": [{"key": "provide-api-key", "value": with_key}]}),
        );
        let mut bench = Bench::start(Probe::new(|_| ok("{}"))).await;
        bench.put(&document).await;
        for warm in &recorded {
            let run = body(&warm["run"]);
            let mut content = run["value"].clone();
            let for_init: Vec<&String> = env.keys().filter(|key| !key.starts_with("__OW_")).collect();
            for key in &for_init {
                // Recorded from the number 5: values of the environment are texts.
                content[key.as_str()] = serde_json::from_str(&env[*key]).unwrap_or(json!(env[*key]));
            }
            let message = message(
                &document,
                json!({"activationId": run["activation_id"], "transid": [run["transaction_id"], 1],
                    "content": content, "initArgs": for_init,
                    "user": {"namespace": {"name": "guest"},
                        "authkey": {"api_key": env.get("__OW_API_KEY").map_or("u:k", String::as_str)}}}),
            );
            bench.call(&message).await;
        }

        let seen = bench.engine.seen();
        let paths: Vec<&str> = seen.iter().map(|seen| &*seen.path).collect();
        assert_eq!(paths, ["/init", "/run", "/run"], "{name}");
        for (seen, recorded) in
            seen.iter()
                .zip([&recorded[0]["init"], &recorded[0]["run"], &recorded[1]["run"]])
        {
            let is = without_deadline(&seen.body);
            let was = without_deadline(recorded["body"].as_str().unwrap());
            if seen.path == "/run" {
                assert_eq!(is, was, "{name}: byte for byte");
            }
            let parsed = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
            assert_eq!(parsed(&is), parsed(&was), "{name}");
            let headers: Vec<&str> = seen
                .head
                .lines()
                .skip(1)
                .map(|line| line.split(':').next().unwrap())
                .collect();
            assert_eq!(
                headers,
                ["Accept", "Content-Length", "Content-Type", "Host", "Connection"]
            );
            for header in recorded["headers"].as_array().unwrap().iter().take(3) {
                assert_eq!(
                    seen.header(header[0].as_str().unwrap()),
                    header[1].as_str().unwrap()
                );
            }
            assert_eq!(seen.head.lines().next(), recorded["requestline"].as_str());
        }
        bench.stop().await;
    }
}

/// Deadlines are checked and replaced by zeros.
fn without_deadline(body: &str) -> String {
    let lower = body.to_lowercase();
    let at = lower.find("deadline\":\"").unwrap() + "deadline\":\"".len();
    let digits = &body[at..at + 13];
    assert!(digits.parse::<u64>().is_ok(), "{digits} in {body}");
    body.replacen(digits, "0000000000000", 1)
}

/// C-33, C-35d, C-35e, C-35f, C-35h, C-36c, C-36e, C-36g, C-36h, C-36j, C-37, C-38, C-39, C-50,
/// D-01, D-03, D-10, D-12, D-13, D-15, D-16a, D-16b, D-16c, D-17, D-20, D-22, D-31, D-33, E-01, E-02,
/// E-04, E-05, E-06, E-10, E-12, E-15, E-22, C-68, E-30, E-31, E-32, E-33, E-34, E-35, E-36, E-37, L-18a, L-19, M-21, M-22,
/// M-23, M-26, M-30, M-31, M-32, M-60, M-61, M-62, M-63, M-64, M-66, M-67, M-68, M-69, M-6A, M-6B, S-10a,
/// S-10e, S-10f, S-13, S-31, S-32, S-33, S-34, S-36, S-36a, S-36b, S-36c, S-36d, S-36e, S-36f, S-37, S-38, S-41,
/// S-42, V-09, W-02, W-06: acks and records are those that the Scala invoker was recorded to write.
#[tokio::test]
async fn acks_and_records_are_those_of_the_recordings() {
    let labels = [
        "init-plain-error",
        "init-empty-error",
        "init-201",
        "run-number",
        "run-201",
        "run-400-error",
        "run-error-null",
        "run-unicode",
        "empty-run",
        "status204-run",
        "closed-run",
        "direct-payload-cut",
        "direct-missing-action",
        "direct-sequence-to-invoker",
        "direct-limits-exceeded",
        "direct-limit-concurrency-above",
        "direct-limit-concurrency-below",
        "direct-limit-logs-above",
        "direct-limit-logs-below",
        "direct-limit-memory-below",
        "direct-limit-timeout-above",
        "direct-limit-timeout-below",
        "ghost-runtime-missing-image",
    ];
    let mut probe = Probe::new(as_the_recorded_probe);
    probe.start = Box::new(|spec| match &*spec.image.kind {
        "ghost:1" => Err(Error::Failed {
            operation: "created",
            name: spec.name.clone(),
            source: "exit status 125".into(),
        }),
        _ => Ok(()),
    });
    let mut bench = Bench::with(probe, |settings| settings.limits.concurrency.max = 1).await;
    let mut stored = std::collections::BTreeSet::new();
    for label in labels {
        let sent = recording(&format!("wire/invoker0/{label}.json")).unwrap();
        let (path, name) = (
            sent["action"]["path"].as_str().unwrap(),
            sent["action"]["name"].as_str().unwrap(),
        );
        if let Some(document) = recording(&format!("db/whisks/{path}__{name}.json"))
            && stored.insert(name.to_owned())
        {
            bench.put(&document).await;
        }

        bench.send(&sent).await;
        let acks: Vec<Value> = bench.acks().await.iter().map(comparable).collect();

        let recorded = ["result", "completion", "combined"]
            .map(|kind| recording(&format!("wire/completed0/{label}.{kind}.json")));
        let expected: Vec<Value> = recorded.iter().flatten().map(comparable).collect();
        assert_eq!(acks, expected, "{label}");
        let id = sent["activationId"].as_str().unwrap();
        let record = bench.record("guest", id).await;
        let expected = recording(&format!("db/activations/{label}.json")).unwrap();
        assert_eq!(comparable(&record), comparable(&expected), "{label}");
        let last = |record: &Value| {
            record["logs"]
                .as_array()
                .unwrap()
                .last()
                .map(|line| line.as_str().unwrap()[31..].to_owned())
        };
        let is_note = |line: &String| line.contains("Log data might be missing.");
        assert_eq!(
            last(&record).filter(is_note),
            last(&expected).filter(is_note),
            "{label}: E-22"
        );
        if expected["duration"] == 0 {
            assert_eq!(record["duration"], 0, "{label}: nothing ran");
        }
    }
    bench.stop().await;
}

/// The image that the recordings were made with: the action's code says what it answers.
fn as_the_recorded_probe(seen: &Seen) -> Reply {
    // `/run` does not bring the code, but the name tells.
    let name = match seen.path.as_str() {
        "/init" => seen.json()["value"]["name"].as_str().unwrap().to_owned(),
        _ => {
            let name = seen.json()["action_name"].as_str().unwrap().to_owned();
            name.rsplit('/').next().unwrap().to_owned()
        }
    };
    let document = recording(&format!("db/whisks/guest__{name}.json")).unwrap();
    let code = document["exec"]["code"].clone();
    let code = code.as_str().map_or_else(|| attached(&code), str::to_owned);
    let says: Value = serde_json::from_str(&code).unwrap();
    let says = &says[&seen.path[1..]];
    if says.is_null() {
        // Whatever else it was given, it shows its environment: 326 bytes in the recording.
        let shown = format!("{{\"env\": {{\"PATH\": \"{}\"}}}}", "x".repeat(305));
        return ok(if seen.path == "/init" { "{}" } else { &shown });
    }
    let status = says["status"].as_u64().unwrap_or(200) as u16;
    let body = says["body"].as_str().unwrap_or_default().to_owned();
    match (says["close"].is_null(), says["mode"].as_str()) {
        (false, _) => Reply::Raw(Vec::new()),
        (true, Some("x")) => Reply::Raw(format!("HTTP/1.1 {status} X\r\n\r\n").into_bytes()),
        (true, Some("chunked")) => {
            let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            Reply::Raw(
                format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into_bytes(),
            )
        }
        (true, Some("close")) => {
            Reply::Raw(format!("HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n{body}").into_bytes())
        }
        (true, _) => Reply::Whole(status, body),
    }
}

fn attached(attachment: &Value) -> String {
    use base64::Engine;
    let name = attachment["attachmentName"].as_str().unwrap();
    let content = name.strip_prefix("mem:").unwrap();
    String::from_utf8(base64::engine::general_purpose::URL_SAFE.decode(content).unwrap()).unwrap()
}

/// C-32a: a body in chunks or without a length is read like any other.
#[tokio::test]
async fn a_body_of_unknown_length_is_as_good_as_any() {
    let mut bench = Bench::start(Probe::new(as_the_recorded_probe)).await;
    for (name, status, result) in [
        ("v_chunkrun", 0, json!({"a": 1})),
        ("v_closerun", 0, json!({"a": 1})),
        ("v_chunkinit", 0, Value::Null),
        ("v_chunkiniterr", 2, json!({"error": "compile failed"})),
        ("v_closeiniterr", 2, json!({"error": "compile failed"})),
    ] {
        let document = recording(&format!("db/whisks/guest__{name}.json")).unwrap();
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(
            activation["response"]["statusCode"], status,
            "{name}: {activation}"
        );
        if !result.is_null() {
            assert_eq!(activation["response"]["result"], result, "{name}");
        }
    }
    bench.stop().await;
}

/// C-30, M-54h: a result that is too long for its namespace, but not for what is kept, is shown whole.
#[tokio::test]
async fn a_result_too_long_but_shorter_than_the_cut_is_shown_whole() {
    let sent = recording("wire/invoker0/direct-payload-cut-longer-than-body.json").unwrap();
    let document = recording("db/whisks/guest__v_okprobe.json").unwrap();
    let mut bench = Bench::start(Probe::new(as_the_recorded_probe)).await;
    bench.put(&document).await;
    let activation = bench.call(&sent).await;
    let error = activation["response"]["result"]["error"].as_str().unwrap();
    assert!(
        error.contains("326 > 20 bytes. The truncated response was: {\"env\""),
        "{error}"
    );
    assert!(error.ends_with("xxx\"}}"), "{error}");
    assert_eq!(
        (
            &activation["response"]["statusCode"],
            &activation["response"]["size"]
        ),
        (&json!(1), &json!(326))
    );
    bench.stop().await;
}

/// C-02, C-03, L-20, L-30, L-31, S-01d, S-01e, S-02, S-30, S-34, S-35: a warm run has its own connection, no
/// `/init` and no `initTime`, and `start`, `end` and `duration` agree. Another namespace gets a container of its own.
#[tokio::test]
async fn a_warm_run_starts_at_once_in_the_container_of_its_namespace() {
    let mut bench = Bench::start(Probe::new(|_| ok("{}"))).await;
    let document = action("echo", json!({}));
    bench.put(&document).await;
    let cold = bench.call(&message(&document, json!({}))).await;
    for _ in 0..4 {
        let warm = bench.call(&message(&document, json!({}))).await;
        let keys = |activation: &Value| -> Vec<String> {
            let all = activation["annotations"].as_array().unwrap();
            all.iter()
                .map(|a| a["key"].as_str().unwrap().to_owned())
                .collect()
        };
        assert!(
            keys(&cold).contains(&"initTime".to_owned()) && !keys(&warm).contains(&"initTime".to_owned())
        );
        let number = |member: &str| warm[member].as_i64().unwrap();
        assert_eq!(number("end") - number("start"), number("duration"));
    }
    bench
        .call(&message(
            &document,
            json!({"user": {"namespace": {"name": "joan"}}}),
        ))
        .await;

    let seen = bench.engine.seen();
    let of = |container, path: &str| {
        seen.iter()
            .filter(|s| s.container == container && s.path == path)
            .count()
    };
    assert_eq!(
        (of(1, "/init"), of(1, "/run"), of(2, "/init"), of(2, "/run")),
        (1, 5, 1, 1)
    );
    bench
        .until("connections are closed", |probe| probe.connections().0 == 0)
        .await;
    assert_eq!(bench.engine.connections().1, 1, "one at a time");
    bench.stop().await;
}

/// C-06, M-27, V-04, V-08: arguments may be an object, an array or missing, and limits all or none.
#[tokio::test]
async fn arguments_arrive_as_they_were_sent() {
    let mut bench = Bench::start(Probe::new(|seen| {
        let value = if seen.path == "/run" {
            seen.json()["value"].clone()
        } else {
            json!({})
        };
        ok(&json!({"got": value}).to_string())
    }))
    .await;
    let document = action("echo", json!({}));
    bench.put(&document).await;
    let five = json!({"invocationsPerMinute": 1, "concurrentInvocations": 1, "firesPerMinute": 1,
        "allowedKinds": ["blackbox"], "storeActivations": true});
    let all = json!({"invocationsPerMinute": 1, "concurrentInvocations": 1, "firesPerMinute": 1,
        "allowedKinds": ["blackbox"], "storeActivations": true, "minActionMemory": 128,
        "maxActionMemory": 512, "minActionLogs": 0, "maxActionLogs": 10, "minActionTimeout": 100,
        "maxActionTimeout": 300_000, "minActionConcurrency": 1, "maxActionConcurrency": 1,
        "maxParameterSize": "1 MB", "maxPayloadSize": "1 MB", "truncationSize": "1 MB",
        "warmedContainerKeepingCount": 1, "warmedContainerKeepingTimeout": "1 minute", "maxActionInstances": 1});
    for (content, limits) in [
        (json!([1, {"a": 2}]), json!({})),
        (json!({"z": 1.10, "a": "é😀"}), five),
        (Value::Null, all),
    ] {
        let mut message = message(&document, json!({"user": {"limits": limits}}));
        message["content"] = content.clone();
        let activation = bench.call(&message).await;
        let expected = if content.is_null() { json!({}) } else { content };
        assert_eq!(
            activation["response"]["result"],
            json!({"got": expected}),
            "{activation}"
        );
    }
    bench.stop().await;
}

/// C-34, C-36a, C-45, S-11, S-12, S-16, V-07: a warm container that says 503 is dropped, and another one answers.
#[tokio::test]
async fn a_container_that_is_shutting_down_hands_its_activation_on() {
    let document = recording("db/whisks/guest__v_warm503.json").unwrap();
    let mut bench = Bench::start(Probe::new(|seen| match (&*seen.path, seen.nth) {
        ("/run", 2) => Reply::Whole(503, "{\"error\":\"x\"}".to_owned()),
        _ => ok("{\"a\":1}"),
    }))
    .await;
    bench.put(&document).await;
    for _ in 0..2 {
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(activation["response"]["result"], json!({"a": 1}));
    }
    let runs: Vec<usize> = bench.engine.seen().iter().map(|seen| seen.container).collect();
    assert_eq!(runs, [1, 1, 1, 2, 2]);
    bench
        .until("the first is removed", |p| {
            p.deeds().contains(&"remove 1".to_owned())
        })
        .await;
    bench.stop().await;
}

/// C-34, C-35a, C-45, E-02, S-11: 503 from one new container after the other ends after three, with an answer.
#[tokio::test]
async fn three_containers_that_are_shutting_down_are_enough() {
    for path in ["/init", "/run"] {
        let mut bench = Bench::start(Probe::new(move |seen| match seen.path == path {
            true => Reply::Whole(503, String::new()),
            false => ok("{}"),
        }))
        .await;
        let document = action("busy", json!({}));
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(
            activation["response"],
            json!({"statusCode": 2, "result": {"error": NO_VALID_RESPONSE}})
        );
        let deeds = bench.engine.deeds();
        assert_eq!(
            deeds.iter().filter(|deed| deed.starts_with("start")).count(),
            3,
            "{deeds:?}"
        );
        bench.stop().await;
    }
}

/// C-43, L-21, L-24, S-01f, S-01g, S-16: a container that was idle or paused and cannot be connected to is
/// dropped, unnoticed by the user.
#[tokio::test]
async fn a_container_that_does_not_listen_any_more_is_replaced() {
    for pauses in [false, true] {
        let mut bench = Bench::with(Probe::new(|_| ok("{}")), |settings| {
            settings.pool.pause_grace = if pauses {
                Duration::ZERO
            } else {
                Duration::from_secs(600)
            };
        })
        .await;
        let document = action("gone", json!({}));
        bench.put(&document).await;
        bench.call(&message(&document, json!({}))).await;
        if pauses {
            bench
                .until("it is paused", |p| p.deeds().contains(&"pause 1".to_owned()))
                .await;
        }
        bench.engine.deafen(1);
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(activation["response"]["statusCode"], 0);
        let containers: Vec<usize> = bench.engine.seen().iter().map(|seen| seen.container).collect();
        assert_eq!(containers, [1, 1, 2, 2]);
        assert_eq!(bench.engine.deeds().contains(&"resume 1".to_owned()), pauses);
        bench.stop().await;
    }
}

/// L-40, L-41, S-10g, S-43: those that wait for another one's `/init` get its failure too, with times of zero.
#[tokio::test]
async fn who_waits_for_an_init_that_fails_ends_like_the_first() {
    let held = Arc::new(Notify::new());
    let gate = Arc::clone(&held);
    let mut bench = Bench::start(Probe::new(move |_| {
        Reply::Held(Arc::clone(&gate), 502, "{\"error\":\"no main\"}".to_owned())
    }))
    .await;
    let document = action("many", json!({"limits": {"concurrency": 3}}));
    bench.put(&document).await;
    let first = message(&document, json!({}));
    bench.send(&first).await;
    bench
        .until("the first initialises", |probe| probe.seen().len() == 1)
        .await;
    let others = [
        message(&document, json!({})),
        message(&document, json!({"blocking": false})),
    ];
    for other in &others {
        bench.send(other).await;
    }
    // Both are in the same container before its answer comes: a later message overtakes nothing.
    tokio::time::sleep(Duration::from_millis(100)).await;
    held.notify_one();
    let mut acks = BTreeMap::new();
    for _ in 0..3 {
        let ack = bench.ack().await;
        let id = ack["response"]["activationId"]
            .as_str()
            .or(ack["activationId"].as_str());
        acks.insert(id.unwrap().to_owned(), ack);
    }
    let of = |message: &Value| &acks[message["activationId"].as_str().unwrap()];
    let response = |ack: &Value| {
        (
            ack["response"]["response"]["statusCode"].clone(),
            ack["response"]["response"]["result"].clone(),
        )
    };
    let expected = (json!(2), json!({"error": "no main"}));
    assert_eq!(
        (response(of(&first)), response(of(&others[0]))),
        (expected.clone(), expected)
    );
    assert_ne!(of(&first)["response"]["response"]["size"], Value::Null);
    let waited = &of(&others[0])["response"];
    assert_eq!(
        (&waited["duration"], &waited["start"]),
        (&json!(0), &waited["end"])
    );
    // Nobody waits for the third: a completion, which names the activation (S-10g).
    assert_eq!(of(&others[1])["response"], Value::Null);
    assert_eq!(bench.engine.seen().len(), 1, "nothing was tried again");
    bench.stop().await;
}

/// C-02, C-80, L-40, L-31, O-24: sixteen activations run at once in one container whose memory counts once,
/// and the seventeenth waits.
#[tokio::test]
async fn sixteen_activations_share_a_container() {
    let held = Arc::new(Notify::new());
    let gate = Arc::clone(&held);
    let probe = Probe::new(move |seen| match &*seen.path {
        "/run" if seen.nth > 1 => Reply::Held(Arc::clone(&gate), 200, "{}".to_owned()),
        _ => ok("{}"),
    });
    let mut bench = Bench::with(probe, bench::small).await;
    let document = action("many", json!({"limits": {"concurrency": 16}}));
    bench.put(&document).await;
    bench.call(&message(&document, json!({}))).await;
    for _ in 0..17 {
        bench.send(&message(&document, json!({"blocking": false}))).await;
    }
    bench
        .until("sixteen run", |probe| probe.connections().0 == 16)
        .await;
    held.notify_one();
    bench.ack().await;
    bench
        .until("the seventeenth runs too", |probe| probe.seen().len() == 1 + 18)
        .await;
    for _ in 0..16 {
        held.notify_one();
        bench.ack().await;
    }
    assert_eq!(bench.engine.connections().1, 16);
    let starts = bench
        .engine
        .deeds()
        .iter()
        .filter(|deed| deed.starts_with("start"))
        .count();
    assert_eq!(starts, 1);
    bench.stop().await;
}

/// L-33, L-37, E-32, K-45: memory above the budget is a violated limit, and holds up nobody.
#[tokio::test]
async fn memory_above_the_budget_violates_a_limit() {
    let mut bench = Bench::with(Probe::new(|_| ok("{}")), bench::small).await;
    let (large, fits) = (
        action("large", json!({"limits": {"memory": 512}})),
        action("fits", json!({})),
    );
    bench.put(&large).await;
    bench.put(&fits).await;
    bench.send(&message(&large, json!({}))).await;
    let ack = bench.ack().await;
    let activation = &ack["response"];
    assert_eq!(
        activation["response"],
        json!({"statusCode": 1, "result": {"error":
            "requirement failed: memory size 512 MB exceeds allowed threshold of 256 MB"}})
    );
    assert_eq!(ack["isSystemError"], false);
    assert_eq!(
        activation["annotations"],
        json!([{"key": "path", "value": "guest/large"}, {"key": "kind", "value": "unknown"}])
    );
    let activation = bench.call(&message(&fits, json!({}))).await;
    assert_eq!(activation["response"]["statusCode"], 0);
    bench.stop().await;
}

/// C-20, C-22, C-35c, C-36b, C-50, C-51, E-07, E-08, S-04, S-36d: a limit that has passed is said without a
/// look for a memory kill, and ends the container.
#[tokio::test]
async fn an_action_that_takes_too_long_ends_with_its_container() {
    for (path, sentence) in [
        (
            "/init",
            "The action exceeded its time limits of 100 milliseconds during initialization.",
        ),
        ("/run", "The action exceeded its time limits of 100 milliseconds."),
    ] {
        let mut bench = Bench::start(Probe::new(move |seen| match seen.path == path {
            true => Reply::Never,
            false => ok("{}"),
        }))
        .await;
        let document = action("slow", json!({"limits": {"timeout": 100}}));
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(
            activation["response"],
            json!({"statusCode": 2, "result": {"error": sentence}})
        );
        let annotations = activation["annotations"].as_array().unwrap();
        assert!(
            annotations.contains(&json!({"key": "timeout", "value": true})),
            "{annotations:?}"
        );
        assert!(activation["duration"].as_i64().unwrap() >= 100);
        bench
            .until("it goes", |p| p.deeds().contains(&"remove 1".to_owned()))
            .await;
        bench.stop().await;
    }
}

/// C-70, C-72, L-20, S-03, S-04, S-10a, S-10b, S-10c, S-10d, S-20: the result does not wait for logs, the
/// container does, and a container whose logs are not whole goes.
#[tokio::test]
async fn logs_hold_up_the_container_and_not_the_caller() {
    let mut probe = Probe::new(|_| ok("{}"));
    probe.logging = Box::new(|_| Logs {
        lines: vec!["2026-01-01T00:00:00Z           stdout: x".to_owned()],
        failed: true,
    });
    let mut bench = Bench::start(probe).await;
    let quiet = action("quiet", json!({}));
    let loud = action("loud", json!({"limits": {"logs": 1}}));
    bench.put(&quiet).await;
    bench.put(&loud).await;
    let shape = |ack: &Value| ["response", "instance", "activationId"].map(|member| !ack[member].is_null());
    let (result, completion, combined) = ([true, false, false], [false, true, true], [true, true, false]);
    for (document, blocking, expected) in [
        (&quiet, true, vec![combined]),
        (&quiet, false, vec![completion]),
        (&loud, true, vec![result, completion]),
        (&loud, false, vec![completion]),
    ] {
        let message = message(document, json!({"blocking": blocking}));
        bench.send(&message).await;
        let acks = bench.acks().await;
        assert_eq!(acks.iter().map(shape).collect::<Vec<_>>(), expected);
        if let Some(activation) = acks.iter().find(|ack| ack["response"].is_object()) {
            assert_eq!(activation["response"]["logs"], json!([]));
        }
        let record = bench
            .record("jane", message["activationId"].as_str().unwrap())
            .await;
        assert_eq!(
            record["logs"].as_array().unwrap().len(),
            usize::from(*document == loud)
        );
    }
    let removals = |probe: &Probe| {
        probe
            .deeds()
            .iter()
            .filter(|deed| deed.starts_with("remove"))
            .count()
    };
    bench
        .until("both containers with bad logs go", |probe| removals(probe) == 2)
        .await;
    bench.stop().await;
}

/// S-11, S-44: a fault of ours in the middle of a run leaves one slot-freeing ack, and no container.
#[tokio::test]
async fn a_fault_of_ours_frees_the_slot_and_ends_the_container() {
    let mut probe = Probe::new(|_| ok("{}"));
    probe.logging = Box::new(|_| panic!("as if the invoker were broken"));
    let mut bench = Bench::start(probe).await;
    let document = action("loud", json!({"limits": {"logs": 1}}));
    bench.put(&document).await;
    bench.send(&message(&document, json!({"blocking": false}))).await;
    let acks = bench.acks().await;
    assert_eq!(acks.len(), 1, "{acks:?}");
    bench
        .until("it goes", |p| p.deeds().contains(&"remove 1".to_owned()))
        .await;
    bench.stop().await;
}

/// S-36g, S-36h, S-45, M-2A, M-65, W-10, W-11, W-15, W-16, W-17: a member of a sequence through a binding is an
/// ordinary activation that says who caused it; annotations of the action stay where they are, known or not (W-13, W-14).
#[tokio::test]
async fn an_activation_says_what_it_is_a_part_of() {
    let mut bench = Bench::start(Probe::new(|_| ok("{}"))).await;
    let document = action(
        "part",
        json!({"annotations": [{"key": "final", "value": true}, {"key": "never-heard-of", "value": {"a": []}},
            {"key": "conductor", "value": true}, {"key": "provide-api-key", "value": ""}]}),
    );
    bench.put(&document).await;
    let cause = "0".repeat(32);
    let activation = bench
        .call(&message(
            &document,
            json!({"cause": cause, "action": {"binding": "jane/pictures"}}),
        ))
        .await;
    assert_eq!(activation["cause"], json!(cause));
    let annotations = comparable(&activation)["annotations"].clone();
    assert_eq!(annotations["causedBy"], "sequence");
    assert_eq!(annotations["binding"], "jane/pictures");
    assert_eq!(annotations["path"], "guest/part");
    assert_eq!(annotations["never-heard-of"], Value::Null);
    assert_eq!(bench.engine.seen()[1].json()["api_key"], Value::Null);
    bench.stop().await;
}

/// M-04, M-38, D-03, D-07, D-27, E-10: an unreadable message is passed over without an ack, an action whose code is gone is
/// answered like a missing one, and acks go to the controller that asked.
#[tokio::test]
async fn what_cannot_be_read_holds_up_nobody() {
    let mut bench = Bench::with(Probe::new(|_| ok("{}")), bench::small).await;
    let document = action("fine", json!({}));
    let gone = action(
        "gone",
        json!({"exec": {"code": {"attachmentName": "couch:3c5f", "attachmentType": "text/plain"}}}),
    );
    bench.put(&document).await;
    bench.put(&gone).await;
    let other = bench.listen("completed1").await;
    // More than the feed has room for at once.
    for _ in 0..20 {
        bench
            .send(&json!({"transid": ["x", 1], "activationId": "not an id"}))
            .await;
    }
    let activation = bench.call(&message(&gone, json!({}))).await;
    assert_eq!(
        activation["response"],
        json!({"statusCode": 1, "result": {"error": "Action could not be found or may have been deleted."}})
    );
    bench
        .send(&message(
            &document,
            json!({"rootControllerIndex": {"asString": "1"}, "blocking": false}),
        ))
        .await;
    let acks = bench::read(other).await;
    assert_eq!(acks.len(), 1, "{acks:?}");
    assert_eq!(
        bench.engine.seen().len(),
        2,
        "one `/init` and one `/run` of all that was sent"
    );
    bench.stop().await;
}

/// D-25, D-26, D-28, D-29, D-30, D-31, D-32, C-10, E-11, W-04, W-05: how code reaches `/init`, and what cannot be run.
#[tokio::test]
async fn code_reaches_init_as_its_document_says() {
    let mut bench = Bench::with(Probe::new(|_| ok("{}")), |settings| {
        settings.user_memory = Bytes::mib(8192)
    })
    .await;
    let python = json!({"kind": "python:default"});
    let with = |exec: Value| {
        let mut all = python.clone();
        all.as_object_mut()
            .unwrap()
            .extend(exec.as_object().unwrap().clone());
        all
    };
    for (name, exec, expected) in [
        ("none", json!({}), json!({"main": "main", "binary": false})),
        (
            "blank",
            json!({"code": " \n"}),
            json!({"main": "main", "binary": false}),
        ),
        (
            "plain",
            with(json!({"code": "x = 1", "main": "run"})),
            json!({"main": "run", "binary": false, "code": "x = 1"}),
        ),
        (
            "zip",
            with(json!({"code": " UEsDBA== "})),
            json!({"main": "main", "binary": true, "code": " UEsDBA== "}),
        ),
        (
            "attached",
            with(json!({"code": {"attachmentName": "mem:_-8", "attachmentType": "x/y"}, "binary": true})),
            json!({"main": "main", "binary": true, "code": "/+8="}),
        ),
        (
            "text",
            with(json!({"code": {"attachmentName": "mem:w6k=", "attachmentType": "text/plain"}})),
            json!({"main": "main", "binary": false, "code": "é"}),
        ),
    ] {
        let mut document = action(name, json!({}));
        let image = document["exec"].clone();
        document["exec"] = exec.clone();
        if exec["kind"].is_null() {
            document["exec"]["kind"] = json!(" BlackBox ");
            document["exec"]["image"] = image["image"].clone();
        }
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(activation["response"]["statusCode"], 0, "{name}: {activation}");
        let seen = bench.engine.seen();
        let init = seen.iter().rfind(|seen| seen.path == "/init").unwrap().json();
        for member in ["main", "binary", "code"] {
            assert_eq!(
                init["value"].get(member),
                expected.get(member),
                "{name}: {member}"
            );
        }
    }
    for (name, exec) in [
        ("unknown", json!({"kind": "cobol:85", "code": "x"})),
        ("codeless", json!({"kind": "python:3"})),
        ("imageless", json!({"kind": "blackbox"})),
        ("misnamed", json!({"kind": "blackbox", "image": "Not An Image"})),
    ] {
        let mut document = action(name, json!({}));
        document["exec"] = exec;
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(
            activation["response"],
            json!({"statusCode": 3, "result": {"error": "Action version is not compatible and cannot be invoked."}}),
            "{name}"
        );
    }
    bench.stop().await;
}
