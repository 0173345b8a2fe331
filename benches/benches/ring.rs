//! Rings beside what bounds them, in one run: a round trip beside a bare futex ping-pong between the same two
//! processes, a frame that is copied in beside one `memcpy`, a frame that is produced in place beside a small one. And
//! beside what else carries data between processes: iceoryx2 and a pipe.
//!
//! `cargo bench -p benches --bench ring`. Criterion measures each; the table at the end takes the two of a pair
//! alternately, so that a busy machine hurts both alike.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on panics")]

#[path = "ring/others.rs"]
mod others;

use criterion::{BenchmarkId, Criterion};
use shm::baseline::{PingPong, Wait};
use shm::{Consumer, Dtype, Error, FrameLayout, Kind, Producer, RingSpec, Spin, TensorLayout};
use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Flag of a frame: send the tensor back. Without a flag a frame of 8 bytes comes back.
const ECHO: u32 = 1;
/// Flag of a frame: leave the ring for as many bare round trips as its tensor says.
const BARE: u32 = 2;
/// Round trips of one kind before those of the other kind have their turn.
const BATCH: u64 = 50;
/// Slots of a ring, and destinations that `memcpy` goes round.
const SLOTS: u32 = 2;
/// Long enough that the other end is found awake.
const AWAKE: Spin = Spin::UpTo(Duration::from_micros(200));
/// How both processes wait, in rings and without.
const HOW: [(&str, Spin, Wait); 3] = [
    ("asleep", Spin::Never, Wait::Futex),
    ("spinning", AWAKE, Wait::SpinningFutex),
    ("spinning, no system call", AWAKE, Wait::Watch),
];

fn main() {
    if let Ok(arguments) = std::env::var("RING_BENCH") {
        return answer(&arguments);
    }
    if let Ok(name) = std::env::var(others::ROLE) {
        return others::answer(&name);
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut table = Table::default();
    for (how, ..) in HOW {
        round_trips(&mut criterion, &mut table, how);
    }
    beside_others(&mut table);
    for bytes in [MIB, 16 * MIB, 64 * MIB] {
        copied_in(&mut criterion, &mut table, bytes);
    }
    for bytes in [MIB, 16 * MIB, 64 * MIB] {
        in_place(&mut criterion, &mut table, bytes);
    }
    criterion.final_summary();
    table.print();
}

/// Small frames to the other process and back, beside numbers that go the same way without a ring.
fn round_trips(criterion: &mut Criterion, table: &mut Table, how: &str) {
    let (_, _, wait) = how_named(how);
    let mut peer = Peer::start(4 * KIB, how);
    let mut group = criterion.benchmark_group(format!("round trip, {how}"));
    group.bench_function("bare", |b| {
        b.iter_custom(|count| peer.bare(count, wait, &mut Vec::new()))
    });
    for bytes in [64, 4 * KIB] {
        let (data, layout) = (vec![7; bytes as usize], layout(bytes, ECHO));
        group.bench_function(BenchmarkId::new("ring", size(bytes)), |b| {
            b.iter_custom(|count| times(count, || peer.round_trip(&layout, &data)).iter().sum());
        });
    }
    group.finish();
    for bytes in [64, 4 * KIB] {
        let (data, layout) = (vec![7; bytes as usize], layout(bytes, ECHO));
        let (mut bare, mut ring) = (Vec::new(), Vec::new());
        for _ in 0..400 {
            peer.bare(BATCH, wait, &mut bare);
            ring.extend(times(BATCH, || peer.round_trip(&layout, &data)));
        }
        let name = format!("round trip, {how}, {} / bare", size(bytes));
        table.add(name, bare, ring);
    }
}

/// 64 bytes to another process and back, whoever carries them, in turns.
fn beside_others(table: &mut Table) {
    let data = [7; others::BYTES];
    let layout = layout(others::BYTES as u64, ECHO);
    let mut peer = Peer::start(4 * KIB, "spinning");
    let mut iceoryx = others::Iceoryx::start();
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        theirs.extend(times(BATCH, || iceoryx.round_trip(&data)));
        iceoryx.rest();
        ours.extend(times(BATCH, || peer.round_trip(&layout, &data)));
    }
    table.add("round trip, spinning, 64 B / iceoryx2".to_owned(), theirs, ours);
    drop((peer, iceoryx));
    let mut peer = Peer::start(4 * KIB, "asleep");
    let mut pipe = others::Pipe::start();
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        theirs.extend(times(BATCH, || pipe.round_trip(&data)));
        ours.extend(times(BATCH, || peer.round_trip(&layout, &data)));
    }
    table.add("round trip, asleep, 64 B / pipe".to_owned(), theirs, ours);
}

