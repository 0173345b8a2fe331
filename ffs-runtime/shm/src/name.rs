//! The name of a ring: a plain file name under `/dev/shm`.

use crate::error::Error;
use std::path::Path;

/// Where POSIX shared memory lies; `shm_open` knows no other place.
const DIRECTORY: &str = "/dev/shm/";
/// Leaves room for the suffix of the temporary name in the 255 bytes of a file name.
const LONGEST: usize = 200;

/// A file name that cannot lead anywhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// Takes the name out of `/dev/shm/<name>`.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        path.to_str()
            .and_then(|path| path.strip_prefix(DIRECTORY))
            .filter(|name| (1..=LONGEST).contains(&name.len()) && !matches!(*name, "." | ".."))
            .filter(|name| !name.contains(['/', '\0']))
            .map(|name| Self(name.to_owned()))
            .ok_or_else(|| Error::Path {
                path: path.display().to_string(),
            })
    }

    #[cfg(not(loom))]
    /// The name under which a ring of this epoch is made ready. What a killed producer left there is replaced.
    pub(crate) fn unfinished(&self, epoch: u64) -> Self {
        Self(format!("{}.e{epoch}.new", self.0))
    }

    #[cfg(not(loom))]
    pub(crate) fn path(&self) -> String {
        format!("{DIRECTORY}{}", self.0)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_name_under_dev_shm_is_taken() {
        let name = Name::of(Path::new("/dev/shm/ffs-i-7-r0")).expect("a ring's path");
        assert_eq!(name.as_str(), "ffs-i-7-r0");
        assert_eq!(name.path(), "/dev/shm/ffs-i-7-r0");
        let long = format!("/dev/shm/{}", "x".repeat(201));
        for path in [
            "/dev/shm/",
            "/dev/shm/..",
            "/dev/shm/a/b",
            "/tmp/r0",
            "r0",
            "",
            &long,
        ] {
            let error = Name::of(Path::new(path)).expect_err(path);
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
