//! Builds the server, and the site that browsers load.
//!
//! A release equals the output of `cargo leptos build --release --precompress` with the same
//! configuration, without cargo-leptos, which takes longer to compile than Tidings does.

use std::{env::consts::EXE_EXTENSION, path::PathBuf, process::Command, thread};

use crate::{
    Result,
    config::Config,
    node,
    process::{cargo, run, run_cargo},
    progress::Steps,
    site, tools,
};

/// The profile of a build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// To run on this machine: compiles fast, and within seconds after a change.
    Quick,
    /// To distribute, test and measure: the fastest server and the smallest page.
    Release,
}

/// The number of steps of a build.
pub(crate) const STEPS: usize = 3;

/// A build: its configuration and profile, and the paths that follow from them.
pub(crate) struct Build {
    pub(crate) config: Config,
    pub(crate) profile: Profile,
}

impl Build {
    /// Installs missing tools, and builds.
    pub(crate) fn make(profile: Profile, steps: &mut Steps) -> Result<Self> {
        let build = Self::new(profile)?;
        thread::scope(|scope| {
            // Quiet steps run in parallel with one that prints. The times are half of the measured
            // processor time, as on two free cores.
            steps.next("The tools (about half a minute, the first time)");
            node::check()?;
            let packages = scope.spawn(move || node_packages(profile));
            tools::wasm_target()?;
            run_cargo(&["build", "--locked", "--package=tidings-bindgen"])?;
            joined(packages)?;

            steps.next("The page, from Rust to wasm (about a minute and a half, the first time)");
            build.compile_page()?;
            let site = scope.spawn(|| site::assemble(&build));

            let time = match profile {
                Profile::Quick => "about three minutes",
                Profile::Release => "about five minutes",
            };
            steps.next(&format!("The server, beside the site ({time}, the first time)"));
            build.compile_server()?;
            joined(site)
        })?;
        Ok(build)
    }

    /// The paths of a build, without building.
    pub(crate) fn new(profile: Profile) -> Result<Self> {
        Ok(Self { config: Config::read()?, profile })
    }

    /// The server's executable.
    pub(crate) fn server(&self) -> PathBuf {
        self.folder().join(&self.config.server).with_extension(EXE_EXTENSION)
    }

    /// The folder of the site: where the server looks for it, and where cargo-leptos writes that of
    /// a release.
    pub(crate) fn site(&self) -> PathBuf {
        match self.profile {
            Profile::Quick => self.folder().join("site"),
            Profile::Release => self.config.target.join("site"),
        }
    }

    /// The wasm, as rustc compiles it.
    pub(crate) fn wasm(&self) -> PathBuf {
        let Config { browser, browser_profile, .. } = &self.config;
        let folder = self.page_target().join(tools::WASM_TARGET).join(browser_profile);
        folder.join(browser.replace('-', "_")).with_extension("wasm")
    }

    fn folder(&self) -> PathBuf {
        self.config.target.join(self.profile())
    }

    /// The profile of the server. The page has only one profile: its link-time optimisation takes
    /// seconds and saves a fifth of its size.
    fn profile(&self) -> &'static str {
        match self.profile {
            Profile::Quick => "quick",
            Profile::Release => "release",
        }
    }

    /// The target folder of the page, shared with cargo-leptos, which then finds it compiled.
    fn page_target(&self) -> PathBuf {
        self.config.target.join("front")
    }

    fn compile_page(&self) -> Result<()> {
        let mut build = cargo_build(&self.config.browser, &self.config.browser_profile);
        build.args(["--lib", "--target", tools::WASM_TARGET]);
        build.arg("--target-dir").arg(self.page_target()).envs(page_flags());
        build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        run(&mut build, "the page cannot be compiled")
    }

    pub(crate) fn compile_server(&self) -> Result<()> {
        let mut build = cargo_build(&self.config.server, self.profile());
        let features = self.config.server_features.iter();
        // jemalloc takes longer to compile than all of our own code, and saves memory only with
        // many watchers.
        let features =
            features.filter(|&name| self.profile == Profile::Release || name != "jemalloc");
        let features: Vec<_> = features.map(String::as_str).collect();
        build.args(["--bin", &self.config.server, "--no-default-features", "--features"]);
        run(build.arg(features.join(",")), "the server cannot be compiled")
    }
}

/// Remaps paths, so that the wasm, which names the source files of its crates, contains no path of
/// the build machine. `None` if a path has a space, which would end the flag. (`RUSTFLAGS` would
/// win.)
pub(crate) fn page_flags() -> Option<(&'static str, String)> {
    let home = tools::cargo_home()?;
    let flags = format!("--remap-path-prefix={}=cargo", home.to_str()?);
    (!flags.contains(char::is_whitespace))
        .then_some(("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags))
}

/// Installs the Node packages that assemble the site.
fn node_packages(profile: Profile) -> Result<()> {
    if profile == Profile::Release {
        node::wasm_opt()?;
    }
    node::install(node::SITE)
}

fn cargo_build(package: &str, profile: &str) -> Command {
    cargo(&["build", "--locked", "--package", package, "--profile", profile])
}

fn joined(thread: thread::ScopedJoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err("a build thread has panicked".to_owned()))
}
