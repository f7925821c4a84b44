//! Two directions put back together from records that come late, or never.

use super::*;
use crate::capture::Slot;

const MS: u64 = 1_000_000;

/// An accepted socket, seen from its beginning.
pub(super) fn socket() -> Socket {
    Socket {
        cookie: 1,
        slot: Slot(1),
        at_ns: 0,
        addresses: None,
        unix_ends: None,
        net_namespace: 0,
        active: false,
        passive: true,
        connect_ns: None,
        listening: false,
        addressed: true,
        found: false,
    }
}

/// A server's connection that is asked `/0`, `/1`, ... one after the other, a millisecond each; without the
/// records for which `lost` holds.
struct Session {
    connection: Connection,
    offsets: [u64; 2],
    at_ns: u64,
    answered: Vec<u16>,
    begun: usize,
    ended: usize,
    abandoned: usize,
    unread: usize,
    lost: [bool; 2],
}

impl Session {
    fn new() -> Self {
        Self::over(None)
    }

    fn over(unix_ends: Option<(u64, u64)>) -> Self {
        let socket = Socket { unix_ends, ..socket() };
        let connection = Connection::new(ProcessId(1), Some(socket), true);
        Self {
            connection,
            offsets: [0; 2],
            at_ns: 0,
            answered: Vec::new(),
            begun: 0,
            ended: 0,
            abandoned: 0,
            unread: 0,
            lost: [false; 2],
        }
    }

    fn fate_after(&self, ns: u64) -> Fate {
        self.connection.fate(self.at_ns + ns, false)
    }

    fn peer_ends(&mut self) {
        let operation = Operation { end_of_stream: true, ..self.operation(false, "") };
        self.hear(|connection, out| connection.operation(&operation, out));
    }

    fn hear(&mut self, work: impl FnOnce(&mut Connection, &mut dyn FnMut(Message))) {
        let (begun, answered) = (&mut self.begun, &mut self.answered);
        let (ended, abandoned) = (&mut self.ended, &mut self.abandoned);
        let unread = &mut self.unread;
        work(&mut self.connection, &mut |message| match message {
            Message::Call { step: Step::Begun { .. }, .. } => *begun += 1,
            Message::Call { step: Step::Response { head, .. }, .. } => {
                answered.extend(head.map(|head| head.status));
            }
            Message::Call { step: Step::Over { .. }, .. } => *ended += 1,
            Message::Call { step: Step::Abandoned, .. } => *abandoned += 1,
            Message::Unread { .. } => *unread += 1,
            _ => {}
        });
    }

    fn pass(&mut self, sent: bool, text: &str, lost: bool) {
        let way = usize::from(sent);
        let offset = self.offsets[way];
        self.offsets[way] += text.len() as u64;
        self.at_ns += MS / 2;
        if lost {
            self.lost[way] = true;
            return;
        }
        let operation = Operation {
            offset,
            lost_received: self.lost[0],
            lost_sent: self.lost[1],
            ..self.operation(sent, text)
        };
        self.lost = [false; 2];
        self.hear(|connection, out| connection.operation(&operation, out));
    }

