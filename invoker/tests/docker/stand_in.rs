//! What a real Docker cannot be made to do: a stand-in for it, that is slow, fails, hangs and goes away when it
//! is told to, and notes what it was asked.

use crate::support::settings;
use ffs_invoker::container::docker::{DeviceAccess, DockerEngine, DockerSettings, OpenError};
use ffs_invoker::container::{
    Container, ContainerEngine, ContainerSpec, Error, Image, LaneSpec, SliceAccess,
};
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Longer than anything here takes; a busy machine does.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of a command that hangs.
const HANGS: Duration = Duration::from_secs(3600);

/// P-66, L-02: at most that many creations at once, first come first served; other commands are not held up.
#[tokio::test]
async fn creations_are_bounded_and_in_order() {
    let docker = StandIn::new();
    docker.takes("POST create", Duration::from_millis(50));
    let engine = docker.engine(|settings| settings.parallel_runs = 2).await;
    let before = engine.start(&spec(0)).await.expect("started");
    let starts = (1..=6).map(|n| {
        let engine = &engine;
        async move { engine.start(&spec(n)).await.map(drop) }
    });
    let removal = async {
        while docker.asked("POST create").len() < 2 {
            tokio::task::yield_now().await;
        }
        engine.remove(&before.id).await.expect("removed");
        docker.asked("POST create").len()
    };
    let (started, created_before) = tokio::join!(futures::future::join_all(starts), removal);
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    assert!(created_before < 7, "the removal did not wait for all creations");
    assert_eq!(docker.most("POST create"), 2);
    let asked = docker.asked("POST create");
    let names: Vec<_> = asked.iter().map(|asked| created(asked)).collect();
    assert_eq!(names, (0..=6).map(|n| spec(n).name).collect::<Vec<_>>());
}

/// P-66: 0 is no limit.
#[tokio::test]
async fn creations_are_not_bounded_without_a_limit() {
    let docker = StandIn::new();
    docker.takes("POST create", Duration::from_millis(200));
    let engine = docker.engine(|settings| settings.parallel_runs = 0).await;
    let starts = (0..20).map(|n| {
        let engine = &engine;
        async move { engine.start(&spec(n)).await.map(drop) }
    });
    futures::future::join_all(starts).await;
    assert_eq!(docker.most("POST create"), 20);
}

/// P-68, L-03, L-18c, L-27: what hangs is given up after its own time, and a start then leaves nothing behind.
#[tokio::test]
async fn what_hangs_is_given_up() {
    let docker = StandIn::new();
    let short = Some(Duration::from_millis(50));
    let engine = docker
        .engine(|settings| {
            let timeouts = &mut settings.timeouts;
            (
                timeouts.run,
                timeouts.pause,
                timeouts.unpause,
                timeouts.rm,
                timeouts.ps,
            ) = (short, short, short, short, short);
        })
        .await;
    let container = engine.start(&spec(1)).await.expect("started");
    for command in ["POST pause", "POST unpause", "DELETE", "GET list"] {
        docker.takes(command, HANGS);
    }
    for (what, outcome) in [
        ("pause", engine.pause(&container.id).await),
        ("unpause", engine.resume(&container.id).await),
        ("rm", engine.remove(&container.id).await),
        ("ps", engine.sweep().await),
    ] {
        let error = outcome.expect_err("it hangs");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(
            cause,
            Some(format!("Docker has not answered `{what}` within 50ms"))
        );
    }
    docker.takes("DELETE", Duration::ZERO);
    docker.takes("POST create", HANGS);
    let error = engine.start(&spec(2)).await.expect_err("it hangs");
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    docker.is_asked(&format!("DELETE {}", spec(2).name)).await;
}

/// P-68: `version` has its time, too. L-01: without an answer there is no engine.
#[tokio::test]
async fn an_engine_that_does_not_say_its_version_is_none() {
    let docker = StandIn::new();
    docker.takes("GET version", HANGS);
    let error = docker
        .open(|settings| settings.timeouts.version = Some(Duration::from_millis(50)))
        .await
        .expect_err("it hangs");
    assert!(matches!(error, OpenError::Version { .. }), "{error}");
}

