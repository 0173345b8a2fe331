//! The contract of [`Store`], as tests that every implementation passes; run by `tests/store.rs`.

use ffs_invoker::store::{Database, Document, Error, Query, Store};
use serde_json::{Value, json};

/// One test per law; `$store` gives a store of its own, and something that lives as long as it is used.
macro_rules! store_conforms {
    ($name:ident, $store:expr, [$($law:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    let (store, _alive) = $store.await;
                    conformance::$law(&store).await;
                    Store::close(&store, std::time::Duration::from_secs(60)).await;
                }
            )*
        }
    };
    ($name:ident, $store:expr) => {
        store_conforms!($name, $store, [
            a_document_is_read_as_it_was_written,
            ids_may_hold_slashes_blanks_and_any_letters,
            a_document_is_changed_only_from_its_current_revision,
            of_many_writers_at_once_one_wins,
            what_is_deleted_is_gone_and_comes_back_with_a_new_revision,
            an_attachment_belongs_to_its_document,
            an_attachment_goes_when_its_stub_does,
            activations_are_listed_newest_first,
            activations_are_listed_without_logs_and_result_unless_they_are_asked_for,
            activations_are_listed_by_the_name_they_were_called_by,
            entities_are_listed_by_kind_and_package_newest_first,
            a_changed_entity_is_listed_once_and_a_deleted_one_not_at_all,
            a_subject_is_found_by_its_namespace_and_by_its_uuid,
        ]);
    };
}

pub(crate) async fn a_document_is_read_as_it_was_written(store: &dyn Store) {
    let body = json!({"entityType": "action", "z": [1, -2.5, "é😀", null, {"b": true, "a": {}}], "a": 9_007_199_254_740_991_u64});
    assert_eq!(
        store.get(Database::Entity, "guest/hello", None).await.unwrap(),
        None
    );

    let revision = store
        .put(Database::Entity, "guest/hello", None, &body)
        .await
        .unwrap();

    let hash = revision.strip_prefix("1-").expect("the first generation");
    assert!(
        hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
        "{revision}"
    );
    let expected = Document {
        id: "guest/hello".into(),
        revision,
        body,
    };
    for asked in [None, Some(&*expected.revision), Some("7-stale")] {
        let read = store.get(Database::Entity, "guest/hello", asked).await.unwrap();
        assert_eq!(read.as_ref(), Some(&expected));
    }
    assert_eq!(
        store
            .get(Database::Activation, "guest/hello", None)
            .await
            .unwrap(),
        None
    );
}

pub(crate) async fn ids_may_hold_slashes_blanks_and_any_letters(store: &dyn Store) {
    for id in [
        "guest/pkg/hello",
        "jane doe@example.org/a.b-c&d",
        "guest/käse",
        "a%2Fb",
        "a+b?c#d",
    ] {
        store
            .put(Database::Entity, id, None, &json!({"id": id}))
            .await
            .unwrap();
        let read = store
            .get(Database::Entity, id, None)
            .await
            .unwrap()
            .expect("it was written");
        assert_eq!((read.id.as_str(), read.body), (id, json!({"id": id})));
    }
}

