//! HTTP/1.x heads (RFC 9112, 2 to 5): first line and the fields that a span needs, borrowed where they lie.
//!
//! Reads whole heads and heads of which only a prefix was captured. Decides how the body is framed as
//! far as the head alone tells; whose response it is and what that changes is `connection`'s.

use std::{borrow::Cow, fmt, sync::Arc};

use memchr::{memchr, memrchr};

use super::{
    asked::Field,
    detect::{STATUS_LINE_BYTES, skip_empty_lines},
    fields::{Fields, Lengths, text},
};
use crate::{limits, propagation::Propagators, w3c::TraceParent};

/// A request method: case-sensitive, unknown ones kept as they were sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method<'a>(Cow<'a, str>);

impl<'a> Method<'a> {
    /// The methods of RFC 9110 (9.3) and RFC 5789: those that OpenTelemetry's conventions name.
    pub const REGISTERED: [&'static str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

    /// The method as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one of [`Self::REGISTERED`] that it is, if any: a span of any other is to say `_OTHER`.
    #[must_use]
    pub fn known(&self) -> Option<&'static str> {
        Method::REGISTERED.into_iter().find(|known| **known == self.0)
    }

    pub(super) fn is_registered(token: &[u8]) -> bool {
        Self::REGISTERED.iter().any(|known| known.as_bytes() == token)
    }

    fn new(token: &'a [u8]) -> Self {
        Self(String::from_utf8_lossy(token))
    }

