//! Is this AMQP 0-9-1, and which side of it? A pure function of a stream's first bytes.

use super::frame::{FRAME_END, HEAD_BYTES, Head, Kind, PROTOCOL_HEADER};
use super::method::{Method, senders};
use crate::exchange::{Detected, Direction};
use crate::limits;

/// Class and method of `connection.start`, and the protocol's version in it.
const START: [u8; 6] = [0, 10, 0, 10, 0, 9];

/// Recognises what a client or a broker says first, and, in the middle of a connection, the first whole method
/// that only one side sends, in frames that fit each other. Heartbeats, acknowledgements and the content of
/// messages are sent by both: they need more.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    if bytes.starts_with(PROTOCOL_HEADER) {
        return Detected::Requests;
    }
    if PROTOCOL_HEADER.starts_with(bytes) {
        return Detected::NeedMore;
    }
    let mut rest = bytes;
    for _ in 0..limits::AMQP_RESYNC_FRAMES {
        let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() else {
            return if may_begin(rest) { Detected::NeedMore } else { Detected::No };
        };
        let Some(head) = Head::read(head) else { return Detected::No };
        let Ok(size) = usize::try_from(head.size) else { return Detected::No };
        let payload = after.get(..size).unwrap_or(after);
        let sender = match head.kind {
            Kind::Method => match payload.first_chunk::<4>() {
                None => return Detected::NeedMore,
                Some(&[c1, c2, m1, m2]) => {
                    let (class, method) =
                        (u16::from_be_bytes([c1, c2]), u16::from_be_bytes([m1, m2]));
                    match senders(class, method) {
                        None => return Detected::No,
                        Some(&[sender]) => Some(sender),
                        Some(_) => None,
                    }
                }
            },
            Kind::Header => match payload.first_chunk::<4>() {
                None => return Detected::NeedMore,
                Some([0, 60, 0, 0]) => None,
                Some(_) => return Detected::No,
            },
            // Too little to begin with.
            Kind::Body if rest.len() == bytes.len() => return Detected::No,
            Kind::Body | Kind::Heartbeat => None,
        };
        // The broker's first method is long, and may come in parts.
        if payload.starts_with(&START) && head.channel == 0 {
            return Detected::Responses;
        }
        match after.get(size) {
            None => {
                // Of a frame that is longer than anything but a body is, too little is known.
                let long = size > limits::AMQP_METHOD_BYTES;
                return if long { Detected::No } else { Detected::NeedMore };
            }
            Some(&FRAME_END) => {}
            Some(_) => return Detected::No,
        }
        if let Some(sender) = sender {
            return match (Method::read(sender, payload), sender) {
                (None, _) => Detected::No,
                (_, Direction::Requests) => Detected::Requests,
                (_, Direction::Responses) => Detected::Responses,
            };
        }
        rest = after.get(size + 1..).unwrap_or_default();
        if rest.is_empty() {
            return Detected::NeedMore;
        }
    }
    Detected::No
}

/// Whether a frame may begin so.
fn may_begin(bytes: &[u8]) -> bool {
    let mut head = [0; HEAD_BYTES];
    head.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = byte);
    match (bytes.first(), bytes.len()) {
        (None, _) => true,
        (Some(8), _) => head.iter().skip(1).all(|&byte| byte == 0),
        // Lengths up to 255 MiB; the lowest channel is 1, or 0 of methods.
        (Some(1..=3), len) => len < 4 || head[3] < 0x10,
        _ => false,
    }
}
