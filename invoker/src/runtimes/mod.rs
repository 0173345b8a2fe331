//! The runtimes manifest: which kinds there are, and the image of each. `ExecManifest.scala`.
//!
//! Whether a document's kind may run, and in what, is decided with it by the invoker and by the
//! controller's part alike; manifests must agree across a cluster.

mod image;

pub use self::image::{ImageName, InvalidImage};

use proto::unit::Bytes;
use proto::whisk::size::ByteSize;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the runtimes manifest cannot be read")]
    Unreadable(#[source] serde_json::Error),
    #[error("family {family} of the runtimes manifest has several kinds, but no default")]
    NoDefault { family: String },
    #[error("family {family} of the runtimes manifest has more than one default: {kinds}")]
    SeveralDefaults { family: String, kinds: String },
    #[error("kind {kind} of the runtimes manifest: {reason}")]
    StemCell { kind: String, reason: &'static str },
}

/// A manifest that was read and checked.
#[derive(Clone, Debug)]
pub struct Runtimes {
    families: Vec<(String, Vec<Runtime>)>,
    blackboxes: Vec<ImageName>,
    /// Images with this prefix are on the node (P-71).
    local_prefix: Option<String>,
}

/// One kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Such as `python:3.11`.
    pub kind: String,
    pub image: ImageName,
    /// May be read, deleted and run, but neither written nor invoked through the controller.
    #[serde(default, deserialize_with = "nullable")]
    pub deprecated: bool,
    /// What `family:default` stands for.
    #[serde(default, deserialize_with = "nullable")]
    pub default: bool,
    /// Present if code is kept as an attachment.
    #[serde(default)]
    attached: Option<Attached>,
    #[serde(default, deserialize_with = "nullable")]
    pub require_main: bool,
    /// Whether the runtime ends a run's output with sentinels.
    #[serde(default = "yes", deserialize_with = "yes_unless_told")]
    pub sentinelled_logs: bool,
    #[serde(default, deserialize_with = "nullable")]
    pub stem_cells: Vec<StemCell>,
}

fn yes() -> bool {
    true
}

/// What is `null` is as what is not there.
fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

fn yes_unless_told<'de, D: serde::Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Option::<bool>::deserialize(d).map(|told| told.unwrap_or(true))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    #[serde(rename = "attachmentName")]
    _name: String,
    #[serde(rename = "attachmentType")]
    _kind: String,
}

impl Runtime {
    /// Whether code is kept as an attachment.
    pub fn is_attached(&self) -> bool {
        self.attached.is_some()
    }
}

/// Containers that are started before they are needed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "StemCellMembers")]
pub struct StemCell {
    pub initial_count: u32,
    pub memory: Bytes,
    pub reactive: Option<Reactive>,
}

/// As it is written: `count` is the older name, and gives way to the newer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StemCellMembers {
    initial_count: Option<u32>,
    count: Option<u32>,
    memory: Option<ByteSize>,
    reactive: Option<Reactive>,
}

impl TryFrom<StemCellMembers> for StemCell {
    type Error = &'static str;

    fn try_from(members: StemCellMembers) -> Result<Self, Self::Error> {
        let count = members.initial_count.or(members.count);
        let (Some(initial_count), Some(memory)) = (count, members.memory) else {
            return Err("a stem cell needs initialCount and memory");
        };
        Ok(Self {
            initial_count,
            memory: memory.bytes(),
            reactive: members.reactive,
        })
    }
}

/// How the number of stem cells follows demand.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reactive {
    pub min_count: u32,
    pub max_count: u32,
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    pub threshold: u32,
    pub increment: u32,
}

impl Reactive {
    fn for_scheduler(&self) -> scheduler::settings::Reactive {
        scheduler::settings::Reactive {
            min_count: self.min_count,
            max_count: self.max_count,
            ttl: self.ttl,
            threshold: self.threshold,
            increment: self.increment,
        }
    }
}

