//! The program of the image that stands in for the public controller: OpenWhisk's REST API as `standalone`
//! has it, on Kafka and CouchDB, and beside it what the stand-in controller thinks of the invokers, which it
//! tests as the real one does. Set up by the environment as the public image is, and by nothing else.

use axum::routing::get;
use axum::{Json, Router};
use ffs_invoker::bus::Bus;
use ffs_invoker::bus::kafka::{KafkaBus, KafkaSettings};
use ffs_invoker::runtimes::Runtimes;
use ffs_invoker::standalone::controller::{Controller, Settings};
use ffs_invoker::standalone::http::Api;
use ffs_invoker::standalone::key::Key;
use ffs_invoker::store::couchdb::{CouchSettings, CouchStore, Databases};
use ffs_invoker::store::{Database, Store};
use serde_json::{Map, Value};
use stand_in_controller::{controller as supervision, database};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM.
pub(crate) async fn run() {
    let runtimes = Runtimes::parse(&variable("RUNTIMES_MANIFEST")).unwrap();
    let mut watch = supervision::Settings::new(variable("KAFKA_HOSTS"));
    watch.database = Some(database());
    watch.test_kind = runtimes.resolve("nodejs:default").unwrap().kind.clone();
    let supervision = supervision::Controller::start(watch).await.unwrap();

    let bus: Arc<dyn Bus> = Arc::new(bus());
    let store = Arc::new(CouchStore::open(couchdb()).await.unwrap());
    let mut settings = Settings::new(key(&store).await);
    settings.runtimes = runtimes;
    let controller = Controller::start(bus, store, settings).await.unwrap();

    let invokers = get(move || async move { Json(states(&supervision)) });
    let routes = Router::new().route("/invokers", invokers);
    let listener = tokio::net::TcpListener::bind(format!("0.0.0.0:{}", variable("PORT")))
        .await
        .unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        served = axum::serve(listener, routes.merge(Api::new(controller).router())) => served.unwrap(),
        _ = terminated.recv() => {}
    }
}

/// As the controller answers `GET /invokers`.
fn states(supervision: &supervision::Controller) -> Map<String, Value> {
    let state = |id: &proto::whisk::instance::InvokerId| supervision.health_of(id.instance).to_string();
    let pings = supervision.pings();
    pings
        .iter()
        .map(|(_, ping)| (ping.name.to_string(), state(&ping.name).into()))
        .collect()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn bus() -> KafkaBus {
    let common = [("security.protocol", "PLAINTEXT")];
    KafkaBus::new(KafkaSettings {
        hosts: variable("KAFKA_HOSTS"),
        common: common.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        message_bytes: 1_054_644,
        ..KafkaSettings::default()
    })
    .unwrap()
}

fn couchdb() -> CouchSettings {
    let setting = |name: &str| variable(&format!("CONFIG_whisk_couchdb_{name}"));
    CouchSettings {
        protocol: setting("protocol"),
        host: setting("host"),
        port: setting("port").parse().unwrap(),
        username: setting("username"),
        password: setting("password"),
        databases: Databases {
            auth: setting("databases_WhiskAuth"),
            entity: setting("databases_WhiskEntity"),
            activation: setting("databases_WhiskActivation"),
        },
        max_connections: 16,
        max_tries: 3,
        timeout: Duration::from_secs(60),
    }
}

/// The same for the stand-in controller.
fn database() -> database::Database {
    let settings = couchdb();
    database::Database {
        address: (settings.host, settings.port)
            .to_socket_addrs()
            .unwrap()
            .next()
            .unwrap(),
        user: settings.username,
        password: settings.password,
        entities: settings.databases.entity,
        activations: settings.databases.activation,
    }
}

/// The key of `guest`, which must be in the database.
async fn key(store: &CouchStore) -> Key {
    let guest = store.get(Database::Auth, "guest", None).await.unwrap();
    let guest = guest.expect("the subject guest is in the database").body;
    let namespace = &guest["namespaces"][0];
    let part = |name: &str| namespace[name].as_str().unwrap();
    format!("{}:{}", part("uuid"), part("key")).parse().unwrap()
}
