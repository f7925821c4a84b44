//! The methods: which side sends each, what of their arguments is of use, what the broker's codes are called.
//!
//! Class and method numbers by the specification's tables, 85 (`confirm`) and `basic.nack` by RabbitMQ's.
//! Arguments behind the last one of use are not read: a method that capture cut is read as far as that.

use crate::exchange::Direction;

/// Reads a payload's fields one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    /// A short string: a length's byte, and text.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.bytes(usize::from(length))
    }

    /// A long string, or a table: four bytes of length, and that.
    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).ok()?)
    }
}

/// A method that the broker answers with one other method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) class: u16,
    pub(super) method: u16,
}

impl Ask {
    /// What the specification calls it.
    pub(super) fn name(self) -> &'static str {
        match (self.class, self.method) {
            (40, 10) => "exchange.declare",
            (40, 20) => "exchange.delete",
            (40, 30) => "exchange.bind",
            (40, 40) => "exchange.unbind",
            (50, 10) => "queue.declare",
            (50, 20) => "queue.bind",
            (50, 30) => "queue.purge",
            (50, 40) => "queue.delete",
            (50, 50) => "queue.unbind",
            (60, 10) => "basic.qos",
            (60, 20) => "basic.consume",
            (60, 30) => "basic.cancel",
            (60, 70) => "basic.get",
            (60, 110) => "basic.recover",
            (85, 10) => "confirm.select",
            (90, 10) => "tx.select",
            (90, 20) => "tx.commit",
            (90, 30) => "tx.rollback",
            _ => "?",
        }
    }

    /// The method that a reply answers; `None`: it is no reply.
    fn answered_by(class: u16, method: u16) -> Option<Self> {
        let asked = match (class, method) {
            (40, 11 | 21 | 31) | (50, 11 | 21 | 31 | 41 | 51) | (60, 11 | 21 | 31 | 71 | 111) => {
                method - 1
            }
            (40, 51) => 40,
            (60, 72) => 70,
            (85, 11) | (90, 11 | 21 | 31) => method - 1,
            _ => return None,
        };
        Some(Self { class, method: asked })
    }
}

