//! A cluster on this machine, to try failover: a database with a standby, three servers, a proxy.
//!
//! A program of its own starts it, an example of the package tidings-cluster. So these tasks do not depend
//! on that package, and start at once.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result, apt,
    build::{self, Build, Profile},
    postgres,
    process::{exec, output, root, run_cargo, say},
    progress::Steps,
};

/// The program that starts the cluster.
const PROGRAM: &str = "local_cluster";

/// Sets up, builds, and starts the cluster.
pub(crate) fn start() -> Result<()> {
    if !cfg!(target_os = "linux") {
        return Err("the cluster runs on Linux alone".to_owned());
    }
    let mut steps = Steps::new(build::STEPS + 3);
    steps.next("PostgreSQL and HAProxy");
    postgres::find_or_install().ok_or("the cluster needs PostgreSQL")?;
    let proxy = find_or_install_proxy()?;
    let build = Build::make(Profile::Quick, &mut steps)?;
    steps.next("The program that starts the cluster");
    run_cargo(&["build", "--locked", "--package=tidings-cluster", "--example", PROGRAM])?;
    steps.next("Starting. Ctrl+C stops everything.");
    let target = &build.config.target;
    let mut command = Command::new(target.join("debug/examples").join(PROGRAM));
    command.arg(target.join("cluster")).arg(build.server());
    exec(command.arg(proxy).arg(root().join("deploy/cluster-haproxy.cfg")))
}

fn find_or_install_proxy() -> Result<PathBuf> {
    let found = find_proxy().or_else(|| {
        if !apt::is_usable() {
            return None;
        }
        say("Installing HAProxy from the system's packages.");
        apt::update();
        apt::install("haproxy");
        find_proxy()
    });
    found.ok_or_else(|| "install HAProxy 2.6 or newer: sudo apt-get install haproxy".to_owned())
}

fn find_proxy() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian's folder is on the PATH of root alone.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let runs = |program: &Path| output(Command::new(program).arg("-v")).is_some();
    folders.map(|folder| folder.join("haproxy")).find(|program| runs(program))
}
