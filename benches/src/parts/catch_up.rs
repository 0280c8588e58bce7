//! Catch-up time of a late reader. Only for Tidings, since the baseline stores nothing.

use std::time::Instant;

use super::{Bench, losses};
use crate::{
    crowd::Crowd,
    publisher::Publisher,
    table::{Table, Who},
};

const MESSAGES: usize = 100_000;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let messages = bench.size(MESSAGES) as u64;
    let server = bench.start(Who::Ours)?;
    Publisher::connect(server.address)?.publish_lines(messages)?;
    // So that only what a server reads at its start is in memory.
    let server = server.restart(bench, Who::Ours)?;

    let start = Instant::now();
    let mut crowd = Crowd::gather(server.address, 1, None)?;
    crowd.watch(messages)?;
    let took = start.elapsed().as_secs_f64();
    let what = format!("a late reader, {messages} messages");
    table.add(Who::Ours, &format!("{what}: until it has the last, s"), took);
    losses(Who::Ours, &crowd, &what, table);
    Ok(())
}
