//! `ffs-invoker wire KIND`: messages and documents, decoded and encoded again, to look into a topic.
//!
//! What comes out is what this program understood. A line that it does not understand, or that
//! would come out as another JSON value, is reported instead of printed.

mod difference;

use proto::decode::decode;
use proto::{ffs, whisk};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

/// Decodes JSON lines from standard input and prints them encoded again.
///
/// Each line is one message or document; empty lines are skipped. A line that cannot be represented
/// faithfully (it does not decode, a member would be dropped, a value would change) is not printed:
/// standard error says which line and why, the lines after it are still read, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the lines are.
    kind: Kind,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// What arrives on topic invokerN.
    Activation,
    /// Signs of life on topic health.
    Ping,
    /// Answers on topic completedC: result, completion, or both.
    Ack,
    /// User events on topic events.
    Event,
    /// The document of an action in CouchDB.
    Action,
    /// The document of an activation in CouchDB.
    Record,
    /// The document of a subject, or of a namespace's limits, in CouchDB.
    Auth,
    /// Ours: a function's components and edges, dag.json.
    Dag,
    /// Ours: times and memory of components, profile.json.
    Profile,
    /// Ours: partitions in rank order, ranking.json.
    Ranking,
    /// Ours: which lane runs what on which slice, assignment.json.
    Assignment,
    /// Ours: the slices, migs.json.
    Migs,
    /// Ours: the desired state of an instance.
    State,
}

/// Standard input to standard output, until the end of either.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match copy(arguments.kind, io::stdin().lock(), io::stdout().lock()) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        // The reader has seen enough: `ffs-invoker wire … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

/// Whether every line was faithful.
fn copy(kind: Kind, mut input: impl BufRead, output: impl Write) -> io::Result<bool> {
    let mut output = io::LineWriter::new(output);
    let mut line = Vec::new();
    let mut faithful = true;
    for number in 1_u64.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match recode(kind, text) {
            Ok(mut encoded) => {
                encoded.push(b'\n');
                output.write_all(&encoded)?;
            }
            Err(reason) => {
                faithful = false;
                // A closed standard error takes nothing from the lines that are good.
                let _ = writeln!(io::stderr(), "line {number}: {reason}");
            }
        }
    }
    output.flush()?;
    Ok(faithful)
}

fn recode(kind: Kind, text: &[u8]) -> Result<Vec<u8>, String> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(format!("not UTF-8 from byte {} on", error.valid_up_to() + 1));
    }
    match kind {
        Kind::Activation => through::<whisk::activation_message::ActivationMessage>(text),
        Kind::Ping => through::<whisk::ping::PingMessage>(text),
        Kind::Ack => through::<whisk::acknowledgement::Acknowledgement>(text),
        Kind::Event => through::<whisk::event::EventMessage>(text),
        Kind::Action => through::<whisk::action::ActionDocument>(text),
        Kind::Record => through::<whisk::record::Record>(text),
        Kind::Auth => through::<whisk::subject::AuthDocument>(text),
        Kind::Dag => through::<ffs::dag::DagDocument>(text),
        Kind::Profile => through::<ffs::profile::ProfileDocument>(text),
        Kind::Ranking => through::<ffs::ranking::RankingDocument>(text),
        Kind::Assignment => through::<ffs::assignment::AssignmentDocument>(text),
        Kind::Migs => through::<ffs::migs::MigsDocument>(text),
        Kind::State => through::<ffs::state::StateDocument>(text),
    }
}

fn through<T: DeserializeOwned + Serialize>(text: &[u8]) -> Result<Vec<u8>, String> {
    let document: T = decode(text).map_err(|error| error.to_string())?;
    faithful(text, &document)
}

fn faithful(text: &[u8], document: &impl Serialize) -> Result<Vec<u8>, String> {
    let encoded = serde_json::to_vec(document).map_err(|error| error.to_string())?;
    let input: Value = decode(text).map_err(|error| error.to_string())?;
    let output: Value = decode(&encoded).map_err(|error| error.to_string())?;
    match difference::first(&input, &output) {
        None => Ok(encoded),
        Some(reason) => Err(reason),
    }
}
