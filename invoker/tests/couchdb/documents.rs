//! What is asked of the database, and what becomes of what it answers.

use crate::couch::{Couch, named, settings};
use crate::stub::{Reply, Stub};
use ffs_invoker::store::couchdb::{CouchSettings, CouchStore};
use ffs_invoker::store::{Database, Error, Query, Store};
use proto::whisk::action::ActionDocument;
use serde_json::{Value, json};
use stand_in_controller::couch::{INVOKER, PASSWORD};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// D-01, D-02, D-21: one GET with an encoded single segment, Basic authentication, JSON, and the revision.
#[tokio::test]
async fn an_id_is_one_segment_and_the_revision_goes_along() {
    let stub = Stub::start(|asked| match asked.path.matches('/').count() {
        2 => Reply::json(200, json!({"_id": "x", "_rev": "2-b"})),
        _ => Reply::Bytes(b"code".to_vec()),
    })
    .await;
    let store = stub.store().await;
    for (id, path) in [
        ("guest/hello", "/whisk_whisks/guest%2Fhello"),
        ("guest/img/classify", "/whisk_whisks/guest%2Fimg%2Fclassify"),
        (
            "jane doe@example.org/p/a b",
            "/whisk_whisks/jane%20doe%40example.org%2Fp%2Fa%20b",
        ),
    ] {
        store
            .get(Database::Entity, id, Some("1-a"))
            .await
            .unwrap()
            .unwrap();
        let asked = stub.asked().pop().unwrap();
        assert_eq!((&*asked.method, &*asked.path), ("GET", path));
        assert_eq!(
            asked.header("authorization"),
            Some("Basic d2hpc2tfYWRtaW46c29tZV9wYXNzdzByZA==")
        );
        assert_eq!(asked.header("accept"), Some("application/json"));
        assert_eq!(asked.header("if-match"), Some("\"1-a\""));
    }
    store.get(Database::Entity, "guest/hello", None).await.unwrap();
    assert_eq!(stub.asked().pop().unwrap().header("if-match"), None);
    for name in ["2d393437-bfee", "codefile"] {
        let bytes = store
            .attachment(Database::Entity, "guest/zip", Some("1-a"), name)
            .await;
        assert_eq!(bytes.unwrap().unwrap(), b"code");
        let asked = stub.asked().pop().unwrap();
        assert_eq!(asked.path, format!("/whisk_whisks/guest%2Fzip/{name}"));
        assert_eq!(asked.header("if-match"), Some("\"1-a\""));
    }
}

/// D-03, D-27: what is missing is told from what could not be read, whatever the reason; what a document
/// holds is in no message.
#[tokio::test]
async fn a_missing_document_is_none_and_any_other_answer_an_error_that_says_why() {
    let stub = Stub::start(
        |asked| match asked.path.rsplit("%2F").next().unwrap().trim_end_matches("/x") {
            "missing" => Reply::not_found(),
            "broken" => Reply::Nothing,
            "silent" => Reply::Silence,
            "garbage" => Reply::Text(200, "{\"secret\": ".into()),
            "list" => Reply::json(200, json!(["secret"])),
            "headless" => Reply::json(200, json!({"secret": 1})),
            status => Reply::json(
                status.parse().unwrap(),
                json!({"error": "e", "reason": "because"}),
            ),
        },
    )
    .await;
    let store = stub.store().await;
    let hasty = CouchSettings {
        timeout: Duration::from_millis(300),
        ..stub.settings()
    };
    let hasty = CouchStore::open(hasty).await.unwrap();
    assert_eq!(
        store.get(Database::Entity, "guest/missing", None).await.unwrap(),
        None
    );
    let none = store
        .attachment(Database::Entity, "guest/missing", None, "x")
        .await;
    assert_eq!(none.unwrap(), None);
    let at = format!("CouchDB at http://127.0.0.1:{}", stub.port);
    for (name, expected) in [
        (
            "500",
            format!("{at} answered 500 Internal Server Error, {{\"error\":\"e\",\"reason\":\"because\"}}"),
        ),
        ("503", format!("{at} answered 503 ")),
        ("301", format!("{at} answered 301 ")),
        (
            "401",
            format!("{at} refuses user whisk_admin: 401 Unauthorized, "),
        ),
        ("403", format!("{at} refuses user whisk_admin: 403 Forbidden, ")),
        ("broken", format!("the connection to {at} broke")),
        ("silent", format!("{at} did not answer within 300ms")),
        ("garbage", format!("the answer of {at} cannot be read: ")),
        (
            "list",
            format!("the answer of {at} cannot be read: a document is an object"),
        ),
        (
            "headless",
            format!("the answer of {at} cannot be read: a document has an id and a revision"),
        ),
    ] {
        let asked = if name == "silent" { &hasty } else { &store };
        let error = asked.get(Database::Entity, &format!("guest/{name}"), None).await;
        let error = error.expect_err(name);
        assert_eq!(
            error.to_string(),
            format!("document guest/{name} could not be read")
        );
        assert!(!error.is_final(), "{name}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.starts_with(&expected), "{cause}");
        assert!(!cause.contains("secret"), "{cause}");
    }
}

/// D-03: nobody listens, or the name is nobody's.
#[tokio::test]
async fn a_database_that_is_away_keeps_nobody_from_starting_and_each_read_says_so() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let store = CouchStore::open(settings(port, named("whisk_"))).await.unwrap();
    let error = store.get(Database::Entity, "guest/a", None).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        format!("CouchDB at http://127.0.0.1:{port} cannot be reached")
    );
    let record = store.put(Database::Activation, "guest/1", None, &json!({})).await;
    assert!(!record.unwrap_err().is_final(), "it may be tried again");
}

