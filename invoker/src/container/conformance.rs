//! The contract of [`ContainerEngine`], as tests that every engine passes; run by `tests/container.rs` and
//! `tests/docker.rs`.
//!
//! Containers hold our Python runtime, and the actions are what looks around in them.

use ffs_invoker::container::action_proxy::{BodyLimit, Connect, Exchange, Outcome, post};
use ffs_invoker::container::{
    Address, Container, ContainerEngine, ContainerSpec, Image, LaneSpec, LogRequest, SliceAccess, SliceLimits,
};
use proto::id::{ActivationId, InstanceId};
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Nothing here takes long; a busy machine does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// An engine, and what its containers need to hold our Python runtime.
pub(crate) struct Engine<E> {
    pub(crate) engine: E,
    pub(crate) image: Image,
    pub(crate) env: BTreeMap<String, String>,
    /// What the containers' names begin with.
    pub(crate) prefix: String,
    /// Whether containers have files, memory and a network of their own here.
    pub(crate) isolates: bool,
}

/// One test per law; `$engine` gives an engine of its own, and something that lives as long as it is used.
macro_rules! engine_conforms {
    ($name:ident, $engine:expr, [$($law:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    let (engine, _alive) = $engine.await;
                    $crate::conformance::$law(&engine).await;
                    $crate::ContainerEngine::sweep(&engine.engine).await.expect("swept");
                }
            )*
        }
    };
    ($name:ident, $engine:expr) => {
        engine_conforms!($name, $engine, [
            a_started_container_is_initialised_and_runs,
            a_removed_container_is_gone_and_removing_it_again_is_success,
            how_a_container_ended_is_known,
            a_container_that_ends_takes_all_its_processes_along,
            an_image_that_cannot_run_is_refused_with_the_reason,
            memory_is_limited,
            a_slice_has_its_share_of_cpu_time,
            each_activation_gets_its_own_logs_once,
            logs_beyond_the_limit_are_cut_and_said,
            a_paused_container_does_nothing_until_it_is_resumed,
            the_environment_is_what_was_given,
            lanes_of_an_instance_share_memory_and_nobody_else_has_it,
            lanes_without_network_have_none,
            a_start_that_is_given_up_leaves_nothing,
            a_sweep_removes_everything,
        ]);
    };
}

pub(crate) async fn a_started_container_is_initialised_and_runs(on: &Engine<impl ContainerEngine>) {
    let container = on.start(on.spec(Bytes::mib(256))).await;
    on.init(
        &container,
        "def main(args):\n    return {'sum': args['a'] + args['b']}\n",
    )
    .await;
    let answer = on.run(&container, json!({"a": 2, "b": 3})).await;
    assert_eq!(answer, json!({"sum": 5}));
}

pub(crate) async fn a_removed_container_is_gone_and_removing_it_again_is_success(
    on: &Engine<impl ContainerEngine>,
) {
    let container = on.start(on.spec(Bytes::mib(256))).await;
    let (ended, removed) = tokio::join!(on.engine.ended(&container.id), on.engine.remove(&container.id));
    removed.expect("removed");
    assert!(!ended.out_of_memory, "{ended:?}");
    on.assert_is_gone(&container).await;
    on.engine.remove(&container.id).await.expect("gone already");
}

pub(crate) async fn how_a_container_ended_is_known(on: &Engine<impl ContainerEngine>) {
    let container = on.start(on.spec(Bytes::mib(256))).await;
    let code =
        "import os, signal\ndef main(args):\n    os.kill(os.getppid(), signal.SIGTERM)\n    return {}\n";
    on.init(&container, code).await;
    on.post(&container.address, "/run", &json!({"value": {}}), PATIENCE)
        .await;
    let exit = on.engine.ended(&container.id).await;
    assert!(exit.code.is_some(), "{exit:?}");
    assert!(!exit.out_of_memory, "{exit:?}");
}

