//! The messages between the proxy and its Python process: `$FFS_PYTHON -m FluidFaaS.child`.
//!
//! A message is its length in bytes (`u32`, little-endian) and that many bytes of JSON in UTF-8:
//! one object with a member `type`. The Python process finds its end of the socket pair under the
//! number `FFS_CHILD_FD`, should keep it from processes of its own, says [`FromChild::Hello`] when
//! its imports are over, and ends when the socket does. Standard output and error stay the user's.
//!
//! Proxy → Python:
//!
//! ```text
//! {"type":"init","value":{the value of /init, "env" all strings}}   answered by initialized
//! {"type":"serve"}                             a lane: open the rings, load; answered by loaded
//! {"type":"run","id":1,"body":{the whole body of /run}}             answered by result
//! {"type":"build","id":2,"request":{BuildRequest}}                  answered by result
//! {"type":"profile","id":3,"request":{ProfileRequest}}              answered by result
//! {"type":"state","epoch":4,"desired":"run|evict|resume|drain|stop","shared":true,"deadline_ms":30000.0|null}
//! {"type":"turn","turn":5}                     the turn on the shared slice is granted
//! {"type":"assignment","epoch":6,"switch":false}   open the new rings; the head alone: let requests take the new ways
//! {"type":"poison","reason":"…"}               poison the rings and end at once
//! ```
//!
//! Python → proxy:
//!
//! ```text
//! {"type":"hello","python":"3.11.2"}
//! {"type":"initialized","error":null|{"sentence":"…","at":"app.py:12"|null}}
//! {"type":"loaded","load_ms":12.5,"resident_bytes":104857600}
//! {"type":"failed","sentence":"…","at":"app.py:12"|null}            the lane cannot go on
//! {"type":"result","id":1,"status":200,"body":{…},"logs":[{"stream":"stdout","text":"a line"}],
//!  "timing":Timing|null}
//! {"type":"state","epoch":4,"reached":"drain"}
//! {"type":"turn","want":true,"turn":5}
//! {"type":"assignment","epoch":6,"switched":false,"error":null|"…"}
//! ```
//!
//! `run` may come again before the last one is answered; the Python process decides what it does at
//! once. It answers an exception of the user with status 200 and `{"error": …}`. Numbers are JSON's:
//! there is no NaN. Members and types that a reader does not know are ignored.

use crate::logs::LogLine;
use axum::body::Bytes;
use proto::ffs::control::TakenUp;
use proto::ffs::state::Desired;
use proto::ffs::timing::Timing;
use proto::unit::{Bytes as Size, Millis};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;

/// Longest message; a longer one ends the Python process.
pub const MAX_MESSAGE: usize = 256 << 20;

/// What the proxy says. User values travel as the text they came as.
#[derive(Clone, Debug)]
pub enum ToChild {
    Init {
        value: Bytes,
    },
    Serve,
    Run {
        id: u64,
        body: Bytes,
    },
    Build {
        id: u64,
        request: Bytes,
    },
    Profile {
        id: u64,
        request: Bytes,
    },
    State {
        epoch: u64,
        desired: Desired,
        shared: Option<bool>,
        deadline_ms: Option<Millis>,
    },
    Turn {
        turn: u64,
    },
    Assignment {
        epoch: u64,
        switch: bool,
    },
    Poison {
        reason: String,
    },
}

/// The members that the proxy makes up itself.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Plain<'a> {
    Serve,
    State {
        epoch: u64,
        desired: Desired,
        #[serde(skip_serializing_if = "Option::is_none")]
        shared: Option<bool>,
        deadline_ms: Option<Millis>,
    },
    Turn {
        turn: u64,
    },
    Assignment {
        epoch: u64,
        switch: bool,
    },
    Poison {
        reason: &'a str,
    },
}

