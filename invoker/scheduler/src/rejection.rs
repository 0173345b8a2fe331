//! Why a partition was not taken, as data that prints as a sentence.
//!
//! Placement only records a [`Reason`]; the words are made when somebody asks, because the daemon
//! places far more often than anybody reads why.

use crate::dag::ComponentSet;
use crate::free::{Kind, needed_mib};
use crate::ranking::Ranking;
use proto::unit::Bytes;
use std::fmt;
use std::time::Duration;

/// A partition that was looked at and not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub rank: usize,
    pub reason: Reason,
}

/// What stood against a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has more than one lane, and the policy keeps functions whole.
    Split,
    /// No slice is free at all.
    NothingFree,
    /// A lane needs more memory than any slice of the machine has.
    LargerThanAny {
        lane: ComponentSet,
        needs: Bytes,
        largest: Kind,
    },
    /// A lane needs more memory than any free slice has.
    LargerThanFree {
        lane: ComponentSet,
        needs: Bytes,
        largest: Kind,
    },
    /// A free slice has the memory, but a component was not measured on its profile.
    NotMeasured {
        lane: ComponentSet,
        component: usize,
        kind: Kind,
    },
    /// More lanes than free slices that can take them; `lane` is one that is left over.
    NotEnough {
        lane: ComponentSet,
        needs: Bytes,
        lanes: usize,
        slices: usize,
    },
    /// It fits, and takes longer than the SLO allows on the slices that are free.
    MissesSlo { latency: Duration, slo: Duration },
    /// It fits, and its slowest stage takes at least this long: longer than another plan's.
    Slower { bottleneck: Duration },
    /// It fits, and needs as long as another plan, on more slices or with a longer latency.
    NoBetter { bottleneck: Duration },
}

impl Rejection {
    /// The reason with the names of the function's components.
    pub fn because<'a>(&'a self, ranking: &'a Ranking) -> impl fmt::Display + 'a {
        Because {
            reason: &self.reason,
            ranking,
        }
    }
}

struct Because<'a> {
    reason: &'a Reason,
    ranking: &'a Ranking,
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |lane: &ComponentSet| self.ranking.names(*lane);
        match self.reason {
            Reason::Split => write!(f, "it splits the function"),
            Reason::NothingFree => write!(f, "no slice is free"),
            Reason::LargerThanAny { lane, needs, largest } => write!(
                f,
                "lane {} needs {} MiB; the largest slice ({}) has {} MiB",
                names(lane),
                needed_mib(*needs),
                largest.profile,
                largest.memory.as_mib()
            ),
            Reason::LargerThanFree { lane, needs, largest } => write!(
                f,
                "lane {} needs {} MiB; the largest free slice ({}) has {} MiB",
                names(lane),
                needed_mib(*needs),
                largest.profile,
                largest.memory.as_mib()
            ),
            Reason::NotMeasured {
                lane,
                component,
                kind,
            } => write!(
                f,
                "lane {} would fit {profile}, but {} has no time on {profile}",
                names(lane),
                self.ranking.ids()[*component],
                profile = kind.profile
            ),
            Reason::NotEnough {
                lane,
                needs,
                lanes,
                slices,
            } => write!(
                f,
                "lane {} needs {} MiB; {lanes} lanes compete for {slices} free {} that can take them",
                names(lane),
                needed_mib(*needs),
                if *slices == 1 { "slice" } else { "slices" }
            ),
            Reason::MissesSlo { latency, slo } => {
                write!(
                    f,
                    "it would take {} ms on the free slices; the SLO is {} ms",
                    ms(latency),
                    ms(slo)
                )
            }
            Reason::Slower { bottleneck } => {
                write!(f, "its slowest stage takes at least {} ms", ms(bottleneck))
            }
            Reason::NoBetter { bottleneck } => {
                write!(
                    f,
                    "its slowest stage takes {} ms too, with more slices or latency",
                    ms(bottleneck)
                )
            }
        }
    }
}

fn ms(duration: &Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}
