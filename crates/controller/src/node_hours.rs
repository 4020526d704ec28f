//! How many hours nodes of each type ran, as far as the leader saw them: the share of spot that was really had, and the
//! basis of what it saved.
//!
//! A node counts from when it is seen to when it is gone, to within one period. While the view is not complete nothing is
//! counted. Whoever adds up several replicas has the whole, since one of them leads at a time.

use std::time::Duration;

use parking_lot::Mutex;
use spotalis_core::capacity::CapacityType;
use spotalis_kube::index::Index;
use spotalis_runtime::Clock;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::BalanceMetrics;

/// Between two looks. Nodes live for minutes at least.
const PERIOD: Duration = Duration::from_secs(15);

/// Counts until it is dropped.
pub(crate) async fn count(index: &Mutex<Index>, metrics: &BalanceMetrics, clock: Clock) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut last = clock.elapsed();
    loop {
        ticks.tick().await;
        let now = clock.elapsed();
        let hours = now.saturating_sub(last).as_secs_f64() / 3_600.0;
        last = now;
        let seen = {
            let index = index.lock();
            index.is_synced().then(|| index.node_summary())
        };
        let Some(nodes) = seen else { continue };
        for (capacity, count) in [
            (Some(CapacityType::Spot), nodes.spot),
            (Some(CapacityType::OnDemand), nodes.on_demand),
            (None, nodes.unknown),
        ] {
            metrics.ran(capacity, f64::from(count) * hours);
        }
    }
}
