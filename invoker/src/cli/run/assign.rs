//! An invoker's id by its name, kept in ZooKeeper, where the Scala invokers of a cluster keep it too.
//!
//! Source: `InstanceIdAssigner.scala`; contract P-06 … P-09.

use std::future::Future;
use std::time::Duration;
use tracing::{info, warn};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error as Cause};

const ROOT: &str = "/invokers/idAssignment";
const MAPPING: &str = "/invokers/idAssignment/mapping";
const COUNTER: &str = "/invokers/idAssignment/counter";

/// Between two tries, and how long one operation is tried at all (P-07).
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(5);
/// How long another one may take from raising the counter to writing its name.
const OTHERS: Duration = Duration::from_secs(1);

const NODE: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const PARENT: CreateOptions<'static> = CreateMode::Container.with_acls(Acls::anyone_all());

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "ZOOKEEPER_HOSTS is {0:?}: expected host:port, or several with commas between them, to get an id for --uniqueName; or give --id"
    )]
    Hosts(String),
    #[error("ZooKeeper at {hosts}: {operation}")]
    Failed {
        hosts: String,
        operation: &'static str,
        #[source]
        source: Cause,
    },
    #[error("the name {0:?} cannot be a node of ZooKeeper")]
    Name(String),
    #[error("ZooKeeper node {path} holds {bytes:?}: expected an invoker's id")]
    NoId { path: String, bytes: Vec<u8> },
    #[error("id {id} cannot be given to {name}: only {known} names are registered")]
    TooFew { id: u32, name: String, known: usize },
}

/// The id of `name`: the one it had, or `overwrite`, or the next.
///
/// # Errors
/// When no server is named, the name is no node, or an operation fails for too long. A ZooKeeper that
/// cannot be reached is waited for.
pub(super) async fn assign(hosts: &str, name: &str, overwrite: Option<u32>) -> Result<u32, Error> {
    if hosts.is_empty() || hosts.starts_with(':') || hosts.ends_with(':') {
        return Err(Error::Hosts(hosts.to_owned()));
    }
    if name.contains('/') || name == "." || name == ".." || name.contains('\0') {
        return Err(Error::Name(name.to_owned()));
    }
    let registry = Registry {
        hosts,
        client: connect(hosts).await?,
    };
    let id = match overwrite {
        Some(id) => registry.overwrite(name, id).await?,
        None => registry.look_up_or_add(name).await?,
    };
    info!(name, id, "invoker id assigned by ZooKeeper");
    Ok(id)
}

