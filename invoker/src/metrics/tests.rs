use super::*;
use proto::ffs::timing::{RecordAnnotation, RecordLane};
use proto::id::LaneId;
use proto::unit::Millis;
use scheduler::{Event, Instant, Scheduler};

fn names_at(naming: Naming) -> String {
    let registry = Registry::new();
    let start: Counter = counter("invoker_containerStart_counter", "help")
        .labelled(&["containerState", "initiator", "namespace", "action"])
        .untagged(|values| format!("invoker_containerStart_{}_counter", values[0]));
    let lag: Gauge = gauge("kafka_topic_counter", "help")
        .labelled(&["topic"])
        .untagged(|values| format!("kafka_{}_counter", values[0]));
    let ours: Counter = our_counter("ffs_invoker_removals_total", "help").labelled(&["reason"]);
    start
        .at(&registry, naming, &["cold", "guest", "guest/pkg", "hello"])
        .inc();
    start
        .at(&registry, naming, &["warmed", "guest", "guest/pkg", "hello"])
        .inc();
    lag.at(&registry, naming, &["my.prefix-invoker0"]).set(3);
    ours.at(&registry, naming, &["idle"]).inc();
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

/// H-31, H-32e, H-33: with tags values are labels, without they are part of the name, in which dots and dashes
/// turn into underscores.
#[test]
fn values_are_labels_or_part_of_the_name() {
    let tagged = names_at(Naming::Labels);
    let untagged = names_at(Naming::Names);

    for line in [
        r#"counter_invoker_containerStart_counter_total{action="hello",containerState="cold",initiator="guest",namespace="guest/pkg"} 1"#,
        r#"gauge_kafka_topic_counter{topic="my.prefix-invoker0"} 3"#,
        r#"ffs_invoker_removals_total{reason="idle"} 1"#,
    ] {
        assert!(tagged.lines().any(|l| l == line), "{line}\n{tagged}");
    }
    for line in [
        "counter_invoker_containerStart_cold_counter_total 1",
        "counter_invoker_containerStart_warmed_counter_total 1",
        "gauge_kafka_my_prefix_invoker0_counter 3",
        r#"ffs_invoker_removals_total{reason="idle"} 1"#,
    ] {
        assert!(untagged.lines().any(|l| l == line), "{line}\n{untagged}");
    }
}

/// The value of a metric without labels; 0 before it has any.
fn value(text: &str, name: &str) -> f64 {
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.map_or(0.0, |value| value.parse().unwrap())
}

/// H-31, H-35, H-36, H-45: what is timed is counted at its begin and end, with times in seconds.
#[test]
fn what_begins_and_ends_is_counted_and_timed() {
    docker("inspect").finish();
    docker("unpause").fail();
    drop(runc("resume"));
    save_bulk(7).end(true);
    // Other tests of this process retry too.
    let retries = |text: &str| value(text, "histogram_containerClient_retries_counter_sum");
    let before = retries(&render());
    client_retries(2);

    let text = render();
    assert!(retries(&text) >= before + 2.0, "{before}\n{text}");
    for line in [
        r#"counter_invoker_docker_start_total{cmd="inspect"} 1"#,
        r#"counter_invoker_docker_finish_total{cmd="inspect"} 1"#,
        r#"histogram_invoker_docker_finish_seconds_count{cmd="inspect"} 1"#,
        r#"counter_invoker_docker_error_total{cmd="unpause"} 1"#,
        r#"histogram_invoker_docker_error_seconds_count{cmd="unpause"} 1"#,
        r#"counter_invoker_runc_error_total{cmd="resume"} 1"#,
        "counter_database_saveDocumentBulk_finish_total 1",
        "histogram_database_batchSize_counter_sum 7",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes "), "{text}");
    assert!(text.contains("process_cpu_seconds_total "), "{text}");
}

/// H-30, H-31, H-32, H-34, H-35, H-36, H-37, H-39, H-45: every name that OpenWhisk's invoker shows, exactly.
#[test]
fn each_metric_has_the_name_that_dashboards_ask_for() {
    let mib = Bytes::mib;
    pool(&PoolGauges {
        active: (2, mib(512)),
        idle: (1, mib(128)),
        stem_cells: (3, mib(768)),
        waiting: (4, mib(1024)),
        budget: mib(2048),
        used: mib(1408),
        oldest: Duration::from_millis(70),
    });
    stem_cell_rounds("nodejs:20", mib(256), 2, 1);
    stem_cell_rounds("nodejs:20", mib(256), 3, 1);
    container_start("recreatedPrewarm", "guest", "whisk.system/utils", "echo");
    rescheduled();
    container_health_failed("prewarm");
    container_health_failed("warm");
    activation_taken_in();
    [init(), run(), collect_logs()]
        .into_iter()
        .for_each(Timing::finish);
    [init(), run(), collect_logs()].into_iter().for_each(Timing::fail);
    for cmd in ["run", "rm", "pull", "ps"] {
        docker(cmd).finish();
    }
    runc("pause").finish();
    [get_document(), get_attachment(), save_document(), query_view()]
        .into_iter()
        .for_each(Timing::finish);
    [get_document(), get_attachment(), save_document(), query_view()]
        .into_iter()
        .for_each(Timing::fail);
    cache(true);
    cache(false);
    unread("invoker0", 12);
    message_read("invoker0", Some(0));
    message_read("invoker0", Some(i64::MAX)); // a clock that is ahead: not below 0
    http("GET", 401);
    http("POST", 200);
    http("PUT", 405);

    let text = render();
    for line in [
        "gauge_containerPool_activeCount_counter 2",
        "gauge_containerPool_activeSize_counter_bytes 536870912",
        "gauge_containerPool_idlesCount_counter 1",
        "gauge_containerPool_idlesSize_counter_bytes 134217728",
        "gauge_containerPool_prewarmCount_counter 3",
        "gauge_containerPool_prewarmSize_counter_bytes 805306368",
        "gauge_containerPool_runBufferCount_counter 4",
        "gauge_containerPool_runBufferSize_counter_bytes 1073741824",
        "ffs_invoker_memory_budget_bytes 2147483648",
        "ffs_invoker_memory_used_bytes 1476395008",
        "ffs_invoker_oldest_waiting_milliseconds 70",
        r#"counter_containerPool_prewarmColdstart_counter_total{kind="nodejs:20",memory="256 MB"} 3"#,
        r#"counter_containerPool_prewarmExpired_counter_total{kind="nodejs:20",memory="256 MB"} 1"#,
        r#"counter_invoker_containerStart_counter_total{action="echo",containerState="recreatedPrewarm",initiator="guest",namespace="whisk.system/utils"} 1"#,
        "counter_containerPool_rescheduledActivation_counter_total 1",
        r#"counter_invoker_containerHealthFailed_counter_total{containerState="prewarm"} 1"#,
        r#"counter_invoker_containerHealthFailed_counter_total{containerState="warm"} 1"#,
        "counter_invoker_activation_start_total 1",
        "counter_database_cacheHit_counter_total 1",
        "counter_database_cacheMiss_counter_total 1",
        r#"gauge_kafka_topic_counter{topic="invoker0"} 12"#,
        r#"histogram_kafka_topic_start_seconds_count{topic="invoker0"} 2"#,
        r#"histogram_kafka_topic_start_seconds_bucket{topic="invoker0",le="0.005"} 1"#,
        r#"counter_http_get_counter_total{statusCode="401"} 1"#,
        r#"counter_http_post_counter_total{statusCode="200"} 1"#,
        r#"counter_http_other_counter_total{statusCode="405"} 1"#,
        r#"counter_invoker_docker_finish_total{cmd="pull"} 1"#,
        r#"histogram_invoker_docker_finish_seconds_bucket{cmd="run",le="10"} 1"#,
        r#"counter_invoker_runc_finish_total{cmd="pause"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    for timed in [
        "invoker_activationInit",
        "invoker_activationRun",
        "invoker_collectLogs",
        "database_getDocument",
        "database_getDocumentAttachment",
        "database_saveDocument",
        "database_queryView",
    ] {
        for line in [
            format!("counter_{timed}_start_total 2"),
            format!("counter_{timed}_finish_total 1"),
            format!("counter_{timed}_error_total 1"),
            format!("histogram_{timed}_finish_seconds_count 1"),
            format!("histogram_{timed}_error_seconds_count 1"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
    assert!(text.contains("# TYPE gauge_containerPool_activeCount_counter gauge"));
    assert!(text.contains("# TYPE counter_invoker_containerStart_counter_total counter"));
    assert!(text.contains("# TYPE histogram_invoker_activationRun_finish_seconds histogram"));
}

/// O-13: what is ours has names of its own, and labels always.
#[test]
fn ours_are_named_ours() {
    removal("pause_failed");
    start_failed("whisk");
    poisoned_message();
    ping(true, false);
    health_test_merged();
    standing(false, true);
    journal_size(4096);
    outbox("record", 17);

    let text = render();
    for line in [
        r#"ffs_invoker_removals_total{reason="pause_failed"} 1"#,
        r#"ffs_invoker_start_failures_total{blame="whisk"} 1"#,
        "ffs_invoker_poisoned_messages_total 1",
        r#"ffs_invoker_pings_total{enabled="true",sent="false"} 1"#,
        "ffs_invoker_health_tests_merged_total 1",
        "ffs_invoker_ready 0",
        "ffs_invoker_enabled 1",
        "ffs_invoker_journal_bytes 4096",
        r#"ffs_invoker_outbox_entries{kind="record"} 17"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

/// GPU and MIG time, slices, instances, and where an activation's time went.
#[test]
fn pipelines_are_counted_with_bounded_labels() {
    let document = serde_json::json!({
        "schema": "ffs.migs/1", "taken_at": "2026-01-02T03:04:05Z", "source": "simulated",
        "gpus": [{ "uuid": "GPU-7", "index": 0, "model": "A100-80GB", "memory_bytes": 1024, "mig": true }],
        "slices": [
            { "uuid": "MIG-0", "gpu_uuid": "GPU-7", "profile": "1g.10gb", "compute_slices": 1,
              "memory_bytes": 512, "state": "free" },
            { "uuid": "MIG-1", "gpu_uuid": "GPU-7", "profile": "1g.10gb", "compute_slices": 1,
              "memory_bytes": 512, "state": "fenced" },
        ],
    });
    let migs = serde_json::from_value(document).unwrap();
    let mut scheduler = Scheduler::new(scheduler::Settings::default(), Instant::ZERO);
    scheduler.handle(Event::Inventory(migs), Instant::ZERO);
    pipelines(&scheduler.view(), &scheduler.accounts(Instant::ZERO));
    let ran = RecordAnnotation {
        instance: "i-1".to_owned(),
        plan: "x".to_owned(),
        queued_ms: Millis(7.0),
        lanes: vec![RecordLane {
            id: LaneId::HEAD,
            slice: "MIG-0".to_owned(),
            profile: "1g.10gb".parse().unwrap(),
            queue_ms: Millis(2.0),
            exec_ms: Millis(30.0),
        }],
        transfer_ms: Some(Millis(4.0)),
        slo_ms: Some(Millis(100.0)),
        slo_met: Some(true),
    };
    pipeline_run("guest/metered", &ran);
    let late = RecordAnnotation {
        lanes: Vec::new(),
        transfer_ms: None,
        slo_met: Some(false),
        ..ran
    };
    pipeline_run("guest/metered", &late);

    let text = render();
    for line in [
        r#"ffs_invoker_gpu_seconds_total{gpu="GPU-7",use="busy"} 0"#,
        r#"ffs_invoker_gpu_seconds_total{gpu="GPU-7",use="held"} 0"#,
        r#"ffs_invoker_mig_seconds_total{gpu="GPU-7",profile="1g.10gb",use="busy"} 0"#,
        r#"ffs_invoker_slices{gpu="GPU-7",profile="1g.10gb",state="free"} 1"#,
        r#"ffs_invoker_slices{gpu="GPU-7",profile="1g.10gb",state="fenced"} 1"#,
        r#"ffs_invoker_slices{gpu="GPU-7",profile="1g.10gb",state="hot"} 0"#,
        r#"ffs_invoker_instances{state="warm"} 0"#,
        "ffs_invoker_pipeline_waiting_activations 0",
        "ffs_invoker_pipeline_queued_seconds_sum 0.014",
        r#"ffs_invoker_lane_queued_seconds_sum{profile="1g.10gb"} 0.002"#,
        r#"ffs_invoker_lane_execution_seconds_sum{profile="1g.10gb"} 0.03"#,
        "ffs_invoker_ring_transfer_seconds_sum 0.004",
        "ffs_invoker_ring_transfer_seconds_count 1",
        r#"ffs_invoker_slo_total{action="guest/metered",met="true"} 1"#,
        r#"ffs_invoker_slo_total{action="guest/metered",met="false"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}
