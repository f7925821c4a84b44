//! A simulated client and server with ground truth: random requests, cut anywhere, with holes anywhere,
//! the two directions' records slightly out of order. Every answer's rows name its request.

use proptest::prelude::*;

use super::*;

/// How a request is made.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Simple,
    Unnamed,
    Named,
    /// `Execute` of a statement that was prepared before.
    Prepared,
    Empty,
    PrepareOnly,
}

#[derive(Clone, Debug)]
struct Plan {
    kind: Kind,
    fails: bool,
    rows: usize,
    value_bytes: usize,
    notice: bool,
    /// The `Sync` waits for another request.
    shares_sync: bool,
}

fn put(kind: u8, body: impl AsRef<[u8]>, wire: &mut Vec<u8>) {
    wire.extend_from_slice(&message(kind, body));
}

const ERROR: &[u8] = b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0";

/// The text of request `id`, which has `id` rows or affects as many.
fn text(id: usize) -> String {
    format!("UPDATE t SET x = 'secret' /* n={id} */")
}

/// What is sent, in causal order: the requests of a burst, then their answers.
fn sent(plans: &[Plan], depth: usize) -> Vec<(Direction, Vec<u8>)> {
    let mut sent = Vec::new();
    for (burst, plans) in plans.chunks(depth).enumerate() {
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        let mut failed = false;
        for (at, plan) in plans.iter().enumerate() {
            let id = 1 + burst * depth + at;
            // The server passes over what follows an error up to `Sync`.
            let mut answers = Vec::new();
            if plan.notice {
                put(b'N', b"SNOTICE\0Msecret\0\0", &mut answers);
            }
            let (text, name) = (text(id), format!("s{id}"));
            let extended =
                |named: &str, parse: bool, asked: &mut Vec<u8>, answers: &mut Vec<u8>| {
                    if parse {
                        put(b'P', format!("{named}\0{text}\0\0\0").as_bytes(), asked);
                        put(b'1', b"", answers);
                    }
                    let value = "v".repeat(plan.value_bytes);
                    let mut bind = format!("\0{named}\0\0\0\0\x01").into_bytes();
                    bind.extend_from_slice(&(value.len() as u32).to_be_bytes());
                    bind.extend_from_slice(value.as_bytes());
                    bind.extend_from_slice(b"\0\0");
                    put(b'B', &bind, asked);
                    put(b'2', b"", answers);
                    put(b'E', b"\0\0\0\0\0", asked);
                };
            let finish = |answers: &mut Vec<u8>, result: bool| {
                if plan.fails {
                    put(b'E', ERROR, answers);
                } else if result {
                    for _ in 0..plan.rows {
                        let mut row = vec![0, 1];
                        row.extend_from_slice(&(plan.value_bytes as u32).to_be_bytes());
                        row.resize(row.len() + plan.value_bytes, b'r');
                        put(b'D', &row, answers);
                    }
                    put(b'C', format!("UPDATE {id}\0").as_bytes(), answers);
                }
            };
            let is_extended = match plan.kind {
                Kind::Simple => {
                    put(b'Q', format!("{text}\0").as_bytes(), &mut asked);
                    finish(&mut answers, true);
                    false
                }
                Kind::Empty => {
                    put(b'Q', b"\0", &mut asked);
                    put(b'I', b"", &mut answers);
                    false
                }
                Kind::Unnamed => {
                    extended("", true, &mut asked, &mut answers);
                    finish(&mut answers, true);
                    true
                }
                Kind::Named => {
                    extended(&name, true, &mut asked, &mut answers);
                    finish(&mut answers, true);
                    true
                }
                Kind::Prepared => {
                    extended("before", false, &mut asked, &mut answers);
                    finish(&mut answers, true);
                    true
                }
                Kind::PrepareOnly => {
                    put(b'P', format!("p{id}\0{text}\0\0\0").as_bytes(), &mut asked);
                    put(b'D', format!("Sp{id}\0").as_bytes(), &mut asked);
                    if !plan.fails {
                        put(b'1', b"", &mut answers);
                        put(b't', b"\0\0", &mut answers);
                        put(b'n', b"", &mut answers);
                    }
                    finish(&mut answers, false);
                    true
                }
            };
            let follows = plans.get(at + 1).map(|next| next.kind);
            let next_extended =
                follows.is_some_and(|kind| !matches!(kind, Kind::Simple | Kind::Empty));
            if failed {
                answers.clear();
            }
            answered.extend_from_slice(&answers);
            failed |= is_extended && plan.fails;
            if !is_extended {
                put(b'Z', b"I", &mut answered);
            } else if !(plan.shares_sync && next_extended) {
                put(b'S', b"", &mut asked);
                put(b'Z', b"I", &mut answered);
                failed = false;
            }
        }
        sent.push((Requests, asked));
        sent.push((Responses, answered));
    }
    sent
}

fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    let kind = prop::sample::select(vec![
        Kind::Simple,
        Kind::Unnamed,
        Kind::Named,
        Kind::Prepared,
        Kind::Empty,
        Kind::PrepareOnly,
    ]);
    let plan = (
        kind,
        prop::bool::weighted(0.15),
        0usize..4,
        0usize..60,
        prop::bool::weighted(0.1),
        any::<bool>(),
    )
        .prop_map(|(kind, fails, rows, value_bytes, notice, shares_sync)| Plan {
            kind,
            fails,
            rows,
            value_bytes,
            notice,
            shares_sync,
        });
    prop::collection::vec(plan, 1..12)
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
    let bad = prop_oneof![
        3 => any::<u8>().prop_map(Fate::Prefix),
        1 => Just(Fate::Lost),
        1 => Just(Fate::LostUnknown),
    ];
    let fate = (prop::bool::weighted(damage), bad)
        .prop_map(|(damaged, bad)| if damaged { bad } else { Fate::Captured });
    (prop_oneof![1usize..80, Just(usize::MAX), Just(usize::MAX)], fate)
}

fn start(run: &mut Run) {
    run.requests(ask::startup(&[("user", "bob")])).responses(tell::authenticated());
}

/// Delivers what was sent in pieces.
fn deliver(plans: &[Plan], depth: usize, fates: &[(usize, Fate)], from_start: bool) -> Run {
    let mut run = Run::new(from_start);
    if from_start {
        start(&mut run);
    }
    let mut fates = fates.iter().cycle();
    for (direction, bytes) in sent(plans, depth) {
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let (length, fate) = fates.next().unwrap();
            let (piece, after) = rest.split_at(rest.len().min(*length));
            rest = after;
            // Met in the middle, a stream's offset is known from its first piece on.
            let placed = from_start || run.connection.counters(direction).fed_bytes > 0;
            match fate {
                _ if !placed => {
                    run.piece(direction, piece, 0);
                }
                Fate::Captured => {
                    run.piece(direction, piece, 0);
                }
                Fate::Prefix(share) => {
                    let kept = piece.len() * usize::from(*share) / 256;
                    run.piece(direction, &piece[..kept], (piece.len() - kept) as u64);
                }
                Fate::Lost => {
                    run.hole(direction, piece.len() as u64);
                }
                Fate::LostUnknown => {
                    run.hole(direction, piece.len() as u64).gap(direction);
                }
            }
        }
    }
    run.close();
    run
}

/// What is told is true, be it not everything.
fn assert_true(run: &Run, plans: &[Plan]) {
    for exchange in exchanges(&run.events) {
        exchange.assert_paired_right(&|| format!("{plans:?}"));
        let Some(due) = exchange.rows_due() else { continue };
        let plan = &plans[due as usize - 1];
        if let Some(Ok(End::Complete(done))) = &exchange.end {
            if let Some(error) = &done.error {
                assert!(plan.fails, "{}", exchange.tell());
                assert!(error.sqlstate.is_empty() || *error.sqlstate == *"22012");
            } else {
                assert!(!plan.fails, "{}", exchange.tell());
            }
        }
        assert_eq!(
            matches!(plan.kind, Kind::PrepareOnly),
            exchange.query.kind == QueryKind::Prepare
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn everything_is_told_where_nothing_is_lost(
        plans in any_plans(),
        depth in 1usize..5,
        fates in prop::collection::vec(any_fate(0.0), 1..20),
    ) {
        let run = deliver(&plans, depth, &fates, true);
        assert_true(&run, &plans);
        prop_assert_eq!(run.skipped(), 0);
        let told = exchanges(&run.events);
        let executed = |exchange: &&Exchange| exchange.query.kind != QueryKind::Prepare;
        let due = plans.iter().filter(|plan| !matches!(plan.kind, Kind::PrepareOnly)).count();
        prop_assert_eq!(told.iter().filter(executed).count(), due);
        for exchange in &told {
            prop_assert!(
                matches!(exchange.end, Some(Ok(End::Complete(_) | End::NotExecuted))),
                "{}", exchange.tell()
            );
        }
    }

    #[test]
    fn nothing_wrong_is_told_whatever_is_lost(
        plans in any_plans(),
        fates in prop::collection::vec(any_fate(0.15), 1..20),
        from_start in any::<bool>(),
    ) {
        let run = deliver(&plans, 1, &fates, from_start);
        assert_true(&run, &plans);
    }

    #[test]
    fn nor_of_a_client_that_pipelines(
        plans in any_plans(),
        depth in 2usize..5,
        fates in prop::collection::vec(any_fate(0.1), 1..20),
    ) {
        let run = deliver(&plans, depth, &fates, true);
        assert_true(&run, &plans);
    }

    #[test]
    fn promises_hold_for_arbitrary_scripts(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_postgres(&data);
    }

    #[test]
    fn and_for_scripts_of_messages(
        flags in any::<u8>(),
        ops in prop::collection::vec(
            (any::<u8>(), prop::sample::select(b"QPBEDCSHFXdcfp123ACGHIKNRTVWZsntv\0".to_vec()),
             prop::collection::vec(prop_oneof![Just(0u8), Just(b'S'), any::<u8>()], 0..12)),
            0..40,
        ),
    ) {
        let mut script = vec![flags];
        for (op, kind, body) in ops {
            script.push(op);
            put(kind, &body, &mut script);
        }
        fuzz_postgres(&script);
    }
}
