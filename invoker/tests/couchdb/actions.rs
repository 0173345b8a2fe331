//! From an action's document to what its container gets, or to the error that its caller gets.

use crate::bench::{Bench, error, message, told};
use crate::couch::Couch;
use crate::stub::{Asked, Reply, Stub};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ffs_invoker::store::{Database, Store};
use proto::whisk::activation::Activation;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const NOT_FOUND: &str = "Action could not be found or may have been deleted.";
const NOT_COMPATIBLE: &str = "Action version is not compatible and cannot be invoked.";
const NOT_FETCHED: &str = "Action could not be fetched.";

/// The document of `guest/<name>`, with members changed; null takes one out.
fn action(name: &str, changes: &[(&str, Value)]) -> Value {
    let mut action = json!({
        "entityType": "action", "namespace": "guest", "name": name, "version": "0.0.1", "publish": false,
        "updated": 1795315012507_u64, "parameters": [], "annotations": [],
        "exec": {"kind": "nodejs:20", "code": "function main() {}", "binary": false},
        "limits": {"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1},
    });
    for (pointer, value) in changes {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = action.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(parent.shift_remove(member)),
            value => drop(parent.insert(member.to_owned(), value.clone())),
        }
    }
    action
}

fn attached(name: &str) -> Value {
    json!({"attachmentName": name, "attachmentType": "text/plain"})
}

/// A real database with an invoker in front.
struct World {
    store: Arc<dyn Store>,
    bench: Bench,
}

impl World {
    async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(Couch::shared().store().await);
        let bench = Bench::start_with(Arc::clone(&store), |_| {}).await;
        Self { store, bench }
    }

    /// Makes or replaces `guest/<name>`, and returns its revision.
    async fn put(&self, name: &str, before: Option<&str>, changes: &[(&str, Value)]) -> String {
        let document = action(name, changes);
        let id = format!("guest/{name}");
        self.store
            .put(Database::Entity, &id, before, &document)
            .await
            .unwrap()
    }

    async fn attach(&self, name: &str, revision: &str, attachment: &str, bytes: &[u8]) -> String {
        let id = format!("guest/{name}");
        let put = self.store.put_attachment(
            Database::Entity,
            &id,
            revision,
            attachment,
            "text/plain",
            bytes.to_vec(),
        );
        put.await.unwrap()
    }

    async fn run(&mut self, name: &str, revision: &str) -> Activation {
        let sent = message(&format!("guest/{name}"), Some(revision), json!({}));
        self.bench.run(&sent).await
    }

    /// What the container of a new action of these changes gets.
    async fn init(&mut self, name: &str, changes: &[(&str, Value)]) -> Value {
        let revision = self.put(name, None, changes).await;
        told(&self.run(name, &revision).await)["init"].clone()
    }
}

/// D-02: a message with an older revision runs the newest code, and the record says which version that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_revision_runs_the_newest_code() {
    let mut world = World::new().await;
    let first = world.put("a", None, &[("/exec/code", json!("one"))]).await;
    let second = [("/exec/code", json!("two")), ("/version", json!("0.0.2"))];
    let second = world.put("a", Some(&first), &second).await;
    for revision in [&first, &second, &first] {
        let sent = message("guest/a", Some(revision), json!({}));
        let activation = world.bench.run(&sent).await;
        assert_eq!(told(&activation)["init"]["code"], "two");
        assert_eq!(world.bench.record(&sent).await.body["version"], "0.0.2");
    }
    world.bench.stop().await;
}

/// D-02: it is asked for with its revision, then once more without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_revision_is_followed_by_a_second_read_without_one() {
    let stub = stub_with(HashMap::from([("guest%2Fa", Reply200(action("a", &[])))])).await;
    let mut bench = Bench::start(stub.store().await).await;
    told(&bench.run(&message("guest/a", Some("1-a"), json!({}))).await);
    let asked = of_documents(&stub);
    let revisions: Vec<Option<&str>> = asked.iter().map(|asked| asked.header("if-match")).collect();
    assert_eq!(revisions, [Some("\"1-a\""), None]);
    bench.stop().await;
}

