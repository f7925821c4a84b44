//! A simulated client and server with ground truth: commands sent at any time, replies in their order,
//! cut anywhere, with holes anywhere, quiet moments in between. Keys tell which reply belongs to which.

use proptest::prelude::*;

use super::*;

/// A command of the client's.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Get,
    List,
    Hash,
    Set {
        size: usize,
    },
    /// `MULTI`, two commands, `EXEC`.
    Transaction,
    /// The same, whose first finds nothing and whose second fails as it is run.
    FailingTransaction,
    Block,
    Select,
    Fail,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(Plan),
    /// The server answers so many of what is open.
    Answer(usize),
    /// It answers everything, and nothing happens for a while.
    Quiet,
}

/// What passes, in causal order.
#[derive(Clone, Debug)]
enum Passed {
    Bytes(Direction, Vec<u8>),
    Quiet,
}

/// Wire of a plan's commands, and of each one's reply. `id` is told by key and reply alike.
fn wire(plan: Plan, id: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let bulk = |size: usize| format!("${size}\r\n{}\r\n", "v".repeat(size)).into_bytes();
    let list = |count: usize| {
        let items: String = (0..count).map(|at| format!("$3\r\n{at:03}\r\n")).collect();
        format!("*{count}\r\n{items}").into_bytes()
    };
    let name = |kind: &str| format!("{kind}:{id}");
    match plan {
        Plan::Get => (command(&["GET", &name("s")]), vec![bulk(id)]),
        Plan::List => (command(&["LRANGE", &name("l"), "0", "-1"]), vec![list(id)]),
        Plan::Hash => (command(&["HGETALL", &name("h")]), vec![list(2 * id)]),
        Plan::Set { size } => {
            (command(&["SET", &name("x"), &"w".repeat(size)]), vec![b"+OK\r\n".to_vec()])
        }
        Plan::Transaction => {
            let wire = [
                command(&["MULTI"]),
                command(&["GET", &name("s")]),
                command(&["GET", &name("s")]),
                command(&["EXEC"]),
            ];
            let queued = b"+QUEUED\r\n".to_vec();
            let both = [b"*2\r\n".to_vec(), bulk(id), bulk(id)].concat();
            (wire.concat(), vec![b"+OK\r\n".to_vec(), queued.clone(), queued, both])
        }
        Plan::FailingTransaction => {
            let name = name("t");
            let commands = [&["MULTI"][..], &["GET", &name], &["INCR", &name], &["EXEC"]];
            let wire: Vec<Vec<u8>> = commands.into_iter().map(command).collect();
            let queued = b"+QUEUED\r\n".to_vec();
            let failed = b"*2\r\n$-1\r\n-WRONGTYPE Operation against a key\r\n".to_vec();
            (wire.concat(), vec![b"+OK\r\n".to_vec(), queued.clone(), queued, failed])
        }
        Plan::Block => (command(&["BLPOP", &name("q"), "5"]), vec![b"*-1\r\n".to_vec()]),
        Plan::Select => (command(&["SELECT", "3"]), vec![b"+OK\r\n".to_vec()]),
        Plan::Fail => {
            (command(&["GET", &name("e")]), vec![format!("-ERR no {id}\r\n").into_bytes()])
        }
    }
}

/// Plays the steps; `turns`: the client sends only when everything is answered.
fn play(steps: &[Step], turns: bool) -> Vec<Passed> {
    let mut passed = Vec::new();
    let mut owed: Vec<Vec<u8>> = Vec::new();
    for (id, step) in steps.iter().enumerate() {
        match *step {
            Step::Send(plan) => {
                let (wire, replies) = wire(plan, id);
                passed.push(Passed::Bytes(Requests, wire));
                owed.extend(replies);
            }
            Step::Answer(count) => {
                let count = if turns { owed.len() } else { count.min(owed.len()) };
                let replies: Vec<u8> = owed.drain(..count).flatten().collect();
                if !replies.is_empty() {
                    passed.push(Passed::Bytes(Responses, replies));
                }
            }
            Step::Quiet => {
                let replies: Vec<u8> = owed.drain(..).flatten().collect();
                if !replies.is_empty() {
                    passed.push(Passed::Bytes(Responses, replies));
                }
                passed.push(Passed::Quiet);
            }
        }
    }
    passed.push(Passed::Bytes(Responses, owed.concat()));
    passed
}

