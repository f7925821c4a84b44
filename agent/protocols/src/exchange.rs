//! What the parsers of request and response protocols share: how they are fed ([`Parser`]), the two
//! directions, what a stream's beginning shows, how streams end, why an exchange or bytes come to nothing,
//! and the counters of one direction.
//!
//! Each protocol has its own events and messages; a caller's books are the same for all.

/// What a parser tells.
pub trait Tells {
    /// What happened on the connection. It may borrow from the parser, for as long as it is being told: a caller
    /// copies what it wants to keep.
    type Event<'e>;
}

/// One connection seen from beside it: two byte streams in, events out.
///
/// `M` is the caller's mark (a time, a thread), cloned from the pieces into the events. Offsets count from
/// the first byte of each stream, which is 0 for a connection seen from its start. Pieces of one direction
/// come in the order of their offsets; between the directions order may be slightly off: an answer that
/// comes before its request is held for it.
///
/// A connection whose lost bytes can't be placed in a direction needs [`Self::on_gap`] for both.
///
/// A protocol of this crate doesn't implement it but `follow::Follow`, which places and holds pieces and
/// counts bytes for it: what remains is two `Stream`s, what to take of a piece, what
/// a loss, a silence and an end mean, and its own events.
pub trait Parser<M: 'static>: Tells + 'static {
    /// Takes a piece: `bytes` begin at stream offset `offset`, and `missing` further bytes followed them
    /// on the wire but were not captured. An offset beyond the expected one makes a hole, which is
    /// the same as missing bytes; what lies before the expected one has passed already and is skipped.
    fn on_bytes(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        missing: u64,
        mark: &M,
        out: &mut dyn FnMut(Self::Event<'_>),
    );
    /// Takes the last bytes of the operation that the piece before began, behind those that were missing.
    fn on_rest(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        mark: &M,
        out: &mut dyn FnMut(Self::Event<'_>),
    );
    /// Bytes of a direction were lost and how they lie is unknown: what is open is abandoned, as far as the
    /// loss makes it uncertain.
    ///
    /// Offsets still count: if they show a hole at the direction's next piece, that is another loss, for
    /// nobody can tell whether it is the same. Told of a loss just before that piece, one is abandoned no
    /// more than needed.
    fn on_gap(&mut self, direction: Direction, out: &mut dyn FnMut(Self::Event<'_>));
    /// A direction ended, orderly (`None`) or not. Ends what can't be answered any more; once both
    /// directions have ended every exchange is over.
    fn on_end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &M,
        out: &mut dyn FnMut(Self::Event<'_>),
    );
    /// The connection has been quiet for a while, longer than nearly every request takes: exchanges whose end
    /// can only be inferred end now, held bytes are dropped, and pairing may begin anew.
    fn on_idle(&mut self, out: &mut dyn FnMut(Self::Event<'_>));
    /// What became of a direction's bytes so far.
    fn counters(&self, direction: Direction) -> Counters;
    /// How many exchanges are neither over nor abandoned.
    fn open_exchanges(&self) -> usize;

    /// How many requests wait for their answer, as far as was counted since a trial began; `None` where none
    /// is on: a protocol whose clients pipeline may count without telling, until it is certain that nothing
    /// was owed before.
    fn on_trial(&self) -> Option<usize>;
    /// In a trial: what was sent makes it likely that the client never sends before it has read all that it waits
    /// for, so that less than of any other shows that nothing was owed.
    fn likely_takes_turns(&self) -> bool;
    /// The caller has seen that nothing can have been owed when the trial began ([`Self::on_trial`]): times
    /// show it. Has no effect unless everything that was counted since is answered.
    fn nothing_owed(&mut self, out: &mut dyn FnMut(Self::Event<'_>));
}

/// One of the two byte streams of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Responses,
}

/// What the first bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// They begin as a client does.
    Requests,
    /// They begin as a server does.
    Responses,
    /// They are a proper prefix of something possible.
    NeedMore,
    /// No stream of the protocol begins so, or it can't be told.
    No,
}

/// How a direction ended other than by an orderly FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndError {
    /// RST.
    Reset,
    /// The kernel gave the connection up.
    Timeout,
}

/// Why an exchange was abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abandon {
    /// Bytes were lost that may have held a message's beginning.
    Gap,
    /// A stream is not, or no longer, one that can be framed.
    Broken,
    /// Requests were pipelined where the pairing had already been uncertain.
    Pipelined,
    /// The connection changed protocols before this request's turn.
    Upgraded,
    /// More requests wait than are kept.
    TooMany,
    /// Framing had been lost, and what followed the request was not a response's beginning.
    Unpaired,
}

/// Why bytes made no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Framing was lost, no beginning of a message found yet; or the direction had already ended.
    Resync,
    /// A response, or part of one, without a request that it could be paired with.
    UnpairedResponse,
    /// Not of the protocol, a broken message, or one that ended before its head did.
    Broken,
    /// They followed an upgrade or CONNECT.
    AfterUpgrade,
    /// Held for the other direction's records, which did not come.
    HeldTooLong,
    /// At offsets that had already passed.
    Overlap,
}

impl Skip {
    /// Whether, where a client's bytes were skipped so, a request may have been among them.
    #[must_use]
    pub fn may_hide_a_request(self) -> bool {
        matches!(self, Self::Resync | Self::Broken | Self::HeldTooLong)
    }
}

/// What one direction's bytes became. `fed_bytes` = `message_bytes` + `skipped_bytes` +
/// `pending_bytes`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes handed in, captured or missing, and holes between offsets.
    pub fed_bytes: u64,
    /// Bytes of messages, empty lines between them and 1xx among them.
    pub message_bytes: u64,
    /// Bytes reported as skipped.
    pub skipped_bytes: u64,
    /// Bytes of an incomplete head, or held.
    pub pending_bytes: u64,
    /// Responses with 1xx other than 101.
    pub informational: u64,
}
