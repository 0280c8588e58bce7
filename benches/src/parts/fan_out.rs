//! Fan-out: processor time and delay of one delivery, of one message to one watcher.
//!
//! Without a rate, Tidings accepts messages as fast as it can store them and deliver them to every
//! watcher. The baseline accepts more than it delivers; its figures cover only delivered messages.

use std::time::Instant;

use super::{Bench, as_f64, losses, publish_and_watch};
use crate::{
    crowd::Crowd,
    table::{Table, Who},
};

pub(super) const MAX_WATCHERS: usize = 5_000;

struct Scene {
    watchers: usize,
    messages: u64,
    /// Messages a second; `None` is as fast as the server takes them.
    rate: Option<u32>,
}

const SCENES: [Scene; 3] = [
    Scene { watchers: 1_000, messages: 500, rate: Some(50) },
    Scene { watchers: MAX_WATCHERS, messages: 100, rate: Some(10) },
    Scene { watchers: 1_000, messages: 20_000, rate: None },
];

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    for scene in &SCENES {
        for who in Who::BOTH {
            let scene = Scene {
                watchers: bench.size(scene.watchers),
                messages: if bench.quick { scene.messages / 5 } else { scene.messages },
                rate: scene.rate,
            };
            play(bench, &scene, who, table)?;
        }
    }
    Ok(())
}

fn play(bench: &Bench, scene: &Scene, who: Who, table: &mut Table) -> anyhow::Result<()> {
    let &Scene { watchers, messages, rate } = scene;
    let server = bench.start(who)?;
    let mut crowd = Crowd::gather(server.address, watchers, None)?;

    let used = server.processor_time()?;
    let start = Instant::now();
    publish_and_watch(&server, &mut crowd, messages, |publisher| match rate {
        Some(rate) => publisher.publish_evenly(messages, rate),
        None => publisher.publish_lines(messages),
    })?;
    let took = start.elapsed();
    let used = server.processor_time()?.saturating_sub(used);

    let what = match rate {
        Some(rate) => format!("{watchers} watchers, {rate}/s"),
        None => format!("{watchers} watchers, {messages} at once"),
    };
    let mut add = |measure: &str, figure| table.add(who, &format!("{what}: {measure}"), figure);
    let received = as_f64(crowd.tally.received);
    add("server's processor time a delivery, \u{b5}s", used.as_secs_f64() * 1e6 / received);
    for percent in [50_u8, 99] {
        let delay = crowd.tally.latency.value_at_percentile(percent.into());
        add(&format!("delay, p{percent}, ms"), as_f64(delay) / 1000.0);
    }
    if rate.is_none() {
        add("deliveries a second", received / took.as_secs_f64());
    }
    losses(who, &crowd, &what, table);
    Ok(())
}
