//! What a real Docker makes of what it is told.

use crate::conformance::{Engine, PATIENCE, eventually, next};
use crate::support::{Alive, build, docker, engine, engine_with, image, settings};
use ffs_invoker::container::action_proxy::Outcome;
use ffs_invoker::container::docker::{DockerEngine, OpenError};
use ffs_invoker::container::{Address, Container, ContainerEngine, ContainerSpec, Error, LogRequest};
use proto::id::ActivationId;
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

/// L-10, L-10a, L-10b, L-10c, L-10d, L-10e, L-10g, L-10i, L-10j, L-10k, L-10l, L-11, L-12, C-60, P-50: what Docker
/// says of the container is what it said of the original's.
#[tokio::test]
async fn the_container_is_the_one_that_the_original_made() {
    let (on, _alive) = engine().await;
    let mut spec = probe(&on);
    let api_host = "http://172.17.0.1:3233";
    spec.env = [("__OW_API_HOST".to_owned(), api_host.to_owned())].into();
    let container = on.start(spec.clone()).await;

    let ours = inspect(&container.id.0);
    let recorded: Value = serde_json::from_str(include_str!("../data/docker/inspect.json")).expect("JSON");
    assert_eq!(ours["Name"], json!(format!("/{}", spec.name)));
    assert_eq!(plain(&ours["HostConfig"]), plain(&recorded["HostConfig"]));
    let (mut config, mut originals) = (ours["Config"].clone(), recorded["Config"].clone());
    assert_eq!(config["Env"][0], json!(format!("__OW_API_HOST={api_host}")));
    // What comes from the image or is named after it, and our label.
    for member in [
        "Hostname",
        "Env",
        "Image",
        "Entrypoint",
        "ExposedPorts",
        "Labels",
        "WorkingDir",
        "Cmd",
        "StopSignal",
    ] {
        config[member].take();
        originals[member].take();
    }
    assert_eq!(plain(&config), plain(&originals));
    let label = &ours["Config"]["Labels"]["ffs.invoker"];
    assert_eq!(label, &json!(on.prefix.trim_end_matches('_')));
}

/// L-17, P-60, P-112, C-01: the address is the one in the configured network.
#[tokio::test]
async fn the_address_is_the_one_in_the_configured_network() {
    let name = format!("wsknet{}x{}", std::process::id(), next());
    docker(&["network", "create", &name]);
    let (on, _alive) = engine_with(|settings| settings.network = name.clone()).await;
    let container = on.start(probe(&on)).await;
    let says = inspect(&container.id.0)["NetworkSettings"]["Networks"][&name]["IPAddress"].clone();
    let Address::Tcp(address) = &container.address else {
        panic!("{container:?}")
    };
    assert_eq!((json!(address.ip().to_string()), address.port()), (says, 8080));
    on.init(&container, "{}").await;
    on.engine.remove(&container.id).await.expect("removed");
    docker(&["network", "rm", &name]);
}

/// L-13, P-61, P-62, P-63: the operator's arguments are in force.
#[tokio::test]
async fn the_operators_arguments_are_in_force() {
    let (on, _alive) = engine_with(|settings| {
        settings.dns_servers = vec!["10.0.0.53".to_owned()];
        settings.dns_search = vec!["example.org".to_owned()];
        settings.dns_options = vec!["ndots:1".to_owned()];
        settings.extra_env = vec!["__OW_ALLOW_CONCURRENT=true".to_owned()];
        settings.extra_args = [
            ("cap-drop".to_owned(), vec!["MKNOD".to_owned()]),
            ("label".to_owned(), vec!["a".to_owned(), "b=1".to_owned()]),
            ("tmpfs".to_owned(), vec!["/scratch:size=1m".to_owned()]),
            ("log-opt".to_owned(), vec!["max-size=10m".to_owned()]),
        ]
        .into();
        settings.user_cpus = Some(4.0);
    })
    .await;
    let container = on.start(probe(&on)).await;
    let says = inspect(&container.id.0);
    let host = &says["HostConfig"];
    assert_eq!(host["Dns"], json!(["10.0.0.53"]));
    assert_eq!(host["DnsSearch"], json!(["example.org"]));
    assert_eq!(host["DnsOptions"], json!(["ndots:1"]));
    assert_eq!(host["CapDrop"], json!(["MKNOD"]));
    assert_eq!(host["Tmpfs"], json!({"/scratch": "size=1m"}));
    assert_eq!(
        host["LogConfig"],
        json!({"Type": "json-file", "Config": {"max-size": "10m"}})
    );
    assert_eq!(host["NanoCpus"], json!(125_000_000));
    assert_eq!(
        (&says["Config"]["Labels"]["a"], &says["Config"]["Labels"]["b"]),
        (&json!(""), &json!("1"))
    );
    on.init(&container, "{}").await;
    let report = on.run(&container, json!({})).await;
    assert_eq!(report["env"]["__OW_ALLOW_CONCURRENT"], "true");
}

