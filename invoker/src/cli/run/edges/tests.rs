use super::*;
use crate::config::environment::Environment;
use crate::config::load;
use std::time::Duration;

const ANSIBLE: &str = include_str!("../../../../tests/data/settings/ansible.env");

/// What ansible's variables and these make.
fn edges(variables: &[(&str, &str)]) -> EdgeSettings {
    let ansible = ANSIBLE.lines().filter_map(|line| line.split_once('='));
    let environment: Environment = ansible
        .chain(variables.iter().copied())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let layers = load::layers(&environment, None).unwrap();
    let mut reader = Reader::new(&layers);
    let configuration = load::read(&mut reader);
    let edges = read(&mut reader, &configuration);
    assert_eq!(reader.finish().problems, []);
    edges
}

/// P-41, K-03, K-11, K-12: Kafka's own settings pass with dots for dashes, TLS stores only where there is TLS.
#[test]
fn settings_of_kafka_pass_as_they_are() {
    let plain = edges(&[("CONFIG_whisk_kafka_producer_lingerMs", "5")]).kafka;
    assert_eq!(plain.hosts, "172.17.0.1:9093");
    assert_eq!(plain.message_bytes, 1_054_644);
    assert_eq!(
        plain.common,
        BTreeMap::from([("security.protocol".to_owned(), "PLAINTEXT".to_owned())])
    );
    assert_eq!(plain.producer["linger.ms"], "5");
    let secure = edges(&[
        ("CONFIG_whisk_kafka_common_securityProtocol", "SSL"),
        ("CONFIG_whisk_kafka_common_sslTruststoreLocation", "/conf/ca.pem"),
    ]);
    let secure = secure.kafka.common;
    assert_eq!(secure["ssl.truststore.location"], "/conf/ca.pem");
    assert_eq!(secure["ssl.endpoint.identification.algorithm"], "");
}

/// P-46, P-47, P-81, P-82: where the databases are.
#[test]
fn settings_of_couchdb_are_taken() {
    let couchdb = edges(&[("CONFIG_pekko_http_hostConnectionPool_maxConnections", "16")]).couchdb;
    assert_eq!(
        (&*couchdb.protocol, &*couchdb.host, couchdb.port),
        ("http", "172.17.0.1", 5984)
    );
    assert_eq!(
        (&*couchdb.username, &*couchdb.password),
        ("invoker_user", "invoker_secret")
    );
    assert_eq!(couchdb.databases.auth, "whisk_local_subjects");
    assert_eq!(couchdb.databases.entity, "whisk_local_whisks");
    assert_eq!(couchdb.databases.activation, "whisk_local_activations");
    assert_eq!((couchdb.max_connections, couchdb.max_tries), (16, 3));
    let old = edges(&[("CONFIG_akka_http_hostConnectionPool_maxConnections", "20")]);
    assert_eq!(old.couchdb.max_connections, 20);
}

/// P-60, P-61, P-62, P-63, P-64, P-66, P-67, P-68, P-69, P-53: how containers are started.
#[test]
fn settings_of_docker_are_taken() {
    let args = "CONFIG_whisk_containerFactory_containerArgs";
    let variables: Vec<(String, &str)> = [
        ("network", "ow_net"),
        ("dnsServers_0", "1.1.1.1"),
        ("dnsServers_1", "8.8.8.8"),
        ("dnsSearch_0", "example.org"),
        ("dnsOptions_0", "ndots:1"),
        ("extraEnvVars_1", "C"),
        ("extraArgs_gpus_0", "all"),
        ("extraArgs_capDrop_0", "MKNOD"),
        ("extraArgs_env_0", "A=b"),
        ("extraArgs_env_1", "B=c"),
    ]
    .map(|(name, value)| (format!("{args}_{name}"), value))
    .into();
    let mut all: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, *value)).collect();
    all.extend([
        ("CONFIG_whisk_containerFactory_runtimesRegistry_url", "r.io/"),
        ("CONFIG_whisk_containerFactory_userImagesRegistry_url", "u.io"),
        ("CONFIG_whisk_docker_client_parallelRuns", "2"),
        ("CONFIG_whisk_docker_client_maskDockerRunArgs", "true"),
        ("CONFIG_whisk_docker_client_timeouts_run", "1 s"),
        ("CONFIG_whisk_docker_client_timeouts_pull", "Inf"),
        ("CONFIG_whisk_containerPool_userCpus", "2"),
    ]);
    let docker = edges(&all).docker;
    assert_eq!(docker.network, "ow_net");
    assert_eq!(docker.dns_servers, ["1.1.1.1", "8.8.8.8"]);
    assert_eq!(docker.dns_search, ["example.org"]);
    assert_eq!(docker.dns_options, ["ndots:1"]);
    assert_eq!(docker.extra_env, ["__OW_ALLOW_CONCURRENT=false", "C"]);
    let extra: Vec<(&str, Vec<&str>)> = docker
        .extra_args
        .iter()
        .map(|(key, values)| (&**key, values.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        extra,
        [
            ("cap-drop", vec!["MKNOD"]),
            ("env", vec!["A=b", "B=c"]),
            ("gpus", vec!["all"]),
        ]
    );
    assert_eq!(
        (&*docker.runtimes_registry, &*docker.user_images_registry),
        ("r.io/", "u.io")
    );
    assert_eq!((docker.parallel_runs, docker.mask_run_args), (2, true));
    assert_eq!(docker.timeouts.run, Some(Duration::from_secs(1)));
    assert_eq!(docker.timeouts.pull, None);
    assert_eq!(docker.timeouts.rm, Some(Duration::from_secs(60)));
    assert_eq!(docker.user_cpus, Some(2.0));
    assert!(docker.collects_logs);
    let silent = edges(&[]).docker;
    assert_eq!(silent.timeouts, Timeouts::default());
    assert_eq!((silent.parallel_runs, &*silent.network), (10, "bridge"));
}
