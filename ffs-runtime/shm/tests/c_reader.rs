//! Another language at the other end: a reader in C, made of `include/ffs_ring.h` alone, reads what a producer sends.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use peer::{RingPath, soon};
use shm::{Dtype, FrameLayout, Kind, Producer, Reason, RingSpec, TensorLayout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SPEC: RingSpec = RingSpec {
    slots: 3,
    slot_bytes: 8192,
    epoch: 7,
};

/// Compiles the reader for one test, with every warning an error.
fn compiled(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let compiler = Command::new("cc")
        .args([
            "-std=c11",
            "-D_GNU_SOURCE",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-I",
        ])
        .arg(here.join("include"))
        .arg(here.join("tests/c/reader.c"))
        .arg("-o")
        .arg(&program)
        .status()
        .unwrap();
    assert!(compiler.success());
    program
}

fn start(program: &Path, path: &RingPath, epoch: u64) -> Child {
    Command::new(program)
        .arg(path.as_ref())
        .arg(epoch.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it printed, and what it complained of.
fn end(child: Child) -> (String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let complaint = text(output.stderr);
    assert_eq!(output.status.success(), complaint.is_empty());
    (text(output.stdout), complaint)
}

#[test]
fn a_reader_in_c_gets_every_frame_of_a_producer_and_its_end() {
    let program = compiled("every-frame");
    let path = RingPath::new();
    let mut producer = Producer::create(&path, &SPEC).unwrap();
    let reader = start(&program, &path, 7);
    let reader = std::thread::spawn(|| end(reader)); // a pipe that is full would hold it up
    let mut expected = String::new();
    for number in 0..2000_u64 {
        let tensor = TensorLayout::new(Dtype::Float32, &[number % 5, 4]).unwrap();
        let bytes = TensorLayout::new(Dtype::Bytes, &[number % 300]).unwrap();
        let layout = FrameLayout::new(Kind::Tensors, number.into())
            .tensor(tensor)
            .tensor(bytes);
        let mut frame = producer.reserve(&layout, soon()).unwrap();
        frame.tensor_mut(0).unwrap().fill(1);
        frame.tensor_mut(1).unwrap().fill(number as u8);
        frame.set_json(format!("[{number}]").as_bytes()).unwrap();
        if number % 9 == 4 {
            continue; // given up: the reader passes over it
        }
        frame.commit().unwrap();
        let (ones, sum) = (number % 5 * 16, number % 300 * (number % 256));
        expected += &format!("{number} 1 {number:032x} 3:{ones} 11:{sum} [{number}]\n");
    }
    producer.handle().close();
    assert_eq!(reader.join().unwrap(), (expected, String::new()));
    std::fs::remove_file(program).unwrap();
}

#[test]
fn a_reader_in_c_refuses_another_epoch_and_learns_of_poison() {
    let program = compiled("endings");
    let path = RingPath::new();
    let producer = Producer::create(&path, &SPEC).unwrap();
    assert_eq!(end(start(&program, &path, 8)).1, "epoch is 7\n");
    let reader = start(&program, &path, 7);
    producer.handle().poison(Reason::Failed, "no memory");
    assert_eq!(end(reader).1, "poisoned, for reason is 4\n");
    std::fs::remove_file(program).unwrap();
}
