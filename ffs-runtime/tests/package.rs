//! The real Python package behind the real proxy.
//!
//! `FFS_PYTHON` names an interpreter; if it has the package installed, that one is tested, else
//! the sources, without their native part.

mod support;

use proto::ffs::dag::DagDocument;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Runtime, SENTINEL, Stream, init_body};

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

    let build = runtime.post(
        "/ffs/build",
        &json!({"function": "guest/f", "revision": "1-a", "example": row}),
    );
    assert_eq!(build.status, 200, "{}", build.body);
    let dag: DagDocument = serde_json::from_str(&build.body).expect("dag.json");
    let nodes: Vec<_> = dag.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(nodes, ["Blur", "Peak"]);
}
