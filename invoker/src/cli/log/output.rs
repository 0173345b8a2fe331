//! Lines on their way out: gathered for some milliseconds, so that many of them cost one write.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a line may wait for others.
const DELAY: Duration = Duration::from_millis(10);
/// With more than this nobody waits any longer, in bytes.
const MOST: usize = 256 << 10;

/// A sink that takes whole lines from any thread and keeps their order.
#[derive(Debug)]
pub(super) struct Output<W>(Arc<Shared<W>>);

#[derive(Debug)]
struct Shared<W> {
    /// Locked before `waiting`, so that lines are written in the order in which they came.
    sink: Mutex<W>,
    waiting: Mutex<Vec<u8>>,
    /// Notified when something waits that did not before.
    some: Condvar,
}

impl<W> Clone for Output<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write + Send + 'static> Output<W> {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(sink: W) -> io::Result<Self> {
        let output = Self(Arc::new(Shared {
            sink: Mutex::new(sink),
            waiting: Mutex::default(),
            some: Condvar::new(),
        }));
        let written = output.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || written.write_all())?;
        Ok(output)
    }

    /// Takes a line with its end. An urgent one is written, with all before it, before this returns.
    pub(super) fn line(&self, line: &[u8], is_urgent: bool) {
        let (first, many) = {
            let mut waiting = lock(&self.0.waiting);
            let first = waiting.is_empty();
            waiting.extend_from_slice(line);
            (first, waiting.len() > MOST)
        };
        if is_urgent || many {
            self.flush();
        } else if first {
            self.0.some.notify_one();
        }
    }

    /// Returns when every line is written. What cannot be written is lost: there is nobody to tell.
    pub(super) fn flush(&self) {
        let mut sink = lock(&self.0.sink);
        let lines = std::mem::take(&mut *lock(&self.0.waiting));
        let _ = sink.write_all(&lines).and_then(|()| sink.flush());
    }

    fn write_all(&self) {
        loop {
            let waiting = lock(&self.0.waiting);
            let some = self.0.some.wait_while(waiting, |waiting| waiting.is_empty());
            drop(some.unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(DELAY);
            self.flush();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Tells what each write was given.
    struct Writes(mpsc::Sender<String>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.0.send(text).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_urgent_line_takes_along_what_waits_before_it() {
        let (writes, written) = mpsc::channel();
        let output = Output::start(Writes(writes)).expect("a thread");
        // Nothing leaves while somebody else is writing.
        let sink = lock(&output.0.sink);
        output.line(b"one\n", false);
        output.line(b"two\n", false);
        drop(sink);
        output.line(b"three\n", true);
        assert_eq!(written.try_iter().collect::<String>(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_line_leaves_by_itself() {
        let (writes, written) = mpsc::channel();
        let output = Output::start(Writes(writes)).expect("a thread");
        for line in ["one\n", "two\n"] {
            output.line(line.as_bytes(), false);
            assert_eq!(written.recv().expect("it is written"), line);
        }
    }

    #[test]
    fn lines_of_many_threads_stay_whole_and_are_all_written() {
        let (writes, written) = mpsc::channel();
        let output = Output::start(Writes(writes)).expect("a thread");
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let output = &output;
                scope.spawn(move || {
                    for n in 0..500 {
                        output.line(format!("{name} {n}\n").as_bytes(), n % 100 == 0);
                    }
                });
            }
        });
        output.flush();
        let text: String = written.try_iter().collect();
        for name in ["a", "b", "c", "d"] {
            let own = text
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            assert!(own.map(|n| n.parse().ok()).eq((0..500).map(Some)), "{name}");
        }
    }
}
