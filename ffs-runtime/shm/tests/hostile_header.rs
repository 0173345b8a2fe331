//! A peer that writes anything anywhere: the reader gets an error or a frame that lies inside its slot. It never
//! panics, never reads outside the ring, and never waits beyond its deadline.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod peer;

use peer::{RingPath, bytes, soon};
use proptest::prelude::*;
use shm::{Consumer, Dtype, Error, Frame, FrameLayout, Kind, Producer, RingSpec, TensorLayout};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const SPEC: RingSpec = RingSpec {
    slots: 4,
    slot_bytes: 8192,
    epoch: 1,
};
const FILE: u64 = 4096 + 4 * 8192;
/// Where the parts lie that mean something.
const PLACES: [Range<u64>; 5] = [0..64, 128..136, 256..260, 384..912, 4096..4096 + 2496];

/// One thing that the other process writes.
#[derive(Clone, Debug)]
struct Scribble {
    at: u64,
    bytes: Vec<u8>,
}

impl Scribble {
    fn write(&self, ring: &File) {
        let room = (FILE - self.at).min(self.bytes.len() as u64) as usize;
        ring.write_all_at(&self.bytes[..room], self.at).unwrap();
    }
}

/// Numbers near those that are checked, or any.
fn number() -> impl Strategy<Value = Vec<u8>> {
    let edges: Vec<u64> = [
        0, 1, 2, 3, 4, 5, 8, 9, 12, 16, 17, 63, 64, 2495, 2496, 4096, 8192, FILE,
    ]
    .into_iter()
    .chain([
        1 << 31,
        1 << 32,
        1 << 62,
        i64::MAX as u64,
        u64::MAX - 63,
        u64::MAX,
    ])
    .collect();
    let value = prop_oneof![4 => prop::sample::select(edges), 1 => any::<u64>()];
    (value, prop::sample::select(vec![1_usize, 2, 4, 8]))
        .prop_map(|(value, width)| value.to_le_bytes()[..width].to_vec())
}

fn scribble() -> impl Strategy<Value = Scribble> {
    let place = prop::sample::select(PLACES.to_vec()).prop_flat_map(|place| place.prop_map(|at| at / 2 * 2));
    let anywhere = 0..FILE;
    let noise = prop::collection::vec(any::<u8>(), 1..64);
    prop_oneof![
        6 => (place, number()).prop_map(|(at, bytes)| Scribble { at, bytes }),
        1 => (anywhere, noise).prop_map(|(at, bytes)| Scribble { at, bytes }),
    ]
}

fn ring() -> (RingPath, Producer, File) {
    let path = RingPath::new();
    let producer = Producer::create(&path, &SPEC).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    (path, producer, file)
}