impl ToChild {
    /// The message as it goes over the socket, in pieces so that a large body is not copied.
    pub fn encode(self) -> [Bytes; 3] {
        let around = |before: String, value: Bytes| (before, value, "}");
        let (before, value, after) = match self {
            Self::Init { value } => around(r#"{"type":"init","value":"#.into(), value),
            Self::Run { id, body } => around(format!(r#"{{"type":"run","id":{id},"body":"#), body),
            Self::Build { id, request } => {
                around(format!(r#"{{"type":"build","id":{id},"request":"#), request)
            }
            Self::Profile { id, request } => {
                around(format!(r#"{{"type":"profile","id":{id},"request":"#), request)
            }
            Self::Serve => plain(&Plain::Serve),
            Self::State {
                epoch,
                desired,
                shared,
                deadline_ms,
            } => plain(&Plain::State {
                epoch,
                desired,
                shared,
                deadline_ms,
            }),
            Self::Turn { turn } => plain(&Plain::Turn { turn }),
            Self::Assignment { epoch, switch } => plain(&Plain::Assignment { epoch, switch }),
            Self::Poison { reason } => plain(&Plain::Poison { reason: &reason }),
        };
        let length = (before.len() + value.len() + after.len()) as u32;
        let mut head = length.to_le_bytes().to_vec();
        head.extend_from_slice(before.as_bytes());
        [head.into(), value, Bytes::from_static(after.as_bytes())]
    }
}

fn plain(message: &Plain<'_>) -> (String, Bytes, &'static str) {
    let text = serde_json::to_string(message).expect("numbers and texts are always JSON");
    (text, Bytes::new(), "")
}

/// What the Python process says.
#[derive(Clone, Debug)]
pub enum FromChild {
    Hello { python: String },
    Initialized { error: Option<Failure> },
    Loaded { load_ms: Millis, resident_bytes: Size },
    Failed(Failure),
    Result(Answer),
    State { epoch: u64, reached: Desired },
    Turn { want: bool, turn: u64 },
    Assignment(TakenUp),
}

/// Why something did not work, for the action's author.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failure {
    pub sentence: String,
    /// The author's file and line.
    #[serde(default)]
    pub at: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) if !self.sentence.contains(at.as_str()) => write!(f, "{} ({at})", self.sentence),
            _ => f.write_str(&self.sentence),
        }
    }
}

/// The answer to one `run`, `build` or `profile`.
#[derive(Clone, Debug)]
pub struct Answer {
    pub id: u64,
    /// HTTP status.
    pub status: u16,
    /// JSON text.
    pub body: Bytes,
    /// What the user's code wrote meanwhile, in all lanes.
    pub logs: Vec<LogLine>,
    pub timing: Option<Timing>,
}

#[derive(Deserialize)]
struct Tag {
    r#type: String,
}

#[derive(Deserialize)]
struct ResultText<'a> {
    id: u64,
    status: u16,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(default)]
    logs: Vec<LogLine>,
    #[serde(default)]
    timing: Option<Timing>,
}

impl FromChild {
    /// Reads one message; `None` if its type is not known.
    ///
    /// # Errors
    /// It is not JSON, or lacks what its type needs.
    pub fn decode(message: &Bytes) -> Result<Option<Self>, serde_json::Error> {
        // Not one tagged enum: serde would rebuild the user's values on the way.
        fn read<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, serde_json::Error> {
            serde_json::from_slice(message)
        }
        #[derive(Deserialize)]
        struct Hello {
            python: String,
        }
        #[derive(Deserialize)]
        struct Initialized {
            error: Option<Failure>,
        }
        #[derive(Deserialize)]
        struct Loaded {
            load_ms: Millis,
            resident_bytes: Size,
        }
        #[derive(Deserialize)]
        struct State {
            epoch: u64,
            reached: Desired,
        }
        #[derive(Deserialize)]
        struct Turn {
            want: bool,
            turn: u64,
        }
        Ok(Some(match read::<Tag>(message)?.r#type.as_str() {
            "hello" => read(message).map(|Hello { python }| Self::Hello { python })?,
            "initialized" => read(message).map(|Initialized { error }| Self::Initialized { error })?,
            "loaded" => read(message).map(
                |Loaded {
                     load_ms,
                     resident_bytes,
                 }| Self::Loaded {
                    load_ms,
                    resident_bytes,
                },
            )?,
            "failed" => Self::Failed(read(message)?),
            "state" => read(message).map(|State { epoch, reached }| Self::State { epoch, reached })?,
            "turn" => read(message).map(|Turn { want, turn }| Self::Turn { want, turn })?,
            "assignment" => Self::Assignment(read(message)?),
            "result" => {
                let result: ResultText<'_> = read(message)?;
                Self::Result(Answer {
                    id: result.id,
                    status: result.status,
                    body: message.slice_ref(result.body.get().as_bytes()),
                    logs: result.logs,
                    timing: result.timing,
                })
            }
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Stream;

    proptest::proptest! {
        #[test]
        fn nothing_that_a_process_says_is_too_odd(
            kind in "hello|initialized|loaded|failed|result|state|turn|assignment|[a-z]*",
            members in r#"[\[\]{}":,a-z0-9.]{0,40}"#,
        ) {
            for text in [format!(r#"{{"type":"{kind}"{members}}}"#), format!(r#"{{"type":"{kind}",{members}"#), members] {
                if let Ok(Some(message)) = decode(&text) {
                    proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{message:?}");
                }
            }
        }
    }

    fn decode(text: &str) -> Result<Option<FromChild>, serde_json::Error> {
        FromChild::decode(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn encode(message: ToChild) -> (u32, String) {
        let bytes = message.encode().concat();
        let (length, text) = bytes.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        (length, String::from_utf8(text.to_vec()).expect("JSON is UTF-8"))
    }

    #[test]
    fn user_values_pass_as_the_text_they_came_as() {
        let value = r#"{"value": {"n": 1e400, "d": 0.10, "a": 1, "a": 2, "s": "\ud83d\ude00 \u00e9"}}"#;
        let (length, text) = encode(ToChild::Run {
            id: 7,
            body: Bytes::from_static(value.as_bytes()),
        });
        assert_eq!(text, format!(r#"{{"type":"run","id":7,"body":{value}}}"#));
        assert_eq!(length as usize, text.len());

        let answer =
            format!(r#"{{"type":"result","id":7,"status":200,"body":{value},"logs":[],"timing":null}}"#);
        let Ok(Some(FromChild::Result(answer))) = decode(&answer) else {
            panic!("a result")
        };
        assert_eq!(answer.body, value.as_bytes());
    }

    #[test]
    fn what_the_proxy_makes_up_itself_is_plain_json() {
        let state = ToChild::State {
            epoch: 4,
            desired: Desired::Drain,
            shared: None,
            deadline_ms: Some(Millis(1.5)),
        };
        assert_eq!(
            encode(state).1,
            r#"{"type":"state","epoch":4,"desired":"drain","deadline_ms":1.5}"#
        );
        let poison = ToChild::Poison {
            reason: "a \"quoted\"\nword".into(),
        };
        assert_eq!(
            encode(poison).1,
            r#"{"type":"poison","reason":"a \"quoted\"\nword"}"#
        );
        assert_eq!(encode(ToChild::Serve), (16, r#"{"type":"serve"}"#.into()));
    }

    #[test]
    fn unknown_types_are_ignored_and_broken_ones_are_not() {
        assert!(matches!(decode(r#"{"type":"from the future","x":1}"#), Ok(None)));
        assert!(decode("{}").is_err());
        assert!(decode(r#"{"type":"turn","want":1,"turn":1}"#).is_err());
        assert!(decode(r#"{"type":"result","id":1,"status":200,"body":{"x":NaN},"logs":[]}"#).is_err());
    }

    #[test]
    fn a_failure_names_the_authors_line_once() {
        let failure = |sentence: &str| Failure {
            sentence: sentence.into(),
            at: Some("app.py:3".into()),
        };
        assert_eq!(failure("no main").to_string(), "no main (app.py:3)");
        assert_eq!(failure("app.py:3: no main").to_string(), "app.py:3: no main");
    }

    #[test]
    fn fractions_and_timings_are_read() {
        let loaded = decode(r#"{"type":"loaded","load_ms":12.5,"resident_bytes":9}"#);
        assert!(
            matches!(
                loaded,
                Ok(Some(FromChild::Loaded {
                    load_ms: Millis(12.5),
                    ..
                }))
            ),
            "{loaded:?}"
        );
        let text = r#"{"type":"result","id":1,"status":200,"body":[],"logs":[{"stream":"stderr","text":"x"}],
            "timing":{"lanes":[{"id":"s0l0","queue_ms":0.5,"exec_ms":2.25}],"transfer_ms":0.0}}"#;
        let Ok(Some(FromChild::Result(answer))) = decode(text) else {
            panic!("a result")
        };
        assert_eq!(
            answer.logs,
            [LogLine {
                stream: Stream::Stderr,
                text: "x".into()
            }]
        );
        assert_eq!(answer.timing.expect("it was sent").lanes[0].exec_ms, Millis(2.25));
    }
}
