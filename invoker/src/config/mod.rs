//! Every setting, typed, with its default. Read once, before anything is connected, and passed on
//! as values; no module reads the environment.

pub mod containers;
pub mod documents;
mod drift;
pub mod environment;
pub mod layers;
mod limits;
pub mod load;
pub mod node;
pub mod operations;
pub mod providers;
pub mod reader;
pub mod sharing;
pub mod size;
pub mod units;

pub use containers::ContainerSettings;
pub use operations::{AdminSettings, HttpsSettings, MetricsSettings};
pub use sharing::SharingSettings;

use crate::runtimes::Runtimes;
use proto::unit::Bytes;
use proto::whisk::instance::InvokerId;
use proto::whisk::limits::{SystemLimits, UserLimits};
use scheduler::drift::DriftSettings;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the daemon runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub identity: Identity,
    /// Memory of all containers together.
    pub user_memory: Bytes,
    pub limits: SystemLimits,
    /// What a namespace may use that says nothing itself (P-76).
    pub namespace_limits: UserLimits,
    pub payload: PayloadLimits,
    pub pool: PoolSettings,
    pub containers: ContainerSettings,
    pub pipelines: PipelineSettings,
    pub runtimes: Runtimes,
    pub topics: TopicSettings,
    pub feed: FeedSettings,
    pub records: RecordSettings,
    /// Keys of encrypted parameters (D-36).
    pub parameter_keys: ParameterKeys,
    pub metrics: MetricsSettings,
    /// Between two looks for blocked namespaces (N-02).
    pub blacklist_interval: Duration,
    /// `__OW_API_HOST` of every container.
    pub api_host: String,
    /// What must survive a restart: DAGs, profiles, rankings, the journal.
    pub state_dir: PathBuf,
    pub journal: JournalSettings,
    /// How long running activations may go on after a stop signal.
    pub grace: Duration,
}

/// How messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedSettings {
    /// Between two looks at how many messages wait (P-45).
    pub lag_check: Duration,
    /// A consumer that fails, or reads nothing although there is something, for so long is replaced (K-29).
    pub stuck: Duration,
}

impl FeedSettings {
    /// A consumer of which the broker hears nothing for `session` has lost its place.
    pub fn new(lag_check: Duration, session: Duration) -> Self {
        Self {
            lag_check,
            stuck: session + Duration::from_secs(1),
        }
    }
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self::new(Duration::from_secs(60), Duration::from_secs(30))
    }
}

/// Which invoker this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub id: u32,
    pub unique_name: Option<String>,
    pub displayed_name: Option<String>,
    /// `whisk.invoker.resource.tags` (P-91).
    pub tags: Vec<String>,
    /// `whisk.invoker.dedicated.namespaces` (P-91).
    pub dedicated_namespaces: Vec<String>,
}

impl Identity {
    /// What pings and acks carry (M-41).
    pub fn invoker_id(&self, user_memory: Bytes) -> InvokerId {
        InvokerId {
            tags: self.tags.clone(),
            dedicated_namespaces: self.dedicated_namespaces.clone(),
            unique_name: self.unique_name.clone(),
            displayed_name: self.displayed_name.clone(),
            ..InvokerId::new(self.id, user_memory)
        }
    }
}

/// `whisk.activation.payload` and `serdes-overhead`.
#[derive(Clone, Copy, Debug)]
pub struct PayloadLimits {
    pub max: Bytes,
    /// What is kept of a result that is longer.
    pub truncation: Bytes,
    pub overhead: Bytes,
}

impl Default for PayloadLimits {
    fn default() -> Self {
        Self {
            max: Bytes::mib(1),
            truncation: Bytes::mib(1),
            overhead: Bytes(6068),
        }
    }
}

impl PayloadLimits {
    /// Largest message on `invokerN` and `completedC` (K-03).
    pub fn largest_message(&self) -> Bytes {
        Bytes(self.max.0 + self.overhead.0)
    }
}

/// `whisk.kafka.topics`, `whisk.kafka.replication-factor` and `whisk.user-events`.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// Prefix of the topics `invokerN`, `completedC` and `health` (K-01).
    pub prefix: String,
    /// Topic of user events, whole; none: there are none (N-10, P-44).
    pub events: Option<String>,
    pub partitions: i32,
    pub replication: i32,
    /// Kafka's settings of `invokerN`, with dots, but for `max.message.bytes` (K-04, P-42).
    pub config: BTreeMap<String, String>,
}

