//! The rules against the truth: made-up systems whose every cause is known, told late and out of order.
//!
//! `world` makes the systems and what is told of them; here they are run and held to their promises.

mod jobs;
mod messages;
mod world;

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::world::{Event, Kind, System, World, run};
use super::*;
use crate::call::ParentStatus;

const MS: u64 = 1_000_000;

/// How a system was judged.
#[derive(Debug, Default)]
struct Score {
    /// Client calls with the right parent, the wrong one, and none.
    right: u64,
    wrong: u64,
    none: u64,
    /// Server calls joined, and not joined though a client call of this node caused them.
    joined: u64,
    unjoined: u64,
    /// Client calls that are a process's own, before it served.
    of_programs: u64,
    books: Books,
}

impl Score {
    /// A client call has this parent, or none, and this is its true one.
    fn found(&mut self, parent: Option<CallId>, truth: Option<CallId>) {
        match parent {
            None => self.none += 1,
            Some(_) if parent == truth => self.right += 1,
            Some(_) => self.wrong += 1,
        }
    }

    /// Client calls of both.
    fn with(mut self, other: &Self) -> Self {
        self.right += other.right;
        self.wrong += other.wrong;
        self.none += other.none;
        self
    }
}

/// Lets time pass, and keeps what is placed.
fn advance(engine: &mut Engine, tick: u64, placed: &mut BTreeMap<CallId, Placement>) {
    engine.tick(tick, &mut |placement| {
        assert!(placed.insert(placement.id, placement).is_none(), "placed twice");
    });
}

/// When what happened at `at` is told: mostly soon.
fn delivered(rng: &mut SmallRng, at: u64) -> u64 {
    let worst = match rng.random_range(0..100) {
        0 => 50 * MS,
        1..15 => 10 * MS,
        _ => MS,
    };
    at + rng.random_range(0..worst)
}

/// Tells a world to an engine and judges every placement.
fn judge(world: &mut World, rng: &mut SmallRng, cut_off: bool) -> Score {
    let ids = RandomIds(SmallRng::seed_from_u64(rng.random()));
    let mut engine = Engine::new(Config::default(), Box::new(ids));
    let mut placed: BTreeMap<CallId, Placement> = BTreeMap::new();
    let mut told: BTreeMap<CallId, u64> = BTreeMap::new();
    let (mut tick, mut programs_begun) = (0, 0);
    for (delivered, event) in world.told() {
        while tick < delivered {
            let before = placed.len();
            engine.tick(tick, &mut |placement| {
                // No later than the deadline, but for the time between two ticks.
                let due = told[&placement.id] + 1_500 * MS;
                assert!(tick <= due + 500 * MS, "{placement:?} came at {tick}, was due at {due}");
                assert!(placed.insert(placement.id, placement).is_none(), "placed twice");
            });
            if placed.len() != before {
                assert!(engine.books().balanced(), "{:?}", engine.books());
            }
            tick += rng.random_range(5 * MS..500 * MS);
        }
        match event {
            Event::Started(call) => engine.started(call),
            Event::Ended(call) => {
                told.insert(call.id, delivered);
                engine.ended(call);
            }
            Event::Abandoned(id, at) => engine.abandoned(id, at),
            Event::Paired(a, b) => engine.paired(a, b),
            Event::Unpaired(socket) => engine.unpaired(socket),
            Event::Opaque(process, socket, open, at) => {
                engine.opaque_inbound(process, socket, open, at);
            }
            Event::InboundLost(process, at) => engine.inbound_lost(process, at),
            Event::Program(program) => {
                programs_begun += 1;
                engine.program_started(program);
            }
            Event::Serves(process, at) => engine.serves(process, at),
        }
    }
    if !cut_off {
        engine.tick(tick + 100_000 * MS, &mut |placement| {
            assert!(placed.insert(placement.id, placement).is_none(), "placed twice");
        });
    }
    engine.flush(&mut |placement| {
        assert!(placed.insert(placement.id, placement).is_none(), "placed twice");
    });
    let books = engine.books();
    assert!(books.balanced() && books.open == 0 && books.waiting == 0, "{books:?}");
    assert_eq!(books.unmatched, 0, "{books:?}");
    let finished = world.truth.values().filter(|truth| truth.told && !truth.abandoned).count();
    assert_eq!(placed.len(), finished, "one placement for each call");
    let programs = engine.take_programs();
    assert_eq!(programs.len(), programs_begun, "each is told once");
    score(world, &placed, &programs, books)
}