pub(crate) async fn a_document_is_changed_only_from_its_current_revision(store: &dyn Store) {
    let first = put(store, "guest/a", None, 1).await.unwrap();
    conflict(put(store, "guest/a", None, 2).await);
    conflict(put(store, "guest/a", Some("1-00000000000000000000000000000000"), 2).await);
    conflict(put(store, "guest/missing", Some(&first), 2).await);

    let second = put(store, "guest/a", Some(&first), 2).await.unwrap();

    assert!(second.starts_with("2-"), "{second}");
    conflict(put(store, "guest/a", Some(&first), 3).await);
    let read = store
        .get(Database::Entity, "guest/a", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((read.revision, read.body), (second, json!({"n": 2})));
}

pub(crate) async fn of_many_writers_at_once_one_wins(store: &dyn Store) {
    let first = put(store, "guest/a", None, 0).await.unwrap();
    let writers = (1..=20).map(|n| put(store, "guest/a", Some(&first), n));
    let outcomes = futures::future::join_all(writers).await;
    let winners: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
    let read = store
        .get(Database::Entity, "guest/a", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(winners, [read.revision]);
}

pub(crate) async fn what_is_deleted_is_gone_and_comes_back_with_a_new_revision(store: &dyn Store) {
    let first = put(store, "guest/a", None, 1).await.unwrap();
    let stale = store
        .delete(Database::Entity, "guest/a", "1-00000000000000000000000000000000")
        .await;
    conflict(stale.map(|()| String::new()));

    store.delete(Database::Entity, "guest/a", &first).await.unwrap();

    assert_eq!(store.get(Database::Entity, "guest/a", None).await.unwrap(), None);
    store.delete(Database::Entity, "guest/a", &first).await.unwrap();
    store
        .delete(Database::Entity, "guest/never", &first)
        .await
        .unwrap();
    let again = put(store, "guest/a", None, 1).await.unwrap();
    assert!(!again.starts_with("1-"), "{again} must not look like {first}");
}

pub(crate) async fn an_attachment_belongs_to_its_document(store: &dyn Store) {
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let first = put(store, "guest/zip", None, 1).await.unwrap();
    let attach = |revision: String, bytes: Vec<u8>| async move {
        let kind = "application/octet-stream";
        store
            .put_attachment(Database::Entity, "guest/zip", &revision, "code", kind, bytes)
            .await
    };
    assert_eq!(
        store
            .attachment(Database::Entity, "guest/zip", None, "code")
            .await
            .unwrap(),
        None
    );

    let second = attach(first.clone(), bytes.clone()).await.unwrap();

    assert!(second.starts_with("2-"), "{second}");
    conflict(attach(first, bytes.clone()).await);
    let read = store
        .attachment(Database::Entity, "guest/zip", None, "code")
        .await
        .unwrap();
    assert!(read == Some(bytes), "the bytes come back");
    let document = store
        .get(Database::Entity, "guest/zip", None)
        .await
        .unwrap()
        .unwrap();
    let stub = &document.body["_attachments"]["code"];
    assert_eq!(document.revision, second);
    assert_eq!(document.body["n"], 1);
    assert_eq!(stub["content_type"], "application/octet-stream");
    assert_eq!(
        (&stub["length"], &stub["revpos"], &stub["stub"]),
        (&json!(3_000_000), &json!(2), &json!(true))
    );

    store
        .delete(Database::Entity, "guest/zip", &second)
        .await
        .unwrap();
    assert_eq!(
        store
            .attachment(Database::Entity, "guest/zip", None, "code")
            .await
            .unwrap(),
        None
    );
    let nobody = store.put_attachment(
        Database::Entity,
        "guest/none",
        &second,
        "code",
        "text/plain",
        vec![1],
    );
    conflict(nobody.await);
}

pub(crate) async fn an_attachment_goes_when_its_stub_does(store: &dyn Store) {
    let first = put(store, "guest/zip", None, 1).await.unwrap();
    let attached = store.put_attachment(
        Database::Entity,
        "guest/zip",
        &first,
        "code",
        "text/plain",
        b"x".to_vec(),
    );
    let second = attached.await.unwrap();
    let with_stub = store
        .get(Database::Entity, "guest/zip", None)
        .await
        .unwrap()
        .unwrap()
        .body;

    let third = store
        .put(Database::Entity, "guest/zip", Some(&second), &with_stub)
        .await
        .unwrap();
    let kept = store
        .attachment(Database::Entity, "guest/zip", None, "code")
        .await
        .unwrap();
    assert_eq!(kept.as_deref(), Some(&b"x"[..]));

    put(store, "guest/zip", Some(&third), 2).await.unwrap();
    assert_eq!(
        store
            .attachment(Database::Entity, "guest/zip", None, "code")
            .await
            .unwrap(),
        None
    );
    let document = store
        .get(Database::Entity, "guest/zip", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(document.body, json!({"n": 2}));
}

pub(crate) async fn activations_are_listed_newest_first(store: &dyn Store) {
    for start in [30, 10, 50, 20, 40] {
        record(store, "guest", "hello", start, json!([])).await;
    }
    record(store, "guest2", "hello", 35, json!([])).await;
    let query = Query {
        namespace: "guest".into(),
        limit: 100,
        ..Query::default()
    };
    let cases = [
        (query.clone(), vec![50, 40, 30, 20, 10]),
        (
            Query {
                limit: 2,
                ..query.clone()
            },
            vec![50, 40],
        ),
        (
            Query {
                skip: 3,
                ..query.clone()
            },
            vec![20, 10],
        ),
        (
            Query {
                since: Some(20),
                ..query.clone()
            },
            vec![50, 40, 30, 20],
        ),
        (
            Query {
                upto: Some(40),
                limit: 2,
                ..query.clone()
            },
            vec![40, 30],
        ),
        (
            Query {
                since: Some(20),
                upto: Some(40),
                skip: 1,
                ..query.clone()
            },
            vec![30, 20],
        ),
        (
            Query {
                since: Some(41),
                upto: Some(40),
                ..query.clone()
            },
            vec![],
        ),
        (
            Query {
                namespace: "nobody".into(),
                ..query.clone()
            },
            vec![],
        ),
    ];
    for (query, expected) in cases {
        let found = store.list(Database::Activation, &query).await.unwrap();
        let starts: Vec<i64> = found.iter().map(|d| d.body["start"].as_i64().unwrap()).collect();
        assert_eq!(starts, expected, "{query:?}");
    }
    let window = Query {
        since: Some(20),
        skip: 1,
        limit: 1,
        ..query
    };
    assert_eq!(store.count(Database::Activation, &window).await.unwrap(), 3);
}

pub(crate) async fn activations_are_listed_without_logs_and_result_unless_they_are_asked_for(
    store: &dyn Store,
) {
    let record = json!({
        "activationId": "a", "namespace": "guest", "name": "hello", "start": 1, "end": 2, "annotations": [],
        "logs": ["line"], "response": {"statusCode": 1, "result": {"error": "no"}},
    });
    store
        .put(Database::Activation, "guest/a", None, &record)
        .await
        .unwrap();
    for docs in [false, true] {
        let query = Query {
            namespace: "guest".into(),
            limit: 10,
            docs,
            ..Query::default()
        };
        let found = store.list(Database::Activation, &query).await.unwrap();
        let body = &found[0].body;
        assert_eq!(body["response"]["statusCode"], 1);
        assert_eq!(body["logs"].is_array(), docs);
        assert_eq!(body["response"]["result"].is_object(), docs);
    }
}

pub(crate) async fn activations_are_listed_by_the_name_they_were_called_by(store: &dyn Store) {
    record(
        store,
        "guest",
        "hello",
        1,
        json!([{"key": "path", "value": "guest/hello"}]),
    )
    .await;
    record(
        store,
        "guest",
        "hello",
        2,
        json!([{"key": "path", "value": "guest/pkg/hello"}]),
    )
    .await;
    let bound =
        json!([{"key": "binding", "value": "guest/bound"}, {"key": "path", "value": "other/pkg/hello"}]);
    record(store, "guest", "hello", 3, bound).await;
    for (name, expected) in [
        ("hello", vec![1]),
        ("pkg/hello", vec![2]),
        ("bound/hello", vec![3]),
        ("hell", vec![]),
    ] {
        let query = Query {
            namespace: "guest".into(),
            name: Some(name.into()),
            limit: 10,
            ..Query::default()
        };
        let found = store.list(Database::Activation, &query).await.unwrap();
        let starts: Vec<i64> = found.iter().map(|d| d.body["start"].as_i64().unwrap()).collect();
        assert_eq!(starts, expected, "{name}");
    }
}

pub(crate) async fn entities_are_listed_by_kind_and_package_newest_first(store: &dyn Store) {
    for (kind, path, name, updated) in [
        ("action", "guest", "old", 10),
        ("action", "guest/pkg", "packed", 30),
        ("action", "guest", "new", 40),
        ("package", "guest", "pkg", 20),
        ("action", "other", "foreign", 50),
    ] {
        entity(store, kind, path, name, updated, None).await;
    }
    let cases = [
        ("guest", Some("action"), vec!["new", "packed", "old"]),
        ("guest", Some("package"), vec!["pkg"]),
        ("guest", Some("trigger"), vec![]),
        ("guest", None, vec!["new", "packed", "pkg", "old"]),
        ("guest/pkg", Some("action"), vec!["packed"]),
    ];
    for (namespace, kind, expected) in cases {
        assert_eq!(
            names(store, namespace, kind).await,
            expected,
            "{namespace} {kind:?}"
        );
    }
}

pub(crate) async fn a_changed_entity_is_listed_once_and_a_deleted_one_not_at_all(store: &dyn Store) {
    let a = entity(store, "action", "guest", "a", 1, None).await;
    let b = entity(store, "action", "guest", "b", 2, None).await;
    entity(store, "action", "guest", "a", 3, Some(&a)).await;
    assert_eq!(names(store, "guest", Some("action")).await, ["a", "b"]);
    store.delete(Database::Entity, "guest/b", &b).await.unwrap();
    assert_eq!(names(store, "guest", Some("action")).await, ["a"]);
}

pub(crate) async fn a_subject_is_found_by_its_namespace_and_by_its_uuid(store: &dyn Store) {
    let jane = json!({"subject": "jane", "namespaces": [{"name": "space", "uuid": "0d5b1d5e", "key": "k"}]});
    store.put(Database::Auth, "jane", None, &jane).await.unwrap();
    for (key, found) in [("space", true), ("0d5b1d5e", true), ("jane", false)] {
        let query = Query {
            namespace: key.into(),
            limit: 2,
            ..Query::default()
        };
        let bodies: Vec<Value> = store
            .list(Database::Auth, &query)
            .await
            .unwrap()
            .into_iter()
            .map(|d| d.body)
            .collect();
        assert_eq!(bodies == [jane.clone()], found, "{key}");
    }
}

async fn put(store: &dyn Store, id: &str, revision: Option<&str>, n: u32) -> Result<String, Error> {
    store.put(Database::Entity, id, revision, &json!({"n": n})).await
}

fn conflict(outcome: Result<String, Error>) {
    assert!(matches!(&outcome, Err(Error::Conflict { .. })), "{outcome:?}");
}

pub(crate) async fn record(store: &dyn Store, namespace: &str, name: &str, start: i64, annotations: Value) {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let body = json!({
        "activationId": id, "namespace": namespace, "name": name, "start": start, "end": start,
        "annotations": annotations, "entityType": "activation",
    });
    store
        .put(Database::Activation, &format!("{namespace}/{id}"), None, &body)
        .await
        .unwrap();
}

async fn entity(
    store: &dyn Store,
    kind: &str,
    path: &str,
    name: &str,
    updated: i64,
    revision: Option<&str>,
) -> String {
    // CouchDB's views tell the kinds apart by these members.
    let member = if kind == "action" { "exec" } else { "binding" };
    let body = json!({"entityType": kind, "namespace": path, "name": name, "updated": updated, member: {}});
    store
        .put(Database::Entity, &format!("{path}/{name}"), revision, &body)
        .await
        .unwrap()
}

async fn names(store: &dyn Store, namespace: &str, kind: Option<&str>) -> Vec<String> {
    let query = Query {
        namespace: namespace.into(),
        kind: kind.map(str::to_owned),
        limit: 100,
        ..Query::default()
    };
    let found = store.list(Database::Entity, &query).await.unwrap();
    found
        .iter()
        .map(|d| d.body["name"].as_str().unwrap().to_owned())
        .collect()
}