/// Two frames with all that a frame can have.
fn send_two(producer: &mut Producer) {
    for request in 0..2 {
        let layout = FrameLayout::new(Kind::Tensors, request)
            .deadline_ms(1)
            .tensor(TensorLayout::new(Dtype::Float32, &[2, 3, 4]).unwrap())
            .tensor(TensorLayout::strided(Dtype::Int8, &[4, 4], &[100, 1]).unwrap());
        let mut frame = producer.reserve(&layout, soon()).unwrap();
        frame.set_json(br#"{"a":[1,2,3]}"#).unwrap();
        frame.commit().unwrap();
    }
}

/// Touches every byte that the frame says is its own.
fn touch(frame: &mut Frame, mapped: &[Range<usize>]) {
    for index in 0..frame.tensor_count() {
        let shape: u64 = frame
            .layout(index)
            .unwrap()
            .shape()
            .iter()
            .map(|dim| (*dim).max(1))
            .product();
        assert!(shape < isize::MAX as u64);
        let tensor = frame.tensor_mut(index).unwrap();
        let place = tensor.as_ptr_range();
        let place = place.start as usize..place.end as usize;
        assert!(
            mapped
                .iter()
                .any(|mapped| mapped.start <= place.start && place.end <= mapped.end)
        );
        tensor.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let json = frame.json();
    assert!(json.len() as u64 <= SPEC.slot_bytes);
}

/// Receives until something ends it, with frames in hand now and then.
fn receive(consumer: &mut Consumer) {
    let mapped = mappings(consumer.handle().name());
    let mut held = Vec::new();
    for round in 0..20 {
        match consumer.recv(Some(Instant::now() + Duration::from_millis(1))) {
            Ok(mut frame) => {
                touch(&mut frame, &mapped);
                held.push(frame);
                if round % 3 == 0 {
                    held.clear();
                }
            }
            Err(Error::TimedOut { .. }) => return,
            Err(Error::Corrupt { .. }) => {
                let again = consumer.recv(soon()).unwrap_err();
                assert!(matches!(again, Error::Poisoned { .. }), "{again}");
                return;
            }
            Err(Error::Closed { .. } | Error::Poisoned { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Where this process has mapped the ring.
fn mappings(name: &str) -> Vec<Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of_ring = maps.lines().filter(|line| line.contains(name));
    let ranges = of_ring.map(|line| {
        let (start, rest) = line.split_once('-').unwrap();
        let (end, _) = rest.split_once(' ').unwrap();
        usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap()
    });
    ranges.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_consumer_opens_a_ring_of_any_bytes_or_says_what_is_wrong(
        scribbles in prop::collection::vec(scribble(), 0..4),
    ) {
        let (path, mut producer, file) = ring();
        send_two(&mut producer);
        scribbles.iter().for_each(|scribble| scribble.write(&file));
        match Consumer::try_open(&path, 1) {
            Ok(Some(mut consumer)) => receive(&mut consumer),
            Ok(None) | Err(Error::Corrupt { .. } | Error::Epoch { .. } | Error::Taken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_consumer_survives_whatever_is_written_while_it_reads(
        before in prop::collection::vec(scribble(), 0..3),
        after in prop::collection::vec(scribble(), 0..3),
    ) {
        let (path, mut producer, file) = ring();
        let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
        send_two(&mut producer);
        before.iter().for_each(|scribble| scribble.write(&file));
        let first = consumer.try_recv();
        after.iter().for_each(|scribble| scribble.write(&file));
        if let Ok(Some(mut frame)) = first {
            let mapped = mappings(frame.ring());
            touch(&mut frame, &mapped);
        }
        receive(&mut consumer);
    }

    #[test]
    fn a_producer_survives_whatever_is_written_while_it_sends(
        scribbles in prop::collection::vec(scribble(), 1..6),
    ) {
        let (path, mut producer, file) = ring();
        let _consumer = Consumer::open(&path, 1, soon()).unwrap();
        let until = Some(Instant::now() + Duration::from_millis(2));
        for scribble in scribbles {
            let frame = producer.reserve(&bytes(1, 100), until);
            scribble.write(&file);
            let sent = frame.and_then(|mut frame| {
                frame.tensor_mut(0).unwrap().fill(7);
                frame.commit()
            });
            match sent {
                Ok(()) | Err(Error::TimedOut { .. } | Error::Closed { .. } | Error::Poisoned { .. }) => {}
                Err(Error::Corrupt { source, .. }) => prop_assert!(["tail", "state"].contains(&source.field), "{source}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_peer_that_never_stops_writing_cannot_keep_a_reader_beyond_its_deadline() {
    let (path, producer, file) = ring();
    let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Every slot is given up as soon as the reader has passed over the one before: there is always something,
            // never a frame.
            for number in 0_u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let slot = 4096 + number % 4 * 8192;
                file.write_all_at(&(number + 1).to_le_bytes(), slot).unwrap();
                file.write_all_at(&[0; 4], 256).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut tail = [0; 8];
                    file.read_exact_at(&mut tail, 128).unwrap();
                    if u64::from_le_bytes(tail) == number + 1 {
                        break;
                    }
                }
            }
        });
        let until = Instant::now() + Duration::from_millis(200);
        let error = consumer.recv(Some(until)).unwrap_err();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(Instant::now() >= until);
    });
    drop(producer);
}

#[test]
fn a_corrupt_frame_names_the_ring_and_the_field_and_poisons_the_ring_for_both() {
    let (path, mut producer, file) = ring();
    let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
    send_two(&mut producer);
    file.write_all_at(&17_u16.to_le_bytes(), 4096 + 10).unwrap();
    let error = consumer.recv(soon()).unwrap_err();
    let Error::Corrupt { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.to_string(), "frame.tensors is 17, expected 0 to 16");
    let name = path.as_ref().file_name().unwrap().to_str().unwrap();
    assert_eq!(error.to_string(), format!("ring {name} is corrupt"));
    let told = producer.reserve(&bytes(1, 1), soon()).unwrap_err().to_string();
    assert_eq!(
        told,
        format!("ring {name} is poisoned: corrupt: frame.tensors is 17, expected 0 to 16")
    );
}

#[test]
fn a_slot_whose_frame_is_in_hand_is_not_delivered_again_whatever_its_turn_says() {
    let (path, mut producer, file) = ring();
    let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
    send_two(&mut producer);
    send_two(&mut producer);
    let held = [(); 4].map(|()| consumer.recv(soon()).unwrap());
    file.write_all_at(&5_u64.to_le_bytes(), 4096).unwrap(); // the turn of slot 0
    let Error::Corrupt { source, .. } = consumer.recv(soon()).unwrap_err() else {
        panic!("the slot is in hand")
    };
    assert_eq!((source.field, source.found), ("turn", 5));
    drop(held);
}

#[test]
fn a_state_with_a_bit_that_means_nothing_ends_the_ring_for_both() {
    let (path, mut producer, file) = ring();
    let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
    let frame = producer.reserve(&bytes(1, 1), soon()).unwrap();
    file.write_all_at(&8_u32.to_le_bytes(), 512).unwrap();
    for error in [frame.commit().unwrap_err(), consumer.recv(None).unwrap_err()] {
        let told = error.to_string();
        assert!(told.contains("corrupt"), "{told}");
    }
    file.write_all_at(&[0; 400], 512).unwrap(); // it stays ended
    assert!(producer.reserve(&bytes(1, 1), soon()).is_err() && consumer.recv(None).is_err());
}

#[test]
fn a_sleeper_is_woken_whatever_stands_in_its_bell() {
    let (path, mut producer, file) = ring();
    let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
    let woken = std::thread::spawn(move || consumer.recv(None).map(drop));
    let bell = || {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, 256).unwrap();
        u32::from_le_bytes(word)
    };
    while bell() != 1 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(20)); // from the word to the futex
    file.write_all_at(&7_u32.to_le_bytes(), 256).unwrap();
    producer.reserve(&bytes(1, 1), soon()).unwrap().commit().unwrap();
    woken.join().unwrap().unwrap();
}

#[test]
fn what_this_end_has_decided_the_other_cannot_take_back() {
    let (path, producer, file) = ring();
    let mut consumer = Consumer::open(&path, 1, soon()).unwrap();
    consumer.handle().poison(shm::Reason::PeerDied, "gone");
    file.write_all_at(&[0; 400], 512).unwrap(); // state and note
    assert!(matches!(consumer.recv(None), Err(Error::Poisoned { .. })));
    drop(producer);
}

#[test]
fn a_file_that_is_no_ring_is_refused() {
    let path = RingPath::new();
    for content in [&b""[..], &[0; 100], &[0; 5000], &[0xff; 8192]] {
        std::fs::write(&path, content).unwrap();
        let error = Consumer::try_open(&path, 1).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    let error = Consumer::try_open(&path, 1).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Os { .. } | Error::Corrupt { .. } | Error::Foreign { .. }
        ),
        "{error}"
    );
}
