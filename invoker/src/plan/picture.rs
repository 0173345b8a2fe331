//! The plan as a picture (SVG): the stages in a row, below them the GPUs with their slices, each
//! lane in its stage's colour on the slice that it takes.

use super::svg::{Drawing, Frame};
use super::{Plan, ms, per_second};
use proto::ffs::migs::{Gpu, Slice, SliceState};
use scheduler::placement::{PlacedLane, Placement};

const WIDTH: u32 = 960;
const MARGIN: u32 = 24;
const INNER: u32 = WIDTH - 2 * MARGIN;
const LANE_HEIGHT: u32 = 58;
const SLICE_HEIGHT: u32 = 70;
/// GPUs that are drawn beyond those that take a lane.
const OTHER_GPUS: usize = 8;
/// Fills of the stages, one after the other; text on them is dark. Told apart with any colour vision.
const COLOURS: [&str; 7] = [
    "#8ec5ff", "#ffcf70", "#9fe3b4", "#f4a8c0", "#cdb8f5", "#f7b38a", "#b9d4d0",
];

impl Plan {
    /// A picture of the stages on the slices, or of the slices and why nothing fits them.
    pub fn picture(&self) -> String {
        let mut drawing = Drawing::new(WIDTH, MARGIN);
        drawing.text(MARGIN, 36, "title", &self.heading());
        match self.chosen() {
            Some(placement) => self.draw_stages(&mut drawing, placement),
            None => {
                drawing.y = 58;
                drawing.paragraph(&format!("No plan: {}.", self.because()));
            }
        }
        self.draw_gpus(&mut drawing);
        drawing.finish(&self.heading())
    }

    fn heading(&self) -> String {
        let name = format!("{} ({})", self.dag.function(), self.dag.revision());
        match self.chosen() {
            Some(placement) => format!("{name} as {}", placement.key),
            None => name,
        }
    }

    fn draw_stages(&self, drawing: &mut Drawing, placement: &Placement) {
        drawing.text(
            MARGIN,
            58,
            "note",
            &format!(
                "rank {}, CV {:.3} · latency {} ms, {} ms of it transfers · bottleneck {} ms · {:.1} requests a second",
                placement.rank,
                placement.cv,
                ms(placement.latency),
                ms(placement.transfer),
                ms(placement.bottleneck),
                per_second(placement)
            ),
        );
        let stages = placement.stages() as u32;
        let gap = if stages > 8 { 12 } else { 28 };
        let width = (INNER - gap * (stages - 1)) / stages;
        let deepest = placement
            .lanes
            .iter()
            .map(|lane| u32::from(lane.id.lane) + 1)
            .max()
            .unwrap_or(1);
        let top = 96;
        for stage in 0..stages {
            let x = MARGIN + stage * (width + gap);
            drawing.text(x, top - 8, "note", &format!("stage {stage}"));
            if stage > 0 {
                let middle = top + LANE_HEIGHT / 2;
                drawing.arrow(x - gap + 3, x - 3, middle);
            }
        }
        for lane in &placement.lanes {
            let x = MARGIN + u32::from(lane.id.stage) * (width + gap);
            let y = top + u32::from(lane.id.lane) * (LANE_HEIGHT + 8);
            drawing.open_group(&self.lane_title(lane));
            drawing.rect(
                Frame {
                    x,
                    y,
                    width,
                    height: LANE_HEIGHT,
                },
                colour(lane),
                "lane",
            );
            drawing.text_within(
                x + 8,
                y + 22,
                width - 16,
                "strong",
                &self.ranking.names(lane.components),
            );
            let line = format!("{} · {} ms · {}", lane.id, ms(lane.time), lane.memory);
            drawing.text_within(x + 8, y + 42, width - 16, "small", &line);
            drawing.close_group();
        }
        drawing.y = top + deepest * (LANE_HEIGHT + 8) + 12;
    }

    fn lane_title(&self, lane: &PlacedLane) -> String {
        format!(
            "{}: {} needs {} and takes {} ms on {} {} ({})",
            lane.id,
            self.ranking.names(lane.components),
            lane.memory,
            ms(lane.time),
            lane.slice.profile,
            lane.slice.uuid,
            lane.slice.memory_bytes
        )
    }

    /// The GPUs that take a lane, and a few others.
    fn draw_gpus(&self, drawing: &mut Drawing) {
        let migs = &self.documents.migs;
        let takes_a_lane = |gpu: &Gpu| {
            let mut lanes = self.chosen().into_iter().flat_map(|placement| &placement.lanes);
            lanes.any(|lane| lane.slice.gpu_uuid == gpu.uuid)
        };
        let mut others = 0;
        let shown: Vec<&Gpu> = migs
            .gpus
            .iter()
            .filter(|gpu| {
                let takes = takes_a_lane(gpu);
                others += usize::from(!takes);
                takes || others <= OTHER_GPUS
            })
            .collect();
        for gpu in &shown {
            self.draw_gpu(drawing, gpu);
        }
        let hidden = migs.gpus.len() - shown.len();
        if hidden > 0 {
            drawing.paragraph(&format!("and {hidden} more GPUs without a lane of this plan"));
        }
    }

