//! Finds or installs `PostgreSQL`, for the tests of its engine and for the cluster.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    apt,
    process::{output, say, version},
};

/// The oldest version that Tidings supports.
const MIN_VERSION: u32 = 14;
/// The settings by which Debian's package creates a database server when it is installed.
const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// What to do where `PostgreSQL` is missing.
pub(crate) const ADVICE: &str = "install PostgreSQL 14 or newer, with its server programs: sudo apt-get install \
     postgresql (Debian, Ubuntu), sudo dnf install postgresql-server (Fedora)";

/// The folder with the server programs of `PostgreSQL`; installs them where it can. None, after a message
/// that cannot be overlooked, where it cannot.
pub(crate) fn find_or_install() -> Option<PathBuf> {
    let found = find().or_else(|| {
        install();
        find()
    });
    if found.is_none() {
        say(&format!("!!! PostgreSQL IS MISSING !!! Please {ADVICE}."));
    }
    found
}

/// The same folder that the package tidings-cluster finds: Debian does not put it on the PATH.
fn find() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let packaged = versions.map(|version| version.path().join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let configured = output(Command::new("pg_config").arg("--bindir"));
    let mut folders = packaged
        .chain(env::split_paths(&path))
        .chain(configured.map(|folder| PathBuf::from(folder.trim())));
    folders.find(|folder| is_supported(folder))
}

fn is_supported(folder: &Path) -> bool {
    let programs = ["initdb", "pg_basebackup", "psql", "postgres"].map(|name| folder.join(name));
    programs.iter().all(|program| program.is_file())
        && version(Command::new(folder.join("postgres")).arg("--version"))
            .and_then(|version| version.split('.').next()?.parse::<u32>().ok())
            .is_some_and(|major| major >= MIN_VERSION)
}

fn install() {
    if !apt::is_usable() {
        return;
    }
    say("Installing PostgreSQL from the system's packages.");
    apt::update();
    // Before the server: it has the file of settings.
    apt::install("postgresql-common");
    match create_no_cluster() {
        Ok(()) => apt::install("postgresql"),
        Err(error) => say(&format!("{CREATE_CLUSTER}: {error}")),
    }
}

/// Keeps the package from starting a server on port 5432, unless a setting says what it shall do.
fn create_no_cluster() -> io::Result<()> {
    let is_set = |line: &str| line.trim_start().strip_prefix("create_main_cluster").is_some();
    if fs::read_to_string(CREATE_CLUSTER)?.lines().any(is_set) {
        return Ok(());
    }
    let mut settings = fs::File::options().append(true).open(CREATE_CLUSTER)?;
    settings.write_all(b"\n# Set by `cargo xtask` of Tidings.\ncreate_main_cluster = false\n")
}