    fn into_owned(self) -> Method<'static> {
        let known = self.known();
        Method(known.map_or_else(|| Cow::Owned(self.0.into_owned()), Cow::Borrowed))
    }
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The minor digit of `HTTP/1.x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u8);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// What a request's head says. Text that isn't UTF-8 has U+FFFD in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: Method<'a>,
    /// The path without query: `/a/b`, `*` for the asterisk-form, empty for the authority-form
    /// (CONNECT), for an absolute-form without path and for what has none of the four forms.
    pub target: Cow<'a, str>,
    /// The target was cut by capture: `target` (or, where there is one, `query`) is a prefix.
    pub target_cut: bool,
    /// The query without its `?`. May carry secrets: left out of spans unless a rule asks for it.
    pub query: Option<Cow<'a, str>>,
    /// The scheme, lower-case, of a target in absolute-form.
    pub scheme: Option<Cow<'a, str>>,
    /// The authority that the request is for, `host[:port]`: the target's in absolute-form and
    /// authority-form, else the `Host` field's. User information is left out, and so is what is no
    /// `host[:port]`.
    pub host: Option<Cow<'a, str>>,
    /// The protocol version; `None` when capture cut the first line before it.
    pub version: Option<Version>,
    /// `User-Agent`.
    pub user_agent: Option<Cow<'a, str>>,
    /// A valid, single `traceparent`, else the trace context in another format that is asked for.
    pub traceparent: Option<TraceParent>,
    /// The combined `tracestate` that goes with `traceparent`; never without it.
    pub tracestate: Option<Cow<'a, str>>,
    /// `Content-Length` in bytes, where it frames the body.
    pub content_length: Option<u64>,
    /// `Content-Type`.
    pub content_type: Option<Cow<'a, str>>,
    /// The client asks for another protocol (`Upgrade`).
    pub upgrade: bool,
    /// The client that the nearest proxy names first: `X-Forwarded-For`, else `Forwarded`'s `for`.
    pub forwarded: Option<Cow<'a, str>>,
    /// The fields that were asked for, in order.
    pub fields: Vec<Field<'a>>,
    /// The whole head was captured. If not, an absent field may just not have been seen.
    pub complete: bool,
}

impl RequestHead<'_> {
    /// Whether the target has a query, be it empty.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> RequestHead<'static> {
        RequestHead {
            method: self.method.into_owned(),
            target: owned(self.target),
            target_cut: self.target_cut,
            query: self.query.map(owned),
            scheme: self.scheme.map(owned),
            host: self.host.map(owned),
            version: self.version,
            user_agent: self.user_agent.map(owned),
            traceparent: self.traceparent,
            tracestate: self.tracestate.map(owned),
            content_length: self.content_length,
            content_type: self.content_type.map(owned),
            upgrade: self.upgrade,
            forwarded: self.forwarded.map(owned),
            fields: self.fields.into_iter().map(Field::into_owned).collect(),
            complete: self.complete,
        }
    }
}

/// What a response's head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The protocol version.
    pub version: Version,
    /// `Content-Length` in bytes: the body's, or for HEAD and 304 what it would have been.
    pub content_length: Option<u64>,
    /// `Content-Type`.
    pub content_type: Option<Cow<'a, str>>,
    /// The fields that were asked for, in order.
    pub fields: Vec<Field<'a>>,
    /// The whole head was captured. If not, an absent field may just not have been seen.
    pub complete: bool,
}

impl ResponseHead<'_> {
    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> ResponseHead<'static> {
        ResponseHead {
            status: self.status,
            version: self.version,
            content_length: self.content_length,
            content_type: self.content_type.map(owned),
            fields: self.fields.into_iter().map(Field::into_owned).collect(),
            complete: self.complete,
        }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// How a head says that its body is framed (RFC 9112, 6.3), before the peer's method is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A request head and what the connection must know beside it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) head: RequestHead<'a>,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
}

/// A response head and what the connection must know beside it.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub(super) head: ResponseHead<'a>,
    pub(super) framing: Framing,
}

/// Reads a request head: all of it (`complete`) or a captured prefix. `asked`: names of fields that are kept. `None`:
/// broken, or not enough of it to name the method.
pub(super) fn request<'a>(
    bytes: &'a [u8],
    complete: bool,
    propagators: Propagators,
    asked: &[Arc<str>],
) -> Option<Request<'a>> {
    let (line, rest, line_whole) = first_line(bytes);
    if complete && !line_whole {
        return None;
    }
    let (method, line) = line.split_at_checked(memchr(b' ', line)?)?;
    let line = line.get(1..)?;
    let (target, version) = match memchr(b' ', line).and_then(|at| line.split_at_checked(at)) {
        Some((target, version)) => (target, Some(version)),
        None => (line, None),
    };
    let version = if line_whole {
        Some(version.and_then(|version| version.strip_prefix(b" ")).and_then(self::version)?)
    } else {
        None
    };
    let target_cut = !line_whole && target.len() == line.len();
    if method.is_empty() || (target.is_empty() && !target_cut) {
        return None;
    }
    let method = Method::new(method);
    let mut fields = Fields::read(rest, complete, asked)?;
    // RFC 9112, 6.3: a request whose last coding is not chunked can't be framed, and is refused.
    let framing = match (fields.transfer_coding(), fields.content_length) {
        (Some(coding), _) if coding.chunked_last => Framing::Chunked,
        (Some(_), _) | (None, Lengths::Conflicting) => return None,
        (None, Lengths::One(length)) if length > 0 => Framing::Length(length),
        (None, _) => Framing::None,
    };
    let target = Target::read(&method, target, target_cut);
    Some(Request {
        expects_continue: fields.expects_continue,
        framing,
        head: RequestHead {
            method,
            target: target.path,
            target_cut,
            query: target.query,
            scheme: target.scheme,
            host: target.authority.or_else(|| fields.host()),
            version,
            user_agent: fields.user_agent(),
            traceparent: fields.context(propagators),
            tracestate: fields.tracestate(),
            content_length: fields.body_length(),
            content_type: fields.content_type(),
            upgrade: fields.upgrade,
            forwarded: fields.forwarded(),
            fields: fields.take_asked(),
            complete,
        },
    })
}

/// Reads a response head: all of it (`complete`) or a captured prefix. `asked`: names of fields that are kept. `None`:
/// broken, or its status code is not there.
pub(super) fn response<'a>(
    bytes: &'a [u8],
    complete: bool,
    asked: &[Arc<str>],
) -> Option<Response<'a>> {
    let (line, rest, line_whole) = first_line(bytes);
    if complete && !line_whole {
        return None;
    }
    let (start, reason) = line.split_at_checked(STATUS_LINE_BYTES)?;
    let (version, code) = start.split_at_checked(8)?;
    let version = self::version(version)?;
    let &[b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = code else { return None };
    let status = [a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if !reason.is_empty() && !reason.starts_with(b" ") {
        return None;
    }
    let mut fields = Fields::read(rest, complete, asked)?;
    let framing = match (fields.transfer_coding(), fields.content_length) {
        (Some(coding), _) if coding.chunked_last => Framing::Chunked,
        (Some(_), _) | (None, Lengths::None) => Framing::UntilClose,
        (None, Lengths::Conflicting) => return None,
        (None, Lengths::One(0)) => Framing::None,
        (None, Lengths::One(length)) => Framing::Length(length),
    };
    Some(Response {
        framing,
        head: ResponseHead {
            status,
            version,
            content_length: fields.body_length(),
            content_type: fields.content_type(),
            fields: fields.take_asked(),
            complete,
        },
    })
}

/// The first line without its end, what follows it, and whether its end was there.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8], bool) {
    let bytes = skip_empty_lines(bytes);
    match memchr(b'\n', bytes).and_then(|at| bytes.split_at_checked(at)) {
        Some((line, rest)) => {
            (line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default(), true)
        }
        None => (bytes, &[], false),
    }
}

fn version(bytes: &[u8]) -> Option<Version> {
    match bytes.strip_prefix(b"HTTP/1.")? {
        [digit @ b'0'..=b'9'] => Some(Version(digit - b'0')),
        _ => None,
    }
}

/// A request target in one of its four forms (RFC 9112, 3.2).
struct Target<'a> {
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
    scheme: Option<Cow<'a, str>>,
    authority: Option<Cow<'a, str>>,
}

impl<'a> Target<'a> {
    /// Of a target that was cut, an authority that may go on is left out: its beginning may be user
    /// information.
    fn read(method: &Method<'_>, target: &'a [u8], cut: bool) -> Self {
        // A fragment is never sent by right; what a client sent by mistake is not part of the path.
        let target = split(target, b'#').0;
        if method.as_str() == "CONNECT" {
            let authority = if cut { None } else { host(target) };
            return Self { path: Cow::Borrowed(""), query: None, scheme: None, authority };
        }
        let absolute = (!target.starts_with(b"/"))
            .then(|| target.windows(3).position(|window| window == b"://"))
            .flatten()
            .and_then(|at| target.split_at_checked(at))
            .filter(|(scheme, _)| is_scheme(scheme));
        let (scheme, authority, origin) = match absolute {
            Some((scheme, rest)) => {
                let rest = rest.get(3..).unwrap_or_default();
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
                let (authority, origin) =
                    rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or_default();
                let named = if cut && end.is_none() { None } else { host(authority) };
                // Where that is no authority, it may have ended within a credential.
                let whole = named.is_some() || authority.is_empty();
                let origin = if whole { origin } else { [].as_slice() };
                (self::scheme(scheme), named, origin)
            }
            None if target.starts_with(b"/") || (target == b"*" && !cut) => (None, None, target),
            // None of the four forms, or not enough of one: nobody knows what is in it.
            None => (None, None, [].as_slice()),
        };
        let (path, query) = split(origin, b'?');
        let all = limits::HTTP1_HEAD_BYTES;
        Self {
            path: text(path, all).unwrap_or_default(),
            query: query.map(|query| text(query, all).unwrap_or_default()),
            scheme,
            authority,
        }
    }
}

/// `host[:port]` without user information. `None` for what is not that: part of a credential, perhaps.
pub(super) fn host(authority: &[u8]) -> Option<Cow<'_, str>> {
    let host = authority.rsplit(|&byte| byte == b'@').next().unwrap_or_default();
    let after_literal = memrchr(b']', host).map_or(0, |at| at + 1);
    let port = memrchr(b':', host).filter(|at| *at >= after_literal);
    let port = port.and_then(|at| host.get(at + 1..)).unwrap_or_default();
    let foreign = |byte: &u8| byte.is_ascii_whitespace() || b"/?#\\".contains(byte);
    if !port.iter().all(u8::is_ascii_digit) || host.iter().any(foreign) {
        return None;
    }
    text(host, limits::HTTP1_VALUE_BYTES)
}

/// Lower-case.
fn scheme(scheme: &[u8]) -> Option<Cow<'_, str>> {
    let mut scheme = text(scheme, 16)?;
    if scheme.bytes().any(|byte| byte.is_ascii_uppercase()) {
        scheme.to_mut().make_ascii_lowercase();
    }
    Some(scheme)
}

/// RFC 3986, 3.1: `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )`.
fn is_scheme(scheme: &[u8]) -> bool {
    let rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(rest)
}

fn split(bytes: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match memchr(at, bytes).and_then(|at| bytes.split_at_checked(at)) {
        Some((before, after)) => (before, after.get(1..)),
        None => (bytes, None),
    }
}
