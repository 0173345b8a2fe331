//! A real `ffs-runtime` with a real Python process, and the invoker's end of all its channels.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits for it unless something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SENTINEL: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX";

pub struct Runtime {
    process: Child,
    pub lifeline: Option<ChildStdin>,
    socket: PathBuf,
    output: [Output; 2],
    folder: TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One of the runtime's own streams; read only when a test looks.
struct Output {
    pipe: Box<dyn Read>,
    read: Vec<u8>,
    ended: bool,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ffs-runtime"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FFS_") && name != "FFS_PYTHON" {
            command.env_remove(name);
        }
    }
    command.env(
        "PYTHONPATH",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture"),
    );
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Runtime {
    /// An ordinary action container.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let socket = folder.path().join("proxy");
        let mut command = command();
        command.env("FFS_LISTEN", &socket);
        prepare(&mut command);
        let mut process = command.spawn().expect("the binary was built");
        let output = [
            nonblocking(process.stdout.take()),
            nonblocking(process.stderr.take()),
        ];
        let lifeline = process.stdin.take();
        let runtime = Self {
            process,
            lifeline,
            socket,
            output,
            folder,
        };
        eventually(|| UnixStream::connect(&runtime.socket).ok().map(drop));
        runtime
    }

    /// One that has this code.
    pub fn with_code(code: &str) -> Self {
        let runtime = Self::start();
        let answer = runtime.init(code);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ok\":true}\n"));
        runtime
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn init(&self, code: &str) -> Answer {
        self.post("/init", &init_body(code))
    }

    pub fn run(&self, value: Value) -> Answer {
        self.post("/run", &json!({"value": value, "activation_id": "0".repeat(32)}))
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(path, body.to_string().as_bytes()).answer()
    }

    /// Sends a request, and does not wait for the answer.
    pub fn send(&self, path: &str, body: &[u8]) -> Waiting {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: action\r\nContent-Length: {}\r\n",
            body.len()
        );
        self.send_raw(&[head.as_bytes(), b"Connection: close\r\n\r\n", body].concat())
    }

    pub fn send_raw(&self, bytes: &[u8]) -> Waiting {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        // A refused body is not read to its end.
        let _ = stream.write_all(bytes);
        Waiting(stream)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// The Python process.
    pub fn python(&self) -> Pid {
        let pid = self.pid();
        let children = eventually(|| {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            (!children.is_empty()).then_some(children)
        });
        Pid::from_raw(
            children
                .split_whitespace()
                .next()
                .and_then(|pid| pid.parse().ok())
                .expect("a pid"),
        )
    }

    pub fn terminate(&self) {
        kill(self.pid(), Signal::SIGTERM).expect("it runs");
    }

    /// Waits for the end; the exit code.
    pub fn wait(&mut self) -> i32 {
        let status = eventually(|| self.process.try_wait().expect("it is our child"));
        status.code().expect("it ends by itself")
    }

    /// What is in a stream at this moment, since the last look.
    pub fn written(&mut self, stream: Stream) -> String {
        let output = &mut self.output[stream as usize];
        output.look();
        String::from_utf8(std::mem::take(&mut output.read)).expect("UTF-8")
    }

    /// Waits until a stream holds a text; gives all since the last look.
    pub fn written_with(&mut self, stream: Stream, text: &str) -> String {
        let output = &mut self.output[stream as usize];
        eventually(|| {
            output.look();
            let found = String::from_utf8_lossy(&output.read).contains(text);
            assert!(
                found || !output.ended,
                "{text:?} is not in {:?}",
                String::from_utf8_lossy(&output.read)
            );
            found.then_some(())
        });
        self.written(stream)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            // Not SIGKILL: it takes its descendants with it.
            self.terminate();
            if !std::thread::panicking() {
                drop(self.lifeline.take());
                self.wait();
            }
        }
    }
}

/// A request that is under way.
pub struct Waiting(pub UnixStream);

impl Waiting {
    pub fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("an answer in time");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        let answer = Answer {
            status,
            head: head.into(),
            body: body.into(),
        };
        assert_eq!(
            answer.header("Content-Length"),
            Some(body.len().to_string().as_str()),
            "{head}"
        );
        answer
    }
}

