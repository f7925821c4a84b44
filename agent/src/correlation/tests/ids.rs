//! Trace ids, their freezing, and the time until a placement.

use super::*;

#[test]
fn a_chain_has_one_trace_though_its_top_ends_last() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    // 1 serves for minutes; its call to process 2 and what that calls are placed long before.
    s.start(server(1, 1, 0).header(7, 8)).start(client(2, 1, 100).on(10, 7));
    s.start(server(3, 2, 150).on(20, 7)).run(client(4, 2, 200), 300).end(3, 400).end(2, 500);
    s.tick(1_600_000);
    assert_eq!(s.placed.keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
    s.end(1, 90_000_000).tick(LATER);
    s.is_child(4, 3);
    s.is_child(3, 2);
    s.is_child(2, 1);
    s.is_remote(1, 7, 8);
}

#[test]
fn a_call_that_outlives_its_parent_by_far_keeps_it() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(client(2, 1, 10)).end(1, 100).tick(50_000_000);
    s.end(2, 60_000_000).tick(LATER);
    s.is_child(2, 1);
}

#[test]
fn an_abandoned_parent_is_not_named() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(client(2, 1, 10)).run(client(3, 1, 20), 30).tick(2_000_000);
    assert!(s.placed.contains_key(&3), "its parent was there");
    s.abandon(1, 2_000_000).end(2, 2_100_000).tick(LATER);
    s.is_withheld(2, Withheld::Lost);
    let books = s.engine.books();
    assert_eq!((books.dangling, books.abandoned), (1, 1));
}

#[test]
fn a_chain_that_is_undecided_at_the_deadline_is_frozen_and_agrees() {
    // A look-ahead longer than the deadline: 3 is due while its client, 2, is undecided.
    let config = Config { look_ahead_ns: 4_000_000_000, ..Config::default() };
    let mut s = Scenario::with(config);
    s.pair(10, 20);
    s.start(server(1, 1, 0)).start(client(2, 1, 100).on(10, 7));
    s.run(server(3, 2, 150).on(20, 7), 400).end(2, 500).end(1, 600).tick(1_500_399);
    assert!(!s.placed.contains_key(&3));
    s.tick(1_500_400);
    assert!(s.placed.contains_key(&3));
    s.tick(LATER);
    s.is_child(3, 2);
    // Its trace is out, and is not the one that its parent turned out to be in.
    s.is_withheld(2, Withheld::Lost);
}

#[test]
fn the_engine_can_live_on_any_thread() {
    fn is_send(_: &impl Send) {}
    is_send(&Scenario::new().engine);
}

#[test]
fn everything_is_placed_in_time() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.start(server(1, 1, 0)).start(client(2, 1, 100).on(10, 7));
    s.run(server(3, 2, 150).on(20, 7), 400).end(2, 500).end(1, 600).tick(1_500_400);
    assert_eq!(s.placed.len(), 3);
}
