//! The standalone's API on embedded edges, with a stand-in for the invoker.

use super::http::{self, Reply};
use super::stand_in_invoker::StandInInvoker;
use base64::Engine;
use ffs_invoker::bus::Bus;
use ffs_invoker::bus::embedded::EmbeddedBus;
use ffs_invoker::standalone::controller::{Controller, Settings};
use ffs_invoker::standalone::http::Api;
use ffs_invoker::standalone::key::Key;
use ffs_invoker::standalone::listen;
use ffs_invoker::store::Store;
use ffs_invoker::store::embedded::{EmbeddedStore, Retention};
use hyper::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Standalone {
    pub(crate) address: SocketAddr,
    pub(crate) key: Key,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) invoker: StandInInvoker,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Standalone {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::open(&folder.path().join("bus")).unwrap());
        let store = EmbeddedStore::open(&folder.path().join("store"), Retention::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let mut settings = Settings::new(Key::random());
        change(&mut settings);
        let key = settings.key.clone();
        let controller = Controller::start(bus.clone(), store.clone(), settings)
            .await
            .unwrap();
        let invoker = StandInInvoker::start(bus.clone(), store.clone()).await;
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving =
            tokio::spawn(async move { Api::new(controller).serve(listener, stopped).await.unwrap() });
        Self {
            address,
            key,
            bus,
            store,
            invoker,
            stop,
            serving,
            _folder: folder,
        }
    }

    /// Lets everybody who waits go, and ends.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.invoker.stop().await;
        self.bus.close(Duration::from_secs(60)).await;
        self.store.close(Duration::from_secs(60)).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, "").await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PUT, path, &body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, "").await
    }

    /// `path` begins behind `/api/v1/namespaces/`.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> Reply {
        self.send_as(&[("authorization", &self.authorization())], method, path, body)
            .await
    }

    pub(crate) async fn send_as(
        &self,
        headers: &[(&str, &str)],
        method: Method,
        path: &str,
        body: &str,
    ) -> Reply {
        let path = format!("/api/v1/namespaces/{path}");
        http::send(
            self.address,
            http::request(method, &path, headers, body.to_owned()),
        )
        .await
    }

    pub(crate) fn authorization(&self) -> String {
        basic(&self.key.to_string())
    }

    /// Creates an action whose code is `code`.
    pub(crate) async fn create(&self, name: &str, code: &str) -> Value {
        let body = json!({"exec": {"kind": "python:default", "code": code}});
        self.put(&format!("_/actions/{name}"), body).await.ok()
    }
}

pub(crate) fn basic(credentials: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(credentials)
    )
}