fn any_steps(quiet: u32) -> impl Strategy<Value = Vec<Step>> {
    let plan = prop_oneof![
        6 => Just(Plan::Get),
        2 => Just(Plan::List),
        1 => Just(Plan::Hash),
        2 => (0usize..100).prop_map(|size| Plan::Set { size }),
        1 => Just(Plan::Transaction),
        1 => Just(Plan::FailingTransaction),
        1 => Just(Plan::Block),
        1 => Just(Plan::Select),
        1 => Just(Plan::Fail),
    ];
    let step = prop_oneof![
        10 => plan.prop_map(Step::Send),
        10 => (1usize..4).prop_map(Step::Answer),
        quiet => Just(Step::Quiet),
    ];
    prop::collection::vec(step, 1..60)
}

/// All alike, so that nothing but order tells replies apart.
fn only_gets(quiet: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => Just(Step::Send(Plan::Get)),
        10 => (1usize..3).prop_map(Step::Answer),
        quiet => Just(Step::Quiet),
    ];
    prop::collection::vec(step, 1..60)
}

/// What happens to one piece: how long it is, and what becomes of it.
#[derive(Clone, Debug)]
enum Fate {
    Captured,
    /// Only this share of it (in 256ths) is captured, the rest is known to be missing.
    Prefix(u8),
    Lost,
    LostUnknown,
}

fn any_fate(damage: f64) -> impl Strategy<Value = (usize, Fate)> {
    let bad =
        prop_oneof![any::<u8>().prop_map(Fate::Prefix), Just(Fate::Lost), Just(Fate::LostUnknown)];
    let fate = (prop::bool::weighted(damage), bad)
        .prop_map(|(damaged, bad)| if damaged { bad } else { Fate::Captured });
    (prop_oneof![1usize..60, Just(usize::MAX)], fate)
}

/// Delivers what passed in pieces.
fn deliver(passed: &[Passed], fates: &[(usize, Fate)], from_start: bool, turns: bool) -> Run {
    let mut run = Run::new(from_start);
    if turns {
        run.connection.takes_turns();
    }
    let mut fates = fates.iter().cycle();
    for passed in passed {
        let Passed::Bytes(direction, bytes) = passed else {
            run.idle();
            continue;
        };
        let (direction, mut rest) = (*direction, &**bytes);
        while !rest.is_empty() {
            let (length, fate) = fates.next().unwrap();
            let (piece, after) = rest.split_at(rest.len().min(*length));
            rest = after;
            // Met in the middle, a stream's offset is known from its first piece on.
            let placed = from_start || run.connection.counters(direction).fed_bytes > 0;
            match fate {
                Fate::Prefix(share) if placed => {
                    let kept = piece.len() * usize::from(*share) / 256;
                    run.piece(direction, &piece[..kept], (piece.len() - kept) as u64);
                }
                Fate::Lost if placed => {
                    run.hole(direction, piece.len() as u64);
                }
                Fate::LostUnknown if placed => {
                    run.hole(direction, piece.len() as u64).gap(direction);
                }
                _ => {
                    run.piece(direction, piece, 0);
                }
            }
        }
    }
    run.close();
    run
}

fn assert_true(run: &Run) {
    for exchange in exchanges(&run.events) {
        exchange.assert_paired_right(&|| exchange.tell());
        let Some(Ok(End::Complete { reply, .. })) = &exchange.end else { continue };
        // Kinds of reply that only this command has here.
        let fails = exchange.request.key.as_deref().is_some_and(|key| key.starts_with("e:"));
        if !exchange.request.cut {
            assert_eq!(fails, matches!(reply, Reply::Error { .. }), "{}", exchange.tell());
            if exchange.request.name == "EXEC" {
                // All of it, or all but what the other kind has.
                let Reply::Executed { items: 2, nils, failed, code, .. } = reply else {
                    panic!("{}", exchange.tell());
                };
                let whole = [(0, 0, ""), (1, 1, "WRONGTYPE")];
                assert!(whole.contains(&(*nils, *failed, &**code)), "{}", exchange.tell());
            }
            let nil = exchange.request.name == "BLPOP";
            assert_eq!(nil, *reply == Reply::Nil, "{}", exchange.tell());
        }
    }
}

