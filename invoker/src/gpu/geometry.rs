//! Which profiles a board has, and which of them may lie side by side on one GPU.
//!
//! The tables are NVIDIA's (MIG user guide, `nvidia-smi mig -lgip` and `-lgipp`). A real GPU's
//! memory is read from its driver; the figures here stand in for the driver where slices are
//! simulated. Nothing here knows about slices that are in use.

use proto::unit::Bytes;

/// A GPU model that can be divided.
#[derive(Debug)]
pub struct Board {
    /// As a topology names it: `A100-80GB`.
    pub model: &'static str,
    /// Memory of the undivided GPU.
    pub memory: Bytes,
    /// Streaming multiprocessors of the undivided GPU.
    pub sms: u32,
    pub compute_slices: u32,
    pub memory_slots: u32,
    pub profiles: &'static [Profile],
}

/// One way to cut a GPU instance out of a board.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: &'static str,
    pub compute_slices: u32,
    pub sms: u32,
    /// Usable memory, as a driver reports it for the instance.
    pub memory: Bytes,
    /// Memory slots that an instance takes.
    pub size: u32,
    /// Memory slots at which an instance may begin.
    pub starts: &'static [u32],
    /// Most instances of it on one GPU.
    pub max: u32,
    /// Whether it takes the media engines (`+me`), of which one instance a GPU may have some.
    pub media: bool,
}

/// Why profiles cannot lie together on one GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    #[error("{wanted} × {profile} is more than the {max} that one GPU can hold")]
    TooMany {
        profile: &'static str,
        wanted: u32,
        max: u32,
    },
    #[error("only one slice of a GPU may have the media engines (+me), not {wanted}")]
    Media { wanted: u32 },
    #[error("they need {needed} compute slices and one GPU has {available}")]
    ComputeSlices { needed: u32, available: u32 },
    #[error("they need {needed} memory slots and one GPU has {available}")]
    MemorySlots { needed: u32, available: u32 },
    #[error("their start slots cannot be chosen so that no two overlap")]
    Starts,
}

impl Board {
    pub fn by_model(model: &str) -> Option<&'static Self> {
        BOARDS.iter().find(|board| board.model == model)
    }

    pub fn profile(&self, name: &str) -> Option<&'static Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// Gives each profile a start slot, in the order in which they are named.
    ///
    /// # Errors
    /// Says which of NVIDIA's placement rules no choice of start slots can keep.
    pub fn place(&self, profiles: &[&Profile]) -> Result<Vec<u32>, Illegal> {
        self.count(profiles)?;
        // Large ones first, and among equals those with the fewest places to go.
        let mut order: Vec<usize> = (0..profiles.len()).collect();
        order.sort_by_key(|&i| {
            (
                std::cmp::Reverse(profiles[i].size),
                profiles[i].starts.len(),
                profiles[i].name,
                i,
            )
        });
        let mut starts = vec![0; profiles.len()];
        if put(profiles, &order, 0, &mut starts) {
            Ok(starts)
        } else {
            Err(Illegal::Starts)
        }
    }

    /// The legal set nearest to an illegal one: as few profiles left out as possible, small ones first.
    pub fn nearest<'a>(&self, profiles: &[&'a Profile]) -> Vec<&'a Profile> {
        let mut kept = profiles.to_vec();
        kept.sort_by_key(|p| {
            (
                std::cmp::Reverse(p.size),
                std::cmp::Reverse(p.compute_slices),
                p.name,
            )
        });
        kept.truncate(self.memory_slots as usize);
        for left_out in 0..kept.len() {
            if let Some(found) = without(&kept, left_out, &|set| self.place(set).is_ok()) {
                return found;
            }
        }
        Vec::new()
    }

    fn count(&self, profiles: &[&Profile]) -> Result<(), Illegal> {
        for profile in profiles {
            let wanted = profiles.iter().filter(|p| p.name == profile.name).count() as u32;
            if wanted > profile.max && !profile.media {
                return Err(Illegal::TooMany {
                    profile: profile.name,
                    wanted,
                    max: profile.max,
                });
            }
        }
        let wanted = profiles.iter().filter(|p| p.media).count() as u32;
        if wanted > 1 {
            return Err(Illegal::Media { wanted });
        }
        let needed = profiles.iter().map(|p| p.compute_slices).sum();
        if needed > self.compute_slices {
            return Err(Illegal::ComputeSlices {
                needed,
                available: self.compute_slices,
            });
        }
        let needed = profiles.iter().map(|p| p.size).sum();
        if needed > self.memory_slots {
            return Err(Illegal::MemorySlots {
                needed,
                available: self.memory_slots,
            });
        }
        Ok(())
    }
}