pub(crate) async fn a_container_that_ends_takes_all_its_processes_along(on: &Engine<impl ContainerEngine>) {
    let container = on.start(on.spec(Bytes::mib(256))).await;
    let marker = on.init_with_a_daemon_inside(&container).await;
    assert!(is_running(&marker));
    on.engine.remove(&container.id).await.expect("removed");
    eventually(|| !is_running(&marker)).await;
}

pub(crate) async fn an_image_that_cannot_run_is_refused_with_the_reason(on: &Engine<impl ContainerEngine>) {
    let mut spec = on.spec(Bytes::mib(256));
    spec.image = Image {
        kind: "blackbox".to_owned(),
        name: "nobody.invalid/there-is-no-such-image:9".to_owned(),
        pull: false,
    };
    let error = on.engine.start(&spec).await.expect_err("no such image");
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let sentence = format!("{error}: {}", cause.unwrap_or_default());
    assert!(
        sentence.contains("nobody.invalid/there-is-no-such-image:9"),
        "{sentence}"
    );
}

pub(crate) async fn memory_is_limited(on: &Engine<impl ContainerEngine>) {
    if !on.engine.limits_slices() {
        return eprintln!("skipped: limits are not permitted here");
    }
    let mut spec = on.spec(Bytes::mib(512));
    spec.lane = Some(on.lane(Some(limits(1.0, Bytes::mib(96)))));
    let container = on.start(spec).await;
    let code = "def main(args):\n    return {'bytes': len(bytearray(args['mib'] << 20))}\n";
    on.init(&container, code).await;
    assert_eq!(
        on.run(&container, json!({"mib": 16})).await,
        json!({"bytes": 16 << 20})
    );

    let exchange = on
        .post(
            &container.address,
            "/run",
            &json!({"value": {"mib": 256}}),
            PATIENCE,
        )
        .await;
    assert!(
        !matches!(exchange.outcome, Outcome::Response { status: 200, .. }),
        "{exchange:?}"
    );
    let (exit, removed) = tokio::join!(on.engine.ended(&container.id), on.engine.remove(&container.id));
    removed.expect("removed");
    assert!(exit.out_of_memory, "{exit:?}");
}

pub(crate) async fn a_slice_has_its_share_of_cpu_time(on: &Engine<impl ContainerEngine>) {
    if !on.engine.limits_slices() {
        return eprintln!("skipped: limits are not permitted here");
    }
    let slice = limits(0.2, Bytes::mib(256));
    let mut spec = on.spec(Bytes::mib(256));
    spec.lane = Some(on.lane(Some(slice)));
    let container = on.start(spec).await;
    let code = "import time\n\
        def main(args):\n\
        \x20   wall, cpu = time.monotonic(), time.process_time()\n\
        \x20   while time.monotonic() - wall < 2: pass\n\
        \x20   return {'share': (time.process_time() - cpu) / (time.monotonic() - wall)}\n";
    on.init(&container, code).await;
    on.engine.limit(&container.id, slice).await.expect("limited");
    let answer = on.run(&container, json!({})).await;
    let share = answer["share"].as_f64().expect("a number");
    assert!(share < 0.3, "{share} of a CPU is more than 0.2 and some periods");
}

pub(crate) async fn each_activation_gets_its_own_logs_once(on: &Engine<impl ContainerEngine>) {
    let container = on.start(on.spec(Bytes::mib(256))).await;
    let code = "import sys\ndef main(args):\n    print('hello', args['n'])\n    print('aside', file=sys.stderr)\n    return {}\n";
    on.init(&container, code).await;
    for n in 1..3 {
        on.run(&container, json!({"n": n})).await;
        let logs = on
            .engine
            .logs(&container.id, on.log_request(Bytes::mib(10)))
            .await;
        let mut texts: Vec<_> = logs.lines.iter().map(|line| &line[31..]).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["stderr: aside".to_owned(), format!("stdout: hello {n}")]);
        assert!(!logs.failed);
    }
}

