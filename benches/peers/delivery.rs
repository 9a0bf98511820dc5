//! How soon a commit is delivered to the one who watches its key, however many others watch.

use tokio::runtime::Runtime;

use crate::measure::watches::Watched;
use crate::measure::{self, Effort, Lanes};

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("delivery", effort);
    let runtime = Runtime::new().unwrap();
    let turn = effort.turn(400);
    let watched =
        |watchers| Watched::create(&runtime, &folder.path().join(format!("{watchers}.db")), watchers);
    let (one, many) = (watched(1), watched(10_000));
    let mut lanes = Lanes::new();
    lanes.lane("delivery p50, 1 watcher", || one.deliver(turn));
    lanes.lane("delivery p50, 10,000 watchers", || many.deliver(turn));
    // What should not grow by more than 1.3 times is printed the other way round.
    lanes.ratio("delivery_10000", "delivery p50, 10,000 watchers", "delivery p50, 1 watcher", 0.77);
    lanes.run(effort);
}
