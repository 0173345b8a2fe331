//! A real server of CouchDB's API, on a free port, in a folder of its own, with OpenWhisk's databases as
//! `docker/couchdb/init.sh` makes them. It ends with the test process, also if that is killed. Node and npm
//! are needed; the packages are fetched once, into `.cache/couch`.

use ffs_invoker::store::couchdb::{CouchSettings, CouchStore, Databases};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) const ADMIN: &str = "whisk_admin";
pub(crate) const PASSWORD: &str = "some_passw0rd";
/// May read the subjects and entities of [`Couch::databases`], and write activations, and no more (D-55).
pub(crate) const INVOKER: &str = "invoker";
pub(crate) const GUEST_KEY: &str =
    "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";
pub(crate) const SYSTEM_KEY: &str =
    "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

pub(crate) struct Couch {
    folder: PathBuf,
    port: u16,
    /// Its standard input holds the server alive.
    process: Option<Child>,
}

impl Couch {
    /// A server without databases; its folder goes with us, also if we are killed.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("couch-")
            .tempdir()
            .unwrap()
            .keep();
        let mut couch = Self {
            folder,
            port: 0,
            process: None,
        };
        couch.launch();
        couch
    }

    /// The server of all tests of this process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: std::sync::OnceLock<Couch> = std::sync::OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Takes the server away.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Brings the server back on its port, with what it has stored.
    pub(crate) fn go_on(&mut self) {
        self.launch();
    }

    /// Three databases of their own, with views and the subjects `guest` and `whisk.system`.
    pub(crate) fn databases(&self) -> Databases {
        let prefix = format!("whisk_{}_", uuid::Uuid::new_v4().simple());
        self.databases_called(&prefix)
    }

    pub(crate) fn databases_called(&self, prefix: &str) -> Databases {
        let databases = Databases {
            auth: format!("{prefix}subjects"),
            entity: format!("{prefix}whisks"),
            activation: format!("{prefix}activations"),
        };
        let output = Command::new("sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/couchdb/init.sh"))
            .env("DB_PORT", self.port.to_string())
            .env("DB_USERNAME", ADMIN)
            .env("DB_PASSWORD", PASSWORD)
            .env("DB_SUBJECTS", &databases.auth)
            .env("DB_WHISKS", &databases.entity)
            .env("DB_ACTIVATIONS", &databases.activation)
            .env("GUEST_KEY", GUEST_KEY)
            .env("SYSTEM_KEY", SYSTEM_KEY)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        databases
    }

    pub(crate) fn settings(&self, databases: Databases) -> CouchSettings {
        settings(self.port, databases)
    }

    /// A store of three fresh databases.
    pub(crate) async fn store(&self) -> CouchStore {
        CouchStore::open(self.settings(self.databases())).await.unwrap()
    }

    fn launch(&mut self) {
        let mut process = Command::new("node")
            .arg(packages().join("server.js"))
            .arg("--dir")
            .arg(&self.folder)
            .args(["--port", &self.port.to_string(), "--users", &users().to_string()])
            .args(["--while-stdin", "--remove"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(self.folder.join("log")).unwrap())
            .spawn()
            .expect("node can be started: Debian has it in the package nodejs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        self.process = Some(process);
        self.port = line.trim().parse().unwrap_or_else(|_| {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            panic!("the server did not start: {log}")
        });
    }
}

impl Drop for Couch {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How [`ADMIN`] gets to a server on a port.
pub(crate) fn settings(port: u16, databases: Databases) -> CouchSettings {
    CouchSettings {
        protocol: "http".into(),
        host: "127.0.0.1".into(),
        port,
        username: ADMIN.into(),
        password: PASSWORD.into(),
        databases,
        max_connections: 128,
        max_tries: 3,
        timeout: Duration::from_secs(60),
    }
}

pub(crate) fn named(prefix: &str) -> Databases {
    Databases {
        auth: format!("{prefix}subjects"),
        entity: format!("{prefix}whisks"),
        activation: format!("{prefix}activations"),
    }
}

fn users() -> Value {
    json!({
        ADMIN: {"password": PASSWORD},
        INVOKER: {"password": PASSWORD, "read": ["rights_subjects", "rights_whisks"], "write": ["rights_activations"]},
    })
}

/// The folder with the server and its packages; fetched with npm where it is not there yet.
pub(crate) fn packages() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = project.join("tests/support/couch");
    let cache = project.join("../.cache/couch");
    std::fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    let server = cache.join("server");
    let same = |file: &str| std::fs::read(source.join(file)).ok() == std::fs::read(server.join(file)).ok();
    if !same("package-lock.json") {
        let fresh = cache.join("fresh");
        let _ = std::fs::remove_dir_all(&fresh);
        std::fs::create_dir_all(&fresh).unwrap();
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(file), fresh.join(file)).unwrap();
        }
        let fetched = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&fresh)
            .output()
            .expect("npm can be started: Debian has it in the package npm");
        assert!(
            fetched.status.success(),
            "{}",
            String::from_utf8_lossy(&fetched.stderr)
        );
        let _ = std::fs::remove_dir_all(&server);
        std::fs::rename(&fresh, &server).unwrap();
    }
    if !same("server.js") {
        std::fs::copy(source.join("server.js"), server.join("server.js")).unwrap();
    }
    server
}
