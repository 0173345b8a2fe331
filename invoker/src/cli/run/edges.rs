//! What the edges are made of: Kafka, CouchDB, Docker or processes, and the GPUs.

use crate::bus::kafka::KafkaSettings;
use crate::cli::GpuArguments;
use crate::config::load::Configuration;
use crate::config::node::InventoryKind;
use crate::config::providers::LogStore;
use crate::config::reader::{FLAG, Kind, NUMBER, PORT, POSITIVE, Reader, TEXT, TIMEOUT};
use crate::container::docker::{DockerSettings, Timeouts};
use crate::container::process::ProcessConfig;
use crate::gpu::GpuInventory;
use crate::gpu::simulated::Host;
use crate::run_directory::RunDirectory;
use crate::store::couchdb::{CouchSettings, Databases};
use std::collections::BTreeMap;
use std::path::Path;

/// Settings of all edges.
#[derive(Clone, Debug)]
pub(super) struct EdgeSettings {
    pub(super) kafka: KafkaSettings,
    pub(super) couchdb: CouchSettings,
    /// Without the prefix of names, which has the id in it.
    pub(super) docker: DockerSettings,
}

/// Reads them. What is wrong is noted in the reader.
pub(super) fn read(reader: &mut Reader<'_>, configuration: &Configuration) -> EdgeSettings {
    EdgeSettings {
        kafka: kafka(reader, configuration),
        couchdb: couchdb(reader, configuration),
        docker: docker(reader, configuration),
    }
}

/// Settings for Kafka's clients pass as they are, with dots for dashes (P-41, K-12).
fn kafka(reader: &mut Reader<'_>, configuration: &Configuration) -> KafkaSettings {
    let mut client = |name: &str| -> BTreeMap<String, String> {
        let given = reader.texts(&format!("whisk.kafka.{name}"));
        let dotted = given
            .into_iter()
            .map(|(key, value)| (key.replace('-', "."), value));
        dotted.collect()
    };
    let (mut common, producer, consumer) = (client("common"), client("producer"), client("consumer"));
    let protocol = common.entry("security.protocol".to_owned());
    let secure = protocol.or_insert_with(|| "PLAINTEXT".to_owned()).contains("SSL");
    let host_names = common.entry("ssl.endpoint.identification.algorithm".to_owned());
    host_names.or_default();
    if !secure {
        // Ansible names stores also where there is no TLS.
        common.retain(|key, _| !key.starts_with("ssl."));
    }
    KafkaSettings {
        hosts: reader.need("kafka.hosts", &TEXT).unwrap_or_default(),
        common,
        producer,
        consumer,
        message_bytes: configuration.settings.payload.largest_message().0,
    }
}

/// P-46, P-47, P-81, P-82.
fn couchdb(reader: &mut Reader<'_>, configuration: &Configuration) -> CouchSettings {
    const PROVIDER: Kind<String> = Kind {
        expected: "CouchDB or Cloudant",
        parse: |text| Some(text.to_owned()).filter(|text| ["CouchDB", "Cloudant"].contains(&text.as_str())),
    };
    const PROTOCOL: Kind<String> = Kind {
        expected: "http or https",
        parse: |text| Some(text.trim().to_owned()).filter(|text| ["http", "https"].contains(&text.as_str())),
    };
    const FILLED: Kind<String> = Kind {
        expected: "a text that is not empty",
        parse: |text| Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
    };
    let path = |name: &str| format!("whisk.couchdb.{name}");
    reader.need(&path("provider"), &PROVIDER);
    let mut text = |name: &str| reader.need(&path(name), &FILLED).unwrap_or_default();
    let (host, username, password) = (text("host"), text("username"), text("password"));
    let databases = Databases {
        auth: text("databases.WhiskAuth"),
        entity: text("databases.WhiskEntity"),
        activation: text("databases.WhiskActivation"),
    };
    let pool = |system: &str| format!("{system}.http.host-connection-pool.max-connections");
    CouchSettings {
        protocol: reader.need(&path("protocol"), &PROTOCOL).unwrap_or_default(),
        host,
        port: reader.need(&path("port"), &PORT).unwrap_or_default(),
        username,
        password,
        databases,
        max_connections: reader.any(&[&pool("pekko"), &pool("akka")], "128", &POSITIVE) as usize,
        max_tries: reader.get("whisk.activation-store.retry-config.max-tries", "3", &NUMBER),
        timeout: configuration.node.couchdb_timeout,
    }
}

