//! The tasks, as lists of steps.

use std::{ffi::OsString, path::PathBuf, process::Command};

use crate::{
    Result,
    build::{self, Build, Profile},
    chromium, dist, firefox, node, postgres,
    process::{cargo, exec, root, run, run_cargo, say},
    programs,
    progress::Steps,
    site, size, smoke_test,
    tools::{self, Leptos},
};

/// Sets up, builds and serves.
pub(crate) fn run_server(server_arguments: &[String]) -> Result<()> {
    let mut steps = Steps::new(1 + build::STEPS);
    let build = Build::make(Profile::Quick, &mut steps)?;
    steps.next("Serving. Ctrl+C stops.");
    exec(Command::new(build.server()).args(server_arguments))
}

/// Sets up, then rebuilds and reloads on every change.
pub(crate) fn watch(server_arguments: &[String]) -> Result<()> {
    let mut steps = Steps::new(2);
    steps.next("cargo-leptos and wasm-bindgen (about six minutes, once)");
    tools::wasm_target()?;
    let leptos = Leptos::find_or_install()?;
    steps.next("Watching. Ctrl+C stops.");
    let mut watch = leptos.command(&["watch"]);
    if !server_arguments.is_empty() {
        watch.arg("--").args(server_arguments);
    }
    run(&mut watch, "cargo leptos watch has stopped")
}

/// Sets up, then checks and tests everything.
pub(crate) fn test() -> Result<()> {
    let mut steps = Steps::new(13 + build::STEPS);
    steps.next("The tools of the tests (about six minutes, once)");
    tools::wasm_target()?;
    tools::rust_components()?;
    node::install(node::END2END)?;
    let chromium = chromium::find_or_install()?;
    let firefox = firefox::find_or_install();
    let postgres = postgres::find_or_install();
    let missing = programs::missing();
    let leptos = Leptos::find_or_install()?;

    steps.next("Is the code formatted?");
    run_cargo(&["fmt", "--all", "--check"])?;
    steps.next("Clippy: the server, its tests, the benchmarks, and these tasks");
    run_cargo(&[
        "clippy",
        "--locked",
        "--package=tidings",
        "--package=tidings-bench",
        "--package=tidings-bindgen",
        "--package=tidings-cluster",
        "--package=xtask",
        "--all-targets",
        "--",
        "-Dwarnings",
    ])?;
    steps.next("Clippy: the server as `cargo xtask run` builds it, and the page");
    run_cargo(&[
        "clippy",
        "--locked",
        "--package=tidings",
        "--no-default-features",
        "--features=ssr",
        "--",
        "-Dwarnings",
    ])?;
    let wasm = &format!("--target={}", tools::WASM_TARGET);
    run_cargo(&["clippy", "--locked", "--package=tidings-browser", wasm, "--", "-Dwarnings"])?;
    steps.next("The documentation");
    let mut doc = cargo(&["doc", "--locked", "--no-deps", "--package=tidings"]);
    doc.env("RUSTDOCFLAGS", "-Dwarnings");
    run(&mut doc, "the documentation has warnings")?;
    steps.next("The Rust tests of the build");
    run_cargo(&["test", "--locked", "--package=tidings-bindgen"])?;
    steps.next("The Rust tests");
    run_cargo(&[
        "test",
        "--locked",
        "--package=tidings",
        "--package=tidings-bench",
        "--package=tidings-cluster",
    ])?;

    let build = Build::make(Profile::Release, &mut steps)?;
    steps.next("The release, with standard error full, closed, broken or never read");
    let mut reporting = cargo(&["test", "--locked", "--test=it", "reporting"]);
    reporting.env("TIDINGS_SERVER", build.server());
    run(&mut reporting, "the release does not survive a failure of standard error")?;
    steps.next("The size of the page");
    let package = build.site().join(&build.config.package_folder);
    size::check(&package)?;
    size::check_paths(&build.wasm())?;
    pack_and_serve(&build, &mut steps)?;
    steps.next("The site once more: by cargo-leptos, and as `cargo xtask run` assembles it");
    let leptos_site = build_by_leptos(&leptos, &build)?;
    let quick = Build::new(Profile::Quick)?;
    site::assemble(&quick)?;
    steps.next("The pages, in Chromium and Firefox");
    let sites = [
        ("TIDINGS_SITE", build.site()),
        ("TIDINGS_LEPTOS_SITE", leptos_site),
        ("TIDINGS_QUICK_SITE", quick.site()),
    ];
    let browsers = [("TIDINGS_CHROMIUM", chromium), ("TIDINGS_FIREFOX", firefox.clone())];
    playwright(&build, &sites, browsers)?;
    if firefox.is_none() {
        say(&format!(
            "!!! FIREFOX IS MISSING !!! The pages were not tested in it. Please {}.",
            firefox::ADVICE
        ));
    }
    if postgres.is_none() {
        say(&format!(
            "!!! PostgreSQL IS MISSING !!! Its engine was not tested. Please {}.",
            postgres::ADVICE
        ));
    }
    for program in missing {
        say(&format!(
            "!!! {program} IS MISSING !!! Tests with it were skipped. Please install it."
        ));
    }
    Ok(())
}

