//! What the content of a connection leaves in doubt: requests that nobody could read may have passed on it, or messages.
//!
//! A recording keeps less of the content than the agent had, which would be in doubt again, and elsewhere. So what was
//! in doubt is recorded, and a replay goes by that.

use super::Stages;
use crate::call::{ProcessId, SocketId};
use crate::correlation::Engine;
use crate::recording::Recorder;
use crate::recording::frame;

/// What.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A request may have come.
    Requests,
    /// Messages may have been received or settled.
    Messages,
    /// From now on requests may come on the connection that can't be read.
    Opened,
    /// From now on they can.
    Closed,
}

/// What becomes of it besides.
#[derive(Debug, Default)]
pub(super) enum Doubts {
    /// Nothing.
    #[default]
    Followed,
    /// It waits to be recorded.
    Kept(Vec<frame::Doubt>),
    /// A recording tells it.
    Told,
}

impl Doubt {
    /// Tells the engine.
    fn follow(self, engine: &mut Engine, process: ProcessId, cookie: u64, at_ns: u64) {
        match self {
            Self::Requests => engine.inbound_lost(process, at_ns),
            Self::Messages => engine.messages_lost(process, at_ns),
            Self::Opened => engine.opaque_inbound(process, SocketId(cookie), true, at_ns),
            Self::Closed => engine.opaque_inbound(process, SocketId(cookie), false, at_ns),
        }
    }

    fn kind(self) -> frame::DoubtKind {
        match self {
            Self::Requests => frame::DoubtKind::Requests,
            Self::Messages => frame::DoubtKind::Messages,
            Self::Opened => frame::DoubtKind::Opened,
            Self::Closed => frame::DoubtKind::Closed,
        }
    }

    fn of(kind: frame::DoubtKind) -> Option<Self> {
        Some(match kind {
            frame::DoubtKind::Unknown => return None,
            frame::DoubtKind::Requests => Self::Requests,
            frame::DoubtKind::Messages => Self::Messages,
            frame::DoubtKind::Opened => Self::Opened,
            frame::DoubtKind::Closed => Self::Closed,
        })
    }
}

impl Stages {
    /// A connection's content leaves something in doubt.
    pub(super) fn doubt(&mut self, doubt: Doubt, process: ProcessId, cookie: u64, at_ns: u64) {
        match &mut self.doubts {
            Doubts::Told => return,
            Doubts::Followed => {}
            Doubts::Kept(kept) => kept.push(frame::Doubt {
                kind: doubt.kind().into(),
                process: process.0,
                cookie,
                at_ns,
            }),
        }
        doubt.follow(&mut self.engine, process, cookie, at_ns);
    }

    /// A recording says that it was so. `None`: of what is not known here.
    pub(super) fn doubt_told(&mut self, told: &frame::Doubt) -> Option<()> {
        let process = ProcessId(told.process);
        self.selection.get(process)?;
        let doubt = Doubt::of(told.kind())?;
        doubt.follow(&mut self.engine, process, told.cookie, told.at_ns);
        Some(())
    }

    /// Records it before that from which it followed: the engine is told before the calls that came with it.
    pub(super) fn record_doubts(&mut self, recorder: &mut Recorder) {
        if let Doubts::Kept(kept) = &mut self.doubts {
            kept.drain(..).for_each(|doubt| recorder.doubt(doubt));
        }
    }
}
