//! Finds the server programs of `PostgreSQL` and runs them as a user that they accept.

use std::{
    env, fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::geteuid;
use tempfile::TempDir;

/// The oldest major version that the cluster works with.
const MIN_VERSION: u32 = 14;

/// What the folder must hold.
const PROGRAMS: [&str; 5] = ["initdb", "postgres", "pg_basebackup", "pg_ctl", "psql"];

/// The folder with `PostgreSQL`'s server programs, version 14 or newer; `None` where it is not installed.
///
/// Looked for in this order: the newest of `/usr/lib/postgresql/*/bin`, the folders of the `PATH`, and the
/// folder that `pg_config --bindir` names.
pub fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let packaged = versions.map(|version| version.path().join("bin"));
    let newest = packaged.filter_map(|folder| Some((version(&folder)?, folder))).max();
    newest.map(|(_, folder)| folder).or_else(|| {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut others = env::split_paths(&path).chain(configured_folder());
        others.find(|folder| version(folder).is_some())
    })
}

/// The folder that `pg_config` names.
fn configured_folder() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().into())
}

/// The major version of the programs in a folder; `None` where one is missing or the version is too old.
fn version(folder: &Path) -> Option<u32> {
    if !PROGRAMS.iter().all(|program| folder.join(program).is_file()) {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    // Such as "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_once("(PostgreSQL) ")?.1;
    let major = number.split(|character: char| !character.is_ascii_digit()).next()?;
    major.parse().ok().filter(|major| *major >= MIN_VERSION)
}

/// The installed programs, and the user that they run as.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    binaries: PathBuf,
    /// `None`: as the user of this process.
    account: Option<Account>,
    /// Where the programs run. The data of the servers is in it.
    pub(crate) folder: PathBuf,
}

/// A user of the system, with its main group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Programs {
    /// The installed programs, for a folder that becomes their user's.
    ///
    /// # Errors
    ///
    /// `NotFound` where `PostgreSQL` is not installed; `PermissionDenied` where its user cannot reach the
    /// folder.
    pub(crate) fn find(folder: &Path, account: Option<Account>) -> io::Result<Self> {
        let binaries = binaries().ok_or_else(|| {
            let message = format!("PostgreSQL {MIN_VERSION} or newer is not installed");
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        if account.is_some() && !folder.parent().is_none_or(is_traversable) {
            let message = format!("PostgreSQL's user cannot reach {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let programs = Self { binaries, account, folder: folder.to_owned() };
        programs.chown(folder)?;
        Ok(programs)
    }

    /// Makes `PostgreSQL`'s user the owner of a file or folder.
    pub(crate) fn chown(&self, path: &Path) -> io::Result<()> {
        match self.account {
            Some(Account { uid, gid }) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// A command that runs a program without input, with messages in English.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        // No settings of the caller's shell, such as PGOPTIONS or PGSSLMODE.
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        // Clients look for certificates and passwords in the home, which must be readable.
        command.env("HOME", &self.folder).env("LC_ALL", "C");
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// Runs a command to its end and returns what it printed, without the last line break.
///
/// # Errors
///
/// If it fails, with what it wrote to stderr.
pub(crate) fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let program = command.get_program().display();
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "{program}: {}: {}",
            output.status,
            message.trim_end()
        )));
    }
    let text = String::from_utf8(output.stdout).map_err(io::Error::other)?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

impl Account {
    /// The user that `PostgreSQL` runs as: `postgres`, else `nobody`, where this process is root, which
    /// `PostgreSQL` refuses to run as; else `None`.
    ///
    /// # Errors
    ///
    /// If `/etc/passwd` has neither.
    pub(crate) fn unprivileged() -> io::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let account = ["postgres", "nobody"].iter().find_map(|name| Self::parse(&users, name));
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no user postgres or nobody");
        account.ok_or_else(missing).map(Some)
    }

    /// Finds a user in the text of `/etc/passwd`.
    fn parse(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        })
    }
}

/// A temporary folder: in the usual place, unless `PostgreSQL`'s user cannot reach that.
pub(crate) fn tempdir(account: Option<Account>) -> io::Result<TempDir> {
    let mut places = [env::temp_dir(), "/tmp".into(), "/var/tmp".into()].into_iter();
    let place = places.find(|place| account.is_none() || is_traversable(place));
    tempfile::Builder::new()
        .prefix("tidings-cluster-")
        .tempdir_in(place.unwrap_or_else(env::temp_dir))
}

/// Whether every user can reach what is in a folder.
fn is_traversable(folder: &Path) -> bool {
    let permits =
        |folder: &Path| fs::metadata(folder).is_ok_and(|it| it.permissions().mode() & 1 != 0);
    folder.ancestors().all(permits)
}