/// L-18b, E-14: nothing to execute in the image is the developer's error, and nothing is left.
#[tokio::test]
async fn an_image_with_nothing_to_execute_is_told_apart() {
    let (on, alive) = engine().await;
    let name = format!("ffs-test/{}", alive.prefix.trim_end_matches('_'));
    build(
        &name,
        "FROM debian:bookworm-slim\nENTRYPOINT [\"/nonexistent\"]\n",
    );
    let mut spec = probe(&on);
    spec.image = image(&name);
    let error = on.engine.start(&spec).await.expect_err("nothing to execute");
    assert!(
        matches!(&error, Error::NoExecutable { image } if *image == name),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("executable file not found in image {name}")
    );
    nothing_is_left(&alive).await;
    docker(&["image", "rm", &name]);
}

/// L-18a, L-18d: one that cannot be started, or has no address, is the platform's error, and nothing is left.
#[tokio::test]
async fn what_cannot_start_or_has_no_address_is_removed() {
    for network in ["there-is-no-such-network", "none"] {
        let (on, alive) = engine_with(|settings| settings.network = network.to_owned()).await;
        let error = on.engine.start(&probe(&on)).await.expect_err("no network");
        assert!(matches!(error, Error::Failed { .. }), "{network}: {error:?}");
        nothing_is_left(&alive).await;
    }
}

