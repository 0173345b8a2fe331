//! Reads everything that is not about one of the edges: names, defaults and rules of OpenWhisk's settings.
//!
//! Source: `application.conf` of `common/scala` and `core/invoker`; contract P-20, P-40 … P-102.

use super::containers::{ContainerSettings, LogActivationErrors, StemCellSettings};
use super::documents::{self, Error};
use super::environment::{self, Environment};
use super::layers::Layers;
use super::node::{self, NodeSettings};
use super::providers::{self, LogStore};
use super::reader::{CPUS, DURATION, FLAG, Kind, NUMBER, PORT, POSITIVE, Reader, SIZE, TEXT};
use super::{
    AdminSettings, FeedSettings, HttpsSettings, Identity, JournalSettings, JournalSync, MetricsSettings,
    PipelineSettings, PoolSettings, Settings, StemCellCheck, TopicSettings, limits,
};
use crate::runtimes::Runtimes;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All layers. The order, the last one winning: defaults, HOCON document, settings file, `-D` options,
/// environment variables.
///
/// # Errors
/// When a document cannot be read.
pub fn layers(environment: &Environment, file: Option<&Path>) -> Result<Layers, Error> {
    Ok(Layers(vec![
        environment::configuration(environment),
        environment::properties(environment),
        environment::jvm_options(environment),
        file.map(documents::toml_file).transpose()?.unwrap_or_default(),
        documents::hocon(environment)?,
    ]))
}

/// What was read; what an edge needs is read by whoever makes the edge.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Id and names are not in it yet, and directories that depend on them.
    pub settings: Settings,
    pub admin: AdminSettings,
    pub node: NodeSettings,
    pub log: LogSettings,
    pub log_store: LogStore,
    pub zookeeper_hosts: String,
    /// `whisk.container-pool.user-cpus` (P-53).
    pub user_cpus: Option<f64>,
}

/// `logback.log.level` (P-95), and the shape of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: tracing::level_filters::LevelFilter,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// As the Scala invoker's (N-20).
    OpenWhisk,
    /// With fields for people.
    Plain,
}

const LEVEL: Kind<tracing::level_filters::LevelFilter> = Kind {
    expected: "OFF, ERROR, WARN, INFO, DEBUG or TRACE",
    parse: |text| {
        use tracing::level_filters::LevelFilter;
        match text.trim().to_ascii_uppercase().as_str() {
            "OFF" => Some(LevelFilter::OFF),
            "ERROR" => Some(LevelFilter::ERROR),
            "WARN" | "WARNING" => Some(LevelFilter::WARN),
            "INFO" => Some(LevelFilter::INFO),
            "DEBUG" => Some(LevelFilter::DEBUG),
            "TRACE" | "ALL" => Some(LevelFilter::TRACE),
            _ => None,
        }
    },
};
const FORMAT: Kind<LogFormat> = Kind {
    expected: "openwhisk or plain",
    parse: |text| match text.trim() {
        "openwhisk" => Some(LogFormat::OpenWhisk),
        "plain" => Some(LogFormat::Plain),
        _ => None,
    },
};
const FACTOR: Kind<f64> = Kind {
    expected: "a number above 0, up to 1",
    parse: |text| text.trim().parse().ok().filter(|f: &f64| *f > 0.0 && *f <= 1.0),
};

