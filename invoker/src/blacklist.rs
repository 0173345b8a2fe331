//! Namespaces of which nothing is run, read from the store now and then.
//!
//! Source: `NamespaceBlacklist.scala`, `InvokerReactive.scala`; contract 9.1.

use crate::store::Store;
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The set as it was last read; empty before the first good look (N-02).
#[derive(Debug, Default)]
pub struct Blacklist {
    names: RwLock<BTreeSet<String>>,
}

impl Blacklist {
    pub fn is_blocked(&self, namespace: &str) -> bool {
        self.names.read().expect("no writer panics").contains(namespace)
    }

    /// Looks at once, then `interval` after each look has ended, until `stop`. A look that fails leaves
    /// the set as it is.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Store>, interval: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look(store.as_ref()) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    async fn look(&self, store: &dyn Store) {
        match store.blocked_namespaces().await {
            Ok(names) => {
                let mut known = self.names.write().expect("no writer panics");
                if *known != names {
                    info!(blocked = names.len(), "the set of blocked namespaces has changed");
                    *known = names;
                }
            }
            Err(error) => error!(
                error = &error as &dyn std::error::Error,
                "blocked namespaces stay as they are"
            ),
        }
    }
}