/// Reserve, copy, commit; beside one copy of as many bytes into private memory that goes round in the same way. The
/// frame is received by this process, untimed: waking another would measure the scheduler.
fn copied_in(criterion: &mut Criterion, table: &mut Table, bytes: u64) {
    let there = path("copied");
    let mut producer = Producer::create(&there, &spec(bytes)).unwrap();
    let mut consumer = Consumer::open(&there, 1, soon()).unwrap();
    let layout = layout(bytes, 0);
    let source = vec![7; bytes as usize];
    let mut ring = || {
        let before = Instant::now();
        let mut frame = producer.reserve(&layout, None).unwrap();
        frame.tensor_mut(0).unwrap().copy_from_slice(black_box(&source));
        frame.commit().unwrap();
        let took = before.elapsed();
        black_box(consumer.recv(None).unwrap().tensor(0).unwrap());
        took
    };
    let mut targets = vec![vec![1; bytes as usize]; SLOTS as usize];
    let mut next = 0;
    let mut memcpy = || {
        next = (next + 1) % targets.len();
        let before = Instant::now();
        targets[next].copy_from_slice(black_box(&source));
        black_box(&targets[next]);
        before.elapsed()
    };
    times(2 * u64::from(SLOTS), &mut ring); // every page is there before anything is measured
    let mut group = criterion.benchmark_group("copied in");
    group.bench_function(BenchmarkId::new("memcpy", size(bytes)), |b| {
        b.iter_custom(|count| times(count, &mut memcpy).iter().sum());
    });
    group.bench_function(BenchmarkId::new("ring", size(bytes)), |b| {
        b.iter_custom(|count| times(count, &mut ring).iter().sum());
    });
    group.finish();
    let rounds = (8 * 1024 * MIB / bytes).min(1000);
    let (bound, ours) = (0..rounds).map(|_| (memcpy(), ring())).unzip();
    table.add(format!("{} copied in / memcpy", size(bytes)), bound, ours);
}

/// A round trip of a frame whose producer writes its first and last byte only, beside one of 4 KiB.
fn in_place(criterion: &mut Criterion, table: &mut Table, bytes: u64) {
    let mut peer = Peer::start(bytes, "spinning");
    let mut group = criterion.benchmark_group("produced in place");
    group.bench_function(BenchmarkId::new("ring", size(bytes)), |b| {
        b.iter_custom(|count| times(count, || peer.in_place(bytes)).iter().sum());
    });
    group.finish();
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        small.extend(times(BATCH, || peer.in_place(4 * KIB)));
        large.extend(times(BATCH, || peer.in_place(bytes)));
    }
    table.add(format!("{} produced in place / 4 KiB", size(bytes)), small, large);
}

/// The other process, which is this program again: a ring to it, a ring back, and two words without a ring.
struct Peer {
    there: Producer,
    back: Consumer,
    words: PingPong,
    number: u32,
    child: Child,
}

impl Peer {
    fn start(bytes: u64, how: &str) -> Self {
        let (_, spin, _) = how_named(how);
        let [there, back, words] = ["there", "back", "words"].map(path);
        let mut producer = Producer::create(&there, &spec(bytes)).unwrap();
        let pair = PingPong::create(&words).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .env(
                "RING_BENCH",
                [&there, &back, &words, &bytes.to_string()]
                    .map(String::as_str)
                    .join(","),
            )
            .env("RING_BENCH_SPIN", how)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut consumer = Consumer::open(&back, 1, soon()).unwrap();
        producer.set_spin(spin);
        consumer.set_spin(spin);
        let mut peer = Self {
            there: producer,
            back: consumer,
            words: pair,
            number: 0,
            child,
        };
        for _ in 0..2 * SLOTS {
            let mut frame = peer.there.reserve(&layout(bytes, 0), None).unwrap();
            frame.tensor_mut(0).unwrap().fill(1); // every page is there before anything is measured
            frame.commit().unwrap();
            peer.back.recv(None).unwrap();
        }
        peer
    }

    fn round_trip(&mut self, layout: &FrameLayout, data: &[u8]) -> Duration {
        let before = Instant::now();
        let mut frame = self.there.reserve(layout, None).unwrap();
        frame.tensor_mut(0).unwrap().copy_from_slice(data);
        frame.commit().unwrap();
        let frame = self.back.recv(None).unwrap();
        black_box(frame.tensor(0).unwrap());
        drop(frame);
        before.elapsed()
    }

