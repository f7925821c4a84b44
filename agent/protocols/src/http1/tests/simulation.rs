//! A simulated client and server with ground truth: random exchanges, cut anywhere, with holes anywhere,
//! the two directions' records slightly out of order. Every response carries its request's id.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Plan {
    method: usize,
    request_body: Body,
    response: usize,
    response_body: Body,
    informational: bool,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(usize),
    Chunks(Vec<usize>),
}

/// What is sent, in causal order: the requests of a burst, then their responses.
type Sent = Vec<(Direction, Vec<u8>)>;

const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "DELETE"];
const STATUSES: [&str; 4] = ["200 OK", "404 Not Found", "204 No Content", "304 Not Modified"];

fn body(body: &Body, wire: &mut Vec<u8>) {
    match body {
        Body::None => wire.extend_from_slice(b"content-length: 0\r\n\r\n"),
        Body::Length(length) => {
            wire.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
            wire.resize(wire.len() + length, b'x');
        }
        Body::Chunks(chunks) => {
            wire.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for &length in chunks {
                wire.extend_from_slice(format!("{length:x}\r\n").as_bytes());
                wire.resize(wire.len() + length, b'x');
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

fn sent(plans: &[Plan], depth: usize) -> Sent {
    let mut sent = Vec::new();
    for (burst, plans) in plans.chunks(depth).enumerate() {
        let mut requests = Vec::new();
        let mut responses = Vec::new();
        for (at, plan) in plans.iter().enumerate() {
            let id = burst * depth + at;
            let method = METHODS[plan.method];
            requests.extend_from_slice(format!("{method} /p/{id} HTTP/1.1\r\n").as_bytes());
            body(&plan.request_body, &mut requests);
            if plan.informational {
                responses.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n\r\n");
            }
            let status = STATUSES[plan.response];
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: t; id={id}\r\n");
            responses.extend_from_slice(head.as_bytes());
            if method == "HEAD" || plan.response >= 2 {
                responses.extend_from_slice(b"content-length: 7\r\n\r\n");
            } else {
                body(&plan.response_body, &mut responses);
            }
        }
        sent.push((Requests, requests));
        sent.push((Responses, responses));
    }
    sent
}

fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::None),
        (1usize..200).prop_map(Body::Length),
        prop::collection::vec(1usize..100, 0..4).prop_map(Body::Chunks),
    ]
}

fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan =
        (0..METHODS.len(), any_body(), 0..STATUSES.len(), any_body(), prop::bool::weighted(0.1))
            .prop_map(|(method, request_body, response, response_body, informational)| Plan {
                method,
                request_body,
                response,
                response_body,
                informational,
            });
    prop::collection::vec(plan, 1..8)
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
    (prop_oneof![1usize..80, Just(usize::MAX)], fate)
}

/// Delivers what was sent in pieces; every exchange told is held against the truth.
fn deliver(plans: &[Plan], depth: usize, fates: &[(usize, Fate)], from_start: bool) -> Run {
    let mut run = Run::new(from_start);
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

fn content(body: &Body) -> u64 {
    match body {
        Body::None => 0,
        Body::Length(length) => *length as u64,
        Body::Chunks(chunks) => chunks.iter().sum::<usize>() as u64,
    }
}

fn assert_true(run: &Run, plans: &[Plan]) {
    for exchange in exchanges(&run.events) {
        exchange.assert_paired_right(&|| exchange.tell());
        if exchange.request.target_cut {
            continue;
        }
        let id: usize = exchange.id().unwrap().parse().unwrap();
        let plan = &plans[id];
        assert_eq!(exchange.request.method.as_str(), METHODS[plan.method]);
        if let Some(response) = &exchange.response {
            assert!(STATUSES[plan.response].starts_with(&response.status.to_string()));
        }
        if let Some(Ok(End::Complete { body_bytes })) = exchange.end {
            let bodiless = METHODS[plan.method] == "HEAD" || plan.response >= 2;
            let expected = if bodiless { 0 } else { content(&plan.response_body) };
            assert_eq!(body_bytes, expected, "{}", exchange.tell());
            if exchange.request.complete
                && let Some(sent) = exchange.request_bytes
            {
                assert!(sent <= content(&plan.request_body), "{}", exchange.tell());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn undamaged_every_exchange_is_told_in_full(
        plans in any_plans(),
        depth in 1usize..4,
        fates in prop::collection::vec(any_fate(0.0), 1..20),
    ) {
        let run = deliver(&plans, depth, &fates, true);
        assert_true(&run, &plans);
        let told = exchanges(&run.events);
        prop_assert_eq!(told.len(), plans.len());
        for (exchange, plan) in told.iter().zip(&plans) {
            prop_assert!(matches!(exchange.end, Some(Ok(End::Complete { .. }))), "{}", exchange.tell());
            prop_assert_eq!(exchange.request_bytes, Some(content(&plan.request_body)));
        }
        prop_assert!(run.skipped_nothing());
    }

    #[test]
    fn damaged_anywhere_nothing_is_told_that_is_not_true(
        plans in any_plans(),
        fates in prop::collection::vec(any_fate(0.2), 1..20),
        from_start: bool,
    ) {
        assert_true(&deliver(&plans, 1, &fates, from_start), &plans);
    }

    #[test]
    fn of_pipelined_exchanges_one_hole_makes_no_wrong_pair(
        plans in any_plans(),
        depth in 2usize..5,
        mut fates in prop::collection::vec(any_fate(0.0), 200),
        at in 0usize..200,
        damage in any_fate(1.0),
    ) {
        fates[at] = damage;
        assert_true(&deliver(&plans, depth, &fates, true), &plans);
    }

    /// Responses may be delivered before their requests, one turn off.
    #[test]
    fn swapped_directions_tell_the_same(
        plans in any_plans(),
        swaps in prop::collection::vec(any::<bool>(), 8),
    ) {
        let mut run = Run::new(true);
        for (turn, swap) in sent(&plans, 1).chunks(2).zip(swaps) {
            let [first, second] = turn else { panic!("a request and its response") };
            let order = if swap { [second, first] } else { [first, second] };
            for (direction, bytes) in order { run.piece(*direction, bytes, 0); }
        }
        run.close();
        assert_true(&run, &plans);
        prop_assert_eq!(run.told().len(), plans.len());
        prop_assert!(run.skipped_nothing());
    }
}
