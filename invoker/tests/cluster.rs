//! `docker/compose.yml`, `scripts/cluster` and the invoker's image, with a real docker-compose and a real Docker:
//! Kafka from its jars, a server of CouchDB's API and the stand-in controller under the names of the public
//! images, and our image in the invoker's place.
#![allow(clippy::unwrap_used)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use cluster::operator::Playbook;
use cluster::{Cluster, docker, eventually};
use serde_json::json;

/// Not a test: the program in the image of the stand-in controller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the program of an image, and runs until it is ended"]
async fn the_stand_in_controller() {
    if std::env::var_os("KAFKA_HOSTS").is_some() {
        cluster::controller::run().await;
    }
}

#[test]
fn the_file_asks_for_nothing_newer_than_compose_1_29_and_names_what_is_missing() {
    let read = cluster::config(&cluster::example());
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    // A newer docker-compose would not mind these.
    let text = std::fs::read_to_string(support::daemon::root().join("docker/compose.yml")).unwrap();
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("name:") || line.starts_with("version:"))
    );

    let mut settings = cluster::example();
    settings.retain(|(name, _)| name != "COUCHDB_PASSWORD");
    let refused = cluster::config(&settings);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("scripts/cluster up"),
        "{said}"
    );
}

/// P-01: the image is started as compose files, playbooks and charts start it, and writes where they redirect to.
/// P-110, P-111: with the playbook's options and mounts it reads logs, finds its keystore, pauses and resumes.
/// P-112: it reaches the actions' containers on the configured network.
/// P-113: it answers `/ping` within a minute, also after it was killed, with containers left over.
/// P-115: names of containers begin with `wsk<uniqueName><id>_`, and none is left after a stop.
/// P-116: it makes no database, and names the one that is missing.
/// L-60: containers of a killed predecessor are gone before it is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_runs_actions_takes_a_playbook_s_invoker_and_leaves_nothing() {
    let cluster = Cluster::up();
    let status = cluster.script(&["status"]);
    assert!(status.contains("serves actions"), "{status}");
    serves(&cluster, "first").await;
    assert!(
        cluster
            .action_containers()
            .iter()
            .all(|name| name.starts_with(&cluster.prefix()))
    );

    cluster.stop_invoker();
    assert_eq!(cluster.action_containers(), [""; 0]);
    a_missing_database_is_named_and_not_made(&cluster).await;

    let playbook = Playbook::deploy(&cluster);
    playbook.answers().await;
    assert!(playbook.log().contains("invoker0"), "{}", playbook.log());
    serves(&cluster, "second").await;
    eventually("an idle container is paused", || playbook.paused().is_some()).await;
    let paused = playbook.paused().unwrap();
    let warm = cluster.invoke("second", &json!({"name": "again"})).await;
    assert_eq!(warm["response"]["result"]["greeting"], "hello again", "{warm}");
    let notes = warm["annotations"].as_array().unwrap();
    assert!(!notes.iter().any(|note| note["key"] == "initTime"), "{warm}");

    let left = cluster.leave_containers(3);
    playbook.kill_and_start();
    playbook.answers().await;
    let names = cluster.action_containers();
    assert!(
        !left.iter().chain([&paused]).any(|name| names.contains(name)),
        "{names:?}"
    );
    serves(&cluster, "third").await;
    playbook.stop();
    assert_eq!(cluster.action_containers(), [""; 0]);

    cluster.down();
    assert_eq!(cluster.leftovers(), [""; 0]);
}

/// A plain Python action is created and invoked through the API, and its record and logs are there.
async fn serves(cluster: &Cluster, name: &str) {
    let code = "def main(args):\n    print('greeting', args['name'])\n    return {'greeting': 'hello ' + args['name']}";
    cluster.create(name, code).await;
    let activation = cluster.invoke(name, &json!({"name": "cluster"})).await;
    assert_eq!(
        activation["response"]["result"],
        json!({"greeting": "hello cluster"}),
        "{activation}"
    );
    let id = activation["activationId"].as_str().unwrap();
    let record = cluster.record(id).await;
    assert_eq!(record["response"]["status"], "success", "{record}");
    assert_eq!(record["name"], name);
    let [line] = &record["logs"].as_array().unwrap()[..] else {
        panic!("{record}");
    };
    assert!(
        line.as_str().unwrap().ends_with("stdout: greeting cluster"),
        "{line}"
    );
}

async fn a_missing_database_is_named_and_not_made(cluster: &Cluster) {
    let id = cluster.run_invoker(
        &[
            "--volume=/var/run/docker.sock:/var/run/docker.sock",
            "--env=CONFIG_whisk_couchdb_databases_WhiskActivation=absent_activations",
        ],
        &["/init.sh", "--id", "7", "--uniqueName", &cluster.name],
    );
    let log = || docker(&["logs", &id]);
    eventually("the log names the database", || {
        log().contains("absent_activations")
    })
    .await;
    docker(&["stop", "--time", "60", &id]);
    docker(&["rm", &id]);
    assert_eq!(cluster.couchdb("absent_activations"), "404");
    assert_eq!(cluster.couchdb("whisk_local_activations"), "200");
}
