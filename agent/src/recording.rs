//! Recordings: what the kernel and `/proc` told of chosen processes, in a file, to be followed again elsewhere.
//!
//! Beside the data path, at one seam of it: behind capture, selection and the runtimes' assists, before connections.
//! Nothing behind that seam asks the kernel, a process or a clock, so that [`crate::pipeline::Replay`] makes the same
//! spans of the file as the agent made of the world, without any right. What a payload says beyond what a span may
//! show is overwritten before it gets here ([`Scrubber`]).
//!
//! The file is [`MAGIC`] and then frames, each a message of [`frame`] behind its length. A frame that is cut is the
//! end: a file is of use up to there however it came to its end.

mod facts;
mod file;
pub mod frame;
mod held;
mod scrub;

pub use facts::{Facts, FactsError};
pub use file::{MAGIC, MAX_FRAME_BYTES, ReadError, Reader, Writer};
pub use scrub::{Payload, Scrubber};

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use rustc_hash::FxHashSet;

use frame::{Change, End, Frame, Header, Housekeeping, Kind, Listed, Round, RoundEnd};
use held::{Held, Ready, Spoken};

use crate::call::ProcessId;
use crate::capture::{Gone, JobBegun, Operation, Socket};
use crate::clock::{self, WallClock};
use crate::connection::Connection;
use crate::queue::celerys_begun;
use crate::runtime::node::Heard;
use crate::selection::Traced;

/// What changes the meaning of a file's frames. What is only added does not: unknown fields are passed over.
pub const VERSION: u32 = 1;

/// Room that is kept for the last frame.
const LAST_BYTES: u64 = 1024;

/// How a recording is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Payload is kept as it is, but for credentials that are known as such.
    pub with_payload: bool,
    /// The file's size, at most.
    pub max_bytes: u64,
    /// Where the ids of spans begin: a recording's are made again of it.
    pub seed: u64,
}

/// Writes a recording. After an error, or when the file is full, it writes nothing more.
pub struct Recorder {
    writer: Writer<BufWriter<File>>,
    scrubber: Scrubber,
    held: Held,
    max_bytes: u64,
    counts: End,
    dismissed: FxHashSet<ProcessId>,
    failed: Option<io::Error>,
    is_full: bool,
}

