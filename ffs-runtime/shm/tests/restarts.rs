//! Both ends pause at random, are killed at random and started again, many times: each frame arrives once, whole and in
//! its place, and whoever survives ends with a clean verdict.
//!
//! `SHM_TEST_FRAMES=100000000 cargo test --release -p shm --test restarts` makes it a long one.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use peer::{RingPath, bytes};
use shm::{Consumer, Error, Handle, Producer, Reason, RingSpec};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn pause(&mut self) {
        match self.below(1 << 16) {
            0 => std::thread::sleep(Duration::from_micros(self.below(300))),
            1..=64 => std::thread::yield_now(),
            _ => {}
        }
    }
}

/// What a process works on: the ring, its epoch, the first frame that was not received yet, how many there are, and the
/// file in which the consumer notes what it has.
struct Work {
    ring: String,
    epoch: u64,
    first: u64,
    frames: u64,
    progress: String,
}

impl Work {
    fn start(&self, role: &str) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([role, "--exact", "--ignored", "--nocapture"]);
        command.env(
            "SHM_TEST_RESTART",
            format!(
                "{} {} {} {} {}",
                self.ring, self.epoch, self.first, self.frames, self.progress
            ),
        );
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// In the other process. `None` when someone runs the ignored tests by hand.
    fn given() -> Option<Self> {
        let given = std::env::var("SHM_TEST_RESTART").ok()?;
        let [ring, epoch, first, frames, progress] = given.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(Self {
            ring: ring.to_owned(),
            epoch: epoch.parse().ok()?,
            first: first.parse().ok()?,
            frames: frames.parse().ok()?,
            progress: progress.to_owned(),
        })
    }
}

/// Stands for the control socket: when it closes, the other end is gone.
fn watch(handle: Handle) {
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        handle.poison(Reason::PeerDied, "killed");
    });
}

fn is_clean(error: &Error) -> bool {
    matches!(
        error,
        Error::Closed { .. }
            | Error::Poisoned {
                poison: shm::Poison {
                    reason: Reason::PeerDied,
                    ..
                },
                ..
            }
    )
}

#[test]
fn no_frame_is_lost_or_torn_whoever_is_killed_and_started_again() {
    let frames = std::env::var("SHM_TEST_FRAMES").map_or(300_000, |frames| frames.parse().unwrap());
    let path = RingPath::new();
    let ring = path.as_ref().to_str().unwrap().to_owned();
    let progress = format!("{ring}.progress");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&progress)
        .unwrap();
    file.write_all_at(&0_u64.to_le_bytes(), 0).unwrap();
    let received = || {
        let mut number = [0; 8];
        file.read_exact_at(&mut number, 0).unwrap();
        u64::from_le_bytes(number)
    };
    let mut dice = Dice(std::process::id().into());
    let (mut epoch, mut kills) = (0, 0);
    while received() < frames {
        epoch += 1;
        let work = Work {
            ring: ring.clone(),
            epoch,
            first: received(),
            frames,
            progress: progress.clone(),
        };
        let mut ends = [work.start("producer"), work.start("consumer")];
        // The first time so soon that nobody can be done.
        let longest = if epoch == 1 { 1 } else { 2 * frames.isqrt() };
        let until = Instant::now() + Duration::from_millis(20 + dice.below(longest));
        while Instant::now() < until && received() < frames {
            std::thread::sleep(Duration::from_millis(1));
        }
        let [victim, survivor] = {
            let which = dice.below(2) as usize;
            let [one, two] = &mut ends;
            if which == 0 { [one, two] } else { [two, one] }
        };
        if received() < frames {
            victim.kill().unwrap();
            kills += 1;
        }
        victim.stdin.take(); // closed, as the survivor's is
        survivor.stdin.take();
        victim.wait().unwrap();
        assert!(
            survivor.wait().unwrap().success(),
            "the survivor of epoch {epoch} found something wrong"
        );
    }
    std::fs::remove_file(&progress).unwrap();
    assert_eq!(received(), frames);
    assert!(kills > 0, "nobody was killed");
    println!("{frames} frames, {epoch} epochs, {kills} kills");
}

#[test]
#[ignore = "the other process of the test above"]
fn producer() {
    let Some(work) = Work::given() else { return };
    let spec = RingSpec {
        slots: 8,
        slot_bytes: 4096,
        epoch: work.epoch,
    };
    let mut producer = Producer::create(&work.ring, &spec).unwrap();
    watch(producer.handle());
    let mut dice = Dice(work.epoch * 2 + 1);
    for number in work.first..work.frames {
        let sent = producer
            .reserve(&bytes(number.into(), number % 200), None)
            .and_then(|mut frame| {
                frame.tensor_mut(0).unwrap().fill(number as u8);
                frame.commit()
            });
        if let Err(error) = sent {
            assert!(is_clean(&error), "{error}");
            return;
        }
        dice.pause();
    }
    while producer.handle().check().is_ok() {
        std::thread::sleep(Duration::from_millis(1)); // what was sent is read first
    }
}

#[test]
#[ignore = "the other process of the test above"]
fn consumer() {
    let Some(work) = Work::given() else { return };
    let progress = File::options().write(true).open(&work.progress).unwrap();
    let until = Some(Instant::now() + Duration::from_secs(2));
    let mut consumer = match Consumer::open(&work.ring, work.epoch, until) {
        Ok(consumer) => consumer,
        Err(Error::TimedOut { .. }) => return, // its producer was killed before it had made the ring
        Err(error) => panic!("{error}"),
    };
    watch(consumer.handle());
    let mut dice = Dice(work.epoch * 2);
    for number in work.first..work.frames {
        let frame = match consumer.recv(None) {
            Ok(frame) => frame,
            Err(error) => return assert!(is_clean(&error), "{error}"),
        };
        assert_eq!(frame.request(), number.into());
        let tensor = frame.tensor(0).unwrap();
        assert_eq!(tensor.len() as u64, number % 200);
        assert!(
            tensor.iter().all(|byte| *byte == number as u8),
            "{frame:?} is torn"
        );
        progress.write_all_at(&(number + 1).to_le_bytes(), 0).unwrap();
        dice.pause();
    }
}
