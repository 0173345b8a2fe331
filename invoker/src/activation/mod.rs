//! From bytes to a job: read, looked up, checked against its limits; and its run in a container.

pub mod feed;
mod waiting;
pub mod room;
pub mod health_tests;
pub mod executable;
pub mod resolve;
pub mod job;
pub mod parameters;
pub mod run;
mod account;

pub use executable::Executable;
pub use job::Job;
