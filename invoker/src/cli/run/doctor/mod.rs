//! `ffs-invoker doctor`: looks at each part that `run` needs with the same settings, and says what is wrong and how to
//! mend it. It starts nothing, and leaves a running invoker alone.

mod gpus;
mod machine;
mod parts;

use super::arguments::CommandLine;
use super::edges;
use crate::config::environment::Environment;
use crate::config::load::{self, Configuration};
use crate::config::node::EngineKind;
use crate::config::reader::Reader;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::process::ExitCode;

/// Check Kafka, CouchDB, Docker, slices, directories and permissions before an invoker starts
///
/// It takes the arguments and the environment of `run`. Exit code 1 if something has failed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// --id N, --uniqueName NAME, --config FILE: as for `run`
    #[arg(
        value_name = "OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        num_args = 0..
    )]
    tokens: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Failed,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    what: String,
    value: String,
    /// What to do; empty if all is well.
    advice: String,
}

impl Finding {
    fn ok(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            value: value.into(),
            advice: String::new(),
        }
    }

    fn warning(what: impl Into<String>, value: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            advice: advice.into(),
            ..Self::ok(what, value)
        }
    }

    fn failed(what: impl Into<String>, value: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Failed,
            advice: advice.into(),
            ..Self::ok(what, value)
        }
    }
}

/// Looks, prints, and says by the exit code whether an invoker could start.
pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // No log is started: what the parts say there is found again in what they answer.
    let findings = runtime.block_on(look(&environment, &arguments.tokens));
    runtime.shutdown_background();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print!("{}", print(&findings));
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Failed);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn look(environment: &Environment, tokens: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let command_line = match CommandLine::parse(tokens) {
        Ok(command_line) => command_line,
        Err(error) => {
            let advice = "give doctor the arguments that run gets";
            return vec![Finding::failed("arguments", error.to_string(), advice)];
        }
    };
    findings.push(id(&command_line));
    let layers = match load::layers(environment, command_line.config.as_deref()) {
        Ok(layers) => layers,
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            findings.push(Finding::failed("settings", error, "mend the file"));
            return findings;
        }
    };
    let mut reader = Reader::new(&layers);
    let mut configuration = load::read(&mut reader);
    let edges = edges::read(&mut reader, &configuration);
    let report = reader.finish();
    for problem in &report.problems {
        let advice = "ffs-invoker run --print-config shows where each value comes from";
        findings.push(Finding::failed("settings", problem.to_string(), advice));
    }
    if !report.problems.is_empty() {
        return findings; // the parts would be looked for in the wrong places
    }
    configuration.settings.identity.id = command_line.id.unwrap_or_default();
    findings.push(Finding::ok(
        "settings",
        format!("{} are set", report.settings.len()),
    ));
    findings.push(manifest(&configuration));
    let (kafka, couchdb, engine) = tokio::join!(
        parts::kafka(edges.kafka, &configuration),
        parts::couchdb(&edges.couchdb),
        async {
            match configuration.node.engine {
                EngineKind::Docker => parts::docker(&edges.docker).await,
                EngineKind::Process => (machine::process_engine(&configuration).await, None),
            }
        }
    );
    let (engine, docker) = engine;
    findings.extend(kafka.into_iter().chain(couchdb).chain(engine));
    findings.extend(machine::directories(&configuration));
    findings.push(machine::shared_memory(std::path::Path::new("/dev/shm")));
    findings.extend(gpus::slices(&configuration, docker.as_ref()));
    findings
}

fn id(command_line: &CommandLine) -> Finding {
    match (command_line.id, &command_line.unique_name) {
        (Some(id), _) => Finding::ok("id", id.to_string()),
        (None, Some(name)) => Finding::warning(
            "id",
            format!("from ZooKeeper, by the name {name}"),
            "it is not asked for here: that would register the name",
        ),
        (None, None) => Finding::failed(
            "id",
            "none",
            "give --id N, or --uniqueName NAME and ZOOKEEPER_HOSTS",
        ),
    }
}

fn manifest(configuration: &Configuration) -> Finding {
    let runtimes = &configuration.settings.runtimes;
    let kinds: Vec<&str> = runtimes.all().map(|runtime| runtime.kind.as_str()).collect();
    let stem_cells: u32 = runtimes.stem_cells().map(|cell| cell.initial_count).sum();
    if kinds.is_empty() {
        let advice = "RUNTIMES_MANIFEST has to name the kinds that the controllers know";
        return Finding::failed("runtimes manifest", "no kind", advice);
    }
    let stem_cells = match stem_cells {
        0 => "no stem cells".to_owned(),
        count => format!("{count} stem cells"),
    };
    Finding::ok("runtimes manifest", format!("{}; {stem_cells}", kinds.join(", ")))
}

fn print(findings: &[Finding]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["", "what", "found, and what to do"]);
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Failed => "FAILED",
        };
        let mut text = finding.value.clone();
        if !finding.advice.is_empty() {
            text = format!("{text}\n→ {}", finding.advice);
        }
        table.add_row([level, &finding.what, &text]);
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (failed, warnings) = (count(Level::Failed), count(Level::Warning));
    let verdict = match failed {
        0 => "an invoker can start",
        _ => "an invoker cannot start, or not work",
    };
    format!(
        "{}\n{verdict}: {failed} failed, {warnings} warnings\n",
        table.trim_fmt()
    )
}

#[cfg(test)]
mod tests;
