//! What actions may use, and what is kept of their results: P-72 … P-79, D-34.

use super::reader::{DURATION, FLAG, Kind, NUMBER, Reader, SIZE};
use super::{ParameterKeys, PayloadLimits, RecordLevel, RecordSettings};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::unit::Bytes;
use proto::whisk::limits::{Bounds, EffectiveLimits, SystemLimits, UserLimits};

/// Milliseconds.
const MILLIS: Kind<u64> = Kind {
    expected: DURATION.expected,
    parse: |text| (DURATION.parse)(text).and_then(|duration| duration.as_millis().try_into().ok()),
};
/// Megabytes of 1048576 bytes, rounded down.
const MEGABYTES: Kind<u64> = Kind {
    expected: SIZE.expected,
    parse: |text| (SIZE.parse)(text).map(Bytes::as_mib),
};
const COUNT: Kind<u64> = Kind {
    expected: NUMBER.expected,
    parse: |text| text.trim().parse().ok(),
};

/// Defaults are OpenWhisk's.
pub(super) fn system(reader: &mut Reader<'_>) -> SystemLimits {
    let mut read = |name: &str, kind: &Kind<u64>, defaults: [&str; 3]| {
        let [min, max, std] = [("min", 0), ("max", 1), ("std", 2)]
            .map(|(bound, i)| reader.get(&format!("whisk.{name}.{bound}"), defaults[i], kind));
        if min > max {
            reader.refuse(&format!("whisk.{name}.min"), &format!("at most whisk.{name}.max"));
        }
        (Bounds { min, max }, std)
    };
    let (memory, memory_std) = read("memory", &MEGABYTES, ["128 m", "512 m", "256 m"]);
    let (timeout, timeout_std) = read("time-limit", &MILLIS, ["100 ms", "5 m", "1 m"]);
    let (logs, logs_std) = read("log-limit", &MEGABYTES, ["0 m", "10 m", "10 m"]);
    let (concurrency, concurrency_std) = read("concurrency-limit", &COUNT, ["1", "1", "1"]);
    SystemLimits {
        timeout,
        memory,
        concurrency,
        logs,
        std: EffectiveLimits {
            concurrency: concurrency_std,
            logs: logs_std,
            memory: memory_std,
            timeout: timeout_std,
        },
    }
}

/// `whisk.namespace-default-limit`; it must lie inside the system's limits (P-76).
pub(super) fn namespaces(
    reader: &mut Reader<'_>,
    system: &SystemLimits,
    payload: &PayloadLimits,
) -> UserLimits {
    let mut read = |name: &str, kind: &Kind<u64>, bounds: Bounds| {
        ["min", "max"].map(|bound| {
            let path = format!("whisk.namespace-default-limit.{name}.{bound}");
            let value = reader.find(&path, kind);
            if value.is_some_and(|value| value < bounds.min || value > bounds.max) {
                reader.refuse(
                    &path,
                    &format!("a value inside whisk.{name}.min and whisk.{name}.max"),
                );
            }
            value
        })
    };
    let [min_action_memory, max_action_memory] = read("memory", &MEGABYTES, system.memory);
    let [min_action_timeout, max_action_timeout] = read("time-limit", &MILLIS, system.timeout);
    let [min_action_logs, max_action_logs] = read("log-limit", &MEGABYTES, system.logs);
    let [min_action_concurrency, max_action_concurrency] =
        read("concurrency-limit", &COUNT, system.concurrency);
    let mut size = |name: &str, most: Option<Bytes>| {
        let path = format!("whisk.namespace-default-limit.{name}");
        let value = reader.find(&path, &SIZE);
        if most.is_some_and(|most| value.is_some_and(|value| value > most)) {
            reader.refuse(&path, &format!("at most whisk.{name}"));
        }
        value.map(Into::into)
    };
    UserLimits {
        min_action_memory,
        max_action_memory,
        min_action_timeout,
        max_action_timeout,
        min_action_logs,
        max_action_logs,
        min_action_concurrency,
        max_action_concurrency,
        max_parameter_size: size("parameter-size-limit", None),
        max_payload_size: size("activation.payload.max", Some(payload.max)),
        truncation_size: size("activation.payload.truncation", Some(payload.truncation)),
        ..UserLimits::default()
    }
}

pub(super) fn payload(reader: &mut Reader<'_>) -> PayloadLimits {
    PayloadLimits {
        max: reader.get("whisk.activation.payload.max", "1 m", &SIZE),
        truncation: reader.get("whisk.activation.payload.truncation", "1 m", &SIZE),
        overhead: reader.get("whisk.activation.serdes-overhead", "6068", &SIZE),
    }
}

const LEVEL: Kind<RecordLevel> = Kind {
    expected: "STORE_ALWAYS, STORE_FAILURES or STORE_FAILURES_NOT_APPLICATION_ERRORS",
    parse: |text| match text.trim() {
        "STORE_ALWAYS" => Some(RecordLevel::Always),
        "STORE_FAILURES" => Some(RecordLevel::Failures),
        "STORE_FAILURES_NOT_APPLICATION_ERRORS" => Some(RecordLevel::FailuresNotApplicationErrors),
        _ => None,
    },
};

pub(super) fn records(reader: &mut Reader<'_>) -> RecordSettings {
    // Of use only where the levels cannot be read, and then there is no start (P-80).
    reader.get("whisk.activation.disable-store-result", "false", &FLAG);
    RecordSettings {
        blocking: reader.get(
            "whisk.activation.store-blocking-result-level",
            "STORE_ALWAYS",
            &LEVEL,
        ),
        non_blocking: reader.get(
            "whisk.activation.store-non-blocking-result-level",
            "STORE_ALWAYS",
            &LEVEL,
        ),
        unstored_logs: reader.get("whisk.activation.unstored-logs-enabled", "false", &FLAG),
    }
}

const AES_128: Kind<[u8; 16]> = Kind {
    expected: "16 bytes in base64",
    parse: key,
};
const AES_256: Kind<[u8; 32]> = Kind {
    expected: "32 bytes in base64",
    parse: key,
};

fn key<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

pub(super) fn parameter_keys(reader: &mut Reader<'_>) -> ParameterKeys {
    // The scheme that is written with; a message names the scheme that it has to be read with.
    reader.get("whisk.parameter-storage.current", "off", &super::reader::TEXT);
    ParameterKeys {
        aes_128: reader.find("whisk.parameter-storage.aes-128", &AES_128),
        aes_256: reader.find("whisk.parameter-storage.aes-256", &AES_256),
    }
}
