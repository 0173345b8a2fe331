//! The language of `scenarios/*.txt`: one event a line, and below it the commands that follow.
//!
//! ```text
//! user-memory 1024                                 settings, before anything else
//! slices 4g.40gb=39936 1g.10gb=9856!               usable MiB, `!` = fenced; again: a new inventory
//! request a1 plain guest guest/hello 256 [x4] [kind nodejs:20] [limit 60] [version 2]
//! request a2 ffs guest guest/ocr@1-a 256 [retry] [min 1] [max 2] [keep 5] [policy slo] [slo 100]
//! built guest/ocr@1-a det ori rec                  a chain; `det;ori rec` = two side by side, then one; `det*8` in batches
//! profiled guest/ocr@1-a MIG-0 det=300/20 rec=1/2  MiB of weights / milliseconds, on that slice; `/20,4:50` = 50 ms for 4
//! finished a1 answered | spoiled | init-failed SENTENCE | returned SENTENCE | lost SENTENCE
//! turn-wanted i-1 s0l0 1                           the first turn of that lane
//! observed i-1 33 x=45 y=20                        so many activations, a second apart, whose components took these ms
//! wait 10                                          seconds, with a tick whenever one is due
//! view | decisions | accounts                      prints them
//! ```
//! Slices are called `MIG-0`, `MIG-1` … in the order in which they are written.

use crate::documents::{chain, inventory, profile_rows};
use proto::id::{ActivationId, ComponentId};
use proto::unit::{Bytes, Millis};
use scheduler::accounting::Times;
use scheduler::event::{Event, Outcome};
use scheduler::fault::{Blame, Fault};
use scheduler::settings::{Reactive, StemCell, Victims};
use scheduler::work::{Action, ActionRevision, ContainerNumber, Ffs, Request, Terms};
use scheduler::{Instant, Scheduler, Settings};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Runs a script and returns it with the commands that really follow.
pub(crate) fn play(text: &str) -> String {
    let mut play = Play::default();
    for line in text.lines().filter(|line| !line.starts_with("    ")) {
        writeln!(play.written, "{line}").unwrap();
        let line = line.split('#').next().unwrap().trim();
        if !line.is_empty() {
            play.line(line);
        }
    }
    play.written
}

#[derive(Default)]
struct Play {
    settings: Settings,
    scheduler: Option<Scheduler>,
    now: Instant,
    names: BTreeMap<String, String>,
    memory: BTreeMap<String, u64>,
    saved: Option<scheduler::work::Saved>,
    written: String,
}

