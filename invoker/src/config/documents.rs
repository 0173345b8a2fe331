//! Settings as documents: HOCON in the environment, and our TOML file (P-25).

use super::environment::Environment;
use super::layers::{Layer, Origin, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{variable} does not hold a HOCON document: {reason}")]
    Hocon { variable: &'static str, reason: String },
    #[error("the settings file {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the settings file {} is not TOML", path.display())]
    Toml {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
}

const TEXT: &str = "OPENWHISK_CONFIG";
const ENCODED: &str = "OPENWHISK_ENCODED_CONFIG";

/// The HOCON document of `OPENWHISK_CONFIG`, else of `OPENWHISK_ENCODED_CONFIG` in base64. What it includes
/// from a class path is our defaults.
///
/// # Errors
/// When it is no HOCON, or no base64.
pub fn hocon(environment: &Environment) -> Result<Layer, Error> {
    let given = |name: &str| environment.get(name).filter(|text| !text.trim().is_empty());
    let wrong = |variable, reason: String| Error::Hocon { variable, reason };
    let (variable, text) = match (given(TEXT), given(ENCODED)) {
        (Some(text), _) => (TEXT, text.clone()),
        (None, Some(encoded)) => {
            let packed: String = encoded.split_whitespace().collect();
            let bytes = STANDARD.decode(packed);
            let bytes = bytes.map_err(|error| wrong(ENCODED, format!("no base64: {error}")))?;
            let text = String::from_utf8(bytes);
            (ENCODED, text.map_err(|error| wrong(ENCODED, error.to_string()))?)
        }
        (None, None) => return Ok(Layer::default()),
    };
    let options = hocon_rs::ConfigOptions::new(true, Vec::new());
    let parsed: Result<serde_json::Value, _> =
        hocon_rs::Config::parse_str(&without_includes(&text), Some(options));
    let tree = parsed.map_err(|error| wrong(variable, error.to_string()))?;
    let mut layer = Layer::default();
    flatten_json(&mut layer, String::new(), tree, &Origin::Document(variable));
    Ok(layer)
}

/// Lines `include …` are left out: the files they name are inside the Scala program.
fn without_includes(text: &str) -> String {
    const TARGETS: [&str; 5] = ["\"", "classpath(", "required(", "file(", "url("];
    let includes = |line: &str| {
        let rest = line.trim_start().strip_prefix("include");
        let target = rest.filter(|rest| rest.starts_with(char::is_whitespace));
        target.is_some_and(|target| TARGETS.iter().any(|begin| target.trim_start().starts_with(begin)))
    };
    let kept: Vec<&str> = text.lines().filter(|line| !includes(line)).collect();
    kept.join("\n")
}

fn flatten_json(layer: &mut Layer, path: String, value: serde_json::Value, origin: &Origin) {
    use serde_json::Value as Json;
    let text = |value: Json| match value {
        Json::String(text) => text,
        other => other.to_string(),
    };
    match value {
        Json::Null => {}
        Json::Object(members) => {
            for (key, value) in members {
                flatten_json(layer, join(&path, &key), value, origin);
            }
        }
        Json::Array(elements) => {
            let elements = elements.into_iter().map(text).collect();
            layer.insert(path, Value::List(elements), origin.clone());
        }
        scalar => insert_text(layer, path, text(scalar), origin),
    }
}

/// The settings file: OpenWhisk's paths, and ours below `ffs`.
///
/// # Errors
/// When it cannot be read, or is no TOML.
pub fn toml_file(path: &Path) -> Result<Layer, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let table: toml::Table = text.parse().map_err(|source| Error::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut layer = Layer::default();
    let origin = Origin::File(path.to_owned());
    flatten_toml(&mut layer, String::new(), toml::Value::Table(table), &origin);
    Ok(layer)
}

fn flatten_toml(layer: &mut Layer, path: String, value: toml::Value, origin: &Origin) {
    let text = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    match value {
        toml::Value::Table(members) => {
            for (key, value) in members {
                flatten_toml(layer, join(&path, &key), value, origin);
            }
        }
        toml::Value::Array(elements) => {
            let elements = elements.into_iter().map(text).collect();
            layer.insert(path, Value::List(elements), origin.clone());
        }
        scalar => insert_text(layer, path, text(scalar), origin),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn insert_text(layer: &mut Layer, path: String, text: String, origin: &Origin) {
    layer.insert(path, Value::Text(text), origin.clone());
}

#[cfg(test)]
mod tests {
    use super::super::layers::Layers;
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Layers, Error> {
        let environment = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        hocon(&environment).map(|layer| Layers(vec![layer]))
    }

    fn text(layers: &Layers, path: &str) -> Option<String> {
        match layers.get(path)?.value.clone() {
            Value::Text(text) => Some(text),
            Value::List(list) => Some(list.join("|")),
        }
    }

    const ANSIBLE: &str = r#"include classpath("application.conf")

# Specify any custom config here. For example
whisk {
  metrics { prometheus-enabled = true }
  container-pool.user-memory: 3 g // comment
  container-factory.container-args.dns-servers = ["1.1.1.1", "8.8.8.8"]
  couchdb.databases { WhiskAuth = subjects }
  "quoted.key" = 7
}
"#;

    /// P-25: ansible's document, plain and in base64, its include left to our defaults.
    #[test]
    fn a_hocon_document_is_read_without_what_it_includes() {
        let encoded = STANDARD.encode(ANSIBLE);
        for variables in [[(TEXT, ANSIBLE)], [(ENCODED, encoded.as_str())]] {
            let layers = read(&variables).unwrap();
            let expected = [
                ("whisk.metrics.prometheus-enabled", "true"),
                ("whisk.container-pool.user-memory", "3 g"),
                (
                    "whisk.container-factory.container-args.dns-servers",
                    "1.1.1.1|8.8.8.8",
                ),
                ("whisk.couchdb.databases.WhiskAuth", "subjects"),
                ("whisk.quoted.key", "7"),
            ];
            for (path, value) in expected {
                assert_eq!(text(&layers, path).as_deref(), Some(value), "{path}");
            }
        }
        let only_comments = "include classpath(\"application.conf\")\n\n# whisk {\n# }\n";
        assert_eq!(read(&[(TEXT, only_comments)]).unwrap().paths().count(), 0);
        assert_eq!(read(&[(TEXT, ""), (ENCODED, "")]).unwrap().paths().count(), 0);
    }

    #[test]
    fn what_is_no_document_is_refused_by_the_name_of_its_variable() {
        for (variables, name) in [([(TEXT, "whisk { a = ")], TEXT), ([(ENCODED, "%%")], ENCODED)] {
            let error = read(&variables).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_toml_file_has_the_same_paths() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content = "whisk.container-pool.user-memory = \"2g\"\n[ffs]\ngpu-cpus = 1.5\n\
             [whisk.container-factory.container-args]\ndns-servers = [\"1.1.1.1\"]\n";
        std::fs::write(file.path(), content).unwrap();
        let layers = Layers(vec![toml_file(file.path()).unwrap()]);
        assert_eq!(
            text(&layers, "whisk.container-pool.user-memory").as_deref(),
            Some("2g")
        );
        assert_eq!(text(&layers, "ffs.gpu-cpus").as_deref(), Some("1.5"));
        let dns = "whisk.container-factory.container-args.dns-servers";
        assert_eq!(text(&layers, dns).as_deref(), Some("1.1.1.1"));
        std::fs::write(file.path(), "a = ").unwrap();
        let error = toml_file(file.path()).unwrap_err();
        assert!(error.to_string().contains("is not TOML"), "{error}");
    }
}
