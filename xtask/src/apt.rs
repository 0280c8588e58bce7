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

/// Installs a package, and keeps Debian from starting its service meanwhile (invoke-rc.d(8)).
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap "rm $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy
fi
apt-get install --yes --no-install-recommends "$1"
"#;

/// Installs a package. Nothing is asked, and no service is started.
pub(crate) fn install(package: &str) {
    let _ = Command::new("sh")
        .args(["-c", INSTALL, "sh", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
}
