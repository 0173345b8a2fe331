//! One lane's connection to the invoker: the Unix socket `control` in the config layer.
//!
//! One JSON object a line, types in `proto::ffs::control`. What the words make a lane do is
//! `life`'s business; that the invoker is gone is said by the end of the received messages.
//!
//! The connection is made at once, because it is the lane's lifeline, and says nothing while Python
//! starts, which may take longer than the invoker keeps a silent connection. One that is closed
//! before the first word is therefore made again; only if nobody listens is the invoker gone.

use proto::ffs::control::{InvokerMessage, LaneMessage, MAX_LINE, TakenUp};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// Longest sentence and place of a `failed`: written as `\u0001` and so on, they still fit a line.
const LONGEST_SENTENCE: usize = 8 * 1024;
const LONGEST_PLACE: usize = 1024;
/// Before a connection that was closed without a word is made again.
const SILENCE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
#[error("the invoker cannot be reached at {}", path.display())]
pub struct Unreachable {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// What the invoker has said, or what was wrong with it.
pub type Heard = Result<InvokerMessage, String>;

/// This side of the connection. What is said is sent even if this is dropped right after; dropping
/// it tells the invoker that nothing more will come.
#[derive(Clone, Debug)]
pub struct Control {
    said: mpsc::UnboundedSender<LaneMessage>,
}

impl Control {
    /// Connects. What the invoker says comes through the receiver, which ends with the connection.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(path: &Path) -> Result<(Self, mpsc::Receiver<Heard>), Unreachable> {
        let unreachable = |source| Unreachable {
            path: path.to_owned(),
            source,
        };
        let stream = UnixStream::connect(path).await.map_err(unreachable)?;
        // Unbounded: a lane says a few lines in its life, and two per turn.
        let (said, to_write) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::channel(16);
        tokio::spawn(keep(path.to_owned(), stream, to_write, tell));
        Ok((Self { said }, heard))
    }

    /// Sends a message after those before it. Whether anybody hears it is seen by the receiver.
    pub fn say(&self, message: LaneMessage) {
        let _ = self.said.send(message);
    }
}

async fn keep(
    path: PathBuf,
    stream: UnixStream,
    mut messages: mpsc::UnboundedReceiver<LaneMessage>,
    tell: mpsc::Sender<Heard>,
) {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let first = loop {
        tokio::select! {
            message = messages.recv() => break message,
            data = reading.fill_buf() => if let Ok([_, ..]) = data {
                break messages.recv().await;
            }
        }
        tokio::time::sleep(SILENCE).await;
        let Ok(again) = UnixStream::connect(&path).await else {
            return;
        };
        let halves = again.into_split();
        (reading, writing) = (BufReader::new(halves.0), halves.1);
    };
    tokio::spawn(write(writing, first, messages));
    read(reading, tell).await;
}

/// Writes until there is nothing more to say; that the socket is dropped then tells the invoker so.
async fn write(
    mut socket: OwnedWriteHalf,
    first: Option<LaneMessage>,
    mut messages: mpsc::UnboundedReceiver<LaneMessage>,
) {
    let mut next = first;
    while let Some(message) = next {
        let mut line = serde_json::to_vec(&shortened(message)).expect("the messages are plain data");
        line.push(b'\n');
        if socket.write_all(&line).await.is_err() {
            return; // `read` sees it too
        }
        next = messages.recv().await;
    }
}

fn shortened(mut message: LaneMessage) -> LaneMessage {
    let shorten = |text: &mut String, most| text.truncate(text.floor_char_boundary(most));
    match &mut message {
        LaneMessage::Failed { sentence, at } => {
            shorten(sentence, LONGEST_SENTENCE);
            if let Some(at) = at {
                shorten(at, LONGEST_PLACE);
            }
        }
        LaneMessage::Assignment(TakenUp {
            error: Some(error), ..
        }) => shorten(error, LONGEST_SENTENCE),
        _ => {}
    }
    message
}

async fn read(mut socket: BufReader<OwnedReadHalf>, tell: mpsc::Sender<Heard>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = MAX_LINE as u64 + 1;
        match (&mut socket).take(most).read_until(b'\n', &mut line).await {
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(n) if n as u64 == most => {
                let _ = tell
                    .send(Err(format!(
                        "a line on the control socket is longer than {MAX_LINE} bytes"
                    )))
                    .await;
                return;
            }
            _ => return,
        }
        if let Some(heard) = decode(&line)
            && tell.send(heard).await.is_err()
        {
            return;
        }
    }
}

/// Reads one line; `None` for a type that this version does not know.
fn decode(line: &[u8]) -> Option<Heard> {
    #[derive(Deserialize)]
    struct Tag {
        r#type: String,
    }
    let read = serde_json::from_slice::<Tag>(line).and_then(|tag| match tag.r#type.as_str() {
        "state" | "turn" | "assignment" => serde_json::from_slice(line).map(Some),
        _ => Ok(None),
    });
    let quoted = || {
        String::from_utf8_lossy(&line[..line.len().min(200)])
            .trim_end()
            .to_owned()
    };
    match read {
        Ok(message) => message.map(Ok),
        Err(error) => Some(Err(format!(
            "the control socket said {:?}, which cannot be read: {error}",
            quoted()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ffs::state::Desired;

    #[test]
    fn unknown_messages_are_ignored_and_broken_ones_are_quoted() {
        assert!(decode(br#"{"type":"applause","loud":true}"#).is_none());
        let state = decode(br#"{"type":"state","schema":"ffs.state/1","epoch":2,"desired":"evict","new":1}"#);
        assert!(matches!(state, Some(Ok(InvokerMessage::State(state))) if state.desired == Desired::Evict));
        let Some(Err(sentence)) = decode(b"{\"type\":\"turn\"}\n") else {
            panic!("a turn needs its number")
        };
        assert_eq!(
            sentence,
            r#"the control socket said "{\"type\":\"turn\"}", which cannot be read: missing field `turn`"#
        );
    }

    #[test]
    fn a_sentence_never_makes_a_line_too_long() {
        for worst in ["\u{1}", "é", "\""] {
            let text = worst.repeat(MAX_LINE);
            let message = shortened(LaneMessage::Failed {
                sentence: text.clone(),
                at: Some(text),
            });
            assert!(
                serde_json::to_vec(&message).expect("plain data").len() < MAX_LINE,
                "{worst:?}"
            );
        }
    }
}