/// C-50, L-10b: a container that was killed for memory says so.
#[tokio::test]
async fn a_container_that_was_killed_for_memory_says_so() {
    let (on, _alive) = engine().await;
    let mut spec = probe(&on);
    spec.memory = Bytes::mib(128);
    let container = on.start(spec).await;
    on.init(&container, r#"{"run": {"allocate_mib": 1000}}"#).await;
    let exchange = on
        .post(&container.address, "/run", &json!({"value": {}}), PATIENCE)
        .await;
    assert!(
        matches!(exchange.outcome, Outcome::Broken | Outcome::NoResponse),
        "{exchange:?}"
    );
    let ended = tokio::time::timeout(PATIENCE, on.engine.ended(&container.id)).await;
    let exit = ended.expect("it ends");
    assert!(exit.out_of_memory && exit.code == Some(137), "{exit:?}");
}

/// C-50: one that ended otherwise says how, and not that.
#[tokio::test]
async fn a_container_that_ended_otherwise_says_how() {
    let (on, _alive) = engine().await;
    for (script, code) in [
        (r#"{"run": {"exit": 3}}"#, Some(3)),
        (r#"{"run": {"abort": true}}"#, None),
    ] {
        let container = on.start(probe(&on)).await;
        on.init(&container, script).await;
        on.post(&container.address, "/run", &json!({"value": {}}), PATIENCE)
            .await;
        let ended = tokio::time::timeout(PATIENCE, on.engine.ended(&container.id)).await;
        let exit = ended.expect("it ends");
        assert!(!exit.out_of_memory, "{exit:?}");
        match code {
            Some(code) => assert_eq!((exit.code, exit.signal), (Some(code), None)),
            // Which one it is for a first process is the kernel's choice.
            None => assert!(exit.signal.is_some(), "{exit:?}"),
        }
    }
}

/// L-22, L-24, L-26, P-69, P-70: paused by Docker, resumed, and removed without a word to the action.
#[tokio::test]
async fn a_container_is_paused_resumed_and_removed() {
    let (on, _alive) = engine().await;
    let container = on.start(probe(&on)).await;
    let status = || inspect(&container.id.0)["State"]["Status"].clone();
    on.engine.pause(&container.id).await.expect("paused");
    assert_eq!(status(), "paused");
    on.engine.resume(&container.id).await.expect("resumed");
    assert_eq!(status(), "running");
    on.engine.pause(&container.id).await.expect("paused");
    on.engine.remove(&container.id).await.expect("removed");
    assert_eq!(
        docker(&[
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            &format!("id={}", container.id)
        ]),
        ""
    );
    on.engine
        .pause(&container.id)
        .await
        .expect_err("what is gone cannot be paused");
}

/// L-60, L-61, L-62: whatever state it is in, what has our prefix goes, and nothing else.
#[tokio::test]
async fn a_sweep_takes_what_has_our_prefix_and_nothing_else() {
    let (on, alive) = engine().await;
    let name = |suffix: &str| format!("{}{suffix}", alive.prefix);
    let foreign = format!("x{}1_guest_action", alive.prefix);
    for name in [name("1_a"), name("2_b"), foreign.clone()] {
        docker(&["run", "--detach", "--name", &name, "ffs/probe"]);
    }
    docker(&["pause", &name("2_b")]);
    docker(&["create", "--name", &name("3_c"), "ffs/probe"]);
    docker(&[
        "run",
        "--name",
        &name("4_d"),
        "--entrypoint",
        "/bin/true",
        "ffs/probe",
    ]);
    on.engine.sweep().await.expect("swept");
    let left = docker(&[
        "ps",
        "--all",
        "--format",
        "{{.Names}}",
        "--filter",
        &format!("name={}", alive.prefix),
    ]);
    docker(&["rm", "--force", &foreign]);
    assert_eq!(left.trim(), foreign);
}

/// L-28: a container with our prefix that nobody knows of is removed; those that are in use stay.
#[tokio::test]
async fn containers_that_nobody_knows_of_are_removed() {
    let (on, alive) = engine().await;
    let container = on.start(probe(&on)).await;
    let unknown = format!("{}9_guest_leaked", alive.prefix);
    docker(&["run", "--detach", "--name", &unknown, "ffs/probe"]);
    on.engine.remove_unknown().await;
    let left = docker(&[
        "ps",
        "--all",
        "--format",
        "{{.Names}}",
        "--filter",
        &format!("name={}", alive.prefix),
    ]);
    assert_eq!(left.trim(), container.name);
}

/// C-60, C-61, C-62, C-63, C-65, C-67: output reaches the record in its shape; sentinels are waited for.
#[tokio::test]
async fn what_a_container_writes_is_read_from_dockers_file() {
    let (on, _alive) = engine().await;
    let container = on.start(probe(&on)).await;
    let long = "y".repeat(40_000);
    let script = json!({
        "init": {"stdout": ["from init"], "body": {"ok": true}, "sentinels": false},
        "run": [
            {"stdout": ["a  b", long], "stderr": ["aside"], "sentinels_after_ms": 300},
            {"stdout": ["second"]},
        ],
    });
    on.init(&container, &script.to_string()).await;
    on.run(&container, json!({})).await;
    let logs = collect(&on, &container, true).await;
    assert!(!logs.failed);
    let mut lines = logs.lines;
    lines.sort_by_key(|line| line[31..].to_owned());
    let texts: Vec<_> = lines.iter().map(|line| &line[31..]).collect();
    let pieces: Vec<_> = texts
        .iter()
        .filter(|text| text.contains("yyy"))
        .map(|text| text.len() - 8)
        .collect();
    assert_eq!(
        texts
            .iter()
            .filter(|text| !text.contains("yyy"))
            .collect::<Vec<_>>(),
        [&"stderr: aside", &"stdout: a  b", &"stdout: from init"]
    );
    assert_eq!(pieces.iter().sum::<usize>(), 40_000);
    assert_eq!(pieces.len(), 3, "Docker cuts long lines");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("20") && line.as_bytes()[30] == b' '),
        "{lines:?}"
    );
    on.run(&container, json!({})).await;
    assert_eq!(collect(&on, &container, true).await.lines.len(), 1);
}

/// C-64, C-69, E-21: without sentinels what is there is taken at once; what is gone cannot be read.
#[tokio::test]
async fn logs_of_a_container_that_is_gone_cannot_be_read() {
    let (on, _alive) = engine().await;
    let container = on.start(probe(&on)).await;
    on.init(
        &container,
        r#"{"run": {"stdout": ["no sentinels"], "sentinels": false}}"#,
    )
    .await;
    on.run(&container, json!({})).await;
    let mut lines = Vec::new();
    for _ in 0..12_000 {
        lines.extend(collect(&on, &container, false).await.lines);
        if !lines.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(lines[0][31..], *"stdout: no sentinels");
    on.engine.remove(&container.id).await.expect("removed");
    let logs = collect(&on, &container, false).await;
    assert_eq!(
        logs.lines,
        ["There was an issue while collecting your logs. Data might be missing."]
    );
    assert!(logs.failed);
}

/// C-76: where a log driver carries the logs nothing is collected, and the driver is the operator's.
#[tokio::test]
async fn a_log_driver_of_the_operators_carries_the_logs() {
    let (on, _alive) = engine_with(|settings| {
        settings.collects_logs = false;
        settings.extra_args = [("log-driver".to_owned(), vec!["none".to_owned()])].into();
    })
    .await;
    let container = on.start(probe(&on)).await;
    assert_eq!(
        inspect(&container.id.0)["HostConfig"]["LogConfig"]["Type"],
        "none"
    );
    let logs = collect(&on, &container, true).await;
    assert!(logs.lines.is_empty() && !logs.failed, "{logs:?}");
}

/// C-80, C-81, C-82, C-93, P-62: sixteen runs at a time in one Node container, with logs: every line comes once, and
/// the container is good for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_runs_at_a_time_lose_no_line_and_no_container() {
    let (on, _alive) = engine_with(|s| s.extra_env = vec!["__OW_ALLOW_CONCURRENT=true".to_owned()]).await;
    let mut spec = probe(&on);
    spec.image = image("ffs/node-action");
    spec.concurrency = 16;
    let container = on.start(spec).await;
    let code = "async function main(args) { console.log('line', args.n); await new Promise(r => setTimeout(r, 5)); return {n: args.n}; }";
    on.init(&container, code).await;
    let (rounds, width) = (10, 16);
    let runs = (0..width).map(|lane| {
        let (on, container) = (&on, &container);
        async move {
            let mut lines = Vec::new();
            for round in 0..rounds {
                let n = round * width + lane;
                assert_eq!(on.run(container, json!({"n": n})).await, json!({"n": n}));
                let logs = collect(on, container, true).await;
                assert!(!logs.failed, "{logs:?}");
                lines.extend(logs.lines);
            }
            lines
        }
    });
    let lines: Vec<_> = futures::future::join_all(runs)
        .await
        .into_iter()
        .flatten()
        .collect();
    let mut numbers: Vec<i32> = lines
        .iter()
        .map(|line| {
            line[31..]
                .strip_prefix("stdout: line ")
                .expect("a line")
                .parse()
                .expect("its number")
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..rounds * width).collect::<Vec<_>>());
}

/// C-93, C-81: what a Node container answers to what is wrong.
#[tokio::test]
async fn the_node_image_answers_as_nodes_runtime_does() {
    let (on, _alive) = engine().await;
    let start = || async {
        let mut spec = probe(&on);
        spec.image = image("ffs/node-action");
        on.start(spec).await
    };
    let container = start().await;
    on.init(
        &container,
        "async function main(args) { await new Promise(r => setTimeout(r, 300)); return args.bad ? 5 : {}; }",
    )
    .await;
    let code = json!({"value": {"name": "x", "main": "main", "code": "x", "binary": false}});
    assert_eq!(
        status(&on, &container, "/init", &code).await,
        403,
        "a second time"
    );
    let run = json!({"value": {}});
    let mut both = tokio::join!(
        status(&on, &container, "/run", &run),
        status(&on, &container, "/run", &run)
    );
    if both.0 > both.1 {
        both = (both.1, both.0);
    }
    assert_eq!(both, (200, 403), "one at a time");
    assert_eq!(
        status(&on, &container, "/run", &json!({"value": {"bad": 1}})).await,
        502,
        "no object"
    );
    let container = start().await;
    on.init(&container, "function main() { throw new Error('no'); }")
        .await;
    assert_eq!(status(&on, &container, "/run", &run).await, 502, "it throws");
}

/// L-01: no socket, no start; and it is said which one.
#[tokio::test]
async fn without_a_socket_there_is_no_engine() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut settings = settings("wsk00_");
    settings.socket = directory.path().join("docker.sock");
    let error = DockerEngine::open(settings, directory.path().join("sockets"))
        .await
        .expect_err("no socket");
    assert!(matches!(error, OpenError::Socket { .. }), "{error}");
    assert!(error.to_string().contains("docker.sock"), "{error}");
}

