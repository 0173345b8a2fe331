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
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Profile and start slot of each slice.
    type Layout = BTreeSet<(&'static str, u32)>;

    const A100: &str = "A100-80GB";
    const PLAIN: [&str; 5] = ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"];
    const WITH_DOUBLE: [&str; 6] = ["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"];

    #[test]
    fn an_a100_has_the_layouts_of_nvidias_figure() {
        let all = layouts(A100, &PLAIN);
        assert_eq!(all.len(), 298);
        assert_eq!(maximal(&all).len(), 19);
        assert_eq!(multisets(&all).len(), 38);
        assert_eq!(maximal_multisets(&all).len(), 14);
    }

    #[test]
    fn double_memory_adds_layouts() {
        let all = layouts(A100, &WITH_DOUBLE);
        assert_eq!(all.len(), 723);
        assert_eq!(maximal(&all).len(), 78);
        assert_eq!(multisets(&all).len(), 78);
        assert_eq!(maximal_multisets(&all).len(), 38);
    }

    #[test]
    fn an_a30_has_four_slices() {
        let all = layouts("A30-24GB", &["1g.6gb", "2g.12gb", "4g.24gb"]);
        assert_eq!(all.len(), 26);
        assert_eq!(maximal(&all).len(), 5);
        assert_eq!(maximal_multisets(&all).len(), 4);
    }

    #[test]
    fn a_set_is_legal_exactly_if_some_layout_has_it() {
        for (model, names) in [
            (A100, &WITH_DOUBLE[..]),
            ("A30-24GB", &["1g.6gb", "2g.12gb", "4g.24gb"]),
        ] {
            let legal = multisets(&layouts(model, names));
            for set in combinations(names, 8) {
                let verdict = place(model, &set).is_ok();
                assert_eq!(verdict, legal.contains(&set), "{set:?} on {model}");
            }
        }
    }

    #[test]
    fn two_2g_beside_a_3g_leave_it_slot_4_alone() {
        let starts = place(A100, &["3g.40gb", "2g.20gb", "2g.20gb"]).expect("legal");
        assert_eq!(starts, [4, 0, 2]);
        let all = layouts(A100, &PLAIN);
        let with_3g_first = Layout::from([("3g.40gb", 0), ("2g.20gb", 4)]);
        assert!(
            !all.iter().any(|l| l.is_superset(&with_3g_first)
                && l.iter().filter(|(name, _)| *name == "2g.20gb").count() == 2)
        );
    }

    #[test]
    fn every_board_can_be_cut_as_the_paper_cuts_its_gpus() {
        for board in BOARDS.iter().filter(|board| board.compute_slices == 7) {
            let [one, _, _, two, three, four, _] = board.profiles else {
                panic!("{} has seven profiles", board.model)
            };
            let mut layouts = vec![
                vec![four, two, one],
                vec![three, two, two],
                vec![two, two, two, one],
                vec![three, four],
            ];
            layouts.push(vec![one; 7]);
            for layout in layouts {
                let names: Vec<_> = layout.iter().map(|p| p.name).collect();
                board
                    .place(&layout)
                    .unwrap_or_else(|e| panic!("{names:?} on {}: {e}", board.model));
            }
        }
    }

    #[test]
    fn what_is_placed_neither_overlaps_nor_leaves_the_board() {
        for board in &BOARDS {
            for profile in board.profiles {
                for &start in profile.starts {
                    assert!(
                        start + profile.size <= board.memory_slots,
                        "{} at {start}",
                        profile.name
                    );
                    assert_eq!(start % profile.size, 0);
                }
                assert!(profile.name.parse::<proto::id::ProfileName>().is_ok());
            }
        }
    }

    #[test]
    fn a_refusal_names_the_rule_that_is_broken() {
        let refuse = |names: &[&'static str]| place(A100, names).expect_err("illegal").to_string();
        assert_eq!(
            refuse(&["4g.40gb", "4g.40gb"]),
            "2 × 4g.40gb is more than the 1 that one GPU can hold"
        );
        assert_eq!(
            refuse(&["4g.40gb", "2g.20gb", "2g.20gb"]),
            "they need 8 compute slices and one GPU has 7"
        );
        assert_eq!(
            refuse(&["3g.40gb", "3g.40gb", "1g.10gb"]),
            "they need 9 memory slots and one GPU has 8"
        );
        assert_eq!(
            refuse(&["1g.10gb+me", "1g.10gb+me"]),
            "only one slice of a GPU may have the media engines (+me), not 2"
        );
    }

    #[test]
    fn enough_slots_do_not_help_where_no_choice_of_starts_does() {
        const HALVES: &[Profile] = &[profile("2g.20gb", 2, 28, 19968, 4, &[0], 2)];
        let lopsided = board("lopsided", 81920, 108, HALVES);
        let two = [&HALVES[0], &HALVES[0]];
        assert_eq!(
            lopsided.place(&two).expect_err("both want slot 0").to_string(),
            "their start slots cannot be chosen so that no two overlap"
        );
    }

    #[test]
    fn the_nearest_legal_set_leaves_out_the_smallest_slice_that_helps() {
        let board = Board::by_model(A100).expect("known");
        let nearest = |names: &[&str]| -> Vec<&str> {
            board
                .nearest(&profiles(board, names))
                .iter()
                .map(|p| p.name)
                .collect()
        };
        assert_eq!(
            nearest(&["4g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"]),
            ["4g.40gb", "2g.20gb", "1g.10gb"]
        );
        assert_eq!(
            nearest(&["4g.40gb", "4g.40gb", "1g.10gb"]),
            ["4g.40gb", "1g.10gb"]
        );
        assert_eq!(nearest(&["7g.80gb"; 40]), ["7g.80gb"]);
    }

    fn profiles(board: &'static Board, names: &[&str]) -> Vec<&'static Profile> {
        names.iter().map(|n| board.profile(n).expect("known")).collect()
    }

    fn place(model: &str, names: &[&'static str]) -> Result<Vec<u32>, Illegal> {
        let board = Board::by_model(model).expect("known");
        board.place(&profiles(board, names))
    }

    /// Every layout, empty and partial ones included, found by adding slices one by one.
    fn layouts(model: &str, names: &[&'static str]) -> BTreeSet<Layout> {
        let board = Board::by_model(model).expect("known");
        let mut all = BTreeSet::from([Layout::new()]);
        let mut edge: Vec<Layout> = all.iter().cloned().collect();
        while let Some(layout) = edge.pop() {
            for next in extensions(board, &layout, names) {
                if all.insert(next.clone()) {
                    edge.push(next);
                }
            }
        }
        all
    }

    fn extensions(board: &'static Board, layout: &Layout, names: &[&'static str]) -> Vec<Layout> {
        let mut found = Vec::new();
        for profile in profiles(board, names) {
            for &start in profile.starts {
                let mut next = layout.clone();
                if next.insert((profile.name, start)) && is_legal(board, &next) {
                    found.push(next);
                }
            }
        }
        found
    }

    /// The rules spelled out, apart from the code under test.
    fn is_legal(board: &'static Board, layout: &Layout) -> bool {
        let mut taken = [false; 8];
        let mut compute = 0;
        for (name, start) in layout {
            let profile = board.profile(name).expect("known");
            compute += profile.compute_slices;
            for slot in *start..start + profile.size {
                if std::mem::replace(&mut taken[slot as usize], true) {
                    return false;
                }
            }
            if layout.iter().filter(|(n, _)| n == name).count() > profile.max as usize {
                return false;
            }
        }
        compute <= board.compute_slices
    }

    fn maximal(all: &BTreeSet<Layout>) -> Vec<&Layout> {
        all.iter()
            .filter(|l| {
                !all.iter()
                    .any(|other| other.len() > l.len() && other.is_superset(l))
            })
            .collect()
    }

    fn multiset(layout: &Layout) -> Vec<&'static str> {
        let mut names: Vec<_> = layout.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    fn multisets(all: &BTreeSet<Layout>) -> BTreeSet<Vec<&'static str>> {
        all.iter().map(multiset).collect()
    }

    /// Of the maximal layouts.
    fn maximal_multisets(all: &BTreeSet<Layout>) -> BTreeSet<Vec<&'static str>> {
        maximal(all).into_iter().map(multiset).collect()
    }

    /// All sorted lists of up to `most` names.
    fn combinations(names: &[&'static str], most: usize) -> Vec<Vec<&'static str>> {
        let mut all = vec![Vec::new()];
        for name in names {
            let longer: Vec<_> = all
                .iter()
                .flat_map(|set: &Vec<&'static str>| {
                    (1..=most - set.len()).map(|n| [set.clone(), vec![*name; n]].concat())
                })
                .collect();
            all.extend(longer);
        }
        for set in &mut all {
            set.sort_unstable();
        }
        all
    }
}
