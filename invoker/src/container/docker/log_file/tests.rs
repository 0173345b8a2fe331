use super::*;
use proto::id::ActivationId;
use proto::unit::Bytes;
use std::io::Write;
use std::sync::Arc;

const FIRST: ActivationId = ActivationId::from_u128(1);
const SECOND: ActivationId = ActivationId::from_u128(2);
const ID: &str = "0123abcd";

/// C-61: an entry is a line; long lines are several; members that nobody knows are ignored.
#[tokio::test]
async fn an_entry_is_a_line() {
    let at = Place::new(1);
    at.write(r#"{"log":"head","stream":"stdout","time":"2026-01-01T00:00:00.1Z"}"#);
    at.write(
        r#"{"log":"tail\n","stream":"stderr","time":"2026-01-01T00:00:00.123456789Z","attrs":{"tag":"x"}}"#,
    );
    at.write(r#"{"log":"\u003ca\u003e  b \r\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#);
    let logs = at.collect(FIRST, false).await;
    // C-67: the text begins in the same column whatever the time; blanks inside stay.
    assert_eq!(
        logs.lines,
        [
            "2026-01-01T00:00:00.1Z         stdout: head",
            "2026-01-01T00:00:00.123456789Z stderr: tail",
            "2026-01-01T00:00:00Z           stdout: <a>  b ",
        ]
    );
    assert!(!logs.failed);
}

/// C-62, C-74: what `/init` wrote is the first activation's; each reads on where the last one ended.
#[tokio::test]
async fn each_activation_reads_on_where_the_last_one_ended() {
    let at = Place::new(1);
    at.out("i");
    at.out("a");
    at.sentinels();
    assert_eq!(at.texts(FIRST).await, ["stdout: i", "stdout: a"]);
    at.out("b");
    at.sentinels();
    assert_eq!(at.texts(SECOND).await, ["stdout: b"]);
}

/// C-63: the second line with a sentinel ends it, whatever the streams; such lines are not shown.
#[tokio::test]
async fn the_second_sentinel_ends_it_whatever_the_streams() {
    let at = Place::new(1);
    at.out("a");
    at.out(SENTINEL);
    at.out(&format!("words before {SENTINEL} and behind"));
    at.out("of the next");
    assert_eq!(at.texts(FIRST).await, ["stdout: a"]);
    let rest = at.collect(SECOND, false).await;
    assert_eq!(texts(&rest), ["stdout: of the next"]);
}

/// C-64: without sentinels it is what is there now, and not waited for.
#[tokio::test(start_paused = true)]
async fn without_sentinels_nothing_is_waited_for() {
    let at = Place::new(1);
    at.out("a");
    let began = Instant::now();
    assert_eq!(texts(&at.collect(FIRST, false).await), ["stdout: a"]);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// C-65: sentinels that never come are given up after two seconds of silence.
#[tokio::test(start_paused = true)]
async fn sentinels_that_never_come_are_given_up() {
    let at = Place::new(1);
    at.out("a");
    at.out(SENTINEL);
    let began = Instant::now();
    let logs = at.collect(FIRST, true).await;
    assert_eq!(
        texts(&logs),
        ["stdout: a".to_owned(), format!("stderr: {COLLECTION_FAILED}")]
    );
    assert!(logs.failed);
    assert!(
        (SILENCE..SILENCE + LONGEST_PAUSE * 2).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

/// C-65: an endless drip is given up after twice the log limit in seconds.
#[tokio::test(start_paused = true)]
async fn an_endless_drip_is_given_up() {
    let at = Arc::new(Place::new(1));
    let dripping = Arc::clone(&at);
    let drip = tokio::spawn(async move {
        loop {
            dripping.out("drip");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let began = Instant::now();
    assert!(at.collect(FIRST, true).await.failed);
    let limit = Duration::from_secs(20);
    assert!(
        (limit..limit + LONGEST_PAUSE * 2).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    drip.abort();
}

/// C-65: lines that come late are found.
#[tokio::test(start_paused = true)]
async fn sentinels_that_come_late_are_waited_for() {
    let at = Arc::new(Place::new(1));
    at.out("a");
    let late = Arc::clone(&at);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(900)).await;
        late.write_part(r#"{"log":"half of a "#);
        tokio::time::sleep(Duration::from_millis(900)).await;
        late.write(r#"line\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#);
        late.sentinels();
    });
    let logs = at.collect(FIRST, true).await;
    assert_eq!(texts(&logs), ["stdout: a", "stdout: half of a line"]);
    assert!(!logs.failed);
}

/// C-66, C-68: the raw lines count, sentinels too; the line beyond the limit is left out whole and that is said.
#[tokio::test]
async fn raw_lines_count_towards_the_limit() {
    let line = r#"{"log":"\u003c\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#;
    let raw = line.len() as u64 + 1;
    for (limit, shown, failed) in [(3 * raw, 3, false), (3 * raw - 1, 2, true)] {
        let at = Place::new(1);
        for _ in 0..3 {
            at.write(line);
        }
        let request = LogRequest {
            limit: Bytes(limit),
            sentinels: false,
            activation: FIRST,
        };
        let logs = collect(&at.log, request).await;
        assert_eq!(
            texts(&logs).iter().filter(|text| *text == "stdout: <").count(),
            shown
        );
        assert_eq!(logs.failed, failed);
        let note = format!(
            "stderr: Logs were truncated because the total bytes size exceeds the limit of {limit} bytes."
        );
        assert_eq!(texts(&logs).contains(&note), failed);
    }
}

/// C-66: a single line beyond the limit is an issue, not a truncation.
#[tokio::test]
async fn a_single_line_beyond_the_limit_is_an_issue() {
    let at = Place::new(1);
    at.out(&"x".repeat(3000));
    let request = LogRequest {
        limit: Bytes(2048),
        sentinels: false,
        activation: FIRST,
    };
    let logs = collect(&at.log, request).await;
    assert_eq!(texts(&logs), [format!("stderr: {COLLECTION_FAILED}")]);
    assert!(logs.failed);
}

/// C-69: without a file there is one line without time and stream.
#[tokio::test]
async fn a_missing_file_is_said_in_one_bare_line() {
    let at = Place::new(1);
    std::fs::remove_file(&at.file).expect("there");
    let logs = at.collect(FIRST, true).await;
    assert_eq!(logs.lines, [COLLECTION_FAILED]);
    assert!(logs.failed);
}

/// C-62: a process on the host itself finds the file where Docker says.
#[tokio::test]
async fn the_file_is_found_where_docker_says_it_is() {
    let at = Place::new(1);
    at.out("a");
    let elsewhere = Mutex::new(LogFile::new(Path::new("/nonexistent"), ID, 1));
    lock(&elsewhere).has_path_on_host(at.file.clone());
    let request = request(FIRST, false);
    assert_eq!(texts(&collect(&elsewhere, request).await), ["stdout: a"]);
}

/// C-73: where Docker begins the file anew, reading begins at its start.
#[tokio::test]
async fn a_file_that_was_begun_anew_is_read_from_its_start() {
    let at = Place::new(1);
    at.out("a long line before");
    at.sentinels();
    at.texts(FIRST).await;
    for (rotated, text) in [(true, "another line"), (false, "b")] {
        if rotated {
            std::fs::rename(&at.file, at.file.with_extension("log.1")).expect("renamed");
        } else {
            File::create(&at.file).expect("emptied");
        }
        at.out(text);
        at.sentinels();
        assert_eq!(at.texts(SECOND).await, [format!("stdout: {text}")]);
    }
}

/// C-80: sentinels with ids say whose lines are whose, in whatever order they are asked for.
#[tokio::test]
async fn parallel_activations_are_told_apart_by_their_ids() {
    let at = Place::new(16);
    at.out("second");
    at.both(&format!("{SENTINEL} {SECOND}"));
    at.out("first");
    at.both(&format!("{SENTINEL} {FIRST}"));
    assert_eq!(at.texts(FIRST).await, ["stdout: first"]);
    assert_eq!(at.texts(SECOND).await, ["stdout: second"]);
}

/// C-82: without ids lines may mix, but each comes once, none is lost, and no activation fails for it.
#[tokio::test]
async fn parallel_activations_without_ids_lose_no_line() {
    let at = Place::new(16);
    at.out("a1");
    at.out("b1");
    at.out(SENTINEL);
    at.out("b2");
    at.out(SENTINEL);
    at.err("c");
    at.err(SENTINEL);
    at.err(SENTINEL);
    let (first, second) = (at.collect(FIRST, true).await, at.collect(SECOND, true).await);
    assert!(!first.failed && !second.failed);
    assert_eq!(texts(&first), ["stdout: a1", "stdout: b1", "stderr: c"]);
    assert_eq!(texts(&second), ["stdout: b2"]);
}

/// C-82: nobody holds up the others while sentinels are waited for, and a missing one costs no container.
#[tokio::test(start_paused = true)]
async fn a_missing_sentinel_costs_no_shared_container() {
    let at = Place::new(16);
    at.out("a");
    at.sentinels();
    let began = Instant::now();
    let (first, second) = tokio::join!(at.collect(FIRST, true), at.collect(SECOND, true));
    assert!(!first.failed && !second.failed);
    assert_eq!(texts(&first), ["stdout: a"]);
    assert_eq!(texts(&second), [format!("stderr: {COLLECTION_FAILED}")]);
    assert!(began.elapsed() < SILENCE * 2);
}

/// C-66: a flood in a shared container is cut, and its sentinel is still found.
#[tokio::test]
async fn a_flood_in_a_shared_container_is_cut() {
    let at = Place::new(16);
    for _ in 0..1200 {
        at.out(&"x".repeat(10_000));
    }
    at.sentinels();
    at.out("b");
    at.sentinels();
    assert!(at.collect(FIRST, true).await.failed);
    assert_eq!(at.texts(SECOND).await, ["stdout: b"]);
}

/// A log file, and who writes it.
struct Place {
    _directory: tempfile::TempDir,
    file: PathBuf,
    log: Mutex<LogFile>,
}

impl Place {
    fn new(concurrency: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = LogFile::new(directory.path(), ID, concurrency);
        let file = log.path.clone();
        std::fs::create_dir(file.parent().expect("the container's")).expect("made");
        File::create(&file).expect("made");
        Self {
            _directory: directory,
            file,
            log: Mutex::new(log),
        }
    }

    fn write_part(&self, text: &str) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(&self.file)
            .expect("there");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn write(&self, line: &str) {
        self.write_part(&format!("{line}\n"));
    }

    fn line(&self, stream: &str, text: &str) {
        let log = serde_json::to_string(&format!("{text}\n")).expect("text");
        self.write(&format!(
            r#"{{"log":{log},"stream":"{stream}","time":"2026-01-01T00:00:00.123456789Z"}}"#
        ));
    }

    fn out(&self, text: &str) {
        self.line("stdout", text);
    }

    fn err(&self, text: &str) {
        self.line("stderr", text);
    }

    fn both(&self, text: &str) {
        self.out(text);
        self.err(text);
    }

    fn sentinels(&self) {
        self.both(SENTINEL);
    }

    async fn collect(&self, activation: ActivationId, sentinels: bool) -> Logs {
        collect(&self.log, request(activation, sentinels)).await
    }

    async fn texts(&self, activation: ActivationId) -> Vec<String> {
        let logs = self.collect(activation, true).await;
        assert!(!logs.failed, "{logs:?}");
        texts(&logs)
    }
}

fn request(activation: ActivationId, sentinels: bool) -> LogRequest {
    LogRequest {
        activation,
        limit: Bytes::mib(10),
        sentinels,
    }
}

fn texts(logs: &Logs) -> Vec<String> {
    logs.lines
        .iter()
        .map(|line| line.get(31..).unwrap_or(line).to_owned())
        .collect()
}
