//! `ffs-invoker migs`: the slices as the daemon would see them.

use crate::config::node::InventoryKind;
use crate::gpu::nvml::Nvml;
use crate::gpu::simulated::{Host, Scaling, Simulated, overcommitment, parse_memory};
use crate::gpu::topology::Topology;
use crate::gpu::{GpuInventory, none};
use anyhow::Context;
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use proto::ffs::migs::{MigsDocument, Slice, SliceState};
use proto::unit::Bytes;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::info;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gpus: GpuArguments,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// The arguments of every command that has to know the GPUs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct GpuArguments {
    /// Where slices come from [default: simulated if there is a topology]
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub inventory: Option<InventoryKind>,
    /// NVML's library [default: libnvidia-ml.so.1, wherever the system finds it]
    #[arg(long, value_name = "FILE")]
    pub nvml_library: Option<PathBuf>,
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

impl GpuArguments {
    /// The inventory that the arguments name.
    ///
    /// # Errors
    /// If no slice could be simulated so, or NVML cannot be used.
    pub fn inventory(&self, host: &Host) -> anyhow::Result<Box<dyn GpuInventory>> {
        let scaling = Scaling::new(self.gpu_cpus, self.gpu_memory, host).map_err(anyhow::Error::msg)?;
        let nvml = || Nvml::open(self.nvml_library.as_deref());
        let source = self.source();
        anyhow::ensure!(
            self.topology.is_none() || source == InventoryKind::Simulated,
            "--topology is for an inventory that is simulated, not {source:?}"
        );
        Ok(match source {
            InventoryKind::None => Box::new(none::None),
            InventoryKind::Simulated => Box::new(Simulated {
                topology: self.topology.clone().context(
                    "an inventory that is simulated needs --topology, such as [4g.40gb+3g.40gb]@A100-80GB",
                )?,
                scaling,
            }),
            InventoryKind::Nvml => Box::new(nvml()?),
            InventoryKind::Auto => match nvml() {
                Ok(nvml) => Box::new(nvml),
                Err(error) => {
                    info!(%error, "there are no slices: functions run unsplit");
                    Box::new(none::None)
                }
            },
        })
    }

    fn source(&self) -> InventoryKind {
        self.inventory.unwrap_or(match self.topology {
            Some(_) => InventoryKind::Simulated,
            None => InventoryKind::None,
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
    let document = arguments.gpus.inventory(&host)?.read()?;
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
        let arguments = GpuArguments {
            topology: topology.map(|text| text.parse().expect("legal")),
            ..GpuArguments::default()
        };
        let inventory = arguments.inventory(&Host::read()).expect("sensible");
        inventory.read().expect("simulated")
    }
}