/// P-53, P-60 … P-70.
fn docker(reader: &mut Reader<'_>, configuration: &Configuration) -> DockerSettings {
    let args = |name: &str| format!("whisk.container-factory.container-args.{name}");
    let registry = |name: &str| format!("whisk.container-factory.{name}-registry.url");
    let client = |name: &str| format!("whisk.docker.client.{name}");
    let mut timeout =
        |name: &str, default: &str| reader.get(&client(&format!("timeouts.{name}")), default, &TIMEOUT);
    let timeouts = Timeouts {
        run: timeout("run", "1 minute"),
        rm: timeout("rm", "1 minute"),
        pull: timeout("pull", "10 minutes"),
        ps: timeout("ps", "1 minute"),
        inspect: timeout("inspect", "1 minute"),
        pause: timeout("pause", "10 seconds"),
        unpause: timeout("unpause", "10 seconds"),
        version: timeout("version", "10 seconds"),
    };
    // Docker's own pause is as good: whether runc does it shows nowhere.
    reader.get("whisk.docker.container-factory.use-runc", "true", &FLAG);
    reader.get("whisk.runc.timeouts.pause", "10 seconds", &TIMEOUT);
    reader.get("whisk.runc.timeouts.resume", "10 seconds", &TIMEOUT);
    DockerSettings {
        socket: configuration.node.docker_socket.clone(),
        name_prefix: String::new(),
        network: reader.get(&args("network"), "bridge", &TEXT),
        dns_servers: reader.list(&args("dns-servers")),
        dns_search: reader.list(&args("dns-search")),
        dns_options: reader.list(&args("dns-options")),
        extra_env: reader.list(&args("extra-env-vars")),
        extra_args: reader.lists(&args("extra-args")),
        runtimes_registry: reader.get(&registry("runtimes"), "", &TEXT),
        user_images_registry: reader.get(&registry("user-images"), "", &TEXT),
        parallel_runs: reader.get(&client("parallel-runs"), "10", &NUMBER) as usize,
        mask_run_args: reader.get(&client("mask-docker-run-args"), "false", &FLAG),
        timeouts,
        user_memory: configuration.settings.user_memory,
        user_cpus: configuration.user_cpus,
        containers: configuration.node.docker_containers.clone(),
        devices: configuration.node.gpu.devices,
        collects_logs: configuration.log_store == LogStore::Record,
    }
}

/// The slices that the settings speak of.
///
/// # Errors
/// A sentence, if there cannot be such slices.
pub(super) fn inventory(configuration: &Configuration) -> anyhow::Result<Box<dyn GpuInventory>> {
    let gpu = &configuration.node.gpu;
    let topology = match (gpu.inventory, &gpu.topology) {
        (InventoryKind::Simulated, Some(text)) => Some(text.parse()?),
        _ => None,
    };
    let arguments = GpuArguments {
        inventory: Some(gpu.inventory),
        nvml_library: gpu.nvml_library.clone(),
        topology,
        gpu_cpus: gpu.cpus,
        gpu_memory: gpu.memory,
    };
    arguments.inventory(&Host::read())
}

/// Settings of the process engine.
pub(super) fn process(configuration: &Configuration, state: &Path, run: &RunDirectory) -> ProcessConfig {
    let mut config = ProcessConfig::new(run.process_engine(), state.join("scratch"));
    config.python.clone_from(&configuration.node.python);
    if let Some(runtime) = &configuration.node.runtime {
        config.runtime.clone_from(runtime);
    }
    config
}

#[cfg(test)]
mod tests;