/// C-66, C-70, E-20
pub(crate) async fn logs_beyond_the_limit_are_cut_and_said(on: &Engine<impl ContainerEngine>) {
    let container = on.start(on.spec(Bytes::mib(256))).await;
    on.init(
        &container,
        "def main(args):\n    print('x' * 999 + '\\n' + 'y' * 999)\n    return {}\n",
    )
    .await;
    on.run(&container, json!({})).await;
    let logs = on.engine.logs(&container.id, on.log_request(Bytes(1500))).await;
    assert!(logs.failed);
    let [first, note] = logs.lines.as_slice() else {
        panic!("{logs:?}")
    };
    assert!(first.ends_with('x'), "{first}");
    let text = "Logs were truncated because the total bytes size exceeds the limit of 1500 bytes.";
    assert_eq!(&note[31..], format!("stderr: {text}"));
}

pub(crate) async fn a_paused_container_does_nothing_until_it_is_resumed(on: &Engine<impl ContainerEngine>) {
    let container = on.start(on.spec(Bytes::mib(256))).await;
    on.init(&container, "def main(args):\n    return {'done': True}\n")
        .await;
    on.engine.pause(&container.id).await.expect("paused");
    let exchange = on
        .post(
            &container.address,
            "/run",
            &json!({"value": {}}),
            Duration::from_millis(300),
        )
        .await;
    if on.engine.limits_slices() {
        assert!(
            !matches!(exchange.outcome, Outcome::Response { .. }),
            "{exchange:?}"
        );
    }
    on.engine.resume(&container.id).await.expect("resumed");
    // What was sent meanwhile may have been run; what is sent now is.
    assert_eq!(on.run(&container, json!({})).await, json!({"done": true}));

    on.engine.pause(&container.id).await.expect("paused");
    on.engine
        .remove(&container.id)
        .await
        .expect("a paused container is removed like any other");
}

pub(crate) async fn the_environment_is_what_was_given(on: &Engine<impl ContainerEngine>) {
    let mut spec = on.spec(Bytes::mib(256));
    spec.env
        .insert("__OW_API_HOST".to_owned(), "https://api.example".to_owned());
    let container = on.start(spec).await;
    on.init(
        &container,
        "import os\ndef main(args):\n    return dict(os.environ)\n",
    )
    .await;
    let env = on.run(&container, json!({})).await;
    assert_eq!(env["__OW_API_HOST"], "https://api.example");
    for name in ["CARGO_MANIFEST_DIR", "CARGO", "FFS_TOKEN", "FFS_SANDBOX"] {
        assert_eq!(env.get(name), None, "{env}");
    }
}

