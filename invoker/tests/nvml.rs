//! The inventory of a machine with NVIDIA's driver, over a library whose GPUs are those of a file.
#![allow(clippy::unwrap_used)]

mod support;

use fake_nvml::{Faults, Happening};
use ffs_invoker::gpu::GpuInventory;
use proto::ffs::migs::{InventorySource, MigsDocument, SliceState};
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use support::fake_gpus::{Fake, cut};
use tokio_util::sync::CancellationToken;

const MIXED: &str = "[4g.40gb+2g.20gb+1g.10gb]@A100-80GB,[full]@L40S:46068";
/// For what happens within some seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

fn states(migs: &MigsDocument) -> Vec<(&str, SliceState)> {
    let state = |slice| -> (&str, SliceState) {
        let slice: &proto::ffs::migs::Slice = slice;
        (slice.profile.as_str(), slice.state)
    };
    migs.slices.iter().map(state).collect()
}

#[test]
fn every_layout_is_read_as_it_was_cut() {
    for (topology, names) in [
        (
            "8x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB",
            &["NVIDIA A100-SXM4-80GB"] as &[_],
        ),
        (
            "8x[3g.40gb+2g.20gb+2g.20gb]@A100-80GB",
            &["NVIDIA A100-SXM4-80GB"],
        ),
        (
            "[7x1g.10gb]@A100-80GB,2x[3x2g.20gb+1g.10gb]@A100-80GB,4x[3g.40gb+4g.40gb]@A100-80GB,\
             [4g.40gb+2g.20gb+1g.10gb]@A100-80GB",
            &["NVIDIA A100-SXM4-80GB"],
        ),
        ("[2x1g.6gb+2g.12gb]@A30-24GB", &["NVIDIA A30"]),
        (
            "[3g.20gb+2g.10gb+1g.5gb+1g.5gb+me]@A100-40GB",
            &["NVIDIA A100-SXM4-40GB"],
        ),
        (
            "[4g.40gb+3g.40gb]@H100-80GB,[7x1g.10gb]@H100-80GB",
            &["NVIDIA H100 80GB HBM3"],
        ),
        ("[3g.71gb+2x1g.35gb]@H200-141GB", &["NVIDIA H200"]),
        (
            "[4g.40gb+2g.20gb+1g.10gb]@A100-80GB,[full]@L40S:46068,[full]@H100-80GB",
            &["NVIDIA A100-SXM4-80GB", "NVIDIA L40S", "NVIDIA H100 80GB HBM3"],
        ),
    ] {
        let fake = Fake::new(topology);
        let read = fake.open().read().expect("readable");
        let mut expected = cut(topology);
        for (index, gpu) in expected.gpus.iter_mut().enumerate() {
            gpu.model = names[index.min(names.len() - 1)].to_owned();
        }
        expected.taken_at.clone_from(&read.taken_at);
        assert_eq!(read, expected, "{topology}");
        let text = serde_json::to_vec(&read).expect("JSON");
        proto::ffs::read::<MigsDocument>(&text).expect("a document of the config layer");
    }
}

#[test]
fn a_vanished_device_is_gone_and_hides_none_behind_it() {
    let mut fake = Fake::new(MIXED);
    let nvml = fake.open();
    let gone = fake.machine.migs.slices[1].uuid.clone();
    fake.break_down(Faults {
        vanished: [gone].into(),
        ..Faults::default()
    });
    let read = nvml.read().expect("readable");
    let free = SliceState::Free;
    assert_eq!(
        states(&read),
        [("4g.40gb", free), ("1g.10gb", free), ("full", free)]
    );
}

#[test]
fn who_may_not_ask_for_placements_learns_all_the_rest() {
    let mut fake = Fake::new(MIXED);
    let nvml = fake.open();
    let mut expected = nvml.read().expect("readable").slices;
    assert!(expected[0].placement.is_some());
    fake.break_down(Faults {
        unprivileged: true,
        ..Faults::default()
    });
    for slice in &mut expected {
        slice.placement = None;
    }
    assert_eq!(nvml.read().expect("readable").slices, expected);
}

#[test]
fn slices_of_a_lost_gpu_are_fenced_until_it_answers() {
    let mut fake = Fake::new(MIXED);
    let nvml = fake.open();
    let whole = nvml.read().expect("readable");
    let lost = Faults {
        lost: [fake.machine.migs.gpus[0].uuid.clone()].into(),
        ..Faults::default()
    };
    fake.break_down(lost);
    let read = nvml.read().expect("readable");
    let (free, fenced) = (SliceState::Free, SliceState::Fenced);
    assert_eq!(
        states(&read),
        [
            ("4g.40gb", fenced),
            ("2g.20gb", fenced),
            ("1g.10gb", fenced),
            ("full", free)
        ]
    );
    assert_eq!(read.gpus, whole.gpus);
    let late = fake.open().read().expect("the other GPU answers");
    assert_eq!(
        states(&late),
        [("full", free)],
        "what was never seen is not there"
    );

    fake.break_down(Faults::default());
    assert_eq!(nvml.read().expect("readable").slices, whole.slices);
}