/// Backtracks over the start slots of `order`; `taken` has one bit a memory slot.
fn put(profiles: &[&Profile], order: &[usize], taken: u32, starts: &mut [u32]) -> bool {
    let Some((&first, rest)) = order.split_first() else {
        return true;
    };
    profiles[first].starts.iter().any(|&start| {
        let slots = profiles[first].slots_from(start);
        if taken & slots != 0 {
            return false;
        }
        starts[first] = start;
        put(profiles, rest, taken | slots, starts)
    })
}

/// The first subset with `left_out` elements less, from the end on, that is accepted.
fn without<'a>(
    set: &[&'a Profile],
    left_out: usize,
    accept: &dyn Fn(&[&Profile]) -> bool,
) -> Option<Vec<&'a Profile>> {
    if left_out == 0 {
        return accept(set).then(|| set.to_vec());
    }
    (0..set.len()).rev().find_map(|i| {
        let mut fewer = set.to_vec();
        fewer.truncate(i);
        let tail = &set[i + 1..];
        // What stands behind the element left out is kept: each subset is tried once.
        without(&fewer, left_out - 1, &|head: &[&Profile]| {
            accept(&[head, tail].concat())
        })
        .map(|head| [head.as_slice(), tail].concat())
    })
}

impl Profile {
    /// One bit a memory slot.
    fn slots_from(&self, start: u32) -> u32 {
        ((1 << self.size) - 1) << start
    }
}