pub(crate) async fn lanes_of_an_instance_share_memory_and_nobody_else_has_it(
    on: &Engine<impl ContainerEngine>,
) {
    let code = "import os\n\
        def main(args):\n\
        \x20   if 'write' in args:\n\
        \x20       with open(os.open('/dev/shm/' + args['write'], os.O_CREAT | os.O_WRONLY, 0o600), 'w') as f: f.write('x')\n\
        \x20   if 'fill' in args:\n\
        \x20       with open('/dev/shm/' + args['fill'], 'wb') as f: f.write(bytes(64 << 20))\n\
        \x20   try:\n\
        \x20       with open('/dev/shm/' + args['read']) as f: return {'found': f.read()}\n\
        \x20   except OSError as e: return {'found': None}\n";
    let mut lanes = Vec::new();
    let mut memories = Vec::new();
    for instance in 0..2_u32 {
        let id: InstanceId = format!("t{}-{}", std::process::id(), next())
            .parse()
            .expect("an id");
        let uid = 201_000 + instance;
        let memory = on
            .engine
            .create_shared_memory(&id, Bytes::mib(4), uid)
            .await
            .expect("made");
        for _ in 0..2 {
            let mut spec = on.spec(Bytes::mib(256));
            let mut lane = on.lane(None);
            (lane.uid, lane.shared_memory) = (uid, Some(memory.clone()));
            spec.lane = Some(lane);
            let container = on.start(spec).await;
            on.init(&container, code).await;
            lanes.push(container);
        }
        memories.push(memory);
    }
    let name = format!("ffs-{}-r0", memories[0].instance);
    let found = json!({"found": "x"});
    assert_eq!(
        on.run(&lanes[0], json!({"write": name, "read": name})).await,
        found
    );
    assert_eq!(on.run(&lanes[1], json!({"read": name})).await, found);
    if on.isolates {
        for other in &lanes[2..] {
            assert_eq!(on.run(other, json!({"read": name})).await, json!({"found": null}));
        }
        let full = on.run(&lanes[0], json!({"fill": name, "read": name})).await;
        assert!(
            full["error"]
                .as_str()
                .is_some_and(|text| text.contains("No space left")),
            "{full}"
        );
    }
    for container in &lanes {
        on.engine.remove(&container.id).await.expect("removed");
    }
    for memory in &memories {
        on.engine.remove_shared_memory(memory).await.expect("removed");
        on.engine
            .remove_shared_memory(memory)
            .await
            .expect("gone already");
    }
}

pub(crate) async fn lanes_without_network_have_none(on: &Engine<impl ContainerEngine>) {
    let mut spec = on.spec(Bytes::mib(256));
    spec.lane = Some(on.lane(None));
    let container = on.start(spec).await;
    let code = "import os\ndef main(args):\n    return {'net': sorted(os.listdir('/sys/class/net'))}\n";
    on.init(&container, code).await;
    let answer = on.run(&container, json!({})).await;
    if on.isolates {
        assert_eq!(answer, json!({"net": ["lo"]}));
    }
}

pub(crate) async fn a_start_that_is_given_up_leaves_nothing(on: &Engine<impl ContainerEngine>) {
    let mut spec = on.spec(Bytes::mib(256));
    let marker = format!("given-up-{}-{}", std::process::id(), next());
    spec.env.insert("__OW_MARKER".to_owned(), marker.clone());
    // Dropped at whatever point it has come to.
    for patience in [0, 1, 5, 25, 100] {
        let _ = tokio::time::timeout(Duration::from_millis(patience), on.engine.start(&spec)).await;
    }
    on.engine.sweep().await.expect("swept");
    eventually(|| !is_running(&marker)).await;
}

pub(crate) async fn a_sweep_removes_everything(on: &Engine<impl ContainerEngine>) {
    let first = on.start(on.spec(Bytes::mib(256))).await;
    let marker = on.init_with_a_daemon_inside(&first).await;
    let second = on.start(on.spec(Bytes::mib(256))).await;
    on.engine.sweep().await.expect("swept");
    for container in [first, second] {
        on.assert_is_gone(&container).await;
    }
    eventually(|| !is_running(&marker)).await;
    on.engine.sweep().await.expect("nothing to sweep");
}

impl<E: ContainerEngine> Engine<E> {
    pub(crate) fn spec(&self, memory: Bytes) -> ContainerSpec {
        ContainerSpec {
            name: format!("{}{}_guest_action", self.prefix, next()),
            labels: BTreeMap::new(),
            image: self.image.clone(),
            memory,
            concurrency: 1,
            env: self.env.clone(),
            lane: None,
        }
    }

    /// As BUILDDAG and profiling have it: without a config layer.
    pub(crate) fn lane(&self, simulated: Option<SliceLimits>) -> LaneSpec {
        let access = |simulated| SliceAccess {
            uuid: "MIG-00000000-0000-5000-8000-000000000000"
                .parse()
                .expect("a UUID"),
            simulated: Some(simulated),
        };
        LaneSpec {
            config_layer: None,
            shared_memory: None,
            uid: 201_000,
            network: false,
            slice: simulated.map(access),
        }
    }

