//! A real server of CouchDB's API, on a free port, in a folder of its own, with OpenWhisk's databases as
//! `docker/couchdb/init.sh` makes them. It ends with the process that started it, also if that is killed.
//! Node and npm are needed; the packages are fetched once, into `.cache/couch`.

use crate::database::Database;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const ADMIN: &str = "whisk_admin";
/// Of all users.
pub const PASSWORD: &str = "some_passw0rd";
/// May read the subjects and entities of databases under the prefix `rights_`, write activations there, and no
/// more (D-55).
pub const INVOKER: &str = "invoker";
pub const GUEST_KEY: &str =
    "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";
pub const SYSTEM_KEY: &str =
    "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// The databases of actions, activations and subjects.
pub const ENTITIES: &str = "whisks";
pub const ACTIVATIONS: &str = "activations";
pub const SUBJECTS: &str = "subjects";

#[derive(Debug)]
pub struct Couch {
    folder: PathBuf,
    port: u16,
    /// Its standard input holds the server alive.
    process: Option<Child>,
}

impl Couch {
    /// A server with the three databases, their views, and the subjects `guest` and `whisk.system`.
    ///
    /// # Errors
    /// When Node, npm or curl are missing, or the server does not come up.
    pub fn start() -> io::Result<Self> {
        let couch = Self::empty()?;
        couch.make("")?;
        Ok(couch)
    }

    /// A server without databases.
    ///
    /// # Errors
    /// When Node or npm are missing, or the server does not come up.
    pub fn empty() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("couch-").tempdir()?.keep();
        let mut couch = Self {
            folder,
            port: 0,
            process: None,
        };
        couch.go_on()?;
        Ok(couch)
    }

    /// Makes the three databases with this before their names, as `docker/couchdb/init.sh` does.
    ///
    /// # Errors
    /// When curl is missing, or the server refuses.
    pub fn make(&self, prefix: &str) -> io::Result<()> {
        let output = Command::new("sh")
            .arg(root().join("docker/couchdb/init.sh"))
            .env("DB_PORT", self.port.to_string())
            .env("DB_USERNAME", ADMIN)
            .env("DB_PASSWORD", PASSWORD)
            .env("DB_SUBJECTS", format!("{prefix}{SUBJECTS}"))
            .env("DB_WHISKS", format!("{prefix}{ENTITIES}"))
            .env("DB_ACTIVATIONS", format!("{prefix}{ACTIVATIONS}"))
            .env("GUEST_KEY", GUEST_KEY)
            .env("SYSTEM_KEY", SYSTEM_KEY)
            .output()?;
        if !output.status.success() {
            return Err(failed("the databases could not be made", &output.stderr));
        }
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// How to get to it.
    pub fn database(&self) -> Database {
        Database {
            address: self.address(),
            user: ADMIN.to_owned(),
            password: PASSWORD.to_owned(),
            entities: ENTITIES.to_owned(),
            activations: ACTIVATIONS.to_owned(),
        }
    }

    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Takes the server away.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Brings it back on its port, with what it has stored.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn go_on(&mut self) -> io::Result<()> {
        let users = json!({
            ADMIN: { "password": PASSWORD },
            INVOKER: {
                "password": PASSWORD,
                "read": [format!("rights_{SUBJECTS}"), format!("rights_{ENTITIES}")],
                "write": [format!("rights_{ACTIVATIONS}")],
            },
        });
        let mut process = Command::new("node")
            .arg(packages()?.join("server.js"))
            .arg("--dir")
            .arg(&self.folder)
            .args([
                "--port",
                &self.port.to_string(),
                "--users",
                &users.to_string(),
                "--while-stdin",
                "--remove",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(self.folder.join("log"))?)
            .spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line)?;
        self.process = Some(process);
        self.port = line.trim().parse().map_err(|_| {
            let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
            failed("the server did not start", &log)
        })?;
        Ok(())
    }
}

impl Drop for Couch {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn failed(what: &str, output: &[u8]) -> io::Error {
    io::Error::other(format!("{what}: {}", String::from_utf8_lossy(output)))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder with the server and its packages; fetched with npm where it is not there yet.
///
/// # Errors
/// When npm is missing, or cannot fetch them.
pub fn packages() -> io::Result<PathBuf> {
    let source = root().join("invoker/tests/support/couch");
    let cache = root().join(".cache/couch");
    std::fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let server = cache.join("server");
    let same = |file: &str| std::fs::read(source.join(file)).ok() == std::fs::read(server.join(file)).ok();
    if !same("package-lock.json") {
        let fresh = cache.join("fresh");
        let _ = std::fs::remove_dir_all(&fresh);
        std::fs::create_dir_all(&fresh)?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(file), fresh.join(file))?;
        }
        let fetched = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&fresh)
            .output()?;
        if !fetched.status.success() {
            return Err(failed(
                "npm could not fetch the server's packages",
                &fetched.stderr,
            ));
        }
        let _ = std::fs::remove_dir_all(&server);
        std::fs::rename(&fresh, &server)?;
    }
    if !same("server.js") {
        std::fs::copy(source.join("server.js"), server.join("server.js"))?;
    }
    Ok(server)
}
