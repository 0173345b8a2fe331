//! One metric with all its label values, named by OpenWhisk's rule or by ours.

use prometheus::core::Collector;
use prometheus::{CounterVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

/// Whether values are labels, or part of the name (H-33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Labels,
    Names,
}

/// A metric of one kind: `IntCounterVec`, `CounterVec`, `IntGaugeVec` or `HistogramVec`.
pub(super) trait Kind: Collector + Clone + 'static {
    type One;
    fn make(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self>;
    fn one(&self, values: &[&str]) -> Self::One;
}

impl Kind for IntCounterVec {
    type One = prometheus::IntCounter;
    fn make(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
    fn one(&self, values: &[&str]) -> Self::One {
        self.with_label_values(values)
    }
}

impl Kind for CounterVec {
    type One = prometheus::Counter;
    fn make(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
    fn one(&self, values: &[&str]) -> Self::One {
        self.with_label_values(values)
    }
}

impl Kind for IntGaugeVec {
    type One = prometheus::IntGauge;
    fn make(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
    fn one(&self, values: &[&str]) -> Self::One {
        self.with_label_values(values)
    }
}

impl Kind for HistogramVec {
    type One = prometheus::Histogram;
    fn make(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        Self::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
    }
    fn one(&self, values: &[&str]) -> Self::One {
        self.with_label_values(values)
    }
}

/// A metric of the table. Made when it is first used, as Kamon does.
#[derive(Debug)]
pub(super) struct Family<K: Kind> {
    /// `counter_`, `gauge_`, `histogram_`; empty for ours.
    prefix: &'static str,
    /// `<component>_<action>_<state>`; whole name for ours.
    token: &'static str,
    /// `_total`, `_bytes`, `_seconds` or nothing.
    suffix: &'static str,
    labels: &'static [&'static str],
    /// The token where values are part of it; none: they are left out.
    untagged: Option<fn(&[&str]) -> String>,
    buckets: &'static [f64],
    help: &'static str,
    made: OnceLock<Made<K>>,
}

#[derive(Debug)]
enum Made<K> {
    Labelled(K),
    /// Name → metric without labels.
    Named(Mutex<HashMap<String, K>>),
}

impl<K: Kind> Family<K> {
    pub(super) const fn new(
        prefix: &'static str,
        token: &'static str,
        suffix: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            prefix,
            token,
            suffix,
            labels: &[],
            untagged: None,
            buckets: &[],
            help,
            made: OnceLock::new(),
        }
    }

    pub(super) const fn labelled(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    pub(super) const fn untagged(mut self, token: fn(&[&str]) -> String) -> Self {
        self.untagged = Some(token);
        self
    }

    pub(super) const fn buckets(mut self, buckets: &'static [f64]) -> Self {
        self.buckets = buckets;
        self
    }

    /// The one with these label values, in the order of the labels.
    pub(super) fn at(&self, registry: &Registry, naming: Naming, values: &[&str]) -> K::One {
        // Ours have labels always: nobody relies on their absence.
        let labelled = naming == Naming::Labels || self.prefix.is_empty() || self.labels.is_empty();
        let made = self.made.get_or_init(|| match labelled {
            true => Made::Labelled(self.make(registry, self.token, self.labels)),
            false => Made::Named(Mutex::default()),
        });
        match made {
            Made::Labelled(family) => family.one(values),
            Made::Named(families) => {
                let token = self.untagged.map_or_else(|| self.token.to_owned(), |f| f(values));
                let mut families = families.lock().expect("no holder panics");
                families
                    .entry(token)
                    .or_insert_with_key(|token| self.make(registry, token, &[]))
                    .one(&[])
            }
        }
    }

    fn make(&self, registry: &Registry, token: &str, labels: &[&str]) -> K {
        let name: String = format!("{}{token}{}", self.prefix, self.suffix)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let made =
            K::make(&name, self.help, labels, self.buckets).expect("names and labels are of the table");
        // Two topics may differ in a dot only; the second one is then counted and not shown.
        if let Err(error) = registry.register(Box::new(made.clone())) {
            tracing::debug!(name, %error, "a metric is not shown");
        }
        made
    }
}
