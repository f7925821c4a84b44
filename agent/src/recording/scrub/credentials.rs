//! Credentials, where all other payload is kept: what is known as one is overwritten or left out, however it is cut
//! into pieces. A credential in a body, a URL or a field of another name is not known as one.

use crate::call::Role;

use super::overwrite;

/// Names of fields that are credentials, as a line begins with them.
const FIELDS: &[&[u8]] = &[
    b"authorization:",
    b"cookie:",
    b"proxy-authorization:",
    b"set-cookie:",
    b"x-amz-security-token:",
    b"x-api-key:",
    b"x-auth-token:",
    b"x-csrf-token:",
];

/// Redis' inline commands that have them.
const COMMANDS: &[&[u8]] = &[b"AUTH ", b"HELLO "];

/// As much of a line's beginning as any of these has.
const MOST_LINE_BYTES: usize = 24;

/// What is hidden where a message's length is not known yet: no exchange of credentials is longer.
const UNKNOWN_BYTES: u64 = 1 << 16;

/// Kafka's requests (<https://kafka.apache.org/protocol#protocol_api_keys>).
const SASL_HANDSHAKE: u16 = 17;
const SASL_AUTHENTICATE: u16 = 36;

/// As much of a message as has to be seen to know what it is.
const MOST_HEAD_BYTES: usize = 14;

/// Which bytes of a message are secret.
#[derive(Clone, Copy, Debug)]
struct Secret {
    from: usize,
    /// The message's length.
    total: u64,
    /// They are left out, not overwritten.
    cut: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// The beginning of the line that goes on.
    line: Vec<u8>,
    /// The line is one.
    within: bool,
    /// The last line was one: it may be folded.
    folds: bool,
    /// What follows is one, so many bytes.
    left: u64,
    /// The beginning of a message that goes on.
    head: Vec<u8>,
    /// Redis' `AUTH` was said, and its command is not over.
    auth: bool,
    /// Kafka's first SASL sends tokens without a request around them.
    bare_tokens: bool,
}