fn complete(run: &Run) -> usize {
    let told = exchanges(&run.events);
    told.iter().filter(|it| matches!(it.end, Some(Ok(End::Complete { .. })))).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn undamaged_every_exchange_is_told_in_full(
        steps in any_steps(1),
        fates in prop::collection::vec(any_fate(0.0), 1..20),
    ) {
        let run = deliver(&play(&steps, false), &fates, true, false);
        assert_true(&run);
        prop_assert_eq!(complete(&run), run.told().len());
        let sent = steps.iter().map(|step| match step {
            Step::Send(Plan::Transaction | Plan::FailingTransaction) => 4,
            Step::Send(_) => 1,
            _ => 0,
        });
        prop_assert_eq!(run.told().len(), sent.sum::<usize>());
        prop_assert!(run.skipped_nothing());
    }

    #[test]
    fn damaged_anywhere_nothing_is_told_that_is_not_true(
        steps in any_steps(2),
        fates in prop::collection::vec(any_fate(0.15), 1..20),
        from_start: bool,
    ) {
        assert_true(&deliver(&play(&steps, false), &fates, from_start, false));
    }

    #[test]
    fn where_only_order_tells_replies_apart_neither(
        steps in only_gets(3),
        fates in prop::collection::vec(any_fate(0.1), 1..20),
        from_start: bool,
    ) {
        assert_true(&deliver(&play(&steps, false), &fates, from_start, false));
    }

    #[test]
    fn met_in_the_middle_of_pipelined_commands_nothing_is_mispaired(
        steps in only_gets(1),
        at in 0usize..40,
        fates in prop::collection::vec(any_fate(0.0), 1..20),
    ) {
        let passed = play(&steps, false);
        assert_true(&deliver(&passed[at.min(passed.len())..], &fates, false, false));
    }

    #[test]
    fn of_a_client_that_takes_turns_neither(
        steps in any_steps(0),
        at in 0usize..20,
        fates in prop::collection::vec(any_fate(0.1), 1..20),
        from_start: bool,
    ) {
        let passed = play(&steps, true);
        let at = if from_start { 0 } else { at.min(passed.len()) };
        assert_true(&deliver(&passed[at..], &fates, from_start, true));
    }

    /// Replies may be delivered before their commands.
    #[test]
    fn swapped_directions_tell_the_same(
        swaps in prop::collection::vec(any::<bool>(), 20),
    ) {
        let mut run = Run::new(true);
        for (id, swap) in swaps.iter().enumerate() {
            let (request, replies) = wire(Plan::Get, id);
            if *swap {
                run.responses(replies.concat()).requests(request);
            } else {
                run.requests(request).responses(replies.concat());
            }
        }
        run.close();
        assert_true(&run);
        prop_assert_eq!(complete(&run), swaps.len());
        prop_assert!(run.skipped_nothing());
    }
}

/// What a subscriber does, and what its server does.
#[derive(Clone, Copy, Debug)]
enum Listen {
    /// Subscribes to so many of a kind.
    Subscribe(Kind, usize),
    /// Ends a subscription by its name, which it may not have.
    Unsubscribe(Kind, usize),
    /// Ends all of a kind.
    UnsubscribeAll(Kind),
    /// The same, and is refused.
    Refused(Kind),
    Get,
    /// Something is published.
    Message,
    /// So many commands are answered, and all before a quiet moment.
    Answer(usize),
    Quiet,
}

/// `SUBSCRIBE`, `PSUBSCRIBE`, `SSUBSCRIBE`.
type Kind = usize;

/// A server with one subscriber.
struct Server {
    resp2: bool,
    /// By kind: the channels, patterns or shard channels.
    subscribed: [std::collections::BTreeSet<usize>; 3],
}

