//! The request direction of an HTTP/1.x connection: heads open exchanges, bodies end their requests.

use super::{
    Detected,
    body::{Body, Progress, ends_chunked},
    connection::{Answer, Connection, Exchange, Out},
    detect::{detect, skip_empty_lines},
    event::{End, Event},
    head,
    stream::{Gather, Head, State},
};
use crate::exchange::{Abandon, Direction, EndError, Skip};
use crate::follow::Follow;
use crate::limits;
use crate::stream::{Flow, Piece};

impl<M: Clone + 'static> Connection<M> {
    pub(super) fn advance_requests(
        &mut self,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        while !piece.is_empty() {
            match &self.requests.state {
                State::Boundary if self.switching() => return Flow::Hold,
                State::Boundary if piece.bytes.is_empty() => self.request_missed(out),
                State::Boundary => self.begin_request(piece, out),
                State::Head(_) => self.request_head(piece, out),
                State::Body(_) => self.request_body(piece, out),
                State::Lost { .. } => self.request_lost(piece, out),
                State::Desync if piece.begins_message(Direction::Requests) => {
                    if self.owed {
                        // Which response the next one is can't be known until it comes.
                        self.suspected = true;
                        self.skip(Direction::Requests, piece.drain(), Skip::Resync, out);
                    } else {
                        self.begin_request(piece, out);
                    }
                }
                State::Desync => {
                    // A request may have begun in it: too short a piece of one to be told, or in its middle. (What is
                    // in a hole was thought of when that was met.)
                    self.owed |= !piece.bytes.is_empty();
                    self.skip(Direction::Requests, piece.drain(), Skip::Resync, out);
                }
                State::Silent | State::Ended => {
                    self.skip(Direction::Requests, piece.drain(), Skip::Resync, out);
                }
                State::Tunnel => {
                    self.skip(Direction::Requests, piece.drain(), Skip::AfterUpgrade, out);
                }
            }
        }
        Flow::Taken
    }

    /// Whether what follows the last request depends on its response: it asked for another protocol.
    fn switching(&self) -> bool {
        self.open.back().is_some_and(|exchange| {
            (exchange.upgrade || exchange.is_connect) && matches!(exchange.answer, Answer::Awaited)
        })
    }

    fn begin_request(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        self.begin(Direction::Requests, piece);
        // A response whose end can't be seen is over when the next request begins.
        let inferred = matches!(self.responses.state, State::Lost { .. });
        // What is no request (an urgent byte, say) is not a client that pipelines.
        let begun = matches!(self.requests.state, State::Head(_))
            && matches!(detect(piece.bytes), Detected::Requests | Detected::NeedMore);
        if begun && !inferred && !self.open.is_empty() {
            self.pipelined = true;
            if self.tainted {
                // Or the open one's response was in what was lost: the next may be either's.
                self.silence(out);
            }
        }
    }

    /// Begins a message at the first byte that isn't part of an empty line.
    pub(super) fn begin(&mut self, direction: Direction, piece: &mut Piece<'_, M>) {
        let empty = piece.bytes.len() - skip_empty_lines(piece.bytes).len();
        let taken = piece.advance(empty as u64);
        self.stream_mut(direction).count_message(taken);
        let state = if piece.bytes.is_empty() {
            State::Boundary
        } else {
            State::Head(Gather::new(piece, std::mem::take(&mut self.spare)))
        };
        self.stream_mut(direction).state = state;
    }

    /// Keeps what a head was gathered in.
    pub(super) fn keep_room(&mut self, mut room: Vec<u8>) {
        if room.capacity() > self.spare.capacity() {
            room.clear();
            self.spare = room;
        }
    }

    /// Bytes between two requests were lost: at least one request was in them.
    fn request_missed(&mut self, out: &mut Out<'_, M>) {
        if self.open.is_empty() {
            // Its response may be what is held.
            let answered = !self.responses.held.is_empty();
            self.desync(Abandon::Gap, Skip::Resync, out);
            self.owed = !answered;
        } else {
            // Behind a request that is still open: the client pipelines.
            self.pipelined = true;
            self.desync(Abandon::Gap, Skip::Resync, out);
        }
    }

    fn request_head(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let state = std::mem::replace(&mut self.requests.state, State::Boundary);
        let State::Head(gather) = state else { return };
        match gather.take(Direction::Requests, piece) {
            Err(gather) => self.requests.state = State::Head(gather),
            Ok(head) => {
                self.request_begun(&head, piece.mark, out);
                self.keep_room(head.buffer);
            }
        }
    }

    fn request_begun(&mut self, head: &Head<'_, M>, mark: &M, out: &mut Out<'_, M>) {
        let (offset, first, bytes) = (head.offset, head.first.clone(), head.len());
        let propagators = self.propagators;
        let asked = self.asked(Direction::Requests);
        let Some(request) =
            head.parsed(|bytes, complete| head::request(bytes, complete, propagators, asked))
        else {
            self.skip(Direction::Requests, bytes, Skip::Broken, out);
            return self.desync(Abandon::Broken, Skip::Resync, out);
        };
        // A client that doesn't pipeline has had all of the response before.
        self.end_inferred(out);
        let too_many = self.open.len() >= limits::HTTP1_OPEN_EXCHANGES;
        if too_many || (self.tainted && !self.open.is_empty()) {
            self.skip(Direction::Requests, bytes, Skip::Resync, out);
            let reason = if too_many { Abandon::TooMany } else { Abandon::Pipelined };
            return self.desync(reason, Skip::Resync, out);
        }
        self.requests.count_message(bytes);
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.open.push_back(Exchange {
            ordinal: exchange,
            is_head: request.head.method.as_str() == "HEAD",
            is_connect: request.head.method.as_str() == "CONNECT",
            upgrade: request.head.upgrade,
            expects_continue: request.expects_continue,
            request_ended: false,
            answer: Answer::Awaited,
        });
        out(Event::Request { exchange, offset, first, head: request.head });
        if !head.complete {
            return self.lose_request(0, false, mark, out);
        }
        match Body::new(request.framing) {
            Some(body) if self.keeps_objects() => {
                self.requests.state = State::Body(body.keeping_objects());
            }
            Some(body) => self.requests.state = State::Body(body),
            None => self.finish_request(0, None, mark.clone(), State::Boundary, out),
        }
    }

    fn request_body(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let State::Body(body) = &mut self.requests.state else { return };
        if body.content_bytes == 0
            && let Some(exchange) = self.open.front()
            && exchange.expects_continue
            && matches!(exchange.answer, Answer::Over { .. })
            && piece.begins_message(Direction::Requests)
        {
            // RFC 9110, 10.1.1: refused, the client left the body out. Not quite certain: tainted.
            self.tainted = true;
            self.requests.state = State::Boundary;
            return self.pop_ended(out);
        }
        let (used, progress) = piece.feed(body);
        let (content_bytes, chunked) = (body.content_bytes, body.is_chunked());
        let kept = if progress == Progress::Done { body.take_kept() } else { None };
        self.requests.count_message(used);
        match progress {
            Progress::More => {}
            Progress::Done => {
                let last = piece.mark.clone();
                self.finish_request(content_bytes, kept, last, State::Boundary, out);
            }
            Progress::Lost => self.lose_request(content_bytes, chunked, piece.mark, out),
            Progress::Broken => self.desync(Abandon::Broken, Skip::Resync, out),
        }
    }

    /// The end of the present request can't be known any more.
    fn lose_request(&mut self, content_bytes: u64, chunked: bool, mark: &M, out: &mut Out<'_, M>) {
        self.tainted = true;
        if self.pipelined {
            return self.desync(Abandon::Gap, Skip::Resync, out);
        }
        self.requests.state = State::Lost { last: mark.clone(), chunked, content_bytes };
        // A response that has begun already says no more about the request's end.
        if self.open.front().is_none_or(|exchange| !matches!(exchange.answer, Answer::Awaited)) {
            self.finish_lost_request(out);
        }
    }

    /// A piece of a request whose framing was lost.
    fn request_lost(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        if piece.begins_message(Direction::Requests) {
            // A pipelined request, or content that looks like one.
            return self.silence(out);
        }
        let State::Lost { last, chunked, .. } = &mut self.requests.state else { return };
        *last = piece.mark.clone();
        let ended = *chunked && piece.shows_end() && ends_chunked(piece.bytes);
        self.requests.count_message(piece.drain());
        if ended {
            self.finish_lost_request(out);
        }
    }

    /// Takes a request whose framing was lost as ended.
    pub(super) fn finish_lost_request(&mut self, out: &mut Out<'_, M>) {
        if let State::Lost { last, content_bytes, .. } = &self.requests.state {
            let (last, content_bytes) = (last.clone(), *content_bytes);
            self.finish_request(content_bytes, None, last, State::Desync, out);
        }
    }

    fn finish_request(
        &mut self,
        body_bytes: u64,
        content: Option<Vec<u8>>,
        last: M,
        then: State<M>,
        out: &mut Out<'_, M>,
    ) {
        // After a request whose framing was lost nobody knows where the next begins.
        let exact = matches!(then, State::Boundary);
        self.requests.state = then;
        // Only the last one's request can be unfinished; the exchange may be gone already.
        let Some(exchange) = self.open.back_mut().filter(|exchange| !exchange.request_ended) else {
            return;
        };
        exchange.request_ended = true;
        let ordinal = exchange.ordinal;
        let end = last.clone();
        out(Event::RequestEnd { exchange: ordinal, last: end, body_bytes, exact, content });
        if matches!(self.responses.state, State::Ended) {
            let end = End::NoResponse { error: self.responses.ended.flatten() };
            self.finish_response(end, last, out);
        } else {
            self.pop_ended(out);
        }
    }

    pub(super) fn end_requests(&mut self, error: Option<EndError>, mark: &M, out: &mut Out<'_, M>) {
        if error.is_none() {
            self.finish_lost_request(out);
        }
        self.reset(Direction::Requests, State::Ended, Skip::Resync, Skip::Broken, out);
        self.pop_ended(out);
        if matches!(self.responses.state, State::Ended) {
            self.end_unanswered(self.responses.ended.flatten(), mark, out);
        }
    }
}
