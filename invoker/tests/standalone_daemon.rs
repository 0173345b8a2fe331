//! What a user meets in `ffs-invoker standalone`: overlapping requests, restarts, ends by force, and
//! mistakes, each answered with a sentence to act on while the daemon goes on.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use support::daemon::Daemon;

/// Two components that wait, so that requests can be seen to overlap.
const TWO: &str = r#"
import time
import numpy as np
import FluidFaaS as FFS

class Double(FFS.Module):
    def load(self): pass
    def forward(self, x):
        time.sleep(0.2)
        return x * 2

class Add(FFS.Module):
    def load(self): pass
    def forward(self, x):
        time.sleep(0.2)
        return x + 1

class Two(FFS.FFaaS):
    def pre(self, event):
        print("asked for", event["x"])
        return {"x": np.array([event["x"]], np.int64)}
    def defDAG(self, x):
        return {"y": Add.reg(self, Double.reg(self, x))}
    def post(self, outputs, event):
        return {"y": int(outputs["y"][0])}

main = FFS.entry(Two)
"#;

/// One GPU whose slices hold one component each and not both: a component needs some 40 MB here.
fn split() -> Daemon {
    Daemon::start(&[
        "--topology",
        "[2g.20gb+2g.20gb+2g.20gb+1g.10gb]@A100-80GB",
        "--gpu-cpus",
        "4",
        "--gpu-memory",
        "2GiB",
    ])
}

fn note<'a>(activation: &'a Value, key: &str) -> &'a Value {
    let notes = activation["annotations"]
        .as_array()
        .expect("annotations are a list");
    &notes
        .iter()
        .find(|note| note["key"] == key)
        .unwrap_or_else(|| panic!("no {key}: {activation}"))["value"]
}

fn error(activation: &Value) -> &str {
    assert_eq!(activation["response"]["success"], false, "{activation}");
    activation["response"]["result"]["error"]
        .as_str()
        .expect("an error is a sentence")
}

