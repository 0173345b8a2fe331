//! Settings before they mean anything: texts under dotted paths, one layer of origin above the other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// An environment variable.
    Variable(String),
    /// `-Dkey=value` inside this environment variable.
    JvmOption(&'static str),
    /// The HOCON document in this environment variable.
    Document(&'static str),
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Variable(name) => write!(f, "env {name}"),
            Self::JvmOption(variable) => write!(f, "-D in env {variable}"),
            Self::Document(variable) => write!(f, "HOCON in env {variable}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    List(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Value,
    pub origin: Origin,
}

/// All values of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<String, Entry>);

impl Layer {
    pub fn insert(&mut self, path: String, value: Value, origin: Origin) {
        self.0.insert(path, Entry { value, origin });
    }

    /// Of properties: `a.b.0` and `a.b.1` are the elements of a list `a.b` (P-22).
    pub fn from_properties(properties: impl IntoIterator<Item = (String, String, Origin)>) -> Self {
        let mut layer = Self::default();
        let mut lists: BTreeMap<String, (BTreeMap<u32, String>, Origin)> = BTreeMap::new();
        for (path, text, origin) in properties {
            let element = path
                .rsplit_once('.')
                .and_then(|(list, index)| Some((list.to_owned(), index.parse().ok()?)));
            match element {
                Some((list, index)) => {
                    let (elements, _) = lists.entry(list).or_insert_with(|| (BTreeMap::new(), origin));
                    elements.insert(index, text);
                }
                None => layer.insert(path, Value::Text(text), origin),
            }
        }
        for (path, (elements, origin)) in lists {
            layer.insert(path, Value::List(elements.into_values().collect()), origin);
        }
        layer
    }
}

/// Layers, the one that wins first.
#[derive(Clone, Debug, Default)]
pub struct Layers(pub Vec<Layer>);

impl Layers {
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.iter().find_map(|layer| layer.0.get(path))
    }

    /// All paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let all = self.0.iter().flat_map(|layer| layer.0.keys());
        let unique: std::collections::BTreeSet<&String> = all.collect();
        unique.into_iter().map(String::as_str)
    }

    /// What lies below a path: the rest of the path, and the entry.
    pub fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.paths().filter_map(move |full| {
            let rest = full.strip_prefix(path)?.strip_prefix('.')?;
            Some((rest, self.get(full)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(properties: &[(&str, &str)]) -> Layer {
        Layer::from_properties(
            properties
                .iter()
                .map(|(path, text)| (path.to_string(), text.to_string(), Origin::Default)),
        )
    }

    /// P-22: a numeric last part makes a list, whatever the order in which its elements come.
    #[test]
    fn elements_are_put_in_order() {
        let layers = Layers(vec![layer(&[
            ("a.dns.10", "k"),
            ("a.dns.2", "c"),
            ("a.dns.0", "a"),
            ("a.b", "x"),
        ])]);
        let list = Value::List(vec!["a".into(), "c".into(), "k".into()]);
        assert_eq!(layers.get("a.dns").unwrap().value, list);
        assert_eq!(layers.get("a.b").unwrap().value, Value::Text("x".into()));
        assert_eq!(layers.get("a.dns.0"), None);
    }

    #[test]
    fn the_upper_layer_wins_and_lists_are_not_mixed() {
        let layers = Layers(vec![
            layer(&[("a.list.0", "new")]),
            layer(&[("a.list.0", "old"), ("a.list.1", "older"), ("a.other", "y")]),
        ]);
        assert_eq!(
            layers.get("a.list").unwrap().value,
            Value::List(vec!["new".into()])
        );
        let below: Vec<&str> = layers.below("a").map(|(rest, _)| rest).collect();
        assert_eq!(below, ["list", "other"]);
    }
}
