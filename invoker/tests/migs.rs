//! `ffs-invoker migs` as an operator uses it.

use proto::ffs::migs::{InventorySource, MigsDocument};
use std::process::{Command, Output};

#[test]
fn a_simulated_machine_is_printed_as_the_document_that_the_scheduler_reads() {
    let topology = "2x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB,[full]@L40S:46068";
    let output = migs(&[
        "--topology",
        topology,
        "--gpu-memory",
        "8GiB",
        "--gpu-cpus",
        "7",
        "--format",
        "json",
    ]);
    assert!(output.status.success(), "{output:?}");
    let document: MigsDocument = proto::ffs::read(&output.stdout).expect("a document of the config layer");
    assert_eq!(document.source, InventorySource::Simulated);
    assert_eq!((document.gpus.len(), document.slices.len()), (3, 7));
    let quotas: Vec<_> = document
        .slices
        .iter()
        .filter_map(|slice| slice.cpu_quota)
        .collect();
    assert_eq!(quotas, [4.0, 2.0, 1.0, 4.0, 2.0, 1.0, 7.0]);
}

#[test]
fn three_gpus_on_a_small_host_are_said_to_promise_too_much() {
    let output = migs(&["--topology", "3x[full]@A100-80GB", "--gpu-cpus", "4096"]);
    assert!(output.status.success(), "{output:?}");
    let warning = String::from_utf8(output.stderr).expect("text");
    assert!(
        warning.contains("the slices together may use 12288.0 CPUs of "),
        "{warning}"
    );
}

#[test]
fn what_is_not_possible_is_refused_with_a_sentence_and_an_exit_code() {
    for (arguments, sentence) in [
        (
            ["--topology", "[3g.40gb+3g.40gb+1g.10gb]@A100-80GB"],
            "they need 9 memory slots and one GPU has 8; the nearest that does is [2x3g.40gb]",
        ),
        (
            ["--topology", "[1g.10gb]@H300"],
            "GPU model \"H300\" cannot be divided",
        ),
        (
            ["--gpu-memory", "2 parsecs"],
            "\"2 parsecs\" is not an amount of memory",
        ),
        (
            ["--gpu-cpus", "0"],
            "0 CPUs for a GPU: expected a number from 0.01 to 4096",
        ),
    ] {
        let output = migs(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(said.contains(sentence), "{said}");
    }
}

fn migs(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"));
    command.arg("migs").args(arguments).output().expect("it runs")
}