/// P-46: settings that make no address say so.
#[tokio::test]
async fn a_protocol_that_is_none_is_refused() {
    let wrong = CouchSettings {
        protocol: "gopher".into(),
        ..settings(5984, named("whisk_"))
    };
    let error = CouchStore::open(wrong).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        "the settings of CouchDB make no address: gopher://127.0.0.1:5984"
    );
}

/// D-08: connections are kept, and there are never more than were allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_and_bounded() {
    let stub = Stub::start(|_| Reply::json(200, json!({"_id": "x", "_rev": "1-a"}))).await;
    let settings = CouchSettings {
        max_connections: 8,
        ..stub.settings()
    };
    let store = CouchStore::open(settings).await.unwrap();
    for _ in 0..3 {
        let reads = (0..100).map(|_| store.get(Database::Entity, "guest/a", None));
        for read in futures::future::join_all(reads).await {
            read.unwrap().unwrap();
        }
    }
    assert_eq!(stub.asked().len(), 300);
    // One more looks whether the databases are there.
    let (all, at_once) = (stub.connections(), stub.connections_at_once());
    // A new one may be on its way when an old one becomes free, and is kept too.
    assert!(
        all <= 100 && at_once <= 16,
        "{all} connections, {at_once} at once"
    );
}

/// A server of one document behind TLS, with a certificate for `127.0.0.1` that only its own file vouches for.
struct Secured {
    folder: tempfile::TempDir,
    node: std::process::Child,
    port: u16,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args([
                "-subj",
                "/CN=couch",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-days",
                "2",
            ])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(path("key"))
            .arg("-out")
            .arg(path("certificate"))
            .output()
            .expect("openssl can be started: Debian has it in the package openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = r#"
            const fs = require('fs');
            const [key, cert] = process.argv.slice(1, 3).map((file) => fs.readFileSync(file));
            const server = require('https').createServer({ key, cert }, (request, response) => {
                fs.writeFileSync(process.argv[3], request.headers.authorization);
                response.end('{"_id":"x","_rev":"1-a"}');
            });
            server.listen(0, '127.0.0.1', () => console.log(server.address().port));
            process.stdin.on('end', () => process.exit()).resume();
        "#;
        let mut node = Command::new("node")
            .args(["-e", server])
            .args([path("key"), path("certificate"), path("asked")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(node.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().parse().unwrap();
        Self { folder, node, port }
    }

    fn was_asked(&self) -> bool {
        self.folder.path().join("asked").exists()
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        drop(self.node.stdin.take());
        let _ = self.node.wait();
    }
}

async fn read_securely(port: u16) -> Result<(), String> {
    let https = CouchSettings {
        protocol: "https".into(),
        ..settings(port, named("whisk_"))
    };
    let store = CouchStore::open(https).await.unwrap();
    let Err(error) = store.get(Database::Entity, "guest/a", None).await else {
        return Ok(());
    };
    let mut error: &dyn std::error::Error = &error;
    let mut text = error.to_string();
    while let Some(source) = error.source() {
        text = format!("{text}: {source}");
        error = source;
    }
    Err(text)
}

/// D-08: a certificate that nobody vouches for ends the exchange before the password is sent.
#[tokio::test]
async fn https_asks_for_a_certificate_that_can_be_trusted() {
    let server = Secured::start();
    let refused = read_securely(server.port).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    assert!(!server.was_asked());
}

const TRUSTING: &str = "COUCH_TEST_HTTPS_PORT";

/// D-08: one that the operator's certificates vouch for is as good as any.
#[test]
fn https_trusts_the_certificates_that_the_operator_has_installed() {
    let server = Secured::start();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "documents::reads_over_https", "--nocapture"])
        .env("SSL_CERT_FILE", server.folder.path().join("certificate"))
        .env(TRUSTING, server.port.to_string())
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
    assert!(server.was_asked());
}

/// Nothing by itself: the child of the test above.
#[tokio::test]
async fn reads_over_https() {
    if let Ok(port) = std::env::var(TRUSTING) {
        read_securely(port.parse().unwrap()).await.unwrap();
    }
}

/// D-03, P-46: the line names the user and the database, and not the password.
#[tokio::test]
async fn wrong_credentials_are_said_to_be_wrong() {
    let couch = Couch::shared();
    let wrong = CouchSettings {
        password: "not the passw0rd".into(),
        ..couch.settings(named("whisk_"))
    };
    let store = CouchStore::open(wrong).await.unwrap();
    let error = store
        .get(Database::Entity, "guest/hello", None)
        .await
        .unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("refuses user whisk_admin: 401 Unauthorized")
            && cause.contains("Name or password is incorrect."),
        "{cause}"
    );
    assert!(!format!("{error:?} {store:?}").contains("not the passw0rd"));
    let written = store.put(Database::Activation, "guest/1", None, &json!({})).await;
    assert!(!written.unwrap_err().is_final(), "the operator may change that");
}

