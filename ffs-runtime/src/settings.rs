//! The environment, read once. What a lane finds in its config layer is `config_layer`'s business.

use proto::id::{InvalidId, LaneId};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Variables that are the runtime's own: the Python process and the user's code do not see them.
pub const PRIVATE: [&str; 4] = ["FFS_TOKEN", "FFS_LISTEN", "FFS_LIFELINE", "FFS_PYTHON"];

/// Where OpenWhisk's invoker expects every action container to listen.
const OPENWHISK_PORT: u16 = 8080;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where `/init` and `/run` are answered; none in a lane that is not the head and has no address.
    pub listen: Option<Listen>,
    /// The interpreter.
    pub python: OsString,
    /// End when standard input ends.
    pub lifeline: bool,
    /// None in an ordinary action container.
    pub lane: Option<LaneSettings>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What a lane of a pipeline is told besides.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    pub id: LaneId,
    /// Directory of the config layer.
    pub config: PathBuf,
    /// Said in `hello` on the control socket.
    pub token: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("FFS_CONFIG is set, so {0} must be set too")]
    Missing(&'static str),
    #[error("{name} is {value:?}, expected {expected}")]
    Invalid {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("FFS_LANE cannot be used")]
    Lane(#[source] InvalidId),
}

impl Settings {
    /// Reads the variables through `lookup`; an empty one counts as not set.
    ///
    /// # Errors
    /// A sentence that names the variable, its value and what was expected.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let get = |name: &'static str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &'static str| {
            let invalid = |value: OsString| Error::Invalid {
                name,
                value: value.to_string_lossy().into_owned(),
                expected: "text in UTF-8",
            };
            get(name)
                .map(|value| value.into_string().map_err(invalid))
                .transpose()
        };
        let lane = match get("FFS_CONFIG") {
            None => None,
            Some(config) => Some(LaneSettings {
                id: text("FFS_LANE")?
                    .ok_or(Error::Missing("FFS_LANE"))?
                    .parse()
                    .map_err(Error::Lane)?,
                config: config.into(),
                token: text("FFS_TOKEN")?.ok_or(Error::Missing("FFS_TOKEN"))?,
            }),
        };
        let listen = match get("FFS_LISTEN") {
            Some(path) => Some(Listen::Unix(path.into())),
            None if lane.as_ref().is_some_and(|lane| lane.id != LaneId::HEAD) => None,
            None => Some(Listen::Tcp((Ipv4Addr::UNSPECIFIED, OPENWHISK_PORT).into())),
        };
        let lifeline = match text("FFS_LIFELINE")?.as_deref() {
            None => false,
            Some("stdin") => true,
            Some(other) => {
                return Err(Error::Invalid {
                    name: "FFS_LIFELINE",
                    value: other.to_owned(),
                    expected: "stdin",
                });
            }
        };
        let python = get("FFS_PYTHON").unwrap_or_else(|| "python3".into());
        Ok(Self {
            listen,
            python,
            lifeline,
            lane,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_environment_is_an_ordinary_action_container() {
        let settings = read(&[]).expect("nothing is required");
        assert_eq!(settings.listen, Some(Listen::Tcp(([0, 0, 0, 0], 8080).into())));
        assert_eq!(settings.python, "python3");
        assert!(settings.lane.is_none() && !settings.lifeline);
    }

    #[test]
    fn a_lane_needs_its_name_and_its_token() {
        assert_eq!(
            read(&[("FFS_CONFIG", "/c")]).unwrap_err(),
            "FFS_CONFIG is set, so FFS_LANE must be set too"
        );
        let named = [("FFS_CONFIG", "/c"), ("FFS_LANE", "s1l0")];
        assert_eq!(
            read(&named).unwrap_err(),
            "FFS_CONFIG is set, so FFS_TOKEN must be set too"
        );
        assert_eq!(
            read(&[("FFS_CONFIG", "/c"), ("FFS_LANE", "second"), ("FFS_TOKEN", "t")]).unwrap_err(),
            "FFS_LANE cannot be used"
        );
    }

    #[test]
    fn only_the_head_of_a_pipeline_takes_the_port_of_an_action_container() {
        let lane = |id| [("FFS_CONFIG", "/c"), ("FFS_LANE", id), ("FFS_TOKEN", "t")];
        assert!(read(&lane("s0l0")).expect("complete").listen.is_some());
        assert_eq!(read(&lane("s0l1")).expect("complete").listen, None);
    }

    #[test]
    fn a_lifeline_is_standard_input_or_nothing() {
        assert!(read(&[("FFS_LIFELINE", "stdin")]).expect("known").lifeline);
        assert_eq!(
            read(&[("FFS_LIFELINE", "3")]).unwrap_err(),
            r#"FFS_LIFELINE is "3", expected stdin"#
        );
    }
}
