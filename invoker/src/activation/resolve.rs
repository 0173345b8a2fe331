//! From a message to a job: the action's document and code, cached by revision, and its limits.
//!
//! Source: `InvokerReactive.scala`, `MultipleReadersSingleWriterCache.scala`; contract D-01 … D-34.

use super::executable::NotExecutable;
use super::feed::Fed;
use super::health_tests::{HealthTests, Role};
use super::parameters;
use super::room::{Kind, Rooms};
use super::{Executable, Job};
use crate::blacklist::Blacklist;
use crate::completion::{Completer, Owed, record, texts};
use crate::config::Settings;
use crate::metrics::{self, Transaction};
use crate::readiness::because;
use crate::store::{Database, Store};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use proto::whisk::action::ActionDocument;
use proto::whisk::activation::{Response, Status};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::exec::{Attachment, Code, Place};
use proto::whisk::limits::{Limit, LimitViolation};
use scheduler::fault::Fault;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::{Instrument, error, info_span, warn};

/// An entry lives this long after its last use (D-05).
const CACHED: Duration = Duration::from_secs(300);
/// Between two searches for entries that have lived too long.
const SWEEP: Duration = Duration::from_secs(10);

/// Content in the name of an attachment (D-22); as in the JVM, padding may be left out.
const IN_NAME: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Turns messages into jobs.
#[derive(Debug)]
pub struct Resolver {
    store: Arc<dyn Store>,
    settings: Arc<Settings>,
    completer: Arc<Completer>,
    blacklist: Arc<Blacklist>,
    rooms: Arc<Rooms>,
    health_tests: HealthTests,
    cache: Mutex<Cache>,
}

/// What was read of each action and revision.
#[derive(Debug)]
struct Cache {
    /// Few revisions of one action are in use at once.
    actions: HashMap<String, Vec<Cached>>,
    swept: Instant,
}

#[derive(Debug)]
struct Cached {
    revision: String,
    used: Instant,
    entry: Arc<Entry>,
}

/// Filled by the first reader; simultaneous ones wait for it.
type Entry = tokio::sync::OnceCell<Arc<Executable>>;

impl Cache {
    fn entry(&mut self, id: &str, revision: &str, now: Instant) -> Arc<Entry> {
        if now - self.swept >= SWEEP {
            self.swept = now;
            self.actions.retain(|_, revisions| {
                revisions.retain(|cached| now - cached.used < CACHED);
                !revisions.is_empty()
            });
        }
        let fresh = || Cached {
            revision: revision.to_owned(),
            used: now,
            entry: Arc::default(),
        };
        let Some(revisions) = self.actions.get_mut(id) else {
            let cached = fresh();
            let entry = Arc::clone(&cached.entry);
            self.actions.insert(id.to_owned(), vec![cached]);
            return entry;
        };
        let known = revisions.iter().position(|cached| cached.revision == revision);
        let at = known.unwrap_or(revisions.len());
        if known.is_none() {
            revisions.push(fresh());
        } else if now - revisions[at].used >= CACHED {
            revisions[at] = fresh();
        }
        revisions[at].used = now;
        Arc::clone(&revisions[at].entry)
    }
}

/// Why an action cannot be run: status and text of the answer, and a line for the operator.
#[derive(Debug)]
struct Unresolved {
    status: Status,
    text: &'static str,
    reason: String,
}

impl Unresolved {
    fn not_found() -> Self {
        Self {
            status: Status::ApplicationError,
            text: texts::NOT_FOUND,
            reason: "no such document".to_owned(),
        }
    }

    fn not_fetched(reason: impl Into<String>) -> Self {
        Self {
            status: Status::WhiskError,
            text: texts::NOT_FETCHED,
            reason: reason.into(),
        }
    }

    fn not_compatible(reason: impl ToString) -> Self {
        Self {
            status: Status::WhiskError,
            text: texts::NOT_COMPATIBLE,
            reason: reason.to_string(),
        }
    }
}

impl Resolver {
    pub fn new(
        store: Arc<dyn Store>,
        settings: Arc<Settings>,
        completer: Arc<Completer>,
        blacklist: Arc<Blacklist>,
        rooms: Arc<Rooms>,
    ) -> Self {
        Self {
            store,
            settings,
            completer,
            blacklist,
            rooms,
            health_tests: HealthTests::default(),
            cache: Mutex::new(Cache {
                actions: HashMap::new(),
                swept: Instant::now(),
            }),
        }
    }

