//! How a container ends: what still gets its time, and what is killed.

use super::leaving::LAST_ANSWERS;
use super::{Event, Life};
use crate::child::protocol::ToChild;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The invoker is gone: so long may the rings take to be poisoned, and then all that runs to be
/// killed. Less than a second in all.
const POISON: Duration = Duration::from_millis(500);
pub(super) const KILL: Duration = Duration::from_millis(400);
/// How long what is finished may take to be read: output, and why the lane failed.
const LAST_OUTPUT: Duration = Duration::from_millis(100);
const LAST_SENTENCE: Duration = Duration::from_secs(1);
/// How long the Python process may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was asked to, and has finished what it had begun.
    Left,
    /// It was asked to, and the time for it is over.
    OutOfTime,
    /// The lane cannot go on, and has said why.
    Failed,
    /// Nobody is there for whom to finish anything.
    Abandoned,
}

impl Life {
    /// Ends everything that this container has begun.
    pub(super) async fn end(self, ending: Ending, mut happened: mpsc::Receiver<Event>) -> ExitCode {
        let reason = match ending {
            Ending::Left => None,
            Ending::OutOfTime => Some("the time to finish is over"),
            Ending::Failed => Some("the lane has failed"),
            Ending::Abandoned => Some("the invoker is gone"),
        };
        let grace = match reason {
            None => FAREWELL,
            Some(reason) => {
                self.child.send(ToChild::Poison {
                    reason: reason.into(),
                });
                POISON
            }
        };
        self.child.hang_up();
        let _ = timeout(grace, self.child.ended()).await;
        let _ = timeout(KILL, self.child.sweep()).await;
        if ending == Ending::Abandoned {
            let _ = timeout(LAST_OUTPUT, self.logs.flush()).await;
            return ExitCode::FAILURE;
        }
        if let Some(mut server) = self.server {
            let _ = timeout(LAST_ANSWERS, server.finish()).await;
        }
        let _ = timeout(LAST_OUTPUT, self.logs.flush()).await;
        let failed = ending == Ending::Failed;
        if failed {
            drop(self.lane); // nothing more is said
            let gone = async { while !matches!(happened.recv().await, None | Some(Event::InvokerGone)) {} };
            let _ = timeout(LAST_SENTENCE, gone).await;
        }
        if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
