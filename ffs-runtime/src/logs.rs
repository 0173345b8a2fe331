//! The user's output: one request's lines and both sentinels, written as one block.
//!
//! Lines come two ways. What Python code prints during a request comes with its answer. What is
//! written to file descriptors 1 and 2 directly (native code, child processes, start-up) comes
//! through two pipes; it belongs to the request in flight if there is exactly one, and is written
//! between blocks otherwise. Whoever reads our standard streams takes a block as OpenWhisk does:
//! up to the sentinel on both.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Mutex;

/// Ends one activation's output, on each stream. OpenWhisk's invoker reads up to it (C-63).
pub const SENTINEL: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX";

/// Most that a request's raw output waits for its block in a lane; what is more is written at once.
const HELD_IN_LANE: usize = 1 << 20;
/// A raw line is cut here, so that output without line ends does not gather in memory.
const LONGEST_LINE: usize = 64 * 1024;
/// One read.
const CHUNK: usize = 16 * 1024;
/// Most that a pipe can hold: what was written before an answer is within this much.
const PIPE_CAPACITY: usize = 1 << 20;
/// How much of the last line on standard error is quoted when the process ends.
const LAST_WORDS: usize = 300;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    pub stream: Stream,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a request's block ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockEnd {
    /// As every OpenWhisk runtime ends it.
    Sentinel,
    /// The same with the activation's id behind it, so that a reader can tell apart the blocks of
    /// parallel requests; in lanes only.
    SentinelOf(String),
    /// The request was no activation.
    Nothing,
}

/// Both streams of the Python process, on their way to our own.
#[derive(Debug)]
pub struct Logs {
    pipes: [Receiver; 2],
    hold: usize,
    /// Held while something is written, so that blocks stay whole.
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// The beginning of a line whose end has not come, per stream.
    partial: [Vec<u8>; 2],
    /// Raw output per request in flight.
    requests: BTreeMap<u64, Written>,
    last_words: String,
}

/// Text in the order it came, neighbours of one stream joined.
#[derive(Debug, Default)]
struct Written {
    pieces: Vec<(Stream, Vec<u8>)>,
    bytes: usize,
}

impl Logs {
    /// Takes the reading ends of the process's standard output and error. In a lane, where requests
    /// overlap, raw output waits for its block; else it is written as it comes.
    ///
    /// # Errors
    /// The pipes cannot be watched.
    pub fn new(stdout: OwnedFd, stderr: OwnedFd, lane: bool) -> std::io::Result<Self> {
        Ok(Self {
            pipes: [Receiver::from_owned_fd(stdout)?, Receiver::from_owned_fd(stderr)?],
            hold: if lane { HELD_IN_LANE } else { 0 },
            gathered: Mutex::default(),
        })
    }

