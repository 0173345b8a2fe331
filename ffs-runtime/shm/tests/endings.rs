//! How rings come and go: names, epochs, poison and close from other threads, sleeping without cost.
#![cfg(not(loom))]

mod peer;

use peer::{RingPath, at_once, bytes, ring, ring_at, send, soon};
use shm::{Consumer, Error, Producer, Reason, RingSpec, Side, Spin};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::thread;
use std::time::{Duration, Instant};

const SPEC: RingSpec = RingSpec {
    slots: 2,
    slot_bytes: 4096,
    epoch: 1,
};

/// Where in the file the consumer says that it sleeps.
const FRAMES: u64 = 256;
/// Where in the file the producer says so.
const ROOM: u64 = 384;

/// Runs `wait` on a thread of its own until it sleeps, ends the ring, and gives what `wait` returned.
fn woken_by<T: Send>(
    path: &RingPath,
    bell: u64,
    end: impl FnOnce(),
    wait: impl FnOnce() -> Result<T, Error> + Send,
) -> Error {
    let file = std::fs::File::open(path).expect("the ring has its name");
    thread::scope(|scope| {
        let waiter = scope.spawn(wait);
        let mut word = [0; 4];
        while word != [1, 0, 0, 0] && !waiter.is_finished() {
            thread::yield_now();
            file.read_exact_at(&mut word, bell)
                .expect("the file has a header");
        }
        end();
        let result = waiter.join().expect("the waiter does not panic");
        result.err().expect("there was nothing to receive and no room")
    })
}

#[test]
fn poison_wakes_a_waiting_consumer_with_its_reason_whichever_end_it_comes_from() {
    for from_producer in [true, false] {
        let path = RingPath::new();
        let (producer, mut consumer) = ring_at(&path, 1, 4096);
        let handle = if from_producer {
            producer.handle()
        } else {
            consumer.handle()
        };
        let poison = || handle.poison(Reason::PeerDied, "lane s1l0 on MIG-1 is gone");
        let error = woken_by(&path, FRAMES, poison, || consumer.recv(None));
        let name = handle.name();
        let expected =
            format!("ring {name} is poisoned: the lane at the other end died: lane s1l0 on MIG-1 is gone");
        assert_eq!(error.to_string(), expected);
        assert_eq!(
            producer.handle().check().expect_err("poisoned").to_string(),
            expected
        );
    }
}

#[test]
fn poison_wakes_a_producer_that_waits_for_room() {
    for from_producer in [true, false] {
        let path = RingPath::new();
        let (mut producer, consumer) = ring_at(&path, 1, 4096);
        send(&mut producer, 1, "fills the ring");
        let handle = if from_producer {
            producer.handle()
        } else {
            consumer.handle()
        };
        let poison = || handle.poison(Reason::Stopped, "");
        let error = woken_by(&path, ROOM, poison, || producer.reserve(&bytes(2, 1), None));
        assert!(matches!(&error, Error::Poisoned { poison, .. } if poison.reason == Reason::Stopped));
    }
}

