//! Finds or installs Chromium for the tests of the pages.

use std::{env, ffi::OsString, process::Command};

use crate::{
    Result, apt, node,
    process::{find_program, root, run, say},
};

const NAMES: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// The path of an installed Chromium, else of the system's package; `None` is Playwright's own,
/// which Playwright finds by itself.
pub(crate) fn find_or_install() -> Result<Option<OsString>> {
    if let Some(found) = env::var_os("TIDINGS_CHROMIUM").or_else(|| find_program(&NAMES)) {
        return Ok(Some(found));
    }
    if apt::is_usable() {
        say("Installing Chromium from the system's packages, to test the pages.");
        apt::update();
        apt::install("chromium");
        if let Some(found) = find_program(&NAMES) {
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
