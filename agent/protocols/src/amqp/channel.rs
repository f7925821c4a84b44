//! One channel of a connection: its consumers, what waits on it, and what is certain of that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::content::{Content, Likeness};
use super::event::{Call, Delivery, Refusal};
use super::method::Ask;
use super::window::Window;

/// How the broker confirms publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirms {
    /// Not at all.
    Off,
    /// By numbers; the next publish has this one.
    On { next: u64 },
    /// Not known whether, or not known which number the next has.
    Unknown {
        /// The highest number that was confirmed; 0: none was.
        highest: u64,
        /// The number that the next publish has if nothing was owed at a quiet moment.
        trial: Option<u64>,
        /// Something was published since that moment.
        published: bool,
    },
}

impl Confirms {
    /// Nothing is known.
    pub(super) const UNKNOWN: Self = Self::Unknown { highest: 0, trial: None, published: false };

    /// Numbers are not certain any more.
    pub(super) fn lose(&mut self) {
        let highest = match *self {
            Self::Unknown { highest, .. } => highest,
            Self::Off | Self::On { .. } => 0,
        };
        *self = Self::Unknown { highest, trial: None, published: false };
    }

    /// A publish: its number, where that is certain.
    pub(super) fn publish(&mut self) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::On { next } => {
                let tag = *next;
                *next += 1;
                Some(tag)
            }
            Self::Unknown { trial, published, .. } => {
                if let Some(next) = trial {
                    *next = next.saturating_add(1);
                }
                *published = true;
                None
            }
        }
    }

    /// A quiet moment: what was published before it is confirmed. Were a confirm owed through two such moments,
    /// the numbers in between would not fit.
    pub(super) fn quiet(&mut self) {
        let Self::Unknown { highest, trial, published } = *self else { return };
        if highest == 0 {
            return;
        }
        *self = match trial {
            Some(next) if published && next - 1 == highest => Self::On { next },
            Some(next) if !published && next - 1 == highest => return,
            _ => {
                let trial = highest.checked_add(1);
                Self::Unknown { highest, trial, published: false }
            }
        };
    }
}

/// A consumer.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) queue: Option<Arc<str>>,
    /// Its deliveries need no acknowledgement; `None`: not known.
    pub(super) automatic: Option<bool>,
}

/// A publish that waits for its confirm.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub(super) exchange: u64,
    pub(super) likeness: Likeness,
    pub(super) mandatory: bool,
    pub(super) returned: Option<Refusal>,
}

/// A delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(super) enum Unsettled<M> {
    /// It was told.
    Told { exchange: u64 },
    /// Its consumer is older than what was seen: it is told if it is settled.
    Untold { delivery: Box<Delivery>, offset: u64, first: M, last: M, bytes: u64 },
}

/// A method that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) exchange: u64,
    pub(super) ask: Ask,
    /// Of `basic.consume` and `basic.get`.
    pub(super) queue: Option<Arc<str>>,
    pub(super) automatic: bool,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Channel<M> {
    /// Messages that are passing, by direction.
    pub(super) published: Option<Content<M>>,
    pub(super) delivered: Option<Content<M>>,
    pub(super) confirms: Confirms,
    pub(super) unconfirmed: Window<Unconfirmed>,
    pub(super) unsettled: Window<Unsettled<M>>,
    /// The highest delivery tag; `None`: none is known since deliveries may have been lost.
    pub(super) delivery_tag: Option<u64>,
    pub(super) asked: VecDeque<Asked>,
    /// Answers pair with what was asked: nothing is owed that was not seen.
    pub(super) paired: bool,
    pub(super) consumers: HashMap<Box<str>, Consumer>,
    /// What the queue without a name means.
    pub(super) last_queue: Option<Arc<str>>,
    /// The process gave it back.
    pub(super) closing: bool,
    /// The broker closed it; what is published now is dropped there.
    pub(super) refused: Option<Refusal>,
}

impl<M> Channel<M> {
    /// A channel that was seen to open, or one of which nothing is known.
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            published: None,
            delivered: None,
            confirms: if from_start { Confirms::Off } else { Confirms::UNKNOWN },
            unconfirmed: Window::default(),
            unsettled: Window::default(),
            delivery_tag: from_start.then_some(0),
            asked: VecDeque::new(),
            paired: from_start,
            consumers: HashMap::new(),
            last_queue: None,
            closing: false,
            refused: None,
        }
    }

    /// The queue that this name means.
    pub(super) fn queue(&self, name: &[u8]) -> Option<Arc<str>> {
        super::content::name(name).or_else(|| self.last_queue.clone())
    }
}

/// What is asked, as it is told.
pub(super) fn call(ask: Ask, target: Option<Arc<str>>) -> Call {
    Call::Method { name: ask.name(), target }
}
