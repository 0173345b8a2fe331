//! Documents as tables for people: a function's DAG, how its partitions rank, and where its lanes are.
//!
//! The daemon's status, the demo and `plan` show the same.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::dag::{DagDocument, Dim, NodeOutput, Source};
use proto::ffs::migs::MigsDocument;
use proto::ffs::ranking::RankingDocument;
use scheduler::decision::Decision;
use std::fmt::Write;

/// Partitions shown of a long ranking.
const SHOWN: usize = 12;

/// What a running instance was made from.
#[derive(Clone, Copy, Debug)]
pub struct Explained<'a> {
    pub dag: &'a DagDocument,
    pub ranking: &'a RankingDocument,
    pub assignment: &'a AssignmentDocument,
    pub migs: &'a MigsDocument,
    pub because: &'a Decision,
}

/// Everything about one instance, as text.
pub fn instance(of: &Explained<'_>) -> String {
    let mut text = format!("Function {} (revision {})\n\n", of.dag.function, of.dag.revision);
    text.push_str(&dag(of.dag));
    text.push('\n');
    text.push_str(&ranking(of.ranking, Some(of.assignment.rank)));
    text.push('\n');
    text.push_str(&placement(of));
    text
}

/// One line a component: what goes in, what comes out.
pub fn dag(dag: &DagDocument) -> String {
    let mut table = table(["component", "reads", "gives"]);
    for node in &dag.nodes {
        let reads: Vec<String> = node
            .inputs
            .iter()
            .map(|input| match &input.from {
                Source::Node { node, port } => format!("{node}:{port}"),
                Source::Input { input } => format!("input {input}"),
            })
            .collect();
        let gives: Vec<String> = node.outputs.iter().map(tensor).collect();
        table.add_row([node.id.to_string(), reads.join(", "), gives.join(", ")]);
    }
    let outputs: Vec<String> = dag
        .outputs
        .iter()
        .map(|output| format!("{} = {}:{}", output.name, output.node, output.port))
        .collect();
    format!("DAG\n{table}\nThe function returns {}.\n", outputs.join(", "))
}

fn tensor(output: &NodeOutput) -> String {
    let dims: Vec<String> = output
        .shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(n) => n.to_string(),
            Dim::Symbol(name) => name.clone(),
        })
        .collect();
    let dtype = serde_json::to_value(output.dtype).expect("a dtype has a name");
    format!(
        "{} {}[{}]",
        output.port,
        dtype.as_str().unwrap_or_default(),
        dims.join(",")
    )
}

/// The first partitions in rank order; `chosen` is marked, and shown even if it is far down.
pub fn ranking(ranking: &RankingDocument, chosen: Option<u64>) -> String {
    let mut table = table([
        "",
        "rank",
        "CV",
        "stages",
        "time of each stage, ms",
        "memory of each lane",
    ]);
    let mut left_out = 0;
    for (index, partition) in ranking.partitions.iter().enumerate() {
        let is_chosen = chosen == Some(partition.rank);
        if index >= SHOWN && !is_chosen {
            left_out += 1;
            continue;
        }
        let times: Vec<String> = partition
            .stages
            .iter()
            .map(|stage| format!("{:.1}", stage.time_ms.0))
            .collect();
        let lanes = partition.stages.iter().flat_map(|stage| &stage.lanes);
        let memory: Vec<String> = lanes.map(|lane| lane.memory_bytes.to_string()).collect();
        table.add_row([
            if is_chosen { "►" } else { "" }.to_owned(),
            partition.rank.to_string(),
            format!("{:.4}", partition.cv),
            partition.key.clone(),
            times.join(" | "),
            memory.join(" | "),
        ]);
    }
    let mut text = format!(
        "Ranking by coefficient of variation ({} partitions)\n{table}\n",
        ranking.total
    );
    if left_out > 0 {
        let _ = writeln!(text, "{left_out} more are not shown.");
    }
    text
}

/// Which lane sits on which slice, and why.
fn placement(of: &Explained<'_>) -> String {
    let ranked = of
        .ranking
        .partitions
        .iter()
        .find(|partition| partition.rank == of.assignment.rank);
    let mut table = table(["lane", "components", "slice", "profile", "needs", "slice has"]);
    for (index, stage) in of.assignment.stages.iter().enumerate() {
        for lane in &stage.lanes {
            let components: Vec<&str> = lane
                .components
                .iter()
                .map(|component| component.as_str())
                .collect();
            let needs = ranked
                .and_then(|p| p.stages.get(index))
                .and_then(|s| s.lanes.get(usize::from(lane.original().lane)));
            let name = match lane.replica_of {
                Some(original) => format!("{}, replica of {original}", lane.id),
                None => lane.id.to_string(),
            };
            table.add_row([
                name,
                components.join(", "),
                lane.mig.uuid.to_string(),
                lane.mig.profile.to_string(),
                needs.map_or_else(String::new, |lane| lane.memory_bytes.to_string()),
                lane.mig.memory_bytes.to_string(),
            ]);
        }
    }
    let mut text = format!(
        "Instance {}\n{table}\nWhy: {}\n",
        of.assignment.instance, of.because
    );
    for rejected in &of.because.rejected {
        let _ = writeln!(text, "  not {}: {}", rejected.key, rejected.because);
    }
    let states: Vec<String> = of
        .migs
        .slices
        .iter()
        .map(|slice| {
            format!(
                "{} {} ({})",
                slice.profile,
                slice.memory_bytes,
                state(slice.state)
            )
        })
        .collect();
    let _ = writeln!(text, "Slices when it was decided: {}", states.join(", "));
    text
}

fn state(state: proto::ffs::migs::SliceState) -> &'static str {
    use proto::ffs::migs::SliceState::{Fenced, Free, Hot, Shared};
    match state {
        Free => "free",
        Hot => "hot",
        Shared => "shared",
        Fenced => "fenced",
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}
