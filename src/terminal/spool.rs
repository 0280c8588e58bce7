//! The spool: a file that keeps lines until the server has acknowledged them, through the end of the
//! process.
//!
//! The file is append-only, a sequence of frames with a checksum: *lines* that were read; a *batch*, which
//! gives the next lines an idempotency key, written and flushed before they are sent; an *acknowledgement*
//! of the batch. After a crash the batch that was under way is sent again with the same lines and the same
//! key, so that the server stores it once. A frame at the end that is not whole was being written and is
//! dropped; a file that is damaged anywhere else is refused, and left as it is. When nothing waits the file is
//! cut to its header; when half of it is acknowledged and it is half full, the rest is copied to a new file that
//! replaces it.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use tidings::message::StreamName;

use super::{
    ExitError,
    batch::{Batch, Lines, MAX_BATCH_BYTES, MAX_BATCH_LINES, random_key},
    files::{lock, private, sync_folder, with_suffix},
};

const MAGIC: &str = "tidings spool 1 ";
/// More than the longest header has.
const MAX_HEADER: u64 = 16 * 1024;
/// Length and checksum of the rest, and the kind.
const FRAME_HEADER: usize = 9;
/// More than the longest frame has: a line of 16 MiB.
const MAX_PAYLOAD: u32 = 32 * 1024 * 1024;

const LINES: u8 = b'L';
const BATCH: u8 = b'B';
const ACKNOWLEDGED: u8 = b'A';

/// The lines for one stream of one server that are not acknowledged, in a file.
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    /// Keeps another publisher from the same file.
    _lock: File,
    limit: u64,
    header: Vec<u8>,
    /// The lines before this offset are acknowledged.
    acknowledged: u64,
    /// Where the next frame is written.
    end: u64,
    /// The batch that is under way.
    batch: Option<Pending>,
    waiting: u64,
    /// Whether the file could not be made smaller. It is not tried again and again.
    cannot_compact: bool,
}

/// A batch that is written, but not acknowledged.
#[derive(Clone, Debug)]
struct Pending {
    key: String,
    count: u64,
    /// Behind its last lines.
    end: u64,
}

impl Spool {
    /// Opens or creates the file, with what an earlier process has left in it.
    ///
    /// # Errors
    /// When the file is in use, damaged, cannot be read or written, is not a spool, or belongs to another
    /// stream or server.
    pub(super) fn open(
        path: &Path,
        server: &str,
        stream: &StreamName,
        limit: u64,
    ) -> Result<Self, ExitError> {
        let failed = |why: &dyn std::fmt::Display| {
            ExitError::Failed(format!("the spool {}: {why}", path.display()))
        };
        let lock = lock(path).map_err(|error| failed(&error))?;
        let mut file = private(path).map_err(|error| failed(&error))?;
        let header = format!("{MAGIC}{stream} {server}\n").into_bytes();
        let mut found = Vec::new();
        let length = header.len() as u64;
        (&mut file).take(MAX_HEADER).read_to_end(&mut found).map_err(|error| failed(&error))?;
        if found.len() < header.len() && header.starts_with(&found) {
            let written = file.set_len(0).and_then(|()| write_at(&mut file, 0, &header));
            let synced = written.and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
            synced.map_err(|error| failed(&error))?;
        } else if !found.starts_with(&header) {
            let other = found.strip_prefix(MAGIC.as_bytes());
            let Some(other) = other.and_then(|other| other.split(|byte| *byte == b'\n').next())
            else {
                return Err(failed(&"it is not a spool"));
            };
            let other = String::from_utf8_lossy(other);
            return Err(failed(&format!("it is for another stream, or another server: {other}")));
        }
        let mut spool = Self {
            path: path.to_owned(),
            file,
            _lock: lock,
            limit,
            acknowledged: length,
            end: length,
            header,
            batch: None,
            waiting: 0,
            cannot_compact: false,
        };
        spool.recover().map_err(|error| failed(&error))?;
        Ok(spool)
    }

