//! Where events come from: signals, the Python process, the invoker, and time.

use super::{Error, Event, Lane, Life};
use crate::child::Notice;
use crate::child::protocol::Failure;
use crate::config_layer::ConfigLayer;
use crate::control::Control;
use crate::logs::Stream;
use proto::id::LaneId;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// SIGTERM, and what a person types.
pub(super) fn signals(events: &mpsc::Sender<Event>) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, events) = (signal(kind)?, events.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() && events.send(Event::Terminate).await.is_ok() {}
        });
    }
    Ok(())
}

impl Life {
    pub(super) fn watch_child(&self, mut notices: mpsc::Receiver<Notice>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let logs = Arc::clone(&self.logs);
            tokio::spawn(async move { logs.pump(stream).await });
        }
        let (action, events) = (Arc::clone(&self.action), self.events.clone());
        tokio::spawn(async move {
            while let Some(notice) = notices.recv().await {
                let _ = events.send(Event::Notice(notice)).await;
            }
            let _ = events.send(Event::Bereaved(action.mourn().await)).await;
        });
    }

    /// A thread of its own waits for the end of standard input, because that may be anything.
    pub(super) fn watch_lifeline(&self) {
        let events = self.events.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = events.blocking_send(Event::InvokerGone);
        });
    }

    /// Connects to the invoker. A lane that is not the head begins to import the user's code.
    pub(super) async fn join(&mut self, token: String, layer: &ConfigLayer) -> Result<(), Error> {
        let init = (layer.lane != LaneId::HEAD)
            .then(|| layer.init_body())
            .transpose()?;
        let (control, mut heard) = Control::connect(&layer.control()).await?;
        self.lane = Some(Lane::new(layer, token, control));
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(heard) = heard.recv().await {
                let _ = events.send(Event::Heard(heard)).await;
            }
            let _ = events.send(Event::InvokerGone).await;
        });
        let (action, events) = (Arc::clone(&self.action), self.events.clone());
        tokio::spawn(async move {
            let failure = action.failed().await;
            let _ = events.send(Event::Failed(failure)).await;
        });
        if let Some(body) = init {
            let action = Arc::clone(&self.action);
            tokio::spawn(async move {
                if let Err(refusal) = action.load(&body).await {
                    action.fail(Failure {
                        sentence: refusal.to_string(),
                        at: None,
                    });
                }
            });
        }
        Ok(())
    }

    pub(super) fn later(&self, event: Event, when: impl Future<Output = ()> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            when.await;
            let _ = events.send(event).await;
        });
    }
}
