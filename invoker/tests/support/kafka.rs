//! A real Kafka broker of one node, on free ports, in a folder of its own. It ends with the test process,
//! also if that is killed. Java and Maven are needed; the jars are fetched once, into `.cache/kafka`.

use ffs_invoker::bus::kafka::{KafkaBus, KafkaSettings};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Broker {
    folder: PathBuf,
    port: u16,
    /// Its standard input holds the broker alive.
    process: Child,
}

impl Broker {
    pub(crate) fn start() -> Self {
        for _ in 0..5 {
            let folder = tempfile::Builder::new()
                .prefix("kafka-")
                .tempdir()
                .unwrap()
                .keep();
            let [port, controller] = free_ports();
            std::fs::write(
                folder.join("server.properties"),
                properties(&folder, port, controller),
            )
            .unwrap();
            let format = java(&[
                "kafka.tools.StorageTool",
                "format",
                "-t",
                "MkU3OEVBNTcwNTJENDM2Qk",
                "-c",
            ])
            .arg(folder.join("server.properties"))
            .output()
            .unwrap();
            assert!(
                format.status.success(),
                "{}",
                String::from_utf8_lossy(&format.stderr)
            );
            let process = launch(&folder);
            let mut broker = Self {
                folder,
                port,
                process,
            };
            if broker.answers() {
                return broker;
            }
            // Somebody else has taken a port in between.
            broker.end();
        }
        panic!("the broker did not start");
    }

    pub(crate) fn hosts(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client with short group time-outs, so that a lost member is soon forgotten.
    pub(crate) fn bus(&self) -> KafkaBus {
        let consumer = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")];
        let settings = KafkaSettings {
            hosts: self.hosts(),
            consumer: consumer.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            producer: BTreeMap::new(),
            common: BTreeMap::from([("security.protocol".into(), "PLAINTEXT".into())]),
            message_bytes: 1_054_644,
        };
        KafkaBus::new(settings).unwrap()
    }

    /// Takes the broker away and brings it back, with what it has stored.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.folder);
        assert!(self.answers(), "the broker did not come back: {}", self.log());
    }

    fn answers(&mut self) -> bool {
        let address: SocketAddr = self.hosts().parse().unwrap();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if TcpStream::connect(address).is_ok() {
                return true;
            }
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the broker does not answer: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }

    fn end(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The broker of all tests of this process; the shell that started it removes its folder at the end.
pub(crate) fn shared() -> &'static Broker {
    static SHARED: std::sync::OnceLock<Broker> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| {
        let broker = Broker::start();
        // It outlives this function, and its folder goes when the broker does.
        std::fs::write(broker.folder.join("remove"), "").unwrap();
        broker
    })
}

/// Starts the broker under a shell that kills it when our end of its standard input is closed.
fn launch(folder: &Path) -> Child {
    let script = r#"
        exec 3<&0
        "$@" </dev/null >>"$FOLDER/log" 2>&1 &
        broker=$!
        { cat <&3 >/dev/null; kill -9 $broker; } 2>/dev/null &
        wait $broker
        [ -e "$FOLDER/remove" ] && rm -rf "$FOLDER"
    "#;
    let broker = java(&["kafka.Kafka"]);
    Command::new("sh")
        .args(["-c", script, "sh", "java"])
        .args(broker.get_args())
        .arg(folder.join("server.properties"))
        .env("FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn java(arguments: &[&str]) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jars().join("*"))
        .args(arguments);
    command
}

fn properties(folder: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n",
        folder.join("data").display()
    )
}

fn free_ports() -> [u16; 2] {
    let listeners = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The folder with Kafka's jars; fetched with Maven where it is not there yet.
fn jars() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cache = project.join("../.cache/kafka");
    let jars = cache.join("3.9.1");
    std::fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    if jars.exists() {
        return jars;
    }
    let fresh = cache.join("fresh");
    let _ = std::fs::remove_dir_all(&fresh);
    let fetched = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(project.join("tests/support/kafka/pom.xml"))
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", fresh.display()))
        .output()
        .expect("mvn can be started: Debian has it in the package maven, and Java in default-jre-headless");
    assert!(
        fetched.status.success(),
        "{}",
        String::from_utf8_lossy(&fetched.stdout)
    );
    std::fs::rename(&fresh, &jars).unwrap();
    jars
}
