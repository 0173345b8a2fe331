//! Pulling: several pulls of one image are one (L-15).

use super::call::{CallError, call};
use super::{Inner, image};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::TryStreamExt;
use futures::future::{BoxFuture, FutureExt, Shared};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How a pull went, for all who wait for it; the error as a sentence.
type Pull = Shared<BoxFuture<'static, Result<(), Arc<CallError>>>>;

/// Pulls under way, by the image's name.
#[derive(Debug, Default)]
pub(super) struct Pulls(Mutex<BTreeMap<String, Pull>>);

impl Inner {
    /// Joins a pull of the image that is under way, or begins one. It goes on even if nobody waits for it.
    pub(super) async fn pull(self: &Arc<Self>, image: &str) -> Result<(), Arc<CallError>> {
        let pull = {
            let mut pulls = self.pulls.0.lock().unwrap_or_else(PoisonError::into_inner);
            match pulls.get(image) {
                Some(pull) => pull.clone(),
                None => {
                    let (inner, name) = (Arc::clone(self), image.to_owned());
                    let work = tokio::spawn(async move {
                        let pulled = inner.pull_once(&name).await.map_err(Arc::new);
                        inner
                            .pulls
                            .0
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .remove(&name);
                        pulled
                    });
                    let pull = work
                        .map(|outcome| outcome.expect("it does not panic"))
                        .boxed()
                        .shared();
                    pulls.insert(image.to_owned(), pull.clone());
                    pull
                }
            }
        };
        pull.await
    }

    pub(super) async fn pull_once(&self, name: &str) -> Result<(), CallError> {
        let (image, tag) = image::split(name);
        let options = CreateImageOptionsBuilder::default()
            .from_image(image)
            .tag(tag)
            .build();
        let work = self
            .docker
            .create_image(Some(options), None, None)
            .try_for_each(|_| async { Ok(()) });
        call("pull", name, self.settings.timeouts.pull, work).await
    }
}
