//! The cluster of `docker/compose.yml` under a name of its own, on free ports, with images made here.

pub(crate) mod controller;
pub(crate) mod operator;

use super::support::daemon::{root, script};
use super::support::http::{self, Reply};
use base64::Engine;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use stand_in_controller::couch::packages;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Cluster {
    /// Of the invoker and, with `ffs-test-` before it, of the project.
    pub(crate) name: String,
    folder: tempfile::TempDir,
    down: AtomicBool,
}

impl Cluster {
    /// Made with `scripts/cluster up`; taken down when dropped.
    pub(crate) fn up() -> Self {
        script("docker-engine");
        images();
        let folder = tempfile::Builder::new().prefix("cluster-").tempdir().unwrap();
        let cluster = Self {
            name: format!("t{}", std::process::id()),
            folder,
            down: AtomicBool::new(false),
        };
        let project = cluster.project();
        let settings = [
            ("COMPOSE_PROJECT_NAME", project.as_str()),
            ("FFS_INVOKER_NAME", &cluster.name),
            ("FFS_REGISTRY", "ffs-test/"),
            ("FFS_INVOKER_IMAGE", INVOKER),
            ("FFS_API_PORT", "0"),
            ("FFS_INVOKER_PORT", "0"),
            ("FFS_RUN_DIR", &format!("/run/{project}")),
            ("FFS_STATE_DIR", &format!("/var/lib/{project}")),
        ];
        let lines: String = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        std::fs::write(cluster.settings(), lines).unwrap();
        cluster.script(&["up"]);
        cluster
    }

    fn project(&self) -> String {
        format!("ffs-test-{}", self.name)
    }

    /// Of the containers that the test starts itself.
    fn label(&self) -> String {
        format!("ffs.test={}", self.project())
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("env")
    }

