//! How `docker run` writes values that are more than a text.

use bollard::models::{
    DeviceMapping, DeviceRequest, Mount, MountBindOptions, MountBindOptionsPropagationEnum,
    MountTmpfsOptions, MountType, MountVolumeOptions, ResourcesUlimits,
};

/// `k=v`, or `k` with an empty value.
pub(super) fn pair(value: &str) -> (&str, &str) {
    value.split_once('=').unwrap_or((value, ""))
}

/// `64m`, `1g`, `1048576`: powers of 1024, in bytes.
pub(super) fn size(value: &str) -> Result<i64, String> {
    let expected = || "a size such as 64m".to_owned();
    let lower = value.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[number.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(expected()),
    };
    let number: i64 = number.parse().map_err(|_| expected())?;
    number
        .checked_mul(1 << shift)
        .filter(|n| *n >= 0)
        .ok_or_else(expected)
}

/// In billionths of a CPU.
pub(super) fn cpus(value: &str) -> Result<i64, String> {
    let cpus: f64 = value.parse().unwrap_or(0.0);
    if cpus.is_finite() && cpus > 0.0 {
        Ok((cpus * 1e9).round() as i64)
    } else {
        Err("a number of CPUs above 0".to_owned())
    }
}

/// `name=soft:hard`; one number stands for both.
pub(super) fn ulimit(value: &str) -> Result<ResourcesUlimits, String> {
    let parse = || {
        let (name, limits) = value.split_once('=')?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        Some(ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(soft.parse().ok()?),
            hard: Some(hard.parse().ok()?),
        })
    };
    parse().ok_or_else(|| "name=soft or name=soft:hard".to_owned())
}

/// `/dev/here[:/dev/there][:rwm]`.
pub(super) fn device(value: &str) -> DeviceMapping {
    let mut parts = value.splitn(3, ':');
    let on_host = parts.next().unwrap_or_default().to_owned();
    let (inside, permissions) = match (parts.next(), parts.next()) {
        (Some(permissions), None) if !permissions.starts_with('/') => (None, Some(permissions)),
        (inside, permissions) => (inside, permissions),
    };
    DeviceMapping {
        path_in_container: Some(inside.unwrap_or(&on_host).to_owned()),
        cgroup_permissions: Some(permissions.unwrap_or("rwm").to_owned()),
        path_on_host: Some(on_host),
    }
}

/// `all`, `2`, or fields `count=`, `device=`, `driver=`, `capabilities=`; a field with commas stands in quotes.
pub(super) fn gpus(value: &str) -> Result<DeviceRequest, String> {
    let expected = || "all, a number, or device=… as `docker run --gpus` takes them".to_owned();
    let list = |value: &str| value.split(',').map(str::to_owned).collect::<Vec<_>>();
    let count = |value: &str| match value {
        "all" => Ok(-1),
        number => number.parse::<i64>().map_err(|_| expected()),
    };
    let mut request = DeviceRequest::default();
    let mut capabilities = vec!["gpu".to_owned()];
    for field in fields(value) {
        match field.split_once('=') {
            None => request.count = Some(count(&field)?),
            Some(("count", value)) => request.count = Some(count(value)?),
            Some(("device", value)) => request.device_ids = Some(list(value)),
            Some(("driver", value)) => request.driver = Some(value.to_owned()),
            Some(("capabilities", value)) => {
                capabilities.extend(list(value).into_iter().filter(|name| name != "gpu"));
            }
            Some(_) => return Err(expected()),
        }
    }
    if request.count.is_none() && request.device_ids.is_none() {
        request.count = Some(-1);
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

/// `type=bind,source=…,target=…,readonly`.
pub(super) fn mount(value: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        typ: Some(MountType::VOLUME),
        ..Mount::default()
    };
    for field in fields(value) {
        let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
        let flag = || {
            value
                .parse::<bool>()
                .or(if value == "1" { Ok(true) } else { Err(()) })
        };
        let volume = |mount: &mut Mount| {
            mount
                .volume_options
                .get_or_insert_with(MountVolumeOptions::default)
                .clone()
        };
        match key {
            "type" => {
                mount.typ = Some(match value {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    _ => return Err("type=bind, volume or tmpfs".to_owned()),
                });
            }
            "source" | "src" => mount.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => mount.target = Some(value.to_owned()),
            "readonly" | "ro" => {
                mount.read_only = Some(flag().map_err(|()| "readonly=true or false".to_owned())?)
            }
            "volume-nocopy" => {
                let no_copy = flag().map_err(|()| "volume-nocopy=true or false".to_owned())?;
                mount.volume_options = Some(MountVolumeOptions {
                    no_copy: Some(no_copy),
                    ..volume(&mut mount)
                });
            }
            "bind-propagation" => {
                let propagation = value.parse::<MountBindOptionsPropagationEnum>();
                mount.bind_options = Some(MountBindOptions {
                    propagation: Some(
                        propagation.map_err(|_| "a bind-propagation such as rslave".to_owned())?,
                    ),
                    ..MountBindOptions::default()
                });
            }
            "tmpfs-size" => {
                mount
                    .tmpfs_options
                    .get_or_insert_with(MountTmpfsOptions::default)
                    .size_bytes = Some(size(value)?);
            }
            "tmpfs-mode" => {
                let mode = i64::from_str_radix(value, 8).map_err(|_| "tmpfs-mode in octal".to_owned())?;
                mount
                    .tmpfs_options
                    .get_or_insert_with(MountTmpfsOptions::default)
                    .mode = Some(mode);
            }
            _ => {
                return Err(format!(
                    "no field {key}: type, source, target, readonly, volume-nocopy, bind-propagation, tmpfs-size or tmpfs-mode"
                ));
            }
        }
    }
    if mount.target.is_none() {
        return Err("a target".to_owned());
    }
    Ok(mount)
}

/// `docker run` sends the profile itself, not the name of its file.
pub(super) fn with_profile(value: &str) -> Result<String, String> {
    match value.strip_prefix("seccomp=") {
        None | Some("unconfined" | "builtin") => Ok(value.to_owned()),
        Some(path) => {
            let profile = std::fs::read_to_string(path)
                .map_err(|error| format!("a seccomp profile that can be read ({error})"))?;
            Ok(format!("seccomp={profile}"))
        }
    }
}

/// Fields between commas; quotes keep commas together.
fn fields(value: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in value.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("it begins with one").push(c),
        }
    }
    fields
}
