//! The state machine: told what has happened and what time it is, asked what to do.
//!
//! ```text
//! event ─► handle ─┬─► pool of ordinary containers ─┬─► commands ─► next_command
//!                  └─► pipelines on slices ─────────┘
//!                         both take from one budget of memory
//! ```
//! Real time (the invoker) and virtual time (the simulator) drive the same one. Source: ours.

use crate::accounting::Accounts;
use crate::command::Command;
use crate::containers::Pool;
use crate::decision::DecisionLog;
use crate::event::Event;
use crate::instant::Instant;
use crate::job::Job;
use crate::memory::Memory;
use crate::pipelines::Pipelines;
use crate::reason::Assigned;
use crate::settings::Settings;
use crate::step::Step;
use crate::view::View;
use crate::work::Request;
use std::collections::VecDeque;
use std::sync::Arc;

/// Decides what runs where. One task owns it; it does nothing by itself.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    memory: Memory,
    pool: Pool,
    pipelines: Pipelines,
    out: VecDeque<Command>,
    /// Activations that have come so far.
    arrivals: u64,
    /// The latest time that it was told.
    now: Instant,
}

impl Scheduler {
    /// Begins with nothing but the commands that start the manifest's stem cells.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let mut memory = Memory::new(settings.user_memory);
        let mut out = VecDeque::new();
        let pool = Pool::new(&mut Step {
            now,
            settings: &settings,
            memory: &mut memory,
            claim: None,
            out: &mut out,
        });
        Self {
            pipelines: Pipelines::new(&settings),
            settings,
            memory,
            pool,
            out,
            arrivals: 0,
            now,
        }
    }

    /// Tells the scheduler what has happened; `now` is the caller's reading of the clock.
    pub fn handle(&mut self, event: Event, now: Instant) {
        self.now = self.now.max(now);
        let Self {
            settings,
            memory,
            pool,
            pipelines,
            out,
            arrivals,
            now,
        } = self;
        let mut step = Step {
            now: *now,
            settings,
            memory,
            claim: None,
            out,
        };
        let step = &mut step;
        step.claim = pipelines.claim(step);
        // What happens in the pool concerns the pipelines only if somebody waits for memory.
        let was_blocked = pool.blocked().is_some();
        let mut concerned = true;
        match event {
            Event::Inventory(migs) => pipelines.inventory(migs, step),
            Event::Request(request) => {
                *arrivals += 1;
                let Request {
                    activation,
                    action,
                    ffs,
                } = *request;
                let job = Job {
                    activation,
                    action: Arc::new(action),
                    arrival: *arrivals,
                    since: step.now,
                    tries: 0,
                    made_room: false,
                    assigned: Assigned::Cold,
                    may_return: false,
                };
                match ffs {
                    Some(ffs) if pipelines.serves(&ffs) => pipelines.request(job, ffs, step),
                    Some(_) | None => {
                        pool.request(job, step);
                        concerned = false;
                    }
                }
            }
            Event::Cancelled { activation } => {
                if !pipelines.cancel(activation, step) {
                    pool.cancel(activation, step);
                }
            }
            Event::Finished { activation, outcome } => {
                if !pipelines.finished(activation, &outcome, step) {
                    pool.finished(activation, &outcome, step);
                    concerned = false;
                }
            }
            Event::Restored(saved) => pipelines.restore(*saved, step),
            Event::Built { function, result } => pipelines.built(&function, result, step),
            Event::Profiled {
                function,
                slice,
                result,
            } => pipelines.profiled(&function, &slice, result, step),
            Event::Ready { instance } => pipelines.ready(&instance, step),
            Event::Joined { instance } => pipelines.joined(&instance, step),
            Event::JoinFailed { instance, fault } => pipelines.join_failed(&instance, &fault, step),
            Event::Left { instance } => pipelines.left(&instance, step),
            Event::SwappedOut { instance } => pipelines.swapped_out(&instance, step),
            Event::Sharing { instance } => {
                pipelines.sharing(&instance, step);
                concerned = false;
            }
            Event::TurnWanted { instance, lane, turn } => {
                pipelines.turn_wanted(&instance, lane, turn, step);
                concerned = false;
            }
            Event::TurnReturned { instance, lane, turn } => {
                pipelines.turn_returned(&instance, lane, turn, step);
                concerned = false;
            }
            Event::Observed { instance, times } => concerned = pipelines.observed(&instance, &times, step),
            Event::StartFailed { instance, fault } => pipelines.start_failed(&instance, &fault, step),
            Event::LaneDied {
                instance,
                lane,
                because,
            } => pipelines.lane_died(&instance, lane, because, step),
            Event::Stopped { instance } => pipelines.stopped(&instance, step),
            Event::ContainerStarted { container } => {
                pool.started(container, step);
                concerned = false;
            }
            Event::ContainerFailed { container, fault } => {
                pool.start_failed(container, &fault, step);
                concerned = false;
            }
            Event::Initialized { container } => {
                pool.initialized(container, step);
                concerned = false;
            }
            Event::Paused { container } => {
                pool.paused(container, step);
                concerned = false;
            }
            Event::PauseFailed { container } => {
                pool.pause_failed(container, step);
                concerned = false;
            }
            Event::Resumed { container } => {
                pool.resumed(container, step);
                concerned = false;
            }
            Event::ResumeFailed { container } => {
                pool.resume_failed(container, step);
                concerned = false;
            }
            Event::ContainerDied { container } => {
                pool.died(container, step);
                concerned = false;
            }
            Event::ContainerRemoved { container } => {
                pool.removed(container, step);
                concerned = false;
            }
            Event::Drain => {
                pipelines.drain(step);
                pool.drain(step);
            }
            Event::Tick => pool.tick(step),
        }
        concerned |= was_blocked || pool.blocked().is_some() || pipelines.waits_for_memory();
        if concerned {
            settle(pool, pipelines, step);
            pipelines.account(step.now);
        }
    }

    /// The next command to carry out, oldest first; call until `None`.
    pub fn next_command(&mut self) -> Option<Command> {
        self.out.pop_front()
    }

    /// When the next [`Event::Tick`] is due, if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let pipelines = self.pipelines.deadline(self.now, &self.settings);
        [self.pool.deadline(), pipelines].into_iter().flatten().min()
    }

    /// Whether nothing waits, runs or is left: the end of a drain.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty() && self.pipelines.is_empty() && self.out.is_empty()
    }

    /// The last decisions about instances and slices, with their alternatives.
    pub fn decisions(&self) -> &DecisionLog {
        self.pipelines.decisions()
    }

    /// The slices' time until `now`, the caller's reading of the clock, and what instances went through.
    pub fn accounts(&self, now: Instant) -> Accounts {
        self.pipelines.accounts().until(now)
    }

    /// Everything as it is now, for people and gauges.
    pub fn view(&self) -> View {
        View::of(&self.memory, &self.pool, &self.pipelines, self.now)
    }
}

/// Lets both sides go on until neither can: what one gives up, the other may take.
fn settle(pool: &mut Pool, pipelines: &mut Pipelines, step: &mut Step<'_>) {
    let mut before = None;
    loop {
        for unsplit in pipelines.serve(pool, step) {
            pool.request(unsplit, step);
        }
        step.claim = pipelines.claim(step);
        pool.dispatch_all(step);
        let after = Some((step.out.len(), pool.blocked(), step.claim));
        if before == after {
            return;
        }
        before = after;
    }
}