/// D-03, D-07: one combined answer, a record of kind `unknown`, no container, and room for the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_cannot_be_read_is_answered_and_recorded_and_starts_nothing() {
    let stub = Stub::start(|asked| match asked.path.rsplit("%2F").next().unwrap() {
        "missing" => Reply::not_found(),
        "broken" => Reply::Nothing,
        "garbage" => Reply::Text(500, "<html>".into()),
        "unread" => Reply::Text(200, "{\"a\":".into()),
        _ => Reply::written(asked),
    })
    .await;
    let mut bench = Bench::start(stub.store().await).await;
    for (name, status, text) in [
        ("missing", 1, NOT_FOUND),
        ("broken", 3, NOT_FETCHED),
        ("garbage", 3, NOT_FETCHED),
        ("unread", 3, NOT_FETCHED),
    ] {
        // More than there is room for at once.
        for _ in 0..20 {
            let activation = bench
                .run(&message(&format!("guest/{name}"), Some("1-a"), json!({})))
                .await;
            assert_eq!(error(&activation), (status, text.to_owned()), "{name}");
            assert_eq!(activation.annotations.get("kind"), Some(&json!("unknown")));
        }
    }
    assert_eq!(bench.engine.started.load(Ordering::Relaxed), 0);
    bench.stop().await;
    let records: Vec<Value> = stub
        .asked()
        .iter()
        .filter(|a| a.is_bulk())
        .flat_map(Asked::documents)
        .collect();
    assert_eq!(records.len(), 80);
}

/// D-05: readers of one revision share one request, later ones need none; without a revision each reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_is_read_once_and_no_revision_each_time() {
    let stub = stub_with(HashMap::from([("guest%2Fa", Reply200(action("a", &[])))])).await;
    let mut bench = Bench::start(stub.store().await).await;
    for _ in 0..2 {
        for _ in 0..50 {
            bench
                .send(&message("guest/a", Some("2-b"), json!({"answer": {}})))
                .await;
        }
        let mut freed = 0;
        while freed < 50 {
            freed += usize::from(!matches!(
                bench.ack().await,
                proto::whisk::acknowledgement::Acknowledgement::Result(_)
            ));
        }
        assert_eq!(of_documents(&stub).len(), 1);
    }
    for n in 0..3 {
        bench.run(&message("guest/a", None, json!({"answer": {}}))).await;
        assert_eq!(of_documents(&stub).len(), 2 + n);
    }
    bench.stop().await;
}

/// D-05: a failed read is not remembered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_read_is_tried_again_by_the_next_message() {
    let answers = Mutex::new(vec![
        Reply::json(200, with_head("guest/a", &action("a", &[]))),
        Reply::json(500, json!({})),
    ]);
    let stub = Stub::start(move |asked| match asked.path.contains("_design") {
        true => Reply::not_found(),
        false if asked.is_bulk() => Reply::written(asked),
        false => answers.lock().unwrap().pop().unwrap(),
    })
    .await;
    let mut bench = Bench::start(stub.store().await).await;
    let failed = bench.run(&message("guest/a", Some("2-b"), json!({}))).await;
    assert_eq!(error(&failed), (3, NOT_FETCHED.to_owned()));
    told(&bench.run(&message("guest/a", Some("2-b"), json!({}))).await);
    bench.stop().await;
}

/// D-06: an update is seen at once; a deleted action runs as long as its old revision is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_seen_at_once_and_a_deleted_action_lives_on_in_the_cache() {
    let mut world = World::new().await;
    let first = world.put("a", None, &[("/exec/code", json!("one"))]).await;
    assert_eq!(told(&world.run("a", &first).await)["init"]["code"], "one");
    let second = world
        .put("a", Some(&first), &[("/exec/code", json!("two"))])
        .await;
    assert_eq!(told(&world.run("a", &second).await)["init"]["code"], "two");

    world
        .store
        .delete(Database::Entity, "guest/a", &second)
        .await
        .unwrap();

    assert_eq!(told(&world.run("a", &second).await)["init"]["code"], "two");
    let other = world.run("a", "3-0123456789abcdef0123456789abcdef").await;
    assert_eq!(error(&other), (1, NOT_FOUND.to_owned()));
    world.bench.stop().await;
}

