//! One ring, both ends in one process: what goes in comes out, in order, and the slots go round.
#![cfg(not(loom))]

mod peer;

use peer::{at_once, bytes, ring, send, soon};
use shm::{Dtype, Error, FrameLayout, Kind, MAX_TENSORS, Side, TensorLayout};
use std::thread;

#[test]
fn a_frame_carries_tensors_json_and_everything_about_its_request() {
    let (mut producer, mut consumer) = ring(2, 1 << 16);
    let layout = FrameLayout::new(Kind::Tensors, 0x0123_4567_89ab_cdef_0011_2233_4455_6677)
        .deadline_ms(1_700_000_000_123)
        .flags(0xf00d)
        .tensor(TensorLayout::new(Dtype::Float32, &[2, 3]).unwrap())
        .tensor(TensorLayout::strided(Dtype::Bfloat16, &[4, 2], &[8, 1]).unwrap());

    let mut frame = producer.reserve(&layout, soon()).unwrap();
    frame.tensor_mut(0).unwrap().fill(0xaa);
    frame.tensor_mut(1).unwrap().fill(0xbb);
    frame.set_json(br#"{"logs":"first"}"#).unwrap();
    frame.set_json(br#"{"logs":"second thought"}"#).unwrap();
    frame.commit().unwrap();

    let mut frame = consumer.recv(soon()).unwrap();
    assert_eq!(frame.kind(), Kind::Tensors);
    assert_eq!(frame.request(), 0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    assert_eq!(frame.deadline_ms(), Some(1_700_000_000_123));
    assert_eq!(frame.flags(), 0xf00d);
    assert_eq!(frame.tensor_count(), 2);
    assert_eq!(frame.layout(0).unwrap().shape(), [2, 3]);
    assert_eq!(frame.layout(1).unwrap().strides(), [8, 1]);
    assert_eq!(frame.layout(1).unwrap().dtype(), Dtype::Bfloat16);
    assert_eq!(frame.tensor(0).unwrap(), [0xaa; 24]);
    assert_eq!(frame.tensor(1).unwrap(), [0xbb; 2 * (3 * 8 + 2)]);
    assert_eq!(frame.json(), br#"{"logs":"second thought"}"#);
    assert!(frame.tensor(2).is_none());
    frame.tensor_mut(0).unwrap()[0] = 1; // the slot is the reader's
    assert_eq!(frame.tensor(0).unwrap()[0], 1);
}

#[test]
fn a_frame_may_have_no_tensor_or_sixteen_scalars_and_tensors_without_elements_among_them() {
    let (mut producer, mut consumer) = ring(1, 1 << 14);
    for count in [0, 1, MAX_TENSORS] {
        let mut layout = FrameLayout::new(Kind::Tensors, count as u128);
        for index in 0..count {
            let shape: &[u64] = [&[][..], &[0, 7], &[3, 1, 2]][index % 3];
            layout = layout.tensor(TensorLayout::new(Dtype::ALL[index % 11], shape).unwrap());
        }
        let mut frame = producer.reserve(&layout, soon()).unwrap();
        for index in 0..count {
            frame.tensor_mut(index).unwrap().fill(index as u8 + 1);
        }
        frame.commit().unwrap();

        let frame = consumer.recv(soon()).unwrap();
        assert_eq!(frame.tensor_count(), count);
        for index in 0..count {
            let (layout, data) = (frame.layout(index).unwrap(), frame.tensor(index).unwrap());
            let elements: u64 = layout.shape().iter().product();
            assert_eq!(data.len() as u64, elements * layout.dtype().item_bytes());
            assert!(data.iter().all(|byte| *byte == index as u8 + 1));
            assert!(frame.tensor_ptr(index).unwrap().addr().get().is_multiple_of(64));
        }
        assert!(frame.json().is_empty());
    }
}

#[test]
fn a_seventeenth_tensor_is_refused() {
    let (mut producer, _consumer) = ring(1, 1 << 14);
    let byte = TensorLayout::new(Dtype::Uint8, &[1]).unwrap();
    let layout = (0..17).fold(FrameLayout::new(Kind::Tensors, 1), |layout, _| {
        layout.tensor(byte)
    });
    let error = producer.reserve(&layout, soon()).unwrap_err();
    assert!(matches!(error, Error::Layout { tensor: 16, .. }), "{error}");
}

#[test]
fn a_frame_that_does_not_fit_names_ring_tensor_bytes_and_slot_and_hurts_nobody_else() {
    let (mut producer, mut consumer) = ring(1, 8192);
    let small = TensorLayout::new(Dtype::Float32, &[16]).unwrap();
    let large = TensorLayout::new(Dtype::Float32, &[64, 64]).unwrap();
    let layout = FrameLayout::new(Kind::Tensors, 1).tensor(small).tensor(large);

    let error = producer.reserve(&layout, soon()).unwrap_err().to_string();
    let expected = format!(
        "ring {}: tensor 1 of 16384 bytes does not fit; a slot of 8192 bytes has 5632 left for it",
        producer.handle().name()
    );
    assert_eq!(error, expected);

    let mut frame = producer.reserve(&bytes(2, 5000), soon()).unwrap();
    let error = frame.set_json(&[b' '; 697]).unwrap_err().to_string();
    assert!(
        error.contains("697 bytes of JSON do not fit; a slot of 8192 bytes has 696 left"),
        "{error}"
    );
    frame.set_json(&[b' '; 696]).unwrap();
    frame.commit().unwrap();
    assert_eq!(consumer.recv(soon()).unwrap().json(), [b' '; 696]);
}

#[test]
fn the_slot_that_a_layout_asks_for_is_exactly_large_enough() {
    let layout = bytes(1, 1000).tensor(TensorLayout::new(Dtype::Int64, &[3]).unwrap());
    let (mut producer, _consumer) = ring(1, layout.slot_bytes(100));
    let mut frame = producer.reserve(&layout, soon()).unwrap();
    frame.set_json(&[b' '; 100]).unwrap();
    frame.commit().unwrap();

    let (mut producer, _consumer) = ring(1, layout.slot_bytes(0) - 64);
    assert!(matches!(
        producer.reserve(&layout, soon()),
        Err(Error::TooLarge { tensor: 1, .. })
    ));
}

#[test]
fn a_tensor_whose_shape_is_known_late_is_added_to_the_reservation() {
    let (mut producer, mut consumer) = ring(1, 8192);
    let mut frame = producer
        .reserve(&FrameLayout::new(Kind::Tensors, 1), soon())
        .unwrap();
    frame.set_json(b"{}").unwrap();
    let index = frame
        .push(TensorLayout::new(Dtype::Uint8, &[5]).unwrap())
        .unwrap();
    frame.tensor_mut(index).unwrap().copy_from_slice(b"later");
    let rest = TensorLayout::new(Dtype::Uint8, &[8192]).unwrap();
    assert!(matches!(frame.push(rest), Err(Error::TooLarge { tensor: 1, .. })));
    frame.commit().unwrap();

    let frame = consumer.recv(soon()).unwrap();
    assert_eq!(
        (frame.tensor(0).unwrap(), frame.json()),
        (&b"later"[..], b"{}".to_vec())
    );
}

#[test]
fn frames_of_changing_shapes_go_round_the_ring_in_order() {
    let (mut producer, mut consumer) = ring(3, 1 << 14);
    for round in 0..1000_u64 {
        let size = round * 37 % 9000;
        let mut frame = producer.reserve(&bytes(round.into(), size), soon()).unwrap();
        frame.tensor_mut(0).unwrap().fill(round as u8);
        frame.commit().unwrap();
        let frame = consumer.recv(soon()).unwrap();
        assert_eq!(
            (frame.request(), frame.tensor(0).unwrap().len() as u64),
            (round.into(), size)
        );
        assert!(frame.tensor(0).unwrap().iter().all(|byte| *byte == round as u8));
    }
}

#[test]
fn a_full_ring_holds_the_producer_back_until_a_frame_is_released() {
    let (mut producer, mut consumer) = ring(2, 4096);
    send(&mut producer, 1, "one");
    send(&mut producer, 2, "two");
    assert!(!producer.has_room());
    assert!(producer.try_reserve(&bytes(3, 1)).unwrap().is_none());
    let error = producer.reserve(&bytes(3, 1), at_once()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { what: "room", .. }), "{error}");

    let frame = consumer.recv(soon()).unwrap();
    assert!(!producer.has_room(), "delivered is not released");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| send(&mut producer, 3, "three"));
        frame.release();
        waiting.join().unwrap();
    });
    assert_eq!(consumer.recv(soon()).unwrap().tensor(0).unwrap(), b"two");
    assert_eq!(consumer.recv(soon()).unwrap().tensor(0).unwrap(), b"three");
}

