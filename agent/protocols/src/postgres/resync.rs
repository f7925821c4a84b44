//! How pairing begins anew after a loss, or on a connection met in the middle.
//!
//! The client's stream is taken up where a piece begins with a request ([`begins_request`]), the
//! server's where a piece ends with `ReadyForQuery` while exactly one is due: a server sends what it has
//! when it is ready, and a client that doesn't pipeline sends nothing before. Whether this client does
//! can't be seen from one round, so [`limits::POSTGRES_PROBES`] rounds must go by, the later ones with
//! answers that fit, before any is reported. A client that sends on while a `ReadyForQuery` is due
//! pipelines: how many answers are still owed from before can't be known then, and the connection stays
//! silent. An answer that nothing was due for begins the rounds anew.

use super::{
    connection::{Connection, Out},
    detect::begins_request,
    fields,
    message::backend,
    stream::State,
};
use crate::exchange::{Direction, Skip};
use crate::limits;
use crate::stream::Piece;

impl<M: Clone> Connection<M> {
    pub(super) fn resync_requests(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        if piece.start && begins_request(piece.bytes, piece.missing) {
            self.requests.state.at = State::Framed;
            self.answer_cut = false;
        } else {
            let bytes = piece.drain();
            self.skip(Direction::Requests, bytes, Skip::Resync, out);
        }
    }

    pub(super) fn resync_responses(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let answered = piece.missing == 0
            && ends_ready(piece.bytes)
            && self.requests.state.at == State::Framed
            && self.requests.state.at_boundary()
            && self.pending.ends_with_its_only_sync_point();
        self.answer_cut |= piece.missing > 0;
        let bytes = piece.drain();
        self.skip(Direction::Responses, bytes, Skip::Resync, out);
        if answered {
            self.pending.clear();
            self.skipping = false;
            self.responses.state.at = State::Framed;
            self.probes = self.probes.saturating_sub(1);
        }
    }

    pub(super) fn restart_probe(&mut self) {
        self.probes = limits::POSTGRES_PROBES;
        self.answer_cut = false;
    }
}

fn ends_ready(bytes: &[u8]) -> bool {
    let ready =
        bytes.last_chunk::<6>().and_then(|last| last.strip_prefix(&[backend::READY, 0, 0, 0, 5]));
    ready.is_some_and(|status| fields::transaction(status).is_some())
}
