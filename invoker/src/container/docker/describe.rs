//! What Docker is told of a container: the original's `docker run`, as a document (L-10 … L-13).
//!
//! Ours in addition are the labels, and what lanes have. Source: `DockerContainer.scala`,
//! `ContainerFactory.scala`; the documents that resulted are recorded in `tests/data/docker/`.

use super::arguments::{ExtraArguments, REPLACED};
use super::{DeviceAccess, DockerSettings, devices, sockets};
use crate::container::{ContainerSpec, LaneSpec, SliceAccess};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use proto::unit::Bytes;
use std::collections::HashMap;
use std::path::Path;

/// Label of everything that a daemon makes: its name prefix without the last `_`.
pub(super) const INVOKER: &str = "ffs.invoker";
/// Label of what belongs to an instance.
pub(super) const INSTANCE: &str = "ffs.instance";
/// Where lanes find their config layer.
const CONFIG: &str = "/ffs/config";
/// The driver whose files are read (C-60).
const LOG_DRIVER: &str = "json-file";
/// L-12
const ALL_SHARES: u64 = 1024;
const LEAST_SHARES: u64 = 2;
const LEAST_CPUS: f64 = 0.01;
const MOST_PROCESSES: i64 = 1024;

/// The value of [`INVOKER`].
pub(super) fn owner(settings: &DockerSettings) -> String {
    settings.name_prefix.trim_end_matches('_').to_owned()
}

