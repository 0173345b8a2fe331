//! What Docker says of lanes, and what of them is left.

use crate::world::{Action, CHAIN, PATIENCE, World, docker, in_world, inspect, instance, note, result};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;

/// L-10, L-12: lanes have the ordinary containers' security, a user of their own, the slice's limits, the config layer for
/// reading, a tmpfs of their own, and no network unless they are the head.
#[test]
fn lanes_have_what_their_slice_has_and_no_more() {
    in_world(async |world| {
        let action = world.action("limited", CHAIN, Some(json!(true)), 60_000).await;
        let activation = world.run(&action, json!({})).await;
        assert_eq!(
            note(&activation, "ffs")["lanes"].as_array().map(Vec::len),
            Some(3),
            "{activation}"
        );
        let instance = instance(&activation);
        let lanes = world.lanes_of(instance);
        assert_eq!(lanes.len(), 3);

        let mut users = Vec::new();
        for (n, lane) in lanes.iter().enumerate() {
            let says = inspect(lane);
            let host = &says["HostConfig"];
            // 2 of 7 compute slices of 4 CPUs, to four places; nearly 2 of 8 of 512 MiB, and 32 MiB for what would not lie on a GPU.
            assert_eq!(host["CpuPeriod"], 20_000);
            assert_eq!(host["CpuQuota"], 22_858);
            let memory = host["Memory"].as_u64().unwrap();
            assert!((150 << 20..160 << 20).contains(&memory), "{memory}");
            assert_eq!(host["MemorySwap"], memory);
            assert_eq!(host["CapDrop"], json!(["NET_RAW", "NET_ADMIN"]));
            assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
            assert_eq!(host["PidsLimit"], 1024);
            assert_eq!(
                host["Ulimits"],
                json!([{"Name": "nofile", "Soft": 1024, "Hard": 1024}])
            );
            let network = if n == 0 { "bridge" } else { "none" };
            assert_eq!(host["NetworkMode"], network, "{lane}");
            users.push(says["Config"]["User"].as_str().unwrap().to_owned());

            let mounts = says["Mounts"].as_array().unwrap();
            let mount = |to: &str| mounts.iter().find(|mount| mount["Destination"] == to).unwrap();
            assert_eq!(
                (&mount("/ffs/config")["Type"], &mount("/ffs/config")["RW"]),
                (&json!("bind"), &json!(false))
            );
            assert_eq!(mount("/dev/shm")["Type"], "volume");
            assert_eq!(mounts.len(), 2);
            let env: Vec<&str> = says["Config"]["Env"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            assert!(
                env.contains(&"NVIDIA_VISIBLE_DEVICES=void") && env.contains(&"OMP_NUM_THREADS=1"),
                "{env:?}"
            );
        }
        let number: u32 = users[0].split(':').next().unwrap().parse().unwrap();
        assert!(
            number >= 200_000 && users.iter().all(|user| *user == format!("{number}:{number}")),
            "{users:?}"
        );
        assert_eq!(world.volumes_of(instance).len(), 1);
        world.end(instance).await;
    });
}

/// A replica in a container of its own takes its part of the requests; that it is killed ends the instance, as the end
/// of any lane does.
#[test]
fn a_slow_lane_gets_a_replica_in_a_container_of_its_own() {
    in_world(async |world| {
        let slow = CHAIN.replace(
            "        return np.sin",
            "        time.sleep(0.3)\n        return np.sin",
        );
        let action = world
            .action("slow", &slow, Some(json!({ "retry": true })), 60_000)
            .await;
        let first = world.run(&action, json!({})).await;
        let instance = instance(&first).to_owned();
        assert_eq!(world.lanes_of(&instance).len(), 3, "{first}");

        let mut ran_in = BTreeSet::new();
        let begun = Instant::now();
        while ran_in.len() < 2 {
            assert!(begun.elapsed() < PATIENCE, "no replica: {}", world.log());
            for activation in burst(world, &action, 8, json!({})).await {
                assert_eq!(result(&activation), result(&first), "{activation}");
                let lanes = note(&activation, "ffs")["lanes"].as_array().expect("a list");
                let second = lanes[1]["id"].as_str().expect("lanes have names").to_owned();
                assert!(lanes.len() == 3 && second.starts_with("s1l"), "{activation}");
                ran_in.insert(second);
            }
        }
        let lanes = world.lanes_of(&instance);
        assert!(lanes.iter().any(|lane| lane.ends_with("_s1l1")), "{lanes:?}");
        assert_eq!(world.volumes_of(&instance).len(), 1);

        let (answers, ()) = tokio::join!(burst(world, &action, 4, json!({ "told": "pause" })), async {
            world.until_in_flight(&instance, 4).await;
            let replica = lanes.iter().find(|lane| lane.ends_with("_s1l1"));
            docker(&["kill", replica.expect("it was found above")]);
        });
        for activation in answers {
            assert_eq!(result(&activation), result(&first), "run again: {activation}");
        }
        world.until_gone(&instance).await;
    });
}

async fn burst(world: &World, action: &Action, requests: usize, arguments: Value) -> Vec<Value> {
    join_all((0..requests).map(|_| world.run(action, arguments.clone()))).await
}

/// Two functions of two components each, which have equal weights.
const MAPPED: &str = include_str!("../support/mapped.py");

/// The invoker's memory is mapped into containers, whose lanes neither copy nor change it.
#[test]
fn weights_lie_once_for_lanes_in_containers_of_their_own() {
    in_world(async |world| {
        let mut instances = Vec::new();
        for name in ["mapped", "mapped-too"] {
            let annotation = json!({ "slo_ms": 60_000, "max_instances": 1 });
            let action = world.action(name, MAPPED, Some(annotation), 60_000).await;
            let activation = world.run(&action, json!({})).await;
            instances.push(instance(&activation).to_owned());
            for component in ["left", "right"] {
                let found = &result(&activation)[component];
                let digest = found["digest"].as_str();
                assert!(
                    digest.is_some_and(|digest| digest.starts_with("sha256:")),
                    "{activation}"
                );
                assert_eq!(
                    (&found["sum"], &found["Private_Dirty"]),
                    (&json!(6_291_456.0), &json!(0))
                );
            }
        }
        let metrics = world.metrics().await;
        let asked = |outcome: &str| {
            let name = format!("ffs_invoker_weights_requests_total{{outcome=\"{outcome}\"}} ");
            metrics
                .lines()
                .find_map(|line| line.strip_prefix(&name).map(str::to_owned))
        };
        assert_eq!(asked("read").as_deref(), Some("1"), "{metrics}");
        assert_eq!(asked("there").as_deref(), Some("3"), "{metrics}");
        for instance in instances {
            world.end(&instance).await;
        }
    });
}
