//! A simulated machine in one line: `[7x1g.10gb]@A100-80GB,2x[3x2g.20gb+1g.10gb]@A100-80GB`.
//!
//! ```text
//! topology = group {"," group}
//! group    = [N "x"] "[" item {"+" item} "]" "@" model      N GPUs that are cut alike
//! item     = [N "x"] profile | "full"                       "full" is a GPU without MIG
//! ```
//! The order inside a group is free. After a model that is not in [`BOARDS`] stands its memory in
//! MiB (`[full]@L40S:46068`), and such a GPU cannot be cut.

use super::geometry::{BOARDS, Board, Profile};
use proto::unit::Bytes;
use std::str::FromStr;

/// More GPUs than any node has; keeps a slip of the finger from filling the memory.
const MAX_GPUS: u32 = 10_000;

/// GPUs whose slices have been found to be possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    groups: Vec<Group>,
}

/// GPUs that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub gpus: u32,
    pub model: String,
    /// Memory of one whole GPU.
    pub memory: Bytes,
    pub cut: Cut,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cut {
    /// One GPU, one slice.
    Full { sms: Option<u32> },
    /// By start slot.
    Slices {
        compute_slices: u32,
        slices: Vec<Placed>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    pub profile: &'static Profile,
    pub start: u32,
}

/// A topology that cannot be built, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topology {text:?}: {reason}")]
pub struct InvalidTopology {
    pub text: String,
    pub reason: String,
}

impl Topology {
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}

impl FromStr for Topology {
    type Err = InvalidTopology;

    fn from_str(text: &str) -> Result<Self, InvalidTopology> {
        parse(text).map_err(|reason| InvalidTopology {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Topology, String> {
    let groups = text.split(',').map(group).collect::<Result<Vec<_>, _>>()?;
    let gpus: u64 = groups.iter().map(|g| u64::from(g.gpus)).sum();
    if gpus > u64::from(MAX_GPUS) {
        return Err(format!(
            "{gpus} GPUs are more than the {MAX_GPUS} that can be simulated"
        ));
    }
    Ok(Topology { groups })
}

fn group(text: &str) -> Result<Group, String> {
    let text = text.trim();
    let shape = || format!("expected a group such as 2x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB, not {text:?}");
    let (count, rest) = text.split_once('[').ok_or_else(shape)?;
    let (items, model) = rest.split_once(']').ok_or_else(shape)?;
    let model = model.trim().strip_prefix('@').ok_or_else(shape)?.trim();
    let gpus = match count.trim() {
        "" => 1,
        count => number(count.strip_suffix('x').ok_or_else(shape)?).ok_or_else(shape)?,
    };
    let (name, mib) = match model.split_once(':') {
        Some((name, mib)) => (name.trim(), Some(mebibytes(mib)?)),
        None => (model, None),
    };
    let cut = if items.trim() == "full" {
        return whole(gpus, name, mib);
    } else {
        slices(items, board(name)?)?
    };
    if mib.is_some() {
        return Err(format!(
            "the memory of {name} is known; leave out what follows the colon"
        ));
    }
    Ok(Group {
        gpus,
        model: name.to_owned(),
        memory: board(name)?.memory,
        cut,
    })
}

fn whole(gpus: u32, name: &str, mib: Option<Bytes>) -> Result<Group, String> {
    let known = Board::by_model(name);
    let is_name =
        |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_. ".contains(c));
    let memory = match (mib, known) {
        _ if !is_name(name) => return Err(format!("{name:?} is not the name of a GPU")),
        (Some(memory), _) => memory,
        (None, Some(board)) => board.memory,
        (None, None) => {
            return Err(format!(
                "the memory of {name} is not known: write it in MiB behind the name, such as {name}:46068"
            ));
        }
    };
    Ok(Group {
        gpus,
        model: name.to_owned(),
        memory,
        cut: Cut::Full {
            sms: known.map(|board| board.sms),
        },
    })
}

fn slices(text: &str, board: &'static Board) -> Result<Cut, String> {
    let mut profiles = Vec::new();
    for (count, name) in items(text)? {
        let profile = board
            .profile(&name)
            .ok_or_else(|| unknown_profile(&name, board))?;
        profiles.extend(std::iter::repeat_n(profile, count as usize));
    }
    let starts = board.place(&profiles).map_err(|why| {
        format!(
            "[{}] does not fit one {}: {why}; the nearest that does is [{}]",
            print(&profiles),
            board.model,
            print(&board.nearest(&profiles)),
        )
    })?;
    let mut slices: Vec<Placed> = profiles
        .into_iter()
        .zip(starts)
        .map(|(profile, start)| Placed { profile, start })
        .collect();
    slices.sort_by_key(|slice| slice.start);
    Ok(Cut::Slices {
        compute_slices: board.compute_slices,
        slices,
    })
}

/// `3x2g.20gb+1g.10gb+me` is three of one profile and one of another: `+me` belongs to a name.
fn items(text: &str) -> Result<Vec<(u32, String)>, String> {
    let mut items: Vec<(u32, String)> = Vec::new();
    for part in text.split('+').map(str::trim) {
        if let ("me", Some((_, name))) = (part, items.last_mut()) {
            name.push_str("+me");
            continue;
        }
        let (count, name) = match part.split_once('x') {
            Some((count, name)) => (
                number(count).ok_or_else(|| format!("{count:?} in {part:?} is not a number of slices"))?,
                name.trim(),
            ),
            None => (1, part),
        };
        if name.is_empty() {
            return Err(format!("a slice profile is missing in [{text}]"));
        }
        if name == "full" {
            return Err(format!(
                "in [{text}]: full is a whole GPU and stands alone; for several write 2x[full]@model"
            ));
        }
        items.push((count, name.to_owned()));
    }
    Ok(items)
}

fn board(name: &str) -> Result<&'static Board, String> {
    Board::by_model(name).ok_or_else(|| {
        let known: Vec<_> = BOARDS.iter().map(|board| board.model).collect();
        format!(
            "GPU model {name:?} cannot be divided: expected one of {}",
            known.join(", ")
        )
    })
}

fn unknown_profile(name: &str, board: &Board) -> String {
    let own: Vec<_> = board.profiles.iter().map(|profile| profile.name).collect();
    let elsewhere: Vec<_> = BOARDS
        .iter()
        .filter(|other| other.profile(name).is_some())
        .map(|other| other.model)
        .collect();
    let hint = if elsewhere.is_empty() {
        String::new()
    } else {
        format!(" ({name} is a profile of {})", elsewhere.join(", "))
    };
    format!(
        "{name:?} is not a profile of {}: expected one of {}{hint}",
        board.model,
        own.join(", ")
    )
}

/// 1 to [`MAX_GPUS`].
fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    let value = plain.then(|| text.parse().ok()).flatten()?;
    (1..=MAX_GPUS).contains(&value).then_some(value)
}

fn mebibytes(text: &str) -> Result<Bytes, String> {
    // The most that is still an exact number of bytes for arithmetic in `f64`.
    const MAX: u64 = 1 << 32;
    match text.trim().parse::<u64>() {
        Ok(mib) if (1..=MAX).contains(&mib) => Ok(Bytes::mib(mib)),
        _ => Err(format!("{:?} is not a memory size in MiB", text.trim())),
    }
}

/// As it would be written: `2x3g.40gb+1g.10gb`.
fn print(profiles: &[&Profile]) -> String {
    let mut runs: Vec<(&str, u32)> = Vec::new();
    for profile in profiles {
        match runs.iter_mut().find(|(name, _)| *name == profile.name) {
            Some((_, count)) => *count += 1,
            None => runs.push((profile.name, 1)),
        }
    }
    let items: Vec<_> = runs
        .into_iter()
        .map(|(name, count)| match count {
            1 => name.to_owned(),
            _ => format!("{count}x{name}"),
        })
        .collect();
    items.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_with_counts_in_any_order() {
        let topology: Topology = "[7x1g.10gb]@A100-80GB, 2x[1g.10gb+3x2g.20gb]@A100-80GB ,[full]@L40S:46068"
            .parse()
            .expect("legal");
        let [seven, hybrid, whole] = topology.groups() else {
            panic!("three groups: {topology:?}")
        };
        assert_eq!((seven.gpus, starts(seven)), (1, vec![0, 1, 2, 3, 4, 5, 6]));
        assert_eq!((hybrid.gpus, starts(hybrid)), (2, vec![0, 2, 4, 6]));
        assert_eq!(names(hybrid), ["2g.20gb", "2g.20gb", "2g.20gb", "1g.10gb"]);
        assert_eq!((whole.model.as_str(), whole.memory), ("L40S", Bytes::mib(46068)));
        assert_eq!(whole.cut, Cut::Full { sms: None });
    }

    #[test]
    fn the_media_engines_belong_to_the_name_before_them() {
        let topology: Topology = "[2x1g.10gb+1g.10gb+me+2g.20gb]@H100-80GB".parse().expect("legal");
        let mut found = names(&topology.groups()[0]);
        found.sort_unstable();
        assert_eq!(found, ["1g.10gb", "1g.10gb", "1g.10gb+me", "2g.20gb"]);
    }

    #[test]
    fn the_papers_layouts_are_legal() {
        for text in [
            "8x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB",
            "8x[3g.40gb+2g.20gb+2g.20gb]@A100-80GB",
            "[7x1g.10gb]@A100-80GB,2x[3x2g.20gb+1g.10gb]@A100-80GB,4x[3g.40gb+4g.40gb]@A100-80GB,\
             [4g.40gb+2g.20gb+1g.10gb]@A100-80GB",
        ] {
            let topology: Topology = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(topology.groups().iter().map(|g| g.gpus).sum::<u32>(), 8);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_nearest_help() {
        for (text, sentence) in [
            (
                "[4g.40gb+2g.20gb+2g.20gb]@A100-80GB",
                "[4g.40gb+2x2g.20gb] does not fit one A100-80GB: they need 8 compute slices and one GPU has 7; \
                 the nearest that does is [4g.40gb+2g.20gb]",
            ),
            (
                "[9x1g.10gb]@A100-80GB",
                "[9x1g.10gb] does not fit one A100-80GB: 9 × 1g.10gb is more than the 7 that one GPU can hold; \
                 the nearest that does is [7x1g.10gb]",
            ),
            (
                "[3g.20gb]@A100-80GB",
                "\"3g.20gb\" is not a profile of A100-80GB: expected one of 1g.10gb, 1g.10gb+me, 1g.20gb, \
                 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb (3g.20gb is a profile of A100-40GB)",
            ),
            (
                "[1g.10gb]@A100",
                "GPU model \"A100\" cannot be divided: expected one of A30-24GB, A100-40GB, A100-80GB, \
                 H100-80GB, H100-94GB, H200-141GB, B200-180GB",
            ),
            (
                "[full]@L40S",
                "the memory of L40S is not known: write it in MiB behind the name, such as L40S:46068",
            ),
            ("[full]@L40S:many", "\"many\" is not a memory size in MiB"),
            (
                "[2xfull]@A100-80GB",
                "in [2xfull]: full is a whole GPU and stands alone; for several write 2x[full]@model",
            ),
            ("[1g.10gb+]@A100-80GB", "a slice profile is missing in [1g.10gb+]"),
            (
                "[0x1g.10gb]@A100-80GB",
                "\"0\" in \"0x1g.10gb\" is not a number of slices",
            ),
            (
                "1g.10gb",
                "expected a group such as 2x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB, not \"1g.10gb\"",
            ),
            (
                "",
                "expected a group such as 2x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB, not \"\"",
            ),
            (
                "10000x[full]@A100-80GB,[full]@A100-80GB",
                "10001 GPUs are more than the 10000 that can be simulated",
            ),
            (
                "[1g.10gb]@A100-80GB:9",
                "the memory of A100-80GB is known; leave out what follows the colon",
            ),
        ] {
            let error = text.parse::<Topology>().expect_err(text);
            assert_eq!(error.to_string(), format!("topology {text:?}: {sentence}"));
        }
    }

    #[test]
    fn a_huge_count_is_refused_without_building_it() {
        let error = "[9999x1g.10gb+9999x2g.20gb]@A100-80GB"
            .parse::<Topology>()
            .expect_err("illegal");
        assert!(error.reason.contains("9999 × 1g.10gb"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in r"([0-9x\[\]@+,:gbme. ]|full|1g\.10gb|A100-80GB){0,24}") {
            let _ = text.parse::<Topology>();
        }
    }

    fn placed(group: &Group) -> &[Placed] {
        match &group.cut {
            Cut::Slices { slices, .. } => slices,
            Cut::Full { .. } => &[],
        }
    }

    fn starts(group: &Group) -> Vec<u32> {
        placed(group).iter().map(|p| p.start).collect()
    }

    fn names(group: &Group) -> Vec<&'static str> {
        placed(group).iter().map(|p| p.profile.name).collect()
    }
}
