//! A bus in one file: the log of each topic, and where each group has come to.
//!
//! Messages go when every group of the topic has committed them, or when the topic's `retention.ms` or
//! `retention.bytes` says so. Readers are woken, they do not poll.

mod log;
mod topic;

use self::log::Appended;
use self::topic::Topic;
use super::{Bus, Error, Message, Subscription, TopicSpec, Visit};
use crate::group_commit::{self, Durability, GroupCommit};
use async_trait::async_trait;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, watch};

/// Most messages that are looked at in one step.
const PAGE: usize = 256;

/// A bus inside this process, durable in one file.
#[derive(Debug)]
pub struct EmbeddedBus {
    file: Arc<GroupCommit>,
    /// Empty once the bus is closed.
    topics: Mutex<HashMap<String, Arc<Topic>>>,
}

impl EmbeddedBus {
    /// Opens the bus in `path`, or makes it.
    ///
    /// Messages are on disk 10 ms after they were sent. Where a power cut has broken the file, it is put
    /// aside as `<path>.broken` and the bus begins anew.
    ///
    /// # Errors
    /// When another process has it open, or the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = || -> Result<_, group_commit::Error> {
            let file = GroupCommit::open(path, Durability::Process)?;
            let topics = file.read(log::topics)?;
            Ok((file, topics))
        };
        let failed = |source| Error::Open {
            at: path.display().to_string(),
            source,
        };
        let (file, rows) = match open() {
            Err(error) if error.is_corrupted() => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".broken");
                tracing::warn!(file = %path.display(), aside = ?aside, "the bus is broken, as after a power cut: it begins anew");
                std::fs::rename(path, aside).map_err(|e| failed(e.into()))?;
                open()
            }
            other => other,
        }
        .map_err(|e| failed(e.into()))?;
        let topics = rows
            .into_iter()
            .map(|(name, row)| (name, Arc::new(Topic::new(row))))
            .collect();
        Ok(Self {
            file: Arc::new(file),
            topics: Mutex::new(topics),
        })
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, super::Cause> {
        let topics = self.topics.lock().expect("no holder panics");
        match topics.get(name) {
            Some(topic) => Ok(topic.clone()),
            None if topics.is_empty() => Err("there are no topics, or the bus was closed".into()),
            None => Err(format!("there is no topic {name}").into()),
        }
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        if self.topic(&spec.name).is_ok() {
            return Ok(());
        }
        let (name, config) = (spec.name.clone(), spec.config.clone());
        let row = self.file.write(move |t| log::create(t, &name, config)).await;
        let row = row.map_err(|e| Error::CreateTopic {
            topic: spec.name.clone(),
            source: e.into(),
        })?;
        let mut topics = self.topics.lock().expect("no holder panics");
        topics
            .entry(spec.name.clone())
            .or_insert_with(|| Arc::new(Topic::new(row)));
        Ok(())
    }

    async fn send(&self, name: &str, payload: Vec<u8>) -> Result<(), Error> {
        let bytes = payload.len();
        let failed = |source| Error::Send {
            topic: name.to_owned(),
            bytes,
            source,
        };
        let topic = self.topic(name).map_err(failed)?;
        if bytes > topic.limits.message_bytes {
            return Err(Error::TooLarge {
                topic: name.to_owned(),
                bytes,
            });
        }
        let (limits, owned) = (topic.limits, name.to_owned());
        let sent = self
            .file
            .submit(
                move |t| log::append(t, &owned, &payload, now_ms(), limits),
                move |appended: &Appended| topic.announce(appended.next),
            )
            .await
            .map_err(|e| failed(e.into()))?;
        let appended = match sent.await {
            Ok(outcome) => outcome.map_err(|e| failed(e.into()))?,
            Err(_) => return Err(failed("the bus was closed".into())),
        };
        if appended.unread_lost > 0 {
            tracing::warn!(
                topic = name,
                messages = appended.unread_lost,
                "messages were dropped unread: the topic is full"
            );
        }
        Ok(())
    }

    async fn subscribe(&self, name: &str, group: &str) -> Result<Box<dyn Subscription>, Error> {
        let failed = |source| Error::Subscribe {
            topic: name.to_owned(),
            source,
        };
        let topic = self.topic(name).map_err(failed)?;
        let (owned, member) = (name.to_owned(), group.to_owned());
        let joined = self.file.write(move |t| log::join(t, &owned, &member)).await;
        joined.map_err(|e| failed(e.into()))?;
        Ok(Box::new(Reader {
            file: self.file.clone(),
            name: name.to_owned(),
            group: group.to_owned(),
            end: topic.end(),
            seat: topic.seat(group),
            turn: None,
        }))
    }

    async fn look_back(&self, name: &str, since_ms: i64, mut visit: Visit) -> Result<(), Error> {
        let failed = |source| Error::Read {
            topic: name.to_owned(),
            source,
        };
        let end = *self.topic(name).map_err(failed)?.end().borrow();
        let mut from = 0;
        while from < end {
            let page = self.file.read(|t| log::read(t, name, from, PAGE));
            let page = page.map_err(|e| failed(e.into()))?;
            let Some(last) = page.last() else { break };
            from = last.offset + 1;
            let recent = |message: &&Message| message.timestamp_ms.is_none_or(|at| at >= since_ms);
            for message in page.iter().filter(recent) {
                visit(&message.payload);
            }
        }
        Ok(())
    }

    async fn close(&self, grace: Duration) {
        self.topics.lock().expect("no holder panics").clear();
        self.file.close(grace).await;
    }
}

