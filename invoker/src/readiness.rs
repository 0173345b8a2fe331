//! Whether this node can do what it is asked for, judged by what it sees itself (K-53, O-04, O-05).
//!
//! Three things are watched: whether the container engine answers, whether containers start, and
//! whether answers leave. Only faults of the platform count, never those of an action or an image.
//! Each has its hysteresis, and recovers by itself. What follows from it is `health`'s business.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// Failures in a row after which something is held to be broken. One less than the controller needs.
const FAILURES: u32 = 3;
/// Answers in a row, good or bad, that a probe must give to be believed.
const PROBES: u32 = 2;
/// From a break to the next try, which one failure ends; doubled each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the outside is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Ready,
    NotReady { because: String },
}

impl Standing {
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::NotReady { because } => write!(f, "not ready: {because}"),
        }
    }
}

/// Something that is known by how it ends.
#[derive(Debug)]
enum Circuit {
    /// It works; so many failures in a row.
    Closed { failures: u32 },
    /// It does not; it is tried again at `until`.
    Open {
        until: Instant,
        pause: Duration,
        because: String,
    },
    /// It is tried: the next outcome decides.
    Trying { pause: Duration },
}

impl Circuit {
    fn outcome(&mut self, outcome: Result<(), String>, now: Instant) {
        let because = match outcome {
            Ok(()) => return *self = Self::Closed { failures: 0 },
            Err(because) => because,
        };
        let pause = match self {
            Self::Closed { failures } => {
                *failures += 1;
                if *failures < FAILURES {
                    return;
                }
                PAUSE
            }
            Self::Trying { pause } => (*pause * 2).min(LONGEST_PAUSE),
            // Begun before it was broken.
            Self::Open { .. } => return,
        };
        *self = Self::Open {
            until: now + pause,
            pause,
            because,
        };
    }

    fn look(&mut self, now: Instant) {
        if let Self::Open { until, pause, .. } = self
            && now >= *until
        {
            *self = Self::Trying { pause: *pause };
        }
    }

    fn broken(&self) -> Option<&str> {
        match self {
            Self::Open { because, .. } => Some(because),
            Self::Closed { .. } | Self::Trying { .. } => None,
        }
    }
}

/// Something that is asked.
#[derive(Debug)]
enum Probe {
    /// It answers; so many times in a row it did not.
    Up { bad: u32 },
    /// It does not; so many times in a row it did.
    Down { good: u32, because: String },
}

impl Probe {
    fn outcome(&mut self, outcome: Result<(), String>) {
        *self = match (&*self, outcome) {
            (Self::Up { .. }, Ok(())) => Self::Up { bad: 0 },
            (Self::Up { bad }, Err(_)) if bad + 1 < PROBES => Self::Up { bad: bad + 1 },
            (Self::Up { .. } | Self::Down { .. }, Err(because)) => Self::Down { good: 0, because },
            (Self::Down { good, because }, Ok(())) if good + 1 < PROBES => Self::Down {
                good: good + 1,
                because: because.clone(),
            },
            (Self::Down { .. }, Ok(())) => Self::Up { bad: 0 },
        };
    }
}

/// Containers that start, and those that do not. One bad image says nothing about the node: failures count
/// if the image has started before, or if several images fail.
#[derive(Debug)]
struct Starts {
    circuit: Circuit,
    /// Images that have started; the first [`IMAGES`] of them.
    good: HashSet<String>,
    /// Images that have failed since one last started.
    failing: HashSet<String>,
}

/// How many images are remembered.
const IMAGES: usize = 256;

impl Starts {
    fn outcome(&mut self, image: &str, outcome: Result<(), String>, now: Instant) {
        if outcome.is_ok() {
            self.failing.clear();
            if self.good.len() < IMAGES {
                self.good.insert(image.to_owned());
            }
        } else {
            if self.failing.len() < IMAGES {
                self.failing.insert(image.to_owned());
            }
            if !self.good.contains(image) && self.failing.len() < 2 {
                return;
            }
        }
        self.circuit.outcome(outcome, now);
    }
}

#[derive(Debug)]
struct State {
    engine: Probe,
    starts: Starts,
    answers: Circuit,
}

impl State {
    fn new() -> Self {
        Self {
            engine: Probe::Up { bad: 0 },
            starts: Starts {
                circuit: Circuit::Closed { failures: 0 },
                good: HashSet::new(),
                failing: HashSet::new(),
            },
            answers: Circuit::Closed { failures: 0 },
        }
    }

    fn standing(&self) -> Standing {
        let because = match (&self.engine, self.starts.circuit.broken(), self.answers.broken()) {
            (Probe::Down { because, .. }, _, _) => format!("the container engine does not answer: {because}"),
            (Probe::Up { .. }, Some(because), _) => format!("containers do not start: {because}"),
            (Probe::Up { .. }, None, Some(because)) => format!("answers do not leave: {because}"),
            (Probe::Up { .. }, None, None) => return Standing::Ready,
        };
        Standing::NotReady { because }
    }
}

/// Told what is seen; anyone may watch what follows from it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    standing: watch::Sender<Standing>,
}

impl Default for Readiness {
    /// Ready until the contrary is seen.
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new()),
            standing: watch::Sender::new(Standing::Ready),
        }))
    }
}

