//! Kafka, CouchDB and Docker, as `run` would use them.

use super::Finding;
use crate::bus::kafka::{KafkaBus, KafkaSettings};
use crate::config::load::Configuration;
use crate::container::docker::{self, About, DockerSettings};
use crate::readiness::because;
use crate::store::couchdb::{CouchSettings, CouchStore};
use std::time::Duration;

/// Longest wait for a broker.
const BROKERS: Duration = Duration::from_secs(10);

pub(super) async fn kafka(settings: KafkaSettings, configuration: &Configuration) -> Vec<Finding> {
    let what = format!("Kafka at {}", settings.hosts);
    let failed = |error: &dyn std::error::Error| {
        let advice = "check KAFKA_HOSTS, that the brokers run and advertise addresses that this node reaches, and \
                      CONFIG_whisk_kafka_common_*";
        vec![Finding::failed(&what, because(error), advice)]
    };
    let bus = match KafkaBus::new(settings) {
        Ok(bus) => bus,
        Err(error) => return failed(&error),
    };
    let (brokers, topics) = match bus.look(BROKERS).await {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    let mut findings = vec![Finding::ok(
        &what,
        format!("{brokers} brokers, {} topics", topics.len()),
    )];
    let health = format!("{}health", configuration.settings.topics.prefix);
    findings.push(if topics.contains(&health) {
        Finding::ok("Kafka topic", health)
    } else {
        let advice = "no controller with this prefix has started on these brokers yet";
        Finding::warning("Kafka topic", format!("there is no {health}"), advice)
    });
    findings
}

pub(super) async fn couchdb(settings: &CouchSettings) -> Vec<Finding> {
    let at = format!(
        "CouchDB at {}://{}:{}",
        settings.protocol, settings.host, settings.port
    );
    let found = match CouchStore::look(settings).await {
        Ok(found) => found,
        Err(error) => {
            return vec![Finding::failed(
                at,
                because(&error),
                "check CONFIG_whisk_couchdb_*",
            )];
        }
    };
    let finding = |(name, answer): (String, Result<bool, crate::store::Cause>)| match answer {
        Ok(true) => Finding::ok(&at, format!("database {name}")),
        Ok(false) => {
            let advice = "make it, as OpenWhisk's deployment does, or check CONFIG_whisk_couchdb_databases_*";
            Finding::failed(&at, format!("there is no database {name}"), advice)
        }
        Err(error) => {
            let advice =
                "check that it runs, and CONFIG_whisk_couchdb_{protocol,host,port,username,password}";
            Finding::failed(&at, format!("database {name}: {}", because(&*error)), advice)
        }
    };
    found.into_iter().map(finding).collect()
}

pub(super) async fn docker(settings: &DockerSettings) -> (Vec<Finding>, Option<About>) {
    let at = format!("Docker at {}", settings.socket.display());
    let about = match docker::look(settings).await {
        Ok(about) => about,
        Err(error) => {
            let advice = "start Docker, let this user open its socket, or set ffs.docker-socket";
            return (vec![Finding::failed(at, because(&error), advice)], None);
        }
    };
    let mut findings = vec![Finding::ok(&at, format!("version {}", about.version))];
    findings.push(limits(&about));
    findings.push(if about.has_network {
        Finding::ok("network of actions", &settings.network)
    } else {
        let advice = format!(
            "docker network create {}, or set CONFIG_whisk_containerFactory_containerArgs_network",
            settings.network
        );
        Finding::failed(
            "network of actions",
            format!("there is no {}", settings.network),
            advice,
        )
    });
    if settings.collects_logs {
        findings.push(logs(settings, &about));
    }
    (findings, Some(about))
}

fn limits(about: &About) -> Finding {
    let groups = format!("version {}", about.cgroups);
    if about.limits_slices {
        return Finding::ok(
            "control groups",
            format!("{groups}; memory and CPU can be limited"),
        );
    }
    let advice = "enable the controllers memory and cpu: actions' memory limits are not kept without them";
    let value = format!("{groups}; Docker cannot limit memory or CPU time");
    Finding::warning("control groups", value, advice)
}

/// C-60, P-111: the invoker reads what Docker writes.
fn logs(settings: &DockerSettings, about: &About) -> Finding {
    let what = "logs of actions";
    let directory = &settings.containers;
    if let Err(error) = std::fs::read_dir(directory) {
        let advice = "mount Docker's folder `containers` here, or set ffs.docker-containers; without it activations \
                      have no logs";
        return Finding::failed(what, format!("{}: {error}", directory.display()), advice);
    }
    if about.log_driver == "json-file" {
        return Finding::ok(what, directory.display().to_string());
    }
    let advice = "the invoker asks for json-file for its own containers; other drivers are of no use to it";
    Finding::warning(
        what,
        format!("Docker's log driver is {}", about.log_driver),
        advice,
    )
}
