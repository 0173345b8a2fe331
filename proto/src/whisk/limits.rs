//! What an action may use, and what a namespace may ask for: `Limits.scala`, `Identity.scala`.

use super::size::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Limits in the document of an action (D-17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionLimits {
    /// Activations at once in one container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Of no use to the invoker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<u64>,
    /// MB.
    pub memory: u64,
    /// Milliseconds.
    pub timeout: u64,
}

/// What holds for one namespace; absent members do not limit (M-54).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UserLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_kinds: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_invocations: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fires_per_minute: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocations_per_minute: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_concurrency: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_instances: Option<i64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_logs: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_memory: Option<u64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parameter_size: Option<ByteSize>,
    /// Largest result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_size: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_concurrency: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_logs: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_memory: Option<u64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_timeout: Option<u64>,
    /// False: no records for this namespace (D-48).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_activations: Option<bool>,
    /// How much of a result that is too large is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation_size: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmed_container_keeping_count: Option<i64>,
    /// Such as `10 minutes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmed_container_keeping_timeout: Option<String>,
}

/// Limits with every gap filled; what the annotation `limits` of a record shows (S-36a).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveLimits {
    pub concurrency: u64,
    /// MB.
    pub logs: u64,
    /// MB.
    pub memory: u64,
    /// Milliseconds.
    pub timeout: u64,
}

/// Smallest and largest value allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub min: u64,
    pub max: u64,
}

impl Bounds {
    /// The namespace's own bound, else its default, but never beyond these of the system (M-55).
    fn narrowed(self, min: [Option<u64>; 2], max: [Option<u64>; 2]) -> Self {
        Self {
            min: min[0].or(min[1]).map_or(self.min, |min| min.max(self.min)),
            max: max[0].or(max[1]).map_or(self.max, |max| max.min(self.max)),
        }
    }
}

/// What the operator allows (P-72 to P-75), and what an action without a limit gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemLimits {
    /// Milliseconds.
    pub timeout: Bounds,
    /// MB.
    pub memory: Bounds,
    pub concurrency: Bounds,
    /// MB.
    pub logs: Bounds,
    /// Standard values.
    pub std: EffectiveLimits,
}

impl Default for SystemLimits {
    fn default() -> Self {
        Self {
            timeout: Bounds {
                min: 100,
                max: 300_000,
            },
            memory: Bounds { min: 128, max: 512 },
            concurrency: Bounds { min: 1, max: 1 },
            logs: Bounds { min: 0, max: 10 },
            std: EffectiveLimits {
                concurrency: 1,
                logs: 10,
                memory: 256,
                timeout: 60_000,
            },
        }
    }
}

impl SystemLimits {
    /// The limits of an action with the gaps filled in (D-17).
    pub fn fill(&self, limits: &ActionLimits) -> EffectiveLimits {
        EffectiveLimits {
            concurrency: limits.concurrency.unwrap_or(self.std.concurrency),
            logs: limits.logs.unwrap_or(self.std.logs),
            memory: limits.memory,
            timeout: limits.timeout,
        }
    }

    /// Checks an action's limits against what its invoker's namespace may use: the user's own
    /// limits, else the `defaults` of namespaces, inside those of the system (D-33, M-55).
    ///
    /// # Errors
    /// The first violation, in OpenWhisk's order and words.
    pub fn check(
        &self,
        limits: &EffectiveLimits,
        user: &UserLimits,
        defaults: &UserLimits,
    ) -> Result<(), LimitViolation> {
        let pair = |of: fn(&UserLimits) -> Option<u64>| [of(user), of(defaults)];
        let all = [
            (
                Limit::Timeout,
                limits.timeout,
                self.timeout
                    .narrowed(pair(|l| l.min_action_timeout), pair(|l| l.max_action_timeout)),
            ),
            (
                Limit::Memory,
                limits.memory,
                self.memory
                    .narrowed(pair(|l| l.min_action_memory), pair(|l| l.max_action_memory)),
            ),
            (
                Limit::Concurrency,
                limits.concurrency,
                self.concurrency.narrowed(
                    pair(|l| l.min_action_concurrency),
                    pair(|l| l.max_action_concurrency),
                ),
            ),
            (
                Limit::Logs,
                limits.logs,
                self.logs
                    .narrowed(pair(|l| l.min_action_logs), pair(|l| l.max_action_logs)),
            ),
        ];
        for (limit, value, bounds) in all {
            if value > bounds.max {
                return Err(LimitViolation {
                    limit,
                    value,
                    threshold: bounds.max,
                    above: true,
                });
            }
            if value < bounds.min {
                return Err(LimitViolation {
                    limit,
                    value,
                    threshold: bounds.min,
                    above: false,
                });
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Timeout,
    Memory,
    Concurrency,
    Logs,
}

/// An action wants more or less than its invoker's namespace may use (E-30 to E-37).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "requirement failed: {} {} allowed threshold of {}",
    Amount(*limit, *value), if *above { "exceeds" } else { "below" }, Threshold(*limit, *threshold)
)]
pub struct LimitViolation {
    pub limit: Limit,
    pub value: u64,
    pub threshold: u64,
    pub above: bool,
}

struct Amount(Limit, u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Limit::Timeout => write!(f, "duration {} milliseconds", self.1),
            Limit::Memory => write!(f, "memory size {} MB", self.1),
            Limit::Concurrency => write!(f, "concurrency {}", self.1),
            Limit::Logs => write!(f, "log size {} MB", self.1),
        }
    }
}

struct Threshold(Limit, u64);

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Limit::Timeout => write!(f, "{} milliseconds", self.1),
            Limit::Memory | Limit::Logs => write!(f, "{} MB", self.1),
            Limit::Concurrency => write!(f, "{}", self.1),
        }
    }
}
