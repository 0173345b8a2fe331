//! Two processes, a million small frames of changing shape, pauses at random: nothing lost, torn or out of order.
//!
//! `SHM_TEST_FRAMES=100000000` makes it a long one.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use peer::{Peer, RingPath, soon, started_for};
use shm::{
    Consumer, Dtype, Error, Frame, FrameLayout, FrameMut, Kind, Producer, RingSpec, Spin, TensorLayout,
};
use std::time::Duration;

const SLOT_BYTES: u64 = 4096;

fn frames() -> u64 {
    std::env::var("SHM_TEST_FRAMES").map_or(1_000_000, |frames| frames.parse().unwrap())
}

/// Numbers that both processes can make: frame `n` looks the same to the one that writes and the one that checks.
struct Dice(u64);

impl Dice {
    fn for_frame(number: u64) -> Self {
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13; // xorshift64
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Rarely and for a short while; sometimes long enough that the other end falls asleep.
    fn pause(&mut self) {
        match self.below(4096) {
            0 => std::thread::sleep(Duration::from_micros(self.below(200))),
            1..=8 => std::thread::yield_now(),
            _ => {}
        }
    }
}

fn layout(number: u64) -> FrameLayout {
    let mut dice = Dice::for_frame(number);
    let tensors = dice.below(3);
    let layout = FrameLayout::new(Kind::Tensors, number.into())
        .deadline_ms(number + 1)
        .flags(number as u32);
    (0..tensors).fold(layout, |layout, _| {
        let dtype = Dtype::ALL[dice.below(11) as usize];
        let shape = [(); 3].map(|()| dice.below(5));
        layout.tensor(TensorLayout::new(dtype, &shape[dice.below(4) as usize..]).unwrap())
    })
}

/// First byte of tensor `index` of frame `number`; the others count up from it.
fn seed(number: u64, index: usize) -> u8 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ index as u8
}

fn fill(frame: &mut FrameMut, number: u64) {
    for index in 0..frame.tensor_count() {
        let mut value = seed(number, index);
        for byte in frame.tensor_mut(index).unwrap() {
            *byte = value;
            value = value.wrapping_add(1);
        }
    }
    if number.is_multiple_of(5) {
        frame.set_json(&number.to_be_bytes()).unwrap();
    }
}

fn check(frame: &Frame, number: u64) {
    assert_eq!(frame.request(), number.into());
    let layout = layout(number);
    let found = (0..frame.tensor_count()).map(|index| *frame.layout(index).unwrap());
    assert!(
        found.eq(layout.tensors().iter().copied()),
        "{frame:?} is not {layout:?}"
    );
    for index in 0..frame.tensor_count() {
        let mut value = seed(number, index);
        for byte in frame.tensor(index).unwrap() {
            assert_eq!(*byte, value, "tensor {index} of {frame:?}");
            value = value.wrapping_add(1);
        }
    }
}

fn produce(mut producer: Producer) {
    let mut dice = Dice(7);
    let mut held = None;
    for number in 0..frames() {
        let mut frame = producer.reserve(&layout(number), soon()).unwrap();
        fill(&mut frame, number);
        // Now and then two frames are under way, and the later one is committed first.
        match (held.take(), dice.below(16)) {
            (None, 0) => held = Some(frame),
            (before, _) => {
                frame.commit().unwrap();
                before.map(FrameMut::commit).transpose().unwrap();
            }
        }
        if dice.below(64) == 0 {
            drop(producer.reserve(&layout(number), soon()).unwrap());
        }
        dice.pause();
    }
    held.map(FrameMut::commit).transpose().unwrap();
}

fn consume(mut consumer: Consumer) {
    let mut dice = Dice(9);
    let mut held = Vec::new();
    for number in 0..frames() {
        let frame = consumer.recv(soon()).unwrap();
        check(&frame, number);
        assert_eq!(
            (frame.deadline_ms(), frame.flags()),
            (Some(number + 1), number as u32)
        );
        let json: &[u8] = if number.is_multiple_of(5) {
            &number.to_be_bytes()
        } else {
            &[]
        };
        assert_eq!(frame.json(), json);
        // A few frames stay in hand and are released in whatever order comes, none so late that the ring runs dry.
        held.push(frame);
        if held.len() > 3 {
            held.remove(0).release();
        } else if dice.below(2) == 0 {
            held.remove(dice.below(held.len() as u64) as usize).release();
        }
        dice.pause();
    }
    held.clear();
    assert!(matches!(consumer.recv(soon()), Err(Error::Closed { .. })));
}

#[test]
fn a_million_frames_arrive_whole_and_in_order() {
    let path = RingPath::new();
    let producer = Producer::create(
        &path,
        &RingSpec {
            slots: 61,
            slot_bytes: SLOT_BYTES,
            epoch: 3,
        },
    )
    .unwrap();
    let peer = Peer::start("consumer", &[&path], 3);
    produce(producer);
    peer.join();
}

#[test]
#[ignore = "the other process of the test above"]
fn consumer() {
    let Some((rings, epoch)) = started_for() else {
        return;
    };
    consume(Consumer::open(&rings[0], epoch, soon()).unwrap());
}

#[test]
fn frames_go_to_and_fro_between_processes_that_sleep_while_they_wait() {
    let (there, back) = (RingPath::new(), RingPath::new());
    let spec = RingSpec {
        slots: 1,
        slot_bytes: SLOT_BYTES,
        epoch: 1,
    };
    let mut producer = Producer::create(&there, &spec).unwrap();
    producer.set_spin(Spin::Never);
    let peer = Peer::start("echo", &[&there, &back], 1);
    let mut consumer = Consumer::open(&back, 1, soon()).unwrap();
    consumer.set_spin(Spin::Never);
    for number in 0..20_000_u64 {
        let mut frame = producer.reserve(&layout(number), soon()).unwrap();
        fill(&mut frame, number);
        frame.commit().unwrap();
        let frame = consumer.recv(soon()).unwrap();
        check(&frame, number);
    }
    drop(producer);
    assert!(matches!(consumer.recv(soon()), Err(Error::Closed { .. })));
    peer.join();
}

#[test]
#[ignore = "the other process of the test above"]
fn echo() {
    let Some((rings, epoch)) = started_for() else {
        return;
    };
    let [there, back] = &rings[..] else {
        panic!("two rings, not {rings:?}")
    };
    let mut producer = Producer::create(
        back,
        &RingSpec {
            slots: 1,
            slot_bytes: SLOT_BYTES,
            epoch,
        },
    )
    .unwrap();
    let mut consumer = Consumer::open(there, epoch, soon()).unwrap();
    consumer.set_spin(Spin::Never);
    loop {
        let frame = match consumer.recv(soon()) {
            Ok(frame) => frame,
            Err(Error::Closed { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let mut layout = FrameLayout::new(frame.kind(), frame.request());
        for index in 0..frame.tensor_count() {
            layout = layout.tensor(*frame.layout(index).unwrap());
        }
        let mut reply = producer.reserve(&layout, soon()).unwrap();
        for index in 0..frame.tensor_count() {
            reply
                .tensor_mut(index)
                .unwrap()
                .copy_from_slice(frame.tensor(index).unwrap());
        }
        reply.commit().unwrap();
    }
}
