//! Settings as the environment holds them: `CONFIG_x_y_z`, plain properties, and `-D` among JVM options.
//!
//! Source: `transformEnvironment.sh`, `WhiskConfig.scala`, `init.sh`; contract P-20 … P-26.

use super::layers::{Layer, Origin};
use std::collections::BTreeMap;

/// Environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// Plain properties, and where they stand in the tree (P-20, P-92).
const PROPERTIES: &[(&str, &str)] = &[
    ("PORT", "port"),
    ("KAFKA_HOSTS", "kafka.hosts"),
    ("RUNTIMES_MANIFEST", "runtimes.manifest"),
    ("WHISK_API_HOST_NAME", "whisk.api.host.name"),
    ("WHISK_API_HOST_PROTO", "whisk.api.host.proto"),
    ("WHISK_API_HOST_PORT", "whisk.api.host.port"),
    ("ZOOKEEPER_HOSTS", "zookeeper.hosts"),
    ("METRICS_KAMON", "whisk.metrics.kamon-enabled"),
    ("METRICS_KAMON_TAGS", "whisk.metrics.kamon-tags-enabled"),
    ("METRICS_LOG", "whisk.metrics.logs-enabled"),
];

/// Variables that hold options of a JVM, of which some are settings (P-26).
const JVM_OPTIONS: [&str; 2] = ["INVOKER_OPTS", "JAVA_OPTS"];

const PREFIX: &str = "CONFIG_";

/// `CONFIG_x_y_z`; empty values count as not set, `$NAME` stands for another variable (P-21 … P-24).
pub fn configuration(environment: &Environment) -> Layer {
    Layer::from_properties(environment.iter().filter_map(|(name, value)| {
        let path = path(name.strip_prefix(PREFIX)?);
        let named = value.strip_prefix('$').and_then(|name| environment.get(name));
        let value = named.filter(|named| !named.is_empty()).unwrap_or(value);
        let given = !value.is_empty() && !path.is_empty();
        given.then(|| (path, value.clone(), Origin::Variable(name.clone())))
    }))
}

/// Plain properties, trimmed; empty ones count as not set.
pub fn properties(environment: &Environment) -> Layer {
    let mut layer = Layer::default();
    for (name, path) in PROPERTIES {
        let value = environment.get(*name).map(|value| value.trim());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let value = super::layers::Value::Text(value.to_owned());
            layer.insert((*path).to_owned(), value, Origin::Variable((*name).to_owned()));
        }
    }
    layer
}

/// `-Dkey=value`; the other options are for a JVM.
pub fn jvm_options(environment: &Environment) -> Layer {
    let given = JVM_OPTIONS.into_iter().flat_map(|variable| {
        let text = environment.get(variable).map_or("", String::as_str);
        let options = text.split_whitespace();
        options.filter_map(move |option| {
            let (key, value) = option.strip_prefix("-D")?.split_once('=')?;
            let value = unquoted(value);
            let given = !key.is_empty() && !value.is_empty();
            given.then(|| (key.to_owned(), value.to_owned(), Origin::JvmOption(variable)))
        })
    });
    Layer::from_properties(given)
}

/// Without the quotes of a shell around it.
fn unquoted(text: &str) -> &str {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

/// `whisk_containerPool_userMemory` → `whisk.container-pool.user-memory`.
fn path(name: &str) -> String {
    let parts = name.split('_').filter(|part| !part.is_empty());
    parts.map(kebab).collect::<Vec<_>>().join(".")
}

/// camelCase → kebab-case; what begins in upper case is the name of a class, and stays.
fn kebab(part: &str) -> String {
    if part.starts_with(|c: char| c.is_ascii_uppercase()) {
        return part.to_owned();
    }
    let mut kebab = String::new();
    let mut before = '-';
    for c in part.chars() {
        let hump = c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if hump {
            kebab.push('-');
            kebab.push(c.to_ascii_lowercase());
        } else {
            kebab.push(c);
        }
        before = c;
    }
    kebab
}

/// The variable that sets a path, for messages: the rule above reversed.
pub fn variable(path: &str) -> String {
    if let Some((name, _)) = PROPERTIES
        .iter()
        .find(|(name, property)| *property == path && !name.starts_with("METRICS"))
    {
        return (*name).to_owned();
    }
    let mut name = PREFIX.to_owned();
    let mut upper = false;
    for c in path.chars() {
        match c {
            '.' => name.push('_'),
            '-' => {}
            c if upper => name.push(c.to_ascii_uppercase()),
            c => name.push(c),
        }
        upper = c == '-';
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::layers::{Layers, Value};
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    /// P-21: parts are cut at `_`, camelCase becomes kebab-case, classes stay.
    #[test]
    fn names_of_variables_become_paths() {
        let cases = [
            (
                "whisk_containerPool_userMemory",
                "whisk.container-pool.user-memory",
            ),
            (
                "whisk_couchdb_databases_WhiskEntity",
                "whisk.couchdb.databases.WhiskEntity",
            ),
            ("whisk_spi_LogStoreProvider", "whisk.spi.LogStoreProvider"),
            ("logback_log_level", "logback.log.level"),
            (
                "whisk_kafka_topics_userEvent_prefix",
                "whisk.kafka.topics.user-event.prefix",
            ),
            (
                "whisk_parameterStorage_aes128Key",
                "whisk.parameter-storage.aes128-key",
            ),
            ("a__useHTTP", "a.use-hTTP"),
        ];
        for (name, expected) in cases {
            assert_eq!(path(name), expected);
        }
        assert_eq!(
            variable("whisk.container-pool.user-memory"),
            "CONFIG_whisk_containerPool_userMemory"
        );
        assert_eq!(variable("kafka.hosts"), "KAFKA_HOSTS");
    }

    /// P-23, P-24: empty values are not set; `$NAME` is followed once, and stays where there is no such value.
    #[test]
    fn empty_values_are_ignored_and_dollars_followed() {
        let given = environment(&[
            ("CONFIG_a", ""),
            ("CONFIG_b", "$X"),
            ("CONFIG_c", "$UNSET"),
            ("CONFIG_d", "$EMPTY"),
            ("X", "3g"),
            ("EMPTY", ""),
            ("MY_CONFIG_e", "no"),
        ]);
        let layers = Layers(vec![configuration(&given)]);
        let text = |path: &str| match layers.get(path).map(|entry| entry.value.clone()) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        };
        assert_eq!(layers.paths().collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!(text("b").as_deref(), Some("3g"));
        assert_eq!(text("c").as_deref(), Some("$UNSET"));
        assert_eq!(text("d").as_deref(), Some("$EMPTY"));
    }

    /// P-26: `-D` among the options of a JVM is a setting, the rest is nothing to us.
    #[test]
    fn jvm_options_may_hold_settings() {
        let given = environment(&[
            ("INVOKER_OPTS", "-Xmx1g -Dwhisk.a-b=1 -Dwhisk.l.0='x' -Dempty= -D"),
            ("JAVA_OPTS", "-XX:+UseG1GC -Dcom.sun.x -Dwhisk.c=2"),
        ]);
        let layers = Layers(vec![jvm_options(&given)]);
        assert_eq!(
            layers.paths().collect::<Vec<_>>(),
            ["whisk.a-b", "whisk.c", "whisk.l"]
        );
        assert_eq!(
            layers.get("whisk.l").unwrap().value,
            Value::List(vec!["x".into()])
        );
        assert_eq!(
            layers.get("whisk.c").unwrap().origin.to_string(),
            "-D in env JAVA_OPTS"
        );
    }
}