/// Reads all of it. What is wrong is noted in the reader.
pub fn read(reader: &mut Reader<'_>) -> Configuration {
    let node = node::read(reader);
    let log_store = providers::read(reader);
    let system = limits::system(reader);
    let payload = limits::payload(reader);
    let local_image_prefix = local_images(reader);
    let settings = Settings {
        identity: identity(reader),
        user_memory: reader.get("whisk.container-pool.user-memory", "1024 m", &SIZE),
        limits: system,
        namespace_limits: limits::namespaces(reader, &system, &payload),
        payload,
        pool: PoolSettings {
            pause_grace: reader.get(
                "whisk.container-proxy.timeouts.pause-grace",
                "10 seconds",
                &DURATION,
            ),
            idle_container: reader.get(
                "whisk.container-proxy.timeouts.idle-container",
                "10 minutes",
                &DURATION,
            ),
            concurrent_peek_factor: reader.get("whisk.container-pool.concurrent-peek-factor", "0.5", &FACTOR),
            stem_cell_check: stem_cell_check(reader),
        },
        containers: containers(reader),
        pipelines: PipelineSettings {
            policy: node.policy.clone(),
            sharing: node.sharing,
            drift: node.drift,
            keep_alive: node.keep_alive,
            weights: node.weights,
            layers: PathBuf::new(),
        },
        runtimes: runtimes(reader).with_local_images(local_image_prefix),
        topics: topics(reader),
        feed: feed(reader),
        records: limits::records(reader),
        parameter_keys: limits::parameter_keys(reader),
        metrics: metrics(reader, &node),
        blacklist_interval: reader.get("whisk.blacklist.poll-interval", "5 minutes", &DURATION),
        api_host: api_host(reader),
        state_dir: node.state_dir.clone(),
        journal: journal(reader),
        grace: node.grace,
    };
    if settings.user_memory.as_mib() < system.memory.min {
        reader.refuse(
            "whisk.container-pool.user-memory",
            "at least whisk.memory.min, or no action would ever run",
        );
    }
    without_effect(reader);
    Configuration {
        admin: admin(reader),
        log: log(reader),
        user_cpus: reader.find("whisk.container-pool.user-cpus", &CPUS),
        zookeeper_hosts: reader.get("zookeeper.hosts", "", &TEXT),
        settings,
        node,
        log_store,
    }
}

/// How the log is written; read by itself too, so that what is wrong with the rest can be told in its shape.
pub fn log(reader: &mut Reader<'_>) -> LogSettings {
    LogSettings {
        level: reader.get("logback.log.level", "INFO", &LEVEL),
        format: reader.get("ffs.log-format", "openwhisk", &FORMAT),
    }
}

fn identity(reader: &mut Reader<'_>) -> Identity {
    Identity {
        tags: names(&reader.get("whisk.invoker.resource.tags", "", &TEXT)),
        dedicated_namespaces: names(&reader.get("whisk.invoker.dedicated.namespaces", "", &TEXT)),
        ..Identity::default()
    }
}