fn score(
    world: &World,
    placed: &BTreeMap<CallId, Placement>,
    programs: &[ProgramPlacement],
    books: Books,
) -> Score {
    let mut score = Score { books, ..Score::default() };
    let mut missing = 0;
    for (id, placement) in placed {
        let truth = &world.truth[id];
        let of_program = programs.iter().any(|program| {
            let named = placement.parent_span_id == Some(program.span_id);
            assert!(!named || program.wanted && placement.trace_id == program.trace_id);
            named
        });
        match placement.parent_call {
            Some(parent) => {
                assert_eq!(placement.status, ParentStatus::Certain);
                match placed.get(&parent) {
                    Some(parent) => {
                        assert_eq!(placement.trace_id, parent.trace_id);
                        assert_eq!(placement.parent_span_id, Some(parent.span_id));
                        assert_eq!(placement.trace_flags, parent.trace_flags);
                        assert_eq!(placement.trace_state, parent.trace_state);
                    }
                    None => missing += 1,
                }
            }
            None if of_program => {
                assert_eq!((truth.role, truth.parent), (Role::Client, None), "nobody asked for it");
                score.of_programs += 1;
            }
            None if placement.status == ParentStatus::Certain => {
                assert_eq!(
                    truth.header,
                    Some((placement.trace_id, placement.parent_span_id.unwrap()))
                );
            }
            None => assert_eq!(placement.parent_span_id, None),
        }
        // No circle: whoever follows the parents arrives at a top.
        let mut at = placement;
        for step in 0.. {
            assert!(step <= placed.len(), "a circle at {id:?}");
            let Some(parent) = at.parent_call.and_then(|parent| placed.get(&parent)) else { break };
            at = parent;
        }
        match (truth.role, placement.parent_call) {
            (Role::Server, Some(parent)) => {
                assert_eq!(Some(parent), truth.parent, "a join is never wrong");
                score.joined += 1;
            }
            (Role::Server, None) => score.unjoined += u64::from(truth.parent.is_some()),
            (Role::Client, parent) => score.found(parent, truth.parent),
        }
    }
    assert_eq!(missing, books.dangling, "only abandoned parents are missing, and they are counted");
    score
}

/// Runs a system with many seeds.
fn survey(system: &System, seeds: std::ops::Range<u64>) -> Vec<Score> {
    seeds
        .map(|seed| {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut world = run(system, &mut rng);
            judge(&mut world, &mut rng, system.cut_off)
        })
        .collect()
}

fn total(scores: &[Score], of: impl Fn(&Score) -> u64) -> u64 {
    scores.iter().map(of).sum()
}

fn kinds() -> Vec<Vec<Kind>> {
    use Kind::{Loop, Threads};
    vec![
        vec![Loop],
        vec![Threads],
        vec![Loop, Loop],
        vec![Threads, Loop],
        vec![Loop, Threads, Loop],
        vec![Threads, Threads, Threads],
    ]
}

#[test]
fn sequential_requests_are_whole_traces() {
    for services in kinds() {
        // A loop that is called twice at a time has two in flight.
        let fan_out = services.iter().skip(1).all(|kind| *kind == Kind::Threads);
        let system = System { services, fan_out, ..System::default() };
        for score in survey(&system, 0..100) {
            let books = score.books;
            assert_eq!(
                (score.wrong, score.none, score.unjoined),
                (0, 0, 0),
                "{system:?} {books:?}"
            );
            assert_eq!(books.withheld.total(), 0);
            assert!(score.right >= 2 * u64::from(system.requests));
            assert!(books.root <= u64::from(system.requests), "one top for each request");
        }
    }
}

