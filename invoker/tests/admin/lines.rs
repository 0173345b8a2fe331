//! What the log says of one activation (contract 9.3).

use crate::node::{Node, eventually};
use ffs_invoker::config::{RecordLevel, RecordSettings};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn with(&self, text: &str) -> Vec<String> {
        let all = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        all.lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }
}

/// D-49: of an activation without a record there is a line with who, what and how much.
/// N-21, N-23, N-24: whoever follows one transaction finds its assignment, its marked begins and ends, its answer, and nothing that
/// the user has sent.
#[tokio::test]
async fn an_activation_can_be_followed_by_its_transaction_id() {
    let lines = Lines::default();
    let written = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_ansi(false)
        .finish();
    // The only test of this program that listens.
    tracing::subscriber::set_global_default(written).unwrap();
    let node = Node::with(|wishes| {
        wishes.settings.records = RecordSettings {
            blocking: RecordLevel::Failures,
            non_blocking: RecordLevel::Failures,
            unstored_logs: true,
        };
    })
    .await;
    node.create("guest", "followed", 256, 10).await;
    node.invoke(("guest", "followed"), |message| {
        message["transid"][0] = "followed0transaction".into();
        message["content"] = serde_json::json!({ "password": "hunter2-hunter2" });
    })
    .await;
    node.acks.at_least(1).await;

    let of = || lines.with("followed0transaction");
    let has = |text: &str| of().iter().any(|line| line.contains(text));
    for text in [
        "containerStart",
        "marker=invoker_activationInit_start:",
        "marker=invoker_activationInit_finish:",
        "marker=invoker_activationRun_start:",
        "marker=invoker_activationRun_finish:",
        "marker=invoker_collectLogs_start:",
        "marker=invoker_collectLogs_finish:",
        "posted the completion",
        "no record is kept of this activation",
    ] {
        eventually(text, || has(text)).await;
    }
    let finish = of();
    let finish = finish
        .iter()
        .find(|line| line.contains("activationRun_finish:"))
        .unwrap();
    let marker = finish
        .split("marker=")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let numbers: Vec<i64> = marker.split(':').skip(1).map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers.len(), 2, "{marker}");
    assert!(
        numbers[0] > numbers[1],
        "since the transaction's start, and since /run: {marker}"
    );
    let unstored = lines.with("no record is kept");
    assert_eq!(unstored.len(), 1, "{unstored:?}");
    for text in [
        "INFO",
        "activation=",
        "action=guest/followed",
        "namespace=guest",
        "size=",
    ] {
        assert!(unstored[0].contains(text), "{unstored:?}");
    }
    assert_eq!(lines.with("hunter2-hunter2"), Vec::<String>::new());
    assert_eq!(lines.with("kkkkkkkk"), Vec::<String>::new());
    node.stop().await;
}