    /// Carries one stream until the process and all that inherited it have ended.
    pub async fn pump(&self, stream: Stream) {
        let mut buffer = [0; CHUNK];
        while self.pipe(stream).readable().await.is_ok() {
            let mut gathered = self.gathered.lock().await;
            match self.pipe(stream).try_read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => write(gathered.add(stream, &buffer[..n], self.hold)).await,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    /// A request is about to be sent to the process.
    pub async fn begin(&self, request: u64) {
        self.gathered
            .lock()
            .await
            .requests
            .insert(request, Written::default());
    }

    /// Writes the request's block: raw output, then the lines that came with the answer.
    pub async fn finish(&self, request: u64, lines: &[LogLine], end: &BlockEnd) {
        let mut gathered = self.gathered.lock().await;
        let mut through = self.drain(&mut gathered);
        let mut block = gathered.requests.remove(&request).unwrap_or_default();
        if gathered.requests.is_empty() {
            gathered.end_lines(&mut block);
        }
        for line in lines {
            for text in line.text.lines().chain(line.text.is_empty().then_some("")) {
                block.push(line.stream, text.as_bytes());
            }
        }
        block.end(end);
        through.append(block);
        write(through).await;
    }

    /// Writes both sentinels although no request ran: the action could not be initialised.
    pub async fn end_without_request(&self) {
        self.flush_with(&BlockEnd::Sentinel).await;
    }

    /// Writes what is left, whole line or not.
    pub async fn flush(&self) {
        self.flush_with(&BlockEnd::Nothing).await;
    }

    async fn flush_with(&self, end: &BlockEnd) {
        let mut gathered = self.gathered.lock().await;
        let mut through = self.drain(&mut gathered);
        for (_, held) in std::mem::take(&mut gathered.requests) {
            through.append(held);
        }
        gathered.end_lines(&mut through);
        through.end(end);
        write(through).await;
    }

    /// The last line that the process wrote to standard error; often says why it ended.
    pub async fn last_words(&self) -> Option<String> {
        let mut gathered = self.gathered.lock().await;
        write(self.drain(&mut gathered)).await;
        let partial = String::from_utf8_lossy(&gathered.partial[Stream::Stderr as usize])
            .trim()
            .to_owned();
        let words = if partial.is_empty() {
            gathered.last_words.clone()
        } else {
            partial
        };
        (!words.is_empty()).then(|| words.chars().take(LAST_WORDS).collect())
    }

    /// Takes what is in the pipes now: output that was written before the answer that has just come.
    /// Asks the system, because the event loop may not have heard of it yet.
    fn drain(&self, gathered: &mut Gathered) -> Written {
        let mut through = Written::default();
        let mut buffer = [0; CHUNK];
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut taken = 0;
            while taken < PIPE_CAPACITY {
                match nix::unistd::read(self.pipe(stream), &mut buffer) {
                    Ok(n) if n > 0 => {
                        through.append(gathered.add(stream, &buffer[..n], self.hold));
                        taken += n;
                    }
                    _ => break,
                }
            }
        }
        through
    }

    fn pipe(&self, stream: Stream) -> &Receiver {
        &self.pipes[stream as usize]
    }
}

impl Gathered {
    /// Takes raw output; gives back what nobody is to wait for.
    fn add(&mut self, stream: Stream, bytes: &[u8], hold: usize) -> Written {
        let mut through = Written::default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let partial = &mut self.partial[stream as usize];
            partial.extend_from_slice(piece);
            if partial.ends_with(b"\n") || partial.len() >= LONGEST_LINE {
                let line = std::mem::take(partial);
                self.add_line(
                    stream,
                    line.strip_suffix(b"\n").unwrap_or(&line),
                    hold,
                    &mut through,
                );
            }
        }
        through
    }

    fn add_line(&mut self, stream: Stream, line: &[u8], hold: usize, through: &mut Written) {
        if stream == Stream::Stderr && !line.trim_ascii().is_empty() {
            let kept = &line[..line.len().min(4 * LAST_WORDS)];
            self.last_words = String::from_utf8_lossy(kept).trim().to_owned();
        }
        let mut requests = self.requests.values_mut();
        match (requests.next(), requests.next()) {
            (Some(only), None) => {
                only.push(stream, line);
                if only.bytes > hold {
                    through.append(std::mem::take(only));
                }
            }
            _ => through.push(stream, line),
        }
    }

    /// Ends the lines whose ends will not come.
    fn end_lines(&mut self, block: &mut Written) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(&mut self.partial[stream as usize]);
            if !line.is_empty() {
                block.push(stream, &line);
            }
        }
    }
}

impl Written {
    /// A line without its end. One that holds the sentinel is never shown to a user anyway (C-63),
    /// and would end the block early.
    fn push(&mut self, stream: Stream, line: &[u8]) {
        let sentinel = SENTINEL.as_bytes();
        if line.windows(sentinel.len()).any(|window| window == sentinel) {
            return;
        }
        self.push_text(stream, line);
        self.push_text(stream, b"\n");
    }

    fn push_text(&mut self, stream: Stream, text: &[u8]) {
        self.bytes += text.len();
        match self.pieces.last_mut() {
            Some((last, piece)) if *last == stream => piece.extend_from_slice(text),
            _ => self.pieces.push((stream, text.to_vec())),
        }
    }