    fn operation<'a>(&self, sent: bool, text: &'a str) -> Operation<'a> {
        Operation {
            strand: 0,
            threads_own: false,
            cookie: 1,
            slot: Slot(1),
            tid: 1,
            sent,
            at_ns: self.at_ns,
            offset: self.offsets[usize::from(sent)],
            length: text.len() as u32,
            payload: text.as_bytes(),
            tail: &[],
            end_of_stream: false,
            error: 0,
            lost_received: false,
            lost_sent: false,
            blocking: false,
            queue_ns: None,
            context: 0,
            srtt_us: 0,
            retransmits: 0,
            run_delay_ns: 0,
            exec_ns: 0,
        }
    }

    fn exchange(&mut self, status: u16, lost: bool) {
        self.pass(false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", lost);
        self.pass(true, &format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n"), lost);
    }

    fn wait(&mut self, ns: u64) {
        self.at_ns += ns;
        let now = self.at_ns;
        self.hear(|connection, out| connection.tick(now, out));
    }

    fn balanced(&self) {
        let bytes = self.connection.bytes();
        assert_eq!(bytes.received, bytes.parsed + bytes.not_understood + bytes.waiting);
    }
}

#[test]
fn a_first_command_that_is_not_known_is_understood_by_its_answer() {
    let command = "*2\r\n$9\r\nNEW.THING\r\n$1\r\na\r\n";
    let mut session = Session::new();
    session.pass(false, command, false);
    session.pass(true, "+OK\r\n", false);
    assert_eq!((session.begun, session.ended), (1, 1));
    let mut session = Session::new();
    session.pass(false, command, false);
    session.pass(true, "+OK, and more\r\n", false);
    assert_eq!(session.begun, 0);
}

#[test]
fn exchanges_after_a_loss_stay_paired_however_fast_they_follow() {
    let mut session = Session::new();
    (0..3).for_each(|_| session.exchange(200, false));
    (0..10).for_each(|_| session.exchange(201, true));
    // Many before the hole is taken for real.
    (0..15).for_each(|_| session.exchange(202, false));
    session.wait(25 * MS);
    (0..5).for_each(|_| session.exchange(203, false));
    session.wait(25 * MS);
    session.balanced();
    let count = |status: u16| session.answered.iter().filter(|found| **found == status).count();
    assert_eq!((count(200), count(201), count(203)), (3, 0, 5), "{:?}", session.answered);
    assert!(count(202) >= 14, "the first shows where messages begin: {:?}", session.answered);
    assert!(session.begun <= session.answered.len() + 1, "{}", session.begun);
}

#[test]
fn a_lost_record_of_one_direction_spoils_no_later_exchange() {
    for sent in [false, true] {
        let mut session = Session::new();
        session.exchange(200, false);
        session.pass(false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", !sent);
        session.pass(true, "HTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n", sent);
        (0..60).for_each(|_| session.exchange(202, false));
        session.wait(25 * MS);
        session.balanced();
        let count = session.answered.iter().filter(|status| **status == 202).count();
        assert!(count >= 58, "lost sent {sent}: {:?}", session.answered);
    }
}

const HOUR: u64 = 3_600_000 * MS;
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_tcp_connection_is_kept_however_long_it_is_silent() {
    let mut session = Session::new();
    session.exchange(200, false);
    assert_eq!(session.fate_after(100 * HOUR), Fate::Keep);
    session.pass(false, GET, false);
    assert_eq!(session.fate_after(100 * HOUR), Fate::Keep, "the answer may come");
    assert_eq!(session.connection.fate(100 * HOUR, true), Fate::Keep, "others make room");
}

#[test]
fn what_may_have_ended_unseen_is_given_up_and_makes_no_span() {
    let mut session = Session::new();
    session.pass(false, GET, false);
    session.connection.end_in_doubt = true;
    assert_eq!(session.fate_after(MS), Fate::Keep);
    assert_eq!(session.fate_after(HOUR), Fate::GiveUp);
    session.hear(Connection::give_up);
    assert_eq!((session.begun, session.ended, session.abandoned), (1, 0, 1));
    assert_eq!(session.fate_after(HOUR), Fate::Keep);
    // It lives after all.
    session.wait(HOUR);
    (0..3).for_each(|_| session.exchange(203, false));
    assert!(session.answered.ends_with(&[203, 203]), "{:?}", session.answered);
}

#[test]
fn a_unix_connection_is_forgotten_when_its_peer_is_done_or_room_is_needed() {
    let mut session = Session::over(Some((1, 2)));
    session.exchange(200, false);
    assert_eq!(session.fate_after(100 * HOUR), Fate::Keep);
    assert_eq!(session.connection.fate(HOUR, true), Fate::Forget);
    session.pass(false, GET, false);
    session.peer_ends();
    assert_eq!(session.fate_after(MS), Fate::Keep);
    assert_eq!(session.fate_after(5_000 * MS), Fate::Keep, "half closed, it waits for its answer");
    session.pass(true, "HTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n", false);
    assert_eq!((session.ended, session.abandoned), (2, 0));
    assert_eq!(session.fate_after(MS), Fate::Keep, "records may be late");
    assert_eq!(session.fate_after(5_000 * MS), Fate::Forget);
}

#[test]
fn a_connection_met_without_its_record_learns_its_ends_from_a_later_one() {
    let socket = Session::new().connection.socket;
    let mut connection = Connection::new(ProcessId(1), None, false);
    connection.announced(ProcessId(2), socket.clone().unwrap());
    assert_eq!((connection.process, &connection.socket), (ProcessId(2), &socket));
    assert!(!connection.is_from_start());
    assert_eq!(connection.fate(HOUR, false), Fate::Keep);
    let strange = Connection::new(ProcessId(1), None, false);
    assert_eq!(
        strange.fate(HOUR, false),
        Fate::Forget,
        "whatever it is, all is doubted when it speaks"
    );
}

#[test]
fn whatever_is_received_and_not_understood_is_told() {
    let mut session = Session::new();
    session.connection.from_start = false;
    for number in 1..=40 {
        session.pass(false, "\x17\x03\x03\x02\x19", false);
        session.pass(true, "\x17\x03\x03\x08\x42", false);
        // Until it is taken for opaque, after as many pieces of either direction.
        assert_eq!(session.unread, number.min(usize::from(MAX_TRIES) / 2));
    }
    session.balanced();
}

#[test]
fn a_piece_from_before_the_first_is_left_out_and_what_follows_is_followed() {
    let mut session = Session::new();
    session.connection.from_start = false;
    session.offsets = [100, 0];
    session.pass(false, "GET / HTTP/1.1\r\n", false);
    session.offsets = [90, 0];
    session.pass(false, "xxxxxxxxxx", false);
    session.offsets = [100 + 16, 0];
    session.pass(false, "Host: x\r\n\r\n", false);
    session.pass(true, "HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", false);
    (0..3).for_each(|_| session.exchange(203, false));
    assert_eq!(session.answered, [200, 203, 203, 203]);
    session.balanced();
    let bytes = session.connection.bytes();
    assert_eq!(bytes.skipped, 10);
    assert_eq!(bytes.parsed, bytes.messages + bytes.skipped + bytes.pending);
}

#[test]
fn what_is_not_read_is_named_where_two_words_tell() {
    let state = |bytes: &'static [u8]| {
        let mut connection = Connection::new(ProcessId(1), Some(socket()), true);
        let operation =
            Operation { payload: bytes, length: 64, ..Session::new().operation(false, "") };
        connection.operation(&operation, &mut |_| {});
        connection.state()
    };
    assert_eq!(state(b"GET / HTTP/1.1\r\n\r\n"), "HTTP/1");
    assert_eq!(state(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "TLS, which is not read");
    assert_eq!(state(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "HTTP/2, which is not read");
    assert_eq!(state(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"), "a protocol that is not known");
}

/// Fields of heads, and keys, that a connection hands on.
#[derive(Default)]
struct Kept(Vec<String>);

impl Kept {
    fn hear(&mut self, message: Message) {
        match message {
            Message::Call {
                step: Step::Begun { content: Content::Http { request, .. }, .. },
                ..
            } => {
                self.0.extend(request.fields.iter().map(|field| field.value.to_string()));
            }
            Message::Call { step: Step::Begun { content: Content::Redis(call), .. }, .. } => {
                self.0.extend(call.command.key.map(|key| key.to_string()));
            }
            _ => {}
        }
    }
}

#[test]
fn what_is_asked_for_later_is_kept_on_an_open_connection() {
    let fields = http1::Asked::new().field(Direction::Requests, "x-user");
    let asking = Options { fields: Arc::new(fields), redis_keys: true, ..Options::default() };
    for (ask, answer, value) in [
        ("GET /a HTTP/1.1\r\nx-user: 7\r\n\r\n", "HTTP/1.1 204 x\r\n\r\n", "7"),
        ("*2\r\n$3\r\nGET\r\n$3\r\na:1\r\n", "$-1\r\n", "a:1"),
    ] {
        let mut session = Session::new();
        let mut kept = Kept::default();
        let mut offsets = [0; 2];
        for options in [None, Some(asking.clone()), Some(Options::default())] {
            if let Some(options) = options {
                session.connection.ask(options);
            }
            for (sent, text) in [(false, ask), (true, answer)] {
                let offset = offsets[usize::from(sent)];
                offsets[usize::from(sent)] += text.len() as u64;
                session.at_ns += MS;
                let operation = Operation { offset, ..session.operation(sent, text) };
                session.connection.operation(&operation, &mut |message| kept.hear(message));
            }
        }
        assert_eq!(kept.0, [value], "only while it is asked for");
    }
    let mut kept = Kept::default();
    let mut connection = Session::new().connection.with(asking);
    let operation = Session::new();
    let operation = operation.operation(false, "GET /a HTTP/1.1\r\nx-user: 7\r\n\r\n");
    connection.operation(&operation, &mut |message| kept.hear(message));
    assert_eq!(kept.0, ["7"], "from the beginning");
}
