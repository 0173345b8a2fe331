//! The socket at which one instance's lanes get weights: `weights` in the config layer.
//!
//! Who can connect is a lane of the instance: the socket lies where only its lanes can reach it. What comes in is
//! untrusted all the same. Descriptors travel beside a line of JSON (`SCM_RIGHTS`).

use super::{Given, Holder, Refusal, Store};
use crate::{metrics, readiness, run_directory};
use proto::ffs::weights::{MAX_LINE, WeightsAnswer, WeightsRequest};
use proto::unit::Bytes;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

/// A connection on which nothing was asked by then is closed.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Connections of one instance that are served at once; others wait.
const AT_ONCE: usize = 4;

/// One instance's socket. Dropped when its lanes are gone, what it was given may go for others.
#[derive(Debug)]
pub struct Door {
    room: Arc<Room>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Room {
    store: Arc<Store>,
    holder: Holder,
    ended: AtomicBool,
}

impl Door {
    pub(super) fn open(store: Arc<Store>, path: &Path, uid: Option<u32>, holder: Holder) -> io::Result<Self> {
        let listener = run_directory::bind(path, uid)?;
        let room = Arc::new(Room {
            store,
            holder,
            ended: AtomicBool::new(false),
        });
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(accept(listener, Arc::clone(&room))),
        );
        Ok(Self {
            room,
            _stop: stop.drop_guard(),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.room.store.let_go(&self.room.holder, &self.room.ended);
    }
}

async fn accept(listener: UnixListener, room: Arc<Room>) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let permit = Arc::clone(&at_once).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let room = Arc::clone(&room);
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = serve(&stream, &room).await {
                        debug!(instance = %room.holder.instance, %error, "exchange of weights broken off");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, as a rule: others have to close some first.
                warn!(%error, "the socket for weights cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: &UnixStream, room: &Arc<Room>) -> io::Result<()> {
    let outcome = match tokio::time::timeout(REQUEST_LIMIT, receive(stream)).await?? {
        None => Err(Refusal::NoFile),
        Some(file) => {
            let room = Arc::clone(room);
            let reading = move || room.store.exchange(&room.holder, &room.ended, &file);
            tokio::task::spawn_blocking(reading).await?
        }
    };
    let instance = &room.holder.instance;
    let opened = outcome.and_then(|given| Ok((given.memory.reader()?, given)));
    let (answer, memory) = match opened {
        Ok((memory, Given { memory: kept, digest })) => {
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let bytes = Bytes(kept.bytes());
            info!(%instance, digest, %bytes, "weights are shared");
            let digest = format!("sha256:{digest}");
            (WeightsAnswer::Shared { digest, bytes }, Some(memory))
        }
        Err(refusal) => {
            metrics::weights_given("refused");
            let because = readiness::because(&refusal);
            info!(%instance, because, "weights are not shared");
            (WeightsAnswer::Refused { because }, None)
        }
    };
    send(stream, &answer, memory.as_ref()).await
}

/// The descriptor that comes with a request; none if there is none with it.
async fn receive(stream: &UnixStream) -> io::Result<Option<File>> {
    let (mut line, mut file) = (Vec::new(), None);
    while !line.ends_with(b"\n") {
        if line.len() >= MAX_LINE {
            return Err(io::Error::other(format!("a line of more than {MAX_LINE} bytes")));
        }
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || receive_some(stream, &mut line, &mut file)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let _: WeightsRequest = serde_json::from_slice(&line)?;
    Ok(file.map(File::from))
}

fn receive_some(stream: &UnixStream, line: &mut Vec<u8>, file: &mut Option<OwnedFd>) -> io::Result<usize> {
    let mut piece = [0; MAX_LINE];
    // The kernel closes what there is no room for.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut piece)],
        &mut beside,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            *file = descriptors.next();
        }
    }
    line.extend_from_slice(&piece[..received.bytes]);
    Ok(received.bytes)
}

async fn send(stream: &UnixStream, answer: &WeightsAnswer, memory: Option<&File>) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    loop {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let descriptors: Vec<_> = memory.iter().map(|memory| memory.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                beside.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            // One short line on an empty socket goes as a whole.
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(rustix::net::sendmsg(
                stream,
                &[IoSlice::new(&line)],
                &mut beside,
                flags,
            )?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other.map(|_| ()),
        }
    }
}
