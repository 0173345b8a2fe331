//! Compares policies on real lanes: one of the paper's applications (`ffs-runtime/python/examples/applications`)
//! on a simulated GPU whose small slices cannot hold it whole. The policies take turns on one state directory,
//! so that all decide by the same measured profile. Prints one table: throughput with always so many activations
//! in flight, and the share of activations within the SLO when they arrive by themselves.
//!
//! `cargo run --release -p benches --bin policies`, with `ffs-invoker` and `ffs-runtime` built in the same
//! profile, and `scripts/python-env`. Run it as root: limits of simulated slices need control groups.
#![forbid(unsafe_code)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Cause = Box<dyn std::error::Error + Send + Sync>;

const EXAMPLES: &str = "ffs-runtime/python/examples/applications";
/// Profiling every kind of slice takes minutes on the smallest.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Parser)]
#[command(about = "Compares policies on real lanes with CPU-quota slices")]
struct Arguments {
    /// One of the four applications
    #[arg(long, default_value = "depth_recognition")]
    application: String,
    /// Size of its networks: small or real
    #[arg(long, default_value = "real")]
    size: String,
    /// Side of the picture in pixels, a multiple of 32
    #[arg(long, default_value_t = 32)]
    side: usize,
    #[arg(long, default_value = "[4g.40gb+2g.20gb+1g.10gb]@A100-80GB")]
    topology: String,
    /// Memory that stands for one whole GPU
    #[arg(long)]
    gpu_memory: String,
    /// CPUs that stand for one whole GPU [default: 0.6 of the host's]
    #[arg(long)]
    gpu_cpus: Option<f64>,
    #[arg(long, value_delimiter = ',', default_value = "esg,fluidfaas")]
    policies: Vec<String>,
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds before each measurement of throughput, in which instances are started
    #[arg(long, default_value_t = 30.0)]
    warmup: f64,
    /// Activations in flight when throughput is measured
    #[arg(long, default_value_t = 6)]
    in_flight: usize,
    /// Arrivals when SLO hits are counted, beside the throughput of the first policy in the first round
    #[arg(long, default_value_t = 1.2)]
    rate: f64,
    /// The program ffs-invoker [default: beside this one]
    #[arg(long)]
    invoker: Option<PathBuf>,
    #[arg(long, default_value = ".cache/venv/bin/python")]
    python: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Cause> {
    let arguments = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("ffs-policies").tempdir()?;
    let (first, _) = arguments
        .policies
        .split_first()
        .ok_or("--policies is empty: expected at least one")?;
    let slo = {
        let daemon = Daemon::start(&arguments, first, &folder)?;
        daemon.create(&action(&arguments, folder.path())?).await?;
        let slo = daemon.invoke(&request(&arguments)).await?.slo;
        daemon.until_all_is_measured().await?;
        println!("{}", daemon.get("/explain/guest/application").await?);
        slo.ok_or("the first activation has no annotation `ffs` with an SLO: it did not run in lanes")?
    };
    println!("SLO {} ms", slo.as_millis());
    let mut rows = Vec::new();
    let mut rate = None;
    for round in 1..=arguments.rounds {
        for policy in &arguments.policies {
            let daemon = Arc::new(Daemon::start(&arguments, policy, &folder)?);
            daemon.invoke(&request(&arguments)).await?;
            let throughput = saturated(&daemon, &arguments).await?;
            let rate = *rate.get_or_insert(throughput * arguments.rate);
            let arrived = arriving(&daemon, &arguments, rate).await?;
            let row = Row {
                policy: policy.clone(),
                throughput,
                hits: share(&arrived, slo),
                p95: percentile(&arrived, 0.95),
                plans: daemon.plans().await?,
            };
            eprintln!(
                "round {round}: {row:?}, {} arrivals at {rate:.3}/s",
                arrived.len()
            );
            rows.push(row);
        }
    }
    print(&arguments.policies, &rows);
    Ok(())
}

#[derive(Debug)]
struct Row {
    policy: String,
    /// Answers a second.
    throughput: f64,
    /// Part of the answers within the SLO.
    hits: f64,
    p95: Duration,
    plans: BTreeSet<String>,
}

/// Means over the rounds, and what the first policy's is multiplied with.
fn print(policies: &[String], rows: &[Row]) {
    println!("| policy | answers a second | to the first | SLO hits | p95 s | instances at the end |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut base = None;
    for policy in policies {
        let own: Vec<&Row> = rows.iter().filter(|row| row.policy == *policy).collect();
        let mean =
            |value: &dyn Fn(&Row) -> f64| own.iter().map(|row| value(row)).sum::<f64>() / own.len() as f64;
        let throughput = mean(&|row| row.throughput);
        let plans: BTreeSet<&str> = own
            .iter()
            .flat_map(|row| &row.plans)
            .map(String::as_str)
            .collect();
        println!(
            "| {policy} | {throughput:.3} | {:+.0} % | {:.0} % | {:.1} | {} |",
            (throughput / *base.get_or_insert(throughput) - 1.0) * 100.0,
            mean(&|row| row.hits) * 100.0,
            mean(&|row| row.p95.as_secs_f64()),
            plans.into_iter().collect::<Vec<_>>().join("; ")
        );
    }
}

/// Answers a second while so many activations are in flight all the time.
async fn saturated(daemon: &Arc<Daemon>, arguments: &Arguments) -> Result<f64, Cause> {
    let begin = Instant::now() + Duration::from_secs_f64(arguments.warmup);
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..arguments.in_flight {
        let (daemon, request) = (Arc::clone(daemon), request(arguments));
        clients.spawn(async move {
            let mut answers: u32 = 0;
            while Instant::now() < end {
                daemon.invoke(&request).await?;
                let now = Instant::now();
                answers += u32::from(now >= begin && now < end);
            }
            Ok::<_, Cause>(answers)
        });
    }
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        answers += client??;
    }
    Ok(f64::from(answers) / arguments.seconds)
}

/// Latencies of activations that arrive at random, `rate` a second; the same instants for every policy.
async fn arriving(daemon: &Arc<Daemon>, arguments: &Arguments, rate: f64) -> Result<Vec<Duration>, Cause> {
    let mut random = Random(7);
    let mut clients = JoinSet::new();
    let begun = tokio::time::Instant::now();
    let mut at = 0.0;
    loop {
        at -= random.unit().ln() / rate;
        if at >= arguments.seconds {
            break;
        }
        let (daemon, request) = (Arc::clone(daemon), request(arguments));
        tokio::time::sleep_until(begun + Duration::from_secs_f64(at)).await;
        clients.spawn(async move {
            let arrived = Instant::now();
            daemon.invoke(&request).await?;
            Ok::<_, Cause>(arrived.elapsed())
        });
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.push(client??);
    }
    latencies.sort();
    Ok(latencies)
}

fn share(latencies: &[Duration], slo: Duration) -> f64 {
    latencies.iter().filter(|latency| **latency <= slo).count() as f64 / latencies.len().max(1) as f64
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// In (0, 1].
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

fn request(arguments: &Arguments) -> Value {
    let mut random = Random(1);
    let pixels = 3 * arguments.side * arguments.side;
    let data: Vec<u8> = (0..pixels)
        .flat_map(|_| (random.unit() as f32).to_le_bytes())
        .collect();
    let shape = [1, 3, arguments.side, arguments.side];
    json!({ "size": arguments.size, "image": { "dtype": "float32", "shape": shape, "data": STANDARD.encode(data) } })
}

/// The action's document, with the examples' folder as its zip.
fn action(arguments: &Arguments, folder: &Path) -> Result<Value, Cause> {
    let zip = folder.join("applications.zip");
    let mut pack = Command::new(&arguments.python);
    pack.args(["-m", "zipfile", "-c"]).arg(&zip);
    for entry in std::fs::read_dir(EXAMPLES).map_err(|error| format!("{EXAMPLES}: {error}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            pack.arg(path);
        }
    }
    if !pack.status()?.success() {
        return Err(format!("{} cannot pack {EXAMPLES}", arguments.python.display()).into());
    }
    let code = STANDARD.encode(std::fs::read(&zip)?);
    Ok(json!({
        "exec": { "kind": "python:3", "code": code, "binary": true, "main": arguments.application },
        "limits": { "memory": 2048, "timeout": 300_000 },
        "annotations": [{ "key": "ffs", "value": true }],
    }))
}

struct Daemon {
    child: Child,
    address: SocketAddr,
    authorization: String,
}

struct Answer {
    slo: Option<Duration>,
}

impl Daemon {
    fn start(arguments: &Arguments, policy: &str, folder: &TempDir) -> Result<Self, Cause> {
        let beside = std::env::current_exe()?.with_file_name("ffs-invoker");
        let program = arguments.invoker.as_deref().unwrap_or(&beside);
        let mut command = Command::new(program);
        command.args(["standalone", "--listen", "127.0.0.1:0", "--policy", policy]);
        command.args([
            "--topology",
            &arguments.topology,
            "--gpu-memory",
            &arguments.gpu_memory,
        ]);
        if let Some(cpus) = arguments.gpu_cpus {
            command.args(["--gpu-cpus", &cpus.to_string()]);
        }
        command.arg("--python").arg(&arguments.python);
        command.arg("--state").arg(folder.path().join("state"));
        command.arg("--run").arg(folder.path().join("run"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.path().join("log"))?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut address = None;
        let said = child.stdout.take().ok_or("the daemon has no output")?;
        for line in BufReader::new(said).lines() {
            let line = line?;
            if let Some((_, host)) = line.split_once("API   http://") {
                address = Some(host.parse()?);
            }
            if line == "Ready." {
                break;
            }
        }
        let Some(address) = address else {
            let log = std::fs::read_to_string(folder.path().join("log"))?;
            return Err(format!("{} did not start:\n{log}", program.display()).into());
        };
        let key = std::fs::read_to_string(folder.path().join("state/auth"))?;
        Ok(Self {
            child,
            address,
            authorization: format!("Basic {}", STANDARD.encode(key.trim())),
        })
    }

    async fn create(&self, action: &Value) -> Result<(), Cause> {
        let path = "/api/v1/namespaces/_/actions/application?overwrite=true";
        match self.send("PUT", path, action.to_string()).await? {
            (StatusCode::OK, _) => Ok(()),
            (status, body) => Err(format!("{path} was answered with {status}: {body}").into()),
        }
    }

    /// # Errors
    /// If the activation does not succeed.
    async fn invoke(&self, request: &Value) -> Result<Answer, Cause> {
        let path = "/api/v1/namespaces/_/actions/application?blocking=true";
        let (mut status, mut record) = self.send("POST", path, request.to_string()).await?;
        if status == StatusCode::ACCEPTED {
            // It lasts longer than a blocking call; the record comes when it is done.
            let accepted: Value = serde_json::from_str(&record)?;
            let id = accepted["activationId"]
                .as_str()
                .ok_or("an answer without an id")?;
            let path = format!("/api/v1/namespaces/_/activations/{id}");
            let begun = Instant::now();
            while status != StatusCode::OK && begun.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
                (status, record) = self.send("GET", &path, String::new()).await?;
            }
        }
        let record: Value = serde_json::from_str(&record)?;
        if record["response"]["success"] != json!(true) {
            return Err(format!("an activation did not succeed: {record}").into());
        }
        let notes = record["annotations"].as_array().map_or(&[][..], Vec::as_slice);
        let ffs = notes.iter().find(|note| note["key"] == "ffs");
        let slo = ffs.and_then(|note| note["value"]["slo_ms"].as_f64());
        Ok(Answer {
            slo: slo.map(|ms| Duration::from_secs_f64(ms / 1000.0)),
        })
    }

    async fn get(&self, path: &str) -> Result<String, Cause> {
        let (status, body) = self.send("GET", path, String::new()).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(format!("{path} was answered with {status}: {body}").into())
    }

    async fn status(&self) -> Result<Value, Cause> {
        Ok(serde_json::from_str(&self.get("/status.json").await?)?)
    }

    /// Waits until every kind of slice has been profiled: once at rest, the daemon does so by itself.
    async fn until_all_is_measured(&self) -> Result<(), Cause> {
        let begun = Instant::now();
        loop {
            let status = self.status().await?;
            let slices = list(&status["migs"]["slices"]);
            let kinds: BTreeSet<_> = slices
                .iter()
                .filter_map(|slice| slice["profile"].as_str())
                .collect();
            let measured: BTreeSet<_> = list(&status["decisions"])
                .iter()
                .filter(|decision| decision["what"] == "profile")
                .filter_map(|decision| decision["chosen"].as_str())
                .collect();
            let busy = slices.iter().filter(|slice| slice["state"] != "free").count();
            if measured.is_superset(&kinds) && busy <= 1 {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("only {measured:?} of {kinds:?} measured: {status}").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The partitions that instances run.
    async fn plans(&self) -> Result<BTreeSet<String>, Cause> {
        let status = self.status().await?;
        let plan = |instance: &Value| instance["plan"].as_str().unwrap_or("?").to_owned();
        Ok(list(&status["instances"]).iter().map(plan).collect())
    }

    async fn send(&self, method: &str, path: &str, body: String) -> Result<(StatusCode, String), Cause> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header("authorization", &self.authorization)
            .body(Full::new(Bytes::from(body)))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