/// Names, usable MiB and multiprocessors of a board with seven compute slices; the rest is alike on all.
struct SevenSlices {
    /// 1g, 1g+me, 1g with double memory, 2g, 3g, 4g, 7g.
    names: [&'static str; 7],
    /// Of 1, 2, 4 and 8 memory slots.
    mib: [u64; 4],
    /// 1g, 1g with double memory, 2g, 3g, 4g, 7g.
    sms: [u32; 6],
}

const fn seven_slices(board: &SevenSlices) -> [Profile; 7] {
    const ANYWHERE: &[u32] = &[0, 1, 2, 3, 4, 5, 6];
    let [one, two, four, eight] = board.mib;
    let [n1, n1me, n1double, n2, n3, n4, n7] = board.names;
    let [s1, s1double, s2, s3, s4, s7] = board.sms;
    [
        profile(n1, 1, s1, one, 1, ANYWHERE, 7),
        profile(n1me, 1, s1, one, 1, ANYWHERE, 1).with_media(),
        profile(n1double, 1, s1double, two, 2, &[0, 2, 4, 6], 4),
        profile(n2, 2, s2, two, 2, &[0, 2, 4], 3),
        profile(n3, 3, s3, four, 4, &[0, 4], 2),
        profile(n4, 4, s4, four, 4, &[0], 1),
        profile(n7, 7, s7, eight, 8, &[0], 1),
    ]
}

const fn profile(
    name: &'static str,
    compute_slices: u32,
    sms: u32,
    mib: u64,
    size: u32,
    starts: &'static [u32],
    max: u32,
) -> Profile {
    Profile {
        name,
        compute_slices,
        sms,
        memory: Bytes::mib(mib),
        size,
        starts,
        max,
        media: false,
    }
}

impl Profile {
    const fn with_media(mut self) -> Self {
        self.media = true;
        self
    }
}

static A100_40: [Profile; 7] = seven_slices(&SevenSlices {
    names: [
        "1g.5gb",
        "1g.5gb+me",
        "1g.10gb",
        "2g.10gb",
        "3g.20gb",
        "4g.20gb",
        "7g.40gb",
    ],
    mib: [4864, 9856, 19968, 40192],
    sms: [14, 14, 28, 42, 56, 98],
});
static A100_80: [Profile; 7] = seven_slices(&SevenSlices {
    names: [
        "1g.10gb",
        "1g.10gb+me",
        "1g.20gb",
        "2g.20gb",
        "3g.40gb",
        "4g.40gb",
        "7g.80gb",
    ],
    mib: [9856, 19968, 40192, 80384],
    sms: [14, 14, 28, 42, 56, 98],
});
static H100_80: [Profile; 7] = seven_slices(&SevenSlices {
    names: [
        "1g.10gb",
        "1g.10gb+me",
        "1g.20gb",
        "2g.20gb",
        "3g.40gb",
        "4g.40gb",
        "7g.80gb",
    ],
    mib: [9984, 20090, 40448, 81152],
    sms: [16, 26, 32, 60, 64, 132],
});
static H100_94: [Profile; 7] = seven_slices(&SevenSlices {
    names: [
        "1g.12gb",
        "1g.12gb+me",
        "1g.24gb",
        "2g.24gb",
        "3g.47gb",
        "4g.47gb",
        "7g.94gb",
    ],
    mib: [10874, 22016, 47226, 94842],
    sms: [16, 26, 32, 60, 64, 132],
});
// The figures for four slots are what processes on such slices see (69.8 GiB).
static H200_141: [Profile; 7] = seven_slices(&SevenSlices {
    names: [
        "1g.18gb",
        "1g.18gb+me",
        "1g.35gb",
        "2g.35gb",
        "3g.71gb",
        "4g.71gb",
        "7g.141gb",
    ],
    mib: [16384, 33280, 71424, 143_360],
    sms: [16, 26, 32, 60, 64, 132],
});
// No driver listing is public: memory by the proportions of the H100.
static B200_180: [Profile; 7] = seven_slices(&SevenSlices {
    names: [
        "1g.23gb",
        "1g.23gb+me",
        "1g.45gb",
        "2g.45gb",
        "3g.90gb",
        "4g.90gb",
        "7g.180gb",
    ],
    mib: [22272, 45312, 91136, 182_272],
    sms: [18, 18, 36, 54, 72, 126],
});
static A30_24: [Profile; 5] = [
    profile("1g.6gb", 1, 14, 5952, 1, &[0, 1, 2, 3], 4),
    profile("1g.6gb+me", 1, 14, 5952, 1, &[0, 1, 2, 3], 1).with_media(),
    profile("2g.12gb", 2, 28, 11968, 2, &[0, 2], 2),
    profile("2g.12gb+me", 2, 28, 11968, 2, &[0, 2], 1).with_media(),
    profile("4g.24gb", 4, 56, 24064, 4, &[0], 1),
];

const fn board(model: &'static str, mib: u64, sms: u32, profiles: &'static [Profile]) -> Board {
    Board {
        model,
        memory: Bytes::mib(mib),
        sms,
        compute_slices: 7,
        memory_slots: 8,
        profiles,
    }
}

/// Every model that a topology may divide.
pub static BOARDS: [Board; 7] = [
    Board {
        model: "A30-24GB",
        memory: Bytes::mib(24576),
        sms: 56,
        compute_slices: 4,
        memory_slots: 4,
        profiles: &A30_24,
    },
    board("A100-40GB", 40960, 108, &A100_40),
    board("A100-80GB", 81920, 108, &A100_80),
    board("H100-80GB", 81559, 132, &H100_80),
    board("H100-94GB", 95830, 132, &H100_94),
    board("H200-141GB", 143_771, 132, &H200_141),
    board("B200-180GB", 183_359, 148, &B200_180),
];

#[cfg(test)]
mod tests;
