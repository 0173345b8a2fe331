//! Takes settings out of the layers by path, typed, and keeps what was asked for and what was wrong.
//!
//! A wrong value does not stop the reading: the default takes its place, and all that is wrong is told at
//! the end. So who fixes a file does not meet one mistake after the other.

use super::environment::variable;
use super::layers::{Entry, Layers, Origin, Value};
use super::units;
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// What a value may be: how it is read, and how to say what was expected.
pub struct Kind<T: 'static> {
    pub expected: &'static str,
    pub parse: fn(&str) -> Option<T>,
}

impl<T> fmt::Debug for Kind<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }
}

pub const TEXT: Kind<String> = Kind {
    expected: "a text",
    parse: |text| Some(text.to_owned()),
};
pub const FLAG: Kind<bool> = Kind {
    expected: "true or false",
    parse: |text| match text.trim() {
        "true" | "yes" | "on" | "True" => Some(true),
        "false" | "no" | "off" | "False" => Some(false),
        _ => None,
    },
};
pub const SIZE: Kind<Bytes> = Kind {
    expected: "a size, such as 512m, 2 g or a number of bytes",
    parse: units::size,
};
pub const DURATION: Kind<Duration> = Kind {
    expected: "a duration, such as 100 ms, 10 seconds or 5m",
    parse: units::duration,
};
pub const TIMEOUT: Kind<Option<Duration>> = Kind {
    expected: "a duration, such as 10 seconds or 5m, or Inf for none",
    parse: units::timeout,
};
pub const PORT: Kind<u16> = Kind {
    expected: "a port, from 0 to 65535",
    parse: |text| text.trim().parse().ok(),
};
pub const NUMBER: Kind<u32> = Kind {
    expected: "a whole number, 0 or more",
    parse: |text| text.trim().parse().ok(),
};
pub const CPUS: Kind<f64> = Kind {
    expected: "a number of CPUs above 0",
    parse: |text| {
        text.trim()
            .parse()
            .ok()
            .filter(|cpus: &f64| cpus.is_finite() && *cpus > 0.0)
    },
};
pub const POSITIVE: Kind<u32> = Kind {
    expected: "a whole number, 1 or more",
    parse: |text| text.trim().parse().ok().filter(|n| *n > 0),
};

/// A setting that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub path: String,
    /// As TOML; none: not set, and without a default.
    pub value: Option<String>,
    pub origin: Origin,
}

/// A value that cannot be followed, or is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(pub String);