/// Names with commas between them. Ansible puts blanks and quotes around the whole (P-91).
fn names(text: &str) -> Vec<String> {
    let stray = |c: char| c.is_whitespace() || c == '\'' || c == '"';
    let names = text
        .trim_matches(stray)
        .split(',')
        .map(|name| name.trim_matches(stray));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// P-58.
fn stem_cell_check(reader: &mut Reader<'_>) -> Option<StemCellCheck> {
    let key = |name: &str| format!("whisk.container-proxy.action-health-check.{name}");
    let enabled = reader.get(&key("enabled"), "false", &FLAG);
    let check = StemCellCheck {
        period: reader.get(&key("check-period"), "3 seconds", &DURATION),
        fails: reader.get(&key("max-fails"), "3", &POSITIVE),
    };
    enabled.then_some(check)
}

/// What is written down, and when the disk has it.
fn journal(reader: &mut Reader<'_>) -> JournalSettings {
    const SYNC: Kind<JournalSync> = Kind {
        expected: "later or always",
        parse: |text| match text.trim() {
            "later" => Some(JournalSync::Later),
            "always" => Some(JournalSync::Always),
            _ => None,
        },
    };
    JournalSettings {
        sync: reader.get("ffs.journal.sync", "later", &SYNC),
        keep_on_stop: reader.get("ffs.journal.keep-on-stop", "false", &FLAG),
        most_bytes: reader.get("ffs.journal.most-bytes", "1 g", &SIZE).0,
    }
}

fn containers(reader: &mut Reader<'_>) -> ContainerSettings {
    let pool = |name: &str| format!("whisk.container-pool.{name}");
    let expiration = |name: &str| pool(&format!("prewarm-expiration-{name}"));
    let errors = "whisk.container-proxy.log-activation-errors";
    ContainerSettings {
        stem_cells: StemCellSettings {
            first_look: reader.get(&expiration("check-init-delay"), "10 minutes", &DURATION),
            interval: reader.get(&expiration("check-interval"), "10 minutes", &DURATION),
            variance: reader.get(&expiration("check-interval-variance"), "10 seconds", &DURATION),
            expirations: reader.get(&expiration("limit"), "100", &NUMBER) as usize,
        },
        log_errors: LogActivationErrors {
            application: reader.get(&format!("{errors}.application-errors"), "false", &FLAG),
            developer: reader.get(&format!("{errors}.developer-errors"), "false", &FLAG),
            whisk: reader.get(&format!("{errors}.whisk-errors"), "true", &FLAG),
        },
    }
}

/// Prefix of images that need not be pulled (P-71).
fn local_images(reader: &mut Reader<'_>) -> Option<String> {
    let bypass = reader.get("whisk.runtimes.bypass-pull-for-local-images", "false", &FLAG);
    let prefix = reader.get("whisk.runtimes.local-image-prefix", "whisk", &TEXT);
    bypass.then_some(prefix)
}

fn runtimes(reader: &mut Reader<'_>) -> Runtimes {
    let manifest = reader
        .need("runtimes.manifest", &TEXT)
        .map(|text| Runtimes::parse(&text));
    match manifest {
        Some(Ok(runtimes)) => runtimes,
        Some(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            reader.problem(format!("runtimes.manifest: {error}{}", cause.unwrap_or_default()));
            Runtimes::built_in()
        }
        None => Runtimes::built_in(),
    }
}

fn topics(reader: &mut Reader<'_>) -> TopicSettings {
    let mut topics = TopicSettings {
        prefix: reader.get("whisk.kafka.topics.prefix", "", &TEXT),
        replication: count(reader, "whisk.kafka.replication-factor"),
        partitions: count(reader, "whisk.kafka.topics.invoker.partitions"),
        ..TopicSettings::default()
    };
    let base = "whisk.kafka.topics.invoker";
    for (key, value) in &mut topics.config {
        *value = reader.get(&format!("{base}.{}", key.replace('.', "-")), value, &TEXT);
    }
    // Other topic settings reach the broker as they are (K-04).
    for (key, value) in reader.texts(base) {
        if key != "partitions" {
            topics.config.insert(key.replace('-', "."), value);
        }
    }
    let events = reader.get("whisk.user-events.enabled", "false", &FLAG);
    let prefix = reader.get("whisk.kafka.topics.user-event.prefix", "", &TEXT);
    topics.events = events.then(|| format!("{prefix}events"));
    topics
}

fn feed(reader: &mut Reader<'_>) -> FeedSettings {
    let session = reader.get("whisk.kafka.consumer.session-timeout-ms", "30000", &NUMBER);
    FeedSettings::new(
        reader.get("whisk.kafka.consumer-lag-check-interval", "60 seconds", &DURATION),
        Duration::from_millis(session.into()),
    )
}

fn count(reader: &mut Reader<'_>, path: &str) -> i32 {
    const COUNT: Kind<i32> = Kind {
        expected: POSITIVE.expected,
        parse: |text| {
            text.trim()
                .parse()
                .ok()
                .filter(|n| (1..=i32::from(i16::MAX)).contains(n))
        },
    };
    reader.get(path, "1", &COUNT)
}

fn metrics(reader: &mut Reader<'_>, node: &NodeSettings) -> MetricsSettings {
    let kamon = reader.get("whisk.metrics.kamon-enabled", "false", &FLAG);
    let prometheus = reader.get("whisk.metrics.prometheus-enabled", "false", &FLAG);
    MetricsSettings {
        exposed: node.metrics_always || kamon && prometheus,
        tags: reader.get("whisk.metrics.kamon-tags-enabled", "false", &FLAG),
        logs: reader.get("whisk.metrics.logs-enabled", "true", &FLAG),
    }
}

/// `__OW_API_HOST`: a URL without default port; empty if the parts make none (L-11).
fn api_host(reader: &mut Reader<'_>) -> String {
    let name = reader.need("whisk.api.host.name", &TEXT).unwrap_or_default();
    let proto = reader.get("whisk.api.host.proto", "https", &TEXT);
    let port = reader.get("whisk.api.host.port", "443", &PORT);
    url(&proto, &name, port)
}

fn url(proto: &str, host: &str, port: u16) -> String {
    let (proto, host) = (proto.to_ascii_lowercase(), host.to_ascii_lowercase());
    let port = match (&*proto, port) {
        ("https", 443) | ("http", 80) => String::new(),
        (_, port) => format!(":{port}"),
    };
    let url = format!("{proto}://{host}{port}");
    let is_url = !host.is_empty() && url.parse::<hyper::Uri>().is_ok_and(|uri| uri.path() == "/");
    if is_url { url } else { String::new() }
}

fn admin(reader: &mut Reader<'_>) -> AdminSettings {
    const PROTOCOL: Kind<bool> = Kind {
        expected: "http or https",
        parse: |text| match text.trim() {
            "https" => Some(true),
            "http" => Some(false),
            _ => None,
        },
    };
    let https = reader.get("whisk.invoker.protocol", "http", &PROTOCOL);
    AdminSettings {
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, reader.get("port", "8080", &PORT))),
        username: reader.get("whisk.invoker.username", "invoker.user", &TEXT),
        password: reader.get("whisk.invoker.password", "invoker.pass", &TEXT),
        https: if https { keystore(reader) } else { None },
        transaction_header: reader.get("whisk.transactions.header", "X-Request-ID", &TEXT),
    }
}

