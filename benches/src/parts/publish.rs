//! How many messages a second are taken: by us durably, by the baseline for as long as it runs.

use std::time::Duration;

use super::Bench;
use crate::{
    publisher,
    table::{Table, Who},
};

pub(super) const MOST_PUBLISHERS: usize = 256;

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let during = Duration::from_secs(if bench.quick { 1 } else { 5 });
    for publishers in [1, 16, MOST_PUBLISHERS] {
        for who in Who::BOTH {
            let server = bench.start(who)?;
            let rate = publisher::rate(server.address, publishers, during)?;
            let plural = if publishers == 1 { "" } else { "s" };
            table.add(who, &format!("{publishers} publisher{plural}: messages a second"), rate);
        }
    }
    Ok(())
}
