//! `ffs-invoker wire KIND`, run as an operator runs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Exit code, lines of standard output, standard error.
struct Outcome {
    code: i32,
    lines: Vec<String>,
    errors: String,
}

fn wire(kind: &str, input: impl AsRef<[u8]>) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
        .args(["wire", kind])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.as_ref().to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("the program ends");
    writer
        .join()
        .expect("the writer ends")
        .expect("everything is read");
    Outcome {
        code: status.code().expect("an exit code"),
        lines: String::from_utf8(stdout)
            .expect("UTF-8")
            .lines()
            .map(str::to_owned)
            .collect(),
        errors: String::from_utf8(stderr).expect("UTF-8"),
    }
}

fn fixture(path: &str) -> String {
    let text =
        std::fs::read_to_string(fixtures().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim_end().to_owned()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/fixtures")
}

/// The recordings of a folder that are not packed and that `keep` keeps, one a line.
fn recorded(folder: &str, keep: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir(fixtures().join(folder)).expect("a folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    let texts = paths.iter().map(|path| {
        let name = path
            .file_stem()
            .expect("a name")
            .to_str()
            .expect("UTF-8")
            .to_owned();
        (
            name,
            // Views answer on several lines.
            std::fs::read_to_string(path).expect("readable").replace('\n', ""),
        )
    });
    texts
        .filter(|(name, text)| keep(name, text))
        .map(|(_, text)| text)
        .collect()
}

#[test]
fn every_recording_comes_out_with_the_same_meaning() {
    let any = |_: &str, _: &str| true;
    for (kind, lines) in [
        (
            "activation",
            recorded("wire/invoker0", |name, _| name != "direct-absent-optional"),
        ),
        ("ack", recorded("wire/completed0", any)),
        ("event", recorded("wire/events", any)),
        ("ping", recorded("wire/health", any)),
        ("record", recorded("db/activations", any)),
        (
            "action",
            recorded("db/whisks", |_, text| text.contains("\"entityType\":\"action\"")),
        ),
        ("auth", recorded("db/subjects", any)),
    ] {
        assert!(lines.len() >= 3, "{kind}");
        let outcome = wire(kind, lines.join("\n"));
        assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""), "{kind}");
        assert_eq!(outcome.lines.len(), lines.len(), "{kind}");
        for (before, after) in lines.iter().zip(&outcome.lines) {
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            assert_eq!(value(before), value(after), "{kind}");
        }
    }
}

#[test]
fn our_own_documents_come_out_too_and_their_parts_have_to_agree() {
    for kind in ["dag", "profile", "ranking", "assignment", "migs", "state"] {
        let example = fixture(&format!("../tests/specification/{kind}.example.json"));
        let outcome = wire(kind, &example);
        assert_eq!(
            (outcome.code, outcome.errors.as_str(), outcome.lines.len()),
            (0, "", 1),
            "{kind}"
        );
    }
    let ranking = fixture("../tests/specification/ranking.example.json");
    let outcome = wire(
        "ranking",
        ranking.replace("\"key\":\"seg|cls\"", "\"key\":\"cls|seg\""),
    );
    assert_eq!(
        outcome.errors,
        "line 1: partitions[1].key: \"cls|seg\", but the stages say \"seg|cls\"\n"
    );
}

#[test]
fn annotations_and_control_lines_are_documents_as_well() {
    let good = "true\nfalse\nnull\n{}\n\"true\"\n{\"slo_ms\":450,\"retry\":true}\n\"{\\\"slo_ms\\\":1e1}\"";
    let outcome = wire("annotation", good);
    assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""));
    assert_eq!(
        outcome.lines,
        [
            "{}",
            "false",
            "null",
            "{}",
            "{}",
            "{\"slo_ms\":450.0,\"retry\":true}",
            "{\"slo_ms\":10.0}"
        ]
    );
    let outcome = wire("annotation", "{\"slo\":1}\n{\"slo_ms\":\"fast\"}");
    let errors: Vec<_> = outcome.errors.lines().collect();
    assert!(
        errors[0].starts_with("line 1: annotation ffs has the unknown key \"slo\": expected slo_ms"),
        "{errors:?}"
    );
    assert_eq!(
        errors[1],
        "line 2: annotation ffs: slo_ms is \"fast\": expected a number greater than 0"
    );

    let lines = [
        r#"{"type":"hello","lane":"s0l1","epoch":1,"token":"t"}"#,
        r#"{"type":"loaded","load_ms":1.5,"resident_bytes":12}"#,
        r#"{"type":"state","epoch":1,"reached":"run"}"#,
        r#"{"type":"state","schema":"ffs.state/1","epoch":2,"desired":"drain","deadline_ms":0.5}"#,
        r#"{"type":"turn","want":true,"turn":3}"#,
        r#"{"type":"turn","turn":3}"#,
        r#"{"type":"failed","sentence":"no","at":"app.py:3"}"#,
    ];
    let outcome = wire("control", lines.join("\n"));
    assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""));
    assert_eq!(outcome.lines, lines);
    let outcome = wire("control", r#"{"type":"hello","lane":"x"}"#);
    assert!(
        outcome.errors.contains("as a lane's: ") && outcome.errors.contains("lane id \"x\" is not valid"),
        "{}",
        outcome.errors
    );
}

