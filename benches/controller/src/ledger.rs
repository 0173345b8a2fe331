//! The books on activations: sent, answered, finished, and everything about the answers that is wrong.

use crate::health::Outcome;
use proto::decode::decode;
use proto::id::ActivationId;
use proto::whisk::acknowledgement::{AckResponse, Acknowledgement};
use proto::whisk::activation::{Activation, Status};
use proto::whisk::transid::TransactionId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What an invoker did that no controller should see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not JSON, or none of the three kinds.
    Unreadable(String),
    /// Members of another kind, or unknown ones (M-34).
    Members(ActivationId, Vec<String>),
    /// About an activation that was never sent.
    Unknown(ActivationId),
    /// A second slot-freeing ack (S-11).
    FreedTwice(ActivationId),
    /// A second answer to the caller.
    AnsweredTwice(ActivationId),
    /// The transaction id did not come back as it was sent (K-50).
    Transid(ActivationId),
    /// Not the invoker that it was sent to (M-37).
    Instance(ActivationId, u32),
    /// `isSystemError` and status code differ (M-33).
    SystemError(ActivationId),
    /// The ack carries logs (M-36).
    Logs(ActivationId),
    /// Nobody waits, yet the whole activation was sent, or a result alone (M-35, S-10).
    Unasked(ActivationId),
    /// The slot was freed before the result was told.
    Order(ActivationId),
    /// The slot was freed, and the caller never told.
    Unanswered(ActivationId),
    /// No slot-freeing ack in time (K-63).
    Forced(ActivationId),
}

/// What is known beforehand.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: ActivationId,
    pub transid: TransactionId,
    pub invoker: u32,
    pub blocking: bool,
    pub at: Instant,
    /// When the slot is freed without an ack.
    pub force_after: Duration,
}

/// What is known afterwards.
#[derive(Clone, Debug)]
pub struct Finished {
    /// From sending to the caller's answer; none where nobody waited.
    pub result_after: Option<Duration>,
    /// From sending to the ack that freed the slot.
    pub completion_after: Duration,
    /// Where an answer told.
    pub status: Option<Status>,
    pub outcome: Outcome,
    /// The acks as they came, if they are kept.
    pub acks: Vec<Vec<u8>>,
}

/// What an ack means for the rest of the controller.
#[derive(Debug, Default)]
pub struct Told {
    pub id: Option<ActivationId>,
    /// For the caller who waits.
    pub answer: Option<Answer>,
    /// The slot is free, first time.
    pub finished: Option<Finished>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Whole(Box<Activation>),
    /// Too large for a message, or for nobody: the record has it (K-34).
    InDatabase,
}

#[derive(Debug)]
struct Entry {
    sent: Sent,
    answered: Option<Duration>,
    status: Option<Status>,
    acks: Vec<Vec<u8>>,
}

/// Finished activations of which doubles are still recognised.
const REMEMBERED: usize = 100_000;

#[derive(Debug, Default)]
pub struct Ledger {
    open: HashMap<ActivationId, Entry>,
    /// The slot is free: whether it was blocking, and whether its caller has been told.
    closed: HashMap<ActivationId, (bool, bool)>,
    order: VecDeque<ActivationId>,
    problems: Vec<Problem>,
    keep_acks: bool,
}