impl Recorder {
    /// Begins a new file, which only its owner may read.
    ///
    /// # Errors
    /// There is something at `path` already, be it a link; or it can't be written.
    pub fn create(path: &Path, options: &Options) -> io::Result<Self> {
        let file = file::create(path)?;
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, file))?;
        let uname = rustix::system::uname();
        writer.write(&Frame::from(Kind::Header(Header {
            version: VERSION,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            unix_ns: clock::unix_ns(),
            seed: options.seed,
            with_payload: options.with_payload,
        })))?;
        Ok(Self {
            writer,
            scrubber: Scrubber::new(options.with_payload),
            held: Held::default(),
            max_bytes: options.max_bytes,
            counts: End::default(),
            dismissed: FxHashSet::default(),
            failed: None,
            is_full: false,
        })
    }

    /// Whether nothing more is written: the file is full, or can't be written.
    pub fn is_over(&self) -> bool {
        self.is_full || self.failed.is_some()
    }

    /// Writes a frame in its turn.
    fn write(&mut self, kind: Kind) {
        if self.held.is_empty() {
            self.put(kind);
        } else {
            self.held.frame(kind);
            self.release(false);
        }
    }

    /// Writes what waits no longer; `all`: whatever it waits for.
    fn release(&mut self, all: bool) {
        while let Some(ready) = self.held.next(all) {
            match ready {
                Ready::Frame(kind) => self.put(kind),
                Ready::Operation(operation, spoken) => self.put_operation(operation, spoken),
            }
        }
    }

    fn put_operation(&mut self, operation: frame::Operation, spoken: Option<Spoken>) {
        let Some(record) = operation.record() else { return };
        let Payload { bytes, tail } = self.scrubber.scrub(&record, spoken);
        let kept = bytes.len() + tail.len();
        let captured = operation.payload.len() + operation.tail.len();
        self.counts.operations += 1;
        self.counts.payload_bytes += kept as u64;
        self.counts.left_out_bytes += captured.saturating_sub(kept) as u64;
        self.put(Kind::Operation(frame::Operation { payload: bytes, tail, ..operation }));
    }

    fn put(&mut self, kind: Kind) {
        if self.is_over() {
            return;
        }
        if let Kind::Gone(gone) = &kind {
            self.scrubber.forget(gone.cookie);
        }
        let frame = Frame::from(kind);
        if self.writer.bytes().saturating_add(file::size(&frame) + LAST_BYTES) > self.max_bytes {
            self.is_full = true;
            return;
        }
        if let Err(error) = self.writer.write(&frame) {
            self.failed = Some(error);
        }
    }

    /// A round begins.
    pub fn round(&mut self, now_ns: u64, wall: WallClock) {
        self.held.round();
        self.write(Kind::Round(Round { now_ns, wall_ns: wall.unix_ns(0) }));
    }

    /// A process is known, or what is known of it is another.
    pub fn process(&mut self, traced: &Traced) {
        match serde_json::to_vec(&Facts::of(traced)) {
            Ok(json) => self.write(Kind::Process(frame::Process { json })),
            Err(error) => self.failed = Some(error.into()),
        }
    }

    /// Something on a connection could not be read.
    pub fn doubt(&mut self, doubt: frame::Doubt) {
        self.write(Kind::Doubt(doubt));
    }

    /// A process began, executed something, or is gone.
    pub fn change(&mut self, change: Change) {
        self.write(Kind::Change(change));
    }

    /// These are to be let go. Each is told once.
    pub fn dismissed(&mut self, processes: impl Iterator<Item = ProcessId>) {
        for process in processes {
            if self.dismissed.insert(process) {
                let kind = frame::ChangeKind::Dismissed.into();
                self.change(Change { kind, process: process.0, ..Change::default() });
            }
        }
    }

    /// Bytes passed. `connection`: as it is after it was told.
    pub fn operation(&mut self, operation: &Operation<'_>, connection: Option<&Connection>) {
        let spoken = connection.and_then(Connection::spoken);
        let decided = connection.is_none_or(|connection| !connection.is_undecided());
        let (payload, tail) = (operation.payload.to_vec(), operation.tail.to_vec());
        self.held.operation(frame::Operation::of(operation, payload, tail), spoken, decided);
        self.release(false);
    }

    /// A socket and its ends.
    pub fn socket(&mut self, socket: &Socket) {
        self.write(Kind::Socket(socket.into()));
    }

    /// A connection is over.
    pub fn gone(&mut self, gone: &Gone) {
        self.write(Kind::Gone(gone.into()));
    }

    /// Silences were looked at, with what the kernel lost and whose slots it has back.
    pub fn housekeeping(&mut self, now_ns: u64, lost: &[ProcessId], forgotten: &[ProcessId]) {
        let ids = |ids: &[ProcessId]| ids.iter().map(|id| id.0).collect();
        self.counts.losses += lost.len() as u64;
        self.write(Kind::Housekeeping(Housekeeping {
            now_ns,
            lost: ids(lost),
            forgotten: ids(forgotten),
        }));
        // What is in a buffer when the agent is killed is not in the file.
        if let Err(error) = self.writer.flush() {
            self.failed.get_or_insert(error);
        }
    }

    /// A child of a pool begins to work on a job. Only the id of what it was given is kept.
    pub fn job(&mut self, begun: &JobBegun<'_>) {
        let JobBegun { slot, at_ns, context, content } = *begun;
        if let Some(id) = celerys_begun(content) {
            let (slot, id) = (slot.0, id.to_owned());
            self.write(Kind::Job(frame::Job { slot, at_ns, context, id }));
        }
    }

    /// The sockets of processes that ran before were listed.
    pub fn listed(&mut self, at_ns: u64) {
        self.write(Kind::Listed(Listed { at_ns }));
    }

    /// A round is over. `heard`: what the assists told in it, if all records of before were read; with when the
    /// sockets of processes that are assisted now were told.
    pub fn round_end(&mut self, heard: Option<(u64, Heard)>) {
        let mut end = RoundEnd { drained: heard.is_some(), ..RoundEnd::default() };
        if let Some((at_ns, heard)) = heard {
            end.assisted_ns = at_ns;
            if !heard.is_empty() {
                match serde_json::to_vec(&heard) {
                    Ok(json) => end.heard_json = json,
                    Err(error) => self.failed = Some(error.into()),
                }
            }
        }
        self.write(Kind::RoundEnd(end));
    }

    /// Ends the file. What was counted, and whether it was full.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn finish(mut self) -> io::Result<End> {
        self.release(true);
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.counts.full = self.is_full;
        self.writer.write(&Frame::from(Kind::End(self.counts)))?;
        self.writer.flush()?;
        Ok(self.counts)
    }
}

#[cfg(test)]
mod tests;