/// Such as `"2 minutes"`.
fn duration<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    let (number, unit) = text
        .trim()
        .split_at(text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let millis = match unit.trim() {
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => Some(1),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1000),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60_000),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3_600_000),
        "d" | "day" | "days" => Some(86_400_000),
        _ => None,
    };
    let parsed = millis.zip(number.parse::<u64>().ok());
    let total = parsed.and_then(|(millis, number)| number.checked_mul(millis));
    total.map(Duration::from_millis).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "duration {text:?} is not valid: expected a number and a unit, such as 2 minutes"
        ))
    })
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    runtimes: Map<String, Value>,
    #[serde(default)]
    blackboxes: Vec<ImageName>,
}

impl Runtimes {
    /// Reads the JSON text of a manifest.
    ///
    /// # Errors
    /// When it is no manifest, a family has no default or several, or a stem cell is impossible.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // By way of an object: a struct would be read from a list as well.
        let members: Map<String, Value> = serde_json::from_str(text).map_err(Error::Unreadable)?;
        let manifest: Manifest = serde_json::from_value(members.into()).map_err(Error::Unreadable)?;
        let mut families = Vec::new();
        for (family, kinds) in manifest.runtimes {
            let kinds: Vec<Runtime> = serde_json::from_value(kinds).map_err(Error::Unreadable)?;
            check_default(&family, &kinds)?;
            kinds.iter().try_for_each(check_stem_cells)?;
            families.push((family, kinds));
        }
        Ok(Self {
            families,
            blackboxes: manifest.blackboxes,
            local_prefix: None,
        })
    }

    /// The same where images with this prefix are on the node, and need not be pulled (P-71).
    pub fn with_local_images(self, prefix: Option<String>) -> Self {
        Self {
            local_prefix: prefix,
            ..self
        }
    }

    /// What `standalone` offers.
    pub fn built_in() -> Self {
        Self::parse(include_str!("built_in.json")).expect("a test reads it")
    }

    /// The runtime of a kind; `family:default` is the family's default.
    pub fn resolve(&self, kind: &str) -> Option<&Runtime> {
        let letters = |family: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            !family.is_empty() && family.bytes().all(allowed)
        };
        match kind.split_once(':') {
            Some((family, "default")) if letters(family) => {
                let (_, kinds) = self.families.iter().find(|(name, _)| name == family)?;
                kinds.iter().find(|r| r.default || kinds.len() == 1)
            }
            _ => self.all().find(|r| r.kind == kind),
        }
    }

    /// Containers to start before they are needed, by kind and memory (L-45). Kinds that are deprecated have
    /// theirs too.
    pub fn stem_cells(&self) -> impl Iterator<Item = scheduler::settings::StemCell> {
        self.all().flat_map(|runtime| {
            runtime
                .stem_cells
                .iter()
                .map(|cell| scheduler::settings::StemCell {
                    kind: runtime.kind.clone(),
                    memory: cell.memory,
                    initial_count: cell.initial_count,
                    reactive: cell.reactive.as_ref().map(Reactive::for_scheduler),
                })
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Runtime> {
        self.families.iter().flat_map(|(_, kinds)| kinds)
    }

    /// Whether a blackbox image is native: never pulled, its logs have sentinels (L-16).
    pub fn is_native(&self, image: &ImageName) -> bool {
        let local = self.local_prefix.is_some() && image.prefix == self.local_prefix;
        self.blackboxes.contains(image) || local
    }

    /// As the controller's `GET /` shows it.
    pub fn to_info(&self) -> Value {
        let kinds = |kinds: &[Runtime]| -> Vec<Value> {
            let kinds = kinds.iter().map(|runtime| {
                json!({
                    "attached": runtime.is_attached(),
                    "default": runtime.default,
                    "deprecated": runtime.deprecated,
                    "image": runtime.image.to_string(),
                    "kind": runtime.kind,
                    "requireMain": runtime.require_main,
                })
            });
            kinds.collect()
        };
        let families = self.families.iter();
        families
            .map(|(family, all)| (family.clone(), Value::Array(kinds(all))))
            .collect::<Map<_, _>>()
            .into()
    }
}

fn check_default(family: &str, kinds: &[Runtime]) -> Result<(), Error> {
    let defaults: Vec<&str> = kinds.iter().filter(|r| r.default).map(|r| &*r.kind).collect();
    match (defaults.len(), kinds.len()) {
        (1, _) | (0, 1) => Ok(()),
        (0, _) => Err(Error::NoDefault {
            family: family.to_owned(),
        }),
        _ => Err(Error::SeveralDefaults {
            family: family.to_owned(),
            kinds: defaults.join(", "),
        }),
    }
}

fn check_stem_cells(runtime: &Runtime) -> Result<(), Error> {
    let wrong = |reason| Error::StemCell {
        kind: runtime.kind.clone(),
        reason,
    };
    for cell in &runtime.stem_cells {
        if cell.initial_count == 0 {
            return Err(wrong("the initialCount of stem cells must be positive"));
        }
        let Some(reactive) = &cell.reactive else { continue };
        let counts = reactive.min_count <= reactive.max_count && reactive.max_count > 0;
        if !counts || reactive.ttl.is_zero() || reactive.threshold == 0 {
            return Err(wrong(
                "reactive stem cells need minCount <= maxCount, and maxCount, ttl and threshold positive",
            ));
        }
        if reactive.increment == 0 || reactive.increment > reactive.max_count {
            return Err(wrong(
                "the increment of reactive stem cells must lie between 1 and maxCount",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifest_offers_python() {
        let runtimes = Runtimes::built_in();
        assert_eq!(runtimes.resolve("python:default").unwrap().kind, "python:3");
        assert_eq!(
            runtimes.resolve("python:3.11").unwrap().image.to_string(),
            "ffs/python"
        );
        assert!(runtimes.resolve("python:2").is_none() && runtimes.resolve("ruby:default").is_none());
        assert!(runtimes.is_native(&"ffs/python-torch:latest".parse().unwrap()));
        let other = "whisk/other".parse().unwrap();
        assert!(!runtimes.is_native(&other));
        assert_eq!(runtimes.to_info()["python"][0]["kind"], "python:3");
        assert!(runtimes.with_local_images(Some("whisk".into())).is_native(&other));
    }

    /// P-120, P-121, P-124, P-126, P-127: a kind that is deprecated still runs, other members are ignored, optional ones may be missing or null, and a
    /// family's default is the one that says so, or the only one.
    #[test]
    fn a_manifest_may_say_more_or_less() {
        let text = r#"{"description": ["x"], "runtimes": {
            "nodejs": [{"kind": "nodejs:18", "image": {"name": "n"}, "deprecated": true},
                       {"kind": "nodejs:20", "image": {"name": "n"}, "default": true, "sentinelledLogs": null,
                        "attached": {"attachmentName": "c", "attachmentType": "t"}, "stemCells": null}],
            "go-lang": [{"kind": "go:1", "image": {"name": "g"}, "sentinelledLogs": false}]}}"#;
        let runtimes = Runtimes::parse(text).unwrap();
        let node = runtimes.resolve("nodejs:default").unwrap();
        assert_eq!(
            (&*node.kind, node.is_attached(), node.sentinelled_logs),
            ("nodejs:20", true, true)
        );
        assert!(runtimes.resolve("nodejs:18").unwrap().deprecated);
        assert!(!runtimes.resolve("go:1").unwrap().sentinelled_logs);
        assert!(runtimes.resolve("go-lang:default").is_none());
        let attached = r#"{"runtimes": {"a": [{"kind": "a:1", "image": {"name": "n"}, "attached": true}]}}"#;
        assert!(Runtimes::parse(attached).is_err());
        assert_eq!(Runtimes::parse("{}").unwrap().all().count(), 0);
    }

    /// P-125: both spellings of the count, and what the scheduler makes of them.
    #[test]
    fn stem_cells_are_read_in_the_old_and_in_the_new_form() {
        let text = r#"{"runtimes": {"nodejs": [{"kind": "nodejs:20", "image": {"name": "n", "tag": ""},
            "stemCells": [{"count": 2, "memory": "256 MB"}, {"initialCount": 1, "memory": "1 G",
            "reactive": {"minCount": 1, "maxCount": 4, "ttl": "2 minutes", "threshold": 1, "increment": 1}}]}]}}"#;
        let runtimes = Runtimes::parse(text).unwrap();
        let node = runtimes.resolve("nodejs:default").unwrap();
        assert!(node.sentinelled_logs && !node.is_attached());
        assert_eq!(
            (node.stem_cells[0].initial_count, node.stem_cells[0].memory),
            (2, Bytes(256 << 20))
        );
        assert_eq!(
            node.stem_cells[1].reactive.as_ref().unwrap().ttl,
            Duration::from_secs(120)
        );
        let cells: Vec<_> = runtimes.stem_cells().collect();
        assert_eq!((cells[0].initial_count, cells[0].memory), (2, Bytes::mib(256)));
        assert_eq!(cells[1].kind, "nodejs:20");
        assert_eq!(cells[1].reactive.as_ref().unwrap().max_count, 4);
    }

    /// P-121, P-124, P-125: what cannot be is refused.
    #[test]
    fn an_impossible_manifest_is_refused_with_a_sentence() {
        let kind = |extra: &str| format!(r#"{{"kind": "a:1", "image": {{"name": "n"}}{extra}}}"#);
        let family = |kinds: &[String]| format!(r#"{{"runtimes": {{"a": [{}]}}}}"#, kinds.join(","));
        let cases = [
            ("[]".into(), "the runtimes manifest cannot be read"),
            (
                r#"{"runtimes": {"a": [{"kind": "a:1"}]}}"#.into(),
                "the runtimes manifest cannot be read",
            ),
            (
                family(&[kind(""), kind("")]),
                "family a of the runtimes manifest has several kinds, but no default",
            ),
            (
                family(&[kind(r#","default":true"#), kind(r#","default":true"#)]),
                "family a of the runtimes manifest has more than one default: a:1, a:1",
            ),
            (
                family(&[kind(r#","stemCells":[{"count":0,"memory":"1 MB"}]"#)]),
                "kind a:1 of the runtimes manifest: the initialCount of stem cells must be positive",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Runtimes::parse(&text).unwrap_err().to_string(), expected);
        }
        let reactive = |min: i32, max: i32, ttl: &str, threshold: i32, increment: i32| {
            let reactive = json!({"minCount": min, "maxCount": max, "ttl": ttl, "threshold": threshold,
                "increment": increment});
            let cell = json!({"initialCount": 1, "memory": "128 MB", "reactive": reactive});
            Runtimes::parse(&family(&[kind(&format!(r#","stemCells":[{cell}]"#))]))
        };
        assert!(reactive(0, 1, "2 minutes", 1, 1).is_ok() && reactive(2, 2, "500 ms", 9, 2).is_ok());
        for (min, max, ttl, threshold, increment) in [
            (3, 2, "1 s", 1, 1),
            (-1, 2, "1 s", 1, 1),
            (0, 0, "1 s", 1, 1),
            (0, 2, "0 s", 1, 1),
            (0, 2, "soon", 1, 1),
            (0, 2, "1 s", 0, 1),
            (0, 2, "1 s", 1, 0),
            (0, 2, "1 s", 1, 3),
        ] {
            assert!(reactive(min, max, ttl, threshold, increment).is_err());
        }
        for cell in [
            r#"{"count": 1}"#,
            r#"{"memory": "1 MB"}"#,
            r#"{"count": 1, "memory": 5}"#,
        ] {
            assert!(Runtimes::parse(&family(&[kind(&format!(r#","stemCells":[{cell}]"#))])).is_err());
        }
    }
}
