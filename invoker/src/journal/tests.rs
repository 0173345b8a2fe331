#![allow(clippy::unwrap_used)]
use super::*;
use crate::config::{JournalSettings, JournalSync};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// 2026-01-01, in milliseconds since the epoch.
const START: i64 = 1_767_225_600_000;

fn id(n: u128) -> ActivationId {
    ActivationId::from_u128(n)
}

fn open(path: &Path) -> Journal {
    Journal::open(path, JournalSettings::default()).unwrap()
}

fn arrival(n: u128, message: &[u8]) -> Arrival<'_> {
    Arrival {
        id: id(n),
        at_ms: now(),
        message,
    }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn debts(parts: &[Part], bytes: usize) -> Debts {
    Debts {
        since_ms: START,
        until_ms: START + 660_000,
        all: parts
            .iter()
            .map(|part| Debt {
                part: *part,
                to: format!("{part:?}"),
                payload: vec![b'x'; bytes],
            })
            .collect(),
    }
}

/// K-28, D-46: each activation is found again where it stood.
#[tokio::test]
async fn what_was_written_is_there_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let batch: Vec<Arrival<'_>> = (1..=6).map(|n| arrival(n, b"message")).collect();
    assert_eq!(journal.accept(&batch).await.unwrap(), [true; 6]);
    for n in 2..=6 {
        journal.start(id(n)).await.unwrap();
    }
    let result = debts(&[Part::Result], 10);
    journal.end(id(3), &result).await.unwrap();
    let all = debts(&[Part::Event, Part::Slot, Part::Record], 20);
    for n in 4..=6 {
        journal.answer(id(n), &all).await.unwrap();
    }
    journal.delivered(id(5), Part::Slot.into());
    journal.delivered(id(6), all.parts());
    drop(journal);

    let journal = open(folder.path());
    let left = journal.unfinished().unwrap();

    assert_eq!(left.waiting, [id(1)]);
    assert_eq!(journal.message(id(1)).unwrap().unwrap(), b"message");
    let interrupted: Vec<_> = left
        .interrupted
        .iter()
        .map(|i| (i.id, i.result.clone()))
        .collect();
    assert_eq!(interrupted, [(id(2), None), (id(3), Some(result))]);
    let owed: Parts = [Part::Event, Part::Record].into_iter().collect();
    assert_eq!(left.owing, [(id(4), all.parts()), (id(5), owed)]);
    assert_eq!(journal.debts(id(4)).unwrap().unwrap(), all);
    assert_eq!(journal.debts(id(5)).unwrap().unwrap().parts(), owed);
    assert_eq!(journal.debts(id(6)).unwrap(), None);
}

/// K-28: a message that comes again, before or after the next start, is not accepted twice.
#[tokio::test]
async fn what_was_accepted_is_not_accepted_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let twice = [arrival(1, b"a"), arrival(1, b"a"), arrival(2, b"b")];
    assert_eq!(journal.accept(&twice).await.unwrap(), [true, false, true]);
    let paid = debts(&[Part::Slot], 1);
    journal.answer(id(1), &paid).await.unwrap();
    journal.delivered(id(1), paid.parts());
    drop(journal);

    let journal = open(folder.path());
    let again = [arrival(1, b"a"), arrival(2, b"b"), arrival(3, b"c")];
    assert_eq!(journal.accept(&again).await.unwrap(), [false, false, true]);
}

/// N-33
#[test]
fn a_second_process_of_the_same_id_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let second = Journal::open(folder.path(), JournalSettings::default()).unwrap_err();
    assert!(
        second
            .to_string()
            .contains("another invoker of the same id is running"),
        "{second}"
    );
    drop(first);
    open(folder.path());
}

#[tokio::test]
async fn with_sync_always_it_is_on_the_disk_before_anything_else_happens() {
    let folder = tempfile::tempdir().unwrap();
    let settings = JournalSettings {
        sync: JournalSync::Always,
        ..JournalSettings::default()
    };
    let journal = Journal::open(folder.path(), settings).unwrap();
    let writes = (0..50).map(|n| {
        let journal = &journal;
        async move {
            journal.accept(&[arrival(n, b"message")]).await.unwrap();
            journal.start(id(n)).await.unwrap();
        }
    });
    futures::future::join_all(writes).await;
    assert_eq!(journal.unfinished().unwrap().interrupted.len(), 50);
}

#[tokio::test]
async fn a_full_journal_accepts_nothing_and_still_takes_answers() {
    let folder = tempfile::tempdir().unwrap();
    let settings = JournalSettings {
        most_bytes: 10_000,
        ..JournalSettings::default()
    };
    let journal = Journal::open(folder.path(), settings).unwrap();
    journal.accept(&[arrival(1, &[b'x'; 20_000])]).await.unwrap();

    let refused = journal.accept(&[arrival(2, b"y")]).await.unwrap_err();

    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    journal
        .answer(id(1), &debts(&[Part::Record], 20_000))
        .await
        .unwrap();
}