#[test]
fn close_wakes_a_consumer_that_waits_for_a_frame() {
    let path = RingPath::new();
    let (producer, mut consumer) = ring_at(&path, 1, 4096);
    let error = woken_by(
        &path,
        FRAMES,
        || producer.handle().close(),
        || consumer.recv(None),
    );
    assert!(
        matches!(
            error,
            Error::Closed {
                by: Side::Producer,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_thread_can_close_the_end_in_which_another_waits() {
    let path = RingPath::new();
    let (_producer, mut consumer) = ring_at(&path, 1, 4096);
    let handle = consumer.handle();
    let error = woken_by(&path, FRAMES, || handle.close(), || consumer.recv(None));
    assert!(
        matches!(
            error,
            Error::Closed {
                by: Side::Consumer,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn close_wakes_a_producer_that_waits_for_room() {
    let path = RingPath::new();
    let (mut producer, consumer) = ring_at(&path, 1, 4096);
    send(&mut producer, 1, "fills the ring");
    let error = woken_by(
        &path,
        ROOM,
        || drop(consumer),
        || producer.reserve(&bytes(2, 1), None),
    );
    assert!(
        matches!(
            error,
            Error::Closed {
                by: Side::Consumer,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_first_note_stays_and_a_long_one_is_cut_between_characters() {
    let (producer, mut consumer) = ring(1, 4096);
    producer.handle().poison(Reason::Failed, &"ä".repeat(121));
    consumer.handle().poison(Reason::Stopped, "too late");
    producer.handle().poison(Reason::Stopped, "too late");
    let Err(Error::Poisoned { poison, .. }) = Consumer::recv(&mut consumer, None) else {
        panic!()
    };
    assert_eq!(poison.reason, Reason::Stopped, "each end keeps its own verdict");
    let Err(Error::Poisoned { poison, .. }) = producer.handle().check() else {
        panic!()
    };
    assert_eq!(poison.reason, Reason::Failed);

    let (producer, mut consumer) = ring(1, 4096);
    producer.handle().poison(Reason::Failed, &"ä".repeat(121));
    let Err(Error::Poisoned { poison, .. }) = consumer.recv(None) else {
        panic!()
    };
    assert_eq!((poison.reason, poison.text), (Reason::Failed, "ä".repeat(120)));
}

#[test]
fn poison_comes_before_frames_that_were_not_received_and_leaves_those_in_hand_alone() {
    let (mut producer, mut consumer) = ring(2, 4096);
    send(&mut producer, 1, "in hand");
    send(&mut producer, 2, "never seen");
    let frame = consumer.recv(soon()).unwrap();
    producer.handle().poison(Reason::Failed, "");
    assert!(matches!(consumer.recv(soon()), Err(Error::Poisoned { .. })));
    assert_eq!(frame.tensor(0).unwrap(), b"in hand");
}

#[test]
fn a_deadline_ends_every_wait() {
    let (mut producer, mut consumer) = ring(1, 4096);
    let error = consumer.recv(at_once()).unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { what: "a frame", .. }),
        "{error}"
    );
    let before = Instant::now();
    let until = before + Duration::from_millis(30);
    assert!(matches!(consumer.recv(Some(until)), Err(Error::TimedOut { .. })));
    assert!(Instant::now() >= until, "not before its time");
    send(&mut producer, 1, "still works");
    assert_eq!(consumer.recv(soon()).unwrap().tensor(0).unwrap(), b"still works");
}

#[test]
fn the_ring_has_its_name_only_while_its_producer_lives_and_is_for_one_user_alone() {
    let path = RingPath::new();
    assert!(Consumer::try_open(&path, 1).unwrap().is_none());
    let error = Consumer::open(&path, 1, at_once()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");

    let producer = Producer::create(&path, &SPEC).unwrap();
    let file = std::fs::metadata(&path).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(file.len(), 4096 + 2 * 4096);
    assert!(file.blocks() * 512 >= file.len(), "the memory is taken at once");
    let consumer = Consumer::try_open(&path, 1).unwrap().unwrap();
    assert_eq!((consumer.slots(), consumer.slot_bytes()), (2, 4096));
    drop(producer);
    assert!(!path.as_ref().exists());
    drop(consumer);
}

#[test]
fn every_page_of_a_ring_is_mapped_at_both_ends_before_its_first_frame() {
    let path = RingPath::new();
    let (producer, consumer) = ring_at(&path, 4, 1 << 20);
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("it is ours");
    let name = producer.handle().name().to_owned();
    let size = (4096 + (4 << 20)) / 1024;
    // A mapping's first line names its file; those after it have its sizes. The producer's file was renamed since.
    let mut of_ring = false;
    let resident: Vec<u64> = maps
        .lines()
        .filter_map(|line| {
            if line.contains('-') && line.split(' ').next().is_some_and(|range| range.contains('-')) {
                of_ring = line.contains(&name);
            }
            let kib = line.strip_prefix("Rss:").filter(|_| of_ring)?;
            kib.trim().strip_suffix(" kB")?.parse().ok()
        })
        .collect();
    assert_eq!(resident, [size, size]);
    drop((producer, consumer));
}

#[test]
fn a_consumer_that_comes_first_waits_for_its_producer() {
    let path = RingPath::new();
    thread::scope(|scope| {
        let consumer = scope.spawn(|| Consumer::open(&path, 1, soon())?.recv(soon()));
        let mut producer = Producer::create(&path, &SPEC).unwrap();
        send(&mut producer, 5, "hello");
        assert_eq!(consumer.join().unwrap().unwrap().request(), 5);
    });
}

#[test]
fn a_ring_has_one_consumer_in_its_life() {
    let path = RingPath::new();
    let _producer = Producer::create(&path, &SPEC).unwrap();
    drop(Consumer::open(&path, 1, soon()).unwrap());
    assert!(matches!(
        Consumer::open(&path, 1, soon()),
        Err(Error::Taken { .. })
    ));
}

#[test]
fn a_ring_of_an_earlier_epoch_is_passed_over_and_replaced_and_one_of_a_later_refused() {
    let path = RingPath::new();
    let old = Producer::create(&path, &SPEC).unwrap();
    assert!(Consumer::try_open(&path, 2).unwrap().is_none());
    let new = Producer::create(&path, &RingSpec { epoch: 2, ..SPEC }).unwrap();
    drop(old);
    assert!(
        path.as_ref().exists(),
        "the old producer leaves the new ring alone"
    );
    let error = Consumer::try_open(&path, 1).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Epoch {
                found: 2,
                expected: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(Consumer::try_open(&path, 2).unwrap().is_some());
    drop(new);
}

#[test]
fn what_a_producer_killed_in_the_middle_left_behind_is_no_obstacle() {
    let path = RingPath::new();
    let unfinished = format!("{}.e1.new", path.as_ref().display());
    std::fs::write(&unfinished, "half a ring").unwrap();
    let _producer = Producer::create(&path, &SPEC).unwrap();
    assert!(!std::path::Path::new(&unfinished).exists());
    assert!(Consumer::try_open(&path, 1).unwrap().is_some());
}

#[test]
fn a_ring_that_cannot_be_is_refused_with_the_number_that_is_wrong() {
    let path = RingPath::new();
    let refused = |spec| {
        let error = Producer::create(&path, &spec).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(!path.as_ref().exists());
        format!("{error}: {source}")
            .split_once(": ")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(
        refused(RingSpec { slots: 0, ..SPEC }),
        "slots is 0, expected 1 to 65536"
    );
    let small = refused(RingSpec {
        slot_bytes: 100,
        ..SPEC
    });
    assert_eq!(
        small,
        "slot_bytes is 128, expected a multiple of 64, at least 2496"
    );
    let large = refused(RingSpec {
        slot_bytes: u64::MAX,
        ..SPEC
    });
    assert!(large.contains("expected a size that fits into memory"), "{large}");
    let error = Producer::create(
        &path,
        &RingSpec {
            slots: 4,
            slot_bytes: 1 << 50,
            epoch: 1,
        },
    )
    .unwrap_err();
    assert!(matches!(error, Error::Os { .. }), "{error}");
}

#[test]
fn whoever_waits_uses_no_cpu() {
    let (producer, mut consumer) = ring(1, 4096);
    consumer.set_spin(Spin::Adaptive);
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let before = cpu_time();
            assert!(matches!(consumer.recv(None), Err(Error::Closed { .. })));
            cpu_time() - before
        });
        thread::sleep(Duration::from_millis(500)); // the time over which idleness is measured
        drop(producer);
        let used = waiter.join().unwrap();
        assert!(
            used < Duration::from_millis(50),
            "{used:?} of CPU time in 500 ms of waiting"
        );
    });
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let usage =
        nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD).expect("it is ours");
    let sum = usage.user_time() + usage.system_time();
    Duration::from_micros(sum.num_microseconds())
}

trait Microseconds {
    fn num_microseconds(&self) -> u64;
}

impl Microseconds for nix::sys::time::TimeVal {
    fn num_microseconds(&self) -> u64 {
        self.tv_sec() as u64 * 1_000_000 + self.tv_usec() as u64
    }
}