#[test]
fn a_line_that_does_not_decode_is_reported_with_its_number_and_the_others_come_out() {
    let ping = fixture("wire/health/ping-1.json");
    let outcome = wire(
        "ping",
        format!("{ping}\n\nnot json\n  \r\n{ping}\r\n{{\"name\":{{}}}}\n{ping}"),
    );
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.lines, [ping.as_str(), ping.as_str(), ping.as_str()]);
    let errors: Vec<_> = outcome.errors.lines().collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("line 3: expected"), "{errors:?}");
    assert!(errors[1].starts_with("line 6: name: missing field"), "{errors:?}");
}

#[test]
fn a_member_that_would_be_dropped_is_named_with_its_place() {
    let ack = fixture("wire/completed0/py-cold.completion.json");
    let outcome = wire(
        "ack",
        ack.replace("\"tags\":[]", "\"tags\":[],\"colour\":\"red\""),
    );
    assert_eq!((outcome.code, outcome.lines.len()), (1, 0));
    assert_eq!(
        outcome.errors,
        "line 1: instance: member \"colour\" is not known and would be dropped\n"
    );

    let both = ack.replace(
        "\"instance\":",
        "\"response\":\"2c2472dc7f9149dda472dc7f9159ddc6\",\"instance\":",
    );
    let outcome = wire("ack", both);
    assert_eq!(
        outcome.errors,
        "line 1: the whole text: member \"activationId\" is not known and would be dropped\n"
    );
}

#[test]
fn a_value_that_would_change_is_named_with_its_place() {
    let message = fixture("wire/invoker0/py-cold.json");
    let start = message.find("\"transid\":[").expect("a transaction id");
    let end = start + message[start..].find(']').expect("its end") + 1;
    let outcome = wire(
        "activation",
        message.replace(&message[start..end], "\"transid\":\"abc\""),
    );
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .errors
            .starts_with("line 1: transid: \"abc\" would become [\"sid_unknown\","),
        "{}",
        outcome.errors
    );
}

#[test]
fn other_spellings_of_the_same_are_faithful() {
    let message = fixture("wire/invoker0/py-cold.json");
    let action = "{\"name\":\"hellopy\",\"path\":\"guest\",\"version\":\"0.0.2\"}";
    assert!(message.contains(action), "{message}");
    for other in [
        message.replace(action, "\"/guest/hellopy\""),
        message.replace(
            action,
            "{\"path\":\"/guest\",\"name\":\"hellopy\",\"version\":\"1.2\"}",
        ),
        message.replace(
            "\"limits\":{}",
            "\"limits\":{\"maxPayloadSize\":\"1m\",\"storeActivations\":null}",
        ),
        message.replace(
            "\"blocking\":true",
            "\"blocking\":true,\"cause\":null,\"traceContext\":null",
        ),
        message
            .replace("\"transid\":[", "\"transid\":[\"x\",1,false,[")
            .replace("],\"user\"", "]],\"user\""),
        message.replace(
            "\"blocking\":true",
            "  \"blocking\" : true , \"traceContext\":{\"\\u0061\":\"b\"}",
        ),
    ] {
        assert_ne!(other, message);
        let outcome = wire("activation", &other);
        assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""), "{other}");
    }
    let ack = fixture("wire/completed0/py-cold.result.json");
    let start = ack.find("\"start\":").expect("a start") + "\"start\":".len();
    let iso = format!(
        "{}\"2026-11-22T02:37:49.500Z\"{}",
        &ack[..start],
        &ack[start + 13..]
    );
    let outcome = wire("ack", iso);
    assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""));
    assert!(
        outcome.lines[0].contains("\"start\":1795315069500"),
        "{}",
        outcome.lines[0]
    );
}