/// Its size is bounded by what is still needed, which is found again after all that moving.
#[tokio::test]
async fn what_nobody_needs_is_deleted_and_what_somebody_needs_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let message = vec![b'm'; 20_000];
    let mut most = 0;
    for n in 1..=10_000_u128 {
        journal.accept(&[arrival(n, &message)]).await.unwrap();
        if n % 1000 == 1 {
            continue; // waits for ever
        }
        journal.start(id(n)).await.unwrap();
        if n % 1000 == 2 {
            continue; // runs for ever
        }
        let all = debts(&[Part::Slot, Part::Record], 100);
        journal.answer(id(n), &all).await.unwrap();
        journal.delivered(
            id(n),
            if n % 1000 == 3 {
                Part::Slot.into()
            } else {
                all.parts()
            },
        );
        most = most.max(journal.size().bytes);
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while journal.size().bytes > 40 << 20 && std::time::Instant::now() < end {
        journal.delivered(id(0), Part::Slot.into()); // wakes the keeper
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let size = journal.size();
    assert!(
        size.bytes <= 40 << 20,
        "200 MB went through: {size:?}, at most {most}"
    );
    assert_eq!(size.activations, 30);
    drop(journal);

    let journal = open(folder.path());
    let left = journal.unfinished().unwrap();
    let every = |first: u128| (0..10).map(move |n| id(n * 1000 + first)).collect::<Vec<_>>();
    assert_eq!(left.waiting, every(1));
    assert_eq!(journal.message(id(3001)).unwrap().unwrap(), message);
    assert_eq!(
        left.interrupted.iter().map(|i| i.id).collect::<Vec<_>>(),
        every(2)
    );
    assert_eq!(left.owing.iter().map(|(id, _)| *id).collect::<Vec<_>>(), every(3));
    assert!(left.owing.iter().all(|(_, parts)| *parts == Part::Record.into()));
    let again = [
        arrival(5, &message),
        arrival(9_999, &message),
        arrival(10_001, &message),
    ];
    assert_eq!(journal.accept(&again).await.unwrap(), [false, false, true]);
}

/// One thing that can happen to an activation.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Accept,
    Start,
    End,
    Answer,
    DeliverAcks,
    DeliverRecord,
}

fn deeds() -> impl Strategy<Value = Vec<(u128, Deed)>> {
    use Deed::*;
    let deed = prop_oneof![
        Just(Accept),
        Just(Start),
        Just(End),
        Just(Answer),
        Just(DeliverAcks),
        Just(DeliverRecord)
    ];
    proptest::collection::vec((0..5_u128, deed), 1..40)
}

/// S-11, O-01: what is answered is not answered again, and nothing comes after; nor before it is accepted.
#[tokio::test]
async fn an_activation_is_answered_once_and_ends_before() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let all = debts(&[Part::Slot, Part::Record], 20);
    let refused = |outcome: Result<(), Error>, n| {
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::NotUnderWay { id: of } if of == id(n)),
            "{error}"
        );
    };
    refused(journal.answer(id(1), &all).await, 1);
    refused(journal.start(id(1)).await, 1);
    journal.accept(&[arrival(1, b"message")]).await.unwrap();
    journal.start(id(1)).await.unwrap();
    journal.answer(id(1), &all).await.unwrap();
    for paid in [false, true] {
        if paid {
            journal.delivered(id(1), all.parts());
        }
        refused(journal.answer(id(1), &all).await, 1);
        refused(journal.answer_unsynced(id(1), &all), 1);
        refused(journal.end(id(1), &debts(&[Part::Result], 10)).await, 1);
        refused(journal.start(id(1)).await, 1);
    }
    drop(journal);
    assert_eq!(open(folder.path()).unfinished().unwrap(), Unfinished::default());
}

/// Where each activation stands: nothing, waiting, running, ended, owing.
type Standing = BTreeMap<ActivationId, String>;

fn standing(log: &log::Log) -> Standing {
    let all = log.live().iter().map(|(id, live)| {
        let held = (
            live.accepted.is_some(),
            live.ended.is_some(),
            live.answered.is_some(),
        );
        // Whether it was started matters until it is answered.
        let started = live.started && live.answered.is_none();
        (*id, format!("{started} {held:?} {:?}", live.owed))
    });
    all.collect()
}

