//! `whisk.container-factory.container-args.extra-args`: arguments of `docker run`, by name (L-13, P-63).
//!
//! The API takes a document instead of a command line, so each argument is put where `docker run` would put
//! it. A value is checked at start, once, and an argument that is not known here is refused with its name:
//! left out silently it would be missed too late. Source of the forms: Docker's `cli/command/container/opts.go`.

mod forms;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig};
use std::collections::{BTreeMap, HashMap};

/// Where the arguments go.
type Body = ContainerCreateBody;
/// Puts one value in its place, or says what it should have been.
type Put = fn(&mut Body, &str) -> Result<(), String>;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error(
        "container-args.extra-args names {key}, which is no argument of `docker run` that takes a value, or none that can be set here"
    )]
    Unknown { key: String },
    #[error("container-args.extra-args sets {key} to {value:?}, expected {expected}")]
    Invalid {
        key: String,
        value: String,
        expected: String,
    },
}

/// Arguments that were checked.
#[derive(Clone, Debug, Default)]
pub(super) struct ExtraArguments(Vec<(Put, Vec<String>)>);

impl ExtraArguments {
    /// Checks all of them. Reads the file that a seccomp profile is in.
    ///
    /// # Errors
    /// The first that is not known, or has a value that is none.
    pub(super) fn parse(arguments: &BTreeMap<String, Vec<String>>) -> Result<Self, ArgumentError> {
        let mut body = Body::default();
        let mut parsed = Vec::new();
        for (key, values) in arguments {
            let put = find(key).ok_or_else(|| ArgumentError::Unknown { key: key.clone() })?;
            let mut kept = Vec::new();
            for value in values {
                let checked = if key == "security-opt" {
                    forms::with_profile(value).and_then(|value| put(&mut body, &value).map(|()| value))
                } else {
                    put(&mut body, value).map(|()| value.clone())
                };
                kept.push(checked.map_err(|expected| ArgumentError::Invalid {
                    key: key.clone(),
                    value: value.clone(),
                    expected,
                })?);
            }
            parsed.push((put, kept));
        }
        Ok(Self(parsed))
    }

    /// Puts them behind what is there; arguments that replace built-in ones are cleared before (see
    /// [`replaces`]).
    pub(super) fn apply(&self, body: &mut Body) {
        for (put, values) in &self.0 {
            for value in values {
                put(body, value).expect("it was checked when it was parsed");
            }
        }
    }
}

/// Built-in arguments that give way to extra ones of the same name (rows 9–12 of L-10); the others are
/// repeated, and the last one wins.
pub(super) const REPLACED: [&str; 4] = ["cap-drop", "ulimit", "pids-limit", "log-driver"];

fn host(body: &mut Body) -> &mut HostConfig {
    body.host_config.get_or_insert_default()
}

fn log(body: &mut Body) -> &mut HostConfigLogConfig {
    host(body).log_config.get_or_insert_default()
}

fn push<T>(list: &mut Option<Vec<T>>, value: T) {
    list.get_or_insert_default().push(value);
}

fn insert(map: &mut Option<HashMap<String, String>>, (key, value): (&str, &str)) {
    map.get_or_insert_default()
        .insert(key.to_owned(), value.to_owned());
}

fn find(key: &str) -> Option<Put> {
    ARGUMENTS
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, put)| *put)
}

/// `text`, `list`: as it is; `number`, `size`, `flag`: read.
macro_rules! put {
    (text $where:ident . $field:ident) => {
        |body, value| {
            $where(body).$field = Some(value.to_owned());
            Ok(())
        }
    };
    (list $where:ident . $field:ident) => {
        |body, value| {
            push(&mut $where(body).$field, value.to_owned());
            Ok(())
        }
    };
    (number $where:ident . $field:ident) => {
        |body, value| {
            $where(body).$field = Some(value.parse().map_err(|_| "a whole number".to_owned())?);
            Ok(())
        }
    };
    (size $where:ident . $field:ident) => {
        |body, value| {
            $where(body).$field = Some(forms::size(value)?);
            Ok(())
        }
    };
    (flag $where:ident . $field:ident) => {
        |body, value| {
            $where(body).$field = Some(value.parse().map_err(|_| "true or false".to_owned())?);
            Ok(())
        }
    };
    (pair $where:ident . $field:ident) => {
        |body, value| {
            insert(&mut $where(body).$field, forms::pair(value));
            Ok(())
        }
    };
}

fn own(body: &mut Body) -> &mut Body {
    body
}

