//! The programs in Rust, compiled as a part of these tests. So that one can be killed, this executable
//! runs it as a process: as a test that is ignored otherwise.

use super::{page::block, sandbox::Sandbox};

/// What the test harness prints before the output of the program.
pub(super) const PREAMBLE: &str = "\nrunning 1 test\n";

mod publish {
    include!("publish_message.rs");

    #[test]
    #[ignore = "run as a process by others"]
    fn as_a_process() {
        main().expect("success");
        std::process::exit(0);
    }
}

mod read {
    include!("read_stream.rs");

    #[test]
    #[ignore = "run as a process by others"]
    fn as_a_process() {
        main().expect("success");
        std::process::exit(0);
    }
}

/// The command that runs one of the programs.
pub(super) fn command(sandbox: &Sandbox, module: &str) -> std::process::Command {
    let executable = std::env::current_exe().expect("a path");
    let mut command = sandbox.command(executable.to_str().expect("text"));
    command.args([&format!("recipes::rust::{module}::as_a_process"), "--exact", "--ignored"]);
    // Two threads: with one, the harness prints the name of the test first.
    command.args(["--nocapture", "--test-threads=2"]);
    command
}

#[test]
fn the_programs_are_those_of_the_pages() {
    for (key, file) in [
        ("publish: Rust 1", include_str!("publish_message.rs")),
        ("read: Rust 1", include_str!("read_stream.rs")),
    ] {
        assert_eq!(block(key).text, file, "the page and tests/it/recipes differ: {key}");
    }
}
