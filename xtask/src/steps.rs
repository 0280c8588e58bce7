//! The tasks, as lists of steps.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result, dist, elsewhere, size,
    tools::{self, Tools, say},
};

/// Sets up, builds the release, serves it.
pub(crate) fn run(server_arguments: &[String]) -> Result<()> {
    let tools = Tools::for_build()?;
    build(&tools)?;
    say("Serving. Ctrl+C stops.");
    become_it(Command::new(target().join("release/tidings")).args(server_arguments))
}

/// Leaves the terminal to the server, so that Ctrl+C waits until it has let its readers go.
#[cfg(unix)]
fn become_it(server: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(format!("the server can not be run: {}", server.exec()))
}

#[cfg(not(unix))]
fn become_it(server: &mut Command) -> Result<()> {
    tools::run(server, "the server has stopped")
}

/// Sets up, then rebuilds and reloads at every change.
pub(crate) fn watch(server_arguments: &[String]) -> Result<()> {
    let tools = Tools::for_build()?;
    let mut watch = tools.command(&tools.cargo_leptos);
    watch.args(["leptos", "watch"]);
    if !server_arguments.is_empty() {
        watch.arg("--").args(server_arguments);
    }
    tools::run(&mut watch, "cargo leptos watch has stopped")
}

/// Sets up, then checks and tests everything.
pub(crate) fn test() -> Result<()> {
    let tools = Tools::for_build()?;
    tools::rust_components()?;
    tools::npm_packages()?;
    let chromium = tools::chromium()?;

    say("Is the code formatted?");
    cargo(&["fmt", "--all", "--check"])?;
    say("Clippy: the server, its tests, the benchmarks, and these tasks");
    cargo(&[
        "clippy",
        "--locked",
        "--package=tidings",
        "--package=tidings-bench",
        "--package=xtask",
        "--all-targets",
        "--",
        "-Dwarnings",
    ])?;
    say("Clippy: the browser");
    let wasm = "--target=wasm32-unknown-unknown";
    cargo(&["clippy", "--locked", "--package=tidings-browser", wasm, "--", "-Dwarnings"])?;
    say("The Rust tests");
    cargo(&["test", "--locked", "--package=tidings", "--package=tidings-bench"])?;
    say("The release");
    build(&tools)?;
    say("The release, with outputs that are full, closed, broken or never read");
    let mut reporting = cargo_command(&["test", "--locked", "--test=it", "reporting"]);
    reporting.env("TIDINGS_SERVER", target().join("release/tidings"));
    tools::run(&mut reporting, "the release does not survive its log")?;
    say("The size of the page");
    size::check(&target().join("site/pkg"))?;
    pack_and_serve()?;
    say("The pages, in Chromium");
    playwright(&tools, chromium.as_deref())
}

/// Sets up, builds the release, packs it, and sees that what is packed is enough.
pub(crate) fn dist() -> Result<()> {
    let tools = Tools::for_build()?;
    build(&tools)?;
    let archive = pack_and_serve()?;
    let archive = archive.canonicalize().unwrap_or(archive);
    say(&format!("Packed: {}", archive.display()));
    Ok(())
}

/// Packs the release that has been built.
fn pack_and_serve() -> Result<PathBuf> {
    say("The archive");
    let archive = dist::pack(&target())?;
    say("The archive, served elsewhere");
    elsewhere::serve(&archive)?;
    Ok(archive)
}

/// Builds what is measured and what measures, then measures. A server without pages is enough, so
/// that no tools are needed.
pub(crate) fn bench(options: &[String]) -> Result<()> {
    say("Building: the server and the benchmarks");
    // One after the other: together they would share features that neither has alone.
    for package in ["--package=tidings", "--package=tidings-bench"] {
        cargo(&["build", "--release", "--locked", package])?;
    }
    say("Measuring");
    let mut bench = Command::new(target().join("release/tidings-bench"));
    tools::run(bench.args(options), "the benchmarks failed")
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut cargo = cargo_command(arguments);
    tools::run(&mut cargo, &format!("cargo {} failed", arguments.join(" ")))
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(tools::root());
    cargo
}

/// The release as it is deployed: file names that change with the content, compressed beforehand.
fn build(tools: &Tools) -> Result<()> {
    say("Building: the browser's half, then the server");
    let mut build = tools.command(&tools.cargo_leptos);
    build.args(["leptos", "build", "--release", "--precompress"]).env("LEPTOS_HASH_FILES", "true");
    tools::run(&mut build, "the build failed")
}

fn playwright(tools: &Tools, chromium: Option<&std::ffi::OsStr>) -> Result<()> {
    let node_modules = Path::new("node_modules/.bin");
    let folder = tools::root().join("end2end");
    let mut types = tools.command(folder.join(node_modules).join("tsc"));
    tools::run(types.current_dir(&folder), "the Playwright tests have a wrong type")?;

    let mut playwright = tools.command(folder.join(node_modules).join("playwright"));
    playwright.arg("test").current_dir(&folder);
    playwright.env("TIDINGS_SERVER", target().join("release/tidings"));
    if let Some(chromium) = chromium {
        playwright.env("TIDINGS_CHROMIUM", chromium);
    }
    tools::run(&mut playwright, "the Playwright tests failed")
}

/// The folder that cargo builds into.
fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    tools::root().join(target)
}