/// D-04, D-11, D-13, D-17, D-19, D-30, D-31: what is no action that can be run here says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_no_readable_action_is_not_compatible() {
    let mut world = World::new().await;
    let defects: [&[(&str, Value)]; 17] = [
        &[("/entityType", json!("rule"))],
        &[("/entityType", json!("package"))],
        &[("/entityType", json!("trigger"))],
        &[("/publish", Value::Null)],
        &[("/version", json!("zero"))],
        &[("/name", json!("-x"))],
        &[("/annotations", Value::Null)],
        &[("/parameters", json!({}))],
        &[("/limits/memory", Value::Null)],
        &[("/limits/timeout", json!("a minute"))],
        &[("/exec", Value::Null)],
        &[("/exec/code", Value::Null)],
        &[("/exec/kind", json!("cobol:1"))],
        &[("/exec", json!({"kind": "java:8", "code": "x"}))],
        &[("/exec", json!({"kind": "blackbox", "image": "a b"}))],
        &[("/exec", json!({"kind": "blackbox"}))],
        &[("/namespace", json!(7))],
    ];
    for (n, changes) in defects.into_iter().enumerate() {
        let name = format!("defect{n}");
        let revision = world.put(&name, None, changes).await;
        let activation = world.run(&name, &revision).await;
        assert_eq!(error(&activation), (3, NOT_COMPATIBLE.to_owned()), "{changes:?}");
        assert!(activation.is_system_error());
    }
    let exec = [("/exec/code", attached("codefile"))];
    let mut revision = world.put("two", None, &exec).await;
    for name in ["codefile", "other"] {
        revision = world.attach("two", &revision, name, b"x").await;
    }
    assert_eq!(
        error(&world.run("two", &revision).await),
        (3, NOT_COMPATIBLE.to_owned())
    );
    assert_eq!(world.bench.engine.started.load(Ordering::Relaxed), 0);
    world.bench.stop().await;
}

/// D-10, D-11, D-14, D-15, D-16, D-16a, D-16b, D-16c, D-16d, D-18, D-26, D-28, D-29, D-32: each kind of action
/// runs, and a sequence does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_action_reaches_its_container() {
    let mut world = World::new().await;
    let init = world.init("inline", &[]).await;
    assert_eq!(
        (&init["code"], &init["binary"], &init["main"], &init["name"]),
        (
            &json!("function main() {}"),
            &json!(false),
            &json!("main"),
            &json!("inline")
        )
    );
    let init = world
        .init(
            "bare",
            &[
                ("/entityType", Value::Null),
                ("/updated", Value::Null),
                ("/exec/binary", Value::Null),
            ],
        )
        .await;
    assert_eq!(init["code"], "function main() {}");
    let base64 = json!({"kind": "python:3", "code": " YWJj\n", "binary": false, "main": "f.g"});
    let init = world.init("base64", &[("/exec", base64)]).await;
    assert_eq!((&init["binary"], &init["main"]), (&json!(true), &json!("f.g")));
    let old = json!({"kind": "java:8", "jar": "YWJj", "main": "A"});
    let init = world.init("old", &[("/exec", old)]).await;
    assert_eq!(
        (&init["code"], &init["binary"], &init["main"]),
        (&json!("YWJj"), &json!(true), &json!("A"))
    );
    let any = json!([{"key": "o", "value": {"a": [null, 1.5]}}, {"key": "n", "value": null}, {"key": "provide-api-key", "value": false}]);
    let parameters =
        json!([{"key": "p", "value": 1, "init": true}, {"key": "q", "value": "x", "encryption": "aes-128"}]);
    let revision = world
        .put("any", None, &[("/annotations", any), ("/parameters", parameters)])
        .await;
    let run = told(&world.run("any", &revision).await)["run"].clone();
    assert_eq!(run.get("api_key"), None, "the annotation says so");
    assert_eq!(
        run["value"],
        json!({}),
        "the document's parameters are not merged again"
    );

    let image = json!({"kind": "blackbox", "image": "someone/image:1", "code": "#!/bin/sh", "binary": false});
    assert_eq!(
        world.init("blackbox", &[("/exec", image)]).await["code"],
        "#!/bin/sh"
    );
    for (name, code) in [("blank", json!(" ")), ("none", Value::Null)] {
        let mut exec = json!({"kind": "blackbox", "image": "someone/image:1", "binary": false});
        if !code.is_null() {
            exec["code"] = code;
        }
        let init = world.init(name, &[("/exec", exec)]).await;
        assert_eq!(init.get("code"), None, "{init}");
    }
    let revision = world
        .put("kind", None, &[("/exec/kind", json!(" Python:DEFAULT "))])
        .await;
    let activation = world.run("kind", &revision).await;
    assert_eq!(activation.annotations.get("kind"), Some(&json!("python:3")));

    let sequence = json!({"kind": "sequence", "components": ["/guest/inline"]});
    let revision = world.put("sequence", None, &[("/exec", sequence)]).await;
    assert_eq!(
        error(&world.run("sequence", &revision).await),
        (3, NOT_FETCHED.to_owned())
    );
    world.bench.stop().await;
}

