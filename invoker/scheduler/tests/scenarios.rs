//! Stories of the scheduler: `scenarios/*.txt` say what happens, and what is decided and why.
//!
//! `FFS_BLESS=1 cargo test -p scheduler --test scenarios` writes down what is decided now.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod documents;
mod script;

use std::fs;
use std::path::Path;

#[test]
fn every_scenario_goes_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let bless = std::env::var_os("FFS_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let written = fs::read_to_string(&path).unwrap();
        let played = script::play(&written);
        if bless {
            fs::write(&path, played).unwrap();
        } else if played != written {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let lines = played.lines().zip(written.lines());
            let (at, (is, was)) = lines
                .enumerate()
                .find(|(_, (a, b))| a != b)
                .unwrap_or((0, ("(lengths differ)", "")));
            wrong.push(format!("{name}:{}\n  is:      {is}\n  written: {was}", at + 1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
