//! Copies files and folders.

use std::{fs, path::Path};

use crate::Result;

/// Copies a file, or a folder with all its content.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = || {
        if !from.is_dir() {
            return fs::copy(from, to).map(drop).map_err(|error| error.to_string());
        }
        fs::create_dir_all(to).map_err(|error| error.to_string())?;
        let entries = fs::read_dir(from).map_err(|error| error.to_string())?;
        entries.flatten().try_for_each(|entry| copy(&entry.path(), &to.join(entry.file_name())))
    };
    copied().map_err(|error| format!("{}: {error}", from.display()))
}
