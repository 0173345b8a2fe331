//! `ffs-invoker run` as a process, with a real Kafka, a real CouchDB API and a real ZooKeeper: how it gets
//! its id, starts, tells others, and ends.
#![allow(clippy::unwrap_used)]

#[path = "support/couch.rs"]
#[allow(dead_code)]
mod couch;
#[path = "support/kafka.rs"]
#[allow(dead_code)]
mod kafka;
#[path = "support/zookeeper.rs"]
mod zookeeper;

use couch::Couch;
use ffs_invoker::bus::{Bus, TopicSpec};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zookeeper::ZooKeeper;

/// Longest wait for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What ansible's role gives the invoker of a local cluster.
const ANSIBLE: &str = include_str!("data/settings/ansible.env");

/// Where invokers of one test keep what is theirs.
struct Node {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Node {
    /// Containers are processes, the HTTP server has a free port, and Kafka is nowhere.
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ffs").tempdir().unwrap();
        let content = format!(
            "[ffs]\nengine = \"process\"\nstate-dir = {:?}\nrun-dir = {:?}\n",
            folder.path().join("state"),
            folder.path().join("run")
        );
        std::fs::write(folder.path().join("invoker.toml"), content).unwrap();
        let variables = [
            ("PORT", "0"),
            ("CONFIG_whisk_invoker_protocol", "http"),
            ("KAFKA_HOSTS", "127.0.0.1:1"),
            ("ZOOKEEPER_HOSTS", "127.0.0.1:1"),
        ];
        Self {
            folder,
            variables: Vec::new(),
        }
        .with(&variables)
    }

