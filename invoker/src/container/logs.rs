//! Lines that a container wrote, in the shape of the activation record.
//!
//! Where lines come from is the engine's business. Limits count what docker's json-file driver would
//! write for a line, with both engines, so that an action's logs end at the same line everywhere.
//! Source: `DockerToActivationLogStore.scala`; contract C-61 … C-69.

use super::Logs;
use proto::unit::Bytes;
use std::time::SystemTime;
use time::OffsetDateTime;

/// Ends one activation's output, on each stream; such a line is never shown.
pub const SENTINEL: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX";

/// Docker cuts longer lines into several entries.
pub const LONGEST_ENTRY: usize = 16 * 1024;

/// E-21
pub const COLLECTION_FAILED: &str = "There was an issue while collecting your logs. Data might be missing.";

/// E-20
fn truncated(limit: Bytes) -> String {
    format!(
        "Logs were truncated because the total bytes size exceeds the limit of {} bytes.",
        limit.0
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One entry of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub time: SystemTime,
    pub stream: Stream,
    /// Without its line end.
    pub text: String,
    /// Whether a line end followed: the last piece of a long line has one, the others have none.
    pub is_ended: bool,
}

impl Entry {
    pub fn is_sentinel(&self) -> bool {
        self.text.contains(SENTINEL)
    }

    /// Size of `{"log":"…\n","stream":"…","time":"…"}` and its line end.
    pub fn raw_size(&self) -> u64 {
        let time = 20 + fraction(self.time).len();
        let frame = r#"{"log":"","stream":"","time":""}"#.len() + 1;
        let end = if self.is_ended { 2 } else { 0 };
        let escaped: usize = self.text.chars().map(escaped_size).sum();
        (frame + self.stream.name().len() + time + escaped + end) as u64
    }
}

/// Bytes that docker's encoder writes for a character.
fn escaped_size(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => 6,
        _ => c.len_utf8(),
    }
}

/// Puts one activation's entries into the record's shape, up to the limit.
pub fn collect(entries: impl IntoIterator<Item = Entry>, limit: Bytes) -> Logs {
    let mut collector = Collector::new(limit);
    for entry in entries {
        let line = || log_line(entry.time, entry.stream.name(), &entry.text);
        if !collector.add(entry.raw_size(), entry.is_sentinel(), line) {
            break;
        }
    }
    collector.logs
}

/// Lines of one activation, up to the limit (C-66).
#[derive(Debug)]
pub struct Collector {
    limit: Bytes,
    size: u64,
    pub logs: Logs,
}

impl Collector {
    pub fn new(limit: Bytes) -> Self {
        Self {
            limit,
            size: 0,
            logs: Logs::default(),
        }
    }

    /// Takes a line of `raw` bytes in docker's file; one with a sentinel counts and is not shown. False: the
    /// limit is reached, the line was left out, and that was noted.
    pub fn add(&mut self, raw: u64, is_sentinel: bool, line: impl FnOnce() -> String) -> bool {
        self.size += raw;
        if self.size > self.limit.0 {
            let note = if raw > self.limit.0 {
                COLLECTION_FAILED.to_owned()
            } else {
                truncated(self.limit)
            };
            self.logs.fail(&note);
            return false;
        }
        if !is_sentinel {
            self.logs.lines.push(line());
        }
        true
    }
}

/// `2026-01-01T00:00:00.5Z         stdout: text` for a time as docker wrote it (C-67).
pub fn line_of(time: &str, stream: &str, text: &str) -> String {
    format!("{time:<30} {stream}: {text}")
}

impl Logs {
    /// Appends a note as if it had been written just now, and marks the container as not to be used again.
    pub fn fail(&mut self, note: &str) {
        self.note(note);
        self.failed = true;
    }

    /// The same for a container that may be used on.
    pub fn note(&mut self, note: &str) {
        self.lines
            .push(log_line(SystemTime::now(), Stream::Stderr.name(), note));
    }

    /// Nothing could be read at all (C-69).
    pub fn unreadable() -> Self {
        Self {
            lines: vec![COLLECTION_FAILED.to_owned()],
            failed: true,
        }
    }
}

/// `2026-01-01T00:00:00.123456789Z stdout: text`, with the time padded to 30 columns.
pub fn log_line(time: SystemTime, stream: &str, text: &str) -> String {
    let utc = OffsetDateTime::from(time);
    let stamp = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z",
        utc.year(),
        u8::from(utc.month()),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second(),
        fraction(time)
    );
    line_of(&stamp, stream, text)
}

/// `.5`, as Go writes it: without zeros at the end.
fn fraction(time: SystemTime) -> String {
    let digits = format!(".{:09}", OffsetDateTime::from(time).nanosecond());
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_begins_in_the_same_column_whatever_its_time() {
        for (nanos, line) in [
            (123_456_789, "2026-01-01T00:00:00.123456789Z stdout: x"),
            (120_000_000, "2026-01-01T00:00:00.12Z        stdout: x"),
            (0, "2026-01-01T00:00:00Z           stdout: x"),
        ] {
            assert_eq!(log_line(at(nanos), "stdout", "x"), line);
        }
    }

    #[test]
    fn the_size_of_an_entry_is_that_of_dockers_line() {
        for (entry, raw) in [
            (
                entry("hello"),
                r#"{"log":"hello\n","stream":"stdout","time":"2026-01-01T00:00:00.5Z"}"#,
            ),
            (
                entry("<a>\t\"é\"\\"),
                r#"{"log":"\u003ca\u003e\t\"é\"\\\n","stream":"stdout","time":"2026-01-01T00:00:00.5Z"}"#,
            ),
            (
                Entry {
                    is_ended: false,
                    stream: Stream::Stderr,
                    ..entry("part")
                },
                r#"{"log":"part","stream":"stderr","time":"2026-01-01T00:00:00.5Z"}"#,
            ),
        ] {
            assert_eq!(entry.raw_size(), raw.len() as u64 + 1, "{raw}");
        }
    }

    #[test]
    fn sentinels_are_not_shown_but_count() {
        let entries = [entry("a"), entry(&format!("b {SENTINEL} c")), entry("d")];
        let all = entries.iter().map(Entry::raw_size).sum();
        let logs = collect(entries.clone(), Bytes(all));
        assert_eq!(texts(&logs), ["stdout: a", "stdout: d"]);
        assert!(!logs.failed);
        assert!(collect(entries, Bytes(all - 1)).failed);
    }

    #[test]
    fn the_line_that_passes_the_limit_is_left_out_whole_and_said() {
        let entries = [entry("a"), entry("b"), entry("c")];
        let limit = entries[0].raw_size() + entries[1].raw_size();
        let logs = collect(entries, Bytes(limit));
        let note = format!(
            "stderr: Logs were truncated because the total bytes size exceeds the limit of {limit} bytes."
        );
        assert_eq!(texts(&logs), ["stdout: a", "stdout: b", &note]);
        assert!(logs.failed);
    }

    #[test]
    fn a_single_line_beyond_the_limit_is_an_issue() {
        let logs = collect([entry(&"x".repeat(2000))], Bytes(1024));
        assert_eq!(texts(&logs), [format!("stderr: {COLLECTION_FAILED}")]);
        assert!(logs.failed);
    }

    fn at(nanos: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600) + Duration::from_nanos(nanos)
    }

    fn entry(text: &str) -> Entry {
        Entry {
            time: at(500_000_000),
            stream: Stream::Stdout,
            text: text.to_owned(),
            is_ended: true,
        }
    }

    fn texts(logs: &Logs) -> Vec<&str> {
        logs.lines.iter().map(|line| &line[31..]).collect()
    }
}