impl Play {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["user-memory", mib] => self.settings.user_memory = Bytes::mib(number(mib)),
            ["keep-alive", seconds] => self.settings.keep_alive = secs(seconds),
            ["profile-rest", seconds] => self.settings.profile_rest = secs(seconds),
            ["policy", name] => self.settings.policy = (*name).to_owned(),
            ["stem-cell", kind, mib, count, rest @ ..] => self.settings.stem_cells.push(StemCell {
                kind: (*kind).to_owned(),
                memory: Bytes::mib(number(mib)),
                initial_count: number(count) as u32,
                reactive: reactive(rest),
            }),
            ["victims", name] => {
                let named = Victims::ALL.iter().find(|(known, _)| known == name);
                self.settings.victims = named.expect("a way to choose victims").1;
            }
            ["begin"] => self.begin(),
            ["wait", seconds] => self.wait(secs(seconds)),
            ["restart"] => {
                self.scheduler = None;
                self.begin();
            }
            ["restored"] => {
                let saved = self.saved.clone().expect("something was saved before");
                self.event(Event::Restored(Box::new(saved)));
            }
            ["observed", instance, times, components @ ..] => {
                for _ in 0..number(times) {
                    self.wait(Duration::from_secs(1));
                    self.event(Event::Observed {
                        instance: instance.parse().unwrap(),
                        times: components.iter().map(|text| took(text)).collect(),
                    });
                }
            }
            ["view"] => self.view(),
            ["decisions"] => self.decisions(),
            ["accounts"] => self.accounts(),
            _ => {
                let event = self.read(&words, line);
                self.event(event);
            }
        }
    }

    fn begin(&mut self) {
        self.scheduler = Some(Scheduler::new(self.settings.clone(), self.now));
        self.print(None);
    }

    fn event(&mut self, event: Event) {
        if self.scheduler.is_none() {
            self.begin();
        }
        let now = self.now;
        self.scheduler().handle(event, now);
        self.print(None);
    }

    /// Lets time pass, with a tick at each deadline.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.scheduler().deadline().filter(|at| *at <= end) {
            ticks = if at > self.now { 0 } else { ticks + 1 };
            assert!(ticks < 3, "the deadline {at} does not pass");
            self.now = self.now.max(at);
            let now = self.now;
            self.scheduler().handle(Event::Tick, now);
            self.print(Some(now));
        }
        self.now = end;
    }

    fn scheduler(&mut self) -> &mut Scheduler {
        self.scheduler.as_mut().expect("something has happened before")
    }

    fn print(&mut self, at: Option<Instant>) {
        while let Some(command) = self.scheduler().next_command() {
            self.write(&command, at);
        }
    }

    fn write(&mut self, command: &scheduler::Command, at: Option<Instant>) {
        if let scheduler::Command::Save(saved) = command {
            self.saved = Some((**saved).clone());
        }
        let text = self.named(command.to_string());
        match at {
            Some(at) => writeln!(self.written, "    at {at}: {text}").unwrap(),
            None => writeln!(self.written, "    {text}").unwrap(),
        }
    }

    fn named(&self, mut text: String) -> String {
        for (id, name) in &self.names {
            text = text.replace(id, name);
        }
        text
    }

    fn view(&mut self) {
        let view = self.scheduler().view();
        let (used, budget) = (view.memory.used, view.memory.budget);
        writeln!(self.written, "    {used} of {budget} used").unwrap();
        for slice in view.migs.iter().flat_map(|migs| &migs.slices) {
            let owners: Vec<&str> = slice.owners.iter().map(|owner| owner.as_str()).collect();
            let line = format!(
                "    {} {} is {:?} {}",
                slice.uuid,
                slice.profile,
                slice.state,
                owners.join(" ")
            );
            writeln!(self.written, "{}", line.trim_end()).unwrap();
        }
        for i in view.instances {
            writeln!(
                self.written,
                "    {} of {} is {}, {} of {} in flight",
                i.instance, i.function, i.state, i.in_flight, i.limit
            )
            .unwrap();
        }
        for w in view.waiting {
            let waits = w.waits.unwrap_or_default();
            writeln!(
                self.written,
                "    {} of {} wait {waits}",
                w.activations, w.function
            )
            .unwrap();
        }
    }

    /// Seconds in which GPUs and slices were held and busy, then what was counted.
    fn accounts(&mut self) {
        let now = self.now;
        let accounts = self.scheduler().accounts(now);
        let times = |times: Times| {
            let (held, busy) = (times.held.as_secs_f64(), times.busy.as_secs_f64());
            format!("held {held} s, busy {busy} s")
        };
        for gpu in accounts.gpus() {
            writeln!(self.written, "    {}: {}", gpu.gpu, times(gpu.times)).unwrap();
        }
        for mig in accounts.migs() {
            writeln!(
                self.written,
                "    {} of {}: {}",
                mig.profile,
                mig.gpu,
                times(mig.times)
            )
            .unwrap();
        }
        for ((from, to), count) in &accounts.counts().transitions {
            writeln!(self.written, "    {from} -> {to}: {count}").unwrap();
        }
        for ((what, reason), count) in &accounts.counts().decisions {
            writeln!(self.written, "    {what} {reason}: {count}").unwrap();
        }
        for ((profile, how), count) in &accounts.counts().drifts {
            writeln!(self.written, "    {how} than reckoned with on {profile}: {count}").unwrap();
        }
    }

    fn decisions(&mut self) {
        let lines: Vec<String> = self
            .scheduler()
            .decisions()
            .iter()
            .flat_map(|d| {
                let head = format!("    at {} {:?} {}: {d}", d.at, d.what, d.function);
                let rejected = d
                    .rejected
                    .iter()
                    .map(|r| format!("        not {}: {}", r.key, r.because));
                std::iter::once(head).chain(rejected)
            })
            .collect();
        for line in lines {
            let line = self.named(line);
            writeln!(self.written, "{line}").unwrap();
        }
    }

    fn read(&mut self, words: &[&str], line: &str) -> Event {
        let rest = |words: usize| {
            let mut parts = line.splitn(words + 1, ' ');
            parts.nth(words).unwrap_or("").to_owned()
        };
        match words {
            ["slices", slices @ ..] => Event::Inventory(inventory(slices)),
            ["no-slices"] => {
                let mut none = inventory(&[]);
                none.source = proto::ffs::migs::InventorySource::None;
                Event::Inventory(none)
            }
            ["request", name, "plain", namespace, action, mib, options @ ..] => {
                let activation = self.activation(name);
                let action = plain(namespace, action, mib, options);
                let ffs = None;
                Event::Request(Box::new(Request {
                    activation,
                    action,
                    ffs,
                }))
            }
            ["request", name, "ffs", namespace, revision, mib, options @ ..] => {
                let activation = self.activation(name);
                self.memory.insert((*revision).to_owned(), number(mib));
                let of = revision_of(revision);
                let mut action = plain(namespace, &of.action, mib, options);
                action.revision = of.revision;
                let ffs = Some(Ffs {
                    terms: terms(options),
                    dag: None,
                    profile: None,
                });
                Event::Request(Box::new(Request {
                    activation,
                    action,
                    ffs,
                }))
            }
            ["cancel", name] => Event::Cancelled {
                activation: self.activation(name),
            },
            ["finished", name, outcome, ..] => Event::Finished {
                activation: self.activation(name),
                outcome: match *outcome {
                    "answered" => Outcome::Answered,
                    "spoiled" => Outcome::Spoiled,
                    "init-failed" => Outcome::InitFailed {
                        fault: Fault::developer(rest(3)),
                    },
                    "returned" => Outcome::Returned { because: rest(3) },
                    "lost" => Outcome::Lost {
                        fault: Fault::developer(rest(3)),
                    },
                    other => panic!("{line}: {other} is no outcome"),
                },
            },
            ["built", revision, stages @ ..] => Event::Built {
                function: revision_of(revision),
                result: Ok(Box::new(chain(&revision_of(revision), stages))),
            },
            ["build-failed", revision, ..] => Event::Built {
                function: revision_of(revision),
                result: Err(Fault::developer(rest(2))),
            },
            ["profiled", revision, slice, rows @ ..] => Event::Profiled {
                function: revision_of(revision),
                slice: slice.parse().unwrap(),
                result: Ok(Box::new(profile_rows(rows))),
            },
            ["profile-failed", revision, slice, ..] => Event::Profiled {
                function: revision_of(revision),
                slice: slice.parse().unwrap(),
                result: Err(Fault::developer(rest(3))),
            },
            ["ready", instance] => Event::Ready {
                instance: instance.parse().unwrap(),
            },
            ["start-failed", instance, ..] => Event::StartFailed {
                instance: instance.parse().unwrap(),
                fault: Fault::developer(rest(2)),
            },
            ["lane-died", instance, lane, ..] => Event::LaneDied {
                instance: instance.parse().unwrap(),
                lane: lane.parse().unwrap(),
                because: rest(3),
            },
            ["joined", instance] => Event::Joined {
                instance: instance.parse().unwrap(),
            },
            ["join-failed", instance, ..] => Event::JoinFailed {
                instance: instance.parse().unwrap(),
                fault: Fault::developer(rest(2)),
            },
            ["left", instance] => Event::Left {
                instance: instance.parse().unwrap(),
            },
            ["swapped-out", instance] => Event::SwappedOut {
                instance: instance.parse().unwrap(),
            },
            ["sharing", instance] => Event::Sharing {
                instance: instance.parse().unwrap(),
            },
            ["turn-wanted", instance, lane, turn] => Event::TurnWanted {
                instance: instance.parse().unwrap(),
                lane: lane.parse().unwrap(),
                turn: number(turn),
            },
            ["turn-returned", instance, lane, turn] => Event::TurnReturned {
                instance: instance.parse().unwrap(),
                lane: lane.parse().unwrap(),
                turn: number(turn),
            },
            ["stopped", instance] => Event::Stopped {
                instance: instance.parse().unwrap(),
            },
            ["started", n] => Event::ContainerStarted {
                container: container(n),
            },
            ["failed", n, ..] => Event::ContainerFailed {
                container: container(n),
                fault: Fault::new(Blame::Whisk, rest(2)),
            },
            ["initialized", n] => Event::Initialized {
                container: container(n),
            },
            ["paused", n] => Event::Paused {
                container: container(n),
            },
            ["pause-failed", n] => Event::PauseFailed {
                container: container(n),
            },
            ["resumed", n] => Event::Resumed {
                container: container(n),
            },
            ["resume-failed", n] => Event::ResumeFailed {
                container: container(n),
            },
            ["died", n] => Event::ContainerDied {
                container: container(n),
            },
            ["removed", n] => Event::ContainerRemoved {
                container: container(n),
            },
            ["drain"] => Event::Drain,
            ["tick"] => Event::Tick,
            _ => panic!("{line}: no such event"),
        }
    }

    /// The id of the activation with this name; the same each time.
    fn activation(&mut self, name: &str) -> ActivationId {
        let bytes = name.bytes().fold(0_u128, |id, byte| id << 8 | u128::from(byte));
        let id = ActivationId::from_u128(bytes);
        self.names.insert(id.to_string(), name.to_owned());
        id
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// `x=45`: 45 ms.
fn took(text: &str) -> (ComponentId, Millis) {
    let (id, ms) = text.split_once('=').expect("component=ms");
    (id.parse().unwrap(), Millis(ms.parse().unwrap()))
}

fn secs(text: &str) -> Duration {
    Duration::from_secs_f64(
        text.parse()
            .unwrap_or_else(|_| panic!("{text} is no number of seconds")),
    )
}

fn container(text: &str) -> ContainerNumber {
    ContainerNumber(number(text))
}

fn revision_of(text: &str) -> ActionRevision {
    let (action, revision) = text.split_once('@').expect("an action with its revision");
    ActionRevision {
        action: action.to_owned(),
        revision: revision.to_owned(),
    }
}

/// The word after `key` among the options.
fn option<'a>(options: &[&'a str], key: &str) -> Option<&'a str> {
    let at = options.iter().position(|option| *option == key)?;
    options.get(at + 1).copied()
}

