//! Fan-out: processor time and delay of one delivery, of one message to one watcher.
//!
//! Without a rate, Tidings accepts messages as fast as it can store them and deliver them to every
//! watcher. The baseline accepts more than it delivers; its figures cover only delivered messages.

use std::time::Instant;

use super::{Bench, as_f64, losses, publish_and_watch};
use crate::{
    contender::Contender,
    crowd::{Crowd, Order},
    noise::Watch,
    publisher::{self, Until},
    table::Table,
    text,
};

pub(super) const MAX_WATCHERS: usize = 5_000;

struct Scene {
    watchers: usize,
    messages: u64,
    load: Load,
}

/// How messages are published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// So many a second, by one publisher.
    Rate(u32),
    /// As the lines of one upload, as fast as the server takes them.
    Lines,
    /// One in each request, as fast as the server answers, by so many publishers at once.
    Publishers(usize),
}

const SCENES: [Scene; 5] = [
    Scene { watchers: 1_000, messages: 500, load: Load::Rate(50) },
    Scene { watchers: MAX_WATCHERS, messages: 100, load: Load::Rate(10) },
    Scene { watchers: 1_000, messages: 20_000, load: Load::Lines },
    Scene { watchers: 1_000, messages: 1_000, load: Load::Publishers(1) },
    Scene { watchers: 1_000, messages: 4_000, load: Load::Publishers(16) },
];

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    for scene in &SCENES {
        let scene = Scene {
            watchers: bench.size(scene.watchers),
            messages: if bench.quick { scene.messages / 5 } else { scene.messages },
            load: scene.load,
        };
        for contender in bench.contenders(&Contender::ALL) {
            // To nchan an upload is one message.
            if scene.load != Load::Lines || contender != Contender::Nchan {
                play(bench, &scene, contender, table)?;
            }
        }
    }
    Ok(())
}

fn play(
    bench: &Bench,
    scene: &Scene,
    contender: Contender,
    table: &mut Table,
) -> anyhow::Result<()> {
    let &Scene { watchers, messages, load } = scene;
    let server = bench.start(contender)?;
    let mut crowd = Crowd::gather(server.address, watchers, None)?;
    crowd.order = load.order();

    let watch = Watch::begin()?;
    let used = server.processor_time()?;
    let start = Instant::now();
    publish_and_watch(&server, &mut crowd, messages, |publisher| match load {
        Load::Rate(rate) => publisher.publish_evenly(messages, rate),
        Load::Lines => publisher.publish_lines(messages),
        Load::Publishers(publishers) => {
            let until = Until::Published(messages);
            let load = publisher::Load { publishers, streams: 1, length: text::LENGTH, until };
            load.publish(&[server.address]).map(drop)
        }
    })?;
    let took = start.elapsed();
    let used = server.processor_time()?.saturating_sub(used);
    let noise = watch.end()?;

    let what = scene.name();
    let mut add = |measure: &str, figure| {
        table.add_timed(contender, &format!("{what}: {measure}"), figure, noise);
    };
    let received = as_f64(crowd.tally.received);
    add("server's processor time a delivery, \u{b5}s", used.as_secs_f64() * 1e6 / received);
    for percent in [50_u8, 99] {
        let delay = crowd.tally.latency.value_at_percentile(percent.into());
        add(&format!("delay, p{percent}, ms"), as_f64(delay) / 1000.0);
    }
    if !matches!(load, Load::Rate(_)) {
        add("deliveries a second", received / took.as_secs_f64());
    }
    losses(contender, &crowd.tally, &what, table);
    Ok(())
}

impl Scene {
    fn name(&self) -> String {
        let &Self { watchers, messages, load } = self;
        match load {
            Load::Rate(rate) => format!("{watchers} watchers, {rate}/s"),
            Load::Lines => format!("{watchers} watchers, {messages} lines at once"),
            Load::Publishers(1) => format!("{watchers} watchers, 1 publisher at full speed"),
            Load::Publishers(number) => format!("{watchers} watchers, {number} publishers at once"),
        }
    }
}

impl Load {
    /// What a publisher sends arrives in its order, but not what several send at once.
    fn order(self) -> Order {
        match self {
            Self::Publishers(2..) => Order::Any,
            _ => Order::Sent,
        }
    }
}
