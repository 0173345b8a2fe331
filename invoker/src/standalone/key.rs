//! The key that a client authenticates with: `<uuid>:<secret>`, as `wsk property set --auth` takes it.

use rand::RngExt;
use rand::distr::Alphanumeric;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use subtle::ConstantTimeEq;

/// How many characters OpenWhisk's secrets have.
const SECRET: usize = 64;

/// Printed only where that is asked for: `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Of the namespace.
    pub uuid: String,
    pub secret: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the key is not valid: expected a UUID, a colon and {SECRET} letters and digits")]
    Invalid,
    #[error("the key in {} is not valid: expected a UUID, a colon and {SECRET} letters and digits; remove the file to get a new one", .0.display())]
    InvalidFile(PathBuf),
    #[error("the key in {} could not be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the key could not be written to {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Key {
    /// A new one, from the operating system's randomness.
    pub fn random() -> Self {
        let secret = rand::rng().sample_iter(Alphanumeric).take(SECRET).map(char::from);
        Self {
            uuid: uuid::Uuid::new_v4().to_string(),
            secret: secret.collect(),
        }
    }

    /// The key in `path`; a new one, if there is no such file. Nobody else may read the file.
    pub fn kept_in(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        match File::open(path) {
            Ok(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(read)?;
                text.trim()
                    .parse()
                    .map_err(|_| Error::InvalidFile(path.to_owned()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let key = Self::random();
                key.write(path).map_err(|source| Error::Write {
                    path: path.to_owned(),
                    source,
                })?;
                Ok(key)
            }
            Err(error) => Err(read(error)),
        }
    }

    fn write(&self, path: &Path) -> Result<(), std::io::Error> {
        let aside = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        writeln!(file, "{self}")?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    }

    /// Compares in a time that does not depend on where the keys differ.
    pub fn matches(&self, uuid: &str, secret: &str) -> bool {
        let same =
            self.uuid.as_bytes().ct_eq(uuid.as_bytes()) & self.secret.as_bytes().ct_eq(secret.as_bytes());
        same.into()
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (uuid, secret) = text.split_once(':').ok_or(Error::Invalid)?;
        let letters = secret.len() == SECRET && secret.bytes().all(|b| b.is_ascii_alphanumeric());
        if uuid.parse::<uuid::Uuid>().is_err() || !letters {
            return Err(Error::Invalid);
        }
        Ok(Self {
            uuid: uuid.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uuid, self.secret)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}:…)", self.uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = Key::kept_in(&path).unwrap();
        assert_eq!(Key::kept_in(&path).unwrap(), made);
        assert_ne!(Key::random(), made);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for text in [
            "",
            "guest",
            "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:short",
            &format!("x:{}", "a".repeat(64)),
        ] {
            std::fs::write(&path, text).unwrap();
            let refused = Key::kept_in(&path).unwrap_err().to_string();
            assert!(refused.contains("expected a UUID"), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_key_matches_itself_alone_and_is_not_printed_by_accident() {
        let key: Key = format!("23bc46b1-71f6-4ed5-8c54-816aa4f8c502:{}", "a".repeat(64))
            .parse()
            .unwrap();
        assert!(key.matches(&key.uuid, &key.secret));
        assert!(!key.matches(&key.uuid, &"b".repeat(64)) && !key.matches("", &key.secret));
        assert!(!format!("{key:?}").contains("aaaa"));
    }
}
