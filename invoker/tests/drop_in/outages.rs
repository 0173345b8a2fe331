//! Services that go away under load and come back: nothing is lost, and nothing is answered twice.

use super::world::{PATIENCE, World, in_own_world};
use proto::whisk::activation_message::ActivationMessage;
use serde_json::json;
use stand_in_controller::controller::{Call, Running, fresh};
use stand_in_controller::ledger::Problem;
use std::time::Duration;

const COUNT: usize = 60;

/// K-29, K-35, D-45: Kafka and the database, one after the other, while work comes in
#[test]
fn kafka_and_the_database_come_back_and_nothing_is_lost_or_doubled() {
    in_own_world(&[], async |world| {
        let script = json!({ "run": { "delay_ms": 50, "body": { "ok": true } } });
        let template = world.probe("outage", script).await;

        let mut before = send(world, &template).await;
        world.broker.lock().unwrap().stop();
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.broker.lock().unwrap().go_on().unwrap();
        before.extend(send(world, &template).await);
        all_end(world, before).await;

        let mut during = send(world, &template).await;
        world.couch.lock().unwrap().stop();
        during.extend(send(world, &template).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.couch.lock().unwrap().go_on().unwrap();
        all_end(world, during).await;

        let problems = world.controller.audit();
        let lost = problems.iter().filter(|problem| {
            matches!(
                problem,
                Problem::Forced(_) | Problem::Unanswered(_) | Problem::FreedTwice(_)
            )
        });
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<&Problem>::new());
    });
}

async fn send(world: &World, template: &ActivationMessage) -> Vec<Running> {
    let mut running = Vec::new();
    for _ in 0..COUNT {
        running.push(
            world
                .controller
                .send_to(0, Call::new(fresh(template)))
                .await
                .unwrap(),
        );
    }
    running
}

/// Each has its completion, and its record.
async fn all_end(world: &World, running: Vec<Running>) {
    let database = world.couch.lock().unwrap().database();
    for mut one in running {
        let finished = tokio::time::timeout(PATIENCE, one.finished()).await;
        let log = || world.invoker.lock().unwrap().log();
        finished
            .unwrap_or_else(|_| panic!("{} was lost\n{}", one.id, log()))
            .unwrap();
        let begun = std::time::Instant::now();
        while database.record("guest", one.id).await.unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "{} has no record", one.id);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
