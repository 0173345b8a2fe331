//! A container's output, from the file that Docker's json-file driver writes.
//!
//! The file stays open; whether Docker has begun another one is looked at where it ends. Usually the sentinels are
//! there when the answer is, or a millisecond later: so it is looked again soon, then every 5 ms.
//!
//! With one run at a time an activation's lines end at the second sentinel. With several at a time
//! [`Segments`] says whose lines are whose. Source: `DockerToActivationLogStore.scala`,
//! `DockerClientWithFileAccess.scala`; contract C-60 … C-74.

use super::segments::Segments;
use crate::container::logs::{COLLECTION_FAILED, Collector, SENTINEL, line_of};
use crate::container::{LogRequest, Logs};
use serde::Deserialize;
use std::borrow::Cow;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Nothing new for so long: the sentinels will not come (C-65).
const SILENCE: Duration = Duration::from_secs(2);
/// Between looks at the file: growing to what the original has.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// Read at once: what one activation usually prints, then more.
const FIRST_CHUNK: usize = 4 << 10;
const CHUNK: usize = 64 << 10;

/// Where reading has come to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// The same file as Docker names it, for a process that runs on the host itself.
    on_host: Option<PathBuf>,
    /// None before the first look.
    file: Option<File>,
    offset: u64,
    /// None: one run at a time.
    segments: Option<Segments>,
}

/// `{"log":"text\n","stream":"stdout","time":"…"}`; whatever else there is is ignored (C-61).
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) log: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) stream: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) time: Cow<'a, str>,
}

impl Line<'_> {
    pub(super) fn is_sentinel(&self) -> bool {
        self.log.contains(SENTINEL)
    }

    /// In the shape of the record.
    pub(super) fn shown(&self) -> String {
        let text = self.log.strip_suffix('\n').unwrap_or(&self.log);
        line_of(&self.time, &self.stream, text.strip_suffix('\r').unwrap_or(text))
    }
}

impl LogFile {
    /// `containers` is Docker's directory of that name as we see it (C-62); most `/run` at once.
    pub(super) fn new(containers: &Path, id: &str, concurrency: u32) -> Self {
        Self {
            path: containers.join(id).join(format!("{id}-json.log")),
            on_host: None,
            file: None,
            offset: 0,
            segments: (concurrency > 1).then(Segments::default),
        }
    }

    pub(super) fn has_path_on_host(&mut self, path: PathBuf) {
        self.on_host = Some(path).filter(|path| !path.as_os_str().is_empty());
    }

