//! An action container that does what its action's code says, and says what it was sent.
//!
//! The code is JSON: `{"init": ANSWER, "run": ANSWER or [ANSWER, …]}`; of several the n-th run gets the
//! n-th, and the last one again and again. Without code `/init` is answered 200 and `/run` reports.
//! `PROBE_LISTEN_AFTER_MS` in the image's environment delays the listening. `PROBE_RUNS` names a file to which
//! each `/run` appends its activation's id before anything else: that is the user's code.
#![forbid(unsafe_code)]

use action_proxies::{Request, SENTINEL};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What to do with one request, in the order of the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Answer {
    delay_ms: u64,
    /// Memory to take, until there is no more.
    allocate_mib: usize,
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// Lines of so many bytes each, so many of them, to standard output.
    flood: Option<(usize, usize)>,
    /// Whether both sentinels are written, and what stands behind them.
    sentinels: bool,
    sentinel_suffix: String,
    /// Between the lines and the sentinels, and so that the answer comes first.
    sentinels_after_ms: u64,
    /// Ends the process before anything is answered.
    exit: Option<i32>,
    abort: bool,
    status: u16,
    headers: Map<String, Value>,
    /// The body: this text; or this value as JSON; or JSON of so many bytes; or else the report.
    text: Option<String>,
    body: Option<Value>,
    bytes: Option<usize>,
    framing: Framing,
    /// Ends the process once it is answered.
    exit_after: Option<i32>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            allocate_mib: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            flood: None,
            sentinels: true,
            sentinel_suffix: String::new(),
            sentinels_after_ms: 0,
            exit: None,
            abort: false,
            status: 200,
            headers: Map::new(),
            text: None,
            body: None,
            bytes: None,
            framing: Framing::Length,
            exit_after: None,
        }
    }
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Framing {
    #[default]
    Length,
    Chunked,
    /// By closing the connection.
    Close,
    /// No body and no length.
    Empty,
    /// Closed before a status line.
    Nothing,
    /// Half of the body, then closed.
    Half,
    /// One byte every 100 ms.
    Trickle,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Script {
    init: Option<Answer>,
    run: Option<Runs>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Runs {
    Each(Vec<Answer>),
    All(Box<Answer>),
}

#[derive(Debug, Default)]
struct Seen {
    script: Script,
    runs: usize,
    requests: Vec<Value>,
}

fn main() -> std::io::Result<()> {
    let delay = std::env::var("PROBE_LISTEN_AFTER_MS").ok();
    if let Some(delay) = delay.and_then(|text| text.parse().ok()) {
        std::thread::sleep(Duration::from_millis(delay));
    }
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    for (connection, stream) in listener.incoming().enumerate() {
        let (stream, seen) = (stream?, Arc::clone(&seen));
        std::thread::spawn(move || serve(connection, &stream, &seen));
    }
    Ok(())
}

/// A line for each run, in one piece: other containers may write to the same file.
fn note_run(request: &Request) -> Result<(), String> {
    let Some(path) = std::env::var_os("PROBE_RUNS").filter(|_| request.path == "/run") else {
        return Ok(());
    };
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    let line = format!("{}\n", body["activation_id"].as_str().unwrap_or_default());
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| format!("the run cannot be noted: {error}"))
}

/// Requests of one connection, as long as it is kept.
fn serve(connection: usize, stream: &TcpStream, seen: &Mutex<Seen>) {
    while let Some(request) = Request::read(stream) {
        let answer = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.note(connection, stream, &request);
            match note_run(&request).and_then(|()| seen.choose(&request)) {
                Ok(answer) => answer,
                Err(reason) => {
                    let body = json!({"error": reason}).to_string();
                    let _ = action_proxies::answer(stream, 502, body.as_bytes());
                    return;
                }
            }
        };
        let report = || {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            json!({"requests": seen.requests, "env": std::env::vars().collect::<std::collections::BTreeMap<_, _>>()})
        };
        if perform(&answer, &request.path, stream, report).is_err() || answer.framing != Framing::Length {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

impl Seen {
    fn note(&mut self, connection: usize, stream: &TcpStream, request: &Request) {
        let text = String::from_utf8_lossy(&request.body);
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.requests.push(json!({
            "method": request.method,
            "path": request.path,
            "version": request.version,
            "headers": request.headers,
            "body": serde_json::from_str::<Value>(&text).unwrap_or_else(|_| json!(text)),
            "connection": connection,
            "peer": stream.peer_addr().map(|peer| peer.to_string()).ok(),
            "at_ms": since_epoch.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        }));
    }

    fn choose(&mut self, request: &Request) -> Result<Answer, String> {
        if request.path == "/init" {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            if let Some(code) = body["value"]["code"].as_str().filter(|code| !code.is_empty()) {
                self.script =
                    serde_json::from_str(code).map_err(|error| format!("the code is no script: {error}"))?;
            }
            let ok = Answer {
                sentinels: false,
                body: Some(json!({"ok": true})),
                ..Answer::default()
            };
            return Ok(self.script.init.clone().unwrap_or(ok));
        }
        self.runs += 1;
        Ok(match &self.script.run {
            None => Answer::default(),
            Some(Runs::All(answer)) => (**answer).clone(),
            Some(Runs::Each(answers)) => {
                let at = self.runs.min(answers.len());
                at.checked_sub(1)
                    .map(|at| answers[at].clone())
                    .unwrap_or_default()
            }
        })
    }
}

fn perform(
    answer: &Answer,
    path: &str,
    stream: &TcpStream,
    report: impl Fn() -> Value,
) -> std::io::Result<()> {
    std::thread::sleep(Duration::from_millis(answer.delay_ms));
    if answer.allocate_mib > 0 {
        let mut taken = Vec::new();
        for _ in 0..answer.allocate_mib {
            taken.push(vec![1_u8; 1 << 20]); // written, so that it is really there
        }
        std::hint::black_box(&taken);
    }
    let mut stdout = answer.stdout.join("\n");
    if let Some((length, lines)) = answer.flood {
        stdout.push_str(&vec!["x".repeat(length); lines].join("\n"));
    }
    write_lines(&mut std::io::stdout(), &stdout)?;
    write_lines(&mut std::io::stderr(), &answer.stderr.join("\n"))?;
    if answer.abort {
        std::process::abort();
    }
    if let Some(code) = answer.exit {
        std::process::exit(code);
    }
    let sentinels = format!("{SENTINEL}{}", answer.sentinel_suffix);
    let write_sentinels = move || {
        write_lines(&mut std::io::stdout(), &sentinels)?;
        write_lines(&mut std::io::stderr(), &sentinels)
    };
    if answer.sentinels && path == "/run" {
        if answer.sentinels_after_ms == 0 {
            write_sentinels()?;
        } else {
            let delay = Duration::from_millis(answer.sentinels_after_ms);
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                write_sentinels()
            });
        }
    }
    let body = match (&answer.text, &answer.body, answer.bytes) {
        (Some(text), _, _) => text.clone(),
        (None, Some(body), _) => body.to_string(),
        (None, None, Some(bytes)) => {
            let around = r#"{"x":""}"#.len();
            format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes.saturating_sub(around)))
        }
        (None, None, None) => report().to_string(),
    };
    send(answer, &body, stream)?;
    if let Some(code) = answer.exit_after {
        std::process::exit(code);
    }
    Ok(())
}

