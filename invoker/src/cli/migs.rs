//! `ffs-invoker migs`: the slices as the daemon would see them.

use crate::gpu::simulated::{Host, Scaling, Simulated, overcommitment, parse_memory};
use crate::gpu::topology::Topology;
use crate::gpu::{GpuInventory, none};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use proto::ffs::migs::{MigsDocument, Slice, SliceState};
use proto::unit::Bytes;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    simulation: Simulation,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// The arguments of every command that may simulate its GPUs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Simulation {
    /// GPUs to simulate, such as '8x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB'
    #[arg(long, value_name = "TEXT")]
    pub topology: Option<Topology>,
    /// CPUs that stand for one whole GPU [default: 0.6 of the host's]
    #[arg(long, value_name = "CPUS", allow_negative_numbers = true)]
    pub gpu_cpus: Option<f64>,
    /// Memory that stands for one whole GPU, such as 2GiB [default: the model's]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub gpu_memory: Option<Bytes>,
}

impl Simulation {
    /// The inventory that the arguments name.
    ///
    /// # Errors
    /// If no slice could be simulated so.
    pub fn inventory(&self, host: &Host) -> anyhow::Result<Box<dyn GpuInventory>> {
        let scaling = Scaling::new(self.gpu_cpus, self.gpu_memory, host).map_err(anyhow::Error::msg)?;
        Ok(match self.topology.clone() {
            Some(topology) => Box::new(Simulated { topology, scaling }),
            None => Box::new(none::None),
        })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let host = Host::read();
    let document = arguments.simulation.inventory(&host)?.read()?;
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&document)?),
        Format::Table => print!("{}", print(&document)),
    }
    if let Some(sentence) = overcommitment(&document, &host) {
        eprintln!("ffs-invoker: {sentence}");
    }
    Ok(ExitCode::SUCCESS)
}

fn print(document: &MigsDocument) -> String {
    if document.slices.is_empty() {
        return "There are no slices: functions run unsplit. --topology simulates some.\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "GPU", "model", "slice", "slots", "SMs", "memory", "CPUs", "state", "UUID",
    ]);
    for slice in &document.slices {
        table.add_row(row(document, slice));
    }
    for column in [0, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let gpus = document.gpus.len();
    let slices = document.slices.len();
    format!("{}\n{slices} slices on {gpus} GPUs\n", table.trim_fmt())
}

fn row(document: &MigsDocument, slice: &Slice) -> [String; 9] {
    let gpu = document.gpus.iter().find(|gpu| gpu.uuid == slice.gpu_uuid);
    let known = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    [
        known(gpu.map(|gpu| gpu.index.to_string())),
        known(gpu.map(|gpu| gpu.model.clone())),
        slice.profile.to_string(),
        known(
            slice
                .placement
                .map(|p| format!("{}–{}", p.start, p.start + p.size - 1)),
        ),
        known(slice.sms.map(|sms| sms.to_string())),
        slice.memory_bytes.to_string(),
        known(slice.cpu_quota.map(|cpus| format!("{cpus:.2}"))),
        state(slice.state).to_owned(),
        slice.uuid.to_string(),
    ]
}

fn state(state: SliceState) -> &'static str {
    match state {
        SliceState::Free => "free",
        SliceState::Hot => "hot",
        SliceState::Shared => "shared",
        SliceState::Fenced => "fenced",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_slice_once() {
        let text = print(&read(Some("2x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB")));
        assert!(text.ends_with("6 slices on 2 GPUs\n"), "{text}");
        assert_eq!(text.matches("4–5").count(), 2, "{text}");
        assert_eq!(text.matches("MIG-").count(), 6, "{text}");
    }

    #[test]
    fn without_slices_it_says_how_to_get_some() {
        assert!(print(&read(None)).contains("--topology"));
    }

    fn read(topology: Option<&str>) -> MigsDocument {
        let simulation = Simulation {
            topology: topology.map(|text| text.parse().expect("legal")),
            ..Simulation::default()
        };
        let inventory = simulation.inventory(&Host::read()).expect("sensible");
        inventory.read().expect("simulated")
    }
}
