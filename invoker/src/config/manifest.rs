//! The runtimes manifest: which kinds there are, and the image of each.
//!
//! Source: `common/scala/src/main/scala/org/apache/openwhisk/core/entity/ExecManifest.scala`;
//! contract P-120 … P-128.

use proto::unit::Bytes;
use proto::whisk::size::ByteSize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the runtimes manifest is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("the runtimes manifest is not valid: {at}: {found} where {expected} was expected")]
    Shape {
        at: String,
        found: String,
        expected: &'static str,
    },
    #[error(
        "the runtimes manifest is not valid: family {family} has {defaults} default kinds among its {kinds}; exactly one is needed"
    )]
    Default {
        family: String,
        defaults: usize,
        kinds: usize,
    },
}

/// All runtimes by kind, and the images that need no pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub runtimes: BTreeMap<String, Runtime>,
    /// Family → its default kind.
    pub defaults: BTreeMap<String, String>,
    pub blackboxes: Vec<ImageName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub kind: String,
    pub family: String,
    pub image: ImageName,
    pub deprecated: bool,
    /// Code is kept as an attachment.
    pub attached: bool,
    pub require_main: bool,
    pub sentinelled_logs: bool,
    pub stem_cells: Vec<StemCell>,
}

/// Containers that are started before they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StemCell {
    pub initial_count: u32,
    pub memory: Bytes,
    pub reactive: Option<Reactive>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reactive {
    pub min_count: u32,
    pub max_count: u32,
    pub ttl: std::time::Duration,
    pub threshold: u32,
    pub increment: u32,
}

/// `[registry/][prefix/]name[:tag]`.
#[derive(Clone, Debug, Eq)]
pub struct ImageName {
    pub registry: Option<String>,
    pub prefix: Option<String>,
    pub name: String,
    pub tag: Option<String>,
}

impl PartialEq for ImageName {
    /// No tag and `latest` are the same (P-123).
    fn eq(&self, other: &Self) -> bool {
        let tag = |image: &Self| image.tag.clone().filter(|tag| tag != "latest");
        self.name == other.name
            && self.registry == other.registry
            && self.prefix == other.prefix
            && tag(self) == tag(other)
    }
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(registry) = self.registry.as_deref().filter(|r| !r.is_empty()) {
            write!(f, "{}/", registry.trim_end_matches('/'))?;
        }
        if let Some(prefix) = self.prefix.as_deref().filter(|p| !p.is_empty()) {
            write!(f, "{prefix}/")?;
        }
        f.write_str(&self.name)?;
        match self.tag.as_deref().filter(|t| !t.is_empty()) {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

impl ImageName {
    /// Takes an image string of an action document apart (P-128); a digest is dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.split_once('@').map_or(text, |(image, _)| image);
        let mut parts: Vec<&str> = text.split('/').collect();
        let last = parts.pop().filter(|last| !last.is_empty())?;
        let (name, tag) = match last.split_once(':') {
            Some((name, tag)) => (name, Some(tag.to_owned())),
            None => (last, None),
        };
        let allowed = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let is_registry = |part: &&str| part.contains('.') || part.contains(':');
        let registry = if parts.first().is_some_and(is_registry) {
            Some(parts.remove(0).to_owned())
        } else {
            None
        };
        if !allowed(name) || tag.as_deref().is_some_and(|t| !allowed(t)) || !parts.iter().all(|p| allowed(p))
        {
            return None;
        }
        let prefix = (!parts.is_empty()).then(|| parts.join("/"));
        Some(Self {
            registry,
            prefix,
            name: name.to_owned(),
            tag,
        })
    }
}

impl Manifest {
    /// Reads the JSON text of `RUNTIMES_MANIFEST`.
    ///
    /// # Errors
    /// [`Error`] names the member, what it holds and what was expected.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text).map_err(Error::Json)?;
        let root = object(&value, "the manifest")?;
        let mut manifest = Self::default();
        if let Some(families) = root.get("runtimes") {
            for (family, members) in object(families, "runtimes")? {
                manifest.add_family(family, members)?;
            }
        }
        if let Some(blackboxes) = root.get("blackboxes") {
            for (i, image) in array(blackboxes, "blackboxes")?.iter().enumerate() {
                manifest
                    .blackboxes
                    .push(image_name(image, &format!("blackboxes[{i}]"))?);
            }
        }
        Ok(manifest)
    }

