//! An action container that answers at once: what is measured with it is everything else.
//!
//! `/init` and `/run` are answered 200, whatever the code is; both sentinels are written before `/run`
//! is answered, as OpenWhisk's own proxies do (contract C-90a).
#![forbid(unsafe_code)]

use action_proxies::{Request, SENTINEL, answer};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

/// A caller that says nothing must not keep the next one waiting for ever.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))?;
    let sentinel = format!("{SENTINEL}\n");
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some(request) = Request::read(&stream) else {
            continue;
        };
        if request.path == "/run" {
            std::io::stdout().write_all(sentinel.as_bytes())?;
            std::io::stderr().write_all(sentinel.as_bytes())?;
        }
        // Whoever asked may have given up.
        let _ = answer(&stream, 200, br#"{"ok":true}"#);
    }
    Ok(())
}