/// Reads, and remembers.
#[derive(Debug)]
pub struct Reader<'a> {
    layers: &'a Layers,
    shown: BTreeMap<String, Shown>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            shown: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// The value in force. `default` is what stands in OpenWhisk's own files.
    pub fn get<T>(&mut self, path: &str, default: &str, kind: &Kind<T>) -> T {
        self.any(&[path], default, kind)
    }

    /// The same for a setting with several spellings; the first is the present one.
    pub fn any<T>(&mut self, paths: &[&str], default: &str, kind: &Kind<T>) -> T {
        let found = paths
            .iter()
            .find_map(|path| Some((*path, self.layers.get(path)?)))
            .and_then(|(path, entry)| self.parse(path, entry, kind));
        found.unwrap_or_else(|| {
            let value = (kind.parse)(default).expect("a default is a value of its kind");
            self.remember(paths[0], Some(quoted(default)), Origin::Default);
            value
        })
    }

    /// A setting without a default.
    pub fn find<T>(&mut self, path: &str, kind: &Kind<T>) -> Option<T> {
        let Some(entry) = self.layers.get(path) else {
            self.remember(path, None, Origin::Default);
            return None;
        };
        self.parse(path, entry, kind)
    }

    /// A setting without which there is no start. None: a problem is noted.
    pub fn need<T>(&mut self, path: &str, kind: &Kind<T>) -> Option<T> {
        if self.layers.get(path).is_none() {
            let expected = kind.expected;
            let variable = variable(path);
            self.problem(format!(
                "{path} is not set: expected {expected}, in the environment variable {variable} or in a settings file"
            ));
        }
        self.find(path, kind)
    }

    /// A list; empty if it is not set.
    pub fn list(&mut self, path: &str) -> Vec<String> {
        let Some(entry) = self.layers.get(path) else {
            self.remember(path, Some("[]".to_owned()), Origin::Default);
            return Vec::new();
        };
        self.remember(path, Some(toml(path, &entry.value)), entry.origin.clone());
        match &entry.value {
            Value::List(list) => list.clone(),
            Value::Text(text) => {
                self.wrong(
                    path,
                    text,
                    "a list (a variable for each element, ending in _0, _1, …)",
                );
                Vec::new()
            }
        }
    }

    /// All texts below a path, by the rest of their paths.
    pub fn texts(&mut self, path: &str) -> BTreeMap<String, String> {
        let below: Vec<(String, Entry)> = self.below(path);
        let mut texts = BTreeMap::new();
        for (rest, entry) in below {
            let full = format!("{path}.{rest}");
            self.remember(&full, Some(toml(&full, &entry.value)), entry.origin);
            let text = match entry.value {
                Value::Text(text) => text,
                Value::List(list) => list.join(","),
            };
            texts.insert(rest, text);
        }
        texts
    }

    /// All lists below a path; a text is a list of one.
    pub fn lists(&mut self, path: &str) -> BTreeMap<String, Vec<String>> {
        let mut lists = BTreeMap::new();
        for (rest, entry) in self.below(path) {
            let full = format!("{path}.{rest}");
            self.remember(&full, Some(toml(&full, &entry.value)), entry.origin);
            let list = match entry.value {
                Value::Text(text) => vec![text],
                Value::List(list) => list,
            };
            lists.insert(rest, list);
        }
        lists
    }

    fn below(&self, path: &str) -> Vec<(String, Entry)> {
        let below = self.layers.below(path);
        below
            .map(|(rest, entry)| (rest.to_owned(), entry.clone()))
            .collect()
    }

    /// Notes that the value of a setting cannot be followed.
    pub fn refuse(&mut self, path: &str, expected: &str) {
        let value = match self.layers.get(path).map(|entry| &entry.value) {
            Some(Value::Text(text)) => text.clone(),
            Some(Value::List(list)) => list.join(", "),
            None => String::new(),
        };
        self.wrong(path, &value, expected);
    }

    pub fn problem(&mut self, sentence: String) {
        self.problems.push(Problem(sentence));
    }

    fn parse<T>(&mut self, path: &str, entry: &Entry, kind: &Kind<T>) -> Option<T> {
        self.remember(path, Some(toml(path, &entry.value)), entry.origin.clone());
        let parsed = match &entry.value {
            Value::Text(text) => (kind.parse)(text),
            Value::List(_) => None,
        };
        if parsed.is_none() {
            self.refuse(path, kind.expected);
        }
        parsed
    }

    fn wrong(&mut self, path: &str, value: &str, expected: &str) {
        let value = masked(path, value);
        let origin = self.layers.get(path).map(|entry| entry.origin.clone());
        let origin = origin.unwrap_or(Origin::Default);
        self.problem(format!("{path} ({origin}) is {value:?}: expected {expected}"));
    }

    fn remember(&mut self, path: &str, value: Option<String>, origin: Origin) {
        let shown = Shown {
            path: path.to_owned(),
            value,
            origin,
        };
        self.shown.insert(path.to_owned(), shown);
    }

    /// What was asked for, by path; then what is set and was not asked for; and what was wrong.
    pub fn finish(self) -> Report {
        let asked: BTreeSet<&str> = self.shown.keys().map(String::as_str).collect();
        let unused = self.layers.paths().filter(|path| !asked.contains(path));
        let unused = unused.filter_map(|path| {
            let entry = self.layers.get(path)?;
            Some(Shown {
                path: path.to_owned(),
                value: Some(toml(path, &entry.value)),
                origin: entry.origin.clone(),
            })
        });
        Report {
            unused: unused.collect(),
            settings: self.shown.into_values().collect(),
            problems: self.problems,
        }
    }
}

