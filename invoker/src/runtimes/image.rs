//! Names of images, as Docker writes them: `ExecManifest.scala`, `ImageName`.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// `[registry/][prefix/]name[:tag]`. Equal if all parts are, where no tag and `latest` are the same.
#[derive(Clone, Debug, Eq, Deserialize)]
pub struct ImageName {
    pub name: String,
    #[serde(default, deserialize_with = "non_empty")]
    pub registry: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    pub prefix: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    pub tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("image {0:?} is not valid: expected [registry/][prefix/]name[:tag], such as ffs/python:latest")]
pub struct InvalidImage(pub String);

fn non_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.filter(|s| !s.is_empty()))
}

impl ImageName {
    /// The name with `registry` in front, unless it names one itself (L-14).
    pub fn resolve(&self, registry: &str) -> String {
        let registry = self.registry.as_deref().unwrap_or(registry);
        let slash = if registry.is_empty() || registry.ends_with('/') {
            ""
        } else {
            "/"
        };
        let prefix = self.prefix.as_ref().map(|p| format!("{p}/")).unwrap_or_default();
        let tag = self.tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default();
        format!("{registry}{slash}{prefix}{}{tag}", self.name)
    }
}

impl PartialEq for ImageName {
    fn eq(&self, other: &Self) -> bool {
        let tag = |image: &Self| image.tag.clone().unwrap_or_else(|| "latest".into());
        (&self.name, &self.registry, &self.prefix) == (&other.name, &other.registry, &other.prefix)
            && tag(self) == tag(other)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resolve(""))
    }
}

impl FromStr for ImageName {
    type Err = InvalidImage;

    /// Docker's grammar; a digest at the end is accepted and dropped.
    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let invalid = || InvalidImage(text.to_owned());
        let (reference, digest) = match text.split_once('@') {
            Some((reference, digest)) => (reference, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(invalid());
        }
        // A colon before the last slash belongs to the port of a registry.
        let (path, tag) = match reference.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (reference, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (registry, path) = match path.split_once('/') {
            Some((first, rest)) if is_registry(first) => (Some(first.to_owned()), rest),
            _ => (None, path),
        };
        if !path.split('/').all(is_path_component) {
            return Err(invalid());
        }
        let (prefix, name) = match path.rsplit_once('/') {
            Some((prefix, name)) => (Some(prefix.to_owned()), name),
            None => (None, path),
        };
        Ok(Self {
            name: name.to_owned(),
            registry,
            prefix,
            tag: tag.map(str::to_owned),
        })
    }
}

/// Only what has a dot or a port is a registry (P-128).
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    host.split('.').all(label) && port.is_none_or(digits) && (host.contains('.') || port.is_some())
}

/// Letters and digits, and between them a dot, one or two underscores, or dashes.
fn is_path_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    text.starts_with(plain) && text.ends_with(plain) && text.split(plain).all(separator)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && word(text.as_bytes()[0])
        && text.bytes().all(|b| word(b) || b".-".contains(&b))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-128: registry, prefix, name and tag; a digest is accepted and dropped.
    #[test]
    fn an_image_name_is_taken_apart_as_docker_does() {
        let cases = [
            ("python", (None, None, "python", None)),
            ("a/b/c:1", (None, Some("a/b"), "c", Some("1"))),
            (
                "localhost:5000/ffs/python",
                (Some("localhost:5000"), Some("ffs"), "python", None),
            ),
            (
                "ghcr.io/x/y:latest",
                (Some("ghcr.io"), Some("x"), "y", Some("latest")),
            ),
            ("local/x", (None, Some("local"), "x", None)),
            (
                "a_b/c__d/e--f.g:T_1.x-",
                (None, Some("a_b/c__d"), "e--f.g", Some("T_1.x-")),
            ),
        ];
        for (text, (registry, prefix, name, tag)) in cases {
            let image: ImageName = text.parse().unwrap();
            let parts = (
                image.registry.as_deref(),
                image.prefix.as_deref(),
                &*image.name,
                image.tag.as_deref(),
            );
            assert_eq!(parts, (registry, prefix, name, tag), "{text}");
            assert_eq!(image.to_string(), text);
        }
        let digest = format!("ffs/python@sha256:{}", "0".repeat(64));
        assert_eq!(digest.parse::<ImageName>().unwrap().to_string(), "ffs/python");
    }

    #[test]
    fn what_docker_would_not_take_is_refused_with_a_sentence() {
        for text in [
            "",
            "Upper/case",
            "a//b",
            "a:",
            "a b",
            "-a",
            "a..b",
            "a._b/c",
            "a___b",
            "a@sha256:xyz",
            "a/b:",
            "ffs/python:la test",
        ] {
            let refused = text.parse::<ImageName>().unwrap_err();
            assert!(refused.to_string().contains("expected [registry/]"), "{refused}");
        }
    }

    /// P-122, P-123: how an image is written out, and when two are the same.
    #[test]
    fn no_tag_is_the_tag_latest() {
        let image = |text: &str| text.parse::<ImageName>().unwrap();
        assert_eq!(image("ffs/python"), image("ffs/python:latest"));
        assert_ne!(image("ffs/python"), image("ffs/python:1"));
        assert_ne!(image("ffs/python"), image("python"));
        assert_eq!(
            image("ffs/python").resolve("registry:5000"),
            "registry:5000/ffs/python"
        );
        let full = r#"{"registry": "r.io:5000", "prefix": "p", "name": "n", "tag": "t"}"#;
        let full: ImageName = serde_json::from_str(full).unwrap();
        assert_eq!(full.to_string(), "r.io:5000/p/n:t");
        let empty = r#"{"registry": "", "prefix": "", "name": "n", "tag": ""}"#;
        let empty: ImageName = serde_json::from_str(empty).unwrap();
        assert_eq!(
            (empty.to_string(), empty == image("n:latest")),
            ("n".into(), true)
        );
        assert_eq!(image("a.b/ffs/python").resolve("registry:5000"), "a.b/ffs/python");
    }
}