pub(super) fn body(
    spec: &ContainerSpec,
    image: &str,
    settings: &DockerSettings,
    extra: &ExtraArguments,
    sockets: &Path,
    access: DeviceAccess,
) -> ContainerCreateBody {
    let built_in = |key: &str| !(REPLACED.contains(&key) && settings.extra_args.contains_key(key));
    let memory = memory(spec);
    let bytes = i64::try_from(memory.0).unwrap_or(i64::MAX);
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let host = HostConfig {
        cpu_shares: Some(i64::try_from(cpu_shares(settings.user_memory, memory)).unwrap_or(i64::MAX)),
        memory: Some(bytes),
        memory_swap: Some(bytes),
        network_mode: Some(settings.network.clone()),
        dns: list(&settings.dns_servers),
        dns_search: list(&settings.dns_search),
        dns_options: list(&settings.dns_options),
        nano_cpus: settings
            .user_cpus
            .map(|all| (cpus(all, settings.user_memory, memory) * 1e9).round() as i64),
        cap_drop: built_in("cap-drop").then(|| vec!["NET_RAW".to_owned(), "NET_ADMIN".to_owned()]),
        ulimits: built_in("ulimit").then(|| {
            vec![ResourcesUlimits {
                name: Some("nofile".to_owned()),
                soft: Some(1024),
                hard: Some(1024),
            }]
        }),
        pids_limit: built_in("pids-limit").then_some(MOST_PROCESSES),
        log_config: (built_in("log-driver") && settings.collects_logs).then(|| HostConfigLogConfig {
            typ: Some(LOG_DRIVER.to_owned()),
            config: None,
        }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    };
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    labels.insert(INVOKER.to_owned(), owner(settings));
    let mut body = ContainerCreateBody {
        image: Some(image.to_owned()),
        env: Some(environment(spec, settings)),
        labels: Some(labels),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    extra.apply(&mut body);
    if let Some(lane) = &spec.lane {
        add_lane(&mut body, lane, &sockets::directory(sockets, &spec.name), access);
    }
    body
}

/// The action's limit, or the slice's if that is less.
fn memory(spec: &ContainerSpec) -> Bytes {
    let slice = spec.lane.as_ref().and_then(|lane| lane.slice.as_ref());
    let limit = slice
        .and_then(|slice| slice.simulated)
        .map(|limits| limits.memory);
    limit.map_or(spec.memory, |limit| limit.min(spec.memory))
}

/// How many containers of this size there can be at once.
fn quotient(all: Bytes, memory: Bytes) -> u64 {
    (all.0 / memory.0.max(1)).max(1)
}

/// L-12
fn cpu_shares(all: Bytes, memory: Bytes) -> u64 {
    (ALL_SHARES / quotient(all, memory)).max(LEAST_SHARES)
}

/// L-12
fn cpus(all_cpus: f64, all: Bytes, memory: Bytes) -> f64 {
    let share = all_cpus / quotient(all, memory) as f64;
    ((share * 1e5).round() / 1e5).max(LEAST_CPUS)
}

/// L-11: what the container is given, and the operator's variables, which win.
fn environment(spec: &ContainerSpec, settings: &DockerSettings) -> Vec<String> {
    let mut env: Vec<String> = spec
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    for variable in &settings.extra_env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        set_env(&mut env, &format!("{name}={value}"));
    }
    env
}

/// Adds `name=value`, in the place of one of that name.
pub(super) fn set_env(env: &mut Vec<String>, variable: &str) {
    let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    match env.iter_mut().find(|there| name(there) == name(variable)) {
        Some(there) => *there = variable.to_owned(),
        None => env.push(variable.to_owned()),
    }
}

/// What sits on a slice runs as a user of its own, sees its config layer and its instance's memory, and has
/// no network unless it is a head. What has neither is reached by a Unix socket.
fn add_lane(body: &mut ContainerCreateBody, lane: &LaneSpec, socket: &Path, access: DeviceAccess) {
    let env = body.env.get_or_insert_default();
    let host = body.host_config.get_or_insert_default();
    let mounts = host.mounts.get_or_insert_default();
    let bind = |from: &Path, to: &str, read_only| Mount {
        typ: Some(MountType::BIND),
        source: Some(from.to_string_lossy().into_owned()),
        target: Some(to.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    body.user = Some(format!("{0}:{0}", lane.uid));
    let options = host.security_opt.get_or_insert_default();
    options.push("no-new-privileges".to_owned());
    // There is no entry for it in /etc/passwd, and libraries ask.
    for variable in ["HOME=/tmp", "USER=ffs", "LOGNAME=ffs"] {
        set_env(env, variable);
    }
    if let Some(layer) = &lane.config_layer {
        mounts.push(bind(layer, CONFIG, true));
        set_env(env, &format!("FFS_CONFIG={CONFIG}"));
    }
    if let Some(memory) = &lane.shared_memory {
        mounts.push(Mount {
            typ: Some(MountType::VOLUME),
            source: Some(memory.handle.clone()),
            target: Some("/dev/shm".to_owned()),
            // Else the image's owner and mode replace those of the tmpfs.
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(true),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        });
        let labels = body.labels.get_or_insert_default();
        labels.insert(INSTANCE.to_owned(), memory.instance.to_string());
    }
    if !lane.network {
        host.network_mode = Some("none".to_owned());
    }
    if sockets::is_used(lane) {
        mounts.push(bind(socket, sockets::INSIDE, false));
        set_env(env, &format!("FFS_LISTEN={}/{}", sockets::INSIDE, sockets::NAME));
    }
    match &lane.slice {
        Some(SliceAccess {
            simulated: Some(_), ..
        }) => {
            // One compute thread, so that split and unsplit results agree bit for bit.
            for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
                set_env(env, &format!("{name}=1"));
            }
            set_env(env, devices::NO_DEVICES);
            // Its share of the CPUs is the slice's, in force once it has said hello.
            host.nano_cpus = None;
        }
        Some(SliceAccess {
            uuid,
            simulated: None,
        }) => {
            host.device_requests
                .get_or_insert_default()
                .push(access.request(uuid));
            access.set_variables(env, uuid);
        }
        None => set_env(env, devices::NO_DEVICES),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;
    use crate::container::Image;
    use std::collections::BTreeMap;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "wsk00_3_guest_hello".to_owned(),
            labels: BTreeMap::new(),
            image: Image {
                kind: "python:3".to_owned(),
                name: "ffs/python".to_owned(),
                pull: false,
            },
            memory: Bytes::mib(256),
            concurrency: 1,
            env: BTreeMap::from([("__OW_API_HOST".to_owned(), "http://10.0.0.1:3233".to_owned())]),
            lane: None,
        }
    }

    fn described(settings: &DockerSettings) -> ContainerCreateBody {
        let extra = ExtraArguments::parse(&settings.extra_args).expect("known");
        body(
            &spec(),
            "ffs/python",
            settings,
            &extra,
            Path::new("/run/x"),
            DeviceAccess::Nvidia,
        )
    }

    /// L-12, P-53: shares of the CPUs follow the memory.
    #[test]
    fn shares_of_the_cpus_follow_the_memory() {
        let all = Bytes::mib(2048);
        for (memory, shares, part) in [
            (256, 128, 0.5),
            (512, 256, 1.0),
            (384, 204, 0.8),
            (4096, 1024, 4.0),
        ] {
            assert_eq!(cpu_shares(all, Bytes::mib(memory)), shares, "{memory}");
            assert!(
                (cpus(4.0, all, Bytes::mib(memory)) - part).abs() < 1e-9,
                "{memory}"
            );
        }
        assert_eq!(cpu_shares(Bytes::mib(1 << 20), Bytes::mib(1)), 2);
        assert!((cpus(0.001, all, all) - 0.01).abs() < 1e-9);
    }

    /// L-10a, L-10b, L-10c, L-10d, L-10e, L-10i, L-10j, L-10k, L-10l: the document is the recorded one's.
    #[test]
    fn the_document_says_what_the_originals_docker_run_says() {
        let host = described(&settings()).host_config.expect("filled");
        assert_eq!(host.cpu_shares, Some(128));
        assert_eq!(
            (host.memory, host.memory_swap),
            (Some(256 << 20), Some(256 << 20))
        );
        assert_eq!(host.network_mode.as_deref(), Some("bridge"));
        assert_eq!(
            host.cap_drop,
            Some(vec!["NET_RAW".to_owned(), "NET_ADMIN".to_owned()])
        );
        assert_eq!(host.pids_limit, Some(1024));
        assert_eq!(
            host.log_config.and_then(|log| log.typ).as_deref(),
            Some("json-file")
        );
        assert_eq!(host.nano_cpus, None);
    }

    /// L-10f, L-10h, P-60, P-61: DNS, network and CPUs are the operator's.
    #[test]
    fn network_dns_and_cpus_are_the_operators() {
        let host = described(&DockerSettings {
            network: "actions".to_owned(),
            dns_servers: vec!["10.0.0.53".to_owned()],
            dns_search: vec!["example.org".to_owned()],
            dns_options: vec!["ndots:1".to_owned()],
            user_cpus: Some(4.0),
            ..settings()
        })
        .host_config
        .expect("filled");
        assert_eq!(host.network_mode.as_deref(), Some("actions"));
        assert_eq!(host.dns, Some(vec!["10.0.0.53".to_owned()]));
        assert_eq!(host.dns_search, Some(vec!["example.org".to_owned()]));
        assert_eq!(host.dns_options, Some(vec!["ndots:1".to_owned()]));
        assert_eq!(host.nano_cpus, Some(500_000_000));
    }

    /// L-13, P-63: an extra argument replaces built-in ones of rows 9–12, and wins over those of rows 1–8.
    #[test]
    fn extra_arguments_replace_or_win() {
        let extra = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
        let body = described(&DockerSettings {
            extra_args: BTreeMap::from([
                extra("cap-drop", "MKNOD"),
                extra("memory", "300m"),
                extra("log-driver", "none"),
                extra("env", "B=2"),
                extra("label", "tier=gold"),
            ]),
            ..settings()
        });
        let host = body.host_config.expect("filled");
        assert_eq!(host.cap_drop, Some(vec!["MKNOD".to_owned()]));
        assert_eq!(host.memory, Some(300 << 20));
        assert_eq!(host.log_config.and_then(|log| log.typ).as_deref(), Some("none"));
        assert_eq!(host.ulimits.map(|limits| limits.len()), Some(1), "not replaced");
        assert_eq!(
            body.env,
            Some(vec![
                "__OW_API_HOST=http://10.0.0.1:3233".to_owned(),
                "B=2".to_owned()
            ])
        );
        let labels = body.labels.expect("filled");
        assert_eq!(
            (labels["tier"].as_str(), labels[INVOKER].as_str()),
            ("gold", "wsk00")
        );
    }

    /// L-11, P-62: the operator's variables win; a name alone has an empty value.
    #[test]
    fn the_operators_variables_win() {
        let body = described(&DockerSettings {
            extra_env: vec![
                "__OW_ALLOW_CONCURRENT=true".to_owned(),
                "__OW_API_HOST=https://other=1".to_owned(),
                "EMPTY".to_owned(),
            ],
            ..settings()
        });
        let expected = [
            "__OW_API_HOST=https://other=1",
            "__OW_ALLOW_CONCURRENT=true",
            "EMPTY=",
        ];
        assert_eq!(body.env, Some(expected.map(str::to_owned).to_vec()));
    }
}
