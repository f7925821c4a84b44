//! The response direction of an HTTP/1.x connection: each final response answers the first open request.

use super::{
    body::{Body, Progress, ends_chunked},
    connection::{Answer, Connection, Out},
    event::{End, Event},
    head::{self, Framing},
    stream::{Gather, Head, State},
};
use crate::exchange::{Abandon, Direction, EndError, Skip};
use crate::follow::Follow;
use crate::stream::{Flow, Piece};

impl<M: Clone + 'static> Connection<M> {
    pub(super) fn advance_responses(
        &mut self,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        while !piece.is_empty() {
            match &self.responses.state {
                State::Boundary => match self.open.front().map(|exchange| &exchange.answer) {
                    Some(Answer::Awaited) if piece.bytes.is_empty() => {
                        self.desync_response(Abandon::Gap, out);
                    }
                    Some(Answer::Awaited) => self.begin(Direction::Responses, piece),
                    None if matches!(self.requests.state, State::Boundary | State::Head(_)) => {
                        return Flow::Hold;
                    }
                    None if matches!(self.requests.state, State::Ended) => {
                        self.skip_responses(piece, Skip::UnpairedResponse, out);
                    }
                    // More than was asked for: the streams don't fit together.
                    _ => self.desync_response(Abandon::Broken, out),
                },
                State::Head(_) => self.response_head(piece, out),
                State::Body(_) => self.response_body(piece, out),
                // The next request has begun, so the response is over, and this is the next one's: perhaps of a
                // request whose head was cut.
                State::Lost { .. } if matches!(self.requests.state, State::Head(_)) => {
                    return Flow::Hold;
                }
                State::Lost { .. } => self.response_lost(piece, out),
                State::Desync => {
                    if self.resync_responses(piece, out) == Flow::Hold {
                        return Flow::Hold;
                    }
                }
                State::Silent | State::Ended => self.skip_responses(piece, Skip::Resync, out),
                State::Tunnel => self.skip_responses(piece, Skip::AfterUpgrade, out),
            }
        }
        Flow::Taken
    }

    fn skip_responses(&mut self, piece: &mut Piece<'_, M>, reason: Skip, out: &mut Out<'_, M>) {
        self.skip(Direction::Responses, piece.drain(), reason, out);
    }

    /// The response stream can't be followed: what is open is abandoned, and nothing is owed, for it may
    /// have passed.
    fn desync_response(&mut self, reason: Abandon, out: &mut Out<'_, M>) {
        self.desync(reason, Skip::Resync, out);
        self.response_seen();
    }

    /// Looks for a response at the start of a piece, once a request waits for it.
    fn resync_responses(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) -> Flow {
        let begins = piece.begins_message(Direction::Responses);
        let in_head = matches!(self.requests.state, State::Head(_));
        let awaited = match self.open.front() {
            Some(exchange) => matches!(exchange.answer, Answer::Awaited),
            None if begins && (in_head || matches!(self.requests.state, State::Boundary)) => {
                return Flow::Hold;
            }
            None => in_head,
        };
        if awaited && begins {
            self.begin(Direction::Responses, piece);
            return Flow::Taken;
        }
        let mut reason = Skip::UnpairedResponse;
        if awaited || !self.open.is_empty() {
            // What follows the request on this side isn't its response's beginning; that may be lost,
            // and with it the next request, whose response would then be taken for this one's.
            self.desync(Abandon::Unpaired, Skip::Resync, out);
            reason = Skip::Resync;
        }
        if self.suspected {
            // The owed response, and a request was sent before it.
            self.silence(out);
        }
        self.response_seen();
        self.skip_responses(piece, reason, out);
        Flow::Taken
    }

    fn response_head(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let state = std::mem::replace(&mut self.responses.state, State::Boundary);
        let State::Head(gather) = state else { return };
        match gather.take(Direction::Responses, piece) {
            Err(gather) => self.responses.state = State::Head(gather),
            Ok(head) => {
                self.response_begun(&head, piece.mark, out);
                self.keep_room(head.buffer);
            }
        }
    }

    fn response_begun(&mut self, head: &Head<'_, M>, mark: &M, out: &mut Out<'_, M>) {
        let (first, bytes, complete) = (head.first.clone(), head.len(), head.complete);
        let asked = self.asked(Direction::Responses);
        let Some(response) = head.parsed(|bytes, complete| head::response(bytes, complete, asked))
        else {
            self.skip(Direction::Responses, bytes, Skip::Broken, out);
            return self.desync_response(Abandon::Broken, out);
        };
        self.responses.count_message(bytes);
        let status = response.head.status;
        if status < 200 && status != 101 {
            self.informational += 1;
            if !complete {
                // The final response may be in what wasn't captured.
                self.desync_response(Abandon::Gap, out);
            }
            return;
        }
        self.finish_lost_request(out);
        let Some(exchange) = self.open.front_mut() else { return };
        exchange.answer = Answer::Begun;
        let (ordinal, is_head) = (exchange.ordinal, exchange.is_head);
        let tunnel = exchange.is_connect && (200..300).contains(&status);
        out(Event::Response { exchange: ordinal, first, head: response.head });
        if status == 101 || tunnel {
            return self.upgrade(mark, out);
        }
        if !complete {
            return self.lose_response(0, false, mark, out);
        }
        // RFC 9112, 6.3, 1: these have no body whatever their fields say.
        let bodiless = is_head || matches!(status, 204 | 304);
        match Body::new(if bodiless { Framing::None } else { response.framing }) {
            Some(body) => self.responses.state = State::Body(body),
            None => self.finish_response(End::Complete { body_bytes: 0 }, mark.clone(), out),
        }
    }

    fn response_body(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let State::Body(body) = &mut self.responses.state else { return };
        let (used, progress) = piece.feed(body);
        let (body_bytes, chunked) = (body.content_bytes, body.is_chunked());
        self.responses.count_message(used);
        match progress {
            Progress::More => {}
            Progress::Done => {
                self.responses.state = State::Boundary;
                self.finish_response(End::Complete { body_bytes }, piece.mark.clone(), out);
            }
            Progress::Lost => self.lose_response(body_bytes, chunked, piece.mark, out),
            Progress::Broken => self.desync_response(Abandon::Broken, out),
        }
    }

    /// The end of the present response can't be known any more.
    fn lose_response(&mut self, content_bytes: u64, chunked: bool, mark: &M, out: &mut Out<'_, M>) {
        self.tainted = true;
        self.responses.state = State::Lost { last: mark.clone(), chunked, content_bytes };
        if self.pipelined {
            // The next response may begin anywhere.
            self.end_inferred(out);
            self.desync_response(Abandon::Gap, out);
        }
    }

    /// A piece of a response whose framing was lost.
    fn response_lost(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let State::Lost { last, chunked, .. } = &mut self.responses.state else { return };
        *last = piece.mark.clone();
        let ended = *chunked && piece.shows_end() && ends_chunked(piece.bytes);
        self.responses.count_message(piece.drain());
        if ended {
            self.end_inferred(out);
        }
    }

    pub(super) fn end_responses(
        &mut self,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        if error.is_none() {
            self.end_inferred(out);
        }
        let cut = |body_bytes| match error {
            Some(error) => End::Reset { body_bytes, error },
            None => End::Truncated { body_bytes },
        };
        let end = match std::mem::replace(&mut self.responses.state, State::Ended) {
            State::Head(gather) => self.response_cut_off(gather, out).then(|| cut(0)),
            State::Body(body) if error.is_none() && body.ends_with_the_stream() => {
                Some(End::Closed { body_bytes: body.content_bytes })
            }
            State::Body(body) => Some(cut(body.content_bytes)),
            State::Lost { content_bytes, .. } => Some(cut(content_bytes)),
            _ => None,
        };
        if let Some(end) = end {
            self.finish_response(end, mark.clone(), out);
        }
        self.end_unanswered(error, mark, out);
        if !self.requests.held.is_empty() {
            // Held for an upgrade that won't come; nobody knows what they are.
            self.reset(Direction::Requests, State::Silent, Skip::Resync, Skip::Resync, out);
        }
    }

    /// The stream ended in a head; whether that was a final response's as far as it came.
    fn response_cut_off(&mut self, gather: Gather<M>, out: &mut Out<'_, M>) -> bool {
        let head = gather.cut(Direction::Responses);
        let (first, bytes) = (head.first.clone(), head.len());
        let asked = self.asked(Direction::Responses);
        let Some(response) = head.parsed(|bytes, complete| head::response(bytes, complete, asked))
        else {
            self.skip(Direction::Responses, bytes, Skip::Broken, out);
            return false;
        };
        self.responses.count_message(bytes);
        if response.head.status < 200 {
            self.informational += 1;
            return false;
        }
        self.finish_lost_request(out);
        let Some(exchange) = self.open.front_mut() else { return false };
        exchange.answer = Answer::Begun;
        out(Event::Response { exchange: exchange.ordinal, first, head: response.head });
        true
    }
}
