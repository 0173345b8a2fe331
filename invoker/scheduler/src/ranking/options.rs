//! What a ranking can be asked for.

use proto::ffs::ranking::Deviation;
use proto::id::ProfileName;
use proto::unit::Bytes;
use std::num::NonZeroUsize;
use std::time::Duration;

/// What makes one partition better than another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RankBy {
    /// Balance: the smallest coefficient of variation of the stage times. The paper's order.
    #[default]
    Cv,
    /// The shortest bottleneck among the partitions that can be placed.
    Throughput,
    /// The fewest slices with which the latency stays within the SLO.
    Slo,
}

/// Which slice a lane's time is taken from before slices are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// The smallest kind that holds the lane and on which it was measured.
    #[default]
    MinFit,
    /// The same slice profile for all lanes, whether it holds them or not.
    Profile(ProfileName),
}

/// What a frame costs on its way from one lane to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransferModel {
    /// Device to host and host to device.
    pub device_bytes_per_second: f64,
    /// Copies in host memory.
    pub host_bytes_per_second: f64,
    pub per_frame: Duration,
}

impl Default for TransferModel {
    /// PCIe 4 with pinned memory. Source: FluidFaaS §8, calibrated to its 10 to 40 ms.
    fn default() -> Self {
        Self {
            device_bytes_per_second: 12e9,
            host_bytes_per_second: 8e9,
            per_frame: Duration::from_micros(300),
        }
    }
}

impl TransferModel {
    /// Down from the producer's slice, through host memory, up to the consumer's.
    pub fn time(&self, bytes: Bytes) -> Duration {
        Duration::from_nanos(self.nanos(bytes.0))
    }

    pub(super) fn nanos(&self, bytes: u64) -> u64 {
        let bytes = bytes as f64;
        let seconds = 2.0 * bytes / self.device_bytes_per_second + bytes / self.host_bytes_per_second;
        (seconds * 1e9).round() as u64 + self.per_frame.as_nanos() as u64
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RankOptions {
    pub by: RankBy,
    pub std: Deviation,
    pub reference: Reference,
    /// Whether a stage's time includes receiving its input.
    pub include_transfer: bool,
    pub transfer: TransferModel,
    /// How many partitions are kept.
    pub max_ranked: NonZeroUsize,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self {
            by: RankBy::default(),
            std: Deviation::default(),
            reference: Reference::default(),
            include_transfer: false,
            transfer: TransferModel::default(),
            max_ranked: NonZeroUsize::new(4096).expect("4096 is not 0"),
        }
    }
}
