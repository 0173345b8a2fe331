//! `ffs-invoker wire KIND`: messages and documents, decoded and encoded again, to look into a topic.
//!
//! What comes out is what this program understood. A line that it does not understand, or that
//! would come out as another JSON value, is reported instead of printed.

mod difference;
mod spelling;

use proto::decode::decode;
use proto::ffs::annotation::Annotation;
use proto::{ffs, whisk};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

/// Decodes JSON lines from standard input and prints them encoded again.
///
/// Each line is one message or document; empty lines are skipped. A line that cannot be represented
/// faithfully (it does not decode, a member is not known and would be dropped, a value would change) is
/// not printed: standard error says which line and why, the lines after it are still read, and the exit
/// code is 1. The order of members, numbers such as 1e2 for 100, null for an absent member, and the other
/// spellings that OpenWhisk reads as the same are faithful; they come out as OpenWhisk writes them.
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
    /// The document of a subject or of a namespace's limits in CouchDB, or a view's answer.
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
    /// Ours: lines between the invoker and a lane.
    Control,
    /// Ours: the value of the annotation ffs.
    Annotation,
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
        match recode(kind, text).map_err(|reason| reason.replace(" at line 1 column ", " at column ")) {
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
        Kind::Dag => checked::<ffs::dag::DagDocument>(text),
        Kind::Profile => checked::<ffs::profile::ProfileDocument>(text),
        Kind::Ranking => checked::<ffs::ranking::RankingDocument>(text),
        Kind::Assignment => checked::<ffs::assignment::AssignmentDocument>(text),
        Kind::Migs => checked::<ffs::migs::MigsDocument>(text),
        Kind::State => checked::<ffs::state::StateDocument>(text),
        Kind::Control => control(text),
        Kind::Annotation => annotation(text),
    }
}

fn through<T: DeserializeOwned + Serialize>(text: &[u8]) -> Result<Vec<u8>, String> {
    let document: T = decode(text).map_err(|error| error.to_string())?;
    faithful(text, &document)
}

fn checked<D: ffs::Document>(text: &[u8]) -> Result<Vec<u8>, String> {
    let document: D = ffs::read(text).map_err(|error| error.to_string())?;
    faithful(text, &document)
}

/// Either side's line; which side speaks shows in the members alone.
fn control(text: &[u8]) -> Result<Vec<u8>, String> {
    through::<ffs::control::LaneMessage>(text).or_else(|of_lane| {
        let of_invoker = through::<ffs::control::InvokerMessage>(text);
        of_invoker.map_err(|of_invoker| format!("as a lane's: {of_lane}; as the invoker's: {of_invoker}"))
    })
}

fn annotation(text: &[u8]) -> Result<Vec<u8>, String> {
    let value: Value = decode(text).map_err(|error| error.to_string())?;
    match Annotation::parse(&value).map_err(|error| error.to_string())? {
        // `false` and `null` say that there is none; so does what comes out.
        None => Ok(text.to_vec()),
        Some(annotation) => match &value {
            Value::String(inner) => faithful(inner.as_bytes(), &annotation),
            _ => faithful(text, &annotation),
        },
    }
}

fn faithful(text: &[u8], document: &impl Serialize) -> Result<Vec<u8>, String> {
    let encoded = serde_json::to_vec(document).map_err(|error| error.to_string())?;
    if encoded == text {
        return Ok(encoded);
    }
    let input: Value = decode(text).map_err(|error| error.to_string())?;
    let output: Value = decode(&encoded).map_err(|error| error.to_string())?;
    match difference::first(&input, &output) {
        None => Ok(encoded),
        Some(reason) => Err(reason),
    }
}
