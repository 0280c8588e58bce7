//! Finds or installs Chromium for the tests of the pages.

use std::{env, ffi::OsString, path::PathBuf, process::Command};

use crate::{
    Result, apt, node,
    process::{output, root, run, say},
};

const NAMES: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// The path of an installed Chromium, else of the system's package; `None` is Playwright's own,
/// which Playwright finds by itself.
pub(crate) fn find_or_install() -> Result<Option<OsString>> {
    if let Some(found) = env::var_os("TIDINGS_CHROMIUM").or_else(find) {
        return Ok(Some(found));
    }
    if apt::is_usable() {
        say("Installing Chromium from the system's packages, to test the pages.");
        apt::update();
        apt::install("chromium");
        if let Some(found) = find() {
            return Ok(Some(found));
        }
    }
    say("Installing Playwright's own Chromium if it is missing, to test the pages.");
    run(
        Command::new(node::program(node::END2END, "playwright"))
            .args(["install", "chromium"])
            .current_dir(root().join(node::END2END)),
        "there is no Chromium; install one, or give its path with TIDINGS_CHROMIUM=<path>",
    )?;
    Ok(None)
}

fn find() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let mut candidates =
        NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    // Ubuntu's chromium-browser may be a stub that only prints how to install the real one.
    let runs = |candidate: &PathBuf| output(Command::new(candidate).arg("--version")).is_some();
    candidates.find(|candidate| candidate.is_file() && runs(candidate)).map(PathBuf::into_os_string)
}