#[test]
fn frames_may_be_released_in_any_order_and_after_the_consumer_is_gone() {
    let (mut producer, mut consumer) = ring(3, 4096);
    for text in ["a", "b", "c"] {
        send(&mut producer, 0, text);
    }
    let mut frames: Vec<_> = (0..3).map(|_| consumer.recv(soon()).unwrap()).collect();
    frames.remove(1).release();
    assert!(!producer.has_room(), "the first is still held");
    frames.remove(1).release();
    assert!(!producer.has_room());
    frames.remove(0).release();
    for text in ["d", "e", "f"] {
        send(&mut producer, 0, text);
    }
    let kept = consumer.recv(soon()).unwrap();
    drop(consumer);
    drop(producer);
    assert_eq!(kept.tensor(0).unwrap(), b"d");
}

#[test]
fn frames_reserved_together_arrive_in_that_order_whoever_commits_first() {
    let (mut producer, mut consumer) = ring(4, 4096);
    let mut reserve = |text: &str| {
        let mut frame = producer.reserve(&bytes(0, text.len() as u64), soon()).unwrap();
        frame.tensor_mut(0).unwrap().copy_from_slice(text.as_bytes());
        frame
    };
    let (first, given_up, second) = (reserve("first"), reserve("given up"), reserve("second"));
    thread::spawn(move || second.commit().unwrap()).join().unwrap();
    assert!(!consumer.ready());
    drop(given_up);
    assert!(!consumer.ready());
    first.commit().unwrap();

    assert_eq!(consumer.recv(soon()).unwrap().tensor(0).unwrap(), b"first");
    assert_eq!(consumer.recv(soon()).unwrap().tensor(0).unwrap(), b"second");
    assert!(consumer.try_recv().unwrap().is_none());
}