    /// The value that `scripts/cluster` has put into the settings.
    fn setting(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.settings()).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is not set")).to_owned()
    }

    /// What the names of the invoker's containers begin with (L-05).
    pub(crate) fn prefix(&self) -> String {
        format!("wsk{}0_", self.name)
    }

    /// What `scripts/cluster` prints.
    pub(crate) fn script(&self, arguments: &[&str]) -> String {
        said(
            &self.attempt(arguments),
            &format!("scripts/cluster {arguments:?}"),
        )
    }

    fn attempt(&self, arguments: &[&str]) -> Output {
        Command::new(root().join("scripts/cluster"))
            .args(arguments)
            .env("FFS_CLUSTER_ENV", self.settings())
            .env("FFS_RUNTIMES", "invoker/tests/support/cluster/runtimes.json")
            .output()
            .unwrap()
    }

    pub(crate) fn down(&self) {
        self.script(&["down", "--volumes"]);
        self.down.store(true, Ordering::Relaxed);
    }

    /// What is still there after `down`: containers, networks, volumes, folders.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let project = self.project();
        let label = format!("label=com.docker.compose.project={project}");
        let named = format!("name={project}");
        let prefix = format!("name={}", self.prefix());
        let mut found = Vec::new();
        let started = format!("label={}", self.label());
        for command in [
            vec!["ps", "--all", "--quiet", "--filter", &label],
            vec!["ps", "--all", "--quiet", "--filter", &started],
            vec!["ps", "--all", "--quiet", "--filter", &prefix],
            vec!["network", "ls", "--quiet", "--filter", &named],
            vec!["volume", "ls", "--quiet", "--filter", &named],
        ] {
            found.extend(docker(&command).lines().map(str::to_owned));
        }
        let folders = ["/run", "/var/lib"].map(|parent| Path::new(parent).join(&project));
        found.extend(
            folders
                .iter()
                .filter(|folder| folder.exists())
                .map(|f| f.display().to_string()),
        );
        found
    }

    fn service(&self, name: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project());
        let service = format!("label=com.docker.compose.service={name}");
        docker(&[
            "ps", "--all", "--quiet", "--filter", &project, "--filter", &service,
        ])
    }

    /// Ends the invoker of the compose file as an operator does who puts another in its place.
    pub(crate) fn stop_invoker(&self) {
        docker(&["stop", "--time", "60", &self.service("ffs-invoker")]);
    }

    /// Names of the containers on the actions' network but for those of the cluster itself.
    pub(crate) fn action_containers(&self) -> Vec<String> {
        let network = format!("network={}_actions", self.project());
        let names = docker(&["ps", "--all", "--filter", &network, "--format", "{{.Names}}"]);
        let ours = |name: &&str| !name.starts_with(&self.project());
        names.lines().filter(ours).map(str::to_owned).collect()
    }

    /// Containers with names such as a killed invoker leaves behind.
    pub(crate) fn leave_containers(&self, count: u32) -> Vec<String> {
        let name = |n: u32| format!("{}{}_left_over", self.prefix(), 1000 + n);
        let names: Vec<String> = (0..count).map(name).collect();
        let network = format!("{}_actions", self.project());
        for name in &names {
            docker(&[
                "run",
                "--detach",
                "--name",
                name,
                "--network",
                &network,
                INVOKER,
                "sleep",
                "600",
            ]);
        }
        names
    }

    /// A container with the environment and the networks of the compose file's invoker; its id.
    pub(crate) fn run_invoker(&self, options: &[&str], command: &[&str]) -> String {
        let template = "{{range .Config.Env}}{{println .}}{{end}}";
        let environment = docker(&["inspect", "--format", template, &self.service("ffs-invoker")]);
        let file = self.folder.path().join("invoker.env");
        std::fs::write(&file, environment).unwrap();
        let control = format!("{}_control", self.project());
        let label = self.label();
        let mut create = vec!["create", "--network", &control, "--label", &label, "--env-file"];
        create.push(file.to_str().unwrap());
        create.extend(options);
        create.push(INVOKER);
        create.extend(command);
        let id = docker(&create);
        docker(&["network", "connect", &format!("{}_actions", self.project()), &id]);
        docker(&["start", &id]);
        id
    }

    /// The status of `GET /path` of the database.
    pub(crate) fn couchdb(&self, path: &str) -> String {
        let user = format!("whisk:{}", self.setting("COUCHDB_PASSWORD"));
        let url = format!("http://localhost:5984/{path}");
        let ask = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-u",
            &user,
            &url,
        ];
        docker(&[&["exec", &self.service("couchdb")], &ask[..]].concat())
    }

    fn api(&self) -> SocketAddr {
        docker(&["port", &self.service("controller"), "8080"])
            .parse()
            .unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Reply {
        let key = base64::engine::general_purpose::STANDARD.encode(self.setting("GUEST_KEY"));
        let authorization = format!("Basic {key}");
        let path = format!("/api/v1/namespaces/_{path}");
        let headers = [("authorization", authorization.as_str())];
        http::send(
            self.api(),
            http::request(method, &path, &headers, body.to_string()),
        )
        .await
    }

    /// An action of the kind `python:3`.
    pub(crate) async fn create(&self, name: &str, code: &str) {
        let body = json!({"exec": {"kind": "python:3", "code": code}});
        self.call(Method::PUT, &format!("/actions/{name}?overwrite=true"), &body)
            .await
            .ok();
    }

    /// A blocking invocation; the whole activation.
    pub(crate) async fn invoke(&self, name: &str, arguments: &Value) -> Value {
        let path = format!("/actions/{name}?blocking=true");
        let reply = self.call(Method::POST, &path, arguments).await;
        assert_ne!(reply.status.as_u16(), 202, "no answer in time: {}", reply.json());
        reply.json()
    }

    /// The activation's record, with its logs. It trails the answer (D-45).
    pub(crate) async fn record(&self, id: &str) -> Value {
        let path = format!("/activations/{id}");
        let begun = Instant::now();
        loop {
            let reply = self.call(Method::GET, &path, &Value::Null).await;
            if reply.status != StatusCode::NOT_FOUND || begun.elapsed() > PATIENCE {
                return reply.ok();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.down.load(Ordering::Relaxed) {
            return;
        }
        if std::thread::panicking() {
            for service in ["controller", "ffs-invoker"] {
                eprintln!(
                    "---- {service}\n{}",
                    attempt_docker(&["logs", "--tail", "60", &self.service(service)]).1
                );
            }
        }
        let label = format!("label={}", self.label());
        let (_, ours) = attempt_docker(&["ps", "--all", "--quiet", "--filter", &label]);
        for id in ours.lines() {
            if std::thread::panicking() {
                eprintln!("---- {id}\n{}", attempt_docker(&["logs", "--tail", "60", id]).1);
            }
            attempt_docker(&["rm", "--force", id]);
        }
        let output = self.attempt(&["down", "--volumes"]);
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// The image that is tested.
const INVOKER: &str = "ffs-test/ffs/invoker:latest";

/// Makes the images of the cluster, and those of the actions.
fn images() {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cluster/images"))
        .args([
            stand_in_controller::broker::jars().unwrap(),
            packages().unwrap(),
            program,
            env!("CARGO_BIN_EXE_ffs-invoker").into(),
        ])
        .output()
        .unwrap();
    said(&output, "tests/support/cluster/images");
    let output = Command::new(root().join("scripts/images"))
        .args(["ffs/python", "ffs/node-action"])
        .output()
        .unwrap();
    said(&output, "scripts/images ffs/python");
}

/// The standard output of a program that must have succeeded.
fn said(output: &Output, what: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn attempt_docker(arguments: &[&str]) -> (Output, String) {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    (output, text)
}

/// What `docker` prints, on both of its outputs.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let (output, text) = attempt_docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {text}");
    text
}

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "this has not come true: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Settings with which the compose file is whole.
pub(crate) fn example() -> Vec<(String, String)> {
    let names = [
        "RUNTIMES_MANIFEST",
        "COUCHDB_PASSWORD",
        "CONTROLLER_PASSWORD",
        "INVOKER_PASSWORD",
        "GUEST_KEY",
        "SYSTEM_KEY",
    ];
    names.map(|name| (name.to_owned(), "x".to_owned())).into()
}

/// What docker-compose makes of the file.
pub(crate) fn config(settings: &[(String, String)]) -> Output {
    let empty = tempfile::NamedTempFile::new().unwrap();
    Command::new("docker-compose")
        .args([
            "--env-file",
            empty.path().to_str().unwrap(),
            "-f",
            "docker/compose.yml",
            "config",
            "--quiet",
        ])
        .current_dir(root())
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("docker-compose can be started: Debian has it in the package docker-compose")
}
