//! Packages of Debian and its relatives.

use std::process::{Command, Stdio};

use crate::process::output;

/// Whether packages can be installed: there is apt, and this process is root.
pub(crate) fn is_usable() -> bool {
    let is_root = output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    is_root && output(Command::new("apt-get").arg("--version")).is_some()
}

/// Fetches the lists of packages.
pub(crate) fn update() {
    // Failures are ignored, here and below: a search for what was installed shows whether it worked.
    let _ = Command::new("apt-get").arg("update").stdout(Stdio::null()).status();
}

/// Installs a package. Nothing is asked.
pub(crate) fn install(package: &str) {
    let _ = Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
}
