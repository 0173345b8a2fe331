//! The answer: an outcome becomes an activation, acks, an event and a record, exactly once.

pub mod texts;
pub mod response;
pub mod owed;
pub mod completer;
pub mod outbox;
mod records;
mod delivery;
pub mod event;
pub mod ack;
pub mod record;

pub use ack::Acks;
pub use completer::Completer;
pub use event::Events;
pub use outbox::Outbox;
pub use owed::{Owed, Witness};
