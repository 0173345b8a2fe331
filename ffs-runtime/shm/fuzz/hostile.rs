//! A peer that writes what the fuzzer says, between steps of an honest end. `tests/fuzz_seeds.rs` runs the same with the
//! seeds, with any bytes, and with every byte changed.
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir ffs-runtime/shm/fuzz header CORPUS ffs-runtime/shm/fuzz/seeds/header
//! ```
//! An input is steps of one byte each: below 128 a write, whose place in the file (two bytes, little-endian), length
//! modulo 16 (one byte) and bytes follow; else one of the honest steps.

use shm::{Consumer, Dtype, Error, Frame, FrameLayout, Kind, Producer, RingSpec, TensorLayout};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};

const SPEC: RingSpec = RingSpec {
    slots: 3,
    slot_bytes: 4096,
    epoch: 1,
};
/// Size of the ring's file.
pub(crate) const BYTES: u64 = 4096 + 3 * 4096;

/// What is written before a consumer opens the ring.
#[allow(dead_code, reason = "each target uses its own")]
pub(crate) fn header(input: &[u8]) {
    let mut ring = Ring::new();
    ring.send();
    ring.send();
    ring.run(input);
    ring.open();
    ring.receive();
    ring.receive();
}

/// What is written while both ends are at work.
#[allow(dead_code, reason = "each target uses its own")]
pub(crate) fn frames(input: &[u8]) {
    let mut ring = Ring::new();
    ring.open();
    ring.send();
    ring.run(input);
    ring.receive();
    ring.send();
}

/// A ring, both its ends, and the file by which its bytes are changed.
pub(crate) struct Ring {
    path: String,
    producer: Producer,
    consumer: Option<Consumer>,
    held: Vec<Frame>,
    pub(crate) file: File,
}

impl Ring {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/dev/shm/ffs-fuzz-{}-{count}", std::process::id());
        let producer = Producer::create(&path, &SPEC).expect("there is room for a small ring");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("it was just made");
        Self {
            path,
            producer,
            consumer: None,
            held: Vec::new(),
            file,
        }
    }

    fn run(&mut self, mut input: &[u8]) {
        while let Some((step, rest)) = input.split_first() {
            input = rest;
            match step {
                0..128 => {
                    let Some((place, rest)) = input.split_first_chunk::<3>() else {
                        return;
                    };
                    let at = u64::from(u16::from_le_bytes([place[0], place[1]])) % BYTES;
                    let bytes = usize::from(place[2] % 16)
                        .min(rest.len())
                        .min((BYTES - at) as usize);
                    self.file
                        .write_all_at(&rest[..bytes], at)
                        .expect("inside the file");
                    input = &rest[bytes..];
                }
                128..160 => self.send(),
                160..192 => self.receive(),
                192..224 => self.held.clear(),
                _ => drop(self.held.pop()),
            }
        }
    }

    pub(crate) fn open(&mut self) {
        match Consumer::try_open(&self.path, SPEC.epoch) {
            Ok(consumer) => self.consumer = consumer,
            Err(Error::Corrupt { .. } | Error::Epoch { .. } | Error::Taken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn send(&mut self) {
        let layout = FrameLayout::new(Kind::Tensors, 7)
            .tensor(TensorLayout::new(Dtype::Float32, &[2, 3]).expect("a plain shape"))
            .tensor(TensorLayout::strided(Dtype::Int8, &[2, 4], &[9, 1]).expect("strides"));
        let sent = self.producer.try_reserve(&layout).and_then(|frame| {
            let Some(mut frame) = frame else { return Ok(()) };
            frame.tensor_mut(0).expect("it has one").fill(1);
            frame.set_json(b"{}")?;
            frame.commit()
        });
        match sent {
            Ok(()) | Err(Error::Corrupt { .. } | Error::Poisoned { .. } | Error::Closed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Receives, and touches every byte that the frame says is its own.
    pub(crate) fn receive(&mut self) {
        let Some(consumer) = &mut self.consumer else {
            return;
        };
        match consumer.try_recv() {
            Ok(None) => {}
            Ok(Some(mut frame)) => {
                for index in 0..frame.tensor_count() {
                    let tensor = frame.tensor_mut(index).expect("it has as many");
                    tensor.iter_mut().for_each(|byte| *byte ^= 1);
                }
                assert!(frame.json().len() as u64 <= SPEC.slot_bytes);
                self.held.push(frame);
            }
            Err(Error::Corrupt { .. }) => {
                let again = consumer.try_recv().expect_err("a corrupt ring is given up");
                assert!(matches!(again, Error::Poisoned { .. }), "{again}");
            }
            Err(Error::Poisoned { .. } | Error::Closed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