    pub(crate) async fn start(&self, spec: ContainerSpec) -> Container {
        self.engine.start(&spec).await.unwrap_or_else(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            panic!("{error}: {cause:?}")
        })
    }

    pub(crate) async fn init(&self, container: &Container, code: &str) {
        let body =
            json!({"value": {"name": "action", "main": "main", "binary": false, "code": code, "env": {}}});
        let exchange = exchange(&container.address, "/init", &body, PATIENCE, Connect::Patiently).await;
        assert!(
            matches!(exchange.outcome, Outcome::Response { status: 200, .. }),
            "{exchange:?}"
        );
    }

    pub(crate) async fn run(&self, container: &Container, value: Value) -> Value {
        let body = json!({"value": value, "activation_id": activation().to_string()});
        let exchange = self.post(&container.address, "/run", &body, PATIENCE).await;
        let Outcome::Response { body, .. } = exchange.outcome else {
            panic!("{exchange:?}")
        };
        serde_json::from_str(&body.text()).expect("JSON")
    }

    pub(crate) async fn post(&self, to: &Address, path: &str, body: &Value, limit: Duration) -> Exchange {
        exchange(to, path, body, limit, Connect::Once).await
    }

    /// Nobody serves it any more; an address in a network may be another container's already.
    async fn assert_is_gone(&self, container: &Container) {
        if let Address::Unix(_) = container.address {
            let exchange = self.post(&container.address, "/run", &json!({}), PATIENCE).await;
            assert!(matches!(exchange.outcome, Outcome::Refused), "{exchange:?}");
        }
        let ended = tokio::time::timeout(PATIENCE, self.engine.ended(&container.id)).await;
        ended.expect("what is gone has ended");
        let logs = self
            .engine
            .logs(&container.id, self.log_request(Bytes::mib(1)))
            .await;
        assert!(logs.failed, "{logs:?}");
    }

    /// Leaves a process inside that has left everything behind that could be used to find it; its name
    /// is returned.
    pub(crate) async fn init_with_a_daemon_inside(&self, container: &Container) -> String {
        let marker = format!("daemon-{}-{}", std::process::id(), next());
        let code = format!(
            "import os, subprocess, sys\n\
             def main(args):\n\
             \x20   if os.fork() == 0:\n\
             \x20       os.setsid()\n\
             \x20       if os.fork() == 0:\n\
             \x20           os.closerange(0, 1024)\n\
             \x20           os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', '{marker}'])\n\
             \x20       os._exit(0)\n\
             \x20   return {{}}\n"
        );
        self.init(container, &code).await;
        self.run(container, json!({})).await;
        eventually(|| is_running(&marker)).await;
        marker
    }

    fn log_request(&self, limit: Bytes) -> LogRequest {
        LogRequest {
            activation: activation(),
            limit,
            sentinels: true,
        }
    }
}

async fn exchange(to: &Address, path: &str, body: &Value, limit: Duration, connect: Connect) -> Exchange {
    let kept = BodyLimit {
        most: Bytes::mib(1),
        cut: Bytes::mib(1),
    };
    let ended = std::future::pending::<()>();
    post(to, path, body.to_string().into(), limit, kept, connect, ended).await
}

fn limits(cpus: f64, memory: Bytes) -> SliceLimits {
    SliceLimits { cpus, memory }
}

fn activation() -> ActivationId {
    ActivationId::from_u128(7)
}

/// A number that no other test of this process has.
pub(crate) fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether a process of this machine has the text among its arguments or in its environment.
pub(crate) fn is_running(text: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("readable").flatten();
    let mut files =
        processes.flat_map(|process| ["cmdline", "environ"].map(|file| process.path().join(file)));
    files.any(|file| std::fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text)))
}

pub(crate) async fn eventually(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it takes no two minutes");
}
