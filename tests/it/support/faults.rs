//! Fault injection below `SQLite`: a small library (`faults.c`), compiled with the system's compiler and
//! preloaded into a server, makes system calls on the files of its store fail, wait, or kill it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

/// The errors of a broken and of a full disk (`errno.h` of Linux).
pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// The path of the compiled library, which is kept until the tests have ended.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/faults.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library);
        let status = compile.arg(source).arg("-ldl").status().expect("a C compiler");
        assert!(status.success(), "faults.c does not compile");
        (folder, library)
    });
    library
}

/// The faults of one store, which can change while its server runs.
pub(crate) struct Faults {
    store: PathBuf,
    rules: PathBuf,
    calls: PathBuf,
}

impl Faults {
    /// No faults yet. The files of the rules and calls are in `folder`, which is not that of the store.
    pub(crate) fn new(store: &Path, folder: &Path) -> Self {
        let faults = Self {
            store: store.to_owned(),
            rules: folder.join("rules"),
            calls: folder.join("calls"),
        };
        faults.set(&[]);
        faults
    }

    /// Preloads the library into a server.
    pub(crate) fn preload(&self, server: &mut Command) {
        server.env("LD_PRELOAD", library()).env("TIDINGS_STORE", &self.store);
        server.env("TIDINGS_FAULTS", &self.rules).env("TIDINGS_CALLS", &self.calls);
    }

    /// Replaces the rules (see `faults.c`).
    pub(crate) fn set(&self, rules: &[String]) {
        let mut text = String::new();
        for rule in rules {
            writeln!(text, "{rule}").expect("memory");
        }
        // Renamed into place, because the library may read the file at any moment.
        let new = self.rules.with_extension("new");
        fs::write(&new, text).expect("a file");
        fs::rename(new, &self.rules).expect("put in its place");
    }

    /// The calls so far: the call, the name of the file, and the action.
    pub(crate) fn calls(&self) -> Vec<(String, String, String)> {
        let calls = fs::read_to_string(&self.calls).unwrap_or_default();
        let word =
            |words: &mut std::str::SplitWhitespace<'_>| words.next().expect("a word").to_owned();
        let call = |line: &str| {
            let mut words = line.split_whitespace();
            (word(&mut words), word(&mut words), word(&mut words))
        };
        calls.lines().map(call).collect()
    }

    /// Clears the list of calls.
    pub(crate) fn clear_calls(&self) {
        let _ = fs::remove_file(&self.calls);
    }

    /// Whether a rule has acted on any call.
    pub(crate) fn any_triggered(&self) -> bool {
        self.calls().iter().any(|(.., action)| action != "pass")
    }
}

/// A rule: all these calls on the file with this name fail.
pub(crate) fn always_fail(call: &str, name: &str, error: i32) -> String {
    format!("{call} {name} 0 -1 fail {error}")
}

/// A rule: the process is killed before the call that follows the next `calls` calls.
pub(crate) fn kill_after(calls: usize) -> String {
    format!("* * {calls} 1 kill")
}
