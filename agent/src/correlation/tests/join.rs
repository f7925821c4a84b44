//! The two ends of a connection.

use super::*;

#[test]
fn the_client_call_at_the_other_end_is_the_parent() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.start(client(1, 1, 0).on(10, 7)).start(server(2, 2, 50).on(20, 7));
    s.end(2, 900).end(1, 1_000).tick(LATER);
    s.is_child(2, 1);
    s.is_alone(1, ParentStatus::Root);
    assert_eq!(s.of(1).trace_flags, 0x03);
    assert_eq!(s.of(2).peer_call, Some(CallId(1)));
    assert_eq!(s.of(1).peer_call, Some(CallId(2)));
}

type Step = Box<dyn Fn(&mut Scenario) -> &mut Scenario>;

#[test]
fn any_order_of_telling_is_the_same() {
    for order in 0..6 {
        let mut s = Scenario::new();
        let mut steps: Vec<Step> = vec![
            Box::new(|s| s.run(client(1, 1, 100).on(10, 7), 1_000)),
            Box::new(|s| s.run(server(2, 2, 50).on(20, 7), 900)),
            Box::new(|s| s.pair(20, 10)),
        ];
        let first = steps.remove(order / 2);
        first(&mut s);
        s.tick(10_000);
        steps.remove(order % 2)(&mut s);
        s.tick(40_000);
        steps.remove(0)(&mut s);
        s.tick(LATER);
        s.is_child(2, 1);
    }
}

#[test]
fn each_request_of_a_connection_finds_its_own() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    for i in 0..100 {
        let at = i * 1_000;
        s.run(client(2 * i, 1, at).on(10, i * 64), at + 900);
        // Only the low 32 bits are TCP's.
        s.run(server(2 * i + 1, 2, at + 10).on(20, (1 << 32) + i * 64), at + 800);
    }
    s.tick(LATER);
    (0..100).for_each(|i| s.is_child(2 * i + 1, 2 * i));
}

#[test]
fn what_was_counted_from_different_moments_is_not_joined() {
    for lag in [-3_i64, 3] {
        let mut s = Scenario::new();
        s.engine.paired_by_count(SocketId(10), SocketId(20));
        for i in 0..100_u64 {
            let at = i * 10_000;
            let theirs = 640_i64.strict_add(lag * 64).strict_add_unsigned(i * 64).cast_unsigned();
            s.run(client(2 * i, 1, at).on(10, 640 + i * 64), at + 900);
            s.run(server(2 * i + 1, 2, at + 10).on(20, theirs), at + 800).tick(at + 5_000);
        }
        s.tick(LATER);
        (0..100).for_each(|i| s.is_alone(2 * i + 1, ParentStatus::Root));
    }
}

#[test]
fn what_was_counted_from_the_beginning_is_joined_whatever_the_stamps() {
    let mut s = Scenario::new();
    s.engine.paired_by_count(SocketId(10), SocketId(20));
    // A receive stamped before the send, an answer sent before it, a client that never ends.
    s.run(server(1, 2, 50).on(20, 0), 60).run(client(2, 1, 100).on(10, 0), 1_000);
    s.run(server(3, 2, 90_000).on(20, 64), 95_000).start(client(4, 1, 70_000).on(10, 64));
    s.tick(200_000).end(4, 300_000).tick(LATER);
    s.is_child(1, 2);
    s.is_child(3, 4);
}

#[test]
fn a_server_found_late_still_has_the_client_that_gave_up() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.run(client(1, 1, 0).on(10, 7), 5_000_000).tick(9_000_000);
    assert_eq!(s.placed.len(), 1);
    s.run(server(2, 2, 9_000_000).on(20, 7), 9_100_000).tick(LATER);
    s.is_child(2, 1);
}

#[test]
fn without_the_client_a_server_call_stands_alone_after_the_wait() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.run(server(2, 2, 0).on(20, 7), 100).tick(200_000);
    assert!(s.placed.is_empty(), "the client may still come");
    s.tick(251_000);
    s.is_alone(2, ParentStatus::Root);
    // Its trace is out: the client comes too late to be the parent.
    s.run(client(1, 1, 0).on(10, 7), 200).tick(LATER);
    s.is_alone(1, ParentStatus::Root);
    assert_eq!(s.of(1).peer_call, Some(CallId(2)));
    assert_eq!(s.engine.books().late_joins, 1);
}

#[test]
fn an_unpaired_server_call_waits_for_nothing() {
    let mut s = Scenario::new();
    s.engine.unpaired(SocketId(20));
    s.run(server(1, 2, 0).on(20, 7), 100).tick(101);
    s.is_alone(1, ParentStatus::Root);
    s.run(server(2, 2, 200).on(21, 7), 300).tick(301);
    s.engine.unpaired(SocketId(21));
    s.tick(302);
    s.is_alone(2, ParentStatus::Root);
}

#[test]
fn a_join_to_an_abandoned_client_is_withheld() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.start(client(1, 1, 0).on(10, 7)).start(server(2, 2, 50).on(20, 7));
    s.end(2, 900).abandon(1, 1_000).tick(LATER);
    s.is_withheld(2, Withheld::Lost);
    assert_eq!(s.engine.books().dangling, 0);
}

#[test]
fn a_process_that_calls_itself_makes_no_circle() {
    let mut s = Scenario::new();
    // Its receive was stamped before its own send; nothing else is in flight.
    s.start(server(2, 1, 90).on(20, 7)).start(client(1, 1, 100).on(10, 7).tid(2));
    s.end(2, 300).end(1, 400).tick(240_000);
    s.pair(10, 20).tick(LATER);
    s.is_child(2, 1);
    s.is_withheld(1, Withheld::Ambient);
}

#[test]
fn a_join_that_would_close_a_circle_is_refused() {
    let mut s = Scenario::new();
    // By its stamps the call is made by the very request that it causes, and that is believed before
    // the two sockets are known to be one connection.
    s.start(client(1, 1, 100).on(10, 7).thread(5)).tick(200_000);
    s.start(server(2, 1, 90).on(20, 7).thread(5)).tick(260_000);
    s.pair(10, 20).end(2, 300_000).end(1, 300_000).tick(LATER);
    s.is_alone(2, ParentStatus::Root);
    s.is_child(1, 2);
}

/// A request that nobody wants a span of: what it causes is not wanted either, here and behind its calls, also where
/// those are placed long after it.
#[test]
fn what_is_beneath_an_unwanted_call_is_unwanted() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.start(server(1, 1, 0).thread(1)).start(server(5, 1, 0).thread(2));
    s.engine.unwanted(CallId(1));
    s.start(client(2, 1, 100).thread(1).on(10, 7)).start(server(3, 2, 150).thread(9).on(20, 7));
    s.run(client(4, 2, 200).thread(9), 300).end(2, 800).end(1, 900);
    s.run(client(6, 1, 120).thread(2), 300).end(5, 900);
    s.tick(5_000_000);
    // Its own end comes last.
    s.end(3, 5_000_100).tick(LATER);
    s.is_child(2, 1);
    s.is_child(3, 2);
    s.is_child(4, 3);
    s.is_child(6, 5);
    let unwanted: Vec<u64> = (1..=6).filter(|id| s.of(*id).unwanted).collect();
    assert_eq!(unwanted, [1, 2, 3, 4]);
    assert!(!s.of(1).continued);
}
