//! What a server is deployed with: the files beside the code that name its flags.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::support::process::tidings;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// The arguments of the server in the line that begins so.
fn arguments(file: &str, begins: &str) -> Vec<String> {
    let text = read(file);
    let line = text.lines().find_map(|line| line.trim().strip_prefix(begins));
    let line = line.unwrap_or_else(|| panic!("{file} has no {begins}"));
    serde_json::from_str(line)
        .unwrap_or_else(|_| line.split_whitespace().skip(1).map(str::to_owned).collect())
}

#[test]
fn only_what_can_be_set_is_set() {
    for (file, begins) in [
        ("deploy/tidings.service", "ExecStart="),
        ("compose.yaml", "command: "),
        ("Dockerfile", "ENTRYPOINT "),
    ] {
        let arguments = arguments(file, begins);
        // Flags that it does not know it refuses before it comes to the last.
        let output = tidings().args(&arguments).arg("--help").output().expect("a process");
        assert_eq!(output.status.code(), Some(0), "{file}: {arguments:?}: {}", said(&output));
        let manual = said(&output);

        let text = read(file);
        let of_a_name = |c: char| c.is_ascii_uppercase() || c == '_';
        for (at, _) in text.match_indices("TIDINGS_") {
            let name = text[at..].split(|c| !of_a_name(c)).next().unwrap_or_default();
            assert!(manual.contains(&format!("{name}=")), "{file}: {name}");
        }
    }
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = read("deploy/tidings.service");
    let installed = "/opt/tidings/tidings";
    assert!(unit.contains(installed));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.service");
    fs::write(&file, unit.replace(installed, env!("CARGO_BIN_EXE_tidings"))).expect("a file");
    match Command::new("systemd-analyze").arg("verify").arg(&file).output() {
        Ok(output) => {
            assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
        }
        Err(_) => eprintln!("there is no systemd here to ask"),
    }
}