fn keystore(reader: &mut Reader<'_>) -> Option<HttpsSettings> {
    const FLAVOR: Kind<String> = Kind {
        expected: "PKCS12: a JKS store has to be converted, by keytool -importkeystore -deststoretype pkcs12",
        parse: |text| Some(text.to_owned()).filter(|text| text.eq_ignore_ascii_case("PKCS12")),
    };
    let https = |name: &str| format!("whisk.invoker.https.{name}");
    reader.get(&https("keystore-flavor"), "PKCS12", &FLAVOR);
    let client_auth = reader.get(&https("client-auth"), "false", &FLAG);
    Some(HttpsSettings {
        keystore: reader.need(&https("keystore-path"), &TEXT)?.into(),
        password: reader.need(&https("keystore-password"), &TEXT)?,
        client_auth,
    })
}

/// Settings that are read so that a wrong value is noticed, and that do nothing in this mode, or here (P-52, P-55, P-69, P-70,
/// P-102).
fn without_effect(reader: &mut Reader<'_>) {
    let pool = |name: &str| format!("whisk.container-pool.{name}");
    reader.any(&[&pool("pekko-client"), &pool("akka-client")], "false", &FLAG);
    reader.get(
        "whisk.apache-client.retry-no-http-response-exception",
        "false",
        &FLAG,
    );
    reader.get(&pool("prewarm-max-retry-limit"), "5", &NUMBER);
    reader.get(&pool("prewarm-promotion"), "false", &FLAG);
    reader.get(&pool("memory-sync-interval"), "1 second", &DURATION);
    reader.get(&pool("batch-deletion-size"), "10", &NUMBER);
    reader.get(
        "whisk.container-proxy.timeouts.keeping-duration",
        "10 minutes",
        &DURATION,
    );
}

#[cfg(test)]
mod tests;
