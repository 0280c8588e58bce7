//! Idle watchers: the processor time to connect one, and its memory.

use std::{thread, time::Duration};

use super::{Bench, as_f64, losses, publish_and_watch};
use crate::{contender::Contender, crowd::Crowd, noise::Watch, table::Table};

pub(super) const WATCHERS: usize = 10_000;

/// Measures the memory after every watcher has received one message: in practice few watchers have
/// received nothing.
pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let watchers = bench.size(WATCHERS);
    let what = format!("{watchers} idle watchers");
    for contender in bench.contenders(&Contender::ALL) {
        let server = bench.start(contender)?;
        let (before, used) = (server.resident_bytes()?, server.processor_time()?);
        let watch = Watch::begin()?;
        let mut crowd = Crowd::gather(server.address, watchers, None)?;
        let used = server.processor_time()?.saturating_sub(used);
        let noise = watch.end()?;
        let each = used.as_secs_f64() * 1e6 / as_f64(watchers as u64);
        let measure = format!("{what}: server's processor time to connect each, \u{b5}s");
        table.add_timed(contender, &measure, each, noise);

        publish_and_watch(&server, &mut crowd, 1, |publisher| publisher.publish_evenly(1, 1))?;
        thread::sleep(Duration::from_secs(1));
        let more = server.resident_bytes()?.saturating_sub(before);
        let each = as_f64(more) / as_f64(watchers as u64);
        table.add(contender, &format!("{what}: memory of each, KiB"), each / 1024.0);
        losses(contender, &crowd.tally, &what, table);
    }
    Ok(())
}