    /// The job that a message asks for; none if it was answered here.
    pub async fn resolve(&self, fed: Fed) -> Option<Job> {
        let transid = fed.message.transid.clone();
        let span = info_span!("resolve", %transid);
        Transaction::scope(&transid, self.job(fed).instrument(span)).await
    }

    async fn job(&self, fed: Fed) -> Option<Job> {
        let mut message = fed.message;
        let opened = parameters::open(&mut message, &self.settings.parameter_keys);
        let message: Arc<ActivationMessage> = Arc::from(message);
        metrics::activation_taken_in();
        let mut owed = Owed::new(Arc::clone(&message), fed.room, Arc::clone(&self.completer));
        if self.blacklist.is_blocked(message.user.namespace.name.as_str()) {
            warn!(transid = %message.transid, namespace = %message.user.namespace.name, "action not run: the namespace is blocked");
            let response = Response::failure(Status::ApplicationError, texts::BLACKLISTED);
            owed.turn_away(record::unread(&message, response)).await;
            return None;
        }
        match self.health_tests.join(&message).await {
            Role::None => {}
            Role::Runs(witness) => owed.show(witness),
            Role::Merged(activation) => {
                metrics::health_test_merged();
                let stored = message.user.limits.store_activations.unwrap_or(true);
                owed.answer(&activation, false).await;
                owed.settle(*activation, stored).await;
                return None;
            }
        }
        match self.executable(&message).await {
            Ok(executable) => {
                if let Some(room) = owed.room() {
                    let kind = match &executable.ffs {
                        Some(Ok(_)) => Kind::Function,
                        Some(Err(_)) | None => Kind::Plain,
                    };
                    self.rooms.learn(&message.action.to_string(), kind, room);
                }
                let job = Job {
                    message,
                    executable,
                    owed,
                };
                self.check(job, opened).await
            }
            Err(unresolved) => {
                let Unresolved { status, text, reason } = unresolved;
                warn!(transid = %message.transid, action = %message.action, reason, "action not run: {text}");
                let activation = record::unread(&message, Response::failure(status, text));
                let stored = message.user.limits.store_activations.unwrap_or(true);
                owed.settle(activation, stored).await;
                None
            }
        }
    }

    async fn check(&self, job: Job, opened: Result<(), parameters::Locked>) -> Option<Job> {
        let Settings {
            limits,
            namespace_limits,
            user_memory,
            ..
        } = self.settings.as_ref();
        let violation = limits
            .check(&job.executable.limits, &job.message.user.limits, namespace_limits)
            .and_then(|()| fits(job.executable.limits.memory, user_memory.as_mib()));
        if let Err(violation) = violation {
            warn!(
                transid = %job.message.transid, action = %job.message.action, limits = ?limits,
                user_memory = %user_memory, %violation,
                "not run: the limits of this invoker, not those of the controller, are what counts here"
            );
            let response = Response::failure(Status::ApplicationError, violation.to_string());
            let activation = record::unread(&job.message, response);
            let stored = job.is_stored();
            job.owed.settle(activation, stored).await;
            return None;
        }
        if let Err(locked) = opened {
            error!(transid = %job.message.transid, action = %job.message.action, %locked, "action not run");
            let response = Response::failure(Status::WhiskError, texts::NO_VALID_RESPONSE);
            let activation = job.activation(record::Times::none(&job.message), response, false);
            let stored = job.is_stored();
            job.owed.settle(activation, stored).await;
            return None;
        }
        if let Some(Err(sentence)) = &job.executable.ffs {
            let activation = job.refused(&Fault::developer(sentence.clone()));
            let stored = job.is_stored();
            job.owed.settle(activation, stored).await;
            return None;
        }
        Some(job)
    }

    async fn executable(&self, message: &ActivationMessage) -> Result<Arc<Executable>, Unresolved> {
        let id = message.action.to_string();
        match &message.revision {
            Some(revision) => self.cached(&id, revision).await,
            None => {
                metrics::cache(false);
                warn!(transid = %message.transid, action = id, "the message names no revision: the action is read anew");
                self.read(&id, None).await
            }
        }
    }

