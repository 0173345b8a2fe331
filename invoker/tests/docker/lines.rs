//! What the log says of the commands.

use crate::stand_in::{StandIn, spec};
use ffs_invoker::container::ContainerEngine;
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics").write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// All that this process writes: other tests may write as well.
fn lines() -> &'static Lines {
    static LINES: LazyLock<Lines> = LazyLock::new(|| {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("ffs_invoker=debug")
            .with_writer(lines.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
        lines
    });
    &LINES
}

/// A container with a secret is started, paused, resumed and removed; the lines about it.
async fn written(name: &str, mask: bool) -> Vec<String> {
    let lines = lines();
    let docker = StandIn::new();
    let engine = docker.engine(|settings| settings.mask_run_args = mask).await;
    let mut spec = spec(1);
    spec.name = name.to_owned();
    spec.env.insert("TOKEN".to_owned(), "hunter2-hunter2".to_owned());
    let container = engine.start(&spec).await.expect("started");
    engine.pause(&container.id).await.expect("paused");
    engine.resume(&container.id).await.expect("resumed");
    engine.remove(&container.id).await.expect("removed");
    let text = lines.0.lock().expect("nobody panics").clone();
    let text = String::from_utf8(text).expect("text");
    text.lines()
        .filter(|line| line.contains(name))
        .map(str::to_owned)
        .collect()
}

/// L-04: a line at info for each command, with what it was done to and how long it took.
/// P-67: what a container is created with is in the log, or hidden.
#[tokio::test]
async fn each_command_has_a_line_and_arguments_are_hidden_if_asked() {
    let open = written("wsk00_open", false).await;
    for command in ["run", "pause", "unpause", "rm"] {
        let line = open
            .iter()
            .find(|line| line.contains(&format!("docker {command} ")) && line.contains(" ms="))
            .unwrap_or_else(|| panic!("no line for {command}: {open:?}"));
        assert!(line.contains(" INFO ") && line.contains("subject="), "{line}");
    }
    assert!(
        open.iter().any(|line| line.contains("hunter2-hunter2")),
        "{open:?}"
    );
    let masked = written("wsk00_masked", true).await;
    assert!(
        masked.iter().any(|line| line.contains("docker run ")),
        "{masked:?}"
    );
    assert!(!masked.iter().any(|line| line.contains("hunter2")), "{masked:?}");
}
