//! Registration with CUDA, seen by a driver of the test's own that writes down how it is called.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use peer::{RingPath, ring_at, send, soon};
use shm::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a `libcuda.so.1`; gone when dropped.
struct Driver(PathBuf);

impl Driver {
    fn compiled(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/fake_cuda.c");
        let compiler = Command::new("cc")
            .args([
                "-shared",
                "-fPIC",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wl,-soname,libcuda.so.1",
            ])
            .arg(source)
            .arg("-o")
            .arg(folder.join("libcuda.so.1"))
            .status()
            .unwrap();
        assert!(compiler.success());
        Self(folder)
    }

    /// Runs test `role` of this binary in a process that has loaded the driver; gives what the driver wrote down.
    fn calls_of(&self, role: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let calls = self.0.join("calls");
        let _ = std::fs::remove_file(&calls);
        let status = Command::new(std::env::current_exe().unwrap())
            .args([role, "--exact", "--ignored"])
            .env("LD_PRELOAD", self.0.join("libcuda.so.1"))
            .env("FAKE_CUDA_CALLS", &calls)
            .envs(environment.iter().copied())
            .status()
            .unwrap();
        assert!(status.success());
        let calls = std::fs::read_to_string(calls).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn without_cuda_nothing_happens() {
    let (producer, consumer) = ring_at(&RingPath::new(), 2, 4096);
    assert!(!producer.handle().pin().unwrap());
    assert!(!consumer.handle().pin().unwrap());
}

#[test]
fn a_ring_is_registered_once_for_each_end_and_unregistered_when_its_last_frame_is_gone() {
    let calls = Driver::compiled("once").calls_of("both_ends", &[]);
    let calls: Vec<Vec<&str>> = calls.iter().map(|call| call.split(' ').collect()).collect();
    let [one, two, three, four] = &calls[..] else {
        panic!("{calls:?}")
    };
    let bytes = (4096 + 2 * 4096).to_string();
    assert_eq!(
        (one[0], one[2], two[0], two[2]),
        ("register", &*bytes, "register", &*bytes)
    );
    assert_ne!(one[1], two[1], "each end has a mapping of its own");
    assert_eq!(
        (three[0], three[1]),
        ("unregister", one[1]),
        "the producer's went first"
    );
    assert_eq!((four[0], four[1]), ("unregister", two[1]));
}

#[test]
#[ignore = "the other process of the test above"]
fn both_ends() {
    if std::env::var_os("FAKE_CUDA_CALLS").is_none() {
        return;
    }
    let (mut producer, mut consumer) = ring_at(&RingPath::new(), 2, 4096);
    for _ in 0..3 {
        assert!(producer.handle().pin().unwrap());
    }
    assert!(consumer.handle().pin().unwrap());
    send(&mut producer, 1, "in hand");
    let frame = consumer.recv(soon()).unwrap();
    drop(consumer);
    drop(producer);
    assert_eq!(frame.tensor(0).unwrap(), b"in hand");
}

#[test]
fn a_ring_whose_last_frame_dies_on_a_thread_without_a_context_is_unregistered_in_that_of_its_registration() {
    let calls = Driver::compiled("elsewhere").calls_of("dropped_elsewhere", &[]);
    let calls: Vec<&str> = calls.iter().filter_map(|call| call.split(' ').next()).collect();
    assert_eq!(calls, ["register", "unregister"]);
}

#[test]
#[ignore = "the other process of the test above"]
fn dropped_elsewhere() {
    if std::env::var_os("FAKE_CUDA_CALLS").is_none() {
        return;
    }
    let (producer, _consumer) = ring_at(&RingPath::new(), 2, 4096);
    assert!(producer.handle().pin().unwrap());
    std::thread::spawn(|| drop(producer)).join().unwrap();
}

#[test]
fn a_thread_without_a_context_registers_nothing() {
    let driver = Driver::compiled("no-context");
    let calls = driver.calls_of("not_pinned", &[("FAKE_CUDA_WITHOUT_CONTEXT", "1")]);
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
#[ignore = "the other process of the test above"]
fn not_pinned() {
    let (producer, _consumer) = ring_at(&RingPath::new(), 2, 4096);
    assert!(!producer.handle().pin().unwrap());
}

#[test]
fn what_cuda_refuses_is_told_and_what_another_registered_is_left_to_it() {
    let driver = Driver::compiled("refused");
    assert!(driver.calls_of("refused", &[("FAKE_CUDA_ERROR", "2")]).is_empty());
    assert!(
        driver
            .calls_of("pinned_by_another", &[("FAKE_CUDA_ERROR", "712")])
            .is_empty()
    );
}

#[test]
#[ignore = "the other process of the test above"]
fn refused() {
    if std::env::var_os("FAKE_CUDA_ERROR").is_none() {
        return;
    }
    let (mut producer, mut consumer) = ring_at(&RingPath::new(), 2, 4096);
    let error = producer.handle().pin().unwrap_err();
    assert!(matches!(error, Error::Cuda { code: 2, .. }), "{error}");
    send(&mut producer, 1, "works all the same");
    assert_eq!(
        consumer.recv(soon()).unwrap().tensor(0).unwrap(),
        b"works all the same"
    );
}

#[test]
#[ignore = "the other process of the test above"]
fn pinned_by_another() {
    if std::env::var_os("FAKE_CUDA_ERROR").is_none() {
        return;
    }
    let (producer, _consumer) = ring_at(&RingPath::new(), 2, 4096);
    assert!(producer.handle().pin().unwrap());
}