impl Default for TopicSettings {
    fn default() -> Self {
        let config = [
            ("segment.bytes", "536870912"),
            ("retention.bytes", "1073741824"),
            ("retention.ms", "172800000"),
        ];
        Self {
            prefix: String::new(),
            events: None,
            partitions: 1,
            replication: 1,
            config: config
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    }
}

/// Which activations have a record: `whisk.activation` (D-48, D-49).
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordSettings {
    pub blocking: RecordLevel,
    pub non_blocking: RecordLevel,
    /// Whether a line says so where none is kept.
    pub unstored_logs: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordLevel {
    #[default]
    Always,
    /// Status other than 0.
    Failures,
    /// Status 2 or 3.
    FailuresNotApplicationErrors,
}

/// `whisk.parameter-storage.aes-128` and `.aes-256`.
#[derive(Clone, Copy, Default)]
pub struct ParameterKeys {
    pub aes_128: Option<[u8; 16]>,
    pub aes_256: Option<[u8; 32]>,
}

impl std::fmt::Debug for ParameterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParameterKeys")
            .field("aes_128", &self.aes_128.is_some())
            .field("aes_256", &self.aes_256.is_some())
            .finish()
    }
}

/// `whisk.container-pool` and `whisk.container-proxy`.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    pub pause_grace: Duration,
    pub idle_container: Duration,
    /// (0, 1]
    pub concurrent_peek_factor: f64,
    /// None unless `action-health-check.enabled`.
    pub stem_cell_check: Option<StemCellCheck>,
}

/// `whisk.container-proxy.action-health-check`: whether stem cells can still be connected to (L-52).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StemCellCheck {
    /// Between two tries: `check-period`.
    pub period: Duration,
    /// So many failed tries in a row end one: `max-fails`.
    pub fails: u32,
}

impl Default for StemCellCheck {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(3),
            fails: 3,
        }
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            pause_grace: Duration::from_secs(10),
            idle_container: Duration::from_secs(600),
            concurrent_peek_factor: 0.5,
            stem_cell_check: None,
        }
    }
}

/// How the journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    pub sync: JournalSync,
    /// Whether activations that were not started when the daemon is told to stop wait here for its
    /// successor. If not they are answered with a whisk error: right wherever the successor may be another
    /// program, or may not find this journal (N-31).
    pub keep_on_stop: bool,
    /// With more than this on disk, in bytes, nothing is accepted until debts were paid.
    pub most_bytes: u64,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            sync: JournalSync::Later,
            keep_on_stop: false,
            most_bytes: 1 << 30,
        }
    }
}

/// When the disk has what was appended. The death of the process loses nothing either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalSync {
    /// Some 10 ms later: a power cut may cost what happened since.
    #[default]
    Later,
    /// Before anything else happens: survives a power cut, and costs each activation several disk writes.
    Always,
}

/// What concerns FFS functions alone.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// Policy of a function that names none.
    pub policy: String,
    pub sharing: SharingSettings,
    /// When observed times take the place of a profile's.
    pub drift: DriftSettings,
    /// Idle time before an instance goes cold.
    pub keep_alive: Duration,
    /// Memory for weights that several lanes use, beside that of all containers.
    pub weights: Bytes,
    /// Directory that holds one config layer per instance; in memory.
    pub layers: PathBuf,
}

impl Settings {
    /// Activations that the pool may hold at once (K-24).
    pub fn peek(&self) -> usize {
        let containers = self.user_memory.as_mib() / self.limits.memory.min.max(1);
        let concurrency = self.limits.concurrency.max as f64;
        let shared = (containers as f64 * concurrency * self.pool.concurrent_peek_factor).floor() as u64;
        usize::try_from(containers.max(shared).max(1)).unwrap_or(usize::MAX)
    }

    /// One for each invoker that shares the state directory.
    pub fn journal_dir(&self) -> PathBuf {
        self.state_dir.join(format!("journal-{}", self.identity.id))
    }

    /// `invokerN`, with the prefix.
    pub fn activation_topic(&self) -> String {
        format!("{}invoker{}", self.topics.prefix, self.identity.id)
    }
}

impl Settings {
    /// What holds where nothing is set; `layers` is [`PipelineSettings::layers`].
    pub fn standard(runtimes: Runtimes, state_dir: PathBuf, layers: PathBuf) -> Self {
        Self {
            identity: Identity::default(),
            user_memory: Bytes::mib(1024),
            limits: SystemLimits::default(),
            namespace_limits: UserLimits::default(),
            payload: PayloadLimits::default(),
            pool: PoolSettings::default(),
            containers: ContainerSettings::default(),
            pipelines: PipelineSettings {
                policy: "fluidfaas".to_owned(),
                sharing: SharingSettings::default(),
                drift: DriftSettings::default(),
                keep_alive: Duration::from_secs(600),
                weights: Bytes::mib(1024),
                layers,
            },
            runtimes,
            topics: TopicSettings::default(),
            feed: FeedSettings::default(),
            records: RecordSettings::default(),
            parameter_keys: ParameterKeys::default(),
            metrics: MetricsSettings::default(),
            blacklist_interval: Duration::from_secs(300),
            api_host: String::new(),
            state_dir,
            journal: JournalSettings::default(),
            grace: Duration::from_secs(30),
        }
    }
}