/// D-55: reading subjects and entities and writing activations is all that an invoker may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoker_needs_no_more_rights_than_it_is_given() {
    let couch = Couch::shared();
    let databases = couch.databases_called("rights_");
    let admin = CouchStore::open(couch.settings(databases.clone())).await.unwrap();
    admin
        .put(Database::Entity, "guest/hello", None, &json!({"n": 1}))
        .await
        .unwrap();
    let invoker = CouchSettings {
        username: INVOKER.into(),
        password: PASSWORD.into(),
        ..couch.settings(databases)
    };
    let store = CouchStore::open(invoker).await.unwrap();
    store
        .get(Database::Entity, "guest/hello", None)
        .await
        .unwrap()
        .unwrap();
    store.blocked_namespaces().await.unwrap();
    store
        .put(Database::Activation, "guest/1", None, &json!({"n": 1}))
        .await
        .unwrap();
    let refused = store
        .put(Database::Entity, "guest/other", None, &json!({}))
        .await
        .unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("refuses user invoker: 403 Forbidden"), "{cause}");
}

/// D-03: reads fail while it is away, and go on with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_stopped_and_started_is_used_again() {
    let mut couch = Couch::start();
    let store = couch.store().await;
    store
        .put(Database::Entity, "guest/a", None, &json!({"n": 1}))
        .await
        .unwrap();
    store
        .put(Database::Activation, "guest/1", None, &json!({"n": 1}))
        .await
        .unwrap();

    couch.stop();

    let read = store.get(Database::Entity, "guest/a", None).await.unwrap_err();
    let written = store
        .put(Database::Activation, "guest/2", None, &json!({"n": 2}))
        .await
        .unwrap_err();
    assert!(
        matches!(
            read,
            Error::Failed {
                operation: "read",
                ..
            }
        ),
        "{read:?}"
    );
    assert!(!read.is_final() && !written.is_final());

    couch.go_on().unwrap();

    store
        .get(Database::Entity, "guest/a", None)
        .await
        .unwrap()
        .unwrap();
    store
        .put(Database::Activation, "guest/2", None, &json!({"n": 2}))
        .await
        .unwrap();
    let again = store
        .put(Database::Activation, "guest/1", None, &json!({"n": 3}))
        .await;
    assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
}

