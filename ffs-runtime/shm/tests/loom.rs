//! The ring under every interleaving, and every reordering that the memory model allows, of small stories.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p shm --test loom --release
//! ```
//! A lost wake-up shows as a deadlock, a slot that both ends have at once as a causality violation, a frame that is
//! lost or torn as a failed assertion. Stories with an open outcome collect their outcomes and say at the end that
//! loom has seen all of them: a model that explores nothing fails.
#![cfg(loom)]

use loom::thread;
use shm::{Consumer, Dtype, Error, Frame, FrameLayout, FrameMut, Kind, Producer, Reason, TensorLayout};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Explores `story` and gives the outcomes that were seen.
///
/// Complete but for this: no execution is tried that takes the CPU away from a thread more often than thrice. Bugs of
/// two threads need one or two (M. Musuvathi, S. Qadeer: Iterative context bounding, PLDI 2007).
fn outcomes<T: Ord + Send + 'static>(story: impl Fn() -> T + Send + Sync + 'static) -> BTreeSet<T> {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let all = seen.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(move || {
        let outcome = story();
        seen.lock().expect("no story panics in here").insert(outcome);
    });
    std::mem::take(&mut *all.lock().expect("no story panics in here"))
}

fn ring(slots: u32) -> (Producer, Consumer) {
    shm::modelled(slots, 4096).expect("a ring of this size")
}

fn reserve(producer: &mut Producer, value: u8) -> Result<FrameMut, Error> {
    let byte = TensorLayout::new(Dtype::Uint8, &[1]).expect("one byte");
    let layout = FrameLayout::new(Kind::Tensors, value.into()).tensor(byte);
    let mut frame = producer.reserve(&layout, None)?;
    frame.tensor_mut(0).expect("it has one")[0] = value;
    Ok(frame)
}

fn send(producer: &mut Producer, value: u8) -> Result<(), Error> {
    reserve(producer, value)?.commit()
}

fn value(frame: &Frame) -> u8 {
    let value = frame.tensor(0).expect("it has one")[0];
    assert_eq!(frame.request(), value.into(), "header and tensor belong together");
    value
}

#[test]
fn frames_pass_through_a_single_slot_and_no_wake_up_is_lost() {
    outcomes(|| {
        let (mut producer, mut consumer) = ring(1);
        let sender = thread::spawn(move || {
            for number in 1..=3 {
                send(&mut producer, number).expect("the reader lives");
            }
            producer
        });
        for number in 1..=3 {
            assert_eq!(value(&consumer.recv(None).expect("the writer lives")), number);
        }
        sender.join().expect("the writer does not panic");
    });
}

#[test]
fn a_reader_that_looks_once_sees_a_whole_frame_or_none() {
    let seen = outcomes(|| {
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || {
            send(&mut producer, 1).expect("the reader lives");
            send(&mut producer, 2).expect("the reader lives");
            producer
        });
        let mut values = Vec::new();
        for _ in 0..2 {
            values.extend(
                consumer
                    .try_recv()
                    .expect("nothing is wrong")
                    .map(|frame| value(&frame)),
            );
        }
        sender.join().expect("the writer does not panic");
        values
    });
    assert_eq!(seen, [vec![], vec![1], vec![1, 2]].into());
}

#[test]
fn a_closed_ring_gives_up_its_last_frame_first() {
    outcomes(|| {
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || send(&mut producer, 1).expect("the reader lives"));
        assert_eq!(
            value(&consumer.recv(None).expect("it was sent before the close")),
            1
        );
        assert!(matches!(consumer.recv(None), Err(Error::Closed { .. })));
        sender.join().expect("the writer does not panic");
    });
}

#[test]
fn a_frame_is_sent_before_the_close_or_its_sender_is_told() {
    let seen = outcomes(|| {
        let (mut producer, mut consumer) = ring(2);
        let closer = producer.handle();
        let closer = thread::spawn(move || closer.close());
        let sender = thread::spawn(move || {
            let sent = send(&mut producer, 1).is_ok();
            (sent, producer)
        });
        let received = consumer.recv(None).map(|frame| value(&frame)).is_ok();
        let (sent, _producer) = sender.join().expect("the writer does not panic");
        assert_eq!(sent, received);
        closer.join().expect("the closer does not panic");
        sent
    });
    assert_eq!(seen, [false, true].into());
}

