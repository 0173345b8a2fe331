//! NVML's calls against the library that stands for it.

use fake_nvml::{Faults, Happening, Machine};
use nvml_mig::{Library, compute_instance_id, gpu_instance_id, placement, wait};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::NvmlError;
use std::path::PathBuf;

const MIGS: &str = r#"{"schema": "ffs.migs/1", "taken_at": "2026-01-02T03:04:05Z", "source": "nvml",
  "gpus": [{"uuid": "GPU-a", "index": 0, "model": "A100-80GB", "memory_bytes": 85899345920, "mig": true}],
  "slices": [
    {"uuid": "MIG-a", "gpu_uuid": "GPU-a", "profile": "4g.40gb", "gi": 1, "ci": 0, "placement": {"start": 0, "size": 4},
     "compute_slices": 4, "sms": 56, "memory_bytes": 42144366592, "state": "free"},
    {"uuid": "MIG-b", "gpu_uuid": "GPU-a", "profile": "2g.20gb", "gi": 5, "ci": 0, "placement": {"start": 4, "size": 2},
     "compute_slices": 2, "sms": 28, "memory_bytes": 20937965568, "state": "free"}]}"#;

/// A library of its own, so that its machine is too.
fn install(name: &str) -> (tempfile::TempDir, PathBuf, Machine) {
    let folder = tempfile::tempdir().expect("a folder");
    let library = folder.path().join(name);
    let built = std::env::current_exe()
        .expect("a path")
        .with_file_name("libfake_nvml.so");
    std::fs::copy(built, &library).expect("built beside this test");
    let machine = Machine::read(MIGS.as_bytes()).expect("a machine");
    write(&library, &machine);
    (folder, library, machine)
}

fn write(library: &std::path::Path, machine: &Machine) {
    let mut file = library.as_os_str().to_owned();
    file.push(".json");
    machine.write(&PathBuf::from(file)).expect("writable");
}

#[test]
fn mig_devices_have_their_ids_placement_size_and_name() {
    let (_folder, library, _) = install("libnvidia-ml.so.1");
    let nvml = Library::open(Some(library.as_os_str())).expect("it loads");
    let gpu = nvml.device_by_index(0).expect("a GPU");
    assert_eq!(gpu.mig_device_count().expect("a number"), 7);
    let found: Vec<_> = (0..2)
        .map(|index| {
            let mig = gpu.mig_device_by_index(index).expect("a MIG device");
            let gi = gpu_instance_id(&mig).expect("an id");
            (
                mig.uuid().expect("a UUID"),
                mig.name().expect("a name"),
                (gi, compute_instance_id(&mig).expect("an id")),
                placement(&gpu, gi).expect("permitted"),
                mig.memory_info().expect("memory").total,
                mig.attributes().expect("attributes").multiprocessor_count,
            )
        })
        .collect();
    let name = |profile| format!("NVIDIA A100-SXM4-80GB MIG {profile}");
    assert_eq!(
        found,
        [
            (
                "MIG-a".to_owned(),
                name("4g.40gb"),
                (1, 0),
                (0, 4),
                42_144_366_592,
                56
            ),
            (
                "MIG-b".to_owned(),
                name("2g.20gb"),
                (5, 0),
                (4, 2),
                20_937_965_568,
                28
            ),
        ]
    );
    assert!(matches!(gpu.mig_device_by_index(2), Err(NvmlError::NotFound)));
}

#[test]
fn faults_show_as_the_drivers_do() {
    let (_folder, library, mut machine) = install("libnvidia-ml.so.1");
    let nvml = Library::open(Some(library.as_os_str())).expect("it loads");
    let gpu = nvml.device_by_index(0).expect("a GPU");
    let first = gpu.mig_device_by_index(0).expect("a MIG device");

    machine.faults.vanished = ["MIG-a".parse().expect("a UUID")].into();
    machine.faults.unprivileged = true;
    write(&library, &machine);
    assert!(matches!(gpu.mig_device_by_index(0), Err(NvmlError::NotFound)));
    assert!(
        gpu.mig_device_by_index(1).is_ok(),
        "a hole hides nothing behind it"
    );
    assert!(matches!(first.uuid(), Err(NvmlError::InvalidArg)));
    assert!(matches!(placement(&gpu, 5), Err(NvmlError::NoPermission)));

    machine.faults.lost = ["GPU-a".parse().expect("a UUID")].into();
    write(&library, &machine);
    assert!(matches!(nvml.device_by_index(0), Err(NvmlError::GpuLost)));

    machine.faults = Faults::default();
    write(&library, &machine);
    assert_eq!(first.uuid().expect("there again"), "MIG-a");
}

#[test]
fn a_critical_error_names_its_instance() {
    let (_folder, library, mut machine) = install("libnvidia-ml.so.1");
    let nvml = Library::open(Some(library.as_os_str())).expect("it loads");
    let gpu = nvml.device_by_index(0).expect("a GPU");
    let set = nvml.create_event_set().expect("a set");
    let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::MIG_CONFIG_CHANGE;
    let set = gpu.register_events(wanted, set).expect("registered");
    assert!(wait(&set, 0).expect("no error").is_none());
    machine.faults.events.push(Happening {
        gpu: "GPU-a".parse().expect("a UUID"),
        xid: Some(79),
        instance: Some((5, 0)),
    });
    write(&library, &machine);
    let event = wait(&set, 5000).expect("no error").expect("an event");
    assert_eq!((event.types, event.data), (EventTypes::CRITICAL_XID_ERROR, 79));
    assert_eq!(event.instance, Some((5, 0)));
    assert_eq!(event.gpu.uuid().expect("a UUID"), "GPU-a");
}

#[test]
fn a_library_without_a_driver_or_a_file_that_is_none_is_refused() {
    let (folder, library, mut machine) = install("libnvidia-ml.so.1");
    machine.faults.unloaded = true;
    write(&library, &machine);
    let refused = Library::open(Some(library.as_os_str())).expect_err("no driver");
    assert!(matches!(refused, NvmlError::DriverNotLoaded), "{refused}");
    let none = folder.path().join("nothing");
    let refused = Library::open(Some(none.as_os_str())).expect_err("no library");
    assert!(matches!(refused, NvmlError::LibloadingError(_)), "{refused}");
}