/// Runs the failover test with all of its faults. `cargo xtask test` runs a part of them.
pub(crate) fn soak() -> Result<()> {
    if postgres::find_or_install().is_none() {
        return Err(format!("PostgreSQL is missing; {}", postgres::ADVICE));
    }
    let test = ["test", "--locked", "--package=tidings", "--test=it", "failover", "--"];
    let mut test = cargo(&[&test[..], &["--nocapture"]].concat());
    run(test.env("TIDINGS_SOAK", "1"), "the failover test failed")
}

/// Sets up, builds the release, packs it, and runs the smoke test of the archive.
pub(crate) fn dist() -> Result<()> {
    let mut steps = Steps::new(build::STEPS + PACK_STEPS);
    let build = Build::make(Profile::Release, &mut steps)?;
    let archive = pack_and_serve(&build, &mut steps)?;
    let archive = archive.canonicalize().unwrap_or(archive);
    println!("\nPacked: {}", archive.display());
    Ok(())
}

const PACK_STEPS: usize = 2;

/// Packs the release that has been built, and tests the archive.
fn pack_and_serve(build: &Build, steps: &mut Steps) -> Result<PathBuf> {
    steps.next("The archive");
    let archive = dist::pack(build)?;
    steps.next("The smoke test of the archive");
    smoke_test::serve(&archive)?;
    Ok(archive)
}

/// Measures the size and processor time of the page in Chromium.
fn bench_page() -> Result<()> {
    let mut steps = Steps::new(build::STEPS + 1);
    node::install(node::END2END)?;
    let chromium = chromium::find_or_install()?;
    let build = Build::make(Profile::Release, &mut steps)?;
    steps.next("Measuring (about five minutes)");
    let mut bench = Command::new(node::program(node::END2END, "playwright"));
    bench.args(["test", "--config", "playwright.bench.config.ts"]);
    bench.current_dir(root().join(node::END2END)).env("TIDINGS_SERVER", build.server());
    bench.envs(chromium.map(|chromium| ("TIDINGS_CHROMIUM", chromium)));
    run(&mut bench, "the page cannot be measured")
}

/// Builds the server and the benchmarks, then measures. A server without pages is enough, so no
/// tools are needed.
pub(crate) fn bench(options: &[String]) -> Result<()> {
    if options.first().is_some_and(|option| option == "page") {
        return bench_page();
    }
    let mut steps = Steps::new(3);
    let build = Build::new(Profile::Release)?;
    // Separate builds: a common one would unify features that neither has alone.
    steps.next("The server");
    build.compile_server()?;
    steps.next("The benchmarks");
    run_cargo(&["build", "--release", "--locked", "--package=tidings-bench"])?;
    steps.next("Measuring");
    let mut bench = Command::new(build.server().with_file_name("tidings-bench"));
    run(bench.args(options), "the benchmarks failed")
}

/// Builds the release with cargo-leptos into another folder; returns the path of its site. Nothing
/// is compiled again. Names have no content hash, so that a test can compare file by file.
fn build_by_leptos(leptos: &Leptos, build: &Build) -> Result<PathBuf> {
    let site = build.config.target.join("leptos-site");
    let mut command = leptos.command(&["build", "--release", "--precompress"]);
    command.env("LEPTOS_SITE_ROOT", &site).env("LEPTOS_HASH_FILES", "false");
    command.envs(build::page_flags());
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(&mut command, "cargo leptos build failed")?;
    Ok(site)
}

/// Runs the tests of the pages. A browser without a path is Playwright's own, or is not tested.
fn playwright(
    build: &Build,
    sites: &[(&str, PathBuf)],
    browsers: [(&str, Option<OsString>); 2],
) -> Result<()> {
    let folder = root().join(node::END2END);
    let mut types = Command::new(node::program(node::END2END, "tsc"));
    run(types.current_dir(&folder), "the Playwright tests have a type error")?;

    let mut playwright = Command::new(node::program(node::END2END, "playwright"));
    playwright.arg("test").current_dir(&folder);
    playwright.env("TIDINGS_SERVER", build.server());
    playwright.envs(sites.iter().map(|(name, site)| (name, site)));
    playwright.envs(browsers.into_iter().filter_map(|(name, path)| path.map(|path| (name, path))));
    run(&mut playwright, "the Playwright tests failed")
}
