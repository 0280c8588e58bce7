//! The size budget of the page: what a browser has to load before it is live.

use std::{fs, path::Path};

use crate::Result;

/// The most that wasm and script may weigh together, compressed with brotli, as served. In kB of
/// 1000 bytes. A usual Leptos page weighs 105, React 19 alone 59. What it takes to answer the page's
/// script, to be ended by it, and to send a message again until it is answered is 1.8 of these.
const BUDGET: u64 = 74;

/// Adds up the compressed wasm and script in `folder` and holds them against the budget.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut bytes = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wasm.br") || name.ends_with(".js.br") {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            println!("{size:>8} bytes  {name}");
            bytes += size;
        }
    }
    let total = format!("{}.{} kB of wasm and script, brotli", bytes / 1000, bytes / 100 % 10);
    if bytes == 0 {
        return Err(format!("there is no compressed wasm in {}", folder.display()));
    }
    if bytes > BUDGET * 1000 {
        return Err(format!("{total}: over the budget of {BUDGET} kB"));
    }
    println!("{total}; the budget is {BUDGET} kB");
    Ok(())
}