impl Server {
    fn left(&self, kind: Kind) -> usize {
        match kind {
            2 => self.subscribed[2].len(),
            _ => self.subscribed[0].len() + self.subscribed[1].len(),
        }
    }

    fn word(&self, begins: bool, kind: Kind, channel: Option<usize>) -> String {
        let (sign, nothing) = if self.resp2 { ('*', "$-1\r\n") } else { ('>', "_\r\n") };
        let name = format!("{}{}subscribe", ["", "p", "s"][kind], if begins { "" } else { "un" });
        let channel = channel.map_or(nothing.to_owned(), |channel| format!("$1\r\n{channel}\r\n"));
        let left = self.left(kind);
        format!("{sign}3\r\n${}\r\n{name}\r\n{channel}:{left}\r\n", name.len())
    }

    /// A command, what it is answered when it is run, and how it is told.
    fn run(&mut self, id: usize, listen: Listen) -> Option<(Vec<u8>, String, String)> {
        let verb = |kind: Kind, verb: &str| format!("{}{verb}", ["", "P", "S"][kind]);
        let (words, reply, told) = match listen {
            Listen::Subscribe(kind, count) => {
                let channels: Vec<usize> = (0..count).map(|at| (id + at) % 4).collect();
                let mut reply = String::new();
                for channel in &channels {
                    self.subscribed[kind].insert(*channel);
                    reply += &self.word(true, kind, Some(*channel));
                }
                let names = channels.iter().map(usize::to_string);
                let words = [verb(kind, "SUBSCRIBE")].into_iter().chain(names).collect();
                (words, reply, format!("*{count}"))
            }
            Listen::Unsubscribe(kind, channel) => {
                self.subscribed[kind].remove(&channel);
                let words = vec![verb(kind, "UNSUBSCRIBE"), channel.to_string()];
                (words, self.word(false, kind, Some(channel)), "*1".to_owned())
            }
            Listen::UnsubscribeAll(kind) => {
                let mut reply = String::new();
                let channels: Vec<usize> = self.subscribed[kind].iter().copied().collect();
                for channel in &channels {
                    self.subscribed[kind].remove(channel);
                    reply += &self.word(false, kind, Some(*channel));
                }
                if channels.is_empty() {
                    reply = self.word(false, kind, None);
                }
                (vec![verb(kind, "UNSUBSCRIBE")], reply, format!("*{}", channels.len().max(1)))
            }
            Listen::Refused(kind) => {
                let reply = "-NOAUTH Authentication required.\r\n".to_owned();
                let told = "-NOAUTH Authentication required".to_owned();
                (vec![verb(kind, "UNSUBSCRIBE")], reply, told)
            }
            Listen::Get if self.resp2 && self.left(0) + self.left(2) > 0 => {
                let reply = "-ERR Can't execute 'get': only this\r\n".to_owned();
                (vec!["GET".to_owned(), format!("s:{id}")], reply, "-ERR ".to_owned())
            }
            Listen::Get => {
                let reply = format!("${id}\r\n{}\r\n", "v".repeat(id));
                (vec!["GET".to_owned(), format!("s:{id}")], reply, format!("${id}"))
            }
            Listen::Message | Listen::Answer(_) | Listen::Quiet => return None,
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = format!("{} > {told}", words.join(" "));
        Some((command(&words), reply, told))
    }

    fn message(&self) -> String {
        let sign = if self.resp2 { '*' } else { '>' };
        let subscribed = self.subscribed[0].first();
        let channel = |at: &usize| format!("{sign}3\r\n$7\r\nmessage\r\n$1\r\n{at}\r\n$1\r\nm\r\n");
        subscribed.map(channel).unwrap_or_default()
    }
}

/// What passes, and how each command is told.
fn listen(steps: &[Listen], resp2: bool) -> (Vec<Passed>, Vec<String>) {
    let mut server = Server { resp2, subscribed: Default::default() };
    let (mut passed, mut told, mut owed) =
        (Vec::new(), Vec::new(), std::collections::VecDeque::new());
    for (id, step) in steps.iter().enumerate() {
        match *step {
            Listen::Message | Listen::Answer(_) | Listen::Quiet => {
                let count = if let Listen::Answer(count) = *step { count } else { usize::MAX };
                let mut replies = String::new();
                for _ in 0..count.min(owed.len()) {
                    let (id, listen) = owed.pop_front().unwrap();
                    let (_, reply, line): (_, String, String) = server.run(id, listen).unwrap();
                    replies += &reply;
                    told.push(line);
                }
                if matches!(step, Listen::Message) {
                    replies += &server.message();
                }
                if !replies.is_empty() {
                    passed.push(Passed::Bytes(Responses, replies.into_bytes()));
                }
                if matches!(step, Listen::Quiet) {
                    passed.push(Passed::Quiet);
                }
            }
            step => {
                // What is sent doesn't depend on the server.
                let mut any = Server { resp2, subscribed: Default::default() };
                passed.push(Passed::Bytes(Requests, any.run(id, step).unwrap().0));
                owed.push_back((id, step));
            }
        }
    }
    (passed, told)
}

fn any_listening() -> impl Strategy<Value = Vec<Listen>> {
    let step = prop_oneof![
        3 => (0..3usize, 1..4usize).prop_map(|(kind, count)| Listen::Subscribe(kind, count)),
        2 => (0..3usize, 0..4usize).prop_map(|(kind, channel)| Listen::Unsubscribe(kind, channel)),
        4 => (0..3usize).prop_map(Listen::UnsubscribeAll),
        1 => (0..3usize).prop_map(Listen::Refused),
        4 => Just(Listen::Get),
        2 => Just(Listen::Message),
        5 => (1..4usize).prop_map(Listen::Answer),
        1 => Just(Listen::Quiet),
    ];
    let steps = prop::collection::vec(step, 1..60);
    steps.prop_map(|steps| steps.into_iter().chain([Listen::Quiet]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn undamaged_every_subscription_and_its_end_are_told(
        steps in any_listening(),
        fates in prop::collection::vec(any_fate(0.0), 1..20),
        resp2: bool,
    ) {
        let (passed, told) = listen(&steps, resp2);
        let run = deliver(&passed, &fates, true, false);
        prop_assert_eq!(run.told(), told);
        prop_assert!(run.skipped_nothing());
    }

    /// What is told of them is a part of what was, in its order.
    #[test]
    fn damaged_anywhere_no_subscription_is_told_wrongly(
        steps in any_listening(),
        fates in prop::collection::vec(any_fate(0.1), 1..20),
        from_start: bool,
        resp2: bool,
    ) {
        let (passed, told) = listen(&steps, resp2);
        let run = deliver(&passed, &fates, from_start, false);
        let mut rest = told.iter();
        for exchange in exchanges(&run.events) {
            let Some(Ok(End::Complete { .. })) = &exchange.end else { continue };
            if exchange.request.cut {
                continue;
            }
            let line = exchange.tell();
            prop_assert!(rest.any(|told| *told == line), "{} of {:#?}", line, told);
        }
    }
}

/// Long after a loss, those who can be told again are.
#[test]
fn after_quiet_moments_pairing_begins_anew() {
    let gets = |ids: std::ops::Range<usize>| {
        ids.map(|id| wire(Plan::Get, id)).fold((Vec::new(), Vec::new()), |(mut a, mut b), it| {
            a.extend(it.0);
            b.extend(it.1.concat());
            (a, b)
        })
    };
    for lost in [Requests, Responses] {
        let mut run = Run::new(true);
        for turn in 0..10 {
            let (requests, responses) = gets(turn * 3..turn * 3 + 3);
            run.requests(requests);
            if turn == 2 {
                run.gap(lost);
            }
            run.responses(responses).idle();
        }
        run.close();
        // The first quiet moment after the loss begins the trial, the second ends it.
        let expected = if lost == Requests { 27 } else { 24 };
        assert_eq!(complete(&run), expected, "{lost:?} {:#?}", run.told());
    }
}
