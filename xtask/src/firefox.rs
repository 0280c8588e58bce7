//! Finds or installs Firefox for the tests of the pages.

use std::{env, ffi::OsString};

use crate::{
    apt,
    process::{find_program, say},
};

/// Debian has the release with extended support, whose program is the same.
const NAMES: [&str; 2] = ["firefox", "firefox-esr"];

/// What to do where Firefox is missing.
pub(crate) const ADVICE: &str = "install Firefox: sudo apt-get install firefox-esr (Debian), sudo dnf install \
     firefox (Fedora), or give its path with TIDINGS_FIREFOX=<path>";

/// The path of an installed Firefox; installs it where it can. None, after a message that cannot be
/// overlooked, where it cannot.
pub(crate) fn find_or_install() -> Option<OsString> {
    let installed = || env::var_os("TIDINGS_FIREFOX").or_else(|| find_program(&NAMES));
    let found = installed().or_else(|| {
        if !apt::is_usable() {
            return None;
        }
        say("Installing Firefox from the system's packages, to test the pages.");
        apt::update();
        apt::install("firefox-esr");
        installed()
    });
    if found.is_none() {
        say(&format!("!!! FIREFOX IS MISSING !!! Please {ADVICE}."));
    }
    found
}