#[tokio::test(flavor = "multi_thread")]
async fn later_requests_reuse_the_instance_and_have_their_own_logs() {
    let daemon = split();
    daemon.put_python("two", TWO, 256, &json!({ "ffs": true })).await;
    let first = daemon.invoke("two", &json!({ "x": 1 })).await;
    assert_eq!(first["response"]["result"], json!({ "y": 3 }), "{first}");

    let answers = futures::future::join_all((2..5).map(|x| {
        let daemon = &daemon;
        async move { daemon.invoke("two", &json!({ "x": x })).await }
    }))
    .await;

    for (x, activation) in (2..5).zip(&answers) {
        assert_eq!(activation["response"]["result"], json!({ "y": 2 * x + 1 }));
        assert_eq!(note(activation, "ffs")["plan"], note(&first, "ffs")["plan"]);
        let id = activation["activationId"].as_str().unwrap();
        let logs = daemon.logs(id).await;
        let logs = logs["logs"].as_array().unwrap();
        assert!(
            logs.len() == 1
                && logs[0]
                    .as_str()
                    .unwrap()
                    .ends_with(&format!("stdout: asked for {x}")),
            "{logs:?}"
        );
    }
    let status = daemon.status().await;
    assert!(!status["instances"].as_array().unwrap().is_empty(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_instance_stops_and_a_restart_remembers_dag_and_profile() {
    let mut daemon = Daemon::start(&["--keep-alive", "1", "--gpu-cpus", "4"]);
    daemon.put_python("two", TWO, 256, &json!({ "ffs": true })).await;
    daemon.invoke("two", &json!({ "x": 1 })).await;
    let begun = Instant::now();
    loop {
        let status = daemon.status().await;
        if status["instances"].as_array().unwrap().is_empty() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    assert!(daemon.stop().success());
    daemon.start_again();
    let again = daemon.invoke("two", &json!({ "x": 4 })).await;

    assert_eq!(again["response"]["result"], json!({ "y": 9 }));
    let status = daemon.status().await;
    let built = status["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .any(|decision| decision["what"] == "build");
    assert!(!built, "BUILDDAG ran again: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_process_and_the_next_one_goes_on() {
    let mut daemon = split();
    daemon.put_python("two", TWO, 256, &json!({ "ffs": true })).await;
    daemon
        .put_python(
            "plain",
            "def main(args):\n    return {'pid': 1}\n",
            128,
            &json!({}),
        )
        .await;
    daemon.invoke("two", &json!({ "x": 1 })).await;
    daemon.invoke("plain", &json!({})).await;
    let run = daemon.folder.path().join("run").display().to_string();
    let running = descendants(daemon.child.id());
    assert!(
        running.len() >= 4,
        "two containers, each a launcher, a proxy and Python: {running:?}"
    );

    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();

    let begun = Instant::now();
    while running.iter().any(|process| process.is_alive()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{running:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    daemon.start_again();
    let again = daemon.invoke("two", &json!({ "x": 2 })).await;
    assert_eq!(again["response"]["result"], json!({ "y": 5 }));
    assert!(daemon.stop().success());
    let left = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!left.contains(&run), "{left}");
}

/// A process, told from a later one with the same id by when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    began: String,
}

impl Process {
    fn read(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ended = fields[0] == "Z" || fields[0] == "X";
        (!ended).then(|| Self {
            id,
            parent: fields[1].parse().unwrap(),
            began: fields[19].to_owned(),
        })
    }

    fn is_alive(&self) -> bool {
        Self::read(self.id).is_some_and(|now| now.began == self.began)
    }
}

/// Children of a process, their children, and so on.
fn descendants(of: u32) -> Vec<Process> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<Process> = ids
        .filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.id);
            found.push(process.clone());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_answered_with_a_sentence_and_the_daemon_goes_on() {
    let daemon = Daemon::start(&["--gpu-cpus", "4", "--gpu-memory", "160MiB"]);
    let cases = [
        ("def main(args):\n    return {{}\n", json!({}), "not valid Python"),
        (
            "def main(args):\n    return {}\n",
            json!({ "ffs": { "slo_ms": -1 } }),
            "slo_ms",
        ),
        (
            "def main(args):\n    return {}\n",
            json!({ "ffs": { "speed": 9 } }),
            "speed",
        ),
        (
            "def main(args):\n    return {}\n",
            json!({ "ffs": true }),
            "FFS.entry",
        ),
        (
            "import FluidFaaS as FFS\nclass F(FFS.FFaaS):\n    def defDAG(self, x):\n        return {'y': x}\nmain = FFS.entry(F)\n",
            json!({ "ffs": true }),
            "defDAG",
        ),
    ];
    for (index, (code, annotations, expected)) in cases.iter().enumerate() {
        let name = format!("mistake{index}");
        daemon.put_python(&name, code, 256, annotations).await;
        let activation = daemon.invoke(&name, &json!({ "x": 1 })).await;
        assert!(error(&activation).contains(expected), "{index}: {activation}");
    }

    // A component that no slice holds: what it needs, and what the largest slice has.
    let large = TWO.replace(
        "def load(self): pass",
        "def load(self): self.weights = np.ones(30_000_000)",
    );
    daemon
        .put_python("large", &large, 512, &json!({ "ffs": true }))
        .await;
    let activation = daemon.invoke("large", &json!({ "x": 1 })).await;
    let sentence = error(&activation);
    assert!(
        sentence.contains("needs") && sentence.contains("largest slice"),
        "{sentence}"
    );

    daemon
        .put_python(
            "plain",
            "def main(args):\n    return {'sum': args['a'] + args['b']}\n",
            128,
            &json!({}),
        )
        .await;
    let activation = daemon.invoke("plain", &json!({ "a": 2, "b": 3 })).await;
    assert_eq!(activation["response"]["result"], json!({ "sum": 5 }));
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let start = |arguments: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let run = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
            .arg("standalone")
            .arg("--state")
            .arg(folder.path().join("state"))
            .arg("--run")
            .arg(folder.path().join("run"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(!run.status.success());
        String::from_utf8(run.stderr).unwrap()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(start(&["--listen", &address]).contains("is in use"));
    let illegal = start(&[
        "--listen",
        "127.0.0.1:0",
        "--topology",
        "[4g.40gb+4g.40gb]@A100-80GB",
    ]);
    assert!(illegal.contains("4g.40gb"), "{illegal}");
    assert!(start(&["--listen", "127.0.0.1:0", "--policy", "fastest"]).contains("\"fastest\""));
    assert!(start(&["--listen", "127.0.0.1:0", "--auth", "secret"]).contains("expected a UUID"));
}
