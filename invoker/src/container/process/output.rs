//! What a container writes: cut into lines as it comes, and kept until it is asked for.
//!
//! Our runtime ends each activation's output with the sentinel on both streams, and in lanes with
//! the activation's id behind it, since activations overlap there. So the output between two
//! sentinels of a stream is one activation's, and two such segments make up its logs.

use crate::container::logs::{self, COLLECTION_FAILED, Entry, LONGEST_ENTRY, SENTINEL, Stream};
use crate::container::{LogRequest, Logs};
use proto::id::ActivationId;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// Nothing new for so long: the sentinels will not come (C-65).
const SILENCE: Duration = Duration::from_secs(2);
/// Of standard error, for the sentence that says why a container ended.
const LAST_WORDS: usize = 400;

/// Both streams of a container.
#[derive(Debug)]
pub(super) struct Output {
    capacity: usize,
    streams: Mutex<[Captured; 2]>,
    /// Counts what has come; waiters look again when it changes.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Captured {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    open: Segment,
    closed: VecDeque<Segment>,
    last_words: String,
}

/// What one stream carried up to a sentinel.
#[derive(Debug, Default)]
struct Segment {
    entries: Vec<Entry>,
    size: usize,
    /// Whether there was more than is kept.
    is_cut: bool,
    /// What stood behind the sentinel.
    activation: Option<String>,
}

impl Output {
    /// Keeps at most `capacity` bytes of each stream; the oldest output that nobody asked for goes first.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            streams: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }

