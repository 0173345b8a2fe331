use super::*;
use crate::config::RecordLevel;
use crate::config::reader::Report;
use proto::unit::Bytes;
use proto::whisk::limits::Bounds;
use std::time::Duration;

const NEEDED: [(&str, &str); 3] = [
    ("KAFKA_HOSTS", "k:1"),
    ("WHISK_API_HOST_NAME", "api.example.org"),
    ("RUNTIMES_MANIFEST", r#"{"blackboxes": [{"name": "native"}]}"#),
];

/// What these variables, and those that are needed, make.
fn configured(variables: &[(&str, &str)]) -> (Configuration, Report) {
    let given = NEEDED.iter().chain(variables);
    let environment: Environment = given
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let layers = layers(&environment, None).unwrap();
    let mut reader = Reader::new(&layers);
    let configuration = read(&mut reader);
    (configuration, reader.finish())
}

fn good(variables: &[(&str, &str)]) -> Configuration {
    let (configuration, report) = configured(variables);
    assert_eq!(report.problems, []);
    configuration
}

/// P-40, P-42, P-43, P-44, P-50, P-51, P-56, P-57, P-72, P-73, P-74, P-75, P-77, P-78, P-79, P-84, P-85,
/// P-86, P-87, P-88, P-89, K-03: what holds where nothing is set.
#[test]
fn defaults_are_openwhisks() {
    let Configuration {
        settings, admin, log, ..
    } = good(&[]);
    assert_eq!(settings.limits, proto::whisk::limits::SystemLimits::default());
    assert_eq!(settings.user_memory, Bytes::mib(1024));
    assert_eq!(settings.peek(), 8);
    assert_eq!(settings.payload.largest_message(), Bytes(1_054_644));
    assert_eq!(settings.pool.pause_grace, Duration::from_secs(10));
    assert_eq!(settings.pool.idle_container, Duration::from_secs(600));
    assert_eq!(settings.containers, ContainerSettings::default());
    assert_eq!(
        (settings.topics.prefix.as_str(), &settings.topics.events),
        ("", &None)
    );
    assert_eq!((settings.topics.replication, settings.topics.partitions), (1, 1));
    assert_eq!(settings.topics.config, TopicSettings::default().config);
    assert_eq!(
        (settings.records.blocking, settings.records.non_blocking),
        (RecordLevel::Always, RecordLevel::Always)
    );
    let keys = settings.parameter_keys;
    assert!(keys.aes_128.is_none() && keys.aes_256.is_none());
    assert_eq!(settings.blacklist_interval, Duration::from_secs(300));
    assert_eq!(settings.api_host, "https://api.example.org");
    assert!(!settings.metrics.exposed && !settings.metrics.tags && settings.metrics.logs);
    assert_eq!(admin.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(
        (&*admin.username, &*admin.password),
        ("invoker.user", "invoker.pass")
    );
    assert_eq!(admin.transaction_header, "X-Request-ID");
    assert!(admin.https.is_none());
    assert_eq!(log.level, tracing::level_filters::LevelFilter::INFO);
}

/// P-50, P-54, P-56, P-57, P-58, P-59, P-71, P-102, C-42: what concerns containers.
#[test]
fn settings_of_containers_are_taken() {
    let configuration = good(&[
        ("CONFIG_whisk_containerPool_userMemory", "512 MB"),
        ("CONFIG_whisk_containerPool_userCpus", "1.5"),
        ("CONFIG_whisk_containerPool_pekkoClient", "true"),
        (
            "CONFIG_whisk_containerPool_prewarmExpirationCheckInitDelay",
            "1 s",
        ),
        ("CONFIG_whisk_containerPool_prewarmExpirationCheckInterval", "2 s"),
        (
            "CONFIG_whisk_containerPool_prewarmExpirationCheckIntervalVariance",
            "3 s",
        ),
        ("CONFIG_whisk_containerPool_prewarmExpirationLimit", "4"),
        ("CONFIG_whisk_containerProxy_timeouts_idleContainer", "2 s"),
        ("CONFIG_whisk_containerProxy_timeouts_pauseGrace", "300 ms"),
        ("CONFIG_whisk_containerProxy_actionHealthCheck_enabled", "true"),
        ("CONFIG_whisk_containerProxy_actionHealthCheck_checkPeriod", "5 s"),
        ("CONFIG_whisk_containerProxy_actionHealthCheck_maxFails", "6"),
        (
            "CONFIG_whisk_containerProxy_logActivationErrors_developerErrors",
            "true",
        ),
        ("CONFIG_whisk_runtimes_bypassPullForLocalImages", "true"),
        ("CONFIG_whisk_runtimes_localImagePrefix", "mine"),
        ("CONFIG_whisk_apacheClient_retryNoHttpResponseException", "true"),
    ]);
    let settings = configuration.settings;
    assert_eq!(settings.user_memory, Bytes(512_000_000));
    assert_eq!(configuration.user_cpus, Some(1.5));
    assert_eq!(settings.pool.idle_container, Duration::from_secs(2));
    assert_eq!(settings.pool.pause_grace, Duration::from_millis(300));
    let expected = ContainerSettings {
        stem_cells: StemCellSettings {
            first_look: Duration::from_secs(1),
            interval: Duration::from_secs(2),
            variance: Duration::from_secs(3),
            expirations: 4,
        },
        log_errors: LogActivationErrors {
            application: false,
            developer: true,
            whisk: true,
        },
    };
    assert_eq!(settings.containers, expected);
    let check = StemCellCheck {
        period: Duration::from_secs(5),
        fails: 6,
    };
    assert_eq!(settings.pool.stem_cell_check, Some(check));
    for (image, native) in [("mine/x:1", true), ("native:latest", true), ("other/x", false)] {
        assert_eq!(
            settings.runtimes.is_native(&image.parse().unwrap()),
            native,
            "{image}"
        );
    }
    let off = good(&[("CONFIG_whisk_runtimes_localImagePrefix", "mine")]);
    assert!(!off.settings.runtimes.is_native(&"mine/x:1".parse().unwrap()));
}

/// P-72, P-73, P-74, P-75, P-76, P-77, P-78, P-79, P-80, P-84, D-36, K-24: limits, records and keys.
#[test]
fn limits_records_and_keys_are_taken() {
    let settings = good(&[
        ("CONFIG_whisk_memory_min", "256 m"),
        ("CONFIG_whisk_memory_max", "2 g"),
        ("CONFIG_whisk_memory_std", "300 MB"),
        ("CONFIG_whisk_timeLimit_max", "2 m"),
        ("CONFIG_whisk_logLimit_max", "5m"),
        ("CONFIG_whisk_logLimit_std", "3m"),
        ("CONFIG_whisk_concurrencyLimit_max", "500"),
        ("CONFIG_whisk_concurrencyLimit_std", "2"),
        ("CONFIG_whisk_namespaceDefaultLimit_memory_max", "1 g"),
        ("CONFIG_whisk_namespaceDefaultLimit_timeLimit_min", "1 s"),
        (
            "CONFIG_whisk_namespaceDefaultLimit_activation_payload_max",
            "10 k",
        ),
        ("CONFIG_whisk_activation_payload_max", "20 k"),
        ("CONFIG_whisk_activation_payload_truncation", "100"),
        ("CONFIG_whisk_activation_serdesOverhead", "1000"),
        (
            "CONFIG_whisk_activation_storeBlockingResultLevel",
            "STORE_FAILURES",
        ),
        (
            "CONFIG_whisk_activation_storeNonBlockingResultLevel",
            "STORE_FAILURES_NOT_APPLICATION_ERRORS",
        ),
        ("CONFIG_whisk_activation_unstoredLogsEnabled", "true"),
        (
            "CONFIG_whisk_parameterStorage_aes-128",
            "MDEyMzQ1Njc4OWFiY2RlZg==",
        ),
    ])
    .settings;
    let limits = settings.limits;
    assert_eq!(limits.memory, Bounds { min: 256, max: 2048 });
    assert_eq!(limits.std.memory, 286);
    assert_eq!(
        limits.timeout,
        Bounds {
            min: 100,
            max: 120_000
        }
    );
    assert_eq!(limits.logs, Bounds { min: 0, max: 5 });
    assert_eq!((limits.std.logs, limits.std.concurrency), (3, 2));
    assert_eq!(limits.concurrency, Bounds { min: 1, max: 500 });
    // 1024 / 256 containers, of which each may have 500, and half of that.
    assert_eq!(settings.peek(), 1000);
    assert_eq!(settings.namespace_limits.max_action_memory, Some(1024));
    assert_eq!(settings.namespace_limits.min_action_timeout, Some(1000));
    let largest = settings.namespace_limits.max_payload_size.unwrap();
    assert_eq!(largest.bytes(), Bytes(10_240));
    assert_eq!(settings.payload.truncation, Bytes(100));
    assert_eq!(settings.payload.largest_message(), Bytes(21_480));
    assert_eq!(settings.records.blocking, RecordLevel::Failures);
    assert_eq!(
        settings.records.non_blocking,
        RecordLevel::FailuresNotApplicationErrors
    );
    assert!(settings.records.unstored_logs);
    assert_eq!(settings.parameter_keys.aes_128, Some(*b"0123456789abcdef"));
    let (_, report) = configured(&[("CONFIG_whisk_parameterStorage_aes-256", "dG9vIHNob3J0")]);
    let expected = "whisk.parameter-storage.aes-256 (env CONFIG_whisk_parameterStorage_aes-256) is \
                    \"********\": expected 32 bytes in base64";
    assert_eq!(report.problems[0].to_string(), expected);
}

/// P-40, P-42, P-43, P-44, P-45, P-86, K-04, K-29: topics, with whatever else the broker is to be told about them.
#[test]
fn settings_of_topics_are_taken() {
    let settings = good(&[
        ("CONFIG_whisk_kafka_replicationFactor", "3"),
        ("CONFIG_whisk_kafka_consumerLagCheckInterval", "10 seconds"),
        ("CONFIG_whisk_kafka_consumer_sessionTimeoutMs", "9000"),
        ("CONFIG_whisk_kafka_topics_prefix", "ow-"),
        ("CONFIG_whisk_kafka_topics_userEvent_prefix", "ev-"),
        ("CONFIG_whisk_userEvents_enabled", "true"),
        ("CONFIG_whisk_kafka_topics_invoker_retentionMs", "300000"),
        ("CONFIG_whisk_kafka_topics_invoker_partitions", "2"),
        ("CONFIG_whisk_kafka_topics_invoker_minInsyncReplicas", "2"),
    ])
    .settings;
    assert_eq!(settings.feed.lag_check, Duration::from_secs(10));
    assert_eq!(settings.feed.stuck, Duration::from_secs(10));
    let topics = settings.topics;
    assert_eq!((topics.replication, topics.partitions), (3, 2));
    assert_eq!(
        (&*topics.prefix, topics.events.as_deref()),
        ("ow-", Some("ev-events"))
    );
    let config: Vec<(&str, &str)> = topics.config.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(
        config,
        [
            ("min.insync.replicas", "2"),
            ("retention.bytes", "1073741824"),
            ("retention.ms", "300000"),
            ("segment.bytes", "536870912"),
        ]
    );
}

/// P-85, P-87, P-88, P-89, P-90, P-91, P-92, P-93, P-95: what operators reach the invoker by.
#[test]
fn settings_of_operators_are_taken() {
    let https = "CONFIG_whisk_invoker_https";
    let path = format!("{https}_keystorePath");
    let password = format!("{https}_keystorePassword");
    let client_auth = format!("{https}_clientAuth");
    let configuration = good(&[
        ("PORT", " 9443 "),
        ("CONFIG_whisk_invoker_protocol", "https"),
        (&path, "/conf/k.p12"),
        (&password, "pw"),
        (&client_auth, "true"),
        ("CONFIG_whisk_invoker_username", "u"),
        ("CONFIG_whisk_invoker_password", "p"),
        ("CONFIG_whisk_transactions_header", "X-Tid"),
        ("CONFIG_whisk_invoker_resource_tags", " 'gpu,fast' "),
        ("CONFIG_whisk_invoker_dedicated_namespaces", "guest"),
        ("METRICS_KAMON", "true"),
        ("METRICS_KAMON_TAGS", "true"),
        ("METRICS_LOG", "false"),
        ("CONFIG_whisk_metrics_prometheusEnabled", "true"),
        ("CONFIG_logback_log_level", "DEBUG"),
        ("CONFIG_whisk_blacklist_pollInterval", "1 s"),
    ]);
    let admin = configuration.admin;
    assert_eq!(admin.listen.port(), 9443);
    let store = admin.https.unwrap();
    assert_eq!(store.keystore, Path::new("/conf/k.p12"));
    assert!(store.client_auth && store.password == "pw");
    assert_eq!((&*admin.username, &*admin.password), ("u", "p"));
    assert_eq!(admin.transaction_header, "X-Tid");
    let settings = configuration.settings;
    assert_eq!(settings.identity.tags, ["gpu", "fast"]);
    assert_eq!(settings.identity.dedicated_namespaces, ["guest"]);
    let metrics = settings.metrics;
    assert!(metrics.exposed && metrics.tags && !metrics.logs);
    assert_eq!(
        configuration.log.level,
        tracing::level_filters::LevelFilter::DEBUG
    );
    assert_eq!(settings.blacklist_interval, Duration::from_secs(1));

    let (_, report) = configured(&[("CONFIG_whisk_invoker_protocol", "https")]);
    let said = report.problems[0].to_string();
    assert!(said.contains("CONFIG_whisk_invoker_https_keystorePath"), "{said}");
}

/// P-96, C-76: with a log driver of Docker's nothing is collected.
#[test]
fn the_log_store_is_one_of_two() {
    let logging = "org.apache.openwhisk.core.containerpool.logging";
    for (name, store) in [
        ("DockerToActivationLogStoreProvider", LogStore::Record),
        ("LogDriverLogStoreProvider", LogStore::Driver),
    ] {
        let class = format!("{logging}.{name}");
        let configuration = good(&[("CONFIG_whisk_spi_LogStoreProvider", &class)]);
        assert_eq!(configuration.log_store, store);
    }
}

/// P-50: a pool that holds no action is a mistake.
#[test]
fn a_pool_smaller_than_the_smallest_action_is_refused() {
    let (_, report) = configured(&[("CONFIG_whisk_containerPool_userMemory", "100 m")]);
    assert_eq!(
        report.problems[0].to_string(),
        "whisk.container-pool.user-memory (env CONFIG_whisk_containerPool_userMemory) is \"100 m\": \
         expected at least whisk.memory.min, or no action would ever run"
    );
    assert_eq!(report.problems.len(), 1);
}

/// L-11, P-20: the parts of the API host make a URL, or nothing.
#[test]
fn the_api_host_is_a_url_without_its_default_port() {
    let cases = [
        (("https", "API.Example.org", 443), "https://api.example.org"),
        (("HTTP", "10.0.0.1", 3233), "http://10.0.0.1:3233"),
        (("http", "a", 80), "http://a"),
        (("https", "a b", 443), ""),
        (("https", "a/b", 443), ""),
        (("https", "", 443), ""),
    ];
    for ((proto, host, port), expected) in cases {
        assert_eq!(url(proto, host, port), expected);
    }
}

/// P-91: what ansible writes for no tags, and for two.
#[test]
fn stray_blanks_and_quotes_around_names_are_dropped() {
    assert_eq!(names(" '' "), [""; 0]);
    assert_eq!(names(" 'gpu,fast' "), ["gpu", "fast"]);
    assert_eq!(names("a, b"), ["a", "b"]);
}
