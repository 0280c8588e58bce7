//! Puts the site together: what a browser loads, ready to be served.

use std::{fs, path::Path, process::Command};

use crate::{
    Result,
    build::{Build, Profile},
    files, node,
    process::run_quietly,
};

/// Makes the site anew of the wasm that has been compiled. Prints nothing, so that it can run beside
/// something else.
pub(crate) fn assemble(build: &Build) -> Result<()> {
    let site = build.site();
    let package = site.join(&build.config.package_folder);
    // What was there has names that are used no more.
    let _ = fs::remove_dir_all(&site);
    files::copy(&build.config.assets, &site)?;
    fs::create_dir_all(&package).map_err(|error| format!("{}: {error}", package.display()))?;
    bind(build, &package)?;
    if build.profile == Profile::Release {
        optimise(build, &package)?;
    }
    finish(build, &site)
}

/// Makes the wasm one for browsers, with the script that they load it by.
fn bind(build: &Build, package: &Path) -> Result<()> {
    let mut bindgen = Command::new(build.config.target.join("debug/tidings-bindgen"));
    bindgen.arg(build.wasm()).arg(package).arg(&build.config.output_name);
    if build.profile == Profile::Quick {
        bindgen.arg("--strip");
    }
    run_quietly(&mut bindgen, "wasm-bindgen failed")
}

/// Makes the wasm smaller.
fn optimise(build: &Build, package: &Path) -> Result<()> {
    let wasm = package.join(&build.config.output_name).with_extension("wasm");
    let mut wasm_opt = Command::new(node::wasm_opt()?);
    wasm_opt.args(&build.config.wasm_opt).arg(&wasm).arg("--output").arg(&wasm);
    run_quietly(&mut wasm_opt, "wasm-opt failed")
}

/// Makes the script and the style sheet smaller, names files after their content, and compresses them.
fn finish(build: &Build, site: &Path) -> Result<()> {
    let config = &build.config;
    let mut finish = node::script("xtask/site/finish.mjs");
    finish.arg("--site").arg(site).args(["--package", &config.package_folder]);
    finish.args(["--name", &config.output_name, "--browsers", &config.browsers]);
    run_quietly(finish.arg("--style").arg(&config.style), "the site cannot be finished")
}