/// L-15, E-13: pulled before each creation, and several pulls of one image are one.
#[tokio::test]
async fn pulls_of_one_image_are_one() {
    let docker = StandIn::new();
    docker.takes("POST pull", Duration::from_millis(300));
    let engine = docker.engine(|_| {}).await;
    let starts = (0..5).map(|n| {
        let engine = &engine;
        async move { engine.start(&blackbox(n, "jane/tool:1")).await.map(drop) }
    });
    let started = futures::future::join_all(starts).await;
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    assert_eq!(docker.asked("POST pull").len(), 1);
    engine.start(&blackbox(9, "jane/tool:1")).await.expect("started");
    assert_eq!(docker.asked("POST pull").len(), 2, "before each creation");
}

/// L-15, E-13: a pull that failed is the end without a tag or with `latest`; with another tag it is tried to run.
#[tokio::test]
async fn a_pull_that_failed_counts_by_the_tag() {
    let docker = StandIn::new();
    docker.fails("POST pull", 500, "registry is away");
    let engine = docker.engine(|_| {}).await;
    for image in ["jane/tool", "jane/tool:latest"] {
        let error = engine.start(&blackbox(1, image)).await.expect_err("not pulled");
        assert_eq!(
            error.to_string(),
            format!("Failed to pull container image '{image}'.")
        );
        assert!(docker.asked("POST create").is_empty());
    }
    engine
        .start(&blackbox(2, "jane/tool:1"))
        .await
        .expect("it is here already");
    docker.fails("POST create", 404, "No such image: jane/tool:1");
    let error = engine
        .start(&blackbox(3, "jane/tool:1"))
        .await
        .expect_err("it is not");
    assert!(matches!(error, Error::NotPulled { .. }), "{error:?}");
}

/// L-16, P-71: managed and native images are not pulled before; Docker gets one that is not there, as
/// `docker run` does.
#[tokio::test]
async fn an_image_that_needs_no_pull_is_pulled_only_if_it_is_not_there() {
    let docker = StandIn::new();
    let engine = docker.engine(|_| {}).await;
    engine.start(&spec(1)).await.expect("started");
    assert!(docker.asked("POST pull").is_empty());
    docker.fails("POST create", 404, "No such image: ffs/probe:latest");
    let error = engine.start(&spec(2)).await.expect_err("it stays away");
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert_eq!(docker.asked("POST pull").len(), 1);
    assert!(
        docker.asked("POST pull")[0].contains("tag=latest"),
        "and not all tags"
    );
}

/// L-63: hundreds of left-overs go in parallel, but not all at once.
#[tokio::test]
async fn left_overs_go_in_parallel_but_bounded() {
    let docker = StandIn::new();
    for n in 0..100 {
        docker.holds(&spec(n).name, "exited");
    }
    docker.takes("DELETE", Duration::from_millis(10));
    let engine = docker.engine(|_| {}).await;
    engine.sweep().await.expect("swept");
    assert_eq!(docker.asked("DELETE").len(), 100);
    let most = docker.most("DELETE");
    assert!((2..=10).contains(&most), "{most}");
}

/// L-26: a removal that is refused is tried again.
#[tokio::test]
async fn a_removal_that_is_refused_is_tried_again() {
    let docker = StandIn::new();
    let engine = docker.engine(|_| {}).await;
    let container = engine.start(&spec(1)).await.expect("started");
    docker.fails("DELETE", 500, "device or resource busy");
    let removal = engine.remove(&container.id);
    let recovery = async {
        while docker.asked("DELETE").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        docker.fails("DELETE", 0, "");
    };
    tokio::join!(removal, recovery).0.expect("removed in the end");
    assert!(docker.with(|state| state.held.is_empty()));
}

