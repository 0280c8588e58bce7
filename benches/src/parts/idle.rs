//! Memory of idle watchers.

use std::{thread, time::Duration};

use super::{Bench, as_f64, losses, publish_and_watch};
use crate::{
    crowd::Crowd,
    table::{Table, Who},
};

pub(super) const WATCHERS: usize = 10_000;

/// Measures after every watcher has received one message: in practice few watchers have received
/// nothing.
pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let watchers = bench.size(WATCHERS);
    let what = format!("{watchers} idle watchers");
    for who in Who::BOTH {
        let server = bench.start(who)?;
        let before = server.resident_bytes()?;
        let mut crowd = Crowd::gather(server.address, watchers, None)?;
        publish_and_watch(&server, &mut crowd, 1, |publisher| publisher.publish_evenly(1, 1))?;
        thread::sleep(Duration::from_secs(1));
        let more = server.resident_bytes()?.saturating_sub(before);
        let each = as_f64(more) / as_f64(watchers as u64);
        table.add(who, &format!("{what}: memory of each, KiB"), each / 1024.0);
        losses(who, &crowd, &what, table);
    }
    Ok(())
}
