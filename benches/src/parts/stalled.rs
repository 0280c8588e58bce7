//! Stalled readers: their memory, and whether they get every message once they read again.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Bench, as_f64, losses};
use crate::{
    contender::Contender, crowd::Crowd, noise::Watch, process::Server, publisher::Publisher,
    table::Table,
};

/// Not the floor, which keeps everything for a reader that stalls, nor nchan, to which an upload is
/// one message.
const CONTENDERS: [Contender; 3] = [Contender::Ours, Contender::Before, Contender::Baseline];
pub(super) const READERS: usize = 200;
const MESSAGES: usize = 100_000;
/// The receive buffer of a reader, in bytes: the server has to hold the rest.
const WINDOW: usize = 16 * 1024;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let (readers, messages) = (bench.size(READERS), bench.size(MESSAGES) as u64);
    let what = format!("{readers} stalled readers, {messages} messages");
    for contender in bench.contenders(&CONTENDERS) {
        // Publishing takes memory too, which does not count for the readers.
        let without = growth(&bench.start(contender)?.server, messages)?;

        let server = bench.start(contender)?;
        let mut crowd = Crowd::gather(server.address, readers, Some(WINDOW))?;
        let with = growth(&server, messages)?;
        let each = (with - without) / as_f64(readers as u64);
        table.add(contender, &format!("{what}: more memory for each, KiB"), each / 1024.0);

        let watch = Watch::begin()?;
        let start = Instant::now();
        crowd.watch(messages)?;
        let took = start.elapsed().as_secs_f64();
        let noise = watch.end()?;
        table.add_timed(contender, &format!("{what}: until all have the last, s"), took, noise);
        losses(contender, &crowd.tally, &what, table);
    }
    Ok(())
}

/// By how many bytes the server grows while `messages` are published.
fn growth(server: &Server, messages: u64) -> anyhow::Result<f64> {
    let before = server.resident_bytes()?;
    Publisher::connect(server.address)?.publish_lines(messages)?;
    thread::sleep(Duration::from_secs(1));
    Ok(as_f64(server.resident_bytes()?) - as_f64(before))
}
