//! Files in the folder of a store: their names, permissions, and the fsync of the folder.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The path of a file in the same folder: the given path with a suffix.
pub(super) fn sibling(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut sibling = path.as_os_str().to_owned();
    sibling.push(suffix);
    sibling.into()
}

/// Options that create a file which only its owner may read and write (mode 0600 on Unix).
pub(super) fn owner_only() -> OpenOptions {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates the file of a store, readable by its owner only, unless it exists. `SQLite` gives the files
/// that it creates beside it the same permissions.
pub(super) fn create_private(path: &Path) -> anyhow::Result<()> {
    match owner_only().write(true).create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}

/// Syncs the folder of a file, so that the creation, renaming and removal of files are durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Only Unix can open a folder, and requires the sync.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
