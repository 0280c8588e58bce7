//! wasm-bindgen as a library: turns the wasm of rustc into wasm and a script for browsers.
//!
//! A separate package, so that the tasks that run it compile in two seconds. It replaces the
//! command `wasm-bindgen`: installing that compiles twice as much, and its version must be kept
//! equal to that of the library.

mod names;

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, anyhow, bail};
use wasm_bindgen_cli_support::Bindgen;

const USAGE: &str = "usage: tidings-bindgen <wasm of rustc> <folder> <name> [--strip]";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [wasm, folder, name] => generate(Path::new(wasm), Path::new(folder), name, false),
        [wasm, folder, name, "--strip"] => generate(Path::new(wasm), Path::new(folder), name, true),
        _ => Err(anyhow!(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidings-bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `<name>.js`, a module that browsers import, and `<name>.wasm`, which that module loads,
/// into `folder`. With `strip` the names of functions are left out, more than half of the wasm.
/// Only debuggers need them, and wasm-opt, which orders functions by them and strips them itself.
fn generate(wasm: &Path, folder: &Path, name: &str, strip: bool) -> anyhow::Result<()> {
    let mut output = Bindgen::new()
        .web(true)?
        .input_path(wasm)
        .out_name(name)
        .typescript(false)
        .remove_name_section(strip)
        .generate_output()?;
    if !output.npm_dependencies().is_empty() {
        bail!("a crate depends on an npm package, which the site does not support");
    }
    let shortened = names::shorten(output.wasm_mut());
    output.emit(folder)?;

    let script = folder.join(format!("{name}.js"));
    let text = fs::read_to_string(&script).with_context(|| cannot("read", &script))?;
    let text = shortened.apply_to(&text)?;
    fs::write(&script, text).with_context(|| cannot("write", &script))?;
    // Named as cargo-leptos names it.
    let wasm = folder.join(format!("{name}_bg.wasm"));
    let named = folder.join(format!("{name}.wasm"));
    fs::rename(&wasm, named).with_context(|| cannot("rename", &wasm))
}

fn cannot(act: &str, file: &Path) -> String {
    format!("cannot {act} {}", file.display())
}
