//! Docker, by way of its socket.

mod settings;

pub use self::settings::{DockerSettings, Timeouts};