/// C-94, C-40: a cold start beside what creating and starting that container costs by itself. A measurement.
#[tokio::test]
#[ignore = "it measures, and shows nothing"]
async fn a_cold_start_is_measured() {
    let (on, alive) = engine().await;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let api = bollard::Docker::connect_with_unix("/var/run/docker.sock", 60, bollard::API_DEFAULT_VERSION)
        .expect("there");
    let api = api.negotiate_version().await.expect("there");
    for n in 0..20 {
        let began = std::time::Instant::now();
        let options = bollard::query_parameters::CreateContainerOptionsBuilder::default()
            .name(&format!("{}b{n}", alive.prefix))
            .build();
        let body = bollard::models::ContainerCreateBody {
            image: Some("ffs/instant".to_owned()),
            ..Default::default()
        };
        let made = api.create_container(Some(options), body).await.expect("made");
        api.start_container(&made.id, None::<bollard::query_parameters::StartContainerOptions>)
            .await
            .expect("started");
        bare.push(began.elapsed());
        let began = std::time::Instant::now();
        let mut spec = probe(&on);
        spec.image = image("ffs/instant");
        let container = on.start(spec).await;
        on.init(&container, "x").await;
        on.run(&container, json!({})).await;
        ours.push(began.elapsed());
    }
    bare.sort_unstable();
    ours.sort_unstable();
    eprintln!(
        "create and start: {:?}; to the first answer: {:?}",
        bare[10], ours[10]
    );
}