    fn with(mut self, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter();
        self.variables
            .extend(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Invoker {
        let log = self.folder.path().join(format!("{name}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
            .args(["run", "--config"])
            .arg(self.folder.path().join("invoker.toml"))
            .args(arguments)
            .env_clear()
            .envs(ANSIBLE.lines().filter_map(|line| line.split_once('=')))
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Invoker { process, log }
    }
}

struct Invoker {
    process: Child,
    log: PathBuf,
}

impl Invoker {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The first line of the log that has this in it.
    async fn line(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            let ended = self.process.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "no {text:?} ({ended:?}) in\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn terminate(&self) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    }
}

impl Drop for Invoker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node whose Kafka and CouchDB are there.
async fn node() -> (Node, ffs_invoker::bus::kafka::KafkaBus) {
    let broker = tokio::task::spawn_blocking(kafka::shared).await.unwrap();
    let couch = tokio::task::spawn_blocking(|| {
        let couch = Couch::shared();
        couch.settings(couch.databases())
    });
    let couch = couch.await.unwrap();
    let node = Node::new().with(&[
        ("KAFKA_HOSTS", &broker.hosts()),
        ("CONFIG_whisk_couchdb_host", &couch.host),
        ("CONFIG_whisk_couchdb_port", &couch.port.to_string()),
        ("CONFIG_whisk_couchdb_username", &couch.username),
        ("CONFIG_whisk_couchdb_password", &couch.password),
        ("CONFIG_whisk_couchdb_databases_WhiskAuth", &couch.databases.auth),
        (
            "CONFIG_whisk_couchdb_databases_WhiskEntity",
            &couch.databases.entity,
        ),
        (
            "CONFIG_whisk_couchdb_databases_WhiskActivation",
            &couch.databases.activation,
        ),
    ]);
    (node, broker.bus())
}

/// P-02, P-05, P-10, P-12, H-01, D-34, N-20, N-22, N-33: with an id no ZooKeeper is asked; the invoker says in its pings
/// who it is and how much memory it has; a second one of the same id does not start; a signal ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoker_starts_tells_who_it_is_and_ends() {
    let (node, bus) = node().await;
    bus.ensure_topic(&TopicSpec {
        name: "health".into(),
        partitions: 1,
        replication: 1,
        ..TopicSpec::default()
    })
    .await
    .unwrap();
    let mut pings = bus.subscribe("health", "run-test").await.unwrap();
    let arguments = ["--uniqueName", "a", "--displayedName", "  ", "--id", "4"];

    let mut invoker = node.start("first", &arguments);
    let address = invoker.line("admin server").await;
    let mut second = node.start("second", &["--id", "4"]);
    assert_eq!(second.end().await.code(), Some(1));
    assert!(
        second.log().contains("is in use by another daemon"),
        "{}",
        second.log()
    );

    let ping = tokio::time::timeout(PATIENCE, pings.next(1))
        .await
        .unwrap()
        .unwrap();
    let ping: Value = serde_json::from_slice(&ping[0].payload).unwrap();
    let name = &ping["name"];
    assert_eq!(name["instance"], 4);
    assert_eq!(name["uniqueName"], "a");
    assert_eq!(name["userMemory"], "2147483648 B");
    assert_eq!(name.get("displayedName"), None, "{ping}");
    assert_eq!(name["tags"], serde_json::json!([]));

    let address = address.split("address=").nth(1).unwrap();
    let port = address.split(' ').next().unwrap().rsplit(':').next().unwrap();
    let stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await;
    assert!(stream.is_ok(), "{address}");
    drop(stream);

    invoker.terminate();
    assert_eq!(invoker.end().await.code(), Some(0), "{}", invoker.log());
    let log = invoker.log();
    let position = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{log}"));
    assert!(position("] started") < position("] admin server"), "{log}");
    assert!(log.contains("memory_mb=128..512 timeout_ms=100..300000"), "{log}");
    for line in log.lines() {
        let mut parts = line.splitn(5, "] ");
        let time = parts.next().unwrap().strip_prefix('[').unwrap_or_default();
        assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        assert!(
            ["[INFO", "[WARN", "[ERROR", "[DEBUG"].contains(&parts.next().unwrap()),
            "{line}"
        );
        assert!(parts.next().unwrap().starts_with("[#tid_sid_"), "{line}");
    }
    // Its directory is free again.
    let mut third = node.start("third", &["--id", "4"]);
    third.line("admin server").await;
}

/// P-11, K-05: a topic that the broker refuses to make ends the process, with the topic's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_cannot_be_made_ends_the_process() {
    let (node, _) = node().await;
    let node = node.with(&[("CONFIG_whisk_kafka_replicationFactor", "3")]);
    let mut invoker = node.start("refused", &["--id", "77"]);
    assert_eq!(invoker.end().await.code(), Some(1));
    let log = invoker.log();
    assert!(
        log.contains("[ERROR]") && log.contains("topic invoker77 could not be created"),
        "{log}"
    );
}

/// P-10, P-11: without Docker there is no start, and the line names its socket; with Docker there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_dockers_unless_told_otherwise() {
    let (node, _) = node().await;
    let no_stem_cells = r#"{"runtimes": {"a": [{"kind": "a:1", "image": {"name": "a"}}]}}"#;
    let docker = [
        ("CONFIG_ffs_engine", "docker"),
        ("RUNTIMES_MANIFEST", no_stem_cells),
    ];
    let mut node = node
        .with(&docker)
        .with(&[("CONFIG_ffs_dockerSocket", "/nowhere/docker.sock")]);
    let mut invoker = node.start("without", &["--id", "5"]);
    assert_eq!(invoker.end().await.code(), Some(1));
    let log = invoker.log();
    assert!(
        log.contains("[ERROR]") && log.contains("/nowhere/docker.sock"),
        "{log}"
    );

    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/docker-engine");
    assert!(Command::new(engine).status().unwrap().success());
    node = node.with(&[("CONFIG_ffs_dockerSocket", "/var/run/docker.sock")]);
    // A name of its own, so that it sweeps nobody's containers.
    let name = format!("r{}x", std::process::id());
    let mut invoker = node.start("with", &["--id", "5", "--uniqueName", &name]);
    invoker.line("admin server").await;
    invoker.terminate();
    assert_eq!(invoker.end().await.code(), Some(0), "{}", invoker.log());
}

/// Docker's socket, but for the list of containers, which is never answered.
fn docker_that_does_not_list(at: &Path) {
    let listener = tokio::net::UnixListener::bind(at).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut docker = tokio::net::UnixStream::connect("/var/run/docker.sock")
                    .await
                    .unwrap();
                let (mut asked, mut answered) = ([0; 8192], [0; 8192]);
                loop {
                    tokio::select! {
                        read = client.read(&mut asked) => {
                            let Ok(count @ 1..) = read else { return };
                            let text = String::from_utf8_lossy(&asked[..count]);
                            if text.contains("/containers/json") {
                                std::future::pending::<()>().await;
                            }
                            docker.write_all(&asked[..count]).await.unwrap();
                        }
                        read = docker.read(&mut answered) => {
                            let Ok(count @ 1..) = read else { return };
                            if client.write_all(&answered[..count]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
}

/// P-11, P-68: what an earlier process left cannot be cleaned up: the process ends, and says what Docker did not do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_docker_that_does_not_list_its_containers_ends_the_process() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/docker-engine");
    assert!(Command::new(engine).status().unwrap().success());
    let (node, _) = node().await;
    let socket = node.folder.path().join("docker.sock");
    docker_that_does_not_list(&socket);
    let manifest = r#"{"runtimes": {"a": [{"kind": "a:1", "image": {"name": "a"}}]}}"#;
    let mut node = node.with(&[
        ("CONFIG_ffs_engine", "docker"),
        ("RUNTIMES_MANIFEST", manifest),
        ("CONFIG_ffs_dockerSocket", &socket.display().to_string()),
    ]);
    for (name, limit, said) in [
        ("given-up", "500 ms", "Docker has not answered `ps` within 500ms"),
        ("too-late", "5 minutes", "30s"),
    ] {
        node = node.with(&[("CONFIG_whisk_docker_client_timeouts_ps", limit)]);
        let mut invoker = node.start(name, &["--id", "6"]);
        assert_eq!(invoker.end().await.code(), Some(1), "{name}");
        let log = invoker.log();
        let error = log.lines().find(|line| line.contains("[ERROR]"));
        assert!(error.is_some_and(|line| line.contains(said)), "{name}: {log}");
    }
}

/// P-06, P-07, P-08: ids by name, from the counter and the mapping that Scala invokers use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_come_from_zookeeper_by_name() {
    let server = tokio::task::spawn_blocking(|| {
        kafka::shared();
        ZooKeeper::start()
    });
    let server = server.await.unwrap();
    let node = Node::new().with(&[("ZOOKEEPER_HOSTS", &server.hosts())]);
    let assigned = async |name: &str, more: &[&str]| {
        let mut arguments = vec!["--uniqueName", name];
        arguments.extend(more);
        let mut invoker = node.start(name, &arguments);
        let line = invoker.line("invoker id assigned").await;
        line.rsplit("id=").next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(assigned("a", &[]).await, 0);
    assert_eq!(assigned("b", &[]).await, 1);
    assert_eq!(assigned("a", &[]).await, 0);
    let (third, fourth) = tokio::join!(assigned("c", &[]), assigned("d", &[]));
    assert_eq!(third + fourth, 5, "{third} and {fourth}");
    // `e` takes the id of `b`, which then gets a new one: there are still four names.
    assert_eq!(assigned("e", &["--overwriteId", "1"]).await, 1);
    assert_eq!(assigned("b", &[]).await, 4);
    let mut refused = node.start("f", &["--uniqueName", "f", "--overwriteId", "9"]);
    assert_eq!(refused.end().await.code(), Some(1));
    assert!(
        refused.log().contains("only 5 names are registered"),
        "{}",
        refused.log()
    );

    let client = zookeeper_client::Client::connect(&server.hosts()).await.unwrap();
    let read = async |path: &str| client.get_data(path).await.unwrap().0;
    assert_eq!(read("/invokers/idAssignment/mapping/a").await, [0]);
    assert_eq!(read("/invokers/idAssignment/mapping/b").await, [4]);
    assert_eq!(read("/invokers/idAssignment/counter").await, [0, 0, 0, 5]);
}
