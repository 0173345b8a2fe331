//! The API through the Go library that `wsk` is made of; `wsk/wsk_test.go` says what is asked of it.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Stdio;
use support::standalone::Standalone;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_that_wsk_is_made_of_works_unchanged() {
    let api = Standalone::start().await;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wsk");
    let ran = Command::new("go")
        .args(["test", "-count=1", "-v", "./..."])
        .current_dir(program)
        .env("WSK_HOST", format!("http://{}", api.address))
        .env("WSK_AUTH", api.key.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("go can be started: Debian has it in the package golang");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(ran.status.success(), "{said}");
    api.stop().await;
}
