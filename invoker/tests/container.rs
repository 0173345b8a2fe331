//! Container engines keep their contract; and what holds for the process engine alone.

#[macro_use]
#[path = "../src/container/conformance.rs"]
mod conformance;

use conformance::{Engine, eventually, is_running};
use ffs_invoker::container::process::{ProcessConfig, ProcessEngine};
use ffs_invoker::container::{ContainerEngine, Error, Image};
use proto::id::InstanceId;
use proto::unit::Bytes;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

engine_conforms!(process, super::process_engine());

/// Without the rights to namespaces, control groups and other users, what is left has to be right.
#[test]
fn the_contract_holds_for_an_ordinary_user_too() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        return; // then the tests above are that already
    }
    let home = tempfile::tempdir().expect("a directory");
    let nobody = 65534;
    std::os::unix::fs::chown(home.path(), Some(nobody), Some(nobody)).expect("root may");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(arguments).uid(nobody).gid(nobody).env_clear();
        command
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TMPDIR", home.path());
        command.env("FFS_TEST_RUNTIME", runtime()).stdin(Stdio::null());
        command
    };
    let reachable = as_nobody(&["--list"])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !reachable {
        return eprintln!("skipped: this test is in a directory that other users cannot enter");
    }
    let status = as_nobody(&["process::"]).status().expect("started");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_runtime_that_ends_at_once_is_said_with_its_last_words() {
    let (mut on, directory) = process_engine().await;
    let broken = directory.path().join("broken");
    write_program(
        &broken,
        "if [ \"$1\" = sandbox ]; then exec RUNTIME \"$@\"; fi; echo 'no brain found' >&2; exit 3",
    );
    let mut config = config(directory.path());
    config.runtime = broken;
    on.engine = ProcessEngine::open(config).await.expect("opened");

    let error = on
        .engine
        .start(&on.spec(Bytes::mib(64)))
        .await
        .expect_err("it ends");

    assert!(
        matches!(&error, Error::EndedEarly { reason, .. } if reason == "no brain found"),
        "{error}"
    );
    assert_eq!(entries(&directory.path().join("run/c")), 0);
}

#[tokio::test]
async fn a_runtime_that_never_listens_is_given_up() {
    let (mut on, directory) = process_engine().await;
    let mute = directory.path().join("mute");
    write_program(
        &mute,
        "if [ \"$1\" = sandbox ]; then exec RUNTIME \"$@\"; fi; exec sleep 600",
    );
    let mut config = config(directory.path());
    config.runtime = mute;
    config.start_limit = std::time::Duration::from_millis(300);
    on.engine = ProcessEngine::open(config).await.expect("opened");

    let error = on
        .engine
        .start(&on.spec(Bytes::mib(64)))
        .await
        .expect_err("it never listens");

    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(entries(&directory.path().join("run/c")), 0);
}

#[tokio::test]
async fn without_an_interpreter_the_engine_opens_and_says_so_at_each_start() {
    let (mut on, directory) = process_engine().await;
    let mut config = config(directory.path());
    config.python = "/nonexistent/python3".into();
    on.engine = ProcessEngine::open(config).await.expect("opened");
    let error = on
        .engine
        .start(&on.spec(Bytes::mib(64)))
        .await
        .expect_err("no interpreter");
    assert!(
        error
            .to_string()
            .contains("the Python interpreter /nonexistent/python3 cannot be run"),
        "{error}"
    );
}

#[tokio::test]
async fn a_config_layer_is_seen_read_only_and_the_hosts_files_are_not() {
    let (on, directory) = process_engine().await;
    let layer = directory.path().join("layer");
    std::fs::create_dir(&layer).expect("made");
    std::fs::write(layer.join("state"), "run").expect("written");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "host").expect("written");
    let mut lane = on.lane(None);
    lane.config_layer = Some(layer);
    let mut spec = on.spec(Bytes::mib(256));
    spec.lane = Some(lane);
    // The program is in the place of the runtime: a lane without an instance would not go on.
    let look = directory.path().join("look");
    write_program(
        &look,
        "if [ \"$1\" = sandbox ]; then exec RUNTIME \"$@\"; fi\n\
         cat $FFS_CONFIG/state >&2; touch $FFS_CONFIG/new 2>/dev/null && echo -n ' written' >&2\n\
         cat SECRET 2>/dev/null >&2; echo >&2",
    );
    let mut config = config(directory.path());
    config.runtime = look;
    let engine = ProcessEngine::open(config).await.expect("opened");
    if engine.isolation().await.expect("known").namespaces.is_err() {
        return eprintln!("skipped: namespaces are not permitted here");
    }
    let error = engine.start(&spec).await.expect_err("it only looks around");
    assert!(
        matches!(&error, Error::EndedEarly { reason, .. } if reason == "run"),
        "{error}"
    );
}