/// Every argument that is known. Not there: `name`, by which containers are found again; what needs a
/// terminal or detaches; what names files of this side (`env-file`, `cidfile`).
const ARGUMENTS: &[(&str, Put)] = &[
    ("add-host", put!(list host.extra_hosts)),
    ("blkio-weight", put!(number host.blkio_weight)),
    ("cap-add", put!(list host.cap_add)),
    ("cap-drop", put!(list host.cap_drop)),
    ("cgroup-parent", put!(text host.cgroup_parent)),
    ("cgroupns", |body, value| {
        host(body).cgroupns_mode = Some(match value {
            "host" => HostConfigCgroupnsModeEnum::HOST,
            "private" => HostConfigCgroupnsModeEnum::PRIVATE,
            _ => return Err("host or private".to_owned()),
        });
        Ok(())
    }),
    ("cpu-period", put!(number host.cpu_period)),
    ("cpu-quota", put!(number host.cpu_quota)),
    ("cpu-rt-period", put!(number host.cpu_realtime_period)),
    ("cpu-rt-runtime", put!(number host.cpu_realtime_runtime)),
    ("cpu-shares", put!(number host.cpu_shares)),
    ("cpus", |body, value| {
        host(body).nano_cpus = Some(forms::cpus(value)?);
        Ok(())
    }),
    ("cpuset-cpus", put!(text host.cpuset_cpus)),
    ("cpuset-mems", put!(text host.cpuset_mems)),
    ("device", |body, value| {
        push(&mut host(body).devices, forms::device(value));
        Ok(())
    }),
    ("device-cgroup-rule", put!(list host.device_cgroup_rules)),
    ("dns", put!(list host.dns)),
    ("dns-opt", put!(list host.dns_options)),
    ("dns-option", put!(list host.dns_options)),
    ("dns-search", put!(list host.dns_search)),
    ("domainname", put!(text own.domainname)),
    ("env", |body, value| {
        super::describe::set_env(body.env.get_or_insert_default(), value);
        Ok(())
    }),
    ("gpus", |body, value| {
        push(&mut host(body).device_requests, forms::gpus(value)?);
        Ok(())
    }),
    ("group-add", put!(list host.group_add)),
    ("hostname", put!(text own.hostname)),
    ("init", put!(flag host.init)),
    ("ipc", put!(text host.ipc_mode)),
    ("label", put!(pair own.labels)),
    ("link", put!(list host.links)),
    ("log-driver", |body, value| {
        log(body).typ = Some(value.to_owned());
        Ok(())
    }),
    ("log-opt", |body, value| {
        insert(&mut log(body).config, forms::pair(value));
        Ok(())
    }),
    ("memory", put!(size host.memory)),
    ("memory-reservation", put!(size host.memory_reservation)),
    ("memory-swap", |body, value| {
        host(body).memory_swap = Some(if value == "-1" { -1 } else { forms::size(value)? });
        Ok(())
    }),
    ("memory-swappiness", put!(number host.memory_swappiness)),
    ("mount", |body, value| {
        push(&mut host(body).mounts, forms::mount(value)?);
        Ok(())
    }),
    ("network", put!(text host.network_mode)),
    ("oom-kill-disable", put!(flag host.oom_kill_disable)),
    ("oom-score-adj", put!(number host.oom_score_adj)),
    ("pid", put!(text host.pid_mode)),
    ("pids-limit", put!(number host.pids_limit)),
    ("privileged", put!(flag host.privileged)),
    ("read-only", put!(flag host.readonly_rootfs)),
    ("runtime", put!(text host.runtime)),
    ("security-opt", put!(list host.security_opt)),
    ("shm-size", put!(size host.shm_size)),
    ("stop-signal", put!(text own.stop_signal)),
    ("stop-timeout", put!(number own.stop_timeout)),
    ("storage-opt", put!(pair host.storage_opt)),
    ("sysctl", put!(pair host.sysctls)),
    ("tmpfs", |body, value| {
        let (path, options) = value.split_once(':').unwrap_or((value, ""));
        insert(&mut host(body).tmpfs, (path, options));
        Ok(())
    }),
    ("ulimit", |body, value| {
        push(&mut host(body).ulimits, forms::ulimit(value)?);
        Ok(())
    }),
    ("user", put!(text own.user)),
    ("userns", put!(text host.userns_mode)),
    ("uts", put!(text host.uts_mode)),
    ("volume", put!(list host.binds)),
    ("volume-driver", put!(text host.volume_driver)),
    ("volumes-from", put!(list host.volumes_from)),
    ("workdir", put!(text own.working_dir)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(arguments: &[(&str, &str)]) -> Result<Body, ArgumentError> {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in arguments {
            map.entry((*key).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        let mut body = Body::default();
        ExtraArguments::parse(&map)?.apply(&mut body);
        Ok(body)
    }

    /// P-63, L-13: each argument goes where `docker run` puts it.
    #[test]
    fn arguments_go_where_docker_run_puts_them() {
        let body = applied(&[
            ("cap-drop", "MKNOD"),
            ("label", "a"),
            ("label", "b=1"),
            ("ulimit", "core=0"),
            ("ulimit", "nofile=64:128"),
            ("shm-size", "64m"),
            ("cpus", "0.5"),
            ("device", "/dev/fuse"),
            ("device", "/dev/a:/dev/b:r"),
            ("gpus", "all"),
            ("gpus", r#""device=GPU-1,GPU-2",capabilities=utility"#),
            ("tmpfs", "/run:size=1m"),
            ("tmpfs", "/scratch"),
            ("log-driver", "fluentd"),
            ("log-opt", "fluentd-address=localhost:24224"),
            ("volume", "/data:/data:ro"),
            ("mount", "type=bind,source=/a,target=/b,readonly"),
            ("cpuset-cpus", "0-1"),
            ("runtime", "nvidia"),
            ("env", "A=1"),
            ("env", "A=2"),
            ("memory-swap", "-1"),
        ])
        .expect("all known");
        let host = body.host_config.expect("filled");
        assert_eq!(host.cap_drop, Some(vec!["MKNOD".to_owned()]));
        let labels = body.labels.expect("filled");
        assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("", "1"));
        let limits: Vec<_> = host
            .ulimits
            .iter()
            .flatten()
            .map(|l| (l.name.as_deref(), l.soft, l.hard))
            .collect();
        assert_eq!(
            limits,
            [
                (Some("core"), Some(0), Some(0)),
                (Some("nofile"), Some(64), Some(128))
            ]
        );
        assert_eq!(host.shm_size, Some(64 << 20));
        assert_eq!(host.nano_cpus, Some(500_000_000));
        let devices: Vec<_> = host
            .devices
            .iter()
            .flatten()
            .map(|d| {
                (
                    d.path_on_host.as_deref(),
                    d.path_in_container.as_deref(),
                    d.cgroup_permissions.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            devices,
            [
                (Some("/dev/fuse"), Some("/dev/fuse"), Some("rwm")),
                (Some("/dev/a"), Some("/dev/b"), Some("r"))
            ]
        );
        let requests = host.device_requests.expect("filled");
        assert_eq!(requests[0].count, Some(-1));
        assert_eq!(
            requests[1].device_ids,
            Some(vec!["GPU-1".to_owned(), "GPU-2".to_owned()])
        );
        assert_eq!(
            requests[1].capabilities,
            Some(vec![vec!["gpu".to_owned(), "utility".to_owned()]])
        );
        let tmpfs = host.tmpfs.expect("filled");
        assert_eq!(
            (tmpfs["/run"].as_str(), tmpfs["/scratch"].as_str()),
            ("size=1m", "")
        );
        let log = host.log_config.expect("filled");
        assert_eq!(log.typ.as_deref(), Some("fluentd"));
        assert_eq!(log.config.expect("filled")["fluentd-address"], "localhost:24224");
        assert_eq!(host.binds, Some(vec!["/data:/data:ro".to_owned()]));
        let mount = &host.mounts.expect("filled")[0];
        assert_eq!(
            (mount.source.as_deref(), mount.target.as_deref(), mount.read_only),
            (Some("/a"), Some("/b"), Some(true))
        );
        assert_eq!(host.cpuset_cpus.as_deref(), Some("0-1"));
        assert_eq!(host.runtime.as_deref(), Some("nvidia"));
        assert_eq!(body.env, Some(vec!["A=2".to_owned()]));
        assert_eq!(host.memory_swap, Some(-1));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        let error = |key, value| applied(&[(key, value)]).expect_err("wrong").to_string();
        assert!(error("rm", "true").contains("names rm, which is no argument"));
        assert!(error("name", "x").contains("names name"));
        for (key, value, expected) in [
            ("pids-limit", "many", "a whole number"),
            ("shm-size", "64q", "a size such as 64m"),
            ("ulimit", "nofile", "name=soft or name=soft:hard"),
            ("cpus", "-1", "a number of CPUs above 0"),
            ("mount", "type=cloud,target=/x", "type=bind, volume or tmpfs"),
            ("gpus", "some", "all, a number, or device=…"),
            (
                "security-opt",
                "seccomp=/nonexistent.json",
                "a seccomp profile that can be read",
            ),
        ] {
            let text = error(key, value);
            assert!(
                text.starts_with(&format!(
                    "container-args.extra-args sets {key} to {value:?}, expected {expected}"
                )),
                "{text}"
            );
        }
    }
}
