//! The store and its socket, as a lane meets them.

use super::memory::tests::{file, size};
use super::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

fn holder(namespace: &str, instance: &str) -> Holder {
    Holder {
        namespace: namespace.to_owned(),
        instance: instance.parse().expect("an id"),
        limit: Bytes::mib(64),
    }
}

fn given(store: &WeightStore, holder: &Holder, file: &File) -> Result<Given, Refusal> {
    store.0.exchange(holder, &AtomicBool::new(false), file)
}

#[test]
fn equal_files_of_a_namespace_are_one_memory() {
    let store = WeightStore::new(Bytes::mib(1));
    let first = given(&store, &holder("guest", "i-1"), &file(b"weights")).expect("room");
    let second = given(&store, &holder("guest", "i-2"), &file(b"weights")).expect("there");
    assert!(Arc::ptr_eq(&first.memory, &second.memory));
    assert_eq!(first.digest, second.digest);
    let other = given(&store, &holder("guest", "i-2"), &file(b"heights")).expect("room");
    assert_ne!(first.digest, other.digest, "of the same size, and yet another");
}

#[test]
fn another_namespace_has_memory_of_its_own() {
    let store = WeightStore::new(Bytes::mib(1));
    let ours = given(&store, &holder("guest", "i-1"), &file(b"weights")).expect("room");
    let theirs = given(&store, &holder("other", "i-2"), &file(b"weights")).expect("room");
    assert!(!Arc::ptr_eq(&ours.memory, &theirs.memory));
}

#[test]
fn a_file_that_changes_later_changes_nothing_that_is_kept() {
    let store = WeightStore::new(Bytes::mib(1));
    let poisoner = file(b"weights");
    let before = given(&store, &holder("guest", "i-1"), &poisoner).expect("room");
    let last = size(&poisoner) - 1;
    poisoner.write_all_at(b"!", last).expect("it is its own");

    let after = given(&store, &holder("guest", "i-2"), &file(b"weights")).expect("there");
    assert!(Arc::ptr_eq(&before.memory, &after.memory), "the content decides");
    let poison = given(&store, &holder("guest", "i-1"), &poisoner).expect("room");
    assert_ne!(poison.digest, before.digest);
}

#[test]
fn what_cannot_be_kept_takes_no_room() {
    let store = WeightStore::new(Bytes(size(&file(b"weights"))));
    let cut_off = file(b"weights!");
    cut_off.set_len(size(&file(b"weights"))).expect("ours");
    let refused = given(&store, &holder("guest", "i-1"), &cut_off).expect_err("not whole");
    assert!(
        matches!(refused, Refusal::Memory(memory::Error::Malformed(_))),
        "{refused}"
    );
    let directory = File::open("/").expect("there");
    let refused = given(&store, &holder("guest", "i-1"), &directory).expect_err("no file");
    assert!(matches!(refused, Refusal::NoFile), "{refused}");

    given(&store, &holder("guest", "i-1"), &file(b"weights")).expect("all of the room");
    let refused = given(&store, &holder("guest", "i-2"), &file(b"heights")).expect_err("none is left");
    assert!(matches!(refused, Refusal::Full(Full::InUse { .. })), "{refused}");
}

#[test]
fn an_instance_takes_no_more_memory_than_its_lanes_may_use() {
    let store = WeightStore::new(Bytes::mib(1));
    let modest = Holder {
        limit: Bytes(size(&file(b"weights"))),
        ..holder("guest", "i-1")
    };
    given(&store, &modest, &file(b"weights")).expect("its share");
    given(&store, &modest, &file(b"weights")).expect("the same again");
    let refused = given(&store, &modest, &file(b"heights")).expect_err("twice its share");
    assert!(matches!(refused, Refusal::Full(Full::Share { .. })), "{refused}");
    assert_eq!(store.0.ledger().count(), 1, "nothing was read for it");
}

#[tokio::test]
async fn a_lane_gets_memory_for_its_file_until_its_instance_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = WeightStore::new(Bytes::mib(1));
    let path = directory.path().join("weights");
    let door = store.open(&path, None, holder("guest", "i-1")).expect("writable");

    let asked = path.clone();
    let (line, memory) = tokio::task::spawn_blocking(move || ask(&asked, Some(&file(b"weights"))))
        .await
        .expect("it ends");

    let answer: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(answer["bytes"], size(&file(b"weights")), "{answer}");
    assert!(
        answer["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:")),
        "{answer}"
    );
    let mut content = Vec::new();
    memory
        .expect("beside it")
        .read_to_end(&mut content)
        .expect("readable");
    assert!(content.ends_with(b"weights"));
    assert_eq!(store.0.ledger().held(), content.len() as u64);

    drop(door);
    assert_eq!(store.0.ledger().held(), 0);
    assert_eq!(store.0.ledger().count(), 1, "it waits for the next one");
}

#[tokio::test]
async fn a_request_without_a_file_is_refused_and_a_flood_is_cut_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = WeightStore::new(Bytes::mib(1));
    let path = directory.path().join("weights");
    let _door = store.open(&path, None, holder("guest", "i-1")).expect("writable");

    let (line, flooded) = tokio::task::spawn_blocking(move || {
        let (line, _) = ask(&path, None);
        let mut flood = UnixStream::connect(&path).expect("it listens");
        let _ = std::io::Write::write_all(&mut flood, &vec![b' '; 1 << 20]);
        let mut said = Vec::new();
        let _ = flood.read_to_end(&mut said);
        (line, said)
    })
    .await
    .expect("it ends");

    assert!(line.contains("a descriptor of a file is expected"), "{line}");
    assert_eq!(flooded, b"");
}

#[test]
fn an_instance_that_has_ended_is_given_nothing() {
    let store = WeightStore::new(Bytes::mib(1));
    let late = store
        .0
        .exchange(&holder("guest", "i-1"), &AtomicBool::new(true), &file(b"weights"));
    assert!(matches!(late, Err(Refusal::Ended)), "{late:?}");
    assert_eq!(store.0.ledger().held(), 0);
}

/// As a lane does it.
fn ask(path: &Path, file: Option<&File>) -> (String, Option<File>) {
    let stream = UnixStream::connect(path).expect("it listens");
    let descriptors: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let line = b"{\"schema\":\"ffs.weights/1\"}\n";
    rustix::net::sendmsg(&stream, &[IoSlice::new(line)], &mut beside, SendFlags::NOSIGNAL).expect("sent");

    let mut piece = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut into = [std::io::IoSliceMut::new(&mut piece)];
    let received = rustix::net::recvmsg(&stream, &mut into, &mut beside, rustix::net::RecvFlags::empty());
    let bytes = received.expect("an answer").bytes;
    let memory = beside.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    (
        String::from_utf8_lossy(&piece[..bytes]).into_owned(),
        memory.map(File::from),
    )
}
