//! `ffs-invoker run --print-config`, and what keeps `run` from starting: the settings as operators give them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::{Command, Output};

/// What ansible's role gives the invoker of a local cluster, with its empty variables.
const ANSIBLE: &str = include_str!("data/settings/ansible.env");

/// One start of the program.
struct Start {
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl Start {
    fn with(arguments: &[&str]) -> Self {
        let lines = ANSIBLE.lines().map(|line| line.split_once('=').unwrap());
        Self {
            environment: lines
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        }
    }

    fn set(mut self, variables: &[(&str, &str)]) -> Self {
        for (name, value) in variables {
            self.environment.insert((*name).to_owned(), (*value).to_owned());
        }
        self
    }

    fn without(mut self, name: &str) -> Self {
        assert!(self.environment.remove(name).is_some(), "{name} is not there");
        self
    }

    fn output(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
            .arg("run")
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .output()
            .unwrap()
    }

    /// The settings in force: value and origin by path.
    fn shown(&self) -> Shown {
        let output = self.output();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        Shown(text)
    }

    /// What it says instead of starting.
    fn refused(&self) -> String {
        let output = self.output();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.is_empty(), "it says nothing");
        for line in said.lines() {
            assert!(
                line.contains("] [ERROR] [#tid_sid_invoker] [Invoker] cannot start: "),
                "{line}"
            );
        }
        said
    }
}

struct Shown(String);

impl Shown {
    fn line(&self, path: &str) -> &str {
        let found = self
            .0
            .lines()
            .find(|line| line.starts_with(&format!("{path} = ")));
        found.unwrap_or_else(|| panic!("{path} is not shown:\n{}", self.0))
    }

    fn assert(&self, path: &str, value: &str, origin: &str) {
        assert_eq!(self.line(path), format!("{path} = {value} # {origin}"));
    }
}

fn print() -> Start {
    Start::with(&["--print-config"])
}

/// P-14, P-20, P-21, P-22, P-23, P-25, P-30, P-31, V-13: ansible's variables are taken as they are: empty
/// ones mean the default, unknown and old ones nothing, and no provider means the classic mode.
#[test]
fn ansibles_variables_are_all_understood() {
    let shown = print().shown();
    let pool = "whisk.container-pool";
    for (path, value, origin) in [
        ("kafka.hosts", "\"172.17.0.1:9093\"", "env KAFKA_HOSTS"),
        ("port", "\"8080\"", "env PORT"),
        (
            &format!("{pool}.user-memory"),
            "\"2048m\"",
            "env CONFIG_whisk_containerPool_userMemory",
        ),
        (
            "whisk.couchdb.databases.WhiskEntity",
            "\"whisk_local_whisks\"",
            "env CONFIG_whisk_couchdb_databases_WhiskEntity",
        ),
        ("whisk.memory.max", "\"512 m\"", "default"),
        (
            "whisk.container-factory.container-args.extra-env-vars",
            "[\"__OW_ALLOW_CONCURRENT=false\"]",
            "env CONFIG_whisk_containerFactory_containerArgs_extraEnvVars_0",
        ),
        (
            "whisk.container-factory.container-args.dns-servers",
            "[]",
            "default",
        ),
        (
            "whisk.spi.InvokerProvider",
            "\"org.apache.openwhisk.core.invoker.InvokerReactive\"",
            "default",
        ),
        (
            "whisk.kafka.topics.invoker.retention-ms",
            "\"300000\"",
            "env CONFIG_whisk_kafka_topics_invoker_retentionMs",
        ),
        (
            "whisk.kafka.topics.invoker.segment-bytes",
            "\"536870912\"",
            "default",
        ),
        ("whisk.metrics.kamon-enabled", "\"false\"", "env METRICS_KAMON"),
    ] {
        shown.assert(path, value, origin);
    }
    assert!(
        shown.0.contains("# without effect here: whisk.cluster.name = "),
        "{}",
        shown.0
    );
    assert!(shown.0.parse::<toml::Table>().is_ok());
}

#[test]
fn secrets_are_never_shown() {
    let key = "MDEyMzQ1Njc4OWFiY2RlZg==";
    let start = print().set(&[
        ("CONFIG_whisk_parameterStorage_aes128", "x"),
        (
            "INVOKER_OPTS",
            &format!("-Dwhisk.parameter-storage.aes-128={key} -Dwhisk.x.password=hush"),
        ),
    ]);
    let shown = start.shown();
    for secret in ["invoker_secret", key, "hush"] {
        assert!(!shown.0.contains(secret), "{secret} in\n{}", shown.0);
    }
    let lines = shown.0.lines();
    let passwords: Vec<&str> = lines.filter(|line| line.contains("password = ")).collect();
    assert_eq!(passwords.len(), 6, "{passwords:?}");
    assert!(
        passwords.iter().all(|line| line.contains("= \"********\" # ")),
        "{passwords:?}"
    );
    shown.assert(
        "whisk.parameter-storage.aes-128",
        "\"********\"",
        "-D in env INVOKER_OPTS",
    );
}

