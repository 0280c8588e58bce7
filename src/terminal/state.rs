//! The file in which a watcher keeps its position in the stream.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tidings::message::{EventId, StreamName};

use super::{
    ExitError,
    files::{lock, replace},
};

/// The position of a watcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SavedPosition {
    /// The id of the last message that was printed, or where the server said to continue.
    pub(super) cursor: Option<EventId>,
    /// The length of the output file up to there.
    pub(super) length: Option<u64>,
}

/// The content of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    server: String,
    stream: String,
    /// The absolute path of the output file, of which a part may be removed.
    output: Option<String>,
    cursor: Option<EventId>,
    length: Option<u64>,
}

/// The file.
pub(super) struct StateFile {
    path: PathBuf,
    server: String,
    stream: StreamName,
    output: Option<String>,
    /// Keeps another watcher from the same file.
    _lock: File,
}

impl StateFile {
    /// The file for a watcher of this stream, with this output file.
    ///
    /// # Errors
    /// When the file is in use, or its lock cannot be created.
    pub(super) fn new(
        path: PathBuf,
        server: &str,
        stream: StreamName,
        output: Option<&Path>,
    ) -> Result<Self, ExitError> {
        let opened = lock(&path).and_then(|lock| {
            let output = output.map(std::path::absolute).transpose()?;
            Ok((lock, output.map(|output| output.to_string_lossy().into_owned())))
        });
        let (lock, output) = opened.map_err(|error| failed(&path, &error))?;
        Ok(Self { path, server: server.to_owned(), stream, output, _lock: lock })
    }

    /// The position that was kept; `None` if there is no file yet.
    ///
    /// # Errors
    /// When the file cannot be read, is not a state, or belongs to another stream, server or output.
    pub(super) fn read(&self) -> Result<Option<SavedPosition>, ExitError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let content: Content =
            serde_json::from_slice(&text).map_err(|_| self.failed(&"it is not a state"))?;
        if content.stream != self.stream.as_str() {
            return Err(self.failed(&format!("it is for the stream {}", content.stream)));
        }
        if content.server != self.server {
            return Err(self.failed(&format!("it is for the server {}", content.server)));
        }
        if let Some(output) = content.output.filter(|output| self.output.as_ref() != Some(output)) {
            return Err(self.failed(&format!("it is for the output {output}")));
        }
        Ok(Some(SavedPosition { cursor: content.cursor, length: content.length }))
    }

    /// Keeps a position: after a crash the file has this or the last one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, position: SavedPosition) -> Result<(), ExitError> {
        let SavedPosition { cursor, length } = position;
        let (server, output) = (self.server.clone(), self.output.clone());
        let content = Content { server, stream: self.stream.to_string(), output, cursor, length };
        let mut text = serde_json::to_vec(&content).map_err(|error| self.failed(&error))?;
        text.push(b'\n');
        replace(&self.path, &text).map_err(|error| self.failed(&error))
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> ExitError {
        failed(&self.path, why)
    }
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> ExitError {
    ExitError::Failed(format!("the state {}: {why}", path.display()))
}
