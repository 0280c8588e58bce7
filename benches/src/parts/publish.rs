//! Publishing: messages a second, and the latency of an answer. Tidings stores them durably, nchan in
//! memory, the baseline not at all.

use std::time::Duration;

use super::{Bench, as_f64};
use crate::{
    contender::Contender,
    noise::Watch,
    publisher::{Load, Until},
    table::Table,
    text,
};

/// Not the floor, which has nothing to write without watchers.
const CONTENDERS: [Contender; 4] =
    [Contender::Ours, Contender::Before, Contender::Baseline, Contender::Nchan];
pub(super) const MAX_PUBLISHERS: usize = 256;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let during = Duration::from_secs(if bench.quick { 1 } else { 5 });
    for publishers in [1, 16, MAX_PUBLISHERS] {
        for contender in bench.contenders(&CONTENDERS) {
            let server = bench.start(contender)?;
            let until = Until::Elapsed(during);
            let load = Load { publishers, streams: 1, length: text::LENGTH, until };
            let watch = Watch::begin()?;
            let published = load.publish(&[server.address])?;
            let noise = watch.end()?;
            let plural = if publishers == 1 { "" } else { "s" };
            let mut add = |what: &str, figure| {
                let measure = format!("{publishers} publisher{plural}: {what}");
                table.add_timed(contender, &measure, figure, noise);
            };
            add("messages a second", published.rate);
            let percentile = published.latency.value_at_quantile(0.99);
            add("99th percentile of an answer, ms", as_f64(percentile) / 1000.0);
        }
    }
    Ok(())
}
