//! Prints messages, as text or JSON, to the standard output or a file, or runs a command for each.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Seek as _, SeekFrom, Stdout, Write as _},
    path::Path,
    process::ExitStatus,
};

use serde::Serialize;
use tidings::message::EventId;

use super::{ExitError, escape, exec, files::lock, status::Status, time::published_at};

/// How a message is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    /// With the time before it.
    TextWithTimes,
    /// A JSON object a line.
    Json,
}

/// Where messages go.
pub(super) enum Output {
    Stdout {
        writer: BufWriter<Stdout>,
        format: Format,
        is_terminal: bool,
    },
    File {
        writer: BufWriter<File>,
        format: Format,
        length: u64,
        /// Keeps another watcher from the same file.
        _lock: File,
    },
    /// A command that is run for each message.
    Exec(String),
}

/// A message, as in the history of the server.
#[derive(Serialize)]
struct Entry<'a> {
    id: EventId,
    at: String,
    data: &'a str,
    /// Whether it is the closing text.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    end: bool,
}

impl Output {
    pub(super) fn stdout(format: Format) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self::Stdout { writer: BufWriter::new(io::stdout()), format, is_terminal }
    }

    /// Appends to a file. What is in it behind `length` was printed after the last position was kept, and
    /// is removed: it comes again.
    ///
    /// # Errors
    /// When the file is in use, cannot be written, or is shorter than `length`.
    pub(super) fn file(
        path: &Path,
        format: Format,
        length: Option<u64>,
    ) -> Result<Self, ExitError> {
        let failed = |why: &dyn std::fmt::Display| {
            ExitError::Failed(format!("the output {}: {why}", path.display()))
        };
        let open = || {
            let lock = lock(path)?;
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            let found = file.metadata()?.len();
            let length = length.unwrap_or(found);
            if found > length {
                file.set_len(length)?;
            }
            file.seek(SeekFrom::Start(length))?;
            Ok::<_, io::Error>((lock, file, length, found))
        };
        let (lock, file, length, found) = open().map_err(|error| failed(&error))?;
        if found < length {
            return Err(failed(&"it is shorter than the state says; was it changed?"));
        }
        Ok(Self::File { writer: BufWriter::new(file), format, length, _lock: lock })
    }

    /// Prints a message or the closing text, or runs the command for a message. Returns the exit status of a
    /// command that failed.
    ///
    /// # Errors
    /// When it cannot be written, or the command cannot be started.
    pub(super) fn message(
        &mut self,
        id: EventId,
        data: &str,
        is_end: bool,
        status: &Status,
    ) -> Result<Option<ExitStatus>, ExitError> {
        let written = match self {
            Self::Exec(_) if is_end => Ok(()),
            Self::Exec(command) => {
                status.clear();
                let exit = exec::run(command, id, data)?;
                return Ok(Some(exit).filter(|exit| !exit.success()));
            }
            Self::Stdout { writer, format, is_terminal } => {
                let text = format.print(id, data, is_end, *is_terminal).unwrap_or_default();
                if *is_terminal {
                    status.clear();
                }
                writer.write_all(text.as_bytes())
            }
            Self::File { writer, format, length, .. } => {
                let text = format.print(id, data, is_end, false).unwrap_or_default();
                *length += text.len() as u64;
                writer.write_all(text.as_bytes())
            }
        };
        written.map(|()| None).map_err(|error| cannot_write(&error))
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn flush(&mut self) -> Result<(), ExitError> {
        let flushed = match self {
            Self::Exec(_) => Ok(()),
            Self::Stdout { writer, .. } => writer.flush(),
            Self::File { writer, .. } => writer.flush(),
        };
        flushed.map_err(|error| cannot_write(&error))
    }

    /// Makes what was written last: called before the position is kept. Returns the length of the file.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn sync(&mut self) -> Result<Option<u64>, ExitError> {
        let Self::File { writer, length, .. } = self else { return Ok(None) };
        let synced = writer.flush().and_then(|()| writer.get_ref().sync_data());
        synced.map_err(|error| cannot_write(&error)).map(|()| Some(*length))
    }

    /// Whether the position is kept after each message, since repeating one costs more than that.
    pub(super) fn is_exec(&self) -> bool {
        matches!(self, Self::Exec(_))
    }
}

impl Format {
    /// The line for a message. The closing text is no message: only JSON can tell them apart.
    fn print(self, id: EventId, data: &str, end: bool, for_terminal: bool) -> Option<String> {
        if self == Self::Json {
            let entry = Entry { id, at: published_at(id), data, end };
            // Strings and numbers always serialize.
            return Some(serde_json::to_string(&entry).unwrap_or_default() + "\n");
        }
        if end {
            return None;
        }
        let data = if for_terminal { escape::for_terminal(data) } else { data.to_owned() };
        let time = if self == Self::TextWithTimes { published_at(id) + " " } else { String::new() };
        Some(format!("{time}{data}\n"))
    }
}

fn cannot_write(error: &io::Error) -> ExitError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ExitError::OutputClosed,
        _ => ExitError::Failed(format!("the output cannot be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_printed_in_each_format() {
        let id = EventId { millis: 1_763_891_234_567, seq: 42 };
        let print =
            |format: Format, data: &str, end, terminal| format.print(id, data, end, terminal);
        assert_eq!(
            print(Format::Text, "a\x1b[2J\nb", false, false).as_deref(),
            Some("a\x1b[2J\nb\n")
        );
        assert_eq!(print(Format::Text, "a\x1b[2J\nb", false, true).as_deref(), Some("a\nb\n"));
        assert_eq!(
            print(Format::TextWithTimes, "a", false, false).as_deref(),
            Some("2025-11-23T09:47:14.567Z a\n")
        );
        assert_eq!(print(Format::Text, "bye", true, false), None);
        assert_eq!(
            print(Format::Json, "\"\x1b\n", false, true).as_deref(),
            Some(
                "{\"id\":\"1763891234567-42\",\"at\":\"2025-11-23T09:47:14.567Z\",\"data\":\"\\\"\\u001b\\n\"}\n"
            )
        );
        assert_eq!(
            print(Format::Json, "bye", true, false).as_deref(),
            Some(
                "{\"id\":\"1763891234567-42\",\"at\":\"2025-11-23T09:47:14.567Z\",\"data\":\"bye\",\"end\":true}\n"
            )
        );
    }
}
