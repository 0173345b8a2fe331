//! Measures the start of a pipeline of two and of three lanes beside that of the same containers started in
//! parallel by themselves. Real Kafka, a server of CouchDB's API, Docker, simulated slices.
//!
//! `cargo run --release -p benches --bin starts`, with `ffs-invoker` built in the same profile. The image is that
//! of `scripts/images ffs/python`.
#![forbid(unsafe_code)]

use benches::engine::{SOCKET, request};
use benches::load::percentile;
use benches::world::{Cause, World, action};
use clap::Parser;
use futures::future::try_join_all;
use hyper::Method;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::controller::{Call, fresh};
use stand_in_controller::invoker::Invoker;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(120);
/// Where a bare container's socket lies in it.
const INSIDE: &str = "/bare";
/// Slices of 128 MiB, which hold one component and not two.
const TOPOLOGY: &str = "[2g.20gb+2g.20gb+2g.20gb+1g.10gb]@A100-80GB";
const GPU_MEMORY: &str = "512 MiB";
/// What a component loads: 60 MiB.
const WEIGHTS: &str = "np.full(60 * 2**20 // 4, 0.1, np.float32)";

#[derive(Debug, Parser)]
#[command(about = "Measures the start of pipelines beside that of their containers by themselves")]
struct Arguments {
    /// How often each is done
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// The program ffs-invoker [default: beside this one]
    #[arg(long)]
    invoker: Option<PathBuf>,
}

struct Bench {
    invoker: Invoker,
    world: World,
}

/// Times of something done beside starts, and how many times as long those took, pair by pair.
#[derive(Default)]
struct Beside {
    times: Vec<Duration>,
    ratios: Vec<f64>,
}

impl Beside {
    fn push(&mut self, time: Duration, start: Duration) {
        self.times.push(time);
        self.ratios.push(start.as_secs_f64() / time.as_secs_f64());
    }

    fn print(&mut self, what: &str) {
        self.ratios.sort_unstable_by(f64::total_cmp);
        let ratio = self.ratios[self.ratios.len() / 2];
        row(
            &format!("{what} (a start takes {ratio:.2} × that)"),
            &mut self.times,
        );
    }
}

/// How long the same containers took.
#[derive(Clone, Copy, Debug)]
struct Bare {
    /// Until all listen.
    listening: Duration,
    /// Until all have taken the code.
    initialised: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Cause> {
    let arguments = Arguments::parse();
    let world = World::start(arguments.invoker, true).await?;
    let invoker = Invoker::start(
        world
            .invoker("8192 m")
            .with("CONFIG_ffs_inventory", "simulated")
            .with("CONFIG_ffs_topology", TOPOLOGY)
            .with("CONFIG_ffs_gpuMemory", GPU_MEMORY)
            .with("CONFIG_ffs_gpuCpus", "4"),
    )?;
    world.controller.until_healthy(0, PATIENCE).await?;
    let bench = Bench { invoker, world };
    println!("| | p50 ms | p99 ms |\n| --- | --- | --- |");
    for lanes in [2, 3] {
        bench.starts(lanes, arguments.times).await?;
    }
    Ok(())
}

impl Bench {
    async fn starts(&self, lanes: usize, times: usize) -> Result<(), Cause> {
        let name = format!("lanes{lanes}");
        let code = code(lanes);
        let action = self.action(&name, &code).await?;
        // Builds and measures the function, and reads the image from disk.
        let (_, instance) = self.start(&action, lanes).await?;
        let models = self.models(&instance).await?;
        if models.len() != lanes {
            return Err(format!("{instance} has {} containers, not {lanes}", models.len()).into());
        }
        let loading = format!("{code}\nWEIGHTS = {WEIGHTS}\n");
        let (mut whole, mut listening) = (vec![], vec![]);
        let (mut initialised, mut loaded) = (Beside::default(), Beside::default());
        for _ in 0..times {
            self.until_gone().await?;
            let without = bare(&models, &code).await?;
            let with = bare(&models, &loading).await?;
            let (start, _) = self.start(&action, lanes).await?;
            whole.push(start);
            listening.push(without.listening);
            initialised.push(without.initialised, start);
            loaded.push(with.initialised, start);
        }
        self.until_gone().await?;
        row(&format!("{lanes} lanes, until the head is asked"), &mut whole);
        row(
            &format!("{lanes} containers by themselves, until all listen"),
            &mut listening,
        );
        initialised.print("… until all have taken the code");
        loaded.print("… and have made one lane's weights each");
        Ok(())
    }

    /// Invokes the action, of which no instance is there; how long its activation waited for one, and the instance.
    async fn start(&self, action: &ActivationMessage, lanes: usize) -> Result<(Duration, String), Cause> {
        let mut running = self.world.controller.send_to(0, Call::new(fresh(action))).await?;
        let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
        let finished = finished
            .map_err(|_| format!("{} was not answered\n{}", running.id, self.invoker.log()))?
            .ok_or("the controller is gone")?;
        let mut acks = finished
            .acks
            .iter()
            .filter_map(|ack| serde_json::from_slice::<Value>(ack).ok());
        let activation = acks
            .find_map(|mut ack| ack["response"].is_object().then(|| ack["response"].take()))
            .ok_or("no ack has the activation")?;
        let annotations = activation["annotations"].as_array().ok_or("no annotations")?;
        let ffs = annotations.iter().find(|note| note["key"] == "ffs");
        let ffs = ffs
            .map(|note| &note["value"])
            .ok_or_else(|| activation.to_string())?;
        if ffs["lanes"].as_array().map(Vec::len) != Some(lanes) {
            return Err(format!("it was not split over {lanes} lanes: {activation}").into());
        }
        let queued = ffs["queued_ms"].as_f64().ok_or("no queued_ms")?;
        let instance = ffs["instance"].as_str().ok_or("no instance")?.to_owned();
        Ok((Duration::from_secs_f64(queued / 1000.0), instance))
    }

