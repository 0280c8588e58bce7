//! Files in the folder of a store: their names, who may read them, and that they stay there.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The file whose name goes on after that of the store.
pub(super) fn beside(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// How a file is opened that only its owner may read, if it is created.
pub(super) fn private() -> OpenOptions {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates the file of a store, unless there is one. `SQLite` gives those that it creates beside it
/// the same permissions.
pub(super) fn create_private(path: &Path) -> anyhow::Result<()> {
    match private().write(true).create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}

/// Makes durable what files a folder has, and by which names.
pub(super) fn sync_folder(of: &Path) -> io::Result<()> {
    let folder = match of.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Only there can folders be opened, and have to be synced.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
