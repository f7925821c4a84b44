//! The HTTP/1.1 client of the load generator: one connection, requests in order, responses read to their
//! last byte. Independent of the agent's own parser, so that it can be held against it.
//!
//! RFC 9112 sections 6 (message body) and 7.1 (chunked). It does not follow redirects or decode content.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::sys;

/// A head larger than this is not one of our workloads'.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// One response, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code; never an interim (1xx) one.
    pub status: u16,
    /// Field names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunking taken off.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Whether the server closes the connection after this response.
    fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    closing: bool,
}

impl Connection {
    /// Connects; `limit` bounds the connecting and every single read and write.
    ///
    /// # Errors
    /// As connect(2).
    pub fn open(address: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self { stream, unread: Vec::new(), closing: false })
    }

    /// The local port, which names the connection on its host.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// Whether another request may be sent: the server has neither announced nor done a close.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        if self.closing || !self.unread.is_empty() || self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let idle = matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        idle && self.stream.set_nonblocking(false).is_ok()
    }

    /// Whether the server has announced a close.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Sends a whole request.
    ///
    /// # Errors
    /// As write(2), or a timeout.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).context("send the request")
    }

    /// Reads the next response, and says when (`CLOCK_REALTIME`, ns) the read that brought its last byte
    /// returned.
    ///
    /// # Errors
    /// A read that fails, a connection that ends early, bytes that are no response.
    pub fn receive(&mut self, method: &str) -> Result<(Response, u64)> {
        let mut read_ns = sys::realtime_ns();
        let mut ended = false;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            if let Some((response, used)) = parse(&self.unread, method == "HEAD", ended)? {
                self.unread.drain(..used);
                self.closing = ended || response.closes();
                return Ok((response, read_ns));
            }
            ensure!(!ended, "the connection ended after {} bytes of a response", self.unread.len());
            let count = match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context("read the response")?,
            };
            read_ns = sys::realtime_ns();
            ended = count == 0;
            self.unread.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }
}

/// A response at the start of `bytes` and how many of them it takes; `None`: more are needed. `ended`: no
/// more will come, which is what ends a body without a length.
fn parse(bytes: &[u8], to_head: bool, ended: bool) -> Result<Option<(Response, usize)>> {
    let mut start = 0;
    loop {
        let rest = bytes.get(start..).unwrap_or_default();
        let Some(head_length) = find(rest, b"\r\n\r\n").map(|at| at + 4) else {
            ensure!(rest.len() <= MAX_HEAD_BYTES, "a response head without an end");
            return Ok(None);
        };
        let (status, headers) = parse_head(rest.get(..head_length).unwrap_or_default())?;
        start += head_length;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let mut response = Response { status, headers, body: Vec::new() };
        let rest = bytes.get(start..).unwrap_or_default();
        let body = if to_head || matches!(status, 101 | 204 | 304) {
            Some((Vec::new(), 0))
        } else if let Some(coding) = response.header("transfer-encoding") {
            ensure!(coding.eq_ignore_ascii_case("chunked"), "transfer-encoding {coding}");
            parse_chunked(rest)?
        } else if let Some(length) = response.header("content-length") {
            let length =
                length.parse::<usize>().with_context(|| format!("content-length {length}"))?;
            rest.get(..length).map(|body| (body.to_vec(), length))
        } else {
            ended.then(|| (rest.to_vec(), rest.len()))
        };
        return Ok(body.map(|(body, used)| {
            response.body = body;
            (response, start + used)
        }));
    }
}

type Head = (u16, Vec<(String, String)>);

fn parse_head(head: &[u8]) -> Result<Head> {
    let text = std::str::from_utf8(head).context("a response head that is not text")?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.splitn(3, ' ');
    let (version, status) = (words.next(), words.next());
    ensure!(matches!(version, Some("HTTP/1.1" | "HTTP/1.0")), "not a status line: {line:?}");
    let status = status.and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("not a status line: {line:?}"))?;
    let mut headers = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) =
            line.split_once(':').with_context(|| format!("not a field: {line:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((status, headers))
}

/// The chunks' data and the length of their coding; `None`: more bytes are needed.
fn parse_chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line_length) = find(rest, b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(rest.get(..line_length).unwrap_or_default());
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(digits, 16).with_context(|| format!("chunk size {line:?}"))?;
        let data = line_length + 2;
        if size == 0 {
            // Trailer fields, if any, then an empty line: the line end before it is the size line's own.
            let trailer = rest.get(line_length..).unwrap_or_default();
            return Ok(find(trailer, b"\r\n\r\n").map(|end| (body, at + line_length + end + 4)));
        }
        let after = data.checked_add(size).context("chunk size")?;
        let (Some(chunk), Some(line_end)) = (rest.get(data..after), rest.get(after..after + 2))
        else {
            return Ok(None);
        };
        if line_end != b"\r\n" {
            bail!("a chunk of {size} bytes does not end with a line end");
        }
        body.extend_from_slice(chunk);
        at += after + 2;
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> (Response, usize) {
        parse(text.as_bytes(), false, false).unwrap().expect("a whole response")
    }

    #[test]
    fn every_prefix_needs_more_and_nothing_after_the_end_is_taken() {
        let captures = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        ];
        for capture in captures {
            for end in 0..capture.len() {
                let parsed = parse(&capture.as_bytes()[..end], false, true).unwrap();
                assert_eq!(parsed, None, "{end} bytes of {capture:?}");
            }
            let (response, used) = whole(&format!("{capture}HTTP/1.1 404 "));
            assert_eq!(used, capture.len(), "{capture:?}");
            assert_eq!(response.body, b"hello");
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nall of it";
        assert_eq!(parse(bytes, false, false).unwrap(), None);
        let (response, used) = parse(bytes, false, true).unwrap().unwrap();
        assert_eq!((response.body.as_slice(), used), (&b"all of it"[..], bytes.len()));
    }

    #[test]
    fn a_response_without_a_body_ends_at_its_head() {
        assert_eq!(whole("HTTP/1.1 204 No Content\r\n\r\n").1, 27);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(parse(head, true, false).unwrap().unwrap().1, head.len());
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        for text in [
            "HTTQ/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
        ] {
            assert!(parse(text.as_bytes(), false, false).is_err(), "{text:?}");
        }
    }
}
