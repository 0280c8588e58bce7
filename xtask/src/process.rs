//! Runs other programs, and prints messages.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Result;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn say(text: &str) {
    println!("\n\u{2022} {text}");
}

/// Runs a command whose output is shown.
pub(crate) fn run(command: &mut Command, on_failure: &str) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(on_failure.to_owned()),
        Err(error) => Err(not_run(command, &error, on_failure)),
    }
}

/// Replaces this process with a program, so that Ctrl+C waits for its graceful shutdown.
#[cfg(unix)]
pub(crate) fn exec(program: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let error = program.exec();
    Err(not_run(program, &error, "there is nothing to run"))
}

#[cfg(not(unix))]
pub(crate) fn exec(program: &mut Command) -> Result<()> {
    run(program, "the program has stopped")
}

/// Runs a command whose output is shown only if it fails, in parallel with another one.
pub(crate) fn run_quietly(command: &mut Command, on_failure: &str) -> Result<()> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Err(format!("{on_failure}\n{}", String::from_utf8_lossy(&said)))
        }
        Err(error) => Err(not_run(command, &error, on_failure)),
    }
}

fn not_run(command: &Command, error: &std::io::Error, on_failure: &str) -> String {
    format!("{} cannot be run ({error}); {on_failure}", command.get_program().display())
}

/// The standard output of a command, if it can be run and succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version that a command prints: the first word that begins with a digit.
pub(crate) fn version(command: &mut Command) -> Option<String> {
    let output = output(command)?;
    let mut words = output.split_whitespace().map(str::to_owned);
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

/// The first of these programs that is on the PATH and tells its version.
pub(crate) fn find_program(names: &[&str]) -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let mut candidates =
        names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    // Ubuntu's browsers may be stubs that only print how to install the real ones.
    let runs = |candidate: &PathBuf| output(Command::new(candidate).arg("--version")).is_some();
    candidates.find(|candidate| candidate.is_file() && runs(candidate)).map(PathBuf::into_os_string)
}

/// A cargo command, in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(root());
    cargo
}

/// Runs cargo in the workspace.
pub(crate) fn run_cargo(arguments: &[&str]) -> Result<()> {
    run(&mut cargo(arguments), &format!("cargo {} failed", arguments.join(" ")))
}
