//! The tools that come from npm, already built: those that finish the site, wasm-opt, and Playwright.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result,
    process::{output, root, run_quietly, version},
};

/// The folder of what finishes a site: it minifies and compresses.
pub(crate) const SITE: &str = "xtask/site";
/// The folder of the tests in a browser, whose packages bring wasm-opt too.
pub(crate) const END2END: &str = "end2end";

/// The oldest Node.js that our scripts run on, by its first two numbers.
const NODE: (u32, u32) = (20, 12);
/// The oldest wasm-opt that is known to take our options. Ones older than 117 corrupt what today's
/// compiler writes, and say nothing.
const WASM_OPT: u32 = 132;

/// Whether Node.js is there, so that it is not missed only when minutes have gone by.
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
        "install Node.js {major}.{minor} or newer, with npm: it finishes the site (found: {found})"
    ))
}

/// Installs the Node packages of a folder as its lock file has them, if they are not there already.
/// Prints nothing, so that it can run beside something else.
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
        "the Node packages cannot be installed; this needs npm, and a registry that it can reach",
    )?;
    fs::write(stamp, wanted).map_err(|error| format!("the Node packages: {error}"))
}

/// A program that the packages of a folder bring.
pub(crate) fn program(folder: &str, name: &str) -> PathBuf {
    root().join(folder).join("node_modules/.bin").join(name)
}

/// A wasm-opt that is new enough: the one on the PATH, or the one that Node packages bring.
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

/// A script of ours, run by Node.
pub(crate) fn script(file: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(root().join(file));
    node
}
