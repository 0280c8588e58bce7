//! `cargo xtask run`, `cluster`, `watch`, `test`, `soak`, `bench` and `dist`: installs missing tools, runs
//! the task.
//!
//! A JSON parser is the only dependency, so that the first command of a new contributor starts at
//! once.

mod apt;
mod build;
mod chromium;
mod cluster;
mod config;
mod dist;
mod files;
mod firefox;
mod node;
mod postgres;
mod process;
mod programs;
mod progress;
mod site;
mod size;
mod smoke_test;
mod steps;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <task> [-- arguments of the server, or of the benchmarks]

Each task installs the tools that it needs and does not find.

Tasks:
  run      Builds Tidings quickly, for this machine, and serves it at http://127.0.0.1:3000. Arguments
           go to the server (-- --help lists them)
  watch    The same, but rebuilds and reloads the page as you edit: `cargo leptos watch`
  cluster  To try failover: builds like `run`, and starts three servers over one PostgreSQL database
           with a synchronous standby, behind HAProxy, at the same address (Linux alone)
  test     Checks and tests everything: format, lints, the Rust tests, the release, its size, and its
           pages in Chromium and Firefox
  soak     Kills, freezes and cuts off servers and databases for some minutes, while publishers and
           readers check that no message is lost or doubled
  bench    Builds the release of the server and measures it (-- --help lists the benchmarks); with
           `-- page` the pages, in Chromium
  dist     Builds the release, slower to compile, faster and smaller, and packs everything that a
           server needs: target/dist/tidings-….tar.gz
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next();
    let rest: Vec<_> = arguments.skip_while(|argument| argument == "--").collect();
    let done = match (task.as_deref(), rest.as_slice()) {
        (Some("run"), server_arguments) => steps::run_server(server_arguments),
        (Some("watch"), server_arguments) => steps::watch(server_arguments),
        (Some("cluster"), []) => cluster::start(),
        (Some("bench"), options) => steps::bench(options),
        (Some("test"), []) => steps::test(),
        (Some("soak"), []) => steps::soak(),
        (Some("dist"), []) => steps::dist(),
        (Some(task @ ("cluster" | "test" | "soak" | "dist")), _) => {
            Err(format!("{task} takes no arguments"))
        }
        (None | Some("help" | "--help" | "-h"), _) => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(format!("no such task\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An error is a text for the developer: what went wrong, and what to do about it.
type Result<T> = std::result::Result<T, String>;
