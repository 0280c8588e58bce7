//! Files that survive a crash: private ones, written and flushed as a whole.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Replaces the content of a file, so that it has the old or the new one after a crash.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, "new");
    let mut file = private(&new)?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// Keeps other processes of Tidings from a file, as long as what it returns is there: by a lock on another
/// file, since this one may be replaced.
///
/// # Errors
/// When another process uses it, or the lock cannot be created.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let lock = private(&with_suffix(path, "lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "another process uses it"))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Flushes the entry of a file in its folder.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Windows cannot open folders, and does not need to.
    if cfg!(unix) { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
}

/// The path with a suffix after a full stop.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Opens a file that only this user can read, and creates it if it is missing.
pub(super) fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
