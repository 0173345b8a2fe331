//! Things that begin and end: counted, timed, and marked in the log (N-21, H-36).
//!
//! Source: `TransactionId.scala`, `started`, `finished` and `failed`.

use super::{Counter, Histogram, MARKERS, at};
use proto::whisk::transid::TransactionId;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tracing::info;

tokio::task_local! {
    static TRANSACTION: Transaction;
}

/// For whom something is done: what markers count their milliseconds from.
#[derive(Clone, Debug)]
pub struct Transaction {
    id: Arc<str>,
    /// Milliseconds since the epoch.
    start: i64,
}

impl Transaction {
    /// Everything that `work` begins belongs to this transaction. Tasks that it spawns do not.
    pub async fn scope<F: Future>(transid: &TransactionId, work: F) -> F::Output {
        if !MARKERS.load(Ordering::Relaxed) {
            return work.await;
        }
        let transaction = Self {
            id: transid.id.as_str().into(),
            start: transid.start,
        };
        TRANSACTION.scope(transaction, work).await
    }

    /// The id of the system's own work, such as `sid_invokerNanny` (N-22). It begins with the process.
    pub fn system(id: &str) -> TransactionId {
        TransactionId {
            id: id.to_owned(),
            ..TransactionId::unknown()
        }
    }

    fn current() -> Self {
        let own = |_| {
            let TransactionId { id, start, .. } = Self::system("sid_invoker");
            Self { id: id.into(), start }
        };
        TRANSACTION.try_with(Clone::clone).unwrap_or_else(own)
    }

    fn age_ms(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (i64::try_from(now.as_millis()).unwrap_or(i64::MAX) - self.start).max(0)
    }
}

/// Something that begins, and then finishes or fails.
#[derive(Debug)]
pub struct Timed {
    /// `<component>_<action>`.
    what: &'static str,
    /// Begun, finished, failed.
    counted: [Counter; 3],
    /// Time until finished, until failed.
    timed: [Histogram; 2],
}

impl Timed {
    pub(super) const fn new(what: &'static str, counted: [Counter; 3], timed: [Histogram; 2]) -> Self {
        Self { what, counted, timed }
    }

    /// `sub` is the label's value, empty if there is no label.
    pub(super) fn begin(&'static self, sub: &'static str) -> Timing {
        let [started, ..] = &self.counted;
        at(started, labels(&sub)).inc();
        let timing = Timing {
            of: self,
            sub,
            began: Instant::now(),
            ended: false,
        };
        timing.mark("start", None);
        timing
    }
}

fn labels<'a>(sub: &'a &'static str) -> &'a [&'a str] {
    match sub.is_empty() {
        true => &[],
        false => std::slice::from_ref(sub),
    }
}

/// Something that has begun. Dropped without an end, it has failed.
#[must_use = "what has begun ends at once when this is dropped"]
#[derive(Debug)]
pub struct Timing {
    of: &'static Timed,
    sub: &'static str,
    began: Instant,
    ended: bool,
}

impl Timing {
    pub fn finish(mut self) {
        self.end_as(0, "finish");
    }

    pub fn fail(mut self) {
        self.end_as(1, "error");
    }

    pub fn end(self, well: bool) {
        if well { self.finish() } else { self.fail() }
    }

    fn end_as(&mut self, which: usize, state: &str) {
        self.ended = true;
        let took = self.began.elapsed();
        at(&self.of.counted[1 + which], labels(&self.sub)).inc();
        at(&self.of.timed[which], labels(&self.sub)).observe(took.as_secs_f64());
        self.mark(state, Some(took.as_millis()));
    }

    fn mark(&self, state: &str, took_ms: Option<u128>) {
        if !MARKERS.load(Ordering::Relaxed) || !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let transaction = Transaction::current();
        let marker = Marker {
            what: self.of.what,
            sub: self.sub,
            state,
            since_ms: transaction.age_ms(),
            took_ms,
        };
        info!(transid = %transaction.id, %marker);
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        if !self.ended {
            self.end_as(1, "error");
        }
    }
}

/// `invoker_docker.run_finish:212:41`: what follows `marker:` in a line.
#[derive(Clone, Copy, Debug)]
struct Marker<'a> {
    what: &'a str,
    sub: &'a str,
    state: &'a str,
    since_ms: i64,
    took_ms: Option<u128>,
}

impl fmt::Display for Marker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if !self.sub.is_empty() {
            write!(f, ".{}", self.sub)?;
        }
        write!(f, "_{}:{}", self.state, self.since_ms)?;
        match self.took_ms {
            Some(took) => write!(f, ":{took}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Marker;

    /// N-21: markers as log pipelines parse them.
    #[test]
    fn a_marker_says_what_began_or_ended_and_how_long_after_what() {
        let marker = |sub, state, took_ms| {
            Marker {
                what: "invoker_docker",
                sub,
                state,
                since_ms: 212,
                took_ms,
            }
            .to_string()
        };
        assert_eq!(marker("run", "start", None), "invoker_docker.run_start:212");
        assert_eq!(
            marker("run", "finish", Some(41)),
            "invoker_docker.run_finish:212:41"
        );
        assert_eq!(marker("", "error", Some(0)), "invoker_docker_error:212:0");
    }
}
