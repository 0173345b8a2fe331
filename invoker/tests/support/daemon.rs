//! `ffs-invoker standalone` as a process, with the real Python environment, on a free port.

use super::http::{self, Reply};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a record may trail the answer on a busy machine.
const RECORD_PATIENCE: Duration = Duration::from_secs(60);

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

/// The interpreter with FluidFaaS; made if it is not there.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        script("python-env");
        root().join(".cache/venv/bin/python")
    })
}

/// `ffs-runtime`, built with the rest of the workspace.
pub(crate) fn runtime() -> &'static Path {
    static RUNTIME: OnceLock<PathBuf> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let invoker = Path::new(env!("CARGO_BIN_EXE_ffs-invoker"));
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--locked", "-p", "ffs-runtime"])
            .current_dir(root());
        assert!(
            build.status().expect("cargo runs").success(),
            "ffs-runtime does not build"
        );
        invoker.with_file_name("ffs-runtime")
    })
}

/// Runs one of the repository's scripts.
pub(crate) fn script(name: &str) {
    let status = Command::new(root().join("scripts").join(name))
        .status()
        .expect("the script runs");
    assert!(status.success(), "scripts/{name} failed");
}

pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) folder: TempDir,
    arguments: Vec<String>,
}

impl Daemon {
    /// Starts the daemon with these arguments besides those for directories, port and Python.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ffs")
            .tempdir()
            .expect("a directory");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let (child, address) = spawn(folder.path(), &arguments);
        Self {
            child,
            address,
            folder,
            arguments,
        }
    }

    /// Starts it again on the same directories; it must have ended.
    pub(crate) fn start_again(&mut self) {
        (self.child, self.address) = spawn(self.folder.path(), &self.arguments);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("an id of a process"));
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
        self.child.wait().expect("it ends")
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> Reply {
        let key = std::fs::read_to_string(self.folder.path().join("state/auth")).expect("the key is kept");
        let authorization = format!("Basic {}", STANDARD.encode(key.trim()));
        let path = format!("/api/v1/namespaces/_{path}");
        let request = http::request(
            method,
            &path,
            &[("authorization", authorization.as_str())],
            body.to_string(),
        );
        http::send(self.address, request).await
    }

    /// Logs of an activation that has ended. Its record trails the answer (D-45), so it is waited for.
    pub(crate) async fn logs(&self, id: &str) -> Value {
        let path = format!("/activations/{id}/logs");
        let begun = Instant::now();
        loop {
            let reply = self.call(Method::GET, &path, &Value::Null).await;
            if reply.status != StatusCode::NOT_FOUND || begun.elapsed() > RECORD_PATIENCE {
                return reply.ok();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A page beside the API.
    pub(crate) async fn page(&self, path: &str) -> String {
        let reply = http::send(self.address, http::request(Method::GET, path, &[], "")).await;
        String::from_utf8_lossy(&reply.bytes).into_owned()
    }

    /// The page `/status.json`.
    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(&self.page("/status.json").await).expect("the status is JSON")
    }

    /// Creates or replaces an action with Python code; `annotations` as an object.
    pub(crate) async fn put_python(&self, name: &str, code: &str, memory: u64, annotations: &Value) -> Value {
        let code = json!({ "kind": "python:3", "code": code });
        self.put(name, &code, memory, annotations).await
    }

    pub(crate) async fn put(&self, name: &str, exec: &Value, memory: u64, annotations: &Value) -> Value {
        let annotations: Vec<Value> = annotations
            .as_object()
            .expect("annotations are an object")
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect();
        let body = json!({ "exec": exec, "limits": { "memory": memory, "timeout": 60000 }, "annotations": annotations });
        self.call(Method::PUT, &format!("/actions/{name}?overwrite=true"), &body)
            .await
            .ok()
    }

    /// A blocking invocation; the whole activation, whatever its outcome.
    pub(crate) async fn invoke(&self, name: &str, arguments: &Value) -> Value {
        let reply = self
            .call(Method::POST, &format!("/actions/{name}?blocking=true"), arguments)
            .await;
        assert_ne!(reply.status.as_u16(), 202, "no answer in time: {}", reply.json());
        reply.json()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("---- the daemon's log\n{log}----");
        }
    }
}

fn spawn(folder: &Path, arguments: &[String]) -> (Child, SocketAddr) {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
        .args(["standalone", "--listen", "127.0.0.1:0"])
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--run")
        .arg(folder.join("run"))
        .arg("--python")
        .arg(python())
        .arg("--runtime")
        .arg(runtime())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the daemon starts");
    let mut address = None;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.expect("it is text");
        if let Some(host) = line.strip_prefix("OpenWhisk API") {
            address = host
                .trim()
                .strip_prefix("http://")
                .and_then(|host| host.parse().ok());
        }
        if line == "Ready." {
            break;
        }
    }
    let address = address.unwrap_or_else(|| {
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("the daemon did not start:\n{log}")
    });
    (child, address)
}