impl Readiness {
    /// A container of this image has started, or has not by a fault of the platform.
    pub fn container(&self, image: &str, outcome: Result<(), String>) {
        self.change(|state, now| state.starts.outcome(image, outcome, now));
    }

    /// An answer has left for the controller, or could not.
    pub fn answer(&self, outcome: Result<(), String>) {
        self.change(|state, now| state.answers.outcome(outcome, now));
    }

    /// The container engine was asked whether it is there. Time passes with each probe.
    pub fn engine(&self, outcome: Result<(), String>) {
        self.change(|state, now| {
            state.engine.outcome(outcome);
            state.starts.circuit.look(now);
            state.answers.look(now);
        });
    }

    pub fn standing(&self) -> Standing {
        self.0.standing.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut State, Instant)) {
        let mut state = self.0.state.lock().expect("no holder panics");
        change(&mut state, Instant::now());
        let now = state.standing();
        self.0.standing.send_if_modified(|before| {
            let changed = before.is_ready() != now.is_ready();
            match (&now, changed) {
                (Standing::Ready, true) => info!("ready again"),
                (Standing::NotReady { because }, true) => warn!(because, "not ready: work is not asked for"),
                (_, false) => {}
            }
            *before = now;
            changed
        });
    }
}

/// An error with all its causes on one line.
pub fn because(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Result<(), String> {
        Err("no space left".to_owned())
    }

    async fn after(readiness: &Readiness, time: Duration) {
        tokio::time::advance(time).await;
        readiness.engine(Ok(()));
    }

    /// K-53, O-05, O-06: failures of creation in a row say that nothing can be started; one success between
    /// them, as under load, says the contrary.
    #[tokio::test(start_paused = true)]
    async fn three_containers_in_a_row_that_do_not_start_make_a_node_that_is_not_ready() {
        let readiness = Readiness::default();
        for outcome in [Ok(()), broken(), broken(), Ok(()), broken(), broken()] {
            readiness.container("nodejs", outcome);
            assert!(readiness.standing().is_ready());
        }
        readiness.container("nodejs", broken());
        let because = "containers do not start: no space left".to_owned();
        assert_eq!(readiness.standing(), Standing::NotReady { because });
    }

    /// K-53, O-06: an image that never starts is nobody's fault but its own; when others fail too it is the node.
    #[tokio::test(start_paused = true)]
    async fn one_bad_image_does_not_make_a_bad_node() {
        let readiness = Readiness::default();
        (0..9).for_each(|_| readiness.container("ghost", broken()));
        assert!(readiness.standing().is_ready());
        readiness.container("nodejs", Ok(()));
        (0..9).for_each(|_| readiness.container("ghost", broken()));
        assert!(readiness.standing().is_ready());
        readiness.container("python", broken());
        readiness.container("ghost", broken());
        assert!(readiness.standing().is_ready());
        readiness.container("python", broken());
        assert!(!readiness.standing().is_ready());
    }

    /// K-53: it recovers by itself. One try is let through after a pause; a failure doubles the pause.
    #[tokio::test(start_paused = true)]
    async fn after_a_pause_one_try_decides() {
        let readiness = Readiness::default();
        readiness.container("nodejs", Ok(()));
        (0..3).for_each(|_| readiness.container("nodejs", broken()));
        after(&readiness, PAUSE - Duration::from_millis(1)).await;
        assert!(!readiness.standing().is_ready());
        after(&readiness, Duration::from_millis(1)).await;
        assert!(readiness.standing().is_ready());

        readiness.container("nodejs", broken());
        assert!(!readiness.standing().is_ready());
        readiness.container("nodejs", broken()); // begun before
        after(&readiness, PAUSE).await;
        assert!(!readiness.standing().is_ready());
        after(&readiness, PAUSE).await;
        assert!(readiness.standing().is_ready());
        readiness.container("nodejs", Ok(()));

        readiness.container("nodejs", broken());
        readiness.container("nodejs", broken());
        assert!(readiness.standing().is_ready(), "all is as at first");
    }

    /// K-53, O-04: an engine that does not answer is believed the second time, and so is one that does again.
    #[tokio::test(start_paused = true)]
    async fn a_probe_is_believed_when_it_says_the_same_twice() {
        let readiness = Readiness::default();
        readiness.engine(broken());
        assert!(readiness.standing().is_ready());
        readiness.engine(Ok(()));
        readiness.engine(broken());
        assert!(readiness.standing().is_ready());
        readiness.engine(broken());
        assert!(!readiness.standing().is_ready());
        readiness.engine(Ok(()));
        readiness.engine(broken());
        readiness.engine(Ok(()));
        assert!(!readiness.standing().is_ready());
        readiness.engine(Ok(()));
        assert!(readiness.standing().is_ready());
    }

    /// K-53: also where the bus does not take answers any more.
    #[tokio::test(start_paused = true)]
    async fn answers_that_do_not_leave_count_too() {
        let readiness = Readiness::default();
        let mut watched = readiness.watch();
        (0..3).for_each(|_| readiness.answer(broken()));
        assert!(watched.has_changed().unwrap());
        assert!(!watched.borrow_and_update().is_ready());
        readiness.answer(Ok(()));
        assert!(watched.borrow_and_update().is_ready());
    }
}
