//! A redb file with one writer, which commits in groups: what is asked while one commit is under way
//! goes into the next.
//!
//! What the tables mean is the business of whoever writes them.

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

mod sync_later;

/// When the disk has what was committed. The death of the process loses nothing either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before a commit returns: survives a power cut.
    Disk,
    /// At most [`SYNC_DELAY`] later: a power cut may cost the file.
    Process,
}

/// How long after a commit the disk may lack it, with [`Durability::Process`].
pub const SYNC_DELAY: Duration = Duration::from_millis(10);

/// How many writes may wait before `write` waits too.
const QUEUE: usize = 1024;

/// Most writes in one commit.
const GROUP: usize = 256;

/// How much of the file is kept in memory, in bytes. The operating system keeps the rest.
const CACHE: usize = 16 << 20;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{} could not be opened", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Arc<redb::Error>,
    },
    #[error("{} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("{} could not be read or written", path.display())]
    Failed {
        path: PathBuf,
        #[source]
        source: Arc<redb::Error>,
    },
    #[error("{} was closed", path.display())]
    Closed { path: PathBuf },
}

impl Error {
    /// Whether the file is broken, as after a power cut.
    pub fn is_corrupted(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::Failed { source, .. } => {
                matches!(**source, redb::Error::Corrupted(_))
            }
            Self::InUse { .. } | Self::Closed { .. } => false,
        }
    }
}

/// The file and its writer. Dropped, it writes what waits and closes the file in the background.
#[derive(Debug)]
pub struct GroupCommit {
    path: PathBuf,
    database: Arc<Database>,
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl GroupCommit {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// `InUse` when another process has it open.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, Error> {
        let error = |source: redb::Error| match source {
            redb::Error::DatabaseAlreadyOpen => Error::InUse {
                path: path.to_owned(),
            },
            source => Error::Open {
                path: path.to_owned(),
                source: Arc::new(source),
            },
        };
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        let opened = match durability {
            Durability::Disk => builder.create(path),
            Durability::Process => {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)
                    .map_err(|e| error(redb::Error::Io(e)))?;
                sync_later::SyncLater::new(file).and_then(|backend| builder.create_with_backend(backend))
            }
        };
        let database = opened.map_err(|e| error(e.into()))?;
        let database = Arc::new(database);
        let (queue, jobs) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("group-commit".into())
            .spawn({
                let (database, path) = (database.clone(), path.to_owned());
                move || write_groups(&database, &path, jobs)
            })
            .map_err(|e| error(redb::Error::Io(e)))?;
        Ok(Self {
            path: path.to_owned(),
            database,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Carries out `operation` in the next group, and returns what it returned once that is committed.
    ///
    /// An `operation` that fails takes its whole group with it; one that finds something amiss returns
    /// that as its value and leaves the tables as they are. A dropped future is carried out or not.
    pub async fn write<T, F>(&self, operation: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    {
        let done = self.submit(operation, |_| ()).await?;
        done.await.map_err(|_| self.closed())?
    }

    /// Like [`Self::write`], but returns when the operation stands in the queue. `committed` is called on
    /// the writer's thread, in the order of the commits, whether or not anyone waits for the receiver.
    pub async fn submit<T, F, C>(
        &self,
        operation: F,
        committed: C,
    ) -> Result<oneshot::Receiver<Result<T, Error>>, Error>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
        C: FnOnce(&T) + Send + 'static,
    {
        let queue = self.queue.lock().expect("no holder panics").clone();
        let (reply, done) = oneshot::channel();
        let write = Write {
            operation: Some(operation),
            result: None,
            committed,
            reply,
        };
        let queue = queue.ok_or_else(|| self.closed())?;
        queue.send(Box::new(write)).await.map_err(|_| self.closed())?;
        Ok(done)
    }

    /// A view of what is committed now.
    pub fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        let view = || look(&self.database.begin_read()?);
        view().map_err(|source| Error::Failed {
            path: self.path.clone(),
            source: Arc::new(source),
        })
    }

    /// Takes no more writes, and returns when those taken are committed; gives up after `grace`.
    pub async fn close(&self, grace: Duration) {
        self.queue.lock().expect("no holder panics").take();
        let writer = self.writer.lock().expect("no holder panics").take();
        let Some(writer) = writer else { return };
        let joined = tokio::task::spawn_blocking(move || writer.join());
        if tokio::time::timeout(grace, joined).await.is_err() {
            tracing::warn!(path = %self.path.display(), "not everything was written within the grace period");
        }
    }

    fn closed(&self) -> Error {
        Error::Closed {
            path: self.path.clone(),
        }
    }
}

/// One write, with its type forgotten.
trait Job: Send {
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error>;
    fn finish(self: Box<Self>, outcome: Result<(), Error>);
}

struct Write<T, F, C> {
    operation: Option<F>,
    result: Option<T>,
    committed: C,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F, C> Job for Write<T, F, C>
where
    T: Send,
    F: FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send,
    C: FnOnce(&T) + Send,
{
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        if let Some(operation) = self.operation.take() {
            self.result = Some(operation(transaction)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        let Self {
            result,
            committed,
            reply,
            ..
        } = *self;
        let result = outcome.map(|()| result.expect("a committed group was applied"));
        if let Ok(value) = &result {
            committed(value);
        }
        // The caller may have gone.
        let _ = reply.send(result);
    }
}

fn write_groups(database: &Database, path: &Path, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        let outcome = commit(database, &mut group).map_err(|source| Error::Failed {
            path: path.to_owned(),
            source: Arc::new(source),
        });
        for job in group.drain(..) {
            job.finish(outcome.clone());
        }
    }
}

fn commit(database: &Database, group: &mut [Box<dyn Job>]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for job in group {
        job.apply(&transaction)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::TableDefinition;

    const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    fn put(key: u64) -> impl FnOnce(&WriteTransaction) -> Result<u64, redb::Error> {
        move |t| {
            t.open_table(NUMBERS)?.insert(key, key)?;
            Ok(key)
        }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_closing_and_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        for durability in [Durability::Disk, Durability::Process] {
            let file = GroupCommit::open(&path, durability).unwrap();
            let writes = (0..1000).map(|n| file.write(put(n)));
            let written = futures::future::join_all(writes).await;
            assert!(written.into_iter().map(Result::unwrap).eq(0..1000));
            file.close(Duration::from_secs(60)).await;
            assert!(matches!(file.write(put(7)).await, Err(Error::Closed { .. })));
            drop(file);

            let again = GroupCommit::open(&path, durability).unwrap();
            let sum = again.read(|t| {
                use redb::ReadableTable;
                let mut sum = 0;
                for row in t.open_table(NUMBERS)?.iter()? {
                    sum += row?.1.value();
                }
                Ok(sum)
            });
            assert_eq!(sum.unwrap(), (0..1000).sum::<u64>());
            again.close(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test]
    async fn a_failed_operation_fails_and_the_next_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = GroupCommit::open(&folder.path().join("numbers"), Durability::Process).unwrap();
        let failed = file
            .write(|_| -> Result<(), _> { Err(redb::Error::Corrupted("so says the test".into())) })
            .await
            .unwrap_err();
        assert!(failed.is_corrupted());
        assert_eq!(file.write(put(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_second_opener_is_told_that_the_file_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        for durability in [Durability::Disk, Durability::Process] {
            let first = GroupCommit::open(&path, durability).unwrap();
            let second = GroupCommit::open(&path, durability);
            assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
            first.close(Duration::from_secs(60)).await;
        }
    }
}
