//! A real Kafka broker of one node, on free ports, in a folder of its own. It ends with the process that
//! started it, also if that is killed. Java and Maven are needed; the jars are fetched once, into `.cache/kafka`.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    port: u16,
    /// Its standard input holds the broker alive.
    process: Child,
}

/// In a broker's folder while it is to come back.
const KEEP: &str = "keep";

impl Broker {
    /// # Errors
    /// When Java or the jars are missing, or when it does not come up; the text has the end of its log.
    pub fn start() -> io::Result<Self> {
        for _ in 0..5 {
            let folder = tempfile::Builder::new().prefix("kafka-").tempdir()?.keep();
            let [port, controller] = free_ports()?;
            std::fs::write(
                folder.join("server.properties"),
                properties(&folder, port, controller),
            )?;
            let format = [
                "kafka.tools.StorageTool",
                "format",
                "-t",
                "MkU3OEVBNTcwNTJENDM2Qk",
                "-c",
            ];
            let format = java(&format)?.arg(folder.join("server.properties")).output()?;
            if !format.status.success() {
                return Err(io::Error::other(
                    String::from_utf8_lossy(&format.stderr).into_owned(),
                ));
            }
            let process = launch(&folder)?;
            let mut broker = Self {
                folder,
                port,
                process,
            };
            if broker.answers()? {
                return Ok(broker);
            }
            // Somebody else has taken a port in between: `broker` goes, and its folder with it.
        }
        Err(io::Error::other("the broker did not start"))
    }

    pub fn hosts(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process of the JVM.
    pub fn process(&self) -> Option<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        let children = std::fs::read_to_string(children).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Takes the broker away at once, as a crash does.
    pub fn stop(&mut self) {
        // Written where the broker's shell looks; if that fails, what was stored is gone.
        let _ = std::fs::write(self.folder.join(KEEP), "");
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }

    /// Brings it back on its port, with what it has stored.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn go_on(&mut self) -> io::Result<()> {
        let _ = std::fs::remove_file(self.folder.join(KEEP));
        self.process = launch(&self.folder)?;
        if self.answers()? {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the broker did not come back: {}",
            self.log()
        )))
    }

    fn answers(&mut self) -> io::Result<bool> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if TcpStream::connect(address).is_ok() {
                return Ok(true);
            }
            if self.process.try_wait()?.is_some() {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(io::Error::other(format!(
            "the broker does not answer: {}",
            self.log()
        )))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts the broker under a shell that kills it when our end of its standard input is closed, and removes its
/// folder unless [`KEEP`] is in it: also if we are killed, or never drop it.
fn launch(folder: &Path) -> io::Result<Child> {
    let script = r#"
        exec 3<&0
        "$@" </dev/null >>"$FOLDER/log" 2>&1 &
        broker=$!
        { cat <&3 >/dev/null; kill -9 $broker; } 2>/dev/null &
        wait $broker
        [ -e "$FOLDER/keep" ] || rm -rf "$FOLDER"
    "#;
    let broker = java(&["kafka.Kafka"])?;
    Command::new("sh")
        .args(["-c", script, "sh", "java"])
        .args(broker.get_args())
        .arg(folder.join("server.properties"))
        .env("FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn java(arguments: &[&str]) -> io::Result<Command> {
    let mut command = Command::new("java");
    command
        .args(["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jars()?.join("*"))
        .args(arguments);
    Ok(command)
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
         group.min.session.timeout.ms=500\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n",
        folder.join("data").display()
    )
}

fn free_ports() -> io::Result<[u16; 2]> {
    let first = TcpListener::bind(("127.0.0.1", 0))?;
    let second = TcpListener::bind(("127.0.0.1", 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// The folder with Kafka's jars; fetched with Maven where it is not there yet.
///
/// # Errors
/// When Maven is missing, or cannot fetch them.
pub fn jars() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = root.join(".cache/kafka");
    let jars = cache.join("3.9.1");
    std::fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    if jars.exists() {
        return Ok(jars);
    }
    let fresh = cache.join("fresh");
    let _ = std::fs::remove_dir_all(&fresh);
    let fetched = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(root.join("invoker/tests/support/kafka/pom.xml"))
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", fresh.display()))
        .output()
        .map_err(|error| {
            io::Error::other(format!(
                "mvn of Debian's package maven cannot be started: {error}"
            ))
        })?;
    if !fetched.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&fetched.stdout).into_owned(),
        ));
    }
    std::fs::rename(&fresh, &jars)?;
    Ok(jars)
}