fn nonblocking<P: Read + std::os::fd::AsFd + 'static>(pipe: Option<P>) -> Output {
    let pipe = pipe.expect("it was asked to be a pipe");
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe");
    Output {
        pipe: Box::new(pipe),
        read: Vec::new(),
        ended: false,
    }
}

impl Output {
    fn look(&mut self) {
        let mut buffer = [0; 65536];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.read.extend_from_slice(&buffer[..n]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            return;
        }
    }
}

pub fn init_body(code: &str) -> Value {
    json!({"value": {"name": "a", "main": "main", "binary": false, "code": code, "env": {}}})
}

/// Asks again until there is an answer.
pub fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn runs(pid: i64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A config layer with two lanes, and the invoker's end of `control`.
pub struct Instance {
    pub layer: TempDir,
    control: UnixListener,
}

impl Instance {
    pub fn new(code: &str) -> Self {
        let lane = |id: &str, component: &str, digit: &str| {
            json!({"id": id, "components": [component, format!("{component}2")],
                "mig": {"uuid": format!("MIG-{digit}"), "profile": "1g.10gb", "gpu_uuid": "GPU-1", "memory_bytes": 1},
                "rings_in": [], "rings_out": []})
        };
        let stages = json!([{"index": 0, "lanes": [lane("s0l0", "seg", "1")]}, {"index": 1, "lanes": [lane("s1l0", "cls", "2")]}]);
        Self::with(code, "i-1", stages, json!([]))
    }

    /// An instance with these stages and rings, of epoch 3.
    pub fn with(code: &str, id: &str, stages: Value, rings: Value) -> Self {
        let layer = TempDir::new().expect("a temporary folder");
        let control = UnixListener::bind(layer.path().join("control")).expect("a socket");
        let assignment = json!({"schema": "ffs.assignment/1", "instance": id, "function": "guest/f",
            "revision": "1-a", "epoch": 3, "policy": "fluidfaas", "rank": 0, "cv": 0.5, "stages": stages,
            "rings": rings, "batch": {"max": 1, "wait_ms": 0.0}});
        std::fs::write(layer.path().join("assignment.json"), assignment.to_string()).expect("written");
        std::fs::write(layer.path().join("init.json"), init_body(code).to_string()).expect("written");
        Self { layer, control }
    }

    pub fn start(&self, lane: &str) -> (Runtime, Control) {
        let runtime = self.start_alone(lane);
        (runtime, self.accept())
    }

    pub fn start_alone(&self, lane: &str) -> Runtime {
        self.start_with(lane, |_| {})
    }

    pub fn start_with(&self, lane: &str, prepare: impl FnOnce(&mut Command)) -> Runtime {
        Runtime::start_with(|command| {
            prepare(command);
            command
                .env("FFS_CONFIG", self.layer.path())
                .env("FFS_LANE", lane)
                .env("FFS_TOKEN", "secret");
        })
    }

    /// Listens no more.
    pub fn into_layer(self) -> TempDir {
        self.layer
    }

    pub fn accept(&self) -> Control {
        let (stream, _) = self.control.accept().expect("a lane connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Control(BufReader::new(stream))
    }
}

/// The invoker's end of one lane's connection.
pub struct Control(BufReader<UnixStream>);

impl Control {
    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Whether the lane has said everything that it will say.
    pub fn is_over(&mut self) -> bool {
        self.0.fill_buf().expect("an end in time").is_empty()
    }

    pub fn say(&mut self, message: Value) {
        self.say_raw(format!("{message}\n").as_bytes());
    }

    pub fn say_raw(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the lane listens");
    }

    pub fn state(&mut self, epoch: u64, desired: &str) {
        self.say(json!({"type": "state", "schema": "ffs.state/1", "epoch": epoch, "desired": desired}));
    }

    /// Takes the lane through `hello` and `loaded`.
    pub fn run(&mut self) {
        assert_eq!(self.hear()["type"], "hello");
        self.state(3, "run");
        assert_eq!(self.hear()["type"], "loaded");
    }
}
