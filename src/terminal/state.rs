//! The file in which a watcher keeps its place in the stream.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use tidings::message::{EventId, StreamName};

use super::{Stop, files::replace};

/// The place of a watcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The id of the last message that was printed, or where the server said to continue.
    pub(super) cursor: Option<EventId>,
    /// The length of the output file up to there.
    pub(super) length: Option<u64>,
}

/// The content of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    stream: String,
    cursor: Option<EventId>,
    length: Option<u64>,
}

/// The file.
pub(super) struct StateFile {
    path: PathBuf,
    stream: StreamName,
}

impl StateFile {
    pub(super) fn new(path: PathBuf, stream: StreamName) -> Self {
        Self { path, stream }
    }

    /// The place that was kept; `None` if there is no file yet.
    ///
    /// # Errors
    /// When the file cannot be read, is not a state, or belongs to another stream.
    pub(super) fn read(&self) -> Result<Option<Place>, Stop> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let content: Content =
            serde_json::from_slice(&text).map_err(|_| self.failed(&"it is not a state"))?;
        if content.stream != self.stream.as_str() {
            return Err(self.failed(&format!("it is of the stream {}", content.stream)));
        }
        Ok(Some(Place { cursor: content.cursor, length: content.length }))
    }

    /// Keeps a place: after a crash the file has this or the last one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, place: Place) -> Result<(), Stop> {
        let Place { cursor, length } = place;
        let content = Content { stream: self.stream.to_string(), cursor, length };
        let mut text = serde_json::to_vec(&content).map_err(|error| self.failed(&error))?;
        text.push(b'\n');
        replace(&self.path, &text).map_err(|error| self.failed(&error))
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> Stop {
        Stop::Failed(format!("the state {}: {why}", self.path.display()))
    }
}