#[test]
fn poison_wakes_a_reader() {
    let seen = outcomes(|| {
        let (mut producer, mut consumer) = ring(2);
        let poisoner = thread::spawn(move || {
            send(&mut producer, 1).expect("the reader lives");
            producer.handle().poison(Reason::Failed, "no");
            producer
        });
        let frames = std::iter::from_fn(|| match consumer.recv(None) {
            Ok(frame) => Some(value(&frame)),
            Err(Error::Poisoned { poison, .. }) => {
                assert_eq!((poison.reason, poison.text.as_str()), (Reason::Failed, "no"));
                None
            }
            Err(error) => panic!("{error}"),
        });
        let frames = frames.count();
        poisoner.join().expect("the poisoner does not panic");
        frames
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn two_that_poison_at_once_leave_one_whole_note() {
    let seen = outcomes(|| {
        let (producer, mut consumer) = ring(1);
        let (one, two) = (producer.handle(), producer.handle());
        let one = thread::spawn(move || one.poison(Reason::PeerDied, "ab"));
        let two = thread::spawn(move || two.poison(Reason::Stopped, "cd"));
        let Err(Error::Poisoned { poison, .. }) = consumer.recv(None) else {
            panic!("it is poisoned")
        };
        one.join().expect("no panic");
        two.join().expect("no panic");
        (poison.reason as u32, poison.text)
    });
    let notes = [
        (Reason::PeerDied as u32, "ab".to_owned()),
        (Reason::Stopped as u32, "cd".to_owned()),
    ];
    assert_eq!(seen, notes.into());
}

#[test]
fn poison_wakes_a_writer_that_waits_for_room() {
    outcomes(|| {
        let (mut producer, consumer) = ring(1);
        send(&mut producer, 1).expect("there is room for one");
        let poisoner = thread::spawn(move || {
            consumer.handle().poison(Reason::PeerDied, "");
            consumer
        });
        assert!(matches!(reserve(&mut producer, 2), Err(Error::Poisoned { .. })));
        poisoner.join().expect("the poisoner does not panic");
    });
}

#[test]
fn the_death_of_the_reader_wakes_a_writer_that_waits_for_room() {
    outcomes(|| {
        let (mut producer, consumer) = ring(1);
        send(&mut producer, 1).expect("there is room for one");
        let closer = thread::spawn(move || drop(consumer));
        assert!(matches!(reserve(&mut producer, 2), Err(Error::Closed { .. })));
        closer.join().expect("the closer does not panic");
    });
}

#[test]
fn frames_released_by_two_threads_make_room_for_a_writer_that_waits() {
    outcomes(|| {
        let (mut producer, mut consumer) = ring(2);
        send(&mut producer, 1).expect("room for one");
        send(&mut producer, 2).expect("room for two");
        let first = consumer.recv(None).expect("it was sent");
        let second = consumer.recv(None).expect("it was sent");
        let one = thread::spawn(move || assert_eq!(value(&first), 1));
        let two = thread::spawn(move || assert_eq!(value(&second), 2));
        send(&mut producer, 3).expect("the reader lives");
        assert_eq!(value(&consumer.recv(None).expect("it was sent")), 3);
        one.join().expect("no panic");
        two.join().expect("no panic");
    });
}

#[test]
fn frames_committed_by_two_threads_arrive_in_the_order_of_their_reservation() {
    outcomes(|| {
        let (mut producer, mut consumer) = ring(3);
        let first = reserve(&mut producer, 1).expect("room for one");
        let given_up = reserve(&mut producer, 9).expect("room for two");
        let second = reserve(&mut producer, 2).expect("room for three");
        let one = thread::spawn(move || {
            first.commit().expect("the reader lives");
            drop(given_up);
        });
        let two = thread::spawn(move || second.commit().expect("the reader lives"));
        for number in [1, 2] {
            assert_eq!(value(&consumer.recv(None).expect("the writer lives")), number);
        }
        one.join().expect("no panic");
        two.join().expect("no panic");
    });
}
