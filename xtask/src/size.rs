//! The size budget of the page: the bytes that a browser loads before the page is live; and no
//! build paths in it.

use std::{fs, path::Path};

use crate::{Result, tools};

/// The maximum size of wasm and script together, compressed with brotli, as served. In kB of 1000
/// bytes. A usual Leptos page weighs 105, React 19 alone 59.
const BUDGET: u64 = 56;

/// Checks the size of the compressed wasm and script in `folder` against the budget.
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

/// Checks that the wasm contains no path of the build machine: none in the folder of cargo.
pub(crate) fn check_paths(wasm: &Path) -> Result<()> {
    let content = fs::read(wasm).map_err(|error| format!("{}: {error}", wasm.display()))?;
    let home = tools::cargo_home().and_then(|home| home.to_str().map(str::to_owned));
    let Some(home) = home.filter(|home| !home.contains(char::is_whitespace)) else {
        return Ok(());
    };
    if content.windows(home.len()).any(|bytes| bytes == home.as_bytes()) {
        return Err(format!("{} contains {home}, a path of the build machine", wasm.display()));
    }
    Ok(())
}