    /// What `docker inspect` says of an instance's containers.
    async fn models(&self, instance: &str) -> Result<Vec<Value>, Cause> {
        let ids = self.containers(&format!("_{instance}_s")).await?;
        try_join_all(
            ids.iter()
                .map(async |id| get(&format!("/containers/{id}/json")).await),
        )
        .await
    }

    async fn containers(&self, part: &str) -> Result<Vec<String>, Cause> {
        let filters = json!({ "name": [format!("^/wsk{}0_.*{part}", self.invoker.unique_name())] });
        let filters: String = filters
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let listed = get(&format!("/containers/json?all=true&filters={filters}")).await?;
        let ids = listed.as_array().into_iter().flatten();
        Ok(ids
            .filter_map(|one| one["Id"].as_str().map(str::to_owned))
            .collect())
    }

    /// Waits until the last instance has been idle for its keep-alive and is gone.
    async fn until_gone(&self) -> Result<(), Cause> {
        let begun = Instant::now();
        while !self.containers("_i-").await?.is_empty() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("an instance stays\n{}", self.invoker.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn action(&self, name: &str, code: &str) -> Result<ActivationMessage, Cause> {
        let exec = json!({ "kind": "python:3", "code": code, "binary": false });
        let annotations = json!([{ "key": "ffs", "value": { "keep_alive_s": 0.5 } }]);
        let limits = json!({ "concurrency": 1, "logs": 10, "memory": 512, "timeout": 60000 });
        action(&self.world.couch, name, exec, annotations, limits).await
    }
}

/// The same containers, created and started in parallel, without what makes lanes of them.
async fn bare(models: &[Value], code: &str) -> Result<Bare, Cause> {
    let folder = tempfile::Builder::new().prefix("ffs-starts-").tempdir()?;
    // The containers' users are nobody's here.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
    let made = Mutex::new(Vec::new());
    let began = Instant::now();
    let all = models.iter().enumerate().map(async |(n, model)| {
        let socket = format!("{n}.sock");
        let created = post("/containers/create", &body(model, folder.path(), &socket)).await?;
        let id = created["Id"].as_str().ok_or("no id")?.to_owned();
        made.lock().await.push(id.clone());
        post(&format!("/containers/{id}/start"), &Value::Null).await?;
        let socket = folder.path().join(socket);
        while UnixStream::connect(&socket).await.is_err() {
            if began.elapsed() > PATIENCE {
                return Err(format!("container {id} does not listen").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let listening = began.elapsed();
        let init =
            json!({ "value": { "name": "bare", "main": "main", "code": code, "binary": false, "env": {} } });
        request(&socket, Method::POST, "/init", &init).await?;
        Ok::<_, Cause>((listening, began.elapsed()))
    });
    let all = try_join_all(all).await;
    for id in made.into_inner() {
        let path = format!("/containers/{id}?force=true&v=true");
        request(Path::new(SOCKET), Method::DELETE, &path, &Value::Null).await?;
    }
    let all = all?;
    let latest = |times: &mut dyn Iterator<Item = Duration>| times.max().unwrap_or_default();
    Ok(Bare {
        listening: latest(&mut all.iter().map(|(listening, _)| *listening)),
        initialised: latest(&mut all.iter().map(|(_, initialised)| *initialised)),
    })
}

/// The container of a lane, with a directory for its socket in the place of config layer and rings. Lanes get their
/// quota when they are up, so it has none.
fn body(model: &Value, folder: &Path, socket: &str) -> Value {
    let mut body = model["Config"].clone();
    let env = body["Env"].as_array().into_iter().flatten();
    let mut env: Vec<Value> = env
        .filter(|one| !one.as_str().is_some_and(|text| text.starts_with("FFS_")))
        .cloned()
        .collect();
    env.push(format!("FFS_LISTEN={INSIDE}/{socket}").into());
    body["Env"] = env.into();
    body["Hostname"] = Value::Null;
    body["Labels"] = json!({});
    let mut host = model["HostConfig"].clone();
    host["Mounts"] = json!([{ "Type": "bind", "Source": folder, "Target": INSIDE }]);
    host["CpuQuota"] = 0.into();
    host["CpuPeriod"] = 0.into();
    body["HostConfig"] = host;
    body
}

/// A chain of so many components, of which a slice holds one.
fn code(components: usize) -> String {
    let mut code = "
import FluidFaaS as FFS
import numpy as np

class Part(FFS.Module):
    def load(self):
        self.weights = "
        .to_owned();
    code += WEIGHTS;
    code += "

    def forward(self, x):
        return x * self.weights[:4096]
";
    for n in 0..components {
        code += &format!("\nclass Part{n}(Part):\n    pass\n");
    }
    code += "
class Chain(FFS.FFaaS):
    def pre(self, event):
        return {\"x\": np.ones(4096, np.float32)}

    def defDAG(self, x):
";
    for n in 0..components {
        code += &format!("        x = Part{n}.reg(self, x)\n");
    }
    code += "        return {\"y\": x}\n\n    def post(self, outputs, event):\n        return {\"sum\": float(outputs[\"y\"].sum())}\n\nmain = FFS.entry(Chain)\n";
    code
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share| percentile(times, share).unwrap_or(f64::NAN);
    println!("| {what} | {:.0} | {:.0} |", at(50.0), at(99.0));
}

async fn get(path: &str) -> Result<Value, Cause> {
    request(Path::new(SOCKET), Method::GET, path, &Value::Null).await
}

async fn post(path: &str, body: &Value) -> Result<Value, Cause> {
    request(Path::new(SOCKET), Method::POST, path, body).await
}
