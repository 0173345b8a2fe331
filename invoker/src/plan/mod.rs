//! What the scheduler would do with a function on a machine, and why: as text, as JSON, as a picture.
//!
//! The scheduler's functions are pure, so a plan made from an instance's config layer shows again
//! what the daemon decided. Nothing is started or leased here.

mod json;
mod picture;
mod svg;
mod text;

pub use json::{Chosen, Lane, PlanDocument, Rejected};

use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::profile::ProfileDocument;
use proto::ffs::ranking::{Deviation, Mode};
use scheduler::dag::{Dag, DagError};
use scheduler::free::{FreeSlices, InventoryError, Kind};
use scheduler::partition::{PartitionError, enumerate};
use scheduler::placement::{NoPlacement, PlaceOptions, Placement, place};
use scheduler::profile::{Profile, ProfileError};
use scheduler::ranking::{RankBy, RankError, RankOptions, Ranking, rank};
use scheduler::rejection::Rejection;
use std::time::Duration;

/// SLO as a multiple of the time alone, where none is given. Source: FluidFaaS §10.
const SLO_SCALE: u32 = 3;

/// How to plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub mode: Mode,
    pub by: RankBy,
    pub std: Deviation,
    /// None: three times the latency of the whole function on the smallest slice that holds it.
    pub slo: Option<Duration>,
}

/// Why there is nothing to plan with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the DAG is not valid")]
    Dag(#[from] DagError),
    #[error("the profile is not valid")]
    Profile(#[from] ProfileError),
    #[error("the inventory is not valid")]
    Inventory(#[from] InventoryError),
    #[error("the function cannot be partitioned")]
    Partition(#[from] PartitionError),
    #[error("the partitions cannot be ranked")]
    Rank(#[from] RankError),
}

/// A function, a machine, and what was found.
#[derive(Clone, Debug)]
pub struct Plan {
    documents: Documents,
    options: Options,
    dag: Dag,
    profile: Profile,
    ranking: Ranking,
    outcome: Result<Placement, NoPlacement>,
    /// A sentence, if a component is too large for every slice of the machine.
    impossible: Option<String>,
    slo: Duration,
    /// What each goal would choose, the one that was asked for among them.
    goals: Vec<(RankBy, Option<Placement>)>,
}

#[derive(Clone, Debug)]
struct Documents {
    dag: DagDocument,
    profile: ProfileDocument,
    migs: MigsDocument,
}

impl Plan {
    /// Ranks the function's partitions and places one on the free slices. That nothing fits is a
    /// plan too; it says why.
    ///
    /// # Errors
    /// A document that breaks its rules, or too many components for mode `convex`.
    pub fn make(
        dag: DagDocument,
        profile: ProfileDocument,
        migs: MigsDocument,
        options: Options,
    ) -> Result<Self, Error> {
        let documents = Documents { dag, profile, migs };
        let dag = Dag::parse(&documents.dag)?;
        let profile = Profile::parse(&documents.profile, &dag)?;
        let free = FreeSlices::new(&documents.migs)?;
        let kinds = Kind::all(&documents.migs);
        let partitions = enumerate(&dag, &profile, options.mode)?;
        let ranked = |by| {
            let std = options.std;
            let options = RankOptions {
                by,
                std,
                ..RankOptions::default()
            };
            rank(&dag, &profile, &partitions, &kinds, &options)
        };
        let ranking = ranked(options.by)?;
        let slo = options.slo.unwrap_or_else(|| SLO_SCALE * alone(&ranking, &dag));
        let placed = |ranking: &Ranking| {
            let slo = Some(slo);
            place(
                ranking,
                &free,
                PlaceOptions {
                    slo,
                    ..PlaceOptions::default()
                },
            )
        };
        let outcome = placed(&ranking);
        let mut goals = Vec::new();
        for by in GOALS {
            let placement = match by == options.by {
                true => outcome.clone().ok(),
                false => placed(&ranked(by)?).ok(),
            };
            goals.push((by, placement));
        }
        let impossible = profile
            .check_fits(&dag, &kinds)
            .err()
            .map(|error| error.to_string());
        Ok(Self {
            documents,
            options,
            dag,
            profile,
            ranking,
            outcome,
            impossible,
            slo,
            goals,
        })
    }

    /// Where the function would run; none if it fits nowhere.
    pub fn chosen(&self) -> Option<&Placement> {
        self.outcome.as_ref().ok()
    }

    /// Why this partition, or why none: one sentence without a full stop.
    pub fn because(&self) -> String {
        match &self.outcome {
            Ok(placement) => {
                let policy = scheduler::policy::find(policy(self.options.by));
                let policy = policy.expect("each goal has its policy");
                policy.because(&self.ranking, placement, Some(self.slo))
            }
            Err(refused) => match &self.impossible {
                Some(sentence) => sentence.clone(),
                None => refused.because(&self.ranking),
            },
        }
    }

    /// A sentence, if the profile is of another function or revision than the DAG.
    pub fn mismatch(&self) -> Option<String> {
        let (dag, profile) = (&self.documents.dag, &self.documents.profile);
        let differ = dag.function != profile.function || dag.revision != profile.revision;
        differ.then(|| {
            format!(
                "the DAG is of {} ({}), the profile of {} ({}); planned all the same",
                dag.function, dag.revision, profile.function, profile.revision
            )
        })
    }

    /// The partitions that were looked at and not taken, with the reason for each.
    fn rejected(&self) -> impl ExactSizeIterator<Item = (String, String)> {
        let rejected: &[Rejection] = match &self.outcome {
            Ok(placement) => &placement.rejected,
            Err(refused) => &refused.rejected,
        };
        rejected.iter().map(|rejection| {
            let because = rejection.because(&self.ranking).to_string();
            (self.ranking.key(rejection.rank), because)
        })
    }
}

const GOALS: [RankBy; 3] = [RankBy::Cv, RankBy::Throughput, RankBy::Slo];

/// The name of a goal's policy.
const fn policy(by: RankBy) -> &'static str {
    match by {
        RankBy::Cv => "fluidfaas",
        RankBy::Throughput => "throughput",
        RankBy::Slo => "slo",
    }
}

/// How a goal is written on the command line.
const fn goal(by: RankBy) -> &'static str {
    match by {
        RankBy::Cv => "cv",
        RankBy::Throughput => "throughput",
        RankBy::Slo => "slo",
    }
}

/// The whole function alone, on the smallest slice that holds it.
fn alone(ranking: &Ranking, dag: &Dag) -> Duration {
    let unsplit = ranking.find(&ranking.names(dag.all()));
    ranking.latency(unsplit.unwrap_or(0))
}

/// `12.3`: milliseconds, for people.
fn ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

/// Requests per second of a pipeline that is always full.
fn per_second(placement: &Placement) -> f64 {
    1.0 / placement.bottleneck.as_secs_f64()
}