    fn draw_gpu(&self, drawing: &mut Drawing, gpu: &Gpu) {
        let top = drawing.y + 18;
        let label = format!("GPU {} · {} · {}", gpu.index, gpu.model, gpu.memory_bytes);
        drawing.text(MARGIN, top - 6, "note", &label);
        drawing.rect(
            Frame {
                x: MARGIN,
                y: top,
                width: INNER,
                height: SLICE_HEIGHT + 6,
            },
            "none",
            "gpu",
        );
        let slices: Vec<&Slice> = self
            .documents
            .migs
            .slices
            .iter()
            .filter(|slice| slice.gpu_uuid == gpu.uuid)
            .collect();
        for (slice, (start, end)) in slices.iter().zip(extents(gpu, &slices)) {
            let x = MARGIN + 3 + (f64::from(INNER - 6) * start).round() as u32;
            let right = MARGIN + 3 + (f64::from(INNER - 6) * end).round() as u32;
            let frame = Frame {
                x,
                y: top + 3,
                width: (right - x).saturating_sub(3),
                height: SLICE_HEIGHT,
            };
            self.draw_slice(drawing, slice, frame);
        }
        drawing.y += SLICE_HEIGHT + 40;
    }

    fn draw_slice(&self, drawing: &mut Drawing, slice: &Slice, frame: Frame) {
        let mut lanes = self.chosen().into_iter().flat_map(|placement| &placement.lanes);
        let lane = lanes.find(|lane| lane.slice.uuid == slice.uuid);
        let Frame { x, y, width, height } = frame;
        let room = width.saturating_sub(16);
        match lane {
            Some(lane) => {
                drawing.open_group(&self.lane_title(lane));
                drawing.rect(frame, "#ffffff", "slice");
                // How much of the slice's memory the lane fills.
                let filled = lane.memory.0 as f64 / slice.memory_bytes.0.max(1) as f64;
                let part = Frame {
                    width: (f64::from(width) * filled).round() as u32,
                    ..frame
                };
                drawing.rect(part, colour(lane), "fill");
                let names = format!("{} {}", lane.id, self.ranking.names(lane.components));
                drawing.text_within(x + 8, y + 20, room, "strong", &names);
                drawing.text_within(x + 8, y + 40, room, "small", slice.profile.as_str());
                let line = format!("{} of {}", lane.memory, slice.memory_bytes);
                drawing.text_within(x + 8, y + 58, room, "small", &line);
            }
            None => {
                let state = match slice.state {
                    SliceState::Free => "free",
                    SliceState::Hot => "hot",
                    SliceState::Shared => "shared",
                    SliceState::Fenced => "fenced",
                };
                drawing.open_group(&format!("{} {state}, {}", slice.profile, slice.uuid));
                let fill = if slice.state == SliceState::Free {
                    "#f6f7f9"
                } else {
                    "#d5d9de"
                };
                drawing.rect(Frame { x, y, width, height }, fill, "slice");
                drawing.text_within(x + 8, y + 20, room, "muted", slice.profile.as_str());
                drawing.text_within(x + 8, y + 40, room, "muted small", state);
                drawing.text_within(
                    x + 8,
                    y + 58,
                    room,
                    "muted small",
                    &slice.memory_bytes.to_string(),
                );
            }
        }
        drawing.close_group();
    }
}

fn colour(lane: &PlacedLane) -> &'static str {
    COLOURS[usize::from(lane.id.stage) % COLOURS.len()]
}

/// Where each slice begins and ends on its GPU, as parts of its width: by memory slots where they
/// are known, else side by side by memory.
fn extents(gpu: &Gpu, slices: &[&Slice]) -> Vec<(f64, f64)> {
    let slots = |slice: &&Slice| {
        slice
            .placement
            .map(|placed| (placed.start, placed.start + placed.size))
    };
    if let Some(placed) = slices.iter().map(slots).collect::<Option<Vec<_>>>() {
        let last = placed.iter().map(|(_, end)| *end).max().unwrap_or(0);
        let of = f64::from(last.max(memory_slots(gpu, slices)));
        return placed
            .iter()
            .map(|(start, end)| (f64::from(*start) / of, f64::from(*end) / of))
            .collect();
    }
    let total: u64 = slices.iter().map(|slice| slice.memory_bytes.0).sum();
    let mut end = 0.0;
    let part = |slice: &&Slice| {
        let start = end;
        end += slice.memory_bytes.0 as f64 / total.max(1) as f64;
        (start, end)
    };
    slices.iter().map(part).collect()
}

/// 8, or 4 on the GPUs whose slots are a quarter of the memory.
fn memory_slots(gpu: &Gpu, slices: &[&Slice]) -> u32 {
    let largest = slices.iter().max_by_key(|slice| slice.memory_bytes);
    let size = largest.and_then(|slice| Some((slice.placement?.size, slice.memory_bytes.0)));
    match size {
        Some((size, bytes)) if gpu.memory_bytes.0 as f64 * f64::from(size) < 6.0 * bytes as f64 => 4,
        _ => 8,
    }
}
