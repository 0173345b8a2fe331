//! What containers are asked, and what is acked and recorded, beside what was recorded of the original.

use crate::bench::{Bench, action, comparable, message, recording};
use crate::probe::{Probe, Reply, Seen, ok};
use ffs_invoker::container::Error;
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
