//! `kill -9` of either end at any moment: the survivor, told by its handle, has its verdict at once; what it holds is
//! whole; and a ring of the next epoch takes over.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use peer::{Peer, RingPath, bytes, soon, started_for};
use shm::{Consumer, Error, Frame, Producer, Reason, RingSpec};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

const SPEC: RingSpec = RingSpec {
    slots: 4,
    slot_bytes: 4096,
    epoch: 1,
};

/// What a lane does when the control socket says that the lane at the other end is gone.
fn told(handle: &shm::Handle) {
    handle.poison(Reason::PeerDied, "killed");
}

fn assert_told(error: &Error) {
    assert!(
        matches!(error, Error::Poisoned { poison, .. } if poison.reason == Reason::PeerDied),
        "{error}"
    );
}

/// Every byte of a frame is its number: a torn frame shows.
fn assert_whole(frame: &Frame, number: u128) {
    assert_eq!(frame.request(), number);
    assert!(frame.tensor(0).unwrap().iter().all(|byte| *byte == number as u8));
}

fn send_forever(mut producer: Producer) -> Error {
    for number in 0.. {
        let mut frame = match producer.reserve(&bytes(number, 1 + number as u64 % 1500), None) {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        frame.tensor_mut(0).unwrap().fill(number as u8);
        if let Err(error) = frame.commit() {
            return error;
        }
    }
    unreachable!("the ring ends before the numbers do")
}

fn receive_forever(mut consumer: Consumer) -> (u128, Error) {
    for number in 0.. {
        match consumer.recv(None) {
            Ok(frame) => assert_whole(&frame, number),
            Err(error) => return (number, error),
        }
    }
    unreachable!("the ring ends before the numbers do")
}

#[test]
fn a_consumer_whose_producer_is_killed_while_it_writes_is_told_and_saw_only_whole_frames() {
    let path = RingPath::new();
    let mut most = 0;
    for epoch in 1..=20 {
        let mut peer = Peer::start("producer", &[&path], epoch);
        let mut consumer = Consumer::open(&path, epoch, soon()).unwrap();
        assert_whole(&consumer.recv(soon()).unwrap(), 0);
        let handle = consumer.handle();
        let reader = thread::spawn(move || {
            for number in 1.. {
                match consumer.recv(None) {
                    Ok(frame) => assert_whole(&frame, number),
                    Err(error) => return (number, error),
                }
            }
            unreachable!("the ring ends before the numbers do")
        });
        // Somewhere in the middle of a frame, at another place each time.
        thread::sleep(Duration::from_micros(epoch * 177));
        peer.kill();
        told(&handle);
        let (received, error) = reader.join().unwrap();
        assert_told(&error);
        most = most.max(received);
        // The next epoch's producer finds the name taken by the dead one, and replaces it.
        assert!(path.as_ref().exists());
    }
    assert!(most > 1, "no producer lived long enough to send anything");
}

#[test]
fn a_producer_whose_consumer_is_killed_while_it_reads_or_sleeps_is_told() {
    let path = RingPath::new();
    for epoch in 1..=20 {
        let producer = Producer::create(&path, &RingSpec { epoch, ..SPEC }).unwrap();
        let mut peer = Peer::start("consumer", &[&path], epoch);
        let handle = producer.handle();
        let writer = thread::spawn(move || send_forever(producer));
        thread::sleep(Duration::from_micros(epoch * 331)); // before it has opened the ring, or amid its frames
        peer.kill();
        told(&handle);
        assert_told(&writer.join().unwrap());
        assert!(!path.as_ref().exists(), "the survivor took the name away");
    }
}

#[test]
fn a_new_epoch_carries_on_after_either_end_was_killed() {
    let path = RingPath::new();
    let mut peer = Peer::start("producer", &[&path], 1);
    let mut first = Consumer::open(&path, 1, soon()).unwrap();
    let kept = first.recv(soon()).unwrap();
    peer.kill();
    told(&first.handle());
    assert_told(&first.recv(None).unwrap_err());

    let peer = Peer::start("producer", &[&path], 2);
    let second = Consumer::open(&path, 2, soon()).unwrap();
    let handle = second.handle();
    let reader = thread::spawn(move || receive_forever(second));
    assert_whole(&kept, 0); // a frame outlives its ring
    drop(kept);
    handle.close();
    let (_, error) = reader.join().unwrap();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    peer.join(); // the producer is told that nobody reads, and ends well
}

#[test]
fn poison_from_the_other_process_wakes_a_sleeper() {
    let path = RingPath::new();
    let peer = Peer::start("poisoner", &[&path], 1);
    let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
    let Err(Error::Poisoned { poison, .. }) = consumer.recv(None) else {
        panic!("it was poisoned")
    };
    assert_eq!(
        (poison.reason, poison.text.as_str()),
        (Reason::Failed, "out of memory in component m3")
    );
    peer.join();
}

#[test]
#[ignore = "the other process of the tests above"]
fn producer() {
    let Some((rings, epoch)) = started_for() else {
        return;
    };
    let error = send_forever(Producer::create(&rings[0], &RingSpec { epoch, ..SPEC }).unwrap());
    assert!(
        matches!(error, Error::Closed { .. } | Error::Poisoned { .. }),
        "{error}"
    );
}

#[test]
#[ignore = "the other process of the tests above"]
fn consumer() {
    let Some((rings, epoch)) = started_for() else {
        return;
    };
    receive_forever(Consumer::open(&rings[0], epoch, soon()).unwrap());
}

#[test]
#[ignore = "the other process of the tests above"]
fn poisoner() {
    let Some((rings, epoch)) = started_for() else {
        return;
    };
    let producer = Producer::create(&rings[0], &RingSpec { epoch, ..SPEC }).unwrap();
    let ring = std::fs::File::open(&rings[0]).unwrap();
    let mut asleep = [0; 4];
    while asleep != [1, 0, 0, 0] {
        thread::yield_now();
        ring.read_exact_at(&mut asleep, 256).unwrap(); // the word `frames` of the control block
    }
    producer
        .handle()
        .poison(Reason::Failed, "out of memory in component m3");
}
