//! The events in an activation's life that the journal keeps, and their bytes.

use super::debt::{Debts, Parts};
use super::frame;
use proto::id::ActivationId;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'a> {
    /// The message was read, and will be answered.
    Accepted {
        id: ActivationId,
        at_ms: i64,
        message: &'a [u8],
    },
    /// From here on the user's code may run.
    Started { id: ActivationId },
    /// The run is over and its result on its way; logs are still to be collected.
    Ended { id: ActivationId, debts: &'a Debts },
    /// Nothing is left to do but to deliver.
    Answered { id: ActivationId, debts: &'a Debts },
    /// These are where they belong.
    Delivered { id: ActivationId, parts: Parts },
    /// Activations that have ended, with the time of their arrival: they must not be accepted again.
    Seen(&'a [(ActivationId, i64)]),
}

/// What an entry says, without its contents.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Accepted { id: ActivationId, at_ms: i64 },
    Started { id: ActivationId },
    Ended { id: ActivationId },
    Answered { id: ActivationId, owed: Parts },
    Delivered { id: ActivationId, parts: Parts },
    Seen(Vec<(ActivationId, i64)>),
}

const ACCEPTED: u8 = 1;
const STARTED: u8 = 2;
const ENDED: u8 = 3;
const ANSWERED: u8 = 4;
const DELIVERED: u8 = 5;
const SEEN: u8 = 6;

/// An id and a time, or an id and parts.
const ID: usize = 16;
const TIME: usize = 8;

impl Entry<'_> {
    /// Appends the frame, and returns its length.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> usize {
        frame::encode(out, |out| match *self {
            Self::Accepted { id, at_ms, message } => {
                head(out, ACCEPTED, id);
                out.extend(at_ms.to_le_bytes());
                out.extend(message);
            }
            Self::Started { id } => head(out, STARTED, id),
            Self::Ended { id, debts } => {
                head(out, ENDED, id);
                debts.encode(out);
            }
            Self::Answered { id, debts } => {
                head(out, ANSWERED, id);
                out.push(debts.parts().0);
                debts.encode(out);
            }
            Self::Delivered { id, parts } => {
                head(out, DELIVERED, id);
                out.push(parts.0);
            }
            Self::Seen(seen) => {
                out.push(SEEN);
                for (id, at_ms) in seen {
                    out.extend(id.as_u128().to_le_bytes());
                    out.extend(at_ms.to_le_bytes());
                }
            }
        })
    }

    pub(super) fn step(&self) -> Step {
        match *self {
            Self::Accepted { id, at_ms, .. } => Step::Accepted { id, at_ms },
            Self::Started { id } => Step::Started { id },
            Self::Ended { id, .. } => Step::Ended { id },
            Self::Answered { id, debts } => Step::Answered {
                id,
                owed: debts.parts(),
            },
            Self::Delivered { id, parts } => Step::Delivered { id, parts },
            Self::Seen(seen) => Step::Seen(seen.to_vec()),
        }
    }
}

fn head(out: &mut Vec<u8>, kind: u8, id: ActivationId) {
    out.push(kind);
    out.extend(id.as_u128().to_le_bytes());
}

/// What the payload of a frame says; none for a kind that this version does not know.
pub(super) fn step(payload: &[u8]) -> Option<Step> {
    let (kind, rest) = payload.split_first()?;
    if *kind == SEEN {
        let (entries, []) = rest.as_chunks::<{ ID + TIME }>() else {
            return None;
        };
        let seen = entries.iter().map(|entry| {
            let (id, rest) = id(entry)?;
            Some((id, i64::from_le_bytes(rest.try_into().ok()?)))
        });
        return Some(Step::Seen(seen.collect::<Option<_>>()?));
    }
    let (id, rest) = id(rest)?;
    Some(match (*kind, rest) {
        (ACCEPTED, rest) => Step::Accepted {
            id,
            at_ms: i64::from_le_bytes(*rest.first_chunk()?),
        },
        (STARTED, []) => Step::Started { id },
        (ENDED, _) => Step::Ended { id },
        (ANSWERED, [owed, ..]) => Step::Answered {
            id,
            owed: Parts(*owed),
        },
        (DELIVERED, [parts]) => Step::Delivered {
            id,
            parts: Parts(*parts),
        },
        _ => return None,
    })
}

fn id(bytes: &[u8]) -> Option<(ActivationId, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    Some((ActivationId::from_u128(u128::from_le_bytes(*id)), rest))
}

/// The message in the payload of an accepted activation.
pub(super) fn message(payload: &[u8]) -> Option<&[u8]> {
    (*payload.first()? == ACCEPTED).then(|| payload.get(1 + ID + TIME..))?
}

/// The debts in the payload of one that has ended or is answered.
pub(super) fn debts(payload: &[u8]) -> Option<Debts> {
    let start = match *payload.first()? {
        ENDED => 1 + ID,
        ANSWERED => 1 + ID + 1,
        _ => return None,
    };
    Debts::decode(payload.get(start..)?)
}