impl Ledger {
    /// `keep_acks`: whether [`Finished::acks`] is filled.
    pub fn new(keep_acks: bool) -> Self {
        Self {
            keep_acks,
            ..Self::default()
        }
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub fn open(&self) -> usize {
        self.open.len()
    }

    pub fn sent(&mut self, sent: Sent) {
        let entry = Entry {
            sent,
            answered: None,
            status: None,
            acks: Vec::new(),
        };
        self.open.insert(entry.sent.id, entry);
    }

    /// Takes it back: it could not be sent.
    pub fn unsent(&mut self, id: ActivationId) {
        self.open.remove(&id);
    }

    /// An ack has been read.
    pub fn ack(&mut self, payload: &[u8], now: Instant) -> Told {
        let ack: Acknowledgement = match decode(payload) {
            Ok(ack) => ack,
            Err(error) => {
                self.problems.push(Problem::Unreadable(error.to_string()));
                return Told::default();
            }
        };
        let id = ack.activation_id();
        self.check_members(&ack, payload);
        let mut told = Told {
            id: Some(id),
            ..Told::default()
        };
        let Some(entry) = self.open.get_mut(&id) else {
            self.late(&ack);
            told.answer = answer(&ack);
            return told;
        };
        let passed = now - entry.sent.at;
        let mut problems = wrongs(&ack, &entry.sent);
        if self.keep_acks {
            entry.acks.push(payload.to_vec());
        }
        if let Some(response) = ack.response() {
            if entry.answered.replace(passed).is_some() {
                problems.push(Problem::AnsweredTwice(id));
            }
            if let AckResponse::Full(activation) = response {
                entry.status = Some(activation.response.status_code);
            }
            told.answer = answer(&ack);
        }
        self.problems.append(&mut problems);
        if let Some(system_error) = system_error(&ack) {
            let outcome = if system_error {
                Outcome::SystemError
            } else {
                Outcome::Success
            };
            told.finished = self.close(id, passed, outcome);
        }
        told
    }

    /// Frees the slots whose acks have not come in time (K-63).
    pub fn force(&mut self, now: Instant) -> Vec<(ActivationId, Finished)> {
        let late: Vec<(ActivationId, Duration)> = self
            .open
            .values()
            .map(|entry| (entry.sent.id, now - entry.sent.at, entry.sent.force_after))
            .filter(|(_, passed, limit)| passed >= limit)
            .map(|(id, passed, _)| (id, passed))
            .collect();
        late.into_iter()
            .filter_map(|(id, passed)| {
                self.problems.push(Problem::Forced(id));
                Some((id, self.close(id, passed, Outcome::Forced)?))
            })
            .collect()
    }

    /// Everything that is wrong by now, callers that were never told among it. To be called when all is quiet.
    pub fn audit(&self) -> Vec<Problem> {
        let unanswered = self
            .closed
            .iter()
            .filter(|(_, (blocking, told))| *blocking && !told);
        let unanswered = unanswered.map(|(id, _)| Problem::Unanswered(*id));
        self.problems.iter().cloned().chain(unanswered).collect()
    }

    fn close(&mut self, id: ActivationId, passed: Duration, outcome: Outcome) -> Option<Finished> {
        let entry = self.open.remove(&id)?;
        self.closed
            .insert(id, (entry.sent.blocking, entry.answered.is_some()));
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.closed.remove(&oldest);
        }
        Some(Finished {
            result_after: entry.answered,
            completion_after: passed,
            status: entry.status,
            outcome,
            acks: entry.acks,
        })
    }

    /// The slot is free already, or there never was one (K-64).
    fn late(&mut self, ack: &Acknowledgement) {
        let id = ack.activation_id();
        let Some((blocking, told)) = self.closed.get_mut(&id) else {
            self.problems.push(Problem::Unknown(id));
            return;
        };
        if ack.frees_slot() {
            self.problems.push(Problem::FreedTwice(id));
        } else if std::mem::replace(told, true) || !*blocking {
            self.problems.push(Problem::AnsweredTwice(id));
        } else {
            self.problems.push(Problem::Order(id));
        }
    }

    fn check_members(&mut self, ack: &Acknowledgement, payload: &[u8]) {
        let expected: &[&str] = match ack {
            Acknowledgement::Completion(_) => &["activationId", "instance", "isSystemError", "transid"],
            Acknowledgement::Result(_) => &["response", "transid"],
            Acknowledgement::Combined(_) => &["instance", "isSystemError", "response", "transid"],
        };
        let members: BTreeMap<String, &serde_json::value::RawValue> =
            serde_json::from_slice(payload).unwrap_or_default();
        if !members.keys().map(String::as_str).eq(expected.iter().copied()) {
            let members = members.into_keys().collect();
            self.problems.push(Problem::Members(ack.activation_id(), members));
        }
    }
}

fn answer(ack: &Acknowledgement) -> Option<Answer> {
    Some(match ack.response()? {
        AckResponse::Full(activation) => Answer::Whole(activation.clone()),
        AckResponse::Id(_) => Answer::InDatabase,
    })
}

/// `isSystemError`, where the ack frees the slot.
fn system_error(ack: &Acknowledgement) -> Option<bool> {
    match ack {
        Acknowledgement::Completion(message) => Some(message.is_system_error),
        Acknowledgement::Combined(message) => Some(message.is_system_error),
        Acknowledgement::Result(_) => None,
    }
}