/// C-50: while Docker is away nothing is said to have ended; once it is back, what does not run any more has.
/// What is started meanwhile starts when it is back.
#[tokio::test]
async fn docker_may_be_away_for_a_while() {
    let docker = StandIn::new();
    let engine = docker.engine(|_| {}).await;
    let [stays, goes]: [Container; 2] = [
        engine.start(&spec(1)).await.expect("started"),
        engine.start(&spec(2)).await.expect("started"),
    ];
    docker.goes_away();
    let third = spec(3);
    let started = engine.start(&third);
    let back = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let early = tokio::time::timeout(Duration::ZERO, engine.ended(&goes.id)).await;
        assert!(early.is_err(), "nobody can know that");
        docker.holds(&spec(1).name, "running");
        docker.forgets(&spec(2).name);
        docker.comes_back();
    };
    let (started, ()) = tokio::join!(started, back);
    started.expect("started once Docker was back");
    tokio::time::timeout(PATIENCE, engine.ended(&goes.id))
        .await
        .expect("it is gone");
    let still = tokio::time::timeout(Duration::ZERO, engine.ended(&stays.id)).await;
    assert!(still.is_err(), "it runs on");
}

/// A slice of a real GPU is asked for by its UUID, of NVIDIA's hook or by CDI as Docker has it or the operator says, and
/// CUDA sees nothing else.
#[tokio::test]
async fn a_slice_of_a_gpu_is_asked_for_by_its_uuid() {
    let uuid = "MIG-11111111-1111-5111-8111-111111111111";
    let runtime =
        json!({"Runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}, "CDISpecDirs": ["/etc/cdi"]});
    let discovered =
        json!({"DiscoveredDevices": [{"Source": "cdi", "ID": format!("nvidia.com/gpu={uuid}")}]});
    let hook = json!([{"DeviceIDs": [uuid], "Capabilities": [["gpu", "compute", "utility"]]}]);
    let cdi = json!([{"Driver": "cdi", "DeviceIDs": [format!("nvidia.com/gpu={uuid}")]}]);
    for (about, setting, request, nvidia) in [
        (&runtime, DeviceAccess::Auto, &hook, uuid),
        (&discovered, DeviceAccess::Auto, &cdi, "void"),
        (&runtime, DeviceAccess::Cdi, &cdi, "void"),
        (&discovered, DeviceAccess::Nvidia, &hook, uuid),
    ] {
        let docker = StandIn::new();
        docker.with(|state| state.about = about.clone());
        let engine = docker.engine(|settings| settings.devices = setting).await;
        let slice = SliceAccess {
            uuid: uuid.parse().expect("a UUID"),
            simulated: None,
        };
        engine.start(&lane(1, Some(slice))).await.expect("started");
        engine.start(&lane(2, None)).await.expect("started");

        let [with, without] = [1, 2].map(|n| docker.with(|state| state.created[&spec(n).name].clone()));
        assert_eq!(
            &with["HostConfig"]["DeviceRequests"], request,
            "{about} {setting:?}"
        );
        let env: Vec<&str> = with["Env"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert!(
            env.contains(&format!("CUDA_VISIBLE_DEVICES={uuid}").as_str()),
            "{env:?}"
        );
        assert!(
            env.contains(&format!("NVIDIA_VISIBLE_DEVICES={nvidia}").as_str()),
            "{env:?}"
        );
        assert_eq!(with["HostConfig"]["NanoCpus"], Value::Null);
        // BUILDDAG has no slice, and is not to find one.
        assert_eq!(without["HostConfig"]["DeviceRequests"], Value::Null);
        let env = without["Env"].as_array().expect("a list");
        assert!(env.contains(&json!("NVIDIA_VISIBLE_DEVICES=void")), "{env:?}");
    }
}

fn lane(n: u32, slice: Option<SliceAccess>) -> ContainerSpec {
    let lane = LaneSpec {
        config_layer: None,
        shared_memory: None,
        uid: 200_000,
        network: false,
        slice,
    };
    ContainerSpec {
        lane: Some(lane),
        ..spec(n)
    }
}

pub(crate) fn spec(n: u32) -> ContainerSpec {
    ContainerSpec {
        name: format!("wsk00_{n}_guest_action"),
        labels: BTreeMap::new(),
        image: Image {
            kind: "test".to_owned(),
            name: "ffs/probe".to_owned(),
            pull: false,
        },
        memory: Bytes::mib(256),
        concurrency: 1,
        env: BTreeMap::new(),
        lane: None,
    }
}

fn blackbox(n: u32, image: &str) -> ContainerSpec {
    let image = Image {
        kind: "blackbox".to_owned(),
        name: image.to_owned(),
        pull: true,
    };
    ContainerSpec { image, ..spec(n) }
}

/// Listens on a socket of its own, and knows as much of Docker as the engine asks for.
pub(crate) struct StandIn {
    directory: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    serving: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    asked: Vec<String>,
    /// Bodies of creations, by name.
    created: BTreeMap<String, Value>,
    /// What `info` says besides.
    about: Value,
    takes: BTreeMap<String, Duration>,
    fails: BTreeMap<String, (u16, String)>,
    active: BTreeMap<String, usize>,
    most: BTreeMap<String, usize>,
    /// Containers by name, with their states.
    held: BTreeMap<String, String>,
}

impl StandIn {
    pub(crate) fn new() -> Self {
        let stand_in = Self {
            directory: tempfile::tempdir().expect("a directory"),
            state: Arc::default(),
            serving: Mutex::default(),
        };
        stand_in.comes_back();
        stand_in
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    async fn open(&self, change: impl FnOnce(&mut DockerSettings)) -> Result<DockerEngine, OpenError> {
        let mut settings = settings("wsk00_");
        settings.socket = self.socket();
        change(&mut settings);
        DockerEngine::open(settings, self.directory.path().join("sockets")).await
    }

    pub(crate) async fn engine(&self, change: impl FnOnce(&mut DockerSettings)) -> DockerEngine {
        self.open(change).await.expect("it answers")
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().expect("nobody panics"))
    }

    /// From now on the command takes so long.
    fn takes(&self, command: &str, time: Duration) {
        self.with(|state| state.takes.insert(command.to_owned(), time));
    }

    /// From now on it fails; with status 0 no more.
    fn fails(&self, command: &str, status: u16, message: &str) {
        self.with(|state| {
            state
                .fails
                .insert(command.to_owned(), (status, message.to_owned()))
        });
    }

    fn holds(&self, name: &str, in_state: &str) {
        self.with(|state| state.held.insert(name.to_owned(), in_state.to_owned()));
    }

    fn forgets(&self, name: &str) {
        self.with(|state| state.held.remove(name));
    }

    /// What was asked that begins so.
    fn asked(&self, command: &str) -> Vec<String> {
        self.with(|state| {
            state
                .asked
                .iter()
                .filter(|asked| asked.starts_with(command))
                .cloned()
                .collect()
        })
    }

    async fn is_asked(&self, command: &str) {
        let asking = async {
            while self.asked(command).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("it is asked");
    }

    /// Most of these at once.
    fn most(&self, command: &str) -> usize {
        self.with(|state| state.most.get(command).copied().unwrap_or_default())
    }

    /// Breaks all connections and listens no more.
    fn goes_away(&self) {
        if let Some(serving) = self.serving.lock().expect("nobody panics").take() {
            serving.abort();
        }
        std::fs::remove_file(self.socket()).expect("it was there");
    }

    fn comes_back(&self) {
        let listener = UnixListener::bind(self.socket()).expect("free");
        let state = Arc::clone(&self.state);
        let serving = tokio::spawn(async move {
            // With it go its connections.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&state)));
            }
        });
        *self.serving.lock().expect("nobody panics") = Some(serving);
    }
}

async fn serve(mut stream: UnixStream, state: Arc<Mutex<State>>) {
    let Some((first, sent)) = read(&mut stream).await else {
        return;
    };
    let mut parts = first.split(' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (command, asked) = name(method, target);
    let take = {
        let mut state = state.lock().expect("nobody panics");
        state.asked.push(asked.clone());
        if command == "POST create" {
            state.created.insert(created(&asked).to_owned(), sent);
        }
        let active = state.active.entry(command.clone()).or_default();
        *active += 1;
        let active = *active;
        let most = state.most.entry(command.clone()).or_default();
        *most = active.max(*most);
        state.takes.get(&command).copied().unwrap_or_default()
    };
    if command == "GET events" {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            .await;
        return std::future::pending().await;
    }
    tokio::time::sleep(take).await;
    let (status, body) = {
        let mut state = state.lock().expect("nobody panics");
        *state.active.entry(command.clone()).or_default() -= 1;
        match state.fails.get(&command) {
            Some((status @ 1.., message)) => (*status, json!({"message": message})),
            _ => (200, answer(&command, &asked, &mut state)),
        }
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// The request's first line and its body.
async fn read(stream: &mut UnixStream) -> Option<(String, Value)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                let body = serde_json::from_str(body).unwrap_or_default();
                return Some((head.lines().next()?.to_owned(), body));
            }
        }
    }
}

/// `POST create`, and what is noted of it: `POST create ?name=wsk00_1`.
fn name(method: &str, target: &str) -> (String, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path
        .strip_prefix("/v")
        .and_then(|path| path.split_once('/'))
        .map_or(path, |(_, path)| path);
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let (command, subject) = match (method, parts.as_slice()) {
        ("GET", ["containers", "json"]) => ("GET list".to_owned(), query),
        ("GET", ["containers", id, "json"]) => ("GET inspect".to_owned(), *id),
        ("GET", [what]) => (format!("GET {what}"), query),
        ("GET", ["volumes", ..]) => ("GET volumes".to_owned(), query),
        ("POST", ["containers", "create"]) => ("POST create".to_owned(), query),
        ("POST", ["images", "create"]) => ("POST pull".to_owned(), query),
        ("POST", ["containers", id, what]) => (format!("POST {what}"), *id),
        ("DELETE", [.., id]) => ("DELETE".to_owned(), *id),
        _ => (format!("{method} {path}"), query),
    };
    (command.clone(), format!("{command} {subject}"))
}

fn answer(command: &str, asked: &str, state: &mut State) -> Value {
    match command {
        "GET version" => json!({"ApiVersion": "1.41", "Version": "20.10.24"}),
        "GET info" => {
            let mut about = json!({"MemoryLimit": true, "CpuCfsQuota": true});
            for (name, value) in state.about.as_object().into_iter().flatten() {
                about[name] = value.clone();
            }
            about
        }
        "GET list" => {
            let held = state.held.iter();
            held.map(|(name, state)| json!({"Id": name, "Names": [format!("/{name}")], "State": state}))
                .collect()
        }
        "GET inspect" => json!({
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "192.0.2.1"}}},
        }),
        "GET volumes" => json!({"Volumes": []}),
        "POST create" => {
            let name = created(asked);
            state.held.insert(name.to_owned(), "running".to_owned());
            json!({"Id": name, "Warnings": []})
        }
        "DELETE" => {
            state.held.remove(asked.rsplit(' ').next().unwrap_or_default());
            json!({})
        }
        _ => json!({}),
    }
}

/// The name in what is noted of a creation.
fn created(asked: &str) -> &str {
    let name = asked.split_once("name=").map_or("", |(_, rest)| rest);
    name.split('&').next().unwrap_or_default()
}

/// The stand-in is one more program that has to be right: what it notes is what was asked.
#[test]
fn requests_are_named_after_what_they_ask_for() {
    assert_eq!(
        name("POST", "/v1.41/containers/create?name=wsk00_1"),
        ("POST create".to_owned(), "POST create name=wsk00_1".to_owned())
    );
    assert_eq!(name("DELETE", "/v1.41/containers/x?force=true").1, "DELETE x");
}
