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
            Step::Send(Plan::Transaction) => 4,
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