    /// The newest revision of an action, for a start without an activation.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn newest(&self, id: &str) -> Result<Arc<Executable>, String> {
        self.read(id, None)
            .await
            .map_err(|unresolved| format!("{} ({})", unresolved.text, unresolved.reason))
    }

    async fn cached(&self, id: &str, revision: &str) -> Result<Arc<Executable>, Unresolved> {
        let entry = {
            let mut cache = self.cache.lock().expect("no holder panics");
            cache.entry(id, revision, Instant::now())
        };
        metrics::cache(entry.initialized());
        // A failed read leaves the cell empty: it is not cached. Where the document is another than the
        // message names, the newest is read and run, and not cached under this revision's name (D-02).
        let read = entry
            .get_or_try_init(|| async {
                let read = self.read(id, Some(revision)).await.map_err(Err)?;
                if read.revision == revision {
                    return Ok(read);
                }
                Err(self.read(id, None).await)
            })
            .await;
        match read {
            Ok(executable) => Ok(Arc::clone(executable)),
            Err(other) => other,
        }
    }

    async fn read(&self, id: &str, revision: Option<&str>) -> Result<Arc<Executable>, Unresolved> {
        let document = self.store.get(Database::Entity, id, revision).await;
        let document = document.map_err(|error| Unresolved::not_fetched(because(&error)))?;
        let mut document = document.ok_or_else(Unresolved::not_found)?;
        if let serde_json::Value::Object(members) = &mut document.body {
            members.insert("_id".to_owned(), document.id.into());
            members.insert("_rev".to_owned(), document.revision.into());
        }
        let action: ActionDocument =
            serde_json::from_value(document.body).map_err(Unresolved::not_compatible)?;
        let code = match action.exec.code() {
            None => None,
            Some(Code::Inline(text)) => Some(text.clone()),
            Some(Code::Attachment(attachment)) => Some(self.attached(&action, attachment).await?),
        };
        let Settings { runtimes, limits, .. } = self.settings.as_ref();
        let executable = Executable::new(&action, code, runtimes, limits).map_err(|error| match error {
            // It can be read, and is not for an invoker (D-16c).
            NotExecutable::Sequence => Unresolved::not_fetched(error.to_string()),
            _ => Unresolved::not_compatible(error),
        })?;
        if executable.limits.concurrency > 1 && executable.limits.logs > 0 {
            warn!(
                action = id,
                concurrency = executable.limits.concurrency,
                "runs of this action share a container, where their logs mix: set its log limit to 0"
            );
        }
        Ok(Arc::new(executable))
    }

    /// D-21 … D-25.
    async fn attached(&self, action: &ActionDocument, attachment: &Attachment) -> Result<String, Unresolved> {
        if !action.agrees_with(attachment) {
            let reason = format!("attachment {} is not the document's", attachment.attachment_name);
            return Err(Unresolved::not_fetched(reason));
        }
        let bytes = match attachment.place() {
            Place::Name(content) => IN_NAME.decode(content).map_err(|error| {
                Unresolved::not_fetched(format!("inline attachment is not base64: {error}"))
            })?,
            Place::Document(name) => {
                let revision = action.rev.as_deref();
                let bytes = self
                    .store
                    .attachment(Database::Entity, &action.id, revision, name)
                    .await;
                bytes
                    .map_err(|error| Unresolved::not_fetched(because(&error)))?
                    .ok_or_else(Unresolved::not_found)?
            }
            Place::Store { scheme, .. } => {
                let reason = format!("attachment store {scheme} is not one that this invoker knows");
                return Err(Unresolved::not_fetched(reason));
            }
        };
        if action.exec.is_binary() {
            return Ok(STANDARD.encode(bytes));
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(not) => String::from_utf8_lossy(not.as_bytes()).into_owned(),
        })
    }
}

/// Memory above what all containers together may use, both in MB: no container would ever be started
/// for it, so it is a violated limit (L-37).
fn fits(memory: u64, budget: u64) -> Result<(), LimitViolation> {
    if memory <= budget {
        return Ok(());
    }
    Err(LimitViolation {
        limit: Limit::Memory,
        value: memory,
        threshold: budget,
        above: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D-05: an entry lives five minutes from its last use, each revision by itself.
    #[test]
    fn what_was_read_is_kept_for_five_minutes_from_its_last_use() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache {
            actions: HashMap::new(),
            swept: start,
        };
        let first = cache.entry("guest/a", "1-a", at(0));
        let other = cache.entry("guest/a", "2-b", at(0));
        assert!(!Arc::ptr_eq(&first, &other));
        for seconds in [299, 598, 897] {
            assert!(Arc::ptr_eq(&first, &cache.entry("guest/a", "1-a", at(seconds))));
        }
        assert!(!Arc::ptr_eq(&other, &cache.entry("guest/a", "2-b", at(897))));
        assert!(!Arc::ptr_eq(&first, &cache.entry("guest/a", "1-a", at(1197))));
    }
}