    fn bare(&mut self, count: u64, wait: Wait, into: &mut Vec<Duration>) -> Duration {
        let mut frame = self.there.reserve(&layout(8, BARE), None).unwrap();
        frame.tensor_mut(0).unwrap().copy_from_slice(&count.to_le_bytes());
        frame.commit().unwrap();
        let times = times(count, || {
            self.number = self.number.wrapping_add(1);
            let before = Instant::now();
            self.words.ping(self.number, wait);
            before.elapsed()
        });
        into.extend(&times);
        times.iter().sum()
    }

    fn in_place(&mut self, bytes: u64) -> Duration {
        let before = Instant::now();
        let mut frame = self.there.reserve(&layout(bytes, 0), None).unwrap();
        let tensor = frame.tensor_mut(0).unwrap();
        (tensor[0], tensor[bytes as usize - 1]) = (3, 4);
        frame.commit().unwrap();
        self.back.recv(None).unwrap();
        before.elapsed()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.there.handle().close(); // the other process ends
        self.child.wait().unwrap();
    }
}

/// The other process: answers until the ring is closed.
fn answer(arguments: &str) {
    let [there, back, words, bytes] = arguments.split(',').collect::<Vec<_>>()[..] else {
        panic!("not what the other process needs: {arguments}");
    };
    let (_, spin, wait) = how_named(&std::env::var("RING_BENCH_SPIN").unwrap());
    let mut producer = Producer::create(back, &spec(bytes.parse().unwrap())).unwrap();
    let mut consumer = Consumer::open(there, 1, soon()).unwrap();
    let words = PingPong::open(words).unwrap().unwrap();
    producer.set_spin(spin);
    consumer.set_spin(spin);
    let mut number = 0;
    let mut echo = layout(0, 0);
    loop {
        let frame = match consumer.recv(None) {
            Ok(frame) => frame,
            Err(Error::Closed { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let data = frame.tensor(0).unwrap();
        match frame.flags() {
            ECHO => {
                if echo.tensors() != [*frame.layout(0).unwrap()] {
                    echo = layout(data.len() as u64, 0);
                }
                let mut reply = producer.reserve(&echo, None).unwrap();
                reply.tensor_mut(0).unwrap().copy_from_slice(data);
                reply.commit().unwrap();
            }
            BARE => {
                let count = u64::from_le_bytes(data.try_into().unwrap());
                drop(frame);
                (0..count).for_each(|_| number = words.pong(number, wait));
            }
            _ => {
                black_box((data[0], data[data.len() - 1]));
                producer.reserve(&layout(8, 0), None).unwrap().commit().unwrap();
            }
        }
    }
}

/// Pairs that were measured alternately, each sorted.
#[derive(Default)]
struct Table(Vec<(String, Vec<Duration>, Vec<Duration>)>);

impl Table {
    fn add(&mut self, name: String, mut bound: Vec<Duration>, mut ours: Vec<Duration>) {
        bound.sort_unstable();
        ours.sort_unstable();
        self.0.push((name, bound, ours));
    }

    /// The median, and the tenth percentile, which a busy machine hurts less.
    fn print(&self) {
        println!("\n{:50} {:>36} {:>36}", "", "median", "tenth percentile");
        println!(
            "{:50} {:>14} {:>14}   ratio {:>14} {:>14}   ratio",
            "", "bound", "ring", "bound", "ring"
        );
        for (name, bound, ours) in &self.0 {
            print!("{name:50}");
            for part in [2, 10] {
                let (bound, ours) = (bound[bound.len() / part], ours[ours.len() / part]);
                let ratio = ours.as_secs_f64() / bound.as_secs_f64();
                print!(
                    " {:>11.2} µs {:>11.2} µs {ratio:>7.2}",
                    micros(bound),
                    micros(ours)
                );
            }
            println!();
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn times(count: u64, mut once: impl FnMut() -> Duration) -> Vec<Duration> {
    (0..count).map(|_| once()).collect()
}

fn how_named(name: &str) -> (&'static str, Spin, Wait) {
    HOW.into_iter().find(|(how, ..)| *how == name).unwrap()
}

fn spec(bytes: u64) -> RingSpec {
    RingSpec {
        slots: SLOTS,
        slot_bytes: layout(bytes, 0).slot_bytes(0),
        epoch: 1,
    }
}

fn layout(bytes: u64, flags: u32) -> FrameLayout {
    let tensor = TensorLayout::new(Dtype::Uint8, &[bytes]).unwrap();
    FrameLayout::new(Kind::Tensors, 1).flags(flags).tensor(tensor)
}

fn size(bytes: u64) -> String {
    match bytes {
        MIB.. => format!("{} MiB", bytes / MIB),
        KIB.. => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} B"),
    }
}

fn path(name: &str) -> String {
    format!("/dev/shm/ffs-bench-{}-{name}", std::process::id())
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}