#[test]
fn what_is_reserved_and_dropped_is_never_seen() {
    let (mut producer, mut consumer) = ring(2, 4096);
    for _ in 0..10 {
        drop(producer.reserve(&bytes(1, 8), soon()).unwrap());
        assert!(consumer.try_recv().unwrap().is_none());
    }
    send(&mut producer, 2, "sent");
    assert_eq!(consumer.recv(soon()).unwrap().request(), 2);
}

#[test]
fn json_errors_and_control_travel_without_tensors() {
    let (mut producer, mut consumer) = ring(4, 4096);
    producer
        .send_json(Kind::Json, 7, 99, br#"{"a":1}"#, soon())
        .unwrap();
    producer.send_error(8, br#"{"error":"no"}"#, soon()).unwrap();
    producer.send_json(Kind::Control, 9, 0, b"{}", soon()).unwrap();
    let seen: Vec<_> = (0..3)
        .map(|_| consumer.recv(soon()).unwrap())
        .map(|frame| (frame.kind(), frame.request(), frame.deadline_ms(), frame.json()))
        .collect();
    let expected = [
        (Kind::Json, 7, Some(99), br#"{"a":1}"#.to_vec()),
        (Kind::Error, 8, None, br#"{"error":"no"}"#.to_vec()),
        (Kind::Control, 9, None, b"{}".to_vec()),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_closed_ring_is_drained_before_it_ends() {
    let (mut producer, mut consumer) = ring(4, 4096);
    send(&mut producer, 1, "last words");
    let late = producer.reserve(&bytes(2, 1), soon()).unwrap();
    drop(producer);
    let error = late.commit().unwrap_err();
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

    assert_eq!(consumer.recv(soon()).unwrap().tensor(0).unwrap(), b"last words");
    for _ in 0..2 {
        let error = consumer.recv(None).unwrap_err();
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
}

#[test]
fn a_producer_without_a_reader_is_told_so() {
    let (mut producer, consumer) = ring(1, 4096);
    let reserved = producer.reserve(&bytes(1, 1), soon()).unwrap();
    drop(consumer);
    assert!(matches!(
        reserved.commit(),
        Err(Error::Closed {
            by: Side::Consumer,
            ..
        })
    ));
    assert!(matches!(
        producer.reserve(&bytes(1, 1), None),
        Err(Error::Closed {
            by: Side::Consumer,
            ..
        })
    ));
}