#[derive(Debug)]
struct Reader {
    file: Arc<GroupCommit>,
    name: String,
    group: String,
    /// The offset that the next message sent will have.
    end: watch::Receiver<i64>,
    seat: Arc<tokio::sync::Mutex<()>>,
    /// None while another reader of the group has it.
    turn: Option<Turn>,
}

#[derive(Debug)]
struct Turn {
    _seat: OwnedMutexGuard<()>,
    /// The offset to read next.
    position: i64,
}

impl Reader {
    fn failed(&self, source: super::Cause) -> Error {
        Error::Read {
            topic: self.name.clone(),
            source,
        }
    }
}

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self, max: usize) -> Result<Vec<Message>, Error> {
        if self.turn.is_none() {
            let seat = self.seat.clone().lock_owned().await;
            let position = self.file.read(|t| log::position(t, &self.name, &self.group));
            self.turn = Some(Turn {
                _seat: seat,
                position: position.map_err(|e| self.failed(e.into()))?,
            });
        }
        loop {
            let end = *self.end.borrow_and_update();
            let from = self.turn.as_ref().map_or(0, |turn| turn.position);
            if from < end {
                let messages = self.file.read(|t| log::read(t, &self.name, from, max));
                let messages = messages.map_err(|e| self.failed(e.into()))?;
                if let (Some(last), Some(turn)) = (messages.last(), &mut self.turn) {
                    turn.position = last.offset + 1;
                    return Ok(messages);
                }
            }
            if self.end.changed().await.is_err() {
                return Err(self.failed("the bus was closed".into()));
            }
        }
    }

    async fn commit(&mut self, message: &Message) -> Result<(), Error> {
        let (name, group, next) = (self.name.clone(), self.group.clone(), message.offset + 1);
        let commit = self
            .file
            .submit(move |t| log::commit(t, &name, &group, next), |()| ());
        commit.await.map(drop).map_err(|e| Error::Commit {
            topic: self.name.clone(),
            source: e.into(),
        })
    }

    /// Commits are carried out in order and by this process, so none is lost before it ends.
    fn is_committed(&self) -> bool {
        true
    }

    async fn lag(&self) -> Option<u64> {
        let turn = self.turn.as_ref()?;
        u64::try_from(*self.end.borrow() - turn.position).ok()
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        // Writes are carried out in order, so what was asked before this one is done with it.
        let settled = self.file.write(|_| Ok(())).await;
        settled.map_err(|e| Error::Commit {
            topic: self.name.clone(),
            source: e.into(),
        })
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