/// What reading came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub settings: Vec<Shown>,
    /// Set, but nothing here asks for it (P-30, P-31).
    pub unused: Vec<Shown>,
    pub problems: Vec<Problem>,
}

impl fmt::Display for Report {
    /// As TOML, with the origin of each value as a comment. What is not set stands in a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &self.settings {
            let Shown { path, value, origin } = setting;
            match value {
                Some(value) => writeln!(f, "{path} = {value} # {origin}")?,
                None => writeln!(f, "# {path} is not set")?,
            }
        }
        for setting in &self.unused {
            let value = setting.value.as_deref().unwrap_or_default();
            writeln!(
                f,
                "# without effect here: {} = {value} # {}",
                setting.path, setting.origin
            )?;
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn toml(path: &str, value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(&masked(path, text)),
        Value::List(list) => {
            let elements: Vec<String> = list.iter().map(|text| quoted(&masked(path, text))).collect();
            format!("[{}]", elements.join(", "))
        }
    }
}

/// Stars instead of what nobody may see.
fn masked(path: &str, text: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let secret = ["password", "secret", "token", "jaas", "credential"]
        .iter()
        .any(|word| name.contains(word))
        || name.starts_with("aes")
        || name == "key"
        || path.contains("credentials.")
        || path == "whisk.mongodb.uri";
    if secret && !text.is_empty() {
        "********".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::Layer;
    use super::*;

    fn layers(properties: &[(&str, &str)]) -> Layers {
        let properties = properties.iter().map(|(path, text)| {
            let origin = Origin::Variable(variable(path));
            (path.to_string(), text.to_string(), origin)
        });
        Layers(vec![Layer::from_properties(properties)])
    }

    #[test]
    fn a_wrong_value_is_named_with_where_it_stands_and_what_was_expected() {
        let layers = layers(&[
            ("whisk.container-pool.user-memory", "2x"),
            ("a.password", "hunter2"),
        ]);
        let mut reader = Reader::new(&layers);
        let memory = reader.get("whisk.container-pool.user-memory", "1024 m", &SIZE);
        reader.get("a.password", "1", &NUMBER);
        reader.need("kafka.hosts", &TEXT);
        assert_eq!(memory, Bytes::mib(1024));
        let problems: Vec<String> = reader.finish().problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "whisk.container-pool.user-memory (env CONFIG_whisk_containerPool_userMemory) is \"2x\": \
                 expected a size, such as 512m, 2 g or a number of bytes",
                "a.password (env CONFIG_a_password) is \"********\": expected a whole number, 0 or more",
                "kafka.hosts is not set: expected a text, in the environment variable KAFKA_HOSTS or in a \
                 settings file",
            ]
        );
    }

    #[test]
    fn what_was_read_is_shown_as_toml_with_its_origin_and_without_secrets() {
        let layers = layers(&[
            ("a.port", "7"),
            ("a.password", "p\"w"),
            ("b.l.0", "x"),
            ("z.other", "1"),
        ]);
        let mut reader = Reader::new(&layers);
        reader.get("a.port", "8080", &PORT);
        reader.find("a.password", &TEXT);
        reader.list("b.l");
        reader.get("c.flag", "true", &FLAG);
        reader.find("d.none", &TEXT);
        let shown = reader.finish().to_string();
        let expected = "a.password = \"********\" # env CONFIG_a_password\n\
             a.port = \"7\" # env CONFIG_a_port\n\
             b.l = [\"x\"] # env CONFIG_b_l_0\n\
             c.flag = \"true\" # default\n\
             # d.none is not set\n\
             # without effect here: z.other = \"1\" # env CONFIG_z_other\n";
        assert_eq!(shown, expected);
        assert!(shown.parse::<toml::Table>().is_ok());
    }
}
