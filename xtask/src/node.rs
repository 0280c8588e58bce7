//! Node.js and the npm packages: minifiers for the site, wasm-opt, and Playwright.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result,
    process::{output, root, run_quietly, version},
};

/// The folder of the packages that minify and compress the site.
pub(crate) const SITE: &str = "xtask/site";
/// The folder of the browser tests, whose packages include wasm-opt.
pub(crate) const END2END: &str = "end2end";

/// The oldest supported version of Node.js, major and minor.
const NODE: (u32, u32) = (20, 12);
/// The oldest wasm-opt that is known to accept our options. Versions older than 117 silently
/// corrupt the output of today's compiler.
const WASM_OPT: u32 = 132;

/// Checks for Node.js first, so that a build does not fail for its lack after minutes.
pub(crate) fn check() -> Result<()> {
    let said = output(Command::new("node").arg("--version")).unwrap_or_default();
    let mut numbers = said.trim().trim_start_matches('v').split('.').map_while(|n| n.parse().ok());
    let version = numbers.next().zip(numbers.next());
    if version.is_some_and(|version| version >= NODE) {
        return Ok(());
    }
    let (major, minor) = NODE;
    let found = if version.is_some() { said.trim() } else { "none" };
    Err(format!(
        "install Node.js {major}.{minor} or newer, with npm: the site needs it (found: {found})"
    ))
}

/// Installs the Node packages of a folder from its lock file, unless they are up to date. Prints
/// nothing, so that it can run in parallel with another step.
pub(crate) fn install(folder: &str) -> Result<()> {
    let folder = root().join(folder);
    let wanted = fs::read(folder.join("package-lock.json")).unwrap_or_default();
    let stamp = folder.join("node_modules/.installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    run_quietly(
        Command::new(npm).args(["ci", "--no-audit", "--no-fund"]).current_dir(folder),
        "the Node packages cannot be installed; this needs npm, and a reachable registry",
    )?;
    fs::write(stamp, wanted).map_err(|error| format!("the Node packages: {error}"))
}

/// The path of a program from the packages of a folder.
pub(crate) fn program(folder: &str, name: &str) -> PathBuf {
    root().join(folder).join("node_modules/.bin").join(name)
}

/// A wasm-opt that is new enough: from the PATH, or from the Node packages.
pub(crate) fn wasm_opt() -> Result<PathBuf> {
    let on_path = Path::new("wasm-opt");
    if version(Command::new(on_path).arg("--version")).is_some_and(|version| is_fit(&version)) {
        return Ok(on_path.to_owned());
    }
    install(END2END)?;
    Ok(program(END2END, "wasm-opt"))
}

fn is_fit(version: &str) -> bool {
    version.parse::<u32>().is_ok_and(|version| version >= WASM_OPT)
}

/// A command that runs a script of the workspace with Node.
pub(crate) fn script(file: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(root().join(file));
    node
}