fn probe(on: &Engine<DockerEngine>) -> ContainerSpec {
    let mut spec = on.spec(Bytes::mib(256));
    spec.image = image("ffs/probe");
    spec
}

async fn collect(
    on: &Engine<DockerEngine>,
    container: &Container,
    sentinels: bool,
) -> ffs_invoker::container::Logs {
    let request = LogRequest {
        activation: ActivationId::from_u128(7),
        limit: Bytes::mib(10),
        sentinels,
    };
    on.engine.logs(&container.id, request).await
}

async fn status(on: &Engine<DockerEngine>, container: &Container, path: &str, body: &Value) -> u16 {
    match on.post(&container.address, path, body, PATIENCE).await.outcome {
        Outcome::Response { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

fn inspect(which: &str) -> Value {
    let says = docker(&["inspect", which]);
    let says: Value = serde_json::from_str(&says).expect("JSON");
    says[0].clone()
}

async fn nothing_is_left(alive: &Alive) {
    let name = format!("name={}", alive.prefix);
    eventually(|| docker(&["ps", "--all", "--quiet", "--filter", &name]).is_empty()).await;
}

/// Without members that say nothing: null, empty, zero and false are the same to Docker.
fn plain(value: &Value) -> Value {
    let says_something = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(true) => true,
    };
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), plain(value)));
            Value::Object(kept.filter(|(_, value)| says_something(value)).collect())
        }
        other => other.clone(),
    }
}
