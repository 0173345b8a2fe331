//! `ffs-invoker doctor` beside real parts, and where they are missing.
#![allow(clippy::unwrap_used)]

#[path = "support/couch.rs"]
#[allow(dead_code)]
mod couch;
#[path = "support/kafka.rs"]
#[allow(dead_code)]
mod kafka;

use couch::Couch;
use serde_json::Value;
use std::process::Command;

/// What ansible's role gives the invoker of a local cluster.
const ANSIBLE: &str = include_str!("data/settings/ansible.env");

struct Answer {
    code: Option<i32>,
    text: String,
}

impl Answer {
    /// Level, value and advice of the first finding whose name begins so.
    fn finding(&self, what: &str) -> (String, String, String) {
        let findings: Value = serde_json::from_str(&self.text).unwrap();
        let mut findings = findings.as_array().unwrap().iter();
        let found = findings.find(|finding| finding["what"].as_str().unwrap().starts_with(what));
        let found = found.unwrap_or_else(|| panic!("nothing about {what}: {}", self.text));
        let text = |name: &str| found[name].as_str().unwrap().to_owned();
        (text("level"), text("value"), text("advice"))
    }
}

fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .envs(ANSIBLE.lines().filter_map(|line| line.split_once('=')))
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("CONFIG_whisk_invoker_protocol", "http")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    Answer {
        code: output.status.code(),
        text: String::from_utf8(output.stdout).unwrap(),
    }
}

#[test]
fn where_all_is_well_it_says_what_it_has_found_and_leaves_nothing() {
    let (broker, couch) = (kafka::shared(), Couch::start());
    let settings = couch.settings(couch.databases());
    let (port, databases) = (settings.port.to_string(), &settings.databases);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (hosts, state, run) = (broker.hosts(), at("state"), at("run"));
    let variables = [
        ("KAFKA_HOSTS", hosts.as_str()),
        ("CONFIG_whisk_couchdb_protocol", "http"),
        ("CONFIG_whisk_couchdb_host", "127.0.0.1"),
        ("CONFIG_whisk_couchdb_port", &port),
        ("CONFIG_whisk_couchdb_username", &settings.username),
        ("CONFIG_whisk_couchdb_password", &settings.password),
        (
            "CONFIG_whisk_couchdb_databases_WhiskAuth",
            databases.auth.as_str(),
        ),
        (
            "CONFIG_whisk_couchdb_databases_WhiskEntity",
            databases.entity.as_str(),
        ),
        (
            "CONFIG_whisk_couchdb_databases_WhiskActivation",
            databases.activation.as_str(),
        ),
        ("CONFIG_ffs_stateDir", &state),
        ("CONFIG_ffs_runDir", &run),
        ("CONFIG_ffs_inventory", "simulated"),
        ("CONFIG_ffs_topology", "[4g.40gb+2g.20gb+1g.10gb]@A100-80GB"),
        ("CONFIG_ffs_gpuCpus", "0.5"),
        ("CONFIG_ffs_gpuMemory", "512 MiB"),
        ("CONFIG_ffs_engine", "process"),
    ];
    let answer = doctor(&["--json", "--id", "0"], &variables);
    for what in [
        "id",
        "settings",
        "runtimes manifest",
        "Kafka at",
        "CouchDB at",
        "state and journal",
        "slices",
    ] {
        let (level, value, advice) = answer.finding(what);
        assert_eq!((level.as_str(), advice.as_str()), ("ok", ""), "{what}: {value}");
    }
    assert!(
        answer.finding("Kafka at").1.starts_with("1 broker"),
        "{}",
        answer.text
    );
    assert_eq!(answer.finding("slices").1, "3 slices on 1 GPUs");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "it made something"
    );
    let text = doctor(&["--id", "0"], &variables).text;
    assert!(
        text.contains("runtimes manifest") && text.contains("0 failed"),
        "{text}"
    );

    // One thing is wrong, and is named with what was tried and what to do.
    let wrong = [("CONFIG_whisk_couchdb_password", "guessed")];
    let answer = doctor(&["--json", "--id", "0"], &[&variables[..], &wrong].concat());
    let (level, value, advice) = answer.finding("CouchDB at");
    assert_eq!((level.as_str(), answer.code), ("failed", Some(1)), "{value}");
    assert!(
        value.contains("401") && advice.contains("password"),
        "{value}: {advice}"
    );
    let wrong = [("CONFIG_whisk_couchdb_databases_WhiskAuth", "nobodys")];
    let answer = doctor(&["--json", "--id", "0"], &[&variables[..], &wrong].concat());
    let (level, value, _) = answer.finding("CouchDB at");
    assert_eq!(
        (level.as_str(), value.as_str()),
        ("failed", "there is no database nobodys")
    );
}

#[test]
fn what_is_missing_is_named_and_ends_with_an_exit_code() {
    let answer = doctor(
        &["--json"],
        &[
            ("KAFKA_HOSTS", "127.0.0.1:1"),
            ("CONFIG_whisk_couchdb_host", "127.0.0.1"),
            ("CONFIG_whisk_couchdb_port", "1"),
            ("CONFIG_ffs_dockerSocket", "/nowhere/docker.sock"),
            ("CONFIG_ffs_stateDir", "/proc/ffs"),
            ("CONFIG_ffs_inventory", "nvml"),
            ("CONFIG_ffs_nvmlLibrary", "/nowhere/libnvidia-ml.so.1"),
        ],
    );
    assert_eq!(answer.code, Some(1), "{}", answer.text);
    for (what, part) in [
        ("id", "none"),
        ("Kafka at", "127.0.0.1:1"),
        ("CouchDB at", "refused"),
        ("Docker at", "/nowhere/docker.sock"),
        ("state and journal", "/proc"),
        ("slices", "/nowhere/libnvidia-ml.so.1"),
    ] {
        let (level, value, advice) = answer.finding(what);
        assert_eq!(level, "failed", "{what}: {value}");
        assert!(
            value.contains(part) && !advice.is_empty(),
            "{what}: {value}: {advice}"
        );
    }
}

#[test]
fn settings_that_cannot_be_followed_are_all_told() {
    let answer = doctor(
        &["--json", "--id", "0"],
        &[("RUNTIMES_MANIFEST", "{"), ("CONFIG_ffs_engine", "rocket")],
    );
    assert_eq!(answer.code, Some(1));
    let findings: Value = serde_json::from_str(&answer.text).unwrap();
    let told = |part: &str| {
        let mut values = findings
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["value"].as_str().unwrap());
        assert!(values.any(|value| value.contains(part)), "{part}: {findings:#}");
    };
    told("rocket");
    told("the runtimes manifest cannot be read");
    let answer = doctor(&["--json", "--port", "1"], &[]);
    assert!(
        answer.finding("arguments").1.contains("--port"),
        "{}",
        answer.text
    );
}
