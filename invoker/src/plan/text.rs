//! The plan for people: the graph, the ranking, what was chosen and what was not.

use super::{Plan, goal, ms, per_second};
use comfy_table::{CellAlignment, Table, presets};
use scheduler::dag::Origin;
use scheduler::placement::Placement;
use std::fmt::Write;

/// How many partitions of the ranking are shown.
const RANKED: usize = 10;
/// How many of those that were not taken are shown.
const REJECTED: usize = 20;

impl Plan {
    /// All of it, section by section.
    pub fn text(&self) -> String {
        let sections = [
            self.graph(),
            self.ranked(),
            self.choice(),
            self.refused(),
            self.compared(),
        ];
        sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    /// The components, what they read, and what they cost.
    fn graph(&self) -> Option<String> {
        let profiles = self.profile.slice_profiles();
        let header = ["component", "reads", "memory"].map(str::to_owned);
        let times = profiles.iter().map(|profile| format!("ms on {profile}"));
        let mut table = table(header.into_iter().chain(times).collect());
        for (at, id) in self.dag.ids().iter().enumerate() {
            let lane = scheduler::dag::ComponentSet::of(at);
            let mut row = vec![
                id.to_string(),
                self.reads(at),
                self.profile.memory(lane).to_string(),
            ];
            row.extend(
                profiles
                    .iter()
                    .map(|profile| self.profile.time(lane, profile).map_or("–".to_owned(), ms)),
            );
            table.add_row(row);
        }
        let outputs = self.dag.outputs().iter();
        let outputs: Vec<String> = outputs
            .map(|output| format!("{} from {}", output.name, self.dag.id(output.component)))
            .collect();
        Some(format!(
            "{} ({}): {}, {}; returns {}\n{}\n",
            self.dag.function(),
            self.dag.revision(),
            counted(self.dag.len(), "component"),
            counted(self.ranking.atoms.len(), "atom"),
            outputs.join(", "),
            aligned(table, 2..)
        ))
    }

    fn reads(&self, component: usize) -> String {
        let mut names: Vec<&str> = Vec::new();
        for origin in &self.dag.component(component).inputs {
            let name = match origin {
                Origin::Port { component, .. } => self.dag.id(*component).as_str(),
                Origin::Input(input) => &self.dag.inputs()[*input].name,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    /// The first partitions, and the chosen one wherever it is.
    fn ranked(&self) -> Option<String> {
        let ranking = &self.ranking;
        let header = [
            "",
            "rank",
            "partition",
            "CV",
            "slices",
            "bottleneck ms",
            "latency ms",
            "largest lane",
        ];
        let mut table = table(header.map(str::to_owned).to_vec());
        let chosen = self.chosen().map(|placement| placement.rank);
        let shown = (0..ranking.len().min(RANKED)).chain(chosen.filter(|rank| *rank >= RANKED));
        for rank in shown {
            let lanes = ranking.lanes(rank).concat();
            table.add_row([
                if chosen == Some(rank) { "→" } else { "" }.to_owned(),
                rank.to_string(),
                ranking.key(rank),
                format!("{:.3}", ranking.cv(rank)),
                lanes.len().to_string(),
                ms(ranking.bottleneck(rank)),
                ms(ranking.latency(rank)),
                lanes
                    .iter()
                    .map(|lane| lane.memory)
                    .max()
                    .unwrap_or_default()
                    .to_string(),
            ]);
        }
        let mut text = format!(
            "Ranking by {}: {} in mode {}, each lane timed on the smallest slice that holds it",
            goal(ranking.options.by),
            counted(ranking.total, "partition"),
            format!("{:?}", ranking.mode).to_lowercase(),
        );
        if ranking.coarsened {
            text.push_str("; neighbouring atoms were merged, because there were more than 16");
        }
        let _ = write!(text, "\n{}\n", aligned(table, 3..));
        if let Some(more) = ranking.total.checked_sub(RANKED).filter(|more| *more > 0) {
            let _ = writeln!(text, "and {more} more");
        }
        Some(text)
    }

    /// Which lane runs where, and what comes of it.
    fn choice(&self) -> Option<String> {
        let Some(placement) = self.chosen() else {
            return Some(format!("No plan: {}.\n", self.because()));
        };
        let header = [
            "lane",
            "components",
            "needs",
            "slice has",
            "slice",
            "GPU",
            "ms",
            "UUID",
        ];
        let mut table = table(header.map(str::to_owned).to_vec());
        for lane in &placement.lanes {
            table.add_row([
                lane.id.to_string(),
                self.ranking.names(lane.components),
                lane.memory.to_string(),
                lane.slice.memory_bytes.to_string(),
                lane.slice.profile.to_string(),
                self.gpu_index(&lane.slice.gpu_uuid)
                    .map_or("–".to_owned(), |index| index.to_string()),
                ms(lane.time),
                lane.slice.uuid.to_string(),
            ]);
        }
        for column in [2, 3, 5, 6] {
            align_right(&mut table, column);
        }
        let meets = if placement.latency <= self.slo {
            "within"
        } else {
            "beyond"
        };
        Some(format!(
            "Chosen: {}\nbecause {}.\n{}\nlatency {} ms ({} ms of it transfers), {meets} the SLO of {} ms; \
             bottleneck {} ms: {:.1} requests a second\n",
            placement.key,
            self.because(),
            table.trim_fmt(),
            ms(placement.latency),
            ms(placement.transfer),
            ms(self.slo),
            ms(placement.bottleneck),
            per_second(placement),
        ))
    }

    pub(super) fn gpu_index(&self, uuid: &proto::id::GpuUuid) -> Option<u32> {
        let mut gpus = self.documents.migs.gpus.iter();
        gpus.find(|gpu| gpu.uuid == *uuid).map(|gpu| gpu.index)
    }

    /// What else was looked at.
    fn refused(&self) -> Option<String> {
        let rejected = self.rejected();
        let count = rejected.len();
        if count == 0 {
            return None;
        }
        let mut table = table(vec!["not taken".to_owned(), "because".to_owned()]);
        for (key, because) in rejected.take(REJECTED) {
            table.add_row([key, because]);
        }
        let mut text = format!("{}\n", table.trim_fmt());
        if count > REJECTED {
            let _ = writeln!(
                text,
                "and {} more (--format json lists them all)",
                count - REJECTED
            );
        }
        Some(text)
    }

    /// The same free slices with another goal.
    fn compared(&self) -> Option<String> {
        self.chosen()?;
        let header = [
            "goal",
            "would choose",
            "slices",
            "latency ms",
            "bottleneck ms",
            "requests/s",
        ];
        let mut table = table(header.map(str::to_owned).to_vec());
        for (by, placement) in &self.goals {
            let marked = format!(
                "{}{}",
                goal(*by),
                if *by == self.options.by {
                    " (asked for)"
                } else {
                    ""
                }
            );
            let mut row = vec![marked];
            match placement {
                Some(placement) => row.extend([
                    placement.key.clone(),
                    profiles(placement),
                    ms(placement.latency),
                    ms(placement.bottleneck),
                    format!("{:.1}", per_second(placement)),
                ]),
                None => row.push("nothing".to_owned()),
            }
            table.add_row(row);
        }
        Some(format!("On the same free slices\n{}\n", aligned(table, 3..)))
    }
}

/// `2g.20gb, 1g.10gb`, lane by lane.
fn profiles(placement: &Placement) -> String {
    let profiles: Vec<&str> = placement
        .lanes
        .iter()
        .map(|lane| lane.slice.profile.as_str())
        .collect();
    profiles.join(", ")
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// The table with these columns, all numbers, to the right.
fn aligned(mut table: Table, columns: std::ops::RangeFrom<usize>) -> String {
    for column in columns.take(table.column_count()) {
        align_right(&mut table, column);
    }
    table.trim_fmt()
}