/// D-12: an action in a package has it in its path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_in_a_package_has_it_in_its_path() {
    let mut world = World::new().await;
    let document = action("classify", &[("/namespace", json!("guest/img"))]);
    let put = world
        .store
        .put(Database::Entity, "guest/img/classify", None, &document);
    let revision = put.await.unwrap();
    let sent = message("guest/img/classify", Some(&revision), json!({}));
    let activation = world.bench.run(&sent).await;
    assert_eq!(
        activation.annotations.get("path"),
        Some(&json!("guest/img/classify"))
    );
    assert_eq!(told(&activation)["init"]["name"], "classify");
    world.bench.stop().await;
}

/// D-20, D-21, D-25, D-26, D-27: attached code comes as text, or as one line of base64, or was not found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attached_code_reaches_the_container() {
    let mut world = World::new().await;
    let bytes: Vec<u8> = (0..=255).collect();
    let uuid = "2d393437-bfee-4fc9-b934-37bfee9fc9ff";
    for (name, code, binary, attachment, content, expected) in [
        (
            "text",
            format!("couch:{uuid}"),
            json!(false),
            uuid,
            "é\n".as_bytes(),
            "é\n".to_owned(),
        ),
        (
            "undefined",
            "codefile".to_owned(),
            Value::Null,
            "codefile",
            b"YWJj",
            "YWJj".to_owned(),
        ),
        (
            "zip",
            format!("couch:{uuid}"),
            json!(true),
            uuid,
            &bytes,
            STANDARD.encode(&bytes),
        ),
        (
            "jar",
            "jarfile".to_owned(),
            json!(true),
            "jarfile",
            b"PK",
            "UEs=".to_owned(),
        ),
    ] {
        let changes = [("/exec/code", attached(&code)), ("/exec/binary", binary.clone())];
        let revision = world.put(name, None, &changes).await;
        let revision = world.attach(name, &revision, attachment, content).await;
        let init = told(&world.run(name, &revision).await)["init"].clone();
        assert_eq!(init["code"], expected, "{name}");
        assert_eq!(init["binary"], json!(binary == json!(true)), "{name}");
    }
    let revision = world
        .put(
            "lost",
            None,
            &[("/exec/code", attached(&format!("couch:{uuid}")))],
        )
        .await;
    assert_eq!(
        error(&world.run("lost", &revision).await),
        (1, NOT_FOUND.to_owned())
    );
    world.bench.stop().await;
}

/// D-23, D-24: another attachment than the one named, and a store that is not ours, could not be fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_is_elsewhere_could_not_be_fetched() {
    let mut world = World::new().await;
    for scheme in ["s3", "az"] {
        let changes = [("/exec/code", attached(&format!("{scheme}:bucket/key")))];
        let revision = world.put(scheme, None, &changes).await;
        assert_eq!(
            error(&world.run(scheme, &revision).await),
            (3, NOT_FETCHED.to_owned())
        );
    }
    let revision = world
        .put("other", None, &[("/exec/code", attached("couch:1-2"))])
        .await;
    let revision = world.attach("other", &revision, "2-3", b"x").await;
    assert_eq!(
        error(&world.run("other", &revision).await),
        (3, NOT_FETCHED.to_owned())
    );
    world.bench.stop().await;
}