    /// Up to the second sentinel, whatever the streams (C-63), or to the present end of the file (C-64); whether
    /// there was anything new.
    fn take_next(&mut self, next: &mut Next, to_sentinels: bool) -> std::io::Result<bool> {
        self.scan(|line, raw| {
            let is_sentinel = line.is_sentinel();
            next.is_over = !next.collector.add(raw, is_sentinel, || line.shown());
            next.sentinels += u32::from(is_sentinel && to_sentinels);
            next.is_over |= next.sentinels == 2;
            if next.is_over {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    /// Reads on, line by line; whether there was anything new. A line whose end is not there yet is left for the
    /// next time.
    fn scan(&mut self, mut each: impl FnMut(&Line<'_>, u64) -> ControlFlow<()>) -> std::io::Result<bool> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        let mut file = self.file.insert(file);
        let (mut buffer, mut chunk) = (Vec::new(), FIRST_CHUNK);
        let (mut is_news, mut is_fresh) = (false, false);
        loop {
            let begin = buffer.len();
            buffer.resize(begin + chunk, 0);
            let read = file.read_at(&mut buffer[begin..], self.offset + begin as u64)?;
            buffer.truncate(begin + read);
            chunk = CHUNK;
            if read == 0 {
                // Docker may have begun another file, or this one anew (C-73).
                if is_fresh || !is_begun_anew(&self.path, file, self.offset)? {
                    return Ok(is_news);
                }
                file = self.file.insert(File::open(&self.path)?);
                (self.offset, is_fresh) = (0, true);
                buffer.clear();
                continue;
            }
            let mut taken = 0;
            while let Some(length) = buffer[taken..].iter().position(|byte| *byte == b'\n') {
                let raw = &buffer[taken..taken + length];
                taken += length + 1;
                self.offset += length as u64 + 1;
                is_news = true;
                let Ok(line) = serde_json::from_slice::<Line<'_>>(raw) else {
                    continue; // torn when Docker was killed
                };
                if each(&line, length as u64 + 1).is_break() {
                    return Ok(true);
                }
            }
            buffer.drain(..taken);
        }
    }

    fn open(&mut self) -> std::io::Result<File> {
        match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let on_host = self.on_host.take().ok_or(error)?;
                let file = File::open(&on_host)?;
                self.path = on_host;
                Ok(file)
            }
            outcome => outcome,
        }
    }
}

/// Whether the file at `path` is not the one that is open, or is shorter than what was read of it.
fn is_begun_anew(path: &Path, open: &File, offset: u64) -> std::io::Result<bool> {
    let now = std::fs::metadata(path)?;
    Ok(now.len() < offset || now.ino() != open.metadata()?.ino())
}

/// What was collected of one activation, where there is one at a time.
#[derive(Debug)]
struct Next {
    collector: Collector,
    sentinels: u32,
    is_over: bool,
}

/// One activation's lines; each line is given out once.
pub(super) async fn collect(log: &Mutex<LogFile>, request: LogRequest) -> Logs {
    let is_shared = lock(log).segments.is_some();
    if is_shared {
        collect_own(log, request).await
    } else {
        collect_next(log, request).await
    }
}

async fn collect_next(log: &Mutex<LogFile>, request: LogRequest) -> Logs {
    let mut next = Next {
        collector: Collector::new(request.limit),
        sentinels: 0,
        is_over: false,
    };
    let mut patience = Patience::new(request);
    loop {
        let scanned = lock(log).take_next(&mut next, request.sentinels);
        let Ok(is_news) = scanned else {
            return unreadable(next.collector.logs);
        };
        if next.is_over || !request.sentinels {
            return next.collector.logs;
        }
        if !patience.wait(is_news).await {
            next.collector.logs.fail(COLLECTION_FAILED);
            return next.collector.logs;
        }
    }
}

/// What [`Segments`] says is the activation's. The file is free for others while this waits.
async fn collect_own(log: &Mutex<LogFile>, request: LogRequest) -> Logs {
    let mut patience = Patience::new(request);
    let mut seen = 0;
    loop {
        let is_news = {
            let mut log = lock(log);
            let mut segments = log.segments.take().unwrap_or_default();
            let scanned = log.scan(|line, raw| {
                segments.add(line, raw);
                ControlFlow::Continue(())
            });
            let segments = log.segments.insert(segments);
            if request.sentinels && segments.has(request.activation) {
                return segments.take(request.activation, true, request.limit);
            }
            match scanned {
                Err(_) => return Logs::unreadable(),
                Ok(_) if !request.sentinels => {
                    return segments.take(request.activation, false, request.limit);
                }
                // Others read on, too.
                Ok(_) => std::mem::replace(&mut seen, segments.lines()) != segments.lines(),
            }
        };
        if !patience.wait(is_news).await {
            let mut log = lock(log);
            let segments = log.segments.get_or_insert_default();
            let mut logs = segments.take(request.activation, false, request.limit);
            if segments.carry_ids() && !logs.failed {
                logs.fail(COLLECTION_FAILED);
            } else if !logs.failed {
                // Their number means nothing where runs overlap (C-82); the answer was good.
                logs.note(COLLECTION_FAILED);
            }
            return logs;
        }
    }
}

fn lock(log: &Mutex<LogFile>) -> MutexGuard<'_, LogFile> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// C-69, unless something was read before.
fn unreadable(mut logs: Logs) -> Logs {
    if logs.lines.is_empty() {
        return Logs::unreadable();
    }
    logs.fail(COLLECTION_FAILED);
    logs
}

/// How long sentinels are waited for (C-65).
#[derive(Debug)]
struct Patience {
    last_news: Instant,
    end: Instant,
    pause: Duration,
}

impl Patience {
    fn new(request: LogRequest) -> Self {
        let megabytes = u32::try_from(request.limit.as_mib()).unwrap_or(u32::MAX);
        let now = Instant::now();
        Self {
            last_news: now,
            end: now + SILENCE.saturating_mul(megabytes.max(5)),
            pause: FIRST_PAUSE,
        }
    }

    /// Whether to look again.
    async fn wait(&mut self, is_news: bool) -> bool {
        let now = Instant::now();
        if is_news {
            (self.last_news, self.pause) = (now, FIRST_PAUSE);
        }
        if now >= self.end || now >= self.last_news + SILENCE {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause + FIRST_PAUSE).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests;