/// In one piece; nothing if there is nothing.
fn write_lines(to: &mut impl Write, text: &str) -> std::io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    to.write_all(format!("{text}\n").as_bytes())?;
    to.flush()
}

fn send(answer: &Answer, body: &str, mut stream: &TcpStream) -> std::io::Result<()> {
    if answer.framing == Framing::Nothing {
        return Ok(());
    }
    let mut head = format!(
        "HTTP/1.1 {} Status\r\nContent-Type: application/json\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    match answer.framing {
        Framing::Nothing => Ok(()),
        Framing::Length => {
            let whole = format!("{head}{length}{body}");
            stream.write_all(whole.as_bytes())
        }
        Framing::Chunked => {
            let (first, second) = body.split_at(middle(body));
            stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
                stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
        Framing::Close => stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()),
        Framing::Empty => stream.write_all(format!("{head}\r\n").as_bytes()),
        Framing::Half => stream.write_all(format!("{head}{length}{}", &body[..middle(body)]).as_bytes()),
        Framing::Trickle => {
            stream.write_all(format!("{head}{length}").as_bytes())?;
            for byte in body.as_bytes() {
                stream.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }
    }
}

fn middle(body: &str) -> usize {
    let mut at = body.len() / 2;
    while !body.is_char_boundary(at) {
        at -= 1;
    }
    at
}
