//! The real Python package behind the real proxy.
//!
//! `FFS_PYTHON` names an interpreter; if it has the package installed, that one is tested, else
//! the sources, without their native part.

mod support;

use nix::sys::signal::{Signal, kill};
use proto::ffs::dag::DagDocument;
use proto::ffs::timing::Timing;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Instance, Runtime, SENTINEL, Stream, init_body};

fn python() -> String {
    std::env::var("FFS_PYTHON").unwrap_or_else(|_| "python3".into())
}

fn imports(module: &str) -> bool {
    let import = Command::new(python())
        .args(["-c", &format!("import {module}")])
        .env_remove("PYTHONPATH")
        .stderr(Stdio::null())
        .status();
    import.is_ok_and(|status| status.success())
}

/// Whether the whole package is there. Says so where it is not.
fn whole_package() -> bool {
    let whole = imports("FluidFaaS._native");
    if !whole {
        eprintln!(
            "skipped: {} has no FluidFaaS with its native part (FFS_PYTHON names another)",
            python()
        );
    }
    whole
}

fn use_package(command: &mut Command) {
    if imports("FluidFaaS") {
        command.env_remove("PYTHONPATH");
    } else {
        command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("python"));
    }
}

/// The first block of Python in the README.
fn example() -> &'static str {
    let readme = include_str!("../README.md");
    let (_, rest) = readme
        .split_once("```python\n")
        .expect("the README has an example");
    rest.split_once("```").expect("which ends").0
}

#[test]
fn a_plain_action() {
    let mut runtime = Runtime::start_with(use_package);
    let code = "import os, sys\n\
        def main(args):\n\
        \x20   print('for', args['name']); print('aside', file=sys.stderr); os.write(1, b'raw\\n')\n\
        \x20   if args['name'] == 'Eve': raise PermissionError('not you')\n\
        \x20   return {'id': os.environ['__OW_ACTIVATION_ID'], 'env': os.environ['LEVEL']}\n";
    let mut body = init_body(code);
    body["value"]["env"] = json!({"LEVEL": 3});
    assert_eq!(runtime.post("/init", &body).status, 200);

    let answer = runtime.run(json!({"name": "Ada"}));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"id": "0".repeat(32), "env": "3"}))
    );
    assert_eq!(
        runtime.written(Stream::Stdout),
        format!("for Ada\nraw\n{SENTINEL}\n")
    );
    assert_eq!(runtime.written(Stream::Stderr), format!("aside\n{SENTINEL}\n"));

    let refused = runtime.run(json!({"name": "Eve"}));
    assert_eq!(
        (refused.status, refused.json()),
        (200, json!({"error": "not you"}))
    );
    let traceback = runtime.written(Stream::Stderr);
    assert!(traceback.contains("PermissionError: not you") && traceback.ends_with(&format!("{SENTINEL}\n")));
}

#[test]
fn a_plain_action_that_goes_wrong() {
    let code = "import os, sys\ndef main(args):\n    return {'exit': sys.exit, 'nan': lambda: {'x': float('nan')}}[args['how']]()\n";
    let runtime = Runtime::start_with(use_package);
    assert_eq!(runtime.init(code).status, 200);

    let nan = runtime.run(json!({"how": "nan"}));
    assert_eq!(nan.status, 502, "{}", nan.body);
    let exit = runtime.run(json!({"how": "exit"}));
    assert_eq!((exit.status, exit.error().as_str()), (400, "command exited"));

    let runtime = Runtime::start_with(use_package);
    let answer = runtime.init("def main(args):\n    return }\n");
    assert_eq!(answer.status, 502);
    assert!(
        answer.error().contains("unmatched '}'") && answer.error().contains(":2"),
        "{}",
        answer.error()
    );
}