/// The test below starts this one in a process of its own, and kills it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is a part of another test"]
async fn a_daemon_that_will_be_killed() {
    let Some(directory) = std::env::var_os("FFS_TEST_DIRECTORY").map(PathBuf::from) else {
        return;
    };
    let on = open(config(&directory)).await;
    let instance: InstanceId = format!("t{}", std::process::id()).parse().expect("an id");
    let memory = on
        .engine
        .create_shared_memory(&instance, Bytes::mib(4), 201_000)
        .await
        .expect("made");
    let mut spec = on.spec(Bytes::mib(256));
    let mut lane = on.lane(None);
    lane.shared_memory = Some(memory);
    spec.lane = Some(lane);
    let first = on.start(spec).await;
    let marker = on.init_with_a_daemon_inside(&first).await;
    let second = on.start(on.spec(Bytes::mib(256))).await;
    let other = on.init_with_a_daemon_inside(&second).await;
    on.engine.pause(&second.id).await.expect("paused");
    println!("containers: {marker} {other}");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_outlives_a_killed_daemon() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut daemon = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "a_daemon_that_will_be_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("FFS_TEST_DIRECTORY", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = std::io::BufReader::new(daemon.stdout.take().expect("a pipe")).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("containers: "))
        .expect("it says when it runs");
    let markers: Vec<&str> = line
        .rsplit("containers: ")
        .next()
        .expect("a rest")
        .split(' ')
        .collect();
    assert!(
        markers.len() == 2 && markers.iter().all(|marker| is_running(marker)),
        "{line}"
    );
    let groups = std::fs::read_to_string(directory.path().join("run/cgroups")).expect("noted");

    daemon.kill().expect("ours");
    daemon.wait().expect("ours");

    for marker in markers {
        eventually(|| !is_running(marker)).await;
    }
    // Processes are gone by themselves; the rest goes with the next start.
    let on = open(config(directory.path())).await;
    on.engine.sweep().await.expect("swept");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    assert!(!mounts.contains(&*directory.path().to_string_lossy()), "{mounts}");
    for left in ["run/c", "run/shm", "scratch"] {
        assert_eq!(entries(&directory.path().join(left)), 0, "{left}");
    }
    drop(on);
    for group in groups.lines() {
        assert!(!Path::new(group).exists(), "{group}");
    }
}

#[tokio::test]
async fn containers_that_are_started_together_do_not_disturb_each_other() {
    let (on, _directory) = process_engine().await;
    let starts = (0..8).map(|n| {
        let on = &on;
        async move {
            let container = on.start(on.spec(Bytes::mib(256))).await;
            on.init(
                &container,
                "import os\ndef main(args):\n    return {'n': args['n'], 'tmp': os.listdir('/tmp')}\n",
            )
            .await;
            on.run(&container, json!({"n": n})).await["n"].clone()
        }
    });
    let answers = futures::future::join_all(starts).await;
    assert_eq!(answers, (0..8).map(|n| json!(n)).collect::<Vec<_>>());
    on.engine.sweep().await.expect("swept");
}

async fn process_engine() -> (Engine<ProcessEngine>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    (open(config(directory.path())).await, directory)
}

async fn open(config: ProcessConfig) -> Engine<ProcessEngine> {
    let engine = ProcessEngine::open(config).await.expect("opened");
    Engine {
        isolates: engine
            .isolation()
            .await
            .is_ok_and(|isolation| isolation.namespaces.is_ok()),
        engine,
        image: Image {
            kind: "python:3.11".to_owned(),
            name: "ffs/python".to_owned(),
            pull: false,
        },
        prefix: "wskconformance0_".to_owned(),
        env: BTreeMap::from([("PYTHONPATH".to_owned(), package().to_string_lossy().into_owned())]),
    }
}

fn config(directory: &Path) -> ProcessConfig {
    let mut config = ProcessConfig::new(directory.join("run"), directory.join("scratch"));
    config.runtime = runtime();
    config.readable = vec![package(), directory.to_owned(), runtime()];
    config
}

/// Sources of the Python package: enough for actions that are no pipelines.
fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ffs-runtime/python")
        .canonicalize()
        .expect("it is there")
}

/// The program, built if need be: cargo does not build it for the tests of this package.
fn runtime() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(named) = std::env::var_os("FFS_TEST_RUNTIME") {
                return named.into();
            }
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "ffs-runtime"])
                .status();
            assert!(built.expect("cargo runs").success());
            let own = std::env::current_exe().expect("this test");
            own.ancestors()
                .nth(2)
                .expect("target/debug/deps")
                .join("ffs-runtime")
        })
        .clone()
}

fn write_program(path: &Path, body: &str) {
    use std::os::unix::fs::PermissionsExt;
    let secret = path.with_file_name("secret");
    let body = body
        .replace("RUNTIME", &runtime().to_string_lossy())
        .replace("SECRET", &secret.to_string_lossy());
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).expect("readable").count()
}
