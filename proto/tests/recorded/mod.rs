//! The recordings in `fixtures/`.

use std::fs;
use std::io::Read;
use std::path::Path;

pub(crate) struct Recorded {
    /// File name without `.json` and `.gz`.
    pub(crate) label: String,
    pub(crate) bytes: Vec<u8>,
}

impl Recorded {
    /// Without the newline that databases put at the end.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("UTF-8").trim_end()
    }
}

/// All JSON files of a folder, by name; an empty folder fails the test.
pub(crate) fn all(folder: &str) -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(folder);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    let read: Vec<_> = paths.iter().filter_map(|path| read(path)).collect();
    assert!(!read.is_empty(), "{} holds no recordings", folder.display());
    read
}

fn read(path: &Path) -> Option<Recorded> {
    let name = path.file_name()?.to_str()?;
    let (label, packed) = match name.strip_suffix(".gz") {
        Some(name) => (name.strip_suffix(".json")?, true),
        None => (name.strip_suffix(".json")?, false),
    };
    let mut bytes = fs::read(path).expect("a readable file");
    if packed {
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice())
            .read_to_end(&mut unpacked)
            .expect("gzip");
        bytes = unpacked;
    }
    Some(Recorded {
        label: label.to_owned(),
        bytes,
    })
}