/// What is wrong with one ack by itself.
fn wrongs(ack: &Acknowledgement, sent: &Sent) -> Vec<Problem> {
    let id = sent.id;
    let mut wrong = Vec::new();
    if *ack.transid() != sent.transid {
        wrong.push(Problem::Transid(id));
    }
    let instance = match ack {
        Acknowledgement::Completion(message) => Some(message.instance.instance),
        Acknowledgement::Combined(message) => Some(message.instance.instance),
        Acknowledgement::Result(_) => None,
    };
    if let Some(instance) = instance.filter(|instance| *instance != sent.invoker) {
        wrong.push(Problem::Instance(id, instance));
    }
    if !sent.blocking && !ack.frees_slot() {
        wrong.push(Problem::Unasked(id));
    }
    if let Some(AckResponse::Full(activation)) = ack.response() {
        if !sent.blocking {
            wrong.push(Problem::Unasked(id));
        }
        if !activation.logs.is_empty() {
            wrong.push(Problem::Logs(id));
        }
        if system_error(ack).is_some_and(|error| error != activation.is_system_error()) {
            wrong.push(Problem::SystemError(id));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000000000000000000000000007";
    const INSTANCE: &str = r#""instance":{"dedicatedNamespaces":[],"instance":0,"instanceType":"invoker","tags":[],"userMemory":"1 B"}"#;

    fn ledger(blocking: bool) -> (Ledger, ActivationId, Instant) {
        let (id, at) = (ID.parse().unwrap(), Instant::now());
        let mut ledger = Ledger::new(true);
        ledger.sent(Sent {
            id,
            transid: TransactionId::new("t", 1),
            invoker: 0,
            blocking,
            at,
            force_after: Duration::from_secs(180),
        });
        (ledger, id, at)
    }

    fn completion(transid: &str) -> String {
        format!(r#"{{"activationId":"{ID}",{INSTANCE},"isSystemError":false,"transid":["{transid}",1]}}"#)
    }

    fn result() -> String {
        format!(r#"{{"response":"{ID}","transid":["t",1]}}"#)
    }

    #[test]
    fn result_and_completion_are_one_activation_without_fault() {
        let (mut ledger, _, at) = ledger(true);
        let told = ledger.ack(result().as_bytes(), at + Duration::from_millis(3));
        assert_eq!(
            (told.answer, told.finished.is_none()),
            (Some(Answer::InDatabase), true)
        );
        let finished = ledger
            .ack(completion("t").as_bytes(), at + Duration::from_millis(5))
            .finished
            .unwrap();
        assert_eq!(finished.result_after, Some(Duration::from_millis(3)));
        assert_eq!(finished.completion_after, Duration::from_millis(5));
        assert_eq!(
            (finished.acks.len(), ledger.open(), ledger.audit()),
            (2, 0, vec![])
        );
    }

    /// K-64
    #[test]
    fn what_frees_a_slot_twice_is_counted_and_frees_nothing() {
        let (mut ledger, id, at) = ledger(false);
        assert!(ledger.ack(completion("t").as_bytes(), at).finished.is_some());
        assert!(ledger.ack(completion("t").as_bytes(), at).finished.is_none());
        assert_eq!(ledger.audit(), [Problem::FreedTwice(id)]);
    }

    /// K-63
    #[test]
    fn a_slot_whose_ack_does_not_come_is_freed_by_force() {
        let (mut ledger, id, at) = ledger(false);
        assert!(ledger.force(at + Duration::from_secs(179)).is_empty());
        let forced = ledger.force(at + Duration::from_secs(180));
        assert_eq!((forced[0].0, forced[0].1.outcome), (id, Outcome::Forced));
        let _ = ledger.ack(completion("t").as_bytes(), at);
        assert_eq!(ledger.audit(), [Problem::Forced(id), Problem::FreedTwice(id)]);
    }

    /// K-50, M-34, M-35
    #[test]
    fn acks_of_the_wrong_form_are_named() {
        let (mut wrong_id, id, at) = ledger(false);
        let _ = wrong_id.ack(completion("u").as_bytes(), at);
        assert_eq!(wrong_id.audit(), [Problem::Transid(id)]);

        let (mut unasked, ..) = ledger(false);
        let _ = unasked.ack(result().as_bytes(), at);
        assert_eq!(unasked.audit(), [Problem::Unasked(id)]);

        let (mut early, ..) = ledger(true);
        let _ = early.ack(completion("t").as_bytes(), at);
        assert_eq!(early.audit(), [Problem::Unanswered(id)]);
        let _ = early.ack(result().as_bytes(), at);
        assert_eq!(early.audit(), [Problem::Order(id)]);

        let (mut strange, ..) = ledger(true);
        let _ = strange.ack(result().replace('{', r#"{"x":1,"#).as_bytes(), at);
        let _ = strange.ack(b"{}", at);
        let audit = strange.audit();
        assert!(matches!(&audit[0], Problem::Members(_, members) if members.contains(&"x".to_owned())));
        assert!(matches!(audit[1], Problem::Unreadable(_)), "{audit:?}");

        let mut empty = Ledger::new(false);
        let _ = empty.ack(result().as_bytes(), at);
        assert_eq!(empty.audit(), [Problem::Unknown(id)]);
    }
}
