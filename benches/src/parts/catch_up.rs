//! Catch-up time of a late reader. Only for Tidings, since the others store nothing.

use std::time::Instant;

use super::{Bench, losses};
use crate::{contender::Contender, crowd::Crowd, noise::Watch, publisher::Publisher, table::Table};

const MESSAGES: usize = 100_000;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let messages = bench.size(MESSAGES) as u64;
    let what = format!("a late reader, {messages} messages");
    for contender in bench.contenders(&Contender::TIDINGS) {
        let server = bench.start(contender)?;
        Publisher::connect(server.address)?.publish_lines(messages)?;
        // So that only what a server reads at its start is in memory.
        let server = server.restart(bench, contender)?;

        let watch = Watch::begin()?;
        let start = Instant::now();
        let mut crowd = Crowd::gather(server.address, 1, None)?;
        crowd.watch(messages)?;
        let took = start.elapsed().as_secs_f64();
        let noise = watch.end()?;
        table.add_timed(contender, &format!("{what}: until it has the last, s"), took, noise);
        losses(contender, &crowd.tally, &what, table);
    }
    Ok(())
}
