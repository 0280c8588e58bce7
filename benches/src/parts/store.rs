//! Disk use: the ratio of the store's size to its text. For messages of three sizes, in one stream
//! and in many that are published to in turn; after publishing, and after twice as much has been
//! trimmed.

use std::fs;

use super::{Bench, NO_LIMITS, as_f64};
use crate::{
    contender::Contender,
    publisher::{Load, Until},
    table::Table,
};

pub(super) const PUBLISHERS: usize = 64;
const STREAMS: [u64; 3] = [1, 64, 500];

/// Messages of one size.
struct Scene {
    length: usize,
    /// The number of messages that are kept.
    kept: u64,
    /// The ratio that the store must not exceed.
    target: f64,
}

const SCENES: [Scene; 3] = [
    Scene { length: 100, kept: 128_000, target: 1.6 },
    Scene { length: 1_000, kept: 40_000, target: 1.15 },
    Scene { length: 16 * 1024, kept: 4_000, target: 1.15 },
];

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    for scene in &SCENES {
        for streams in STREAMS {
            for (what, times) in [("published", 1), ("trimmed", 3)] {
                for contender in bench.contenders(&Contender::TIDINGS) {
                    let ratio = ratio(bench, scene, streams, times, contender)?;
                    let plural = if streams == 1 { "" } else { "s" };
                    let length = scene.length;
                    let measure =
                        format!("{length} bytes, {streams} stream{plural}, {what}: file ÷ text");
                    table.add(contender, &measure, ratio);
                    if contender == Contender::Ours && ratio > scene.target && !bench.quick {
                        table.fail(format!("{measure} is above {}", scene.target));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Publishes `times` the number of kept messages, and divides the store's size by its text.
fn ratio(
    bench: &Bench,
    scene: &Scene,
    streams: u64,
    times: u64,
    contender: Contender,
) -> anyhow::Result<f64> {
    let each = (bench.size_of(scene.kept) / streams).max(1);
    let keep = format!("--keep-messages={each}");
    let server = bench.start_with(contender, &[&NO_LIMITS[..], &[&keep]].concat())?;
    let until = Until::Published(times * each * streams);
    let load = Load { publishers: PUBLISHERS, streams, length: scene.length, until };
    load.publish(&[server.address])?;
    let data = server.stop()?;
    let mut bytes = 0;
    for entry in fs::read_dir(data.path())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("data.db") {
            bytes += entry.metadata()?.len();
        }
    }
    let text = each * streams * scene.length as u64;
    Ok(as_f64(bytes) / as_f64(text))
}
