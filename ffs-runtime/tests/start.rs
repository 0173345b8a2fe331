//! A container that cannot begin says why in one sentence, and ends.

mod support;

use serde_json::Value;
use std::os::unix::net::UnixListener;
use std::process::Command;
use support::{Instance, command};

/// The exit code, and what was said on standard error.
fn outcome(prepare: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let mut command = command();
    prepare(&mut command);
    let output = command.output().expect("the binary was built");
    (
        output.status.code(),
        String::from_utf8(output.stderr).expect("UTF-8"),
    )
}

#[test]
fn no_interpreter() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let outcome = outcome(|command| {
        command
            .env("FFS_PYTHON", "/no/such/python")
            .env("FFS_LISTEN", folder.path().join("proxy"));
    });
    let expected = "ffs-runtime: the Python interpreter /no/such/python cannot be started (FFS_PYTHON names another): \
        No such file or directory (os error 2)\n";
    assert_eq!(outcome, (Some(1), expected.into()));
    assert!(!folder.path().join("proxy").exists());
}

#[test]
fn an_address_in_use() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("proxy");
    let _taken = UnixListener::bind(&path).expect("it is free");
    let (code, said) = outcome(|command| {
        command.env("FFS_LISTEN", &path);
    });
    let expected = format!(
        "ffs-runtime: cannot listen at {} (FFS_LISTEN): Address already in use",
        path.display()
    );
    assert!(code == Some(1) && said.starts_with(&expected), "{said}");
}

#[test]
fn settings_that_make_no_sense() {
    for (variables, sentence) in [
        (
            vec![("FFS_CONFIG", "/c")],
            "FFS_CONFIG is set, so FFS_LANE must be set too",
        ),
        (
            vec![("FFS_CONFIG", "/c"), ("FFS_TOKEN", "t"), ("FFS_LANE", "first")],
            "FFS_LANE cannot be used: lane id \"first\" is not valid: expected s<stage>l<lane>, such as s0l0",
        ),
        (
            vec![("FFS_LIFELINE", "fd3")],
            "FFS_LIFELINE is \"fd3\", expected stdin",
        ),
    ] {
        let outcome = outcome(|command| {
            command.envs(variables);
        });
        assert_eq!(outcome, (Some(1), format!("ffs-runtime: {sentence}\n")));
    }
    let (code, said) = outcome(|command| {
        command.arg("serve");
    });
    assert!(
        code == Some(1) && said.starts_with("ffs-runtime: argument \"serve\" is not known"),
        "{said}"
    );
}

#[test]
fn a_config_layer_that_is_not_one() {
    let instance = Instance::new("");
    let layer = instance.layer.path();
    let start = |lane: &str| {
        outcome(|command| {
            command
                .env("FFS_CONFIG", layer)
                .env("FFS_LANE", lane)
                .env("FFS_TOKEN", "t");
        })
    };
    let file = layer.join("assignment.json");

    let (code, said) = start("s2l0");
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        format!(
            "ffs-runtime: FFS_LANE is s2l0, but {} has only s0l0, s1l0\n",
            file.display()
        )
    );

    std::fs::remove_file(layer.join("init.json")).expect("it was there");
    let (code, said) = start("s1l0");
    assert!(
        code == Some(1) && said.contains("init.json of the config layer cannot be read: No such file"),
        "{said}"
    );

    let mut assignment: Value = serde_json::from_slice(&std::fs::read(&file).expect("there")).expect("JSON");
    assignment["epoch"] = "third".into();
    std::fs::write(&file, assignment.to_string()).expect("written");
    let (code, said) = start("s1l0");
    assert!(
        code == Some(1) && said.contains("assignment.json of the config layer is not a valid document"),
        "{said}"
    );
    assert!(said.contains("expected u64"), "{said}");
}

#[test]
fn nobody_at_the_control_socket() {
    let instance = Instance::new("");
    std::fs::remove_file(instance.layer.path().join("control")).expect("it was there");
    let (code, said) = outcome(|command| {
        command
            .env("FFS_CONFIG", instance.layer.path())
            .env("FFS_LANE", "s1l0")
            .env("FFS_TOKEN", "t");
    });
    let path = instance.layer.path().join("control");
    assert!(code == Some(1), "{said}");
    assert!(
        said.starts_with(&format!(
            "ffs-runtime: the invoker cannot be reached at {}: ",
            path.display()
        )),
        "{said}"
    );
}