impl Credentials {
    /// Hides those in the next bytes. `missing`: so many follow that are not known. `spoken`: the protocol's name, and
    /// the process's side; what is not known may be any.
    pub(super) fn hide(
        &mut self,
        bytes: &mut Vec<u8>,
        missing: u64,
        spoken: Option<(&'static str, Role)>,
        sent: bool,
    ) {
        let speaks = |protocol: &str| spoken.is_none_or(|(spoken, _)| spoken == protocol);
        let asks = spoken.is_none_or(|(_, role)| sent == (role == Role::Client));
        let hidden = self.hide_left(bytes);
        if hidden == 0 && asks {
            self.messages(bytes, &speaks);
        }
        let (http, redis) = (speaks("HTTP/1"), speaks("Redis") && asks);
        if http || redis {
            self.lines(bytes.get_mut(hidden..).unwrap_or_default(), http, redis);
        }
        if missing > 0 {
            self.left = self.left.saturating_sub(missing);
            self.line.clear();
            self.head.clear();
        }
    }

    /// What goes on from before: how many bytes.
    fn hide_left(&mut self, bytes: &mut [u8]) -> usize {
        let length = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        overwrite(bytes.get_mut(..length).unwrap_or_default());
        self.left -= length as u64;
        length
    }

    /// Messages that are framed by a length, which may be cut anywhere before what is secret.
    fn messages(&mut self, bytes: &mut Vec<u8>, speaks: &impl Fn(&str) -> bool) {
        let beginning = bytes.get(..MOST_HEAD_BYTES.min(bytes.len())).unwrap_or_default().to_vec();
        let before = self.head.len();
        self.head.extend_from_slice(&beginning);
        let joined = std::mem::take(&mut self.head);
        let found = self.secret(&joined, speaks).map(|secret| (before, secret));
        let found = found.or_else(|| Some((0, self.secret(&beginning, speaks)?)));
        if let Some((before, Secret { from, total, cut })) = found {
            let from = from.saturating_sub(before).min(bytes.len());
            if cut {
                self.left = total.saturating_sub((before + bytes.len()) as u64);
                bytes.truncate(from);
            } else {
                self.left = total.saturating_sub((before + from) as u64);
                self.hide_left(bytes.get_mut(from..).unwrap_or_default());
            }
        } else if joined.len() < MOST_HEAD_BYTES {
            self.head = joined;
        } else if beginning.len() < MOST_HEAD_BYTES {
            self.head = beginning;
        }
    }

    /// What is secret of a message that begins so.
    fn secret(&mut self, head: &[u8], speaks: &impl Fn(&str) -> bool) -> Option<Secret> {
        let secret = speaks("PostgreSQL").then(|| postgres(head)).flatten();
        let secret = secret.or_else(|| speaks("AMQP").then(|| amqp(head)).flatten());
        secret.or_else(|| speaks("Kafka").then(|| self.kafka(head)).flatten())
    }

    /// SaslAuthenticate, or a bare token.
    fn kafka(&mut self, head: &[u8]) -> Option<Secret> {
        let total = length(head, 0)?.saturating_add(4);
        let number = |at: usize| {
            head.get(at..).and_then(|it| it.first_chunk()).copied().map(u16::from_be_bytes)
        };
        let (key, version) = (number(4), number(6));
        let is_request = key.is_some_and(|key| key < 100) && version.is_some_and(|it| it < 32);
        if key == Some(SASL_AUTHENTICATE) {
            return Some(Secret { from: 14, total, cut: true });
        }
        if self.bare_tokens && !is_request {
            return (head.len() > 4).then_some(Secret { from: 4, total, cut: true });
        }
        if is_request {
            self.bare_tokens = key == Some(SASL_HANDSHAKE) && version == Some(0);
        }
        None
    }

    /// HTTP's fields, and Redis' commands.
    fn lines(&mut self, mut rest: &mut [u8], http: bool, redis: bool) {
        while !rest.is_empty() {
            let hidden = self.hide_left(rest);
            rest = rest.get_mut(hidden..).unwrap_or_default();
            if rest.is_empty() {
                // Of the next line nothing is there yet that would tell what it is.
                return;
            }
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let Some((line, behind)) = rest.split_at_mut_checked(end.unwrap_or(rest.len())) else {
                return;
            };
            self.line(line, end.is_some(), http, redis);
            rest = behind;
        }
    }

    /// A line, or a part of it.
    fn line(&mut self, part: &mut [u8], ended: bool, http: bool, redis: bool) {
        let before = self.line.len();
        let room = MOST_LINE_BYTES.saturating_sub(before).min(part.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or_default());
        let begins = |words: &[&[u8]]| {
            let is = |word: &&&[u8]| {
                self.line.get(..word.len()).is_some_and(|it| it.eq_ignore_ascii_case(word))
            };
            words.iter().find(is).map(|word| word.len())
        };
        let word = self.line.trim_ascii_end();
        let number = |sign: u8| {
            let digits = word.strip_prefix(&[sign]).filter(|it| it.iter().all(u8::is_ascii_digit));
            digits.map(|digits| str::from_utf8(digits).ok().and_then(|it| it.parse::<u64>().ok()))
        };
        let name = if http { begins(FIELDS) } else { None };
        let name = name.or_else(|| if redis { begins(COMMANDS) } else { None });
        let folded = http && self.folds && matches!(self.line.first(), Some(b' ' | b'\t'));
        let (count, data) = (number(b'*'), number(b'$'));
        let argument = self.auth && count.is_none() && data.is_none();
        let says_auth = redis && word.eq_ignore_ascii_case(b"AUTH");
        if self.within || folded || argument {
            overwrite(part);
            self.within = true;
        } else if let Some(length) = name {
            overwrite(part.get_mut(length.saturating_sub(before)..).unwrap_or_default());
            self.within = true;
        }
        if !ended {
            return;
        }
        self.auth = says_auth || (self.auth && count.is_none());
        if self.auth
            && let Some(data) = data
        {
            // With its line end.
            self.left = data.unwrap_or(UNKNOWN_BYTES).saturating_add(2);
        }
        self.folds = self.within;
        self.within = false;
        self.line.clear();
    }
}

/// PasswordMessage, SASLInitialResponse and SASLResponse: a sign and a length, then what is secret.
fn postgres(head: &[u8]) -> Option<Secret> {
    let total = length(head, 1)?.saturating_add(1);
    (head.first() == Some(&b'p')).then_some(Secret { from: 5, total, cut: false })
}

/// Start-Ok and Secure-Ok: a frame of a method on channel 0, class 10, method 11 or 21.
fn amqp(head: &[u8]) -> Option<Secret> {
    let total = length(head, 3)?.saturating_add(8);
    let is_one = head.starts_with(&[1, 0, 0]) && matches!(head.get(7..11)?, [0, 10, 0, 11 | 21]);
    is_one.then_some(Secret { from: 11, total, cut: true })
}

/// The length at that place.
fn length(bytes: &[u8], at: usize) -> Option<u64> {
    let length = bytes.get(at..)?.first_chunk()?;
    Some(u64::from(u32::from_be_bytes(*length)))
}
