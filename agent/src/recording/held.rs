//! Frames that wait until it is known what is spoken on a connection: an answer's record may come before its request's,
//! and of the answer alone nobody could tell what of it may be kept.
//!
//! All that comes behind such an operation waits with it, for a recording is told in order. It is soon over: what stays
//! unknown for longer is left out.

use std::collections::VecDeque;

use super::frame::{Kind, Operation};
use crate::call::Role;

/// A protocol's name and the process's side.
pub(super) type Spoken = (&'static str, Role);

/// How many rounds of the agent an operation waits: more than records are late.
const ROUNDS: u64 = 8;
/// Payload that waits, at most.
const BYTES: usize = 4 << 20;
/// Frames that wait, at most.
const FRAMES: usize = 65_536;

/// What can be written.
#[derive(Debug)]
pub(super) enum Ready {
    /// As it is.
    Frame(Kind),
    /// With what is spoken on its connection, as far as it is known; its payload is still what was captured.
    Operation(Operation, Option<Spoken>),
}

#[derive(Debug)]
enum Waiting {
    Frame(Kind),
    Operation { operation: Operation, spoken: Option<Spoken>, decided: bool, round: u64 },
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    round: u64,
}

impl Held {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A round begins.
    pub(super) fn round(&mut self) {
        self.round += 1;
    }

    /// A frame lines up.
    pub(super) fn frame(&mut self, kind: Kind) {
        self.waiting.push_back(Waiting::Frame(kind));
    }

    /// An operation lines up. `decided`: more will not be known.
    pub(super) fn operation(
        &mut self,
        operation: Operation,
        spoken: Option<Spoken>,
        decided: bool,
    ) {
        if spoken.is_some() || decided {
            self.tell(operation.cookie, spoken);
        }
        self.bytes += operation.payload.len() + operation.tail.len();
        let decided = decided || spoken.is_some();
        let round = self.round;
        self.waiting.push_back(Waiting::Operation { operation, spoken, decided, round });
    }

    /// What is spoken on a connection is known.
    fn tell(&mut self, cookie: u64, known: Option<Spoken>) {
        for waiting in &mut self.waiting {
            if let Waiting::Operation { operation, spoken, decided, .. } = waiting
                && operation.cookie == cookie
                && !*decided
            {
                (*spoken, *decided) = (known, true);
            }
        }
    }

    /// The next that waits for nothing; `all`: whatever it waits for.
    pub(super) fn next(&mut self, all: bool) -> Option<Ready> {
        let crowded = self.bytes > BYTES || self.waiting.len() > FRAMES;
        let ready = match self.waiting.front()? {
            Waiting::Frame(_) => true,
            Waiting::Operation { decided, round, .. } => {
                *decided || self.round.saturating_sub(*round) >= ROUNDS
            }
        };
        if !ready && !all && !crowded {
            return None;
        }
        Some(match self.waiting.pop_front()? {
            Waiting::Frame(kind) => Ready::Frame(kind),
            Waiting::Operation { operation, spoken, .. } => {
                let bytes = operation.payload.len() + operation.tail.len();
                self.bytes = self.bytes.saturating_sub(bytes);
                Ready::Operation(operation, spoken)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Round;
    use super::*;

    const HTTP: Spoken = ("HTTP/1", Role::Server);

    fn operation(cookie: u64, bytes: usize) -> Operation {
        let length = u32::try_from(bytes).unwrap();
        Operation { cookie, payload: vec![b'x'; bytes], length, ..Operation::default() }
    }

    /// Cookies and what is known, of all that can be written now; 0 is a frame.
    fn ready(held: &mut Held, all: bool) -> Vec<(u64, Option<Spoken>)> {
        std::iter::from_fn(|| held.next(all))
            .map(|ready| match ready {
                Ready::Frame(_) => (0, None),
                Ready::Operation(operation, spoken) => (operation.cookie, spoken),
            })
            .collect()
    }

    #[test]
    fn an_answer_waits_for_its_request_and_all_behind_it_too() {
        let mut held = Held::default();
        held.operation(operation(1, 10), None, false);
        held.frame(Kind::Round(Round::default()));
        held.operation(operation(2, 10), Some(HTTP), false);
        assert_eq!(ready(&mut held, false), []);
        held.operation(operation(1, 10), Some(HTTP), false);
        let all = [(1, Some(HTTP)), (0, None), (2, Some(HTTP)), (1, Some(HTTP))];
        assert_eq!(ready(&mut held, false), all);
        assert!(held.is_empty() && held.bytes == 0);
    }

    #[test]
    fn what_stays_unknown_goes_on_without_it() {
        let mut held = Held::default();
        held.operation(operation(1, 10), None, false);
        (1..ROUNDS).for_each(|_| held.round());
        assert_eq!(ready(&mut held, false), []);
        held.round();
        assert_eq!(ready(&mut held, false), [(1, None)]);
        held.operation(operation(1, 10), None, false);
        assert_eq!(ready(&mut held, true), [(1, None)]);
        held.operation(operation(3, 10), None, false);
        held.operation(operation(3, 10), None, true);
        assert_eq!(ready(&mut held, false), [(3, None), (3, None)]);
    }

    #[test]
    fn so_much_waits_and_no_more() {
        let mut held = Held::default();
        held.operation(operation(1, BYTES), None, false);
        assert_eq!(ready(&mut held, false), []);
        held.operation(operation(2, 1), None, false);
        assert_eq!(ready(&mut held, false), [(1, None)]);
    }
}