async fn connect(hosts: &str) -> Result<Client, Error> {
    loop {
        match Client::connect(hosts).await {
            Ok(client) => return Ok(client),
            Err(source @ Cause::BadArguments(_)) => {
                return Err(Error::Failed {
                    hosts: hosts.to_owned(),
                    operation: "the address cannot be used",
                    source,
                });
            }
            Err(error) => warn!(hosts, %error, "ZooKeeper does not answer; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The session ends with it.
struct Registry<'a> {
    hosts: &'a str,
    client: Client,
}

impl Registry<'_> {
    async fn look_up_or_add(&self, name: &str) -> Result<u32, Error> {
        let path = format!("{MAPPING}/{name}");
        if let Some(id) = self.id_at(&path).await? {
            return Ok(id);
        }
        let id = self.next_id().await?;
        self.make_parents(MAPPING).await?;
        match self.client.create(&path, &encode(id), &NODE).await {
            Ok(_) => Ok(id),
            // A second process of the same name was quicker.
            Err(Cause::NodeExists) => Ok(self.id_at(&path).await?.unwrap_or(id)),
            Err(source) => Err(self.failed("the name could not be registered", source)),
        }
    }

    /// As many as there are names; whoever raises the counter first has it.
    async fn next_id(&self) -> Result<u32, Error> {
        self.make_parents(ROOT).await?;
        match self.client.create(COUNTER, &0_i32.to_be_bytes(), &NODE).await {
            Ok(_) | Err(Cause::NodeExists) => {}
            Err(source) => return Err(self.failed("the counter could not be made", source)),
        }
        let begun = tokio::time::Instant::now();
        loop {
            let operation = "the counter could not be read";
            let (value, stat) = self.retried(operation, || self.client.get_data(COUNTER)).await?;
            let known = self.names().await?.len();
            let id = u32::try_from(known).unwrap_or(u32::MAX);
            let raised = <[u8; 4]>::try_from(&*value).map_or(0, u32::from_be_bytes);
            if raised > id && begun.elapsed() < OTHERS {
                // Somebody has this id already, and is about to write its name.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let next = id.saturating_add(1).to_be_bytes();
            match self.client.set_data(COUNTER, &next, Some(stat.version)).await {
                Ok(_) => return Ok(id),
                Err(Cause::BadVersion) => {}
                Err(source) => return Err(self.failed("the counter could not be raised", source)),
            }
        }
    }

    /// Takes `id` from whoever has it.
    async fn overwrite(&self, name: &str, id: u32) -> Result<u32, Error> {
        let names = self.names().await?;
        if names.len() < id as usize {
            return Err(Error::TooFew {
                id,
                name: name.to_owned(),
                known: names.len(),
            });
        }
        for other in names.iter().filter(|other| *other != name) {
            let path = format!("{MAPPING}/{other}");
            if self.id_at(&path).await? == Some(id) {
                let operation = "another name of this id could not be removed";
                self.retried(operation, || self.client.delete(&path, None))
                    .await?;
                break;
            }
        }
        let path = format!("{MAPPING}/{name}");
        self.make_parents(MAPPING).await?;
        let operation = "the name could not be registered";
        match self.client.create(&path, &encode(id), &NODE).await {
            Ok(_) => {}
            Err(Cause::NodeExists) => {
                let set = || self.client.set_data(&path, &encode(id), None);
                self.retried(operation, set).await?;
            }
            Err(source) => return Err(self.failed(operation, source)),
        }
        Ok(id)
    }

    async fn names(&self) -> Result<Vec<String>, Error> {
        let operation = "the names could not be listed";
        let listed = self.retried(operation, || async {
            match self.client.list_children(MAPPING).await {
                Err(Cause::NoNode) => Ok(Vec::new()),
                other => other,
            }
        });
        listed.await
    }

    async fn id_at(&self, path: &str) -> Result<Option<u32>, Error> {
        let operation = "a name could not be looked up";
        let read = self.retried(operation, || async {
            match self.client.get_data(path).await {
                Ok((bytes, _)) => Ok(Some(bytes)),
                Err(Cause::NoNode) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let Some(bytes) = read.await? else { return Ok(None) };
        match decode(&bytes) {
            Some(id) => Ok(Some(id)),
            None => Err(Error::NoId {
                path: path.to_owned(),
                bytes,
            }),
        }
    }

    async fn make_parents(&self, path: &str) -> Result<(), Error> {
        let operation = "the nodes above the names could not be made";
        self.retried(operation, || self.client.mkdir(path, &PARENT)).await
    }

    /// Again and again while the connection is lost, for a while.
    async fn retried<T, F: Future<Output = Result<T, Cause>>>(
        &self,
        operation: &'static str,
        work: impl Fn() -> F,
    ) -> Result<T, Error> {
        let begun = tokio::time::Instant::now();
        loop {
            match work().await {
                Ok(done) => return Ok(done),
                Err(Cause::ConnectionLoss | Cause::Timeout | Cause::Throttled)
                    if begun.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(source) => return Err(self.failed(operation, source)),
            }
        }
    }

    fn failed(&self, operation: &'static str, source: Cause) -> Error {
        Error::Failed {
            hosts: self.hosts.to_owned(),
            operation,
            source,
        }
    }
}

/// As `BigInt.toByteArray`: big-endian two's complement, as short as can be.
fn encode(id: u32) -> Vec<u8> {
    let bytes = u64::from(id).to_be_bytes();
    // The first byte that is kept must not look negative.
    let begin = (0..7)
        .find(|i| bytes[*i] != 0 || bytes[i + 1] > 0x7f)
        .unwrap_or(7);
    bytes[begin..].to_vec()
}

fn decode(bytes: &[u8]) -> Option<u32> {
    let negative = bytes.first()? & 0x80 != 0;
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if negative || significant.len() > 4 {
        return None;
    }
    Some(significant.iter().fold(0, |id, byte| id << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-06: an id is stored as Java's BigInteger is.
    #[test]
    fn an_id_is_a_minimal_big_endian_integer() {
        let cases: [(u32, &[u8]); 6] = [
            (0, &[0]),
            (7, &[7]),
            (127, &[127]),
            (128, &[0, 128]),
            (255, &[0, 255]),
            (70_000, &[1, 17, 112]),
        ];
        for (id, bytes) in cases {
            assert_eq!(encode(id), bytes);
            assert_eq!(decode(bytes), Some(id));
        }
        assert_eq!(decode(&encode(u32::MAX)), Some(u32::MAX));
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0xff]), None);
        assert_eq!(decode(&[1, 0, 0, 0, 0]), None);
    }

    /// P-09: no usable list of servers is told at once, with the list.
    #[tokio::test]
    async fn a_list_of_servers_that_cannot_be_right_is_quoted() {
        for hosts in ["", ":2181", "zookeeper:"] {
            let error = assign(hosts, "a", None).await.unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("ZOOKEEPER_HOSTS is {hosts:?}")),
                "{error}"
            );
        }
    }
}
