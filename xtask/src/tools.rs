//! The tools that are made of Rust: the wasm target, its components, and cargo-leptos.
//!
//! A tool of the right version that is on the PATH is used. What is missing is installed into a
//! cache folder of our own; nothing that is there already is replaced.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Result, node,
    process::{output, root, run, say, version},
};

/// What is installed where there is none: 0.3.11 needs a newer rustc than we ask for.
const CARGO_LEPTOS: &str = "0.3.10";
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// What cargo-leptos needs: itself, and a PATH on which the tools of the right versions come first.
pub(crate) struct Leptos {
    program: PathBuf,
    path: Vec<PathBuf>,
}

impl Leptos {
    /// Finds or installs them.
    pub(crate) fn find_or_install() -> Result<Self> {
        let program = cargo_leptos()?;
        let mut path = Vec::new();
        path.extend(wasm_bindgen()?);
        let wasm_opt = node::wasm_opt()?;
        path.extend(wasm_opt.parent().filter(|folder| folder.is_dir()).map(Path::to_owned));
        // Two gigabytes that have done their work; it is no harm if they stay.
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

/// Adds the wasm target, which half of Tidings is compiled for.
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

/// Adds the parts of Rust that check its code, which a minimal installation lacks.
pub(crate) fn rust_components() -> Result<()> {
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if output(Command::new("cargo").args([command, "--version"])).is_none() {
            say(&format!("Adding {component} to Rust, to check the code with."));
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
    // Its TLS library is used for nothing we do: the system's saves building another.
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

/// The folder of the wasm-bindgen command that fits the library, unless it is on the PATH.
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
    // Not --locked: the lock file that it ships names a crate that was withdrawn.
    run(&mut cargo_install("wasm-bindgen-cli", &wanted, &folder)?, "wasm-bindgen cannot be built")?;
    Ok(Some(bin))
}

/// Downloads a program that was built elsewhere, where `cargo binstall` is on the PATH: whether it
/// did. Where it could not, the program can still be compiled.
fn binstall(name: &str, version: &str, folder: &Path) -> bool {
    let found = Command::new("cargo-binstall").arg("-V").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return false;
    }
    say(&format!("Fetching {name} {version} with cargo binstall."));
    let mut binstall = Command::new("cargo-binstall");
    binstall.args([name, "--version", version, "--no-confirm", "--root"]).arg(folder);
    // Compiled, it would be as a release, which takes three times as long.
    binstall.args(["--disable-strategies", "compile"]);
    binstall.status().is_ok_and(|status| status.success())
}

/// `cargo install` into a folder of our own. Unoptimised: it builds in a third of the time, and
/// the tools are quick enough. Both tools share what they can.
fn cargo_install(name: &str, version: &str, folder: &Path) -> Result<Command> {
    let mut install = Command::new("cargo");
    // Not in the workspace, whose configuration is not meant for tools.
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    install.current_dir(&cache).args(["install", name, "--version", version, "--root"]).arg(folder);
    install.arg("--target-dir").arg(build_folder()?);
    install.args(["--profile", "dev", "--config", "profile.dev.debug=0"]);
    Ok(install)
}

/// Our own folder for tools, as each system has them: shared by all clones.
fn cache() -> Result<PathBuf> {
    let folder =
        |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("XDG_CACHE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("tidings-tools"))
        .ok_or_else(|| "no folder for tools: set HOME or XDG_CACHE_HOME".to_owned())
}

/// Where the tools are built.
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
