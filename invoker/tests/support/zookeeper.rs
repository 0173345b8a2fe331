//! A real ZooKeeper of one node, from the jars that come with Kafka's. It ends with the test process, also
//! if that is killed.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct ZooKeeper {
    port: u16,
    /// Its standard input holds the server alive.
    process: Child,
    folder: TempDir,
}

impl ZooKeeper {
    /// Kafka's jars must be there: a broker has been started.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            folder.path().join("data").display()
        );
        std::fs::write(folder.path().join("zoo.cfg"), config).unwrap();
        let script = r#"
            exec 3<&0
            java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$JARS" \
                org.apache.zookeeper.server.ZooKeeperServerMain "$FOLDER/zoo.cfg" </dev/null >"$FOLDER/log" 2>&1 &
            server=$!
            { cat <&3 >/dev/null; kill -9 $server; } 2>/dev/null &
            wait $server
        "#;
        let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/kafka/3.9.1/*");
        let process = Command::new("sh")
            .args(["-c", script])
            .env("JARS", jars)
            .env("FOLDER", folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            port,
            process,
            folder,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.try_wait().unwrap().is_some();
            assert!(
                !ended && begun.elapsed() < PATIENCE,
                "no ZooKeeper: {}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    pub(crate) fn hosts(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
