//! Delay of delivery during a denial-of-service attack, with the default limits of the server.
//!
//! The attacker takes processor time from the same machine, which a remote one could not. So its
//! rates are fixed, at a few times the limits, and printed. Only Tidings is measured, since the
//! others have no limits.

use super::{Bench, as_f64, losses, publish_and_watch};
use crate::{
    attacker::Attack,
    contender::Contender,
    crowd::Crowd,
    noise::{Noise, Watch},
    table::Table,
};

pub(super) const WATCHERS: usize = 5_000;
const MESSAGES: u64 = 150;
/// Messages a second.
const RATE: u32 = 10;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let watchers = bench.size(WATCHERS);
    let messages = if bench.quick { MESSAGES / 5 } else { MESSAGES };
    for contender in bench.contenders(&Contender::TIDINGS) {
        attack(bench, contender, watchers, messages, table)?;
    }
    Ok(())
}

/// Measures a server alone, then under attack.
fn attack(
    bench: &Bench,
    contender: Contender,
    watchers: usize,
    messages: u64,
    table: &mut Table,
) -> anyhow::Result<()> {
    let what = format!("{watchers} watchers, {RATE}/s");
    let percents = [50_u8, 99];
    let (mut delays, mut noisier) = (Vec::new(), Noise::NONE);
    for attacked in [false, true] {
        let server = bench.start_with(contender, &[])?;
        let mut crowd = Crowd::gather(server.address, watchers, None)?;
        let watch = Watch::begin()?;
        let attack = attacked.then(|| Attack::begin(server.address));
        publish_and_watch(&server, &mut crowd, messages, |publisher| {
            publisher.publish_evenly(messages, RATE)
        })?;
        if let Some(attack) = attack {
            attack.end();
        }
        let noise = watch.end()?;
        noisier = noisier.or(noise);
        let what = format!("{what}, {}", if attacked { "attacked" } else { "alone" });
        for percent in percents {
            let delay = crowd.tally.latency.value_at_percentile(percent.into());
            let delay = as_f64(delay) / 1000.0;
            let measure = format!("{what}: delay, p{percent}, ms");
            table.add_timed(contender, &measure, delay, noise);
            delays.push(delay);
        }
        losses(contender, &crowd.tally, &what, table);
    }
    for (percent, (alone, attacked)) in percents.iter().zip(delays[..2].iter().zip(&delays[2..])) {
        let measure = format!("{what}: delay, p{percent}, attacked \u{f7} alone");
        table.add_timed(contender, &measure, attacked / alone, noisier);
    }
    Ok(())
}
