//! One broker, one database, one machine with an A100, and an invoker on it.

use super::PATIENCE;
use super::engine::{Engine, EngineKind};
use super::support::fake_gpus::{Fake, cut_small};
use super::support::http;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use proto::unit::Bytes;
use serde_json::{Value, json};
use stand_in_controller::broker::Broker;
use stand_in_controller::controller::{Controller, Settings};
use stand_in_controller::couch::Couch;
use stand_in_controller::database::Database;
use stand_in_controller::invoker::{Invoker, InvokerSettings};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One of the paper's cuts. The large slice has 384 MiB and holds two components, the others 192 and one.
const TOPOLOGY: &str = "[3g.40gb+2g.20gb+2g.20gb]@A100-80GB";
const GPU_MEMORY: Bytes = Bytes::mib(768);
pub(crate) const USER_MEMORY_MB: i64 = 6144;

pub(crate) struct World {
    invoker: Mutex<Invoker>,
    pub(crate) controller: std::sync::Arc<Controller>,
    pub(crate) database: Database,
    pub(crate) gpus: Mutex<Fake>,
    pub(crate) engine: Engine,
    pub(crate) folder: PathBuf,
    _couch: Mutex<Couch>,
    _broker: Mutex<Broker>,
}

impl World {
    pub(crate) async fn start(kind: EngineKind) -> Self {
        let (broker, couch, gpus, engine) = tokio::task::spawn_blocking(move || {
            let gpus = Fake::with(cut_small(TOPOLOGY, Some(GPU_MEMORY)));
            (
                Broker::start().unwrap(),
                Couch::start().unwrap(),
                gpus,
                Engine::start(kind),
            )
        })
        .await
        .unwrap();
        let database = couch.database();
        let controller = Controller::start(Settings {
            database: Some(database.clone()),
            test_kind: "python:3".to_owned(),
            ..Settings::new(broker.hosts())
        })
        .await
        .unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_ffs-invoker"));
        let settings = InvokerSettings::new(program, broker.hosts(), database.clone())
            .with(
                "CONFIG_whisk_containerPool_userMemory",
                &format!("{USER_MEMORY_MB} m"),
            )
            .with("CONFIG_whisk_containerProxy_timeouts_idleContainer", "5 seconds")
            .with("CONFIG_ffs_keepAlive", "5 seconds")
            .with("CONFIG_ffs_inventory", "nvml")
            .with("CONFIG_ffs_nvmlLibrary", &gpus.library.display().to_string());
        let invoker = Invoker::start(engine.settings(settings)).unwrap();
        if let Err(error) = controller.until_healthy(0, PATIENCE).await {
            panic!("{error}\n{}", invoker.log());
        }
        Self {
            folder: invoker.folder().to_owned(),
            controller,
            database,
            gpus: Mutex::new(gpus),
            engine,
            invoker: Mutex::new(invoker),
            _couch: Mutex::new(couch),
            _broker: Mutex::new(broker),
        }
    }

    /// What the invoker says of itself.
    pub(crate) async fn status(&self) -> Value {
        let port = self.invoker.lock().unwrap().port();
        let operator = format!("Basic {}", STANDARD.encode("invoker.user:invoker.pass"));
        let request = http::request(
            Method::GET,
            "/status.json",
            &[("authorization", operator.as_str())],
            "",
        );
        http::send(([127, 0, 0, 1], port).into(), request).await.ok()
    }

    pub(crate) fn log(&self) -> String {
        self.invoker.lock().unwrap().log()
    }

    /// Until the invoker says so.
    pub(crate) async fn until(&self, what: &str, mut so: impl FnMut(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if so(&status) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it never came to this: {what}: {status:#}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until all that was kept alive has gone by itself: slices are free, the memory is back, and nothing is left of
    /// any container or instance.
    pub(crate) async fn until_quiet(&self) {
        self.until("all books are balanced", |status| {
            let slices = status["migs"]["slices"].as_array().unwrap();
            slices.iter().all(|slice| slice["state"] == "free")
                && status["instances"] == json!([])
                && status["waiting"] == json!([])
                && status["queue"] == json!([])
                && status["memory"]["used"] == 0
        })
        .await;
        let remains = self.engine.remains(&self.folder);
        assert_eq!(remains, Vec::<String>::new(), "left while it runs");
        assert_eq!(self.controller.open(), 0);
        assert_eq!(self.controller.free_mb(0), Some(USER_MEMORY_MB));
    }

    /// SIGTERM; nothing is left then.
    pub(crate) async fn stop(&self) {
        let status = tokio::task::block_in_place(|| self.invoker.lock().unwrap().stop());
        assert!(status.unwrap().success(), "it did not end in order");
        let remains = self.engine.remains(&self.folder);
        assert_eq!(remains, Vec::<String>::new(), "left when it has ended");
    }
}
