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
}

/// One kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Such as `python:3.11`.
    pub kind: String,
    pub image: ImageName,
    /// May be read, deleted and run, but neither written nor invoked through the controller.
    #[serde(default)]
    pub deprecated: bool,
    /// What `family:default` stands for.
    #[serde(default)]
    pub default: bool,
    /// Present if code is kept as an attachment.
    #[serde(default)]
    attached: Option<Attached>,
    #[serde(default)]
    pub require_main: bool,
    /// Whether the runtime ends a run's output with sentinels.
    #[serde(default = "yes")]
    pub sentinelled_logs: bool,
    #[serde(default)]
    pub stem_cells: Vec<StemCell>,
}

fn yes() -> bool {
    true
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
#[serde(rename_all = "camelCase")]
pub struct StemCell {
    #[serde(alias = "count")]
    pub initial_count: u32,
    #[serde(deserialize_with = "size")]
    pub memory: Bytes,
    #[serde(default)]
    pub reactive: Option<Reactive>,
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

fn size<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
    ByteSize::deserialize(d).map(ByteSize::bytes)
}

/// Such as `"2 minutes"`.
fn duration<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    let (number, unit) = text
        .trim()
        .split_at(text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let seconds = match unit.trim().trim_end_matches('s') {
        "" if unit.trim() == "s" => Some(1),
        "sec" | "second" => Some(1),
        "m" if unit.trim() == "m" => Some(60),
        "min" | "minute" => Some(60),
        "h" | "hour" => Some(3600),
        "d" | "day" => Some(86_400),
        _ => None,
    };
    let parsed = seconds.zip(number.parse::<u64>().ok());
    let total = parsed.and_then(|(seconds, number)| number.checked_mul(seconds));
    total.map(Duration::from_secs).ok_or_else(|| {
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
        })
    }

    /// What `standalone` offers.
    pub fn built_in() -> Self {
        Self::parse(include_str!("built_in.json")).expect("a test reads it")
    }

    /// The runtime of a kind; `family:default` is the family's default.
    pub fn resolve(&self, kind: &str) -> Option<&Runtime> {
        match kind.split_once(':') {
            Some((family, "default")) => {
                let (_, kinds) = self.families.iter().find(|(name, _)| name == family)?;
                kinds.iter().find(|r| r.default || kinds.len() == 1)
            }
            _ => self.all().find(|r| r.kind == kind),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Runtime> {
        self.families.iter().flat_map(|(_, kinds)| kinds)
    }

    /// Whether a blackbox image is native: never pulled, its logs have sentinels (L-16). `local_prefix` is
    /// the prefix of local images where the operator lets them bypass the pull (P-71).
    pub fn is_native(&self, image: &ImageName, local_prefix: Option<&str>) -> bool {
        self.blackboxes.contains(image) || (image.prefix.is_some() && image.prefix.as_deref() == local_prefix)
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
        assert!(runtimes.is_native(&"ffs/python-torch:latest".parse().unwrap(), None));
        assert!(!runtimes.is_native(&"whisk/other".parse().unwrap(), None));
        assert!(runtimes.is_native(&"whisk/other".parse().unwrap(), Some("whisk")));
        assert_eq!(runtimes.to_info()["python"][0]["kind"], "python:3");
    }

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
    }

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
    }
}