fn perform(log: &mut log::Log, n: u128, deed: Deed) {
    let id = id(n);
    // As its callers do: an activation is answered once and then only delivered, and only what was accepted
    // goes on.
    let is_answered = log.live().get(&id).is_some_and(|live| live.answered.is_some());
    let (result, all) = (debts(&[Part::Result], 3), debts(&[Part::Slot, Part::Record], 5));
    let entry = match deed {
        Deed::Accept if log.knows(id) => return,
        Deed::Accept => Entry::Accepted {
            id,
            at_ms: START,
            message: b"message",
        },
        Deed::Start | Deed::End | Deed::Answer if is_answered => return,
        Deed::Start => Entry::Started { id },
        Deed::End => Entry::Ended { id, debts: &result },
        Deed::Answer => Entry::Answered { id, debts: &all },
        Deed::DeliverAcks => return log.mark(id, Part::Slot.into()),
        Deed::DeliverRecord => return log.mark(id, Part::Record.into()),
    };
    if matches!(deed, Deed::Accept) || log.live().contains_key(&id) {
        log.append(&[entry]).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Cut off at any byte, the log is what it was at some moment before, and everything up to the cut.
    #[test]
    fn a_log_cut_off_anywhere_is_one_of_its_own_pasts(deeds in deeds()) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log::Log::open(folder.path()).unwrap();
        let file = segment::path(folder.path(), 1);
        let mut pasts = vec![(std::fs::metadata(&file).unwrap().len(), standing(&log))];
        for (n, deed) in deeds {
            perform(&mut log, n, deed);
            log.append(&[]).unwrap();
            pasts.push((std::fs::metadata(&file).unwrap().len(), standing(&log)));
        }
        drop(log);
        let bytes = std::fs::read(&file).unwrap();
        for cut in 0..=bytes.len() {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(segment::path(folder.path(), 1), &bytes[..cut]).unwrap();
            let log = log::Log::open(folder.path()).unwrap();
            let expected = pasts.iter().rev().find(|(length, _)| *length <= cut as u64);
            let expected = expected.map(|(_, standing)| standing.clone()).unwrap_or_default();
            prop_assert_eq!(standing(&log), expected, "cut at {}", cut);
        }
    }

    /// A byte that changed ends the log there, and nothing is made up.
    #[test]
    fn a_log_with_a_broken_byte_is_one_of_its_own_pasts(deeds in deeds(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log::Log::open(folder.path()).unwrap();
        let mut pasts = vec![standing(&log)];
        for (n, deed) in deeds {
            perform(&mut log, n, deed);
            log.append(&[]).unwrap();
            pasts.push(standing(&log));
        }
        drop(log);
        let file = segment::path(folder.path(), 1);
        let mut bytes = std::fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(&file, bytes).unwrap();
        let log = log::Log::open(folder.path()).unwrap();
        prop_assert!(pasts.contains(&standing(&log)), "{:?}", standing(&log));
    }

    /// Moving what is needed out of the oldest file changes nothing, wherever it is broken off.
    #[test]
    fn moving_on_changes_nothing(deeds in deeds(), cut in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log::Log::open(folder.path()).unwrap();
        let third = deeds.len() / 3;
        for (i, (n, deed)) in deeds.into_iter().enumerate() {
            if i == third {
                log.append(&[]).unwrap();
                drop(log);
                log = log::Log::open(folder.path()).unwrap();
            }
            perform(&mut log, n, deed);
        }
        log.append(&[]).unwrap();
        let before = standing(&log);

        let file = std::fs::File::open(segment::path(folder.path(), 1)).unwrap();
        let mut frames = Vec::new();
        let ends = segment::frames(&file, 1, &mut |place, payload| {
            frames.push((place, payload.to_vec()));
            Ok(())
        });
        prop_assert_eq!(ends.unwrap(), file.metadata().unwrap().len());
        let some = if frames.is_empty() { 0 } else { cut.index(frames.len()) };
        log.append_again(&frames[..some], 0).unwrap();
        prop_assert_eq!(&standing(&log::Log::open(folder.path()).unwrap()), &before, "broken off");

        log.append_again(&frames[some..], 0).unwrap();
        prop_assert_eq!(&standing(&log), &before);
        let two = segment::list(folder.path()).unwrap().len() > 1 && third > 0;
        prop_assert!(!two || log.remove_oldest(1).unwrap());
        prop_assert_eq!(&standing(&log::Log::open(folder.path()).unwrap()), &before, "removed");
        for n in before.keys() {
            prop_assert!(log.knows(*n));
        }
    }
}

#[test]
fn a_file_of_another_kind_is_left_alone_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "this is no directory").unwrap();
    let error = Journal::open(&path, JournalSettings::default()).unwrap_err();
    assert!(error.to_string().contains("file could not be opened"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"this is no directory");
}
