//! A cluster on this machine, to try failover: a database with a standby, three servers, a proxy.
//!
//! A program of its own starts it, an example of the package tidings-cluster. So these tasks do not depend
//! on that package, and start at once.

use std::process::Command;

use crate::{
    Result,
    build::{self, Build, Profile},
    postgres,
    process::{exec, root, run_cargo},
    programs,
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
    let proxy = programs::find_or_install("haproxy")
        .ok_or("install HAProxy 2.6 or newer: sudo apt-get install haproxy")?;
    let build = Build::make(Profile::Quick, &mut steps)?;
    steps.next("The program that starts the cluster");
    run_cargo(&["build", "--locked", "--package=tidings-cluster", "--example", PROGRAM])?;
    steps.next("Starting. Ctrl+C stops everything.");
    let target = &build.config.target;
    let mut command = Command::new(target.join("debug/examples").join(PROGRAM));
    command.arg(target.join("cluster")).arg(build.server());
    exec(command.arg(proxy).arg(root().join("deploy/cluster-haproxy.cfg")))
}
