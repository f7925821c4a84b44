//! A recording's file: made for its owner alone, read as foreign bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use prost::Message;

use super::frame::Frame;

/// What a recording begins with.
pub const MAGIC: &[u8; 16] = b"wirespan\r\nrec\x1a\n1";

/// The longest frame: an operation with all that a record can have of it is a tenth of that, a process with the
/// longest command line a quarter.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// A new file. What is there already is left alone, and a link is not followed.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The bytes that a frame takes in a file.
pub(super) fn size(frame: &Frame) -> u64 {
    let length = frame.encoded_len();
    (length + prost::length_delimiter_len(length)) as u64
}

/// Writes frames.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// As writing fails.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        Ok(Self { to, bytes: MAGIC.len() as u64, buffer: Vec::new() })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// As writing fails; or it is longer than [`MAX_FRAME_BYTES`].
    pub fn write(&mut self, frame: &Frame) -> io::Result<()> {
        if frame.encoded_len() > MAX_FRAME_BYTES {
            return Err(io::Error::other("a frame of a recording is too long"));
        }
        self.buffer.clear();
        frame.encode_length_delimited(&mut self.buffer).map_err(io::Error::other)?;
        self.bytes += self.buffer.len() as u64;
        self.to.write_all(&self.buffer)
    }

    /// Hands over what is buffered.
    ///
    /// # Errors
    /// As writing fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Why a recording can't be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It does not begin as one.
    #[error("it is no recording of wirespan's")]
    Magic,
    /// The file can't be read.
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    /// A frame's length is none, or longer than any frame.
    #[error("frame {number} has a length that no frame has")]
    Length {
        /// Which frame, from 0.
        number: u64,
    },
    /// A frame is no message.
    #[error("frame {number} makes no sense: {source}")]
    Frame {
        /// Which frame, from 0.
        number: u64,
        /// What is wrong with it.
        source: prost::DecodeError,
    },
}

/// Reads frames.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    frames: u64,
    cut: bool,
}

impl<R: Read> Reader<R> {
    /// Looks whether it is a recording.
    ///
    /// # Errors
    /// [`ReadError::Magic`], or as reading fails.
    pub fn new(mut from: R) -> Result<Self, ReadError> {
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Ok(()) if magic == *MAGIC => Ok(Self { from, frames: 0, cut: false }),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error.into()),
            Ok(()) | Err(_) => Err(ReadError::Magic),
        }
    }

    /// Whether the last frame was not whole.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Frames read.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The next frame; `None` at the end, also where that is within a frame.
    ///
    /// # Errors
    /// [`ReadError`]; nothing more can then be read.
    pub fn frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let number = self.frames;
        let Some(length) = self.length()? else { return Ok(None) };
        if length > MAX_FRAME_BYTES as u64 {
            return Err(ReadError::Length { number });
        }
        let mut bytes = Vec::new();
        (&mut self.from).take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            self.cut = true;
            return Ok(None);
        }
        let frame = Frame::decode(bytes.as_slice());
        let frame = frame.map_err(|source| ReadError::Frame { number, source })?;
        self.frames += 1;
        Ok(Some(frame))
    }

    /// The next frame's length, a varint.
    fn length(&mut self) -> Result<Option<u64>, ReadError> {
        let mut length = 0;
        for at in 0..4 {
            let mut byte = [0];
            match self.from.read_exact(&mut byte) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.cut = at > 0;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
            let [byte] = byte;
            length |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(Some(length));
            }
        }
        Err(ReadError::Length { number: self.frames })
    }
}