    fn add_family(&mut self, family: &str, members: &Value) -> Result<(), Error> {
        let members = array(members, &format!("runtimes.{family}"))?;
        let mut defaults = Vec::new();
        for (i, member) in members.iter().enumerate() {
            let at = format!("runtimes.{family}[{i}]");
            let runtime = Runtime::parse(family, member, &at)?;
            if member.get("default") == Some(&Value::Bool(true)) || members.len() == 1 {
                defaults.push(runtime.kind.clone());
            }
            self.runtimes.insert(runtime.kind.clone(), runtime);
        }
        match <[String; 1]>::try_from(defaults) {
            Ok([kind]) => {
                self.defaults.insert(family.to_owned(), kind);
                Ok(())
            }
            Err(defaults) => {
                let family = family.to_owned();
                Err(Error::Default {
                    family,
                    defaults: defaults.len(),
                    kinds: members.len(),
                })
            }
        }
    }

    /// The runtime of a kind as a document names it: trimmed, any case, `family:default` resolved.
    pub fn resolve(&self, kind: &str) -> Option<&Runtime> {
        let kind = kind.trim().to_ascii_lowercase();
        let resolved = kind
            .strip_suffix(":default")
            .and_then(|family| self.defaults.get(family));
        self.runtimes.get(resolved.unwrap_or(&kind))
    }

    /// Whether an image is listed under `blackboxes`: no pull, sentinels awaited.
    pub fn is_native(&self, image: &ImageName) -> bool {
        self.blackboxes.contains(image)
    }
}

impl Runtime {
    fn parse(family: &str, value: &Value, at: &str) -> Result<Self, Error> {
        let members = object(value, at)?;
        let kind = text(members, "kind", at)?;
        let image = members.get("image").ok_or_else(|| missing(at, "image"))?;
        let flag = |name: &str, default: bool| match members.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(shape(&format!("{at}.{name}"), other, "true or false")),
        };
        let mut stem_cells = Vec::new();
        if let Some(cells) = members.get("stemCells") {
            for (i, cell) in array(cells, &format!("{at}.stemCells"))?.iter().enumerate() {
                stem_cells.push(StemCell::parse(cell, &format!("{at}.stemCells[{i}]"))?);
            }
        }
        Ok(Self {
            kind,
            family: family.to_owned(),
            image: image_name(image, &format!("{at}.image"))?,
            deprecated: flag("deprecated", false)?,
            attached: members.get("attached").is_some_and(|v| !v.is_null()),
            require_main: flag("requireMain", false)?,
            sentinelled_logs: flag("sentinelledLogs", true)?,
            stem_cells,
        })
    }
}

impl StemCell {
    fn parse(value: &Value, at: &str) -> Result<Self, Error> {
        let members = object(value, at)?;
        let count = if members.contains_key("initialCount") {
            "initialCount"
        } else {
            "count"
        };
        let initial_count = number(members, count, at)?;
        if initial_count == 0 {
            return Err(shape(
                &format!("{at}.{count}"),
                &members[count],
                "a number above 0",
            ));
        }
        let memory = text(members, "memory", at)?;
        let memory: ByteSize = memory.parse().map_err(|_| {
            shape(
                &format!("{at}.memory"),
                &members["memory"],
                "a size such as \"256 MB\"",
            )
        })?;
        let reactive = match members.get("reactive") {
            None | Some(Value::Null) => None,
            Some(reactive) => Some(Reactive::parse(reactive, &format!("{at}.reactive"))?),
        };
        Ok(Self {
            initial_count,
            memory: memory.bytes(),
            reactive,
        })
    }
}

impl Reactive {
    fn parse(value: &Value, at: &str) -> Result<Self, Error> {
        let members = object(value, at)?;
        let ttl = text(members, "ttl", at)?;
        let ttl = super::duration::parse(&ttl).map_err(|_| {
            shape(
                &format!("{at}.ttl"),
                &members["ttl"],
                "a duration such as \"2 minutes\"",
            )
        })?;
        let reactive = Self {
            min_count: number(members, "minCount", at)?,
            max_count: number(members, "maxCount", at)?,
            ttl,
            threshold: number(members, "threshold", at)?,
            increment: number(members, "increment", at)?,
        };
        let bounded = reactive.min_count <= reactive.max_count && reactive.max_count > 0;
        let steps = reactive.threshold > 0 && (1..=reactive.max_count).contains(&reactive.increment);
        if bounded && steps {
            Ok(reactive)
        } else {
            Err(shape(
                at,
                value,
                "0 <= minCount <= maxCount, maxCount > 0, threshold > 0, 0 < increment <= maxCount",
            ))
        }
    }
}

fn image_name(value: &Value, at: &str) -> Result<ImageName, Error> {
    if let Value::String(image) = value {
        return ImageName::parse(image).ok_or_else(|| shape(at, value, "an image name"));
    }
    let members = object(value, at)?;
    let optional = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(part)) => Ok(Some(part.clone()).filter(|part| !part.is_empty())),
        Some(other) => Err(shape(&format!("{at}.{name}"), other, "a string")),
    };
    Ok(ImageName {
        registry: optional("registry")?,
        prefix: optional("prefix")?,
        name: text(members, "name", at)?,
        tag: optional("tag")?,
    })
}

