//! Caps, ends of processes, and what is left when all is over.

use super::*;

#[test]
fn an_evicted_request_is_counted_and_its_calls_are_withheld() {
    let mut s = Scenario::with(Config { max_calls: 3, ..Config::default() });
    s.start(server(1, 1, 0)).start(client(2, 1, 10));
    s.start(client(3, 2, 20)).start(client(4, 2, 30));
    s.end(1, 40).end(2, 50).tick(LATER);
    s.is_withheld(2, Withheld::Lost);
    let books = s.engine.books();
    assert_eq!((books.evicted, books.unmatched), (1, 1));
}

#[test]
fn a_process_has_a_cap_of_its_own() {
    let mut s = Scenario::with(Config { max_calls_per_process: 2, ..Config::default() });
    for i in 0..5 {
        s.start(server(i, 1, i));
    }
    s.start(server(9, 2, 9)).end(4, 100).end(9, 100).tick(LATER);
    assert_eq!(s.engine.books().evicted, 3);
    s.is_alone(4, ParentStatus::Root);
}

#[test]
fn abandoned_requests_have_a_cap_too() {
    let mut s = Scenario::with(Config { max_calls_per_process: 2, ..Config::default() });
    for i in 0..5 {
        s.start(server(i, 1, i)).abandon(i, 10);
    }
    // The two that are left may be in flight; that the others are was given up.
    s.start(server(8, 1, 20)).run(client(9, 1, 30), 40).end(8, 50).tick(LATER);
    s.is_withheld(9, Withheld::Lost);
    let process = s.engine.processes.get(&ProcessId(1)).unwrap();
    assert!(process.excess_ghost(2).is_none());
    assert!(process.excess_ghost(0).is_none(), "and after a minute none is left");
}

#[test]
fn nothing_is_held_when_all_is_over() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    for i in 0..500 {
        let at = i * 500;
        s.start(server(4 * i, 1, at)).start(client(4 * i + 1, 1, at + 10).on(10, i));
        s.start(server(4 * i + 2, 2, at + 20).on(20, i).thread(3));
        s.run(client(4 * i + 3, 2, at + 30), at + 100);
        s.end(4 * i + 2, at + 200).end(4 * i + 1, at + 300);
        if i % 7 == 0 {
            s.abandon(4 * i, at + 400);
        } else {
            s.end(4 * i, at + 400);
        }
        s.engine.socket_closed(SocketId(1_000 + 4 * i), (at + 400) * 1_000);
        s.engine.socket_closed(SocketId(1_000 + 4 * i + 3), (at + 400) * 1_000);
    }
    s.engine.socket_closed(SocketId(10), 300_000_000);
    s.engine.socket_closed(SocketId(20), 300_000_000);
    s.engine.process_gone(ProcessId(1), 300_000_000);
    s.engine.process_gone(ProcessId(2), 300_000_000);
    s.tick(1_000 * LATER);
    let engine = &s.engine;
    assert_eq!((engine.calls.len(), engine.sockets.len(), engine.processes.len()), (0, 0, 0));
    assert_eq!(engine.schedule.len(), 0);
}

#[test]
fn a_process_that_is_gone_ends_its_calls() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(client(2, 1, 10));
    s.engine.process_gone(ProcessId(1), 1_000_000);
    s.tick(LATER);
    assert_eq!(s.engine.books().abandoned, 2);
    let mut dropped = s.engine.take_dropped();
    dropped.sort();
    assert_eq!(dropped, [CallId(1), CallId(2)], "whoever holds them hears of it");
    s.end(1, 200).tick(LATER);
    assert_eq!(s.engine.books().unmatched, 1);
}

#[test]
fn a_flush_withholds_what_needed_time() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).run(client(2, 1, 10), 20).end(1, 30);
    s.start(server(3, 2, 0).thread(4)).run(client(4, 2, 10).thread(4), 20).end(3, 30);
    s.start(client(5, 3, 0)).tick(40).flush();
    s.is_withheld(2, Withheld::Lost);
    s.is_child(4, 3);
    assert_eq!((s.placed.len(), s.engine.books().open), (4, 1));
}

#[test]
fn events_that_fit_nothing_are_counted() {
    let mut s = Scenario::new();
    s.end(9, 10).abandon(9, 10).run(server(1, 1, 0), 10).start(server(1, 1, 0)).end(1, 20);
    s.tick(LATER);
    assert_eq!(s.engine.books().unmatched, 4);
    assert_eq!(s.engine.books().started, 1);
}

#[test]
fn a_call_given_up_after_its_end_is_accounted_for() {
    let mut s = Scenario::new();
    s.run(server(1, 1, 0), 10).abandon(1, 20).tick(LATER);
    let books = s.engine.books();
    assert_eq!((books.ended, books.abandoned, books.dropped_after_end), (1, 1, 1));
    assert!(s.placed.is_empty());
}