/// `dag.json` of the example, as our own `/ffs/build` makes it.
fn build(runtime: &Runtime, example: &Value) -> DagDocument {
    let answer = runtime.post(
        "/ffs/build",
        &json!({"function": "guest/f", "revision": "1-a", "example": example}),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("dag.json")
}

#[test]
fn the_example_of_the_readme_runs_unsplit() {
    if !whole_package() {
        return;
    }
    let runtime = Runtime::start_with(use_package);
    assert_eq!(runtime.init(example()).status, 200);

    let row = json!({"row": [1, 2, 9, 3, 1]});
    let answer = runtime.run(row.clone());
    assert_eq!((answer.status, answer.json()), (200, json!({"at": 2})));

    let dag = build(&runtime, &row);
    let nodes: Vec<_> = dag.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(nodes, ["Blur", "Peak"]);
}

/// Two lanes of the example, a component each, with rings there and back.
struct Pipeline {
    instance: Instance,
    rings: Vec<PathBuf>,
}

impl Pipeline {
    fn of(code: &str, dag: &DagDocument) -> Self {
        let id = format!("i-{}-{:x}", std::process::id(), code.len());
        let path = |ring: &str| format!("/dev/shm/ffs-{id}-{ring}");
        let lane = |id: &str, component: &str, reads: &str, writes: &str| {
            json!({"lanes": [{"id": id, "components": [component], "rings_in": [reads], "rings_out": [writes],
                "mig": {"uuid": format!("MIG-{id}"), "profile": "1g.10gb", "gpu_uuid": "GPU-1", "memory_bytes": 1}}]})
        };
        let mut stages = [
            lane("s0l0", "Blur", "ret", "r0"),
            lane("s1l0", "Peak", "r0", "ret"),
        ];
        for (index, stage) in stages.iter_mut().enumerate() {
            stage["index"] = index.into();
        }
        let ring = |id: &str, producer: &str, consumer: &str, node: &str| {
            json!({"id": id, "path": path(id), "bytes": 4 * 65536, "slots": 4, "producer": producer,
                "consumer": consumer, "tensors": [{"node": node, "port": 0}]})
        };
        let rings = json!([
            ring("r0", "s0l0", "s1l0", "Blur"),
            ring("ret", "s1l0", "s0l0", "Peak")
        ]);
        let instance = Instance::with(code, &id, json!(stages), rings);
        let dag = serde_json::to_string(dag).expect("plain data");
        std::fs::write(instance.layer.path().join("dag.json"), dag).expect("written");
        Self {
            instance,
            rings: vec![path("r0").into(), path("ret").into()],
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for ring in &self.rings {
            let _ = std::fs::remove_file(ring);
        }
    }
}

#[test]
fn the_example_of_the_readme_runs_in_two_lanes() {
    if !whole_package() {
        return;
    }
    let code = &example().replace("return max(", "print('looking at', len(row)); return max(");
    let row = json!({"row": [1, 2, 9, 3, 1]});
    let dag = {
        let unsplit = Runtime::start_with(use_package);
        assert_eq!(unsplit.init(code).status, 200);
        build(&unsplit, &row)
    };
    let pipeline = Pipeline::of(code, &dag);
    let start = |lane| {
        let runtime = pipeline.instance.start_with(lane, use_package);
        (runtime, pipeline.instance.accept())
    };
    let (mut head, mut head_control) = start("s0l0");
    let (mut second, mut second_control) = start("s1l0");

    let init = head.send("/init", init_body(code).to_string().as_bytes());
    for control in [&mut head_control, &mut second_control] {
        assert_eq!(control.hear()["type"], "hello");
        control.state(3, "run");
    }
    assert_eq!(init.answer().status, 200);
    for control in [&mut head_control, &mut second_control] {
        assert_eq!(control.hear()["type"], "loaded");
    }

    let waiting: Vec<_> = (0..3)
        .map(|n| {
            let deadline = "9999999999999";
            let body = json!({"value": {"row": vec![n; n + 3]}, "activation_id": format!("{n:032x}"), "deadline": deadline});
            head.send("/run", body.to_string().as_bytes())
        })
        .collect();
    for waiting in waiting {
        let answer = waiting.answer();
        assert_eq!((answer.status, answer.json()), (200, json!({"at": 0})));
        let timing: Timing =
            serde_json::from_str(answer.header("FFS-Timing").expect("a header")).expect("JSON");
        let lanes: Vec<_> = timing.lanes.iter().map(|lane| lane.id.to_string()).collect();
        assert_eq!(lanes, ["s0l0", "s1l0"]);
    }
    let logs = head.written(Stream::Stdout);
    for n in 0..3 {
        let block = format!("looking at {}\n{SENTINEL} {n:032x}\n", n + 2);
        assert!(
            logs.contains(&block),
            "what the second lane printed is in the head's block: {logs}"
        );
    }

    kill(second.python(), Signal::SIGKILL).expect("it runs");
    let failed = second_control.hear();
    let sentence = "lane s1l0 (components Peak) on slice MIG-s1l0: the Python process ended (signal 9)";
    assert_eq!(
        (&failed["type"], &failed["sentence"]),
        (&json!("failed"), &json!(sentence))
    );
    drop(second_control);
    assert_eq!(second.wait(), 1);
    drop(head_control);
    assert_eq!(head.wait(), 1);
}
