//! The answer: an outcome becomes an activation, acks and a record, exactly once.

pub mod texts;
pub mod response;
pub mod record;
pub mod ack;
pub mod owed;

pub use ack::Acks;
pub use owed::{Completer, Owed};
