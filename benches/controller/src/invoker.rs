//! `ffs-invoker run` as a process, with the environment that the Scala invoker has in a cluster. It is asked to
//! end when the process that started it ends, also if that is killed.

use crate::database::Database;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running invoker. Dropped, it is asked to end, and its folder goes.
#[derive(Debug)]
pub struct Invoker {
    child: Child,
    /// Its standard input holds the invoker alive.
    watch: Child,
    settings: InvokerSettings,
    folder: PathBuf,
    port: u16,
}

/// How one is started.
#[derive(Clone, Debug)]
pub struct InvokerSettings {
    /// The program `ffs-invoker`.
    pub program: PathBuf,
    pub id: u32,
    /// Part of the names of its containers: two of the same names on one engine sweep each other's.
    pub unique_name: String,
    pub kafka_hosts: String,
    pub database: Database,
    pub subjects: String,
    pub manifest: Value,
    /// Environment variables besides.
    pub more: BTreeMap<String, String>,
}

impl InvokerSettings {
    /// Invoker 0 with 2 GiB and containers of Docker, under a name that no other has.
    pub fn new(program: &Path, kafka_hosts: String, database: Database) -> Self {
        let unique_name = format!("t{}x", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        Self {
            program: program.to_owned(),
            id: 0,
            unique_name,
            kafka_hosts,
            database,
            subjects: crate::couch::SUBJECTS.to_owned(),
            manifest: manifest(),
            more: BTreeMap::from([
                (
                    "CONFIG_whisk_containerPool_userMemory".to_owned(),
                    "2048 m".to_owned(),
                ),
                ("CONFIG_whisk_userEvents_enabled".to_owned(), "true".to_owned()),
                (
                    "CONFIG_ffs_dockerContainers".to_owned(),
                    "/var/lib/docker/containers".to_owned(),
                ),
            ]),
        }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.more.insert(name.to_owned(), value.to_owned());
        self
    }

    fn environment(&self, folder: &Path, port: u16) -> BTreeMap<String, String> {
        let database = &self.database;
        let variables = [
            ("PORT", port.to_string()),
            ("KAFKA_HOSTS", self.kafka_hosts.clone()),
            ("RUNTIMES_MANIFEST", self.manifest.to_string()),
            ("WHISK_API_HOST_NAME", "127.0.0.1".to_owned()),
            ("WHISK_API_HOST_PROTO", "http".to_owned()),
            ("WHISK_API_HOST_PORT", "3233".to_owned()),
            ("CONFIG_whisk_couchdb_provider", "CouchDB".to_owned()),
            ("CONFIG_whisk_couchdb_protocol", "http".to_owned()),
            ("CONFIG_whisk_couchdb_host", database.address.ip().to_string()),
            ("CONFIG_whisk_couchdb_port", database.address.port().to_string()),
            ("CONFIG_whisk_couchdb_username", database.user.clone()),
            ("CONFIG_whisk_couchdb_password", database.password.clone()),
            ("CONFIG_whisk_couchdb_databases_WhiskAuth", self.subjects.clone()),
            (
                "CONFIG_whisk_couchdb_databases_WhiskEntity",
                database.entities.clone(),
            ),
            (
                "CONFIG_whisk_couchdb_databases_WhiskActivation",
                database.activations.clone(),
            ),
            ("CONFIG_ffs_stateDir", folder.join("state").display().to_string()),
            ("CONFIG_ffs_runDir", folder.join("run").display().to_string()),
        ];
        let mut all: BTreeMap<String, String> = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        all.extend(self.more.clone());
        all
    }
}

/// The kinds that tests and benches use, with the images that `scripts/images` makes.
pub fn manifest() -> Value {
    let image = |name: &str| json!({ "prefix": "ffs", "name": name, "tag": "latest" });
    let kind = |kind: &str, name: &str| json!([{ "kind": kind, "default": true, "image": image(name), "deprecated": false }]);
    json!({
        "runtimes": {
            "nodejs": kind("nodejs:20", "node-action"),
            "python": kind("python:3", "python"),
            "instant": kind("instant:1", "instant"),
            "probe": kind("probe:1", "probe"),
            "ghost": kind("ghost:1", "no-such-image"),
        },
        "blackboxes": [image("probe"), image("instant")],
    })
}

impl Invoker {
    /// Starts the process; that it takes work is told by its pings.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(settings: InvokerSettings) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ffs-invoker-").tempdir()?.keep();
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = spawn(&settings, &folder, port)?;
        Ok(Self {
            watch: watch(&child, &folder)?,
            child,
            settings,
            folder,
            port,
        })
    }

    /// Starts it again, on the same directories; it must have ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.settings, &self.folder, self.port)?;
        self.watch = watch(&self.child, &self.folder)?;
        Ok(())
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Of its HTTP server.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn unique_name(&self) -> &str {
        &self.settings.unique_name
    }

    /// Holds its directories `state` and `run`, and its log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.unwatch();
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        if !sent.success() && self.is_alive() {
            self.child.kill()?;
        }
        self.child.wait()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.unwatch();
        self.child.kill()?;
        self.child.wait()
    }

    /// Nothing happens to the process any more when this one ends: its number may become another's.
    fn unwatch(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

impl Drop for Invoker {
    fn drop(&mut self) {
        if self.is_alive() {
            let _ = self.stop();
        }
        self.unwatch();
        if std::thread::panicking() {
            eprintln!("---- the invoker's log\n{}----", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(settings: &InvokerSettings, folder: &Path, port: u16) -> io::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    Command::new(&settings.program)
        .args([
            "run",
            "--id",
            &settings.id.to_string(),
            "--uniqueName",
            &settings.unique_name,
        ])
        .envs(settings.environment(folder, port))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// A shell that asks the process to end, and removes its folder, once our end of its standard input is closed.
fn watch(child: &Child, folder: &Path) -> io::Result<Child> {
    let script = r#"cat >/dev/null; kill -TERM "$1"; while kill -0 "$1"; do sleep 0.1; done; rm -rf "$2""#;
    Command::new("sh")
        .args(["-c", script, "sh", &child.id().to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
