//! A Docker engine of ours for each test, with a prefix of its own, and nothing of it left afterwards.

use crate::conformance::{Engine, next};
use ffs_invoker::container::Image;
use ffs_invoker::container::docker::{DeviceAccess, DockerEngine, DockerSettings, Timeouts};
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, OnceLock};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Lives as long as its engine is used; what a failed test leaves goes with it.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) prefix: String,
    pub(crate) directory: tempfile::TempDir,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// Tests with real containers go one after the other: side by side on two CPUs, an exchange with a
/// container was seen to hang.
static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

impl Drop for Alive {
    fn drop(&mut self) {
        let name = format!("name=^/{}", self.prefix);
        for id in docker(&["ps", "--all", "--quiet", "--filter", &name]).lines() {
            docker(&["rm", "--force", "--volumes", id]);
        }
        let label = format!("label=ffs.invoker={}", self.prefix.trim_end_matches('_'));
        for volume in docker(&["volume", "ls", "--quiet", "--filter", &label]).lines() {
            docker(&["volume", "rm", volume]);
        }
    }
}

/// With our Python runtime's image.
pub(crate) async fn engine() -> (Engine<DockerEngine>, Alive) {
    engine_with(|_| {}).await
}

/// The same with other settings.
pub(crate) async fn engine_with(change: impl FnOnce(&mut DockerSettings)) -> (Engine<DockerEngine>, Alive) {
    let mut alive = alive();
    alive._turn = Some(Arc::clone(&TURN).lock_owned().await);
    let mut settings = settings(&alive.prefix);
    change(&mut settings);
    let sockets = alive.directory.path().join("sockets");
    let engine = Engine {
        engine: DockerEngine::open(settings, sockets)
            .await
            .expect("Docker is there"),
        image: image("ffs/python"),
        env: BTreeMap::new(),
        prefix: alive.prefix.clone(),
        isolates: true,
    };
    (engine, alive)
}

pub(crate) fn alive() -> Alive {
    images();
    Alive {
        prefix: format!("wskt{}x{}0_", std::process::id(), next()),
        directory: tempfile::tempdir().expect("a directory"),
        _turn: None,
    }
}

pub(crate) fn image(name: &str) -> Image {
    Image {
        kind: "test".to_owned(),
        name: name.to_owned(),
        pull: false,
    }
}

/// As an invoker has them without any settings.
pub(crate) fn settings(prefix: &str) -> DockerSettings {
    DockerSettings {
        socket: "/var/run/docker.sock".into(),
        name_prefix: prefix.to_owned(),
        network: "bridge".to_owned(),
        dns_servers: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        extra_env: Vec::new(),
        extra_args: BTreeMap::new(),
        runtimes_registry: String::new(),
        user_images_registry: String::new(),
        parallel_runs: 10,
        mask_run_args: false,
        timeouts: Timeouts::default(),
        user_memory: Bytes::mib(8192),
        user_cpus: None,
        containers: "/containers".into(),
        devices: DeviceAccess::Auto,
        collects_logs: true,
    }
}

/// The engine and the images, made once if need be.
fn images() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Command::new(root().join("scripts/images"))
            .status()
            .expect("it is there");
        assert!(made.success(), "scripts/images failed: {made}");
    });
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// What the command line says; empty if it fails.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let mut command = Command::new("docker");
    command
        .args(["-H", "unix:///var/run/docker.sock"])
        .args(arguments);
    let output = command.output().expect("the command line is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An image from a Dockerfile without files.
pub(crate) fn build(name: &str, dockerfile: &str) {
    use std::io::Write;
    let mut command = Command::new("docker");
    command.args([
        "-H",
        "unix:///var/run/docker.sock",
        "build",
        "--quiet",
        "--tag",
        name,
        "-",
    ]);
    let quiet = || std::process::Stdio::null();
    command
        .env("DOCKER_BUILDKIT", "0")
        .stdin(std::process::Stdio::piped())
        .stdout(quiet())
        .stderr(quiet());
    let mut child = command.spawn().expect("the command line is there");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(dockerfile.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success(), "{name} was not built");
}
