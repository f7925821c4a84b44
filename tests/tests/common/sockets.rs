//! Bare clients: exactly these bytes, and what comes back until the other side is done.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a connect or a read may take: a bound on a hang, not on speed.
const LIMIT: Duration = Duration::from_secs(180);

/// A stream that can be told what to send and asked for what came.
pub(crate) trait Talk: Read + Write {
    fn say(&mut self, text: &str) {
        self.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `mark` has come.
    fn until(&mut self, mark: &str) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(mark.as_bytes()) {
            let count = self.read(&mut byte).unwrap();
            assert!(count == 1, "the end after {:?}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// Reads to the end, or to a reset.
    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

impl Talk for TcpStream {}
impl Talk for UnixStream {}

pub(crate) fn tcp(address: impl Into<SocketAddr>) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address.into(), LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}