    /// Reads the frames, and cuts off one that was being written.
    fn recover(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        let mut reader = BufReader::with_capacity(64 * 1024, self.file.try_clone()?);
        while let Some((kind, payload)) = read_frame(&mut reader)? {
            match kind {
                LINES => self.waiting += number(&payload, 0).unwrap_or_default(),
                BATCH => self.batch = Some(Pending::decode(&payload).ok_or(damaged(self.end))?),
                _ => {
                    let batch = self.batch.take().ok_or(damaged(self.end))?;
                    self.acknowledged = batch.end;
                    self.waiting = self.waiting.saturating_sub(batch.count);
                }
            }
            self.end += (FRAME_HEADER + payload.len()) as u64;
        }
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(self.end))?;
        (&self.file).read_to_end(&mut rest)?;
        if !is_torn(&rest) {
            return Err(damaged(self.end));
        }
        self.file.set_len(self.end)
    }

    /// The number of lines that are not acknowledged.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Whether lines fit. A line that is longer than the limit fits into an empty file.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.waiting == 0 || self.end + bytes as u64 <= self.limit
    }

    /// Appends lines, and flushes them to the disk.
    pub(super) fn push(&mut self, lines: &Lines) -> io::Result<()> {
        self.write(LINES, &[&lines.count.to_le_bytes(), &lines.bytes])?;
        self.waiting += lines.count;
        self.file.sync_data()
    }

    /// The batch that an earlier process was sending, or the next one, which is flushed to the disk
    /// before it is sent.
    pub(super) fn begin_batch(&mut self) -> io::Result<Option<Batch>> {
        let known = self.batch.clone();
        let (lines, end) = self.read_lines(known.as_ref().map(|batch| batch.end))?;
        if lines.count == 0 {
            return if self.waiting == 0 { Ok(None) } else { Err(damaged(self.acknowledged)) };
        }
        let key = if let Some(batch) = known {
            batch.key
        } else {
            let batch = Pending { key: random_key()?, count: lines.count, end };
            self.write(BATCH, &[&batch.encode()])?;
            self.file.sync_data()?;
            self.batch.insert(batch).key.clone()
        };
        Ok(Some(Batch { key, count: lines.count, body: lines.bytes.into() }))
    }

    /// The batch is stored by the server. Not flushed: after a crash it is sent again, and the server
    /// knows its key.
    pub(super) fn acknowledge(&mut self) -> io::Result<()> {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        self.write(ACKNOWLEDGED, &[])?;
        self.acknowledged = batch.end;
        self.waiting = self.waiting.saturating_sub(batch.count);
        let start = self.header.len() as u64;
        if self.waiting == 0 {
            self.file.set_len(start)?;
            (self.acknowledged, self.end) = (start, start);
        }
        Ok(())
    }

    /// Makes the file smaller if it is half full and half of it is acknowledged. Called when no batch is
    /// under way.
    pub(super) fn compact_if_due(&mut self) -> io::Result<()> {
        let is_due = self.end > self.limit / 2
            && self.acknowledged - self.header.len() as u64 > self.end / 2;
        if !is_due || self.cannot_compact {
            return Ok(());
        }
        self.compact().inspect_err(|_| self.cannot_compact = true)
    }

    /// Replaces the file by one without what is acknowledged. No batch is under way.
    fn compact(&mut self) -> io::Result<()> {
        let path = with_suffix(&self.path, "new");
        let mut file = private(&path)?;
        file.set_len(0)?;
        file.write_all(&self.header)?;
        let (mut at, mut end) = (self.acknowledged, self.header.len() as u64);
        self.file.seek(SeekFrom::Start(at))?;
        let mut reader = BufReader::new(self.file.try_clone()?);
        while at < self.end {
            let (kind, payload) = read_frame(&mut reader)?.ok_or(damaged(at))?;
            at += (FRAME_HEADER + payload.len()) as u64;
            if kind == LINES {
                file.write_all(&frame(LINES, &[&payload]))?;
                end += (FRAME_HEADER + payload.len()) as u64;
            }
        }
        file.sync_all()?;
        fs::rename(&path, &self.path)?;
        // From here on this is the spool.
        (self.file, self.acknowledged, self.end) = (file, self.header.len() as u64, end);
        sync_folder(&self.path)
    }

    /// The lines behind those that are acknowledged, up to `end`, or as many as a batch holds; and the
    /// offset behind the last of them.
    fn read_lines(&mut self, end: Option<u64>) -> io::Result<(Lines, u64)> {
        let mut at = self.acknowledged;
        let (mut lines, mut behind) = (Lines::default(), at);
        self.file.seek(SeekFrom::Start(at))?;
        let mut reader = BufReader::with_capacity(MAX_BATCH_BYTES, self.file.try_clone()?);
        while at < end.unwrap_or(self.end) && lines.count < MAX_BATCH_LINES {
            let (kind, payload) = read_frame(&mut reader)?.ok_or(damaged(at))?;
            at += (FRAME_HEADER + payload.len()) as u64;
            if kind != LINES {
                continue;
            }
            let count = number(&payload, 0).unwrap_or_default();
            let bytes = payload.get(8..).unwrap_or_default();
            if end.is_none() && !lines.can_take(count, bytes.len()) {
                break;
            }
            lines.count += count;
            lines.bytes.extend_from_slice(bytes);
            behind = at;
        }
        Ok((lines, behind))
    }

    /// Appends a frame. A part of one that could not be written is cut off.
    fn write(&mut self, kind: u8, payload: &[&[u8]]) -> io::Result<()> {
        let frame = frame(kind, payload);
        if let Err(error) = write_at(&mut self.file, self.end, &frame) {
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.end += frame.len() as u64;
        Ok(())
    }
}

