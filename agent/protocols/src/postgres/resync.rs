//! How certain the pairing is, and how it begins anew after a loss or on a connection met in the middle.
//!
//! Nothing in the streams shows how many answers are still owed from before. Hence:
//!
//! - A client that takes turns owes its every request to the answer before. Its stream is taken up where
//!   a piece begins with a request ([`begins_request`]), the server's where a piece ends with
//!   `ReadyForQuery` while exactly one is due; [`limits::POSTGRES_ROUNDS`] rounds must go by, the later
//!   ones with answers that fit, before any is told. If it sends on while an answer is due after all,
//!   it is not taken for such a client again.
//! - Of any other client it takes a trial, which begins with a request behind an answer's end, or at a
//!   quiet moment with nothing sent since the server was last heard to be ready. From there on requests
//!   and answers are paired, and not told. An answer that does not fit, or that nothing was due for, shows
//!   that some were owed, and ends the trial. None had been owed if at two quiet moments none is due, with
//!   some paired between them; that errs only if two requests stayed unanswered for as long as the caller
//!   calls quiet, each across one of these moments. On a connection that is never quiet the caller may
//!   judge by the times of what is counted ([`Connection::on_trial`]).
//!
//! Steady traffic of two requests at a time looks like turns in every way but its time: whether a client
//! takes turns is told by what only drivers that do so send ([`shows_turns`]), or by the caller. Of a driver that
//! takes turns unless it is told to pipeline this is likely, no more: where nothing was certain when that was seen, and
//! after every loss, a trial follows the rounds, and the caller may judge by less than of others
//! ([`Parser::likely_takes_turns`](crate::exchange::Parser::likely_takes_turns)).

use super::{
    connection::{Connection, Out},
    detect::{Shows, begins_request, shows_turns},
    fields,
    message::backend,
    stream::State,
};
use crate::exchange::{Direction, Skip};
use crate::follow::Follow;
use crate::limits;
use crate::stream::Piece;

/// How certain the pairing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// Exchanges are told.
    Certain,
    /// The client takes turns: so many rounds must go by.
    Rounds(u8),
    /// Nothing is known.
    Lost,
    /// Paired, not told. `quiet`: since a quiet moment; `paired`: some, since that or since it began.
    Trial { quiet: bool, paired: bool },
}

/// Whether the client sends on only when it has all of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    Unknown,
    Takes,
    /// It was seen not to, or is known for that.
    Pipelines,
}

impl<M: Clone + 'static> Connection<M> {
    /// Looks for what tells a client that takes turns.
    pub(super) fn look_for_turns(&mut self, piece: &Piece<'_, M>) {
        if self.turns == Turns::Unknown
            && piece.start
            && let Some(shows) = shows_turns(piece.bytes)
        {
            self.turns_likely = shows == Shows::LikelyTurns;
            // Were it one that pipelines, a certain beginning would show it.
            self.turns_unproven = self.turns_likely && self.certainty != Certainty::Certain;
            self.found_taking_turns();
        }
    }

    pub(super) fn found_taking_turns(&mut self) {
        self.turns = Turns::Takes;
        if self.certainty == Certainty::Lost {
            self.lose_certainty();
        }
    }

    pub(super) fn lose_certainty(&mut self) {
        self.owed = true;
        self.answer_cut = false;
        self.certainty = if self.turns == Turns::Takes {
            // It may have begun to pipeline in what was lost.
            self.turns_unproven |= self.turns_likely;
            self.tainted = true;
            Certainty::Rounds(limits::POSTGRES_ROUNDS)
        } else {
            Certainty::Lost
        };
    }

    /// Everything that was due has been answered.
    pub(super) fn round_over(&mut self) {
        match &mut self.certainty {
            Certainty::Rounds(0 | 1) if self.turns_unproven => {
                self.certainty = Certainty::Trial { quiet: false, paired: true };
            }
            Certainty::Rounds(0 | 1) => self.certainty = Certainty::Certain,
            Certainty::Rounds(rounds) => *rounds -= 1,
            Certainty::Trial { paired, .. } => *paired = true,
            Certainty::Certain | Certainty::Lost => {}
        }
    }

    pub(super) fn quiet_moment(&mut self) {
        let desync = [&self.requests, &self.responses].map(|it| it.state.at) == [State::Desync; 2];
        let between = self.pending.is_empty() && self.is_between();
        match self.certainty {
            Certainty::Lost if desync && !self.owed => {
                self.begin_trial(true);
            }
            Certainty::Trial { quiet: true, paired: true } if between => {
                self.begin_certainty();
            }
            Certainty::Trial { quiet: false, paired: true } if between => {
                self.certainty = Certainty::Trial { quiet: true, paired: false };
            }
            _ => {}
        }
    }

    /// Whether both streams are between two messages.
    fn is_between(&self) -> bool {
        [&self.requests, &self.responses]
            .iter()
            .all(|it| it.state.at == State::Framed && it.state.at_boundary())
    }

    fn begin_trial(&mut self, quiet: bool) {
        self.certainty = Certainty::Trial { quiet, paired: false };
        self.tainted = false;
        self.requests.state.at = State::Expect;
        self.responses.state.at = State::Expect;
    }

    /// How many answers are due, as far as was counted since a trial began.
    pub(super) fn counted_on_trial(&self) -> Option<usize> {
        let counting = matches!(self.certainty, Certainty::Trial { .. });
        counting.then_some(self.pending.sync_points().max(self.pending.len().min(1)))
    }

    /// Nothing was owed when the trial began.
    pub(super) fn trust(&mut self) {
        if self.counted_on_trial() == Some(0) && self.is_between() {
            self.begin_certainty();
        }
    }

    fn begin_certainty(&mut self) {
        self.certainty = Certainty::Certain;
        self.turns_unproven = false;
    }

    pub(super) fn resync_requests(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        if matches!(self.certainty, Certainty::Rounds(_))
            && piece.start
            && begins_request(piece.bytes, piece.missing)
        {
            self.requests.state.at = State::Framed;
            self.answer_cut = false;
        } else if self.certainty == Certainty::Lost
            && !self.owed
            && self.responses.state.at == State::Desync
            && piece.start
            && begins_request(piece.bytes, piece.missing)
        {
            self.begin_trial(false);
        } else {
            self.owed = true;
            let bytes = piece.drain();
            self.skip(Direction::Requests, bytes, Skip::Resync, out);
        }
    }

    pub(super) fn resync_responses(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let ready = piece.missing == 0 && ends_ready(piece.bytes);
        let asked = match self.requests.state.at {
            State::Framed => self.requests.state.at_boundary(),
            at => at == State::Lost,
        };
        let answered = ready && asked && self.pending.ends_with_its_only_sync_point();
        self.owed = !ready;
        self.answer_cut |= piece.missing > 0;
        let bytes = piece.drain();
        self.skip(Direction::Responses, bytes, Skip::Resync, out);
        if answered {
            self.pending.clear();
            self.skipping = false;
            self.responses.state.at = State::Framed;
            self.round_over();
            self.over_though_lost(out);
        }
    }
}

fn ends_ready(bytes: &[u8]) -> bool {
    let ready =
        bytes.last_chunk::<6>().and_then(|last| last.strip_prefix(&[backend::READY, 0, 0, 0, 5]));
    ready.is_some_and(|status| fields::transaction(status).is_some())
}