fn object<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| shape(at, value, "an object"))
}

fn array<'a>(value: &'a Value, at: &str) -> Result<&'a Vec<Value>, Error> {
    value.as_array().ok_or_else(|| shape(at, value, "an array"))
}

fn text(members: &Map<String, Value>, name: &str, at: &str) -> Result<String, Error> {
    match members.get(name) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
        Some(other) => Err(shape(&format!("{at}.{name}"), other, "a text that is not empty")),
        None => Err(missing(at, name)),
    }
}

fn number(members: &Map<String, Value>, name: &str, at: &str) -> Result<u32, Error> {
    match members.get(name) {
        Some(value) => value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| shape(&format!("{at}.{name}"), value, "a whole number")),
        None => Err(missing(at, name)),
    }
}

fn missing(at: &str, name: &str) -> Error {
    Error::Shape {
        at: format!("{at}.{name}"),
        found: "nothing".to_owned(),
        expected: "a value",
    }
}

fn shape(at: &str, found: &Value, expected: &'static str) -> Error {
    Error::Shape {
        at: at.to_owned(),
        found: found.to_string(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"{"description":["ignored"],"runtimes":{
        "python":[{"kind":"python:3.10","image":{"prefix":"openwhisk","name":"py310","tag":"n"},"deprecated":true},
                  {"kind":"python:3.11","default":true,"image":{"registry":"r.example.org","prefix":"openwhisk","name":"py311"},
                   "attached":{"attachmentName":"codefile","attachmentType":"text/plain"},
                   "stemCells":[{"initialCount":2,"memory":"256 MB","reactive":
                     {"minCount":1,"maxCount":4,"ttl":"2 minutes","threshold":2,"increment":1}},{"count":1,"memory":"1 GB"}]}],
        "go":[{"kind":"go:1.20","image":{"name":"go"},"requireMain":true,"sentinelledLogs":false}]},
        "blackboxes":[{"prefix":"ffs","name":"python","tag":"latest"}]}"#;

    #[test]
    fn kinds_defaults_and_stem_cells_are_read() {
        // P-120 … P-126, D-29
        let manifest = Manifest::parse(MANIFEST).expect("it is valid");

        let default = manifest.resolve(" Python:Default ").expect("the family has one");
        assert_eq!(default.kind, "python:3.11");
        assert_eq!(default.image.to_string(), "r.example.org/openwhisk/py311");
        assert!(default.attached && default.sentinelled_logs);
        assert_eq!(default.stem_cells[1].memory, Bytes::mib(1024));
        let reactive = default.stem_cells[0].reactive.as_ref().expect("it has one");
        assert_eq!(reactive.ttl, std::time::Duration::from_secs(120));
        let go = manifest
            .resolve("go:default")
            .expect("the only member is the default");
        assert!(go.require_main && !go.sentinelled_logs);
        assert_eq!(manifest.resolve("php:8"), None);
        assert!(manifest.is_native(&ImageName::parse("ffs/python").expect("a name")));
        assert!(!manifest.is_native(&ImageName::parse("ffs/python:2").expect("a name")));
    }

    #[test]
    fn a_manifest_that_is_wrong_names_the_member_and_its_value() {
        let error = |text: &str| Manifest::parse(text).expect_err("it is not valid").to_string();
        let two =
            r#"{"runtimes":{"a":[{"kind":"a:1","image":{"name":"x"}},{"kind":"a:2","image":{"name":"y"}}]}}"#;
        assert!(error(two).contains("family a has 0 default kinds among its 2"));
        assert!(
            error(r#"{"runtimes":{"a":[{"kind":7,"image":{"name":"x"}}]}}"#)
                .contains("runtimes.a[0].kind: 7")
        );
        assert!(error(r#"{"runtimes":[]}"#).contains("runtimes: [] where an object"));
        let cell = r#"{"runtimes":{"a":[{"kind":"a:1","image":{"name":"x"},"stemCells":[{"initialCount":1,"memory":"256"}]}]}}"#;
        assert!(error(cell).contains("runtimes.a[0].stemCells[0].memory: \"256\""));
    }

    #[test]
    fn image_strings_are_taken_apart_as_docker_does() {
        // P-128
        let parts = |text: &str| {
            let image = ImageName::parse(text)?;
            Some((image.registry, image.prefix, image.name, image.tag))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("a/b/c:1"), Some((None, some("a/b"), "c".into(), some("1"))));
        assert_eq!(
            parts("r.example.org/c"),
            Some((some("r.example.org"), None, "c".into(), None))
        );
        assert_eq!(
            parts("host:5000/a/c@sha256:00"),
            Some((some("host:5000"), some("a"), "c".into(), None))
        );
        assert_eq!(parts("a b"), None);
        assert_eq!(parts(""), None);
    }
}