    /// Reads a stream to its end.
    pub(super) async fn capture(&self, stream: Stream, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; LONGEST_ENTRY];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            self.with(|streams| streams[stream as usize].add(stream, &buffer[..n], self.capacity));
            self.news.send_modify(|count| *count += 1);
        }
        self.with(|streams| streams[stream as usize].end_line(stream, self.capacity));
        self.news.send_modify(|count| *count += 1);
    }

    /// One activation's logs, in the order in which the lines came.
    pub(super) async fn collect(&self, request: LogRequest) -> Logs {
        let is_complete = !request.sentinels || self.wait_for(request).await;
        let mut segments = self.with(|streams| {
            let mut take =
                |stream: usize| streams[stream].take(request.activation, request.sentinels && is_complete);
            let mut segments = take(0);
            segments.extend(take(1));
            segments
        });
        let is_cut = segments.iter().any(|segment| segment.is_cut);
        let mut entries: Vec<Entry> = segments.drain(..).flat_map(|segment| segment.entries).collect();
        entries.sort_by_key(|entry| entry.time);
        let mut logs = logs::collect(entries, request.limit);
        if (is_cut || !is_complete) && !logs.failed {
            logs.fail(COLLECTION_FAILED);
        }
        logs
    }

    /// The end of what was written to standard error, in one line.
    pub(super) fn last_words(&self) -> Option<String> {
        self.with(|streams| {
            let words = streams[Stream::Stderr as usize].last_words.trim();
            (!words.is_empty()).then(|| words.to_owned())
        })
    }

    /// Until both streams have the activation's sentinel, or it is no longer to be expected.
    async fn wait_for(&self, request: LogRequest) -> bool {
        let megabytes = u32::try_from(request.limit.as_mib()).unwrap_or(u32::MAX);
        let wait = async {
            let mut news = self.news.subscribe();
            loop {
                news.mark_unchanged();
                if self.with(|streams| streams.iter().all(|stream| stream.has(request.activation))) {
                    return true;
                }
                if tokio::time::timeout(SILENCE, news.changed()).await.is_err() {
                    return false;
                }
            }
        };
        let longest = SILENCE.saturating_mul(megabytes.max(5));
        tokio::time::timeout(longest, wait).await.unwrap_or(false)
    }

    fn with<T>(&self, use_them: impl FnOnce(&mut [Captured; 2]) -> T) -> T {
        use_them(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Captured {
    fn add(&mut self, stream: Stream, mut bytes: &[u8], capacity: usize) {
        while !bytes.is_empty() {
            let room = LONGEST_ENTRY - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(window.len());
            self.partial.extend_from_slice(&window[..taken]);
            bytes = &bytes[end.map_or(taken, |end| end + 1)..];
            if end.is_some() || self.partial.len() == LONGEST_ENTRY {
                self.push(stream, end.is_some(), capacity);
            }
        }
    }

    fn end_line(&mut self, stream: Stream, capacity: usize) {
        if !self.partial.is_empty() {
            self.push(stream, false, capacity);
        }
    }

    fn push(&mut self, stream: Stream, is_ended: bool, capacity: usize) {
        let text = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        let entry = Entry {
            time: SystemTime::now(),
            stream,
            text,
            is_ended,
        };
        if stream == Stream::Stderr && !entry.is_sentinel() && !entry.text.trim().is_empty() {
            self.last_words = entry.text.chars().take(LAST_WORDS).collect();
        }
        let behind = entry
            .text
            .split_once(SENTINEL)
            .map(|(_, behind)| behind.trim().to_owned());
        self.make_room(entry.text.len(), capacity);
        if self.open.size + entry.text.len() <= capacity {
            self.open.size += entry.text.len();
            self.open.entries.push(entry);
        } else {
            self.open.is_cut = true;
        }
        if let Some(behind) = behind {
            self.open.activation = Some(behind).filter(|id| !id.is_empty());
            self.closed.push_back(std::mem::take(&mut self.open));
        }
    }

    /// Output of activations whose logs nobody wanted goes first.
    fn make_room(&mut self, more: usize, capacity: usize) {
        let mut kept = self.open.size + self.closed.iter().map(|segment| segment.size).sum::<usize>();
        while kept + more > capacity
            && let Some(oldest) = self.closed.pop_front()
        {
            kept -= oldest.size;
        }
    }

    fn has(&self, activation: ActivationId) -> bool {
        self.closed.iter().any(|segment| segment.is_of(activation))
    }

    /// Up to the activation's sentinel; or, if that is not asked for, all that can be the activation's.
    fn take(&mut self, activation: ActivationId, up_to_sentinel: bool) -> Vec<Segment> {
        let mut taken = Vec::new();
        if up_to_sentinel {
            let own = self.closed.iter().position(|segment| segment.is_of(activation));
            taken.extend(own.and_then(|own| self.closed.remove(own)));
        } else {
            for segment in std::mem::take(&mut self.closed) {
                if segment.is_of(activation) {
                    taken.push(segment)
                } else {
                    self.closed.push_back(segment)
                }
            }
            taken.push(std::mem::take(&mut self.open));
        }
        taken
    }
}

impl Segment {
    /// A segment without an id is whoever's comes first.
    fn is_of(&self, activation: ActivationId) -> bool {
        self.activation
            .as_ref()
            .is_none_or(|id| *id == activation.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::unit::Bytes;

    const FIRST: ActivationId = ActivationId::from_u128(1);
    const SECOND: ActivationId = ActivationId::from_u128(2);

    #[tokio::test]
    async fn each_activation_gets_what_was_written_up_to_its_sentinel() {
        let output = Output::new(1 << 20);
        write(
            &output,
            Stream::Stdout,
            &format!("init\na\n{SENTINEL}\nb\n{SENTINEL}\n"),
        )
        .await;
        write(
            &output,
            Stream::Stderr,
            &format!("{SENTINEL}\nwarning\n{SENTINEL}\n"),
        )
        .await;
        assert_eq!(
            texts(&output.collect(waiting(FIRST)).await),
            ["stdout: init", "stdout: a"]
        );
        assert_eq!(
            texts(&output.collect(waiting(SECOND)).await),
            ["stdout: b", "stderr: warning"]
        );
    }

    #[tokio::test]
    async fn parallel_activations_are_told_apart_by_their_ids() {
        let output = Output::new(1 << 20);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let text = format!("second\n{SENTINEL} {SECOND}\nfirst\n{SENTINEL} {FIRST}\n");
            write(&output, stream, &text).await;
        }
        assert_eq!(
            texts(&output.collect(waiting(FIRST)).await),
            ["stdout: first", "stderr: first"]
        );
        assert_eq!(
            texts(&output.collect(waiting(SECOND)).await),
            ["stdout: second", "stderr: second"]
        );
    }

    #[tokio::test]
    async fn lines_are_in_the_order_in_which_they_came() {
        let output = Output::new(1 << 20);
        for (stream, text) in [
            (Stream::Stdout, "one\n"),
            (Stream::Stderr, "two\n"),
            (Stream::Stdout, "three\n"),
        ] {
            write(&output, stream, text).await;
        }
        let now = LogRequest {
            sentinels: false,
            ..waiting(FIRST)
        };
        assert_eq!(
            texts(&output.collect(now).await),
            ["stdout: one", "stderr: two", "stdout: three"]
        );
        assert_eq!(texts(&output.collect(now).await), Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sentinel_that_never_comes_is_not_waited_for_for_ever() {
        let output = Output::new(1 << 20);
        write(&output, Stream::Stdout, "half\n").await;
        let logs = output.collect(waiting(FIRST)).await;
        assert_eq!(
            texts(&logs),
            ["stdout: half".to_owned(), format!("stderr: {COLLECTION_FAILED}")]
        );
        assert!(logs.failed);
    }

    #[tokio::test(start_paused = true)]
    async fn nor_is_one_behind_an_endless_drip() {
        let output = std::sync::Arc::new(Output::new(1 << 20));
        let dripping = std::sync::Arc::clone(&output);
        let drip = tokio::spawn(async move {
            loop {
                write(&dripping, Stream::Stdout, "drip\n").await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = tokio::time::Instant::now();
        assert!(output.collect(waiting(FIRST)).await.failed);
        assert_eq!(
            began.elapsed(),
            Duration::from_secs(20),
            "twice the log limit of 10 MB in seconds"
        );
        drip.abort();
    }

    #[tokio::test]
    async fn sentinels_that_come_late_are_waited_for() {
        let output = Output::new(1 << 20);
        write(&output, Stream::Stdout, &format!("a\n{SENTINEL}\n")).await;
        let late = async {
            tokio::task::yield_now().await;
            write(&output, Stream::Stderr, &format!("b\n{SENTINEL}\n")).await;
        };
        let (logs, ()) = tokio::join!(output.collect(waiting(FIRST)), late);
        assert_eq!(texts(&logs), ["stdout: a", "stderr: b"]);
        assert!(!logs.failed);
    }

    #[tokio::test]
    async fn long_lines_are_cut_as_docker_cuts_them() {
        let output = Output::new(1 << 20);
        write(
            &output,
            Stream::Stdout,
            &format!("{}\nshort\nno end", "x".repeat(40_000)),
        )
        .await;
        let now = LogRequest {
            sentinels: false,
            ..waiting(FIRST)
        };
        let logs = output.collect(now).await;
        let lengths: Vec<_> = texts(&logs)
            .iter()
            .map(|text| text.len() - "stdout: ".len())
            .collect();
        assert_eq!(lengths, [16384, 16384, 7232, 5, 6]);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_are_replaced() {
        let output = Output::new(1 << 20);
        output.capture(Stream::Stdout, &b"a\xff\xfe\n"[..]).await;
        let now = LogRequest {
            sentinels: false,
            ..waiting(FIRST)
        };
        assert_eq!(texts(&output.collect(now).await), ["stdout: a\u{fffd}\u{fffd}"]);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_does_not_fill_the_memory() {
        let output = Output::new(10_000);
        for n in 0..100 {
            write(
                &output,
                Stream::Stdout,
                &format!("{n} {}\n{SENTINEL}\n", "x".repeat(1000)),
            )
            .await;
        }
        let kept = output.with(|streams| {
            streams[0]
                .closed
                .iter()
                .map(|segment| segment.size)
                .sum::<usize>()
        });
        assert!(kept <= 10_000, "{kept}");
    }

    #[tokio::test]
    async fn a_flood_is_cut_and_its_sentinel_still_found() {
        let output = Output::new(10_000);
        for _ in 0..100 {
            write(&output, Stream::Stdout, &format!("{}\n", "x".repeat(1000))).await;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            write(&output, stream, &format!("{SENTINEL}\n")).await;
        }
        let logs = output.collect(waiting(FIRST)).await;
        assert!(logs.failed);
        assert!((2..12).contains(&logs.lines.len()), "{}", logs.lines.len());
    }

    async fn write(output: &Output, stream: Stream, text: &str) {
        output.capture(stream, text.as_bytes()).await;
    }

    fn waiting(activation: ActivationId) -> LogRequest {
        LogRequest {
            activation,
            limit: Bytes::mib(10),
            sentinels: true,
        }
    }

    fn texts(logs: &Logs) -> Vec<&str> {
        logs.lines.iter().map(|line| &line[31..]).collect()
    }
}
