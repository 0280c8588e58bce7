//! Deployment files: the flags and variables in them exist, and systemd accepts the unit.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::support::process::tidings;

/// The path of the installed program.
const PROGRAM: &str = "/opt/tidings/tidings";

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// The arguments of the server in the line that begins with `prefix`.
fn arguments(file: &str, prefix: &str) -> Vec<String> {
    let text = read(file);
    let line = text.lines().find_map(|line| line.trim().strip_prefix(prefix));
    let line = line.unwrap_or_else(|| panic!("{file} has no {prefix}"));
    serde_json::from_str(line)
        .unwrap_or_else(|_| line.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn deployment_files_use_only_known_flags_and_variables() {
    for (file, prefix) in [
        ("deploy/tidings.service", "ExecStart="),
        ("compose.yaml", "command: "),
        ("Dockerfile", "ENTRYPOINT "),
    ] {
        let mut arguments = arguments(file, prefix);
        arguments.retain(|argument| argument != PROGRAM);
        // An unknown flag is refused before `--help` is reached.
        let output = tidings().args(&arguments).arg("--help").output().expect("a process");
        assert_eq!(output.status.code(), Some(0), "{file}: {arguments:?}: {}", printed(&output));
        let help = printed(&output);

        let text = read(file);
        let is_in_name = |c: char| c.is_ascii_uppercase() || c == '_';
        for (at, _) in text.match_indices("TIDINGS_") {
            let name = text[at..].split(|c| !is_in_name(c)).next().unwrap_or_default();
            // The value of a variable that can hold a password is not shown.
            let is_known = ["=", "]"].iter().any(|end| help.contains(&format!("{name}{end}")));
            assert!(is_known, "{file}: {name}");
        }
    }
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = read("deploy/tidings.service");
    assert!(unit.contains(PROGRAM));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.service");
    fs::write(&file, unit.replace(PROGRAM, env!("CARGO_BIN_EXE_tidings"))).expect("a file");
    match Command::new("systemd-analyze").arg("verify").arg(&file).output() {
        Ok(output) => {
            assert!(output.status.success() && printed(&output).is_empty(), "{}", printed(&output));
        }
        Err(_) => eprintln!("skipped: systemd-analyze is not installed"),
    }
}