/// P-24, P-25, P-26: the origins of a value, in the order in which one wins over the other.
#[test]
fn the_environment_wins_over_options_file_and_document() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("invoker.toml");
    let content = "whisk.container-pool.user-memory = \"3g\"\nwhisk.memory.max = \"700m\"\nport = 9000\n\
         [ffs]\npolicy = \"fluidfaas\"\nkeep-alive = \"30 s\"\n";
    std::fs::write(&file, content).unwrap();
    let file = file.to_str().unwrap();
    let mut start = Start::with(&["--config", file, "--print-config"])
        .without("PORT")
        .without("CONFIG_whisk_containerPool_userMemory")
        .without("OPENWHISK_ENCODED_CONFIG")
        .set(&[(
            "OPENWHISK_CONFIG",
            "include classpath(\"application.conf\")\nwhisk { container-pool.user-memory = 1 g\n\
             memory.max = 600 m\n time-limit.max: 10 minutes }",
        )]);
    let in_file = format!("file {file}");
    let memory = "whisk.container-pool.user-memory";
    let shown = start.shown();
    shown.assert(
        "whisk.time-limit.max",
        "\"10 minutes\"",
        "HOCON in env OPENWHISK_CONFIG",
    );
    shown.assert("whisk.memory.max", "\"700m\"", &in_file);
    shown.assert("port", "\"9000\"", &in_file);
    shown.assert("ffs.keep-alive", "\"30 s\"", &in_file);
    shown.assert(memory, "\"3g\"", &in_file);

    start = start.set(&[("JAVA_OPTS", "-Xmx1g -Dwhisk.container-pool.user-memory=4g")]);
    start.shown().assert(memory, "\"4g\"", "-D in env JAVA_OPTS");

    start = start.set(&[("CONFIG_whisk_containerPool_userMemory", "$POOL"), ("POOL", "5g")]);
    start
        .shown()
        .assert(memory, "\"5g\"", "env CONFIG_whisk_containerPool_userMemory");
}

/// P-28, P-29, P-41, P-51, P-63, P-65, P-100, P-101, V-12: values of every kind that OpenWhisk takes.
#[test]
fn what_openwhisk_takes_is_taken() {
    for (name, value) in [
        ("CONFIG_whisk_containerPool_userMemory", "2048 MB"),
        ("CONFIG_whisk_containerPool_userMemory", "2147483648"),
        ("CONFIG_whisk_containerProxy_timeouts_pauseGrace", "200 ms"),
        ("CONFIG_whisk_containerProxy_timeouts_pauseGrace", "1m"),
        ("CONFIG_whisk_docker_client_timeouts_run", "Inf"),
        ("CONFIG_whisk_containerPool_concurrentPeekFactor", "1.0"),
        ("CONFIG_whisk_containerPool_akkaClient", "true"),
        ("CONFIG_whisk_containerPool_pekkoClient", "true"),
        ("CONFIG_whisk_couchdb_provider", "Cloudant"),
        ("CONFIG_whisk_kafka_consumer_sessionTimeoutMs", "9000"),
        (
            "CONFIG_whisk_containerFactory_containerArgs_extraArgs_capDrop_0",
            "MKNOD",
        ),
        (
            "CONFIG_whisk_containerFactory_runtimesRegistry_credentials_user",
            "u",
        ),
        ("CONFIG_whisk_tracing_zipkin_url", "http://z"),
        ("CONFIG_whisk_etcd_hosts", "e:1"),
        ("CONFIG_whisk_nonsense_key", "1"),
        (
            "CONFIG_whisk_spi_InvokerProvider",
            "org.apache.openwhisk.core.invoker.InvokerReactive",
        ),
    ] {
        print().set(&[(name, value)]).shown();
    }
    let shown = print()
        .set(&[
            (
                "CONFIG_whisk_containerFactory_containerArgs_extraArgs_capDrop_1",
                "B",
            ),
            (
                "CONFIG_whisk_containerFactory_containerArgs_extraArgs_capDrop_0",
                "A",
            ),
        ])
        .shown();
    let args = "whisk.container-factory.container-args.extra-args.cap-drop";
    assert!(shown.line(args).starts_with(&format!("{args} = [\"A\", \"B\"]")));
}