/// D-22: content in the name itself takes no request, padded or not, with the characters of URLs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_in_the_name_takes_no_request() {
    let code = "é?>~ÿÿ 1";
    let padded = URL_SAFE.encode(code);
    assert!(padded.contains('-') || padded.contains('_'), "{padded}");
    let bare = padded.trim_end_matches('=').to_owned();
    assert_ne!(bare, padded);
    let document = |text: &str| action("a", &[("/exec/code", attached(&format!("mem:{text}")))]);
    let stub = stub_with(HashMap::from([
        ("guest%2Fpadded", Reply200(document(&padded))),
        ("guest%2Fbare", Reply200(document(&bare))),
        ("guest%2Fwrong", Reply200(document("*"))),
    ]))
    .await;
    let mut bench = Bench::start(stub.store().await).await;
    for name in ["padded", "bare"] {
        let activation = bench
            .run(&message(&format!("guest/{name}"), Some("2-b"), json!({})))
            .await;
        assert_eq!(told(&activation)["init"]["code"], code);
    }
    let wrong = bench.run(&message("guest/wrong", Some("2-b"), json!({}))).await;
    assert_eq!(error(&wrong), (3, NOT_FETCHED.to_owned()));
    assert_eq!(of_documents(&stub).len(), 3);
    bench.stop().await;
}

/// D-17: gaps are filled with the standard, `instances` is of no interest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_in_the_limits_are_filled() {
    let mut world = World::new().await;
    let limits = json!({"timeout": 60000, "memory": 256, "instances": 3});
    let revision = world.put("a", None, &[("/limits", limits)]).await;
    let activation = world.run("a", &revision).await;
    let expected = json!({"concurrency": 1, "logs": 10, "memory": 256, "timeout": 60000});
    assert_eq!(activation.annotations.get("limits"), Some(&expected));
    world.bench.stop().await;
}

/// D-33, D-34: of several violated limits the first is told: time, memory, concurrency, logs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_violated_limit_is_told() {
    let mut world = World::new().await;
    let mut limits = json!({"timeout": 600_000, "memory": 4096, "logs": 100, "concurrency": 9});
    let mut before = None;
    for (member, right, text) in [
        ("timeout", 60_000, "duration"),
        ("memory", 256, "memory"),
        ("concurrency", 1, "concurrency"),
        ("logs", 10, "log"),
    ] {
        let revision = world
            .put("a", before.as_deref(), &[("/limits", limits.clone())])
            .await;
        let (status, said) = error(&world.run("a", &revision).await);
        assert_eq!(status, 1);
        assert!(said.to_lowercase().contains(text), "{member}: {said}");
        limits[member] = json!(right);
        before = Some(revision);
    }
    let revision = world.put("a", before.as_deref(), &[("/limits", limits)]).await;
    told(&world.run("a", &revision).await);
    world.bench.stop().await;
}

struct Reply200(Value);

/// A stub that has these documents at revision `2-b`, and takes all records.
async fn stub_with(documents: HashMap<&'static str, Reply200>) -> Stub {
    Stub::start(move |asked| {
        if asked.is_bulk() {
            return Reply::written(asked);
        }
        match documents.get(asked.path.rsplit('/').next().unwrap()) {
            Some(Reply200(document)) => Reply::json(200, with_head("guest/a", document)),
            None => Reply::not_found(),
        }
    })
    .await
}

fn with_head(id: &str, document: &Value) -> Value {
    let mut document = document.clone();
    (document["_id"], document["_rev"]) = (json!(id), json!("2-b"));
    document
}

/// Requests for anything but records and the blacklist.
fn of_documents(stub: &Stub) -> Vec<Asked> {
    let mut asked = stub.asked();
    asked.retain(|asked| !asked.is_bulk() && !asked.path.contains("_design"));
    asked
}
