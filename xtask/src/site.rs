//! Assembles the site: the files that a browser loads, ready to be served.

use std::{fs, path::Path, process::Command};

use crate::{
    Result,
    build::{Build, Profile},
    files, node,
    process::run_quietly,
};

/// Assembles the site from the compiled wasm. Prints nothing, so that it can run in parallel with
/// another step.
pub(crate) fn assemble(build: &Build) -> Result<()> {
    let site = build.site();
    let package = site.join(&build.config.package_folder);
    // Files of the last build have other hashes.
    let _ = fs::remove_dir_all(&site);
    files::copy(&build.config.assets, &site)?;
    fs::create_dir_all(&package).map_err(|error| format!("{}: {error}", package.display()))?;
    bind(build, &package)?;
    if build.profile == Profile::Release {
        optimise(build, &package)?;
    }
    finish(build, &site)
}

/// Runs wasm-bindgen: the wasm for browsers, and the script that loads it.
fn bind(build: &Build, package: &Path) -> Result<()> {
    let mut bindgen = Command::new(build.config.target.join("debug/tidings-bindgen"));
    bindgen.arg(build.wasm()).arg(package).arg(&build.config.output_name);
    if build.profile == Profile::Quick {
        bindgen.arg("--strip");
    }
    run_quietly(&mut bindgen, "wasm-bindgen failed")
}

/// Runs wasm-opt.
fn optimise(build: &Build, package: &Path) -> Result<()> {
    let wasm = package.join(&build.config.output_name).with_extension("wasm");
    let mut wasm_opt = Command::new(node::wasm_opt()?);
    wasm_opt.args(&build.config.wasm_opt).arg(&wasm).arg("--output").arg(&wasm);
    run_quietly(&mut wasm_opt, "wasm-opt failed")
}

/// Minifies the script and the style sheet, names files by content hash, and compresses them.
fn finish(build: &Build, site: &Path) -> Result<()> {
    let config = &build.config;
    let mut finish = node::script("xtask/site/finish.mjs");
    finish.arg("--site").arg(site).args(["--package", &config.package_folder]);
    finish.args(["--name", &config.output_name, "--browsers", &config.browsers]);
    run_quietly(finish.arg("--style").arg(&config.style), "the site cannot be finished")
}
