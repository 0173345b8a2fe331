//! Every item of OpenWhisk's invoker contract is accounted for.
//!
//! A test cites what it proves in a comment, by number: `/// K-23, K-24: a batch is committed before …`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ITEMS: &str = include_str!("data/contract/items.txt");

fn items(level: &str) -> Vec<&str> {
    ITEMS
        .lines()
        .filter_map(|line| line.strip_prefix(level)?.strip_prefix(' '))
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files below `folder` that may cite: Rust, the scheduler's scenarios, Go, Python, shell.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !matches!(
                path.file_name().and_then(|name| name.to_str()),
                Some("target" | "node_modules" | "data" | "fixtures")
            ) {
                files(&path, found);
            }
        } else if path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| matches!(extension, "rs" | "txt" | "go" | "py" | "sh"))
        {
            found.push(path);
        }
    }
}

/// Item numbers in a text: a letter, a dash, digits, and perhaps letters.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| {
            let mut parts = word.splitn(2, '-');
            let (letter, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            letter.len() == 1
                && letter.starts_with(|c: char| c.is_ascii_uppercase())
                && number.starts_with(|c: char| c.is_ascii_digit())
        })
}

fn comment(line: &str) -> Option<&str> {
    let at = line.find("//").or_else(|| line.starts_with('#').then_some(0))?;
    Some(&line[at..])
}

/// Numbers cited in comments of tests: files of tests, and what follows `#[cfg(test)]` elsewhere.
fn cited_by_tests() -> BTreeSet<String> {
    let mut found = Vec::new();
    for folder in ["invoker", "proto", "ffs-runtime", "benches"] {
        files(&root().join(folder), &mut found);
    }
    let mut cited = BTreeSet::new();
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let is_test = path.components().any(|part| part.as_os_str() == "tests")
            || matches!(
                path.file_name().and_then(|name| name.to_str()),
                Some("tests.rs" | "conformance.rs")
            );
        let tests = if is_test {
            text.as_str()
        } else {
            text.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests)
        };
        for line in tests.lines().filter_map(comment) {
            cited.extend(numbers(line).map(str::to_owned));
        }
    }
    cited
}

/// Numbers anywhere in the code, or in ARCHITECTURE.md.
fn named() -> BTreeSet<String> {
    let mut found = vec![root().join("ARCHITECTURE.md")];
    for folder in ["invoker", "proto", "ffs-runtime"] {
        files(&root().join(folder), &mut found);
    }
    let texts = found.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| numbers(&text).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_must_has_a_test_that_cites_it() {
    let cited = cited_by_tests();
    let missing: Vec<&str> = items("MUST")
        .into_iter()
        .filter(|item| !cited.contains(*item))
        .collect();
    assert!(
        missing.is_empty(),
        "{} without a test: {missing:?}",
        missing.len()
    );
}

#[test]
fn every_should_is_held_or_named_with_the_reason() {
    let named = named();
    let missing: Vec<&str> = items("SHOULD")
        .into_iter()
        .filter(|item| !named.contains(*item))
        .collect();
    assert!(
        missing.is_empty(),
        "{} not accounted for: {missing:?}",
        missing.len()
    );
}
