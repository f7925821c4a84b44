//! The file exporter: one `ExportTraceServiceRequest` in OTLP's JSON mapping a line, appended.
//!
//! Part of the export stage. The format is the collector's file exporter's
//! (<https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/>). A batch that cannot be written
//! is counted as refused, and the next is tried: a full disk may have room again. Never leaves half a
//! line before a whole one. Does not rotate.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::Limits;
use super::books::Refusal;
use super::otlp;
use super::queue::{self, Queue, Slice};
use super::writer::{Sink, Writer};

/// The exporter's task.
pub(super) struct JsonLines {
    writer: Writer,
    limits: Limits,
}

impl JsonLines {
    /// Opens `path` for appending, creating it if need be.
    pub(super) fn open(path: &Path, limits: Limits) -> anyhow::Result<Self> {
        let cannot_open = || format!("cannot open {}", path.display());
        let file =
            OpenOptions::new().append(true).create(true).open(path).with_context(cannot_open)?;
        let torn = ends_mid_line(path).with_context(cannot_open)?;
        let writer = Writer::start("wirespan-file", Lines { file, torn })
            .context("cannot start the writing thread")?;
        Ok(Self { writer, limits })
    }

    /// Writes what `queue` gives until it is closed and empty.
    pub(super) async fn run(self, queue: Arc<Queue>) {
        // No linger: whoever follows the file sees a span at once, and lines cost little.
        while let Some(mut taken) = queue.take(self.limits.batch_spans, Duration::ZERO).await {
            let written = match json_line(&taken.slices) {
                Ok(line) => self.writer.put(line).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => {
                    taken.claim.exported(taken.claim.spans());
                    queue.works();
                }
                Err(error) => {
                    queue.failed(format!("cannot write: {error}"));
                    taken.claim.refuse_all(Refusal::Io);
                }
            }
        }
    }
}

/// Whether the file could be appended to, without making one or leaving one behind.
pub(super) fn probe(path: &Path) -> io::Result<()> {
    let there = match OpenOptions::new().append(true).open(path) {
        Ok(_) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new("."));
            rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?;
            directory
        }
        Err(error) => return Err(error),
    };
    let space = rustix::fs::statvfs(there)?;
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) || space.f_bavail > 0 {
        return Ok(());
    }
    Err(io::ErrorKind::StorageFull.into())
}

/// The spans as one line, its newline included. JSON strings hold no raw newline, so the line is one.
fn json_line(slices: &[Slice]) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&otlp::request(queue::spans(slices)))?;
    line.push(b'\n');
    Ok(line)
}

/// Whether a regular file ends without a newline: an earlier writer was killed at its work.
fn ends_mid_line(path: &Path) -> io::Result<bool> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// A file that is written line by line.
struct Lines<F> {
    file: F,
    /// What was written last is half a line, which could not be taken back.
    torn: bool,
}

/// What [`Lines`] needs of a file opened for appending.
trait Appended: Write + Send + 'static {
    /// The length, where what is written can be taken back.
    fn length_bytes(&self) -> io::Result<Option<u64>>;
    /// Takes back what lies beyond `length_bytes`.
    fn cut(&mut self, length_bytes: u64) -> io::Result<()>;
}

impl Appended for File {
    fn length_bytes(&self) -> io::Result<Option<u64>> {
        let metadata = self.metadata()?;
        Ok(metadata.is_file().then_some(metadata.len()))
    }

    fn cut(&mut self, length_bytes: u64) -> io::Result<()> {
        self.set_len(length_bytes)
    }
}

impl<F: Appended> Sink for Lines<F> {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let before = self.file.length_bytes()?;
        let mut rest = line;
        while !rest.is_empty() {
            let error = match self.file.write(rest) {
                Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            if rest.len() < line.len() {
                let taken_back = before.is_some_and(|length| self.file.cut(length).is_ok());
                self.torn = !taken_back;
            }
            return Err(error);
        }
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
