//! Finds or installs programs that some tests and the cluster run.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    apt,
    process::{output, say},
};

/// The programs of the tests: those that [`find_or_install`] finds, and the packages of Debian.
const OF_TESTS: [&str; 5] = ["curl", "haproxy", "nginx", "openssl", "python3"];

/// Finds or installs the programs of the tests, and returns those that are missing.
pub(crate) fn missing() -> Vec<&'static str> {
    OF_TESTS.into_iter().filter(|name| find_or_install(name).is_none()).collect()
}

/// The path of a program, whose package has its name; installs it where it can.
pub(crate) fn find_or_install(name: &str) -> Option<PathBuf> {
    find(name).or_else(|| {
        if !apt::is_usable() {
            return None;
        }
        say(&format!("Installing {name} from the system's packages."));
        apt::update();
        apt::install(name);
        find(name)
    })
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian's folder is on the PATH of root alone.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut programs = folders.map(|folder| folder.join(name));
    // Each takes one of them, and refuses those before it.
    let runs = |program: &Path| {
        ["--version", "-v", "version"]
            .iter()
            .any(|argument| output(Command::new(program).arg(argument)).is_some())
    };
    programs.find(|program| runs(program))
}