/// D-10, D-12, D-14, D-16, D-18, D-20, D-40: what a real controller and invoker wrote is read as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_documents_come_through_a_real_server() {
    let store = Couch::shared().store().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/fixtures/db");
    let mut actions = 0;
    for (database, part) in [
        (Database::Entity, "whisks"),
        (Database::Activation, "activations"),
    ] {
        for (id, mut recorded) in recorded(&folder.join(part)) {
            let members = recorded.as_object_mut().unwrap();
            members.shift_remove("_rev");
            members.shift_remove("_id");
            let attachments = members.shift_remove("_attachments");
            let mut revision = store.put(database, &id, None, &recorded).await.unwrap();
            for (name, stub) in attachments
                .as_ref()
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                let file = folder
                    .join(part)
                    .join(format!("{}.attachment.{name}", id.replace('/', "__")));
                let kind = stub["content_type"].as_str().unwrap();
                let bytes = std::fs::read(file).unwrap();
                let put = store.put_attachment(database, &id, &revision, name, kind, bytes.clone());
                revision = put.await.unwrap();
                let read = store
                    .attachment(database, &id, Some(&revision), name)
                    .await
                    .unwrap();
                assert!(read == Some(bytes), "{id}/{name}");
            }
            let mut read = store.get(database, &id, Some(&revision)).await.unwrap().unwrap();
            assert_eq!((&read.id, &read.revision), (&id, &revision));
            let stubs = read.body.as_object_mut().unwrap().shift_remove("_attachments");
            assert_eq!(stubs.is_some(), attachments.is_some(), "{id}");
            assert_eq!(read.body, recorded, "{id}");
            if read.body["entityType"] == "action" {
                read.body["_id"] = json!(id);
                read.body["_attachments"] = stubs.unwrap_or_else(|| json!({}));
                let action: ActionDocument = serde_json::from_value(read.body).unwrap();
                assert_eq!(action.qualified_name().to_string(), id);
                actions += 1;
            }
        }
    }
    assert!(actions > 40, "{actions}");
}

/// D-41: records are listed by what they were called as, newest first, with the duration that they say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_activations_are_listed_as_wsk_lists_them() {
    let store = Couch::shared().store().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/fixtures/db/activations");
    let all = recorded(&folder);
    for (id, record) in &all {
        let mut body = record.clone();
        body.as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with('_'));
        store.put(Database::Activation, id, None, &body).await.unwrap();
    }
    let query = Query {
        namespace: "guest".into(),
        limit: 1000,
        ..Query::default()
    };
    let mut starts: Vec<i64> = all
        .iter()
        .filter(|(_, record)| record["namespace"] == "guest")
        .map(|(_, record)| record["start"].as_i64().unwrap())
        .collect();
    starts.sort_by_key(|start| std::cmp::Reverse(*start));
    let listed = store.list(Database::Activation, &query).await.unwrap();
    let listed_starts: Vec<i64> = listed.iter().map(|d| d.body["start"].as_i64().unwrap()).collect();
    assert_eq!(listed_starts, starts);
    for document in &listed {
        let record = &all.iter().find(|(id, _)| *id == document.id).unwrap().1;
        let annotations = record["annotations"].as_array().unwrap();
        // The controller writes those of sequences, which take less than they last, and of triggers,
        // which never end.
        let by_controller = record["end"] == 0 || annotations.iter().any(|a| a["value"] == "sequence");
        if !by_controller {
            assert_eq!(document.body["duration"], record["duration"], "{}", document.id);
            assert_eq!(
                document.body["response"]["statusCode"],
                record["response"]["statusCode"]
            );
        }
    }
    assert_eq!(
        store.count(Database::Activation, &query).await.unwrap(),
        starts.len()
    );
    for (name, expected) in [
        ("hellopy", "guest/hellopy"),
        ("pkg/echo", "guest/pkg/echo"),
        ("bound/echo", "guest/pkg/echo"),
    ] {
        let named = Query {
            name: Some(name.into()),
            docs: true,
            ..query.clone()
        };
        let found = store.list(Database::Activation, &named).await.unwrap();
        assert!(!found.is_empty(), "{name}");
        for document in found {
            let annotations = document.body["annotations"].as_array().unwrap().clone();
            let path = annotations.iter().find(|a| a["key"] == "path").unwrap();
            assert_eq!(path["value"], expected);
            let bound = annotations.iter().any(|a| a["key"] == "binding");
            assert_eq!(bound, name.starts_with("bound"), "{}", document.id);
        }
    }
}

/// Id and document of each file of a folder.
fn recorded(folder: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    let read = |file: &PathBuf| {
        let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        (document["_id"].as_str().unwrap().to_owned(), document)
    };
    files.iter().map(read).collect()
}