/// A method, as far as it is of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method<'a> {
    /// `connection.start`: the broker's own properties, a table.
    Start { properties: &'a [u8] },
    /// `connection.open`.
    Open { vhost: &'a [u8] },
    /// `connection.blocked`.
    Blocked,
    /// `connection.close`.
    ConnectionClose { code: u16 },
    /// `channel.open`.
    ChannelOpen,
    /// `channel.close`.
    ChannelClose { code: u16 },
    /// `channel.close-ok`.
    ChannelCloseOk,
    /// A method that the broker answers.
    Ask { ask: Ask, target: &'a [u8], no_wait: bool },
    /// `basic.consume`.
    Consume { queue: &'a [u8], tag: &'a [u8], automatic: bool, no_wait: bool },
    /// `basic.consume-ok`.
    ConsumeOk { tag: &'a [u8] },
    /// `basic.cancel-ok`, by the broker.
    CancelOk { tag: &'a [u8] },
    /// `basic.cancel`, by either side.
    Cancel { tag: &'a [u8], no_wait: bool },
    /// `basic.get`.
    Get { queue: &'a [u8], automatic: bool },
    /// `queue.declare-ok`.
    DeclareOk { queue: &'a [u8] },
    /// Any other answer.
    Reply(Ask),
    /// `basic.publish`.
    Publish { exchange: &'a [u8], routing_key: &'a [u8], mandatory: bool },
    /// `basic.return`.
    Return { code: u16, exchange: &'a [u8], routing_key: &'a [u8] },
    /// `basic.deliver`.
    Deliver {
        consumer: &'a [u8],
        tag: u64,
        redelivered: bool,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    /// `basic.get-ok`.
    GetOk { tag: u64, redelivered: bool, exchange: &'a [u8], routing_key: &'a [u8] },
    /// `basic.ack`, by either side.
    Ack { tag: u64, multiple: bool },
    /// `basic.nack`, by either side.
    Nack { tag: u64, multiple: bool, requeue: bool },
    /// `basic.reject`.
    Reject { tag: u64, requeue: bool },
    /// One that changes nothing here.
    Other,
}

/// Who may send a method; `None`: there is no such method.
pub(super) fn senders(class: u16, method: u16) -> Option<&'static [Direction]> {
    const CLIENT: &[Direction] = &[Direction::Requests];
    const SERVER: &[Direction] = &[Direction::Responses];
    const EITHER: &[Direction] = &[Direction::Requests, Direction::Responses];
    Some(match (class, method) {
        (10, 11 | 21 | 31 | 40 | 70) => CLIENT,
        (10, 10 | 20 | 30 | 41 | 60 | 61 | 71) => SERVER,
        (10, 50 | 51) | (20, 20 | 21 | 40 | 41) => EITHER,
        (20, 10) | (40, 10 | 20 | 30 | 40) | (50, 10 | 20 | 30 | 40 | 50) => CLIENT,
        (20, 11) | (40, 11 | 21 | 31 | 51) | (50, 11 | 21 | 31 | 41 | 51) => SERVER,
        (60, 10 | 20 | 40 | 70 | 90 | 100 | 110) => CLIENT,
        (60, 11 | 21 | 50 | 60 | 71 | 72 | 111) => SERVER,
        (60, 30 | 31 | 80 | 120) => EITHER,
        (30, 10) | (85, 10) | (90, 10 | 20 | 30) => CLIENT,
        (30, 11) | (85, 11) | (90, 11 | 21 | 31) => SERVER,
        _ => return None,
    })
}

impl<'a> Method<'a> {
    /// Reads a method's frame. `None`: there is none such in this direction, or what is of use of it was cut.
    pub(super) fn read(direction: Direction, payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let fields = &mut fields;
        let (class, method) = (fields.u16()?, fields.u16()?);
        if !senders(class, method)?.contains(&direction) {
            return None;
        }
        if let Some(ask) = Ask::answered_by(class, method)
            && direction == Direction::Responses
        {
            return match (class, method) {
                (60, 21) => Some(Self::ConsumeOk { tag: fields.short()? }),
                (60, 31) => Some(Self::CancelOk { tag: fields.short()? }),
                (50, 11) => Some(Self::DeclareOk { queue: fields.short()? }),
                (60, 71) => {
                    let (tag, redelivered) = (fields.u64()?, bit(fields.u8()?, 0));
                    let (exchange, routing_key) = (fields.short()?, fields.short()?);
                    Some(Self::GetOk { tag, redelivered, exchange, routing_key })
                }
                _ => Some(Self::Reply(ask)),
            };
        }
        let ask = Ask { class, method };
        Some(match (class, method) {
            (10, 10) => {
                fields.bytes(2)?;
                // The table may be longer than what is kept: its beginning will do.
                fields.u32()?;
                Self::Start { properties: fields.0 }
            }
            (10, 40) => Self::Open { vhost: fields.short()? },
            (10, 60) => Self::Blocked,
            (10, 50) => Self::ConnectionClose { code: fields.u16()? },
            (20, 10) => Self::ChannelOpen,
            (20, 40) => Self::ChannelClose { code: fields.u16()? },
            (20, 41) => Self::ChannelCloseOk,
            (40 | 50, _) => {
                fields.u16()?;
                let target = fields.short()?;
                let no_wait = match method {
                    10 if class == 40 => {
                        fields.short()?;
                        bit(fields.u8()?, 4)
                    }
                    10 => bit(fields.u8()?, 4),
                    20 if class == 40 => bit(fields.u8()?, 1),
                    30 if class == 50 => bit(fields.u8()?, 0),
                    40 if class == 50 => bit(fields.u8()?, 2),
                    50 => false,
                    // Binding and unbinding: another name, and the routing key.
                    _ => {
                        fields.short()?;
                        fields.short()?;
                        bit(fields.u8()?, 0)
                    }
                };
                Self::Ask { ask, target, no_wait }
            }
            (60, 20) => {
                fields.u16()?;
                let (queue, tag, bits) = (fields.short()?, fields.short()?, fields.u8()?);
                Self::Consume { queue, tag, automatic: bit(bits, 1), no_wait: bit(bits, 3) }
            }
            (60, 30) => Self::Cancel { tag: fields.short()?, no_wait: bit(fields.u8()?, 0) },
            (60, 70) => {
                fields.u16()?;
                Self::Get { queue: fields.short()?, automatic: bit(fields.u8()?, 0) }
            }
            (85, 10) => Self::Ask { ask, target: &[], no_wait: bit(fields.u8()?, 0) },
            (60, 10 | 110) | (90, _) => Self::Ask { ask, target: &[], no_wait: false },
            (60, 40) => {
                fields.u16()?;
                let (exchange, routing_key) = (fields.short()?, fields.short()?);
                Self::Publish { exchange, routing_key, mandatory: bit(fields.u8()?, 0) }
            }
            (60, 50) => {
                let code = fields.u16()?;
                fields.short()?;
                Self::Return { code, exchange: fields.short()?, routing_key: fields.short()? }
            }
            (60, 60) => {
                let (consumer, tag, redelivered) =
                    (fields.short()?, fields.u64()?, bit(fields.u8()?, 0));
                let (exchange, routing_key) = (fields.short()?, fields.short()?);
                Self::Deliver { consumer, tag, redelivered, exchange, routing_key }
            }
            (60, 80) => Self::Ack { tag: fields.u64()?, multiple: bit(fields.u8()?, 0) },
            (60, 90) => Self::Reject { tag: fields.u64()?, requeue: bit(fields.u8()?, 0) },
            (60, 120) => {
                let (tag, bits) = (fields.u64()?, fields.u8()?);
                Self::Nack { tag, multiple: bit(bits, 0), requeue: bit(bits, 1) }
            }
            _ => Self::Other,
        })
    }
}

fn bit(bits: u8, number: u8) -> bool {
    bits >> number & 1 != 0
}

/// What the specification calls a reply code (its section 1.2, and RabbitMQ's own 311); `None` for others.
#[must_use]
pub fn reply_name(code: u16) -> Option<&'static str> {
    Some(match code {
        200 => "reply-success",
        311 => "content-too-large",
        312 => "no-route",
        313 => "no-consumers",
        320 => "connection-forced",
        402 => "invalid-path",
        403 => "access-refused",
        404 => "not-found",
        405 => "resource-locked",
        406 => "precondition-failed",
        501 => "frame-error",
        502 => "syntax-error",
        503 => "command-invalid",
        504 => "channel-error",
        505 => "unexpected-frame",
        506 => "resource-error",
        530 => "not-allowed",
        540 => "not-implemented",
        541 => "internal-error",
        _ => return None,
    })
}
