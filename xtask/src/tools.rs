//! Installs Rust tools: the wasm target, rustfmt, clippy, and cargo-leptos.
//!
//! A tool of the right version on the PATH is used. Missing tools are installed into a separate
//! cache folder; no existing installation is replaced.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Result, node,
    process::{output, root, run, say, version},
};

/// The version to install if there is none: 0.3.11 needs a newer rustc than we require.
const CARGO_LEPTOS: &str = "0.3.10";
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// cargo-leptos, and the folders to put first on its PATH, with tools of the right versions.
pub(crate) struct Leptos {
    program: PathBuf,
    path: Vec<PathBuf>,
}

impl Leptos {
    /// Finds or installs cargo-leptos and its tools.
    pub(crate) fn find_or_install() -> Result<Self> {
        let program = cargo_leptos()?;
        let mut path = Vec::new();
        path.extend(wasm_bindgen()?);
        let wasm_opt = node::wasm_opt()?;
        path.extend(wasm_opt.parent().filter(|folder| folder.is_dir()).map(Path::to_owned));
        // Two gigabytes that are no longer needed; a failure to remove them does no harm.
        let _ = fs::remove_dir_all(build_folder()?);
        Ok(Self { program, path })
    }

    /// A command of cargo-leptos.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let own = env::var_os("PATH").unwrap_or_default();
        let path = self.path.iter().cloned().chain(env::split_paths(&own));
        let mut command = Command::new(&self.program);
        command.arg("leptos").args(arguments).current_dir(root());
        if let Ok(path) = env::join_paths(path) {
            command.env("PATH", path);
        }
        command
    }
}

/// The folder where cargo keeps the sources of crates.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let home = || Some(env::home_dir()?.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// Adds the wasm target, for the half of Tidings that runs in the browser.
pub(crate) fn wasm_target() -> Result<()> {
    let library =
        output(Command::new("rustc").args(["--print", "target-libdir", "--target", WASM_TARGET]));
    if library.is_some_and(|folder| Path::new(folder.trim()).is_dir()) {
        return Ok(());
    }
    say("Adding the wasm target to Rust: half of Tidings runs in the browser.");
    run(
        Command::new("rustup").args(["target", "add", WASM_TARGET]).current_dir(root()),
        &format!("install the Rust standard library for {WASM_TARGET} by hand, then try again"),
    )
}

/// Adds rustfmt and clippy, which a minimal installation of Rust lacks.
pub(crate) fn rust_components() -> Result<()> {
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if output(Command::new("cargo").args([command, "--version"])).is_none() {
            say(&format!("Adding {component} to Rust, to check the code."));
            run(
                Command::new("rustup").args(["component", "add", component]).current_dir(root()),
                &format!("install {component} by hand, then try again"),
            )?;
        }
    }
    Ok(())
}

fn cargo_leptos() -> Result<PathBuf> {
    let fits = |program: &Path| {
        let version = version(Command::new(program).args(["leptos", "--version"]));
        let version = version.unwrap_or_default();
        let patch = version.strip_prefix("0.3.").and_then(|patch| patch.parse::<u32>().ok());
        patch.is_some_and(|patch| patch >= 10)
    };
    let on_path = PathBuf::from("cargo-leptos");
    if fits(&on_path) {
        return Ok(on_path);
    }
    let folder = cache()?.join(format!("cargo-leptos-{CARGO_LEPTOS}"));
    let installed = folder.join("bin/cargo-leptos");
    if fits(&installed) {
        return Ok(installed);
    }
    if binstall("cargo-leptos", CARGO_LEPTOS, &folder) && fits(&installed) {
        return Ok(installed);
    }
    say("Building cargo-leptos. This takes about five minutes, once.");
    // We do not use its TLS: the system's library saves building another.
    let system_tls = output(Command::new("pkg-config").args(["--exists", "openssl"])).is_some();
    let brotli = "profile.dev.package.brotli.opt-level=3";
    let mut install = cargo_install("cargo-leptos", CARGO_LEPTOS, &folder)?;
    install.args(["--locked", "--features", "no_downloads", "--config", brotli]);
    if system_tls {
        install.env("OPENSSL_NO_VENDOR", "1");
    }
    run(
        &mut install,
        "cargo-leptos cannot be built; it needs a C compiler, and perl and make where there are no \
         OpenSSL headers",
    )?;
    Ok(installed)
}

/// The folder of the wasm-bindgen command in the version of the library, unless it is on the PATH.
fn wasm_bindgen() -> Result<Option<PathBuf>> {
    let wanted = locked_version("wasm-bindgen")?;
    let fits = |program: &Path| {
        version(Command::new(program).arg("--version")).is_some_and(|version| version == wanted)
    };
    if fits(Path::new("wasm-bindgen")) {
        return Ok(None);
    }
    let folder = cache()?.join(format!("wasm-bindgen-{wanted}"));
    let bin = folder.join("bin");
    let installed = bin.join("wasm-bindgen");
    if fits(&installed) || binstall("wasm-bindgen-cli", &wanted, &folder) && fits(&installed) {
        return Ok(Some(bin));
    }
    say(&format!("Building wasm-bindgen {wanted}, which must be the library's version."));
    // Not --locked: its lock file names a crate that was yanked.
    run(&mut cargo_install("wasm-bindgen-cli", &wanted, &folder)?, "wasm-bindgen cannot be built")?;
    Ok(Some(bin))
}

/// Downloads a prebuilt program if `cargo binstall` is on the PATH; returns whether that worked. If
/// not, the program can still be compiled.
fn binstall(name: &str, version: &str, folder: &Path) -> bool {
    let found = Command::new("cargo-binstall").arg("-V").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return false;
    }
    say(&format!("Fetching {name} {version} with cargo binstall."));
    let mut binstall = Command::new("cargo-binstall");
    binstall.args([name, "--version", version, "--no-confirm", "--root"]).arg(folder);
    // binstall would compile with the release profile, which takes three times as long.
    binstall.args(["--disable-strategies", "compile"]);
    binstall.status().is_ok_and(|status| status.success())
}

/// `cargo install` into a separate folder. Unoptimised: it builds in a third of the time, and the
/// tools are fast enough. Both tools share a target folder.
fn cargo_install(name: &str, version: &str, folder: &Path) -> Result<Command> {
    let mut install = Command::new("cargo");
    // Outside the workspace, whose configuration does not apply to the tools.
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    install.current_dir(&cache).args(["install", name, "--version", version, "--root"]).arg(folder);
    install.arg("--target-dir").arg(build_folder()?);
    install.args(["--profile", "dev", "--config", "profile.dev.debug=0"]);
    Ok(install)
}

/// The cache folder for tools in the place that the system uses: shared by all clones.
fn cache() -> Result<PathBuf> {
    let folder =
        |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("XDG_CACHE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("tidings-tools"))
        .ok_or_else(|| "no folder for tools: set HOME or XDG_CACHE_HOME".to_owned())
}

/// The target folder of the tools.
fn build_folder() -> Result<PathBuf> {
    Ok(cache()?.join("build"))
}

/// The version of a package in `Cargo.lock`.
fn locked_version(package: &str) -> Result<String> {
    let lock =
        fs::read_to_string(root().join("Cargo.lock")).map_err(|e| format!("Cargo.lock: {e}"))?;
    let entry = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&entry)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(version, _)| version.to_owned())
        .ok_or_else(|| format!("Cargo.lock does not name {package}"))
}