fn plain(namespace: &str, name: &str, mib: &str, options: &[&str]) -> Action {
    let times = options.iter().find_map(|option| option.strip_prefix('x'));
    Action {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        revision: String::new(),
        identity: format!("{name} {}", option(options, "version").unwrap_or("1")),
        kind: option(options, "kind").map(str::to_owned),
        memory: Bytes::mib(number(mib)),
        concurrency: times.map_or(1, |times| number(times) as u32),
        limit: secs(option(options, "limit").unwrap_or("60")),
    }
}

fn terms(options: &[&str]) -> Terms {
    Terms {
        policy: option(options, "policy").map(str::to_owned),
        slo_ms: option(options, "slo").map(|ms| Millis(number(ms) as f64)),
        slo_scale: None,
        min_instances: option(options, "min").map_or(0, |n| number(n) as u32),
        max_instances: option(options, "max").map(|n| number(n) as u32),
        retry: options.contains(&"retry"),
        keep_alive: option(options, "keep").map(secs),
    }
}

fn reactive(options: &[&str]) -> Option<Reactive> {
    options.contains(&"reactive").then(|| Reactive {
        min_count: number(option(options, "min").unwrap_or("0")) as u32,
        max_count: number(option(options, "max").unwrap_or("4")) as u32,
        ttl: secs(option(options, "ttl").unwrap_or("120")),
        threshold: number(option(options, "threshold").unwrap_or("1")) as u32,
        increment: number(option(options, "increment").unwrap_or("1")) as u32,
    })
}