#[test]
fn threads_are_certain_at_any_concurrency() {
    for clients in [3, 10, 20] {
        let services = vec![Kind::Threads, Kind::Threads];
        let system = System { services, clients, requests: 6, ..System::default() };
        for score in survey(&system, 0..50) {
            assert_eq!((score.wrong, score.none, score.unjoined), (0, 0, 0), "{:?}", score.books);
        }
    }
}

#[test]
fn loops_with_many_in_flight_are_withheld_not_wrong() {
    for clients in [2, 3, 20] {
        let services = vec![Kind::Loop, Kind::Loop];
        let system = System { services, clients, requests: 6, ..System::default() };
        let scores = survey(&system, 0..60);
        assert_eq!(total(&scores, |score| score.wrong), 0);
        assert_eq!(total(&scores, |score| score.unjoined), 0, "joins need no luck");
        let withheld = total(&scores, |score| score.books.withheld.total());
        assert_eq!(total(&scores, |score| score.none), withheld, "and every one is counted");
        if clients == 20 {
            let certain = total(&scores, |score| score.right);
            assert!(certain * 5 < withheld, "{certain} of {withheld} were alone?");
        }
    }
}

#[test]
fn losses_never_make_a_wrong_parent() {
    for services in kinds() {
        for clients in [1, 4] {
            let services = services.clone();
            let system = System { services, clients, lossy: true, ..System::default() };
            let scores = survey(&system, 0..40);
            assert_eq!(total(&scores, |score| score.wrong), 0, "{system:?}");
            assert!(total(&scores, |score| score.books.abandoned) > 0, "something was lost");
        }
    }
}

#[test]
fn timers_that_show_themselves_are_not_taken_for_requests() {
    for clients in [1, 3] {
        let services = vec![Kind::Loop, Kind::Threads];
        let system = System { services, clients, timers: true, ..System::default() };
        let scores = survey(&system, 0..60);
        assert_eq!(total(&scores, |score| score.wrong), 0);
        assert!(total(&scores, |score| score.books.withheld.ambient) > 0);
        assert!(total(&scores, |score| score.of_programs) > 0, "some came before it listened");
        assert!(total(&scores, |score| score.right) > 0, "the threads are certain all the same");
    }
}

#[test]
fn work_left_open_by_a_request_is_not_taken_for_the_nexts() {
    for clients in [1, 3] {
        let services = vec![Kind::Loop, Kind::Loop];
        let system = System { services, clients, left_open: true, ..System::default() };
        let scores = survey(&system, 0..60);
        assert_eq!(total(&scores, |score| score.wrong), 0);
        assert!(total(&scores, |score| score.books.withheld.late_work) > 0);
    }
}

#[test]
fn requests_on_opaque_connections_are_not_taken_for_others() {
    let system = System { opaque: true, ..System::default() };
    let scores = survey(&system, 0..100);
    assert_eq!(total(&scores, |score| score.wrong), 0);
    assert!(total(&scores, |score| score.books.withheld.opaque) > 0);
}

#[test]
fn an_agent_that_stops_gives_out_everything_that_ended() {
    for services in kinds() {
        for clients in [1, 4] {
            let services = services.clone();
            let system = System { services, clients, cut_off: true, ..System::default() };
            let scores = survey(&system, 0..30);
            assert_eq!(total(&scores, |score| score.wrong), 0, "{system:?}");
        }
    }
}

/// What the single-in-flight rule does not cover: work that starts after the response, when another
/// request is alone. It is stopped for good by the first such call that falls into an idle moment.
#[test]
fn deferred_work_is_wrong_only_until_it_shows_itself() {
    let system = System { deferred: true, requests: 40, ..System::default() };
    let scores = survey(&system, 0..60);
    let (wrong, right) = (total(&scores, |s| s.wrong), total(&scores, |s| s.right));
    let none = total(&scores, |score| score.none);
    assert!(wrong * 100 < wrong + right + none, "{wrong} wrong, {right} right, {none} withheld");
    assert!(total(&scores, |score| score.books.withheld.ambient) > 0);
}
