//! Publishing: messages a second, and the latency of an answer. Tidings stores them durably, the
//! baseline not at all.

use std::time::Duration;

use super::{Bench, as_f64};
use crate::{
    publisher::{Load, Until},
    table::{Table, Who},
    text,
};

pub(super) const MAX_PUBLISHERS: usize = 256;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let during = Duration::from_secs(if bench.quick { 1 } else { 5 });
    for publishers in [1, 16, MAX_PUBLISHERS] {
        for who in Who::BOTH {
            let server = bench.start(who)?;
            let until = Until::Elapsed(during);
            let load = Load { publishers, streams: 1, length: text::LENGTH, until };
            let published = load.publish(&[server.address])?;
            let plural = if publishers == 1 { "" } else { "s" };
            let mut add = |what: &str, figure| {
                table.add(who, &format!("{publishers} publisher{plural}: {what}"), figure);
            };
            add("messages a second", published.rate);
            let percentile = published.latency.value_at_quantile(0.99);
            add("99th percentile of an answer, ms", as_f64(percentile) / 1000.0);
        }
    }
    Ok(())
}