#[test]
fn a_number_spelled_otherwise_is_the_same_and_one_that_would_be_rounded_is_not() {
    let state = fixture("../tests/specification/state.example.json");
    for same in ["3e4", "30000.000", "0.3E+5", "300000e-1"] {
        let outcome = wire("state", state.replace("30000", same));
        assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""), "{same}");
    }
    let outcome = wire("state", state.replace("30000", "0.1234567890123456789"));
    assert_eq!(outcome.code, 1);
    let expected = "line 1: deadline_ms: 0.1234567890123456789 would become 0.12345678901234568\n";
    assert_eq!(outcome.errors, expected);
}

#[test]
fn kinds_and_activation_ids_may_be_spelled_otherwise() {
    let action = fixture("db/whisks/guest__hellopy.json");
    let outcome = wire(
        "action",
        action.replace("\"kind\":\"python:3\"", "\"kind\":\" Python:3\""),
    );
    assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""));
    assert!(
        outcome.lines[0].contains("\"kind\":\"python:3\""),
        "{}",
        outcome.lines[0]
    );

    let ack = fixture("wire/completed0/py-cold.completion.json");
    let number = ack.replace(
        "\"2c2472dc7f9149dda472dc7f9159ddc6\"",
        "12345678901234567890123456789012",
    );
    assert_ne!(number, ack);
    let outcome = wire("ack", number);
    assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""));
    assert!(
        outcome.lines[0].contains("\"12345678901234567890123456789012\""),
        "{}",
        outcome.lines[0]
    );
}

#[test]
fn numbers_keep_every_digit() {
    let content = r#"{"n":12345678901234567890123456789,"x":1e400,"y":0.1000000000000000000001,"z":1E+9}"#;
    let message = fixture("wire/invoker0/py-no-params.json");
    let with = message.replace("\"content\":{}", &format!("\"content\":{content}"));
    assert!(with.contains(content), "{message}");
    let outcome = wire("activation", with);
    assert_eq!((outcome.code, outcome.errors.as_str()), (0, ""));
    assert!(outcome.lines[0].contains(content), "{}", outcome.lines[0]);
}

#[test]
fn a_package_is_not_an_action() {
    let outcome = wire("action", fixture("db/whisks/guest__pkg.json"));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .errors
            .starts_with("line 1: entityType: unknown variant `package`, expected `action`"),
        "{}",
        outcome.errors
    );
}

#[test]
fn lines_of_megabytes_are_read_and_bytes_that_are_not_text_are_an_error() {
    let record = fixture("db/activations/py-warm-blocking.json");
    let big = record.replace("\"_rev\":\"", &format!("\"_rev\":\"{}", "é".repeat(1_500_000)));
    let outcome = wire(
        "record",
        [big.as_bytes(), b"\n\xff\xfe\n", record.as_bytes()].concat(),
    );
    assert_eq!(
        (outcome.code, outcome.errors.as_str()),
        (1, "line 2: not UTF-8 from byte 1 on\n")
    );
    assert_eq!(
        outcome.lines.iter().map(String::len).collect::<Vec<_>>(),
        [big.len(), record.len()]
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let ping = fixture("wire/health/ping-1.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
        .args(["wire", "ping"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("a pipe");
    // The program may be gone before it has read all of them.
    let _ = stdin.write_all(format!("{ping}\n").repeat(10_000).as_bytes());
    drop(stdin);
    let outcome = child.wait_with_output().expect("the program ends");
    assert_eq!(
        (
            outcome.status.code(),
            String::from_utf8_lossy(&outcome.stderr).as_ref()
        ),
        (Some(0), "")
    );
}

#[test]
fn an_unknown_kind_is_refused_with_the_kinds_there_are() {
    let outcome = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
        .args(["wire", "nothing"])
        .output()
        .expect("runs");
    let errors = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert_eq!(outcome.status.code(), Some(2));
    assert!(
        errors.contains("activation") && errors.contains("annotation"),
        "{errors}"
    );
}
