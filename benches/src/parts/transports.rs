//! Watchers over TLS and over HTTP/2, beside those over plain HTTP/1.1: the processor time to
//! connect one and to deliver to it, and its memory when it is idle and when it has stalled. Only
//! for Tidings: the baseline and the floor have neither.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Bench, NO_LIMITS, Running, as_f64, both, losses};
use crate::{
    contender::Contender,
    identity::Identity,
    noise::Watch,
    publisher::Publisher,
    table::Table,
    transport::{Connector, Transport},
    transport_crowd::TransportCrowd,
};

/// Idle watchers.
pub(super) const IDLE: usize = 2_000;
/// Watchers of messages at a rate.
const WATCHERS: usize = 1_000;
const MESSAGES: u64 = 500;
/// Messages a second.
const RATE: u32 = 50;
/// Stalled readers.
const STALLED: usize = 200;
/// So many messages are larger than the 4 MiB that the kernel keeps for a connection at most.
const STALLED_MESSAGES: usize = 50_000;
/// The receive buffer of a stalled reader's connection, in bytes: the server has to hold the rest.
const WINDOW: u32 = 16 * 1024;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let identity = Identity::new()?;
    for transport in Transport::ALL {
        for contender in bench.contenders(&Contender::TIDINGS) {
            let mut scene = Scene { bench, contender, transport, identity: &identity, table };
            scene.idle()?;
            scene.fan_out()?;
            scene.stalled()?;
        }
    }
    Ok(())
}

/// What is measured, and where its figures go.
struct Scene<'a> {
    bench: &'a Bench,
    contender: Contender,
    transport: Transport,
    identity: &'a Identity,
    table: &'a mut Table,
}

impl Scene<'_> {
    fn start(&self) -> anyhow::Result<(Running, Connector)> {
        let tls = match self.transport {
            Transport::Http1 => Vec::new(),
            _ => self.identity.flags().to_vec(),
        };
        let tls = tls.iter().map(String::as_str);
        let flags: Vec<_> = NO_LIMITS.into_iter().chain(tls).collect();
        let server = self.bench.start_with(self.contender, &flags)?;
        let connector = Connector::new(server.address, self.transport, self.identity)?;
        Ok((server, connector))
    }

    fn name(&self, watchers: usize, what: &str) -> String {
        format!("{watchers} {what}, {}", self.transport)
    }

    /// Measures the memory after every watcher has received one message.
    fn idle(&mut self) -> anyhow::Result<()> {
        let watchers = self.bench.size(IDLE);
        let what = self.name(watchers, "idle watchers");
        let (server, connector) = self.start()?;
        let (before, used) = (server.resident_bytes()?, server.processor_time()?);
        let watch = Watch::begin()?;
        let mut crowd = TransportCrowd::gather(&connector, watchers, None)?;
        let used = server.processor_time()?.saturating_sub(used);
        let noise = watch.end()?;
        let each = used.as_secs_f64() * 1e6 / as_f64(watchers as u64);
        let measure = format!("{what}: server's processor time to connect each, \u{b5}s");
        self.table.add_timed(self.contender, &measure, each, noise);

        let mut publisher = Publisher::over(&connector)?;
        both(
            || {
                crowd.watch(1);
                Ok(())
            },
            || publisher.publish_evenly(1, 1),
        )?;
        thread::sleep(Duration::from_secs(1));
        let more = server.resident_bytes()?.saturating_sub(before);
        let each = as_f64(more) / as_f64(watchers as u64);
        self.table.add(self.contender, &format!("{what}: memory of each, KiB"), each / 1024.0);
        losses(self.contender, &crowd.tally, &what, self.table);
        Ok(())
    }

    fn fan_out(&mut self) -> anyhow::Result<()> {
        let watchers = self.bench.size(WATCHERS);
        let messages = if self.bench.quick { MESSAGES / 5 } else { MESSAGES };
        let what = self.name(watchers, &format!("watchers, {RATE}/s"));
        let (server, connector) = self.start()?;
        let mut crowd = TransportCrowd::gather(&connector, watchers, None)?;
        let mut publisher = Publisher::over(&connector)?;
        let watch = Watch::begin()?;
        let used = server.processor_time()?;
        both(
            || {
                crowd.watch(messages);
                Ok(())
            },
            || publisher.publish_evenly(messages, RATE),
        )?;
        let used = server.processor_time()?.saturating_sub(used);
        let noise = watch.end()?;
        let each = used.as_secs_f64() * 1e6 / as_f64(crowd.tally.received);
        let measure = format!("{what}: server's processor time a delivery, \u{b5}s");
        self.table.add_timed(self.contender, &measure, each, noise);
        losses(self.contender, &crowd.tally, &what, self.table);
        Ok(())
    }

    fn stalled(&mut self) -> anyhow::Result<()> {
        let readers = self.bench.size(STALLED);
        let messages = self.bench.size(STALLED_MESSAGES) as u64;
        let what = self.name(readers, &format!("stalled readers of {messages} messages"));
        // Publishing takes memory too, which does not count for the readers.
        let (server, connector) = self.start()?;
        let without = growth(&server, &connector, messages)?;
        drop(server);

        let (server, connector) = self.start()?;
        let mut crowd = TransportCrowd::gather(&connector, readers, Some(WINDOW))?;
        let with = growth(&server, &connector, messages)?;
        let each = (with - without) / as_f64(readers as u64);
        self.table.add(
            self.contender,
            &format!("{what}: more memory for each, KiB"),
            each / 1024.0,
        );

        let watch = Watch::begin()?;
        let start = Instant::now();
        crowd.watch(messages);
        let took = start.elapsed().as_secs_f64();
        let noise = watch.end()?;
        let measure = format!("{what}: until all have the last, s");
        self.table.add_timed(self.contender, &measure, took, noise);
        losses(self.contender, &crowd.tally, &what, self.table);
        Ok(())
    }
}

/// By how many bytes the server grows while `messages` are published.
fn growth(server: &Running, connector: &Connector, messages: u64) -> anyhow::Result<f64> {
    let before = server.resident_bytes()?;
    Publisher::over(connector)?.publish_lines(messages)?;
    thread::sleep(Duration::from_secs(1));
    Ok(as_f64(server.resident_bytes()?) - as_f64(before))
}