    fn append(&mut self, other: Self) {
        for (stream, text) in other.pieces {
            self.push_text(stream, &text);
        }
    }

    fn end(&mut self, end: &BlockEnd) {
        let text = match end {
            BlockEnd::Sentinel => format!("{SENTINEL}\n"),
            BlockEnd::SentinelOf(activation) => format!("{SENTINEL} {activation}\n"),
            BlockEnd::Nothing => return,
        };
        self.push_text(Stream::Stdout, text.as_bytes());
        self.push_text(Stream::Stderr, text.as_bytes());
    }
}

/// Writes to our own streams on a thread of its own: a reader that does not read may hold up the
/// user's requests, but not the lifeline. Who has gone is not told.
async fn write(written: Written) {
    if written.pieces.is_empty() {
        return;
    }
    let write_all = move || {
        for (stream, text) in written.pieces {
            let _ = match stream {
                Stream::Stdout => std::io::stdout()
                    .write_all(&text)
                    .and_then(|()| std::io::stdout().flush()),
                Stream::Stderr => std::io::stderr().write_all(&text),
            };
        }
    };
    let _ = tokio::task::spawn_blocking(write_all).await;
}

/// One line of the runtime's own on standard error.
pub fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "{sentence}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &Written) -> Vec<(Stream, String)> {
        written
            .pieces
            .iter()
            .map(|(stream, text)| (*stream, String::from_utf8_lossy(text).into_owned()))
            .collect()
    }

    #[test]
    fn raw_output_belongs_to_the_only_request_in_flight() {
        let mut gathered = Gathered::default();
        assert_eq!(
            text(&gathered.add(Stream::Stdout, b"before\n", 100)),
            [(Stream::Stdout, "before\n".into())]
        );
        gathered.requests.insert(1, Written::default());
        assert_eq!(text(&gathered.add(Stream::Stdout, b"first ", 100)), []);
        assert_eq!(text(&gathered.add(Stream::Stdout, b"half\nsecond", 100)), []);
        gathered.requests.insert(2, Written::default());
        let shared = gathered.add(Stream::Stdout, b" of two\n", 100);

        assert_eq!(
            text(&gathered.requests[&1]),
            [(Stream::Stdout, "first half\n".into())]
        );
        assert_eq!(text(&gathered.requests[&2]), []);
        assert_eq!(text(&shared), [(Stream::Stdout, "second of two\n".into())]);
    }

    #[test]
    fn more_than_may_be_held_is_written_at_once_and_in_order() {
        let mut gathered = Gathered::default();
        gathered.requests.insert(1, Written::default());
        assert_eq!(text(&gathered.add(Stream::Stderr, b"12345\n", 10)), []);
        let through = gathered.add(Stream::Stdout, b"67890\n", 10);
        assert_eq!(
            text(&through),
            [
                (Stream::Stderr, "12345\n".into()),
                (Stream::Stdout, "67890\n".into())
            ]
        );
        assert_eq!(gathered.requests[&1].bytes, 0);
    }

    #[test]
    fn output_without_line_ends_is_cut() {
        let mut gathered = Gathered::default();
        let through: usize = (0..5)
            .map(|_| gathered.add(Stream::Stdout, &[b'x'; 16 * 1024], 0).bytes)
            .sum();
        assert_eq!(through, LONGEST_LINE + 1);
        assert_eq!(gathered.partial[0].len(), 16 * 1024);
    }

    #[test]
    fn a_line_with_the_sentinel_cannot_end_a_block() {
        let mut block = Written::default();
        block.push(Stream::Stdout, format!("a {SENTINEL} b").as_bytes());
        block.push(Stream::Stdout, b"shown");
        block.end(&BlockEnd::SentinelOf("00ff".into()));
        assert_eq!(
            text(&block),
            [
                (Stream::Stdout, format!("shown\n{SENTINEL} 00ff\n")),
                (Stream::Stderr, format!("{SENTINEL} 00ff\n"))
            ]
        );
    }
}