#[test]
fn a_critical_error_fences_its_slice_until_the_slice_has_been_away() {
    let mut fake = Fake::new(MIXED);
    let nvml = Arc::new(fake.open());
    let known = nvml.read().expect("readable");
    let whole = known.slices.clone();
    let (told, changes) = mpsc::channel();
    let stop = CancellationToken::new();
    let watching = {
        let (nvml, stop) = (Arc::clone(&nvml), stop.clone());
        std::thread::spawn(move || {
            nvml.watch(known, &stop, &mut |migs| {
                let _ = told.send(migs);
            });
        })
    };
    let change = || changes.recv_timeout(PATIENCE).expect("a change is told");
    let happening = |xid, slice: usize| Happening {
        gpu: whole[slice].gpu_uuid.clone(),
        xid: Some(xid),
        instance: whole[slice].gi.zip(whole[slice].ci),
    };

    // Whether the thread listens yet cannot be seen; a change that it tells shows it.
    fake.break_down(Faults {
        vanished: [whole[2].uuid.clone()].into(),
        ..Faults::default()
    });
    assert_eq!(change().slices.len(), 3);
    // A fault of a program in the first slice, and a GPU's own in the second.
    fake.machine.faults.events = vec![happening(31, 0), happening(79, 1)];
    fake.write();
    let (free, fenced) = (SliceState::Free, SliceState::Fenced);
    assert_eq!(
        states(&change()),
        [("4g.40gb", free), ("2g.20gb", fenced), ("full", free)]
    );
    fake.machine.faults.vanished = [whole[1].uuid.clone()].into();
    fake.write();
    assert_eq!(
        states(&change()),
        [("4g.40gb", free), ("1g.10gb", free), ("full", free)]
    );
    fake.machine.faults.vanished.clear();
    fake.write();
    assert_eq!(change().slices, whole);
    stop.cancel();
    watching.join().expect("it ends");
}

#[test]
fn the_command_shows_the_machine_and_says_why_it_cannot() {
    let mut fake = Fake::new(MIXED);
    let library = fake.library.display().to_string();
    let shown = migs(&["--inventory", "nvml", "--nvml-library", &library]);
    let table = String::from_utf8(shown.stdout).expect("text");
    assert!(table.ends_with("4 slices on 2 GPUs\n"), "{table}");
    assert!(table.contains("NVIDIA L40S"), "{table}");

    let absent = fake.library.with_file_name("nothing").display().to_string();
    let refused = migs(&["--inventory", "nvml", "--nvml-library", &absent]);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).expect("text");
    let expected = format!("the GPU inventory could not be read: NVML's library {absent} cannot be used: ");
    assert!(said.contains(&expected), "{said}");

    fake.break_down(Faults {
        unloaded: true,
        ..Faults::default()
    });
    let refused = migs(&["--inventory", "nvml", "--nvml-library", &library]);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).expect("text");
    assert!(said.contains("NVIDIA driver is not loaded"), "{said}");

    let shown = migs(&[
        "--inventory",
        "auto",
        "--nvml-library",
        &library,
        "--format",
        "json",
    ]);
    let read: MigsDocument = proto::ffs::read(&shown.stdout).expect("a document");
    assert_eq!(read.source, InventorySource::None);

    for (arguments, sentence) in [
        (
            ["--inventory", "nvml", "--topology", "[full]@A30-24GB"].as_slice(),
            "--topology is for an inventory that is simulated, not Nvml",
        ),
        (
            &["--inventory", "simulated"],
            "an inventory that is simulated needs --topology",
        ),
    ] {
        let refused = migs(arguments);
        let said = String::from_utf8(refused.stderr).expect("text");
        assert!(!refused.status.success() && said.contains(sentence), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_fences_the_slices_of_a_lost_gpu_and_takes_them_back() {
    let mut fake = Fake::new(MIXED);
    let library = fake.library.display().to_string();
    let daemon = support::daemon::Daemon::start(&["--inventory", "nvml", "--nvml-library", &library]);
    let free = ["free"; 4];
    seen(&daemon, &free).await;
    fake.break_down(Faults {
        lost: [fake.machine.migs.gpus[0].uuid.clone()].into(),
        ..Faults::default()
    });
    seen(&daemon, &["fenced", "fenced", "fenced", "free"]).await;
    fake.break_down(Faults::default());
    seen(&daemon, &free).await;
}

/// Waits until the status shows the slices in these states.
async fn seen(daemon: &support::daemon::Daemon, expected: &[&str]) {
    let begun = Instant::now();
    loop {
        let status = daemon.status().await;
        assert_eq!(status["migs"]["source"], "nvml", "{status}");
        let slices = status["migs"]["slices"].as_array().expect("a list");
        let states: Vec<_> = slices
            .iter()
            .filter_map(|slice| slice["state"].as_str())
            .collect();
        if states == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{states:?} instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn migs(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"));
    command.arg("migs").args(arguments).output().expect("it runs")
}
