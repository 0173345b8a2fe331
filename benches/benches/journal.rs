//! What the journal costs an activation: all its steps with contents of usual sizes, one after the other and
//! for a batch of 16, and with results of 100 KB; beside one write of the same bytes to a file.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ffs_invoker::config::JournalSettings;
use ffs_invoker::journal::{Arrival, Debt, Debts, Journal, Part};
use proto::id::ActivationId;
use std::cell::Cell;
use std::hint::black_box;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of an activation message, and of an ack or a record.
const MESSAGE: usize = 700;
const ACK: usize = 900;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn debts(parts: &[Part], bytes: usize) -> Debts {
    let all = parts.iter().map(|part| Debt {
        part: *part,
        to: "completed0".to_owned(),
        payload: vec![b'x'; bytes],
    });
    Debts {
        since_ms: now_ms(),
        until_ms: now_ms() + 660_000,
        all: all.collect(),
    }
}

/// The steps of `count` blocking activations with logs: accepted together, then each by itself.
async fn activations(
    journal: &Journal,
    next: &Cell<u128>,
    count: u128,
    message: &[u8],
    result: &Debts,
    end: &Debts,
) {
    let ids: Vec<ActivationId> = (0..count)
        .map(|n| ActivationId::from_u128(next.get() + n))
        .collect();
    next.set(next.get() + count);
    let at_ms = now_ms();
    let batch: Vec<Arrival<'_>> = ids.iter().map(|&id| Arrival { id, at_ms, message }).collect();
    journal.accept(&batch).await.expect("it is accepted");
    for &id in &ids {
        journal.start(id).await.expect("it is written");
        journal.end(id, result).await.expect("it is written");
        journal.answer(id, end).await.expect("it is written");
        journal.delivered(id, end.parts());
    }
}

fn journal(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a directory");
    let opened = Journal::open(&folder.path().join("journal"), JournalSettings::default()).expect("it opens");
    let next = Cell::new(1);
    let message = vec![b'm'; MESSAGE];
    let mut group = c.benchmark_group("journal");
    for (name, count, bytes) in [
        ("one", 1, ACK),
        ("batch of 16", 16, ACK),
        ("one of 100 KB", 1, 100_000),
    ] {
        let result = debts(&[Part::Result], bytes);
        let end = debts(&[Part::Event, Part::Slot, Part::Record], bytes);
        group.throughput(Throughput::Elements(u64::try_from(count).expect("small")));
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(activations(&opened, &next, count, &message, &result, &end)));
        });
    }
    let mut file = std::fs::File::create(folder.path().join("file")).expect("a file");
    let bytes = vec![b'x'; MESSAGE + 4 * ACK];
    group.throughput(Throughput::Elements(1));
    group.bench_function("floor: one write of as many bytes", |b| {
        b.iter_batched(
            || (),
            |()| file.write_all(black_box(&bytes)).expect("written"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, journal);
criterion_main!(benches);
