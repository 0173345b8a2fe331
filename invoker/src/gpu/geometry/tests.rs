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
    assert!(!all.iter().any(
        |l| l.is_superset(&with_3g_first) && l.iter().filter(|(name, _)| *name == "2g.20gb").count() == 2
    ));
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
