//! What the tests share: rings with names of their own, a generous deadline, and this binary as the other process.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use shm::{Consumer, Dtype, FrameLayout, Kind, Producer, RingSpec, TensorLayout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A ring's path that no other test has; gone when dropped, whatever became of the ring.
pub(crate) struct RingPath(PathBuf);

impl RingPath {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/dev/shm/ffs-test-{}-{count}", std::process::id()).into())
    }
}

impl Drop for RingPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl AsRef<Path> for RingPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// Both ends of a new ring in this process; its name is gone.
pub(crate) fn ring(slots: u32, slot_bytes: u64) -> (Producer, Consumer) {
    ring_at(&RingPath::new(), slots, slot_bytes)
}

/// Both ends of a new ring of epoch 1 in this process.
pub(crate) fn ring_at(path: &RingPath, slots: u32, slot_bytes: u64) -> (Producer, Consumer) {
    let spec = RingSpec {
        slots,
        slot_bytes,
        epoch: 1,
    };
    (
        Producer::create(path, &spec).unwrap(),
        Consumer::open(path, 1, soon()).unwrap(),
    )
}

/// Long enough for any machine; only a test that fails waits for it.
pub(crate) fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

/// A deadline that has passed.
pub(crate) fn at_once() -> Option<Instant> {
    Some(Instant::now())
}

/// A frame with one tensor of so many bytes.
pub(crate) fn bytes(request: u128, bytes: u64) -> FrameLayout {
    FrameLayout::new(Kind::Tensors, request).tensor(TensorLayout::new(Dtype::Uint8, &[bytes]).unwrap())
}

/// Sends one small frame whose tensor is `text`.
pub(crate) fn send(producer: &mut Producer, request: u128, text: &str) {
    let mut frame = producer
        .reserve(&bytes(request, text.len() as u64), soon())
        .unwrap();
    frame.tensor_mut(0).unwrap().copy_from_slice(text.as_bytes());
    frame.commit().unwrap();
}

/// Another process that runs the ignored test `role` of this binary with the arguments in its environment.
pub(crate) struct Peer(Child);

impl Peer {
    pub(crate) fn start(role: &str, rings: &[&RingPath], epoch: u64) -> Self {
        let rings: Vec<_> = rings.iter().map(|ring| ring.0.to_str().unwrap()).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args([role, "--exact", "--ignored", "--nocapture"])
            .env("SHM_TEST_RINGS", rings.join(":"))
            .env("SHM_TEST_EPOCH", epoch.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Ends it as the kernel would: no destructor runs.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Panics if the other process found something wrong.
    pub(crate) fn join(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the other process ended with {status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the other process: the rings and the epoch it was started for. `None` when someone runs the ignored tests by hand.
pub(crate) fn started_for() -> Option<(Vec<PathBuf>, u64)> {
    let rings = std::env::var("SHM_TEST_RINGS").ok()?;
    let epoch = std::env::var("SHM_TEST_EPOCH").ok()?.parse().ok()?;
    Some((rings.split(':').map(PathBuf::from).collect(), epoch))
}
