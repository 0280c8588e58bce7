//! `cargo xtask run`, `test`, `watch`, `bench` and `dist`: sets up what is missing, then does it.
//!
//! It has no dependencies, so that the first command a newcomer types answers at once.

mod dist;
mod elsewhere;
mod size;
mod steps;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <task> [-- arguments of the server, or of the benchmarks]

Tasks:
  run    Sets up what is missing, builds the release and serves it
  test   Sets up what is missing, then checks and tests everything
  watch  Sets up what is missing, then `cargo leptos watch`: rebuilds and reloads as you edit
  bench  Builds the release of the server and measures it (-- --help says what)
  dist   Sets up what is missing, builds the release and packs it: target/dist/tidings-….tar.gz
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next();
    let rest: Vec<_> = arguments.skip_while(|argument| argument == "--").collect();
    let done = match (task.as_deref(), rest.as_slice()) {
        (Some("run"), server_arguments) => steps::run(server_arguments),
        (Some("watch"), server_arguments) => steps::watch(server_arguments),
        (Some("bench"), options) => steps::bench(options),
        (Some("test"), []) => steps::test(),
        (Some("dist"), []) => steps::dist(),
        (Some(task @ ("test" | "dist")), _) => Err(format!("{task} takes no arguments")),
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

/// What went wrong, and what to do about it: for people, who are the only readers.
type Result<T> = std::result::Result<T, String>;