/// P-11, P-13, P-46, P-51, P-76, P-79, P-89, P-96, P-97, P-98, P-121: a wrong value is told with its path,
/// the variable it stands in, what it is and what was expected.
#[test]
fn a_wrong_value_names_itself() {
    let manifest_without_image = r#"{"runtimes": {"a": [{"kind": "a:1"}]}}"#;
    let elastic = "org.apache.openwhisk.core.database.elasticsearch.ElasticSearchActivationStoreProvider";
    let fpc = "org.apache.openwhisk.core.invoker.FPCInvokerReactive";
    let mongo = "org.apache.openwhisk.core.database.mongodb.MongoDBArtifactStoreProvider";
    let kubernetes = "org.apache.openwhisk.core.containerpool.kubernetes.KubernetesContainerFactoryProvider";
    let splunk = "org.apache.openwhisk.core.containerpool.logging.SplunkLogStoreProvider";
    for (name, value, path, expected) in [
        (
            "CONFIG_whisk_containerPool_userMemory",
            "2x",
            "whisk.container-pool.user-memory",
            "a size",
        ),
        (
            "CONFIG_whisk_containerPool_concurrentPeekFactor",
            "0",
            "whisk.container-pool.concurrent-peek-factor",
            "above 0, up to 1",
        ),
        (
            "CONFIG_whisk_containerPool_concurrentPeekFactor",
            "1.1",
            "whisk.container-pool.concurrent-peek-factor",
            "above 0, up to 1",
        ),
        (
            "CONFIG_whisk_containerPool_userCpus",
            "0",
            "whisk.container-pool.user-cpus",
            "above 0",
        ),
        (
            "CONFIG_whisk_couchdb_provider",
            "Mongo",
            "whisk.couchdb.provider",
            "CouchDB or Cloudant",
        ),
        (
            "CONFIG_whisk_couchdb_host",
            " ",
            "whisk.couchdb.host",
            "not empty",
        ),
        ("PORT", "eighty", "port", "a port"),
        (
            "CONFIG_whisk_containerProxy_timeouts_pauseGrace",
            "soon",
            "whisk.container-proxy.timeouts.pause-grace",
            "a duration",
        ),
        (
            "CONFIG_whisk_containerFactory_containerArgs_dnsServers",
            "1.1.1.1",
            "whisk.container-factory.container-args.dns-servers",
            "a list",
        ),
        (
            "CONFIG_whisk_memory_min",
            "1 g",
            "whisk.memory.min",
            "at most whisk.memory.max",
        ),
        (
            "CONFIG_whisk_namespaceDefaultLimit_memory_max",
            "1 g",
            "whisk.namespace-default-limit.memory.max",
            "inside whisk.memory.min",
        ),
        (
            "CONFIG_whisk_activation_storeBlockingResultLevel",
            "NEVER",
            "whisk.activation.store-blocking-result-level",
            "STORE_ALWAYS",
        ),
        (
            "CONFIG_whisk_invoker_protocol",
            "ftp",
            "whisk.invoker.protocol",
            "http or https",
        ),
        (
            "CONFIG_whisk_spi_InvokerProvider",
            fpc,
            "whisk.spi.InvokerProvider",
            "InvokerReactive; the scheduler mode",
        ),
        (
            "CONFIG_whisk_spi_ActivationStoreProvider",
            elastic,
            "whisk.spi.ActivationStoreProvider",
            "ArtifactActivationStoreProvider",
        ),
        (
            "CONFIG_whisk_spi_ArtifactStoreProvider",
            mongo,
            "whisk.spi.ArtifactStoreProvider",
            "CouchDbStoreProvider",
        ),
        (
            "CONFIG_whisk_spi_ContainerFactoryProvider",
            kubernetes,
            "whisk.spi.ContainerFactoryProvider",
            "DockerContainerFactoryProvider",
        ),
        (
            "CONFIG_whisk_spi_LogStoreProvider",
            splunk,
            "whisk.spi.LogStoreProvider",
            "LogDriverLogStoreProvider",
        ),
    ] {
        let said = Start::with(&["--id", "0"]).set(&[(name, value)]).refused();
        let begin = format!("cannot start: {path} (env {name}) is {value:?}: expected ");
        assert!(said.contains(&begin) && said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    for manifest in ["{", manifest_without_image] {
        let said = Start::with(&["--id", "0"])
            .set(&[("RUNTIMES_MANIFEST", manifest)])
            .refused();
        assert!(
            said.contains("runtimes.manifest: the runtimes manifest cannot be read"),
            "{said}"
        );
    }
}

/// P-11: what is needed and missing is named, with the variable that holds it; all at once.
#[test]
fn missing_values_are_named_with_their_variables() {
    let mut start = Start::with(&["--id", "0"]);
    let needed = [
        "KAFKA_HOSTS",
        "RUNTIMES_MANIFEST",
        "WHISK_API_HOST_NAME",
        "CONFIG_whisk_couchdb_password",
        "CONFIG_whisk_couchdb_databases_WhiskAuth",
        "CONFIG_whisk_invoker_https_keystorePath",
    ];
    for name in needed {
        start = start.without(name);
    }
    let said = start.refused();
    for name in needed {
        assert!(
            said.contains(&format!("in the environment variable {name} or")),
            "{said}"
        );
    }
    assert_eq!(said.lines().count(), needed.len(), "{said}");
}

/// P-03, P-05: a token that is none of the grammar's, and no id at all.
#[test]
fn a_wrong_command_line_is_an_error_line_and_exit_code_1() {
    for (arguments, named) in [
        (&["--id", "x"][..], "--id is \"x\""),
        (&["--id=3"], "\"--id=3\""),
        (&["--id", "3", "--foo"], "\"--foo\""),
        (&["--uniqueName"], "--uniqueName has no value"),
        (&["--uniqueName", "  "], "this invoker has no id"),
        (&[], "this invoker has no id"),
        (&["--config", "/nowhere/at.all"], "/nowhere/at.all cannot be read"),
    ] {
        let said = Start::with(arguments).refused();
        assert!(said.contains(named), "{said}");
    }
}

/// P-09: without an id, a list of ZooKeepers that cannot be right is quoted.
#[test]
fn zookeepers_that_cannot_be_right_are_quoted() {
    for hosts in [":2181", "zookeeper:", ""] {
        let start = Start::with(&["--uniqueName", "a"]).set(&[("ZOOKEEPER_HOSTS", hosts)]);
        assert!(start.refused().contains(&format!("ZOOKEEPER_HOSTS is {hosts:?}")));
    }
}

/// K-13: stores that cannot be read are refused where TLS is on, and are nothing where it is off.
#[test]
fn a_jks_store_keeps_from_starting_where_there_is_tls() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("invoker.toml");
    let content = format!(
        "[ffs]\nengine = \"process\"\nstate-dir = {0:?}\nrun-dir = {0:?}\n",
        folder.path()
    );
    std::fs::write(&file, content).unwrap();
    let said = Start::with(&["--id", "0", "--config", file.to_str().unwrap()])
        .set(&[("CONFIG_whisk_kafka_common_securityProtocol", "SSL")])
        .output();
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(
        text.contains("kafka-keystore.jks: JKS stores cannot be read"),
        "{text}"
    );
    assert!(text.contains("PKCS12"), "{text}");
}

#[test]
fn slices_come_from_where_the_settings_say() {
    let start = print().set(&[
        ("CONFIG_ffs_inventory", "nvml"),
        ("CONFIG_ffs_nvmlLibrary", "/opt/libnvidia-ml.so.1"),
    ]);
    let shown = start.shown();
    shown.assert("ffs.inventory", "\"nvml\"", "env CONFIG_ffs_inventory");
    shown.assert(
        "ffs.nvml-library",
        "\"/opt/libnvidia-ml.so.1\"",
        "env CONFIG_ffs_nvmlLibrary",
    );
    let said = Start::with(&[])
        .set(&[("CONFIG_ffs_inventory", "cuda")])
        .refused();
    assert!(said.contains("none, simulated, nvml or auto"), "{said}");
}

#[test]
fn drift_is_as_the_settings_say() {
    let set = |name: &str, value: &str| print().set(&[(name, value)]);
    let shown = set("CONFIG_ffs_drift_factor", "2").shown();
    shown.assert("ffs.drift.factor", "\"2\"", "env CONFIG_ffs_drift_factor");
    shown.assert("ffs.drift.runs", "\"30\"", "default");
    shown.assert("ffs.drift.window", "\"10 seconds\"", "default");
    for factor in ["1", "0.5", "inf", "much"] {
        let name = "CONFIG_ffs_drift_factor";
        let said = Start::with(&[]).set(&[(name, factor)]).refused();
        assert!(said.contains("a number above 1"), "{said}");
    }
}

#[test]
fn sharing_is_as_the_settings_say_and_cannot_go_to_and_fro() {
    let set = |name: &str, value: &str| print().set(&[(name, value)]);
    let start = set("CONFIG_ffs_sharing_victims", "lru");
    let shown = start.shown();
    shown.assert("ffs.sharing.victims", "\"lru\"", "env CONFIG_ffs_sharing_victims");
    shown.assert("ffs.sharing.dwell", "\"10 seconds\"", "default");

    for (name, value, expected) in [
        (
            "CONFIG_ffs_sharing_victims",
            "oldest",
            "hotness, lru, lfu or cost",
        ),
        ("CONFIG_ffs_sharing_most", "1.5", "a number from 0 to 1"),
        (
            "CONFIG_ffs_sharing_demote",
            "0.6",
            "expected the first to be less",
        ),
    ] {
        let said = Start::with(&[]).set(&[(name, value)]).refused();
        assert!(said.contains(expected), "{said}");
    }
}
