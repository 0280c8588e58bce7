//! The tools that Tidings is built and tested with.
//!
//! A tool of the right version that is on the PATH is used. What is missing is installed into a
//! cache folder of our own; nothing that is there already is replaced.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Result;

/// What is installed where there is none: 0.3.11 needs a newer rustc than we ask for.
const CARGO_LEPTOS: &str = "0.3.10";
/// The oldest wasm-opt that is known to take our options. Ones older than 117 corrupt what today's
/// compiler writes, and say nothing.
const WASM_OPT: u32 = 132;
const WASM: &str = "wasm32-unknown-unknown";
const BROWSERS: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// The tools at hand: where cargo-leptos is, and a PATH on which the right ones come first.
pub(crate) struct Tools {
    pub(crate) cargo_leptos: PathBuf,
    path: Vec<PathBuf>,
}

impl Tools {
    /// Finds or installs what a build needs.
    pub(crate) fn for_build() -> Result<Self> {
        wasm_target()?;
        let mut path = Vec::new();
        let cargo_leptos = cargo_leptos()?;
        path.extend(wasm_bindgen()?);
        path.extend(wasm_opt()?);
        // Two gigabytes that have done their work; it is no harm if they stay.
        let _ = fs::remove_dir_all(build_folder()?);
        Ok(Self { cargo_leptos, path })
    }

    /// A command that finds the right tools first.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let own = env::var_os("PATH").unwrap_or_default();
        let path = self.path.iter().cloned().chain(env::split_paths(&own));
        let mut command = Command::new(program);
        command.current_dir(root());
        if let Ok(path) = env::join_paths(path) {
            command.env("PATH", path);
        }
        command
    }
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn say(text: &str) {
    println!("\n\u{2022} {text}");
}

/// Runs a command whose output everybody may see.
pub(crate) fn run(command: &mut Command, on_failure: &str) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(on_failure.to_owned()),
        Err(error) => {
            let program = command.get_program().display();
            Err(format!("{program} can not be run ({error}); {on_failure}"))
        }
    }
}

/// What a command prints, if it can be run and succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version a program says it has: the first word that begins with a digit.
fn version(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = output(Command::new(program).args(arguments).arg("--version"))?;
    let words = output.split_whitespace();
    words.map(str::to_owned).find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
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

fn wasm_target() -> Result<()> {
    let library =
        output(Command::new("rustc").args(["--print", "target-libdir", "--target", WASM]));
    if library.is_some_and(|folder| Path::new(folder.trim()).is_dir()) {
        return Ok(());
    }
    say("Adding the wasm target to Rust: half of Tidings runs in the browser.");
    run(
        Command::new("rustup").args(["target", "add", WASM]).current_dir(root()),
        &format!("install the Rust standard library for {WASM} by hand, then try again"),
    )
}

fn cargo_leptos() -> Result<PathBuf> {
    let fits = |program: &Path| {
        let version = version(program, &["leptos"]).unwrap_or_default();
        let patch = version.strip_prefix("0.3.").and_then(|patch| patch.parse::<u32>().ok());
        patch.is_some_and(|patch| patch >= 10)
    };
    let on_path = PathBuf::from("cargo-leptos");
    if fits(&on_path) {
        return Ok(on_path);
    }
    let folder = cache()?.join(format!("cargo-leptos-{CARGO_LEPTOS}"));
    let installed = folder.join("bin/cargo-leptos");
    if !fits(&installed) {
        say("Building cargo-leptos, which builds both halves. This takes some minutes, once.");
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
            "cargo-leptos can not be built; it needs a C compiler, and perl and make where there \
             are no OpenSSL headers",
        )?;
    }
    Ok(installed)
}

/// The folder of the wasm-bindgen command that fits the library, unless it is on the PATH.
fn wasm_bindgen() -> Result<Option<PathBuf>> {
    let wanted = locked_version("wasm-bindgen")?;
    let fits = |program: &Path| version(program, &[]).is_some_and(|version| version == wanted);
    if fits(Path::new("wasm-bindgen")) {
        return Ok(None);
    }
    let folder = cache()?.join(format!("wasm-bindgen-{wanted}"));
    if !fits(&folder.join("bin/wasm-bindgen")) {
        say(&format!("Building wasm-bindgen {wanted}, which must be the library's version."));
        // Not --locked: the lock file that it ships names a crate that was withdrawn.
        run(
            &mut cargo_install("wasm-bindgen-cli", &wanted, &folder)?,
            "wasm-bindgen can not be built",
        )?;
    }
    Ok(Some(folder.join("bin")))
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

/// The folder of a fit wasm-opt, unless it is on the PATH.
fn wasm_opt() -> Result<Option<PathBuf>> {
    let found = version("wasm-opt", &[]);
    match found.as_deref().map(str::parse::<u32>) {
        Some(Ok(version)) if version >= WASM_OPT => return Ok(None),
        Some(_) => say(&format!(
            "The wasm-opt on the PATH is {}; {WASM_OPT} or newer is needed.",
            found.unwrap_or_default()
        )),
        None => {}
    }
    npm_packages()?;
    Ok(Some(root().join("end2end/node_modules/.bin")))
}

/// The Node packages, which bring wasm-opt and Playwright, as the lock file has them.
pub(crate) fn npm_packages() -> Result<()> {
    let folder = root().join("end2end");
    let wanted = fs::read(folder.join("package-lock.json")).unwrap_or_default();
    let stamp = folder.join("node_modules/.installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say("Installing the Node packages: wasm-opt makes the wasm small, Playwright tests the pages.");
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    run(
        Command::new(npm).args(["ci", "--no-audit", "--no-fund"]).current_dir(folder),
        "the Node packages can not be installed; install Node.js 20 or newer with npm, or put a \
         wasm-opt of version 117 or newer on the PATH if you only want to run",
    )?;
    fs::write(stamp, wanted).map_err(|error| format!("the Node packages: {error}"))
}

/// The Chromium to test in: one that is there, else the system's package, else Playwright's own
/// (which is found without a path).
pub(crate) fn chromium() -> Result<Option<OsString>> {
    if let Some(found) = env::var_os("TIDINGS_CHROMIUM").or_else(find_browser) {
        return Ok(Some(found));
    }
    if output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0") {
        say("Installing Chromium from the system's packages, to test the pages in.");
        // Whether this works is seen by whether the browser is there afterwards.
        let _ = Command::new("apt-get").arg("update").stdout(Stdio::null()).status();
        let _ = Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "chromium"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status();
        if let Some(found) = find_browser() {
            return Ok(Some(found));
        }
    }
    say("Making sure that Playwright's own Chromium is there, to test the pages in.");
    let folder = root().join("end2end");
    run(
        Command::new(folder.join("node_modules/.bin/playwright"))
            .args(["install", "chromium"])
            .current_dir(folder),
        "there is no Chromium; install one, or say where it is with TIDINGS_CHROMIUM=<path>",
    )?;
    Ok(None)
}

fn find_browser() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let mut candidates =
        BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    // Ubuntu's chromium-browser may be a stub that only tells how to get the real one.
    let runs = |candidate: &PathBuf| output(Command::new(candidate).arg("--version")).is_some();
    candidates.find(|candidate| candidate.is_file() && runs(candidate)).map(PathBuf::into_os_string)
}

/// The parts of Rust that check its code, which a minimal installation lacks.
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