impl Pending {
    fn encode(&self) -> Vec<u8> {
        [&self.count.to_le_bytes()[..], &self.end.to_le_bytes(), self.key.as_bytes()].concat()
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let key = String::from_utf8(payload.get(16..)?.to_vec()).ok()?;
        Some(Self { key, count: number(payload, 0)?, end: number(payload, 8)? })
    }
}

fn frame(kind: u8, payload: &[&[u8]]) -> Vec<u8> {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(FRAME_HEADER + length);
    // A frame is at most a line of 16 MiB, or a batch.
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&[kind]);
    for part in payload {
        checksum.update(part);
    }
    frame.extend_from_slice(&checksum.finalize().to_le_bytes());
    frame.push(kind);
    for part in payload {
        frame.extend_from_slice(part);
    }
    frame
}

/// The next frame: its kind and payload. `None` at the end, and where no whole frame follows.
fn read_frame(reader: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; FRAME_HEADER];
    let Some(()) = read_exact(reader, &mut head)? else { return Ok(None) };
    let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > MAX_PAYLOAD || ![LINES, BATCH, ACKNOWLEDGED].contains(&kind) {
        return Ok(None);
    }
    let mut payload = vec![0; length as usize];
    let Some(()) = read_exact(reader, &mut payload)? else { return Ok(None) };
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&[kind]);
    checksum.update(&payload);
    let is_whole = checksum.finalize() == u32::from_le_bytes([c0, c1, c2, c3]);
    Ok(is_whole.then_some((kind, payload)))
}

/// Whether this, at the end of a file, is a frame that was being written when the process or the machine
/// stopped: cut short, or with zeros where nothing was written yet.
fn is_torn(rest: &[u8]) -> bool {
    let Some((head, payload)) = rest.split_first_chunk::<FRAME_HEADER>() else { return true };
    let [l0, l1, l2, l3, ..] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let behind = payload.get(length as usize..).unwrap_or_default();
    let is_last = length <= MAX_PAYLOAD && behind.iter().all(|byte| *byte == 0);
    // No frame ends with a zero.
    let is_cut = length as usize > payload.len() || rest.ends_with(&[0]);
    let is_zeros = rest.iter().all(|byte| *byte == 0);
    // The length may be what is damaged.
    let has_frame =
        || (1..rest.len()).any(|at| matches!(read_frame(&mut &rest[at..]), Ok(Some(_))));
    is_zeros || (is_last && is_cut && !has_frame())
}

fn damaged(at: u64) -> io::Error {
    let text = format!("it is damaged at byte {at}, and what follows cannot be read");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Fills the buffer; `None` if the file ends before.
fn read_exact(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<Option<()>> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn number(payload: &[u8], at: usize) -> Option<u64> {
    let bytes = payload.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn write_at(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests;
