//! Whether a stem cell, which nobody uses, could be used: `ContainerProxy.scala`; contract L-52.

use crate::config::StemCellCheck;
use crate::container::{Address, action_proxy};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

/// A try that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Returns once so many connections in a row have failed as the check allows.
pub(super) async fn fails(address: &Address, check: StemCellCheck) {
    let period = check.period.max(Duration::from_millis(1));
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = 0;
    while failed < check.fails.max(1) {
        ticks.tick().await;
        let listens = timeout(PATIENCE, action_proxy::listens(address)).await;
        failed = if listens == Ok(true) { 0 } else { failed + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// L-52: failures count only in a row, and a stem cell that listens never fails.
    #[tokio::test]
    async fn a_stem_cell_fails_once_nobody_listens_any_more() {
        let check = StemCellCheck {
            period: Duration::from_millis(5),
            fails: 3,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = Address::Tcp(listener.local_addr().expect("bound"));
        let fails = fails(&address, check);
        tokio::pin!(fails);
        for _ in 0..2 * check.fails {
            tokio::select! {
                () = &mut fails => panic!("it listens"),
                connected = listener.accept() => drop(connected.expect("a connection")),
            }
        }
        drop(listener);
        tokio::time::timeout(Duration::from_secs(60), fails)
            .await
            .expect("it is noticed");
    }
}
