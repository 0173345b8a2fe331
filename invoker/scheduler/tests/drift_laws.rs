//! What was observed counts as if it had been measured in the first place.

mod documents;

use documents::{chain, inventory, profile_rows};
use proptest::prelude::*;
use proto::id::{ActivationId, InstanceId, LaneId};
use proto::unit::{Bytes, Millis};
use scheduler::command::Start;
use scheduler::event::{Event, Outcome};
use scheduler::work::{Action, ActionRevision, Ffs, Request, Terms};
use scheduler::{Command, Instant, Scheduler, Settings};
use std::time::Duration;

const KINDS: [&str; 3] = ["3g.40gb=900", "2g.20gb=600", "1g.10gb=400"];
const POLICIES: [&str; 3] = ["fluidfaas", "throughput", "slo"];

/// Milliseconds of three components, on each kind of slice.
type Times = [[u64; 3]; 3];

struct Daemon {
    scheduler: Scheduler,
    now: Instant,
    activations: u128,
}

impl Daemon {
    /// Everything is measured and nothing runs.
    fn new(policy: &str, times: Times) -> Self {
        let settings = Settings {
            policy: policy.to_owned(),
            user_memory: Bytes::mib(8192),
            keep_alive: Duration::from_secs(3600),
            dwell: Duration::from_secs(3600), // nothing moves by itself
            ..Settings::default()
        };
        let mut daemon = Self {
            scheduler: Scheduler::new(settings, Instant::ZERO),
            now: Instant::ZERO,
            activations: 0,
        };
        daemon.tell(Event::Inventory(inventory(&KINDS)));
        daemon.request();
        let function = revision();
        daemon.tell(Event::Built {
            result: Ok(Box::new(chain(&function, &["x", "y", "z"]))),
            function,
        });
        for (kind, ms) in times.iter().enumerate() {
            let rows: Vec<String> = ["x", "y", "z"]
                .iter()
                .zip(ms)
                .map(|(id, ms)| format!("{id}=250/{ms}"))
                .collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            let started = daemon.tell(Event::Profiled {
                function: revision(),
                slice: format!("MIG-{kind}").parse().expect("a slice"),
                result: Ok(Box::new(profile_rows(&rows))),
            });
            // Whatever came up before everything was measured goes again.
            if let Some(start) = started {
                daemon.end(&start);
            }
            daemon.now.0 += Duration::from_secs(2);
            daemon.tell(Event::Tick);
        }
        daemon
    }

    fn request(&mut self) -> Option<Start> {
        self.activations += 1;
        self.tell(Event::Request(Box::new(Request {
            activation: ActivationId::from_u128(self.activations),
            action: Action {
                namespace: "guest".to_owned(),
                name: "guest/a".to_owned(),
                revision: "1-a".to_owned(),
                identity: "a".to_owned(),
                kind: None,
                memory: Bytes::mib(256),
                concurrency: 1,
                limit: Duration::from_secs(3600),
            },
            ffs: Some(Ffs {
                terms: Terms {
                    slo_ms: Some(Millis(150.0)),
                    max_instances: Some(1),
                    ..Terms::default()
                },
                dag: None,
                profile: None,
            }),
        })))
    }

    /// The instance serves, and is gone.
    fn end(&mut self, start: &Start) {
        let instance = start.instance.clone();
        self.tell(Event::Ready {
            instance: instance.clone(),
        });
        self.tell(Event::Finished {
            activation: ActivationId::from_u128(self.activations),
            outcome: Outcome::Answered,
        });
        self.take_down(instance);
    }

    fn take_down(&mut self, instance: InstanceId) {
        let died = Event::LaneDied {
            instance: instance.clone(),
            lane: LaneId::HEAD,
            because: "killed".to_owned(),
        };
        self.tell(died);
        self.tell(Event::Stopped { instance });
    }

    /// The instance that is started for it, if one is.
    fn tell(&mut self, event: Event) -> Option<Start> {
        self.scheduler.handle(event, self.now);
        let mut started = None;
        while let Some(command) = self.scheduler.next_command() {
            if let Command::Start(start) = command {
                started = Some(*start);
            }
        }
        started
    }
}

fn revision() -> ActionRevision {
    ActionRevision {
        action: "guest/a".to_owned(),
        revision: "1-a".to_owned(),
    }
}

fn times() -> impl Strategy<Value = Times> {
    prop::array::uniform3(prop::array::uniform3(1_u64..200))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// An instance shows other times than the profile on the slices that it has: the next one is placed as if these
    /// had been measured. (Times within the factor of each other stay as they were.)
    #[test]
    fn what_was_seen_is_planned_with_as_if_it_had_been_measured(
        measured in times(),
        real in times(),
        policy in 0..POLICIES.len(),
    ) {
        let mut daemon = Daemon::new(POLICIES[policy], measured);
        let first = daemon.request().expect("it fits");
        daemon.tell(Event::Ready { instance: first.instance.clone() });
        let mut known = measured;
        let mut times = std::collections::BTreeMap::new();
        for lane in first.assignment.stages.iter().flat_map(|stage| &stage.lanes) {
            let kind = KINDS.iter().position(|kind| kind.starts_with(lane.mig.profile.as_str())).expect("known");
            for id in &lane.components {
                let at = ["x", "y", "z"].iter().position(|known| *known == id.as_str()).expect("known");
                let (was, is) = (measured[kind][at], real[kind][at]);
                times.insert(id.clone(), Millis(is as f64));
                if is.max(was) as f64 > is.min(was) as f64 * 1.5 {
                    known[kind][at] = is;
                }
            }
        }
        for _ in 0..33 {
            daemon.now.0 += Duration::from_millis(400);
            daemon.scheduler.handle(
                Event::Observed { instance: first.instance.clone(), times: times.clone() },
                daemon.now,
            );
        }
        prop_assert_eq!(
            daemon.scheduler.accounts(daemon.now).counts().drifts.values().sum::<u64>(),
            measured.iter().flatten().zip(known.iter().flatten()).filter(|(was, is)| was != is).count() as u64
        );
        let activation = ActivationId::from_u128(daemon.activations);
        daemon.tell(Event::Finished { activation, outcome: Outcome::Answered });
        daemon.take_down(first.instance);
        let second = daemon.request().expect("it fits");

        let expected = Daemon::new(POLICIES[policy], known).request().expect("it fits");
        prop_assert_eq!(second.assignment.stages, expected.assignment.stages);
        prop_assert_eq!(&second.ranking.partitions, &expected.ranking.partitions);
    }
}
