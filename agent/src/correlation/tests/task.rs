//! The thread and context rules.

use super::*;
use crate::call::{LinkReason, Origin};

#[test]
fn a_blocking_thread_serves_one_request() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).thread(5)).start(server(2, 1, 0).thread(6));
    s.run(client(3, 1, 10).thread(5), 20).run(client(4, 1, 10).thread(6), 30);
    s.end(1, 100).end(2, 100).tick(251_000);
    assert_eq!(s.placed.len(), 4, "no look-ahead is needed");
    s.is_child(3, 1);
    s.is_child(4, 2);
}

#[test]
fn a_threads_requests_follow_each_other() {
    let mut s = Scenario::new();
    for i in 0..1_000 {
        let at = i * 300;
        s.start(server(2 * i, 1, at).thread(5)).start(server(5_000 + i, 1, at).thread(6));
        s.run(client(2 * i + 1, 1, at + 10).thread(5), at + 100);
        s.end(2 * i, at + 200).end(5_000 + i, at + 200);
    }
    s.tick(LATER);
    (0..1_000).for_each(|i| s.is_child(2 * i + 1, 2 * i));
}

#[test]
fn two_requests_open_on_a_thread_say_that_an_end_was_missed() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).thread(5)).start(server(2, 1, 50).thread(5));
    s.run(client(3, 1, 60).thread(5), 70).end(2, 100).end(1, 200).tick(LATER);
    s.is_withheld(3, Withheld::Lost);
}

#[test]
fn an_abandoned_request_is_nobodys_parent_until_the_thread_reads_the_next() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).thread(5)).abandon(1, 50).run(client(2, 1, 60).thread(5), 70);
    s.start(server(3, 1, 100).thread(5)).run(client(4, 1, 110).thread(5), 120);
    s.end(3, 130).tick(LATER);
    s.is_withheld(2, Withheld::Lost);
    s.is_child(4, 3);
}

#[test]
fn contexts_tell_requests_of_one_loop_apart() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).context(51)).start(server(2, 1, 0).context(52));
    s.run(client(3, 1, 10).context(51), 20).run(client(4, 1, 10).context(52), 20);
    s.run(client(5, 1, 10).context(53), 20);
    s.end(1, 100).end(2, 100);
    // Work that goes on for a while, and work that goes on for too long.
    s.run(client(6, 1, 1_000_000).context(51), 1_000_020).tick(7_000_000);
    s.run(client(7, 1, 7_000_000).context(51), 7_000_020).tick(LATER);
    s.is_child(3, 1);
    s.is_child(4, 2);
    s.is_withheld(5, Withheld::Ambient);
    s.is_child(6, 1);
    s.is_alone(7, ParentStatus::Root);
    let request = s.of(1);
    let origin = Origin { trace_id: request.trace_id, span_id: request.span_id };
    assert_eq!(s.of(7).links, [(origin, LinkReason::LateWork)]);
    assert_eq!(s.of(6).links, []);
}

#[test]
fn a_request_whose_end_may_be_lost_is_no_threads_parent() {
    let mut s = Scenario::new();
    // Its answer, and the thread's next request on another connection, were lost.
    s.start(server(1, 1, 0).thread(5)).start(server(2, 1, 0).thread(6));
    s.engine.records_lost(ProcessId(1), 2_000_000);
    s.run(client(10, 1, 3_000).thread(5), 4_000);
    // One whose end is known after all, and one that began later, are what they were.
    s.run(client(20, 1, 3_000).thread(6), 4_000).end(2, 5_000);
    s.start(server(3, 1, 3_000).thread(7)).run(client(30, 1, 4_000).thread(7), 5_000);
    // That its connection broke off later is no end of its own.
    s.engine.broken_off(CallEnded { id: CallId(1), at_ns: 100_000_000 });
    s.end(3, 6_000).tick(LATER);
    s.is_withheld(10, Withheld::Lost);
    s.is_child(20, 2);
    s.is_child(30, 3);
}

#[test]
fn a_context_that_is_told_late_counts_as_one_that_was_known() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(server(2, 1, 0)).run(client(3, 1, 10), 20);
    s.run(client(4, 1, 10), 20).run(client(5, 1, 10), 20).run(client(6, 1, 10), 20);
    // One request is over before its context is told.
    s.end(2, 15);
    for (call, context) in [(1, 51), (4, 52), (3, 51), (2, 52), (5, u64::MAX)] {
        s.engine.context(CallId(call), context);
    }
    // The first word stands.
    s.engine.context(CallId(3), 52);
    s.end(1, 100).tick(LATER);
    s.is_child(3, 1);
    s.is_child(4, 2);
    // Known to be nobody's, and not known.
    s.is_withheld(5, Withheld::Ambient);
    s.is_withheld(6, Withheld::Concurrent);
}

#[test]
fn what_a_request_asked_that_is_older_than_contexts_is_decided_without_them() {
    let mut s = Scenario::new();
    // The first was in flight when the process began to tell; what it asks then is said to be nobody's.
    s.start(server(1, 1, 0))
        .run(client(2, 1, 10), 20)
        .run(client(3, 1, 30).context(u64::MAX), 40)
        .end(1, 50);
    s.start(server(4, 1, 60).context(51)).run(client(5, 1, 70).context(u64::MAX), 80).end(4, 90);
    s.tick(LATER);
    s.is_child(2, 1);
    s.is_child(3, 1);
    s.is_withheld(5, Withheld::Ambient);
}

#[test]
fn a_context_that_is_told_after_the_decision_changes_nothing() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(server(2, 1, 0)).run(client(3, 1, 10), 20);
    s.end(1, 100).end(2, 100).tick(LATER);
    s.is_withheld(3, Withheld::Concurrent);
    for (call, context) in [(1, 51), (3, 51), (9, 51)] {
        s.engine.context(CallId(call), context);
    }
    assert!(s.engine.books().balanced());
}

/// A client call of context 51, made by a strand of it.
fn of_strand(s: &mut Scenario, id: u64, strand: u32, at_us: u64) {
    s.start(client(id, 1, at_us).context(51));
    s.engine.made_by(CallId(id), strand);
    s.end(id, at_us + 20);
}

/// A request, answered by strand 7 at 10 ms.
fn answered() -> Scenario {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).context(51));
    s.engine.answered(CallId(1), 7);
    s.end(1, 10_000);
    s
}

#[test]
fn a_strand_that_goes_on_after_the_response_is_nobodys_from_its_beginning() {
    let mut s = answered();
    of_strand(&mut s, 2, 8, 5_000);
    of_strand(&mut s, 3, 8, 100_000);
    of_strand(&mut s, 4, 8, 600_000);
    of_strand(&mut s, 5, 7, 600_000);
    of_strand(&mut s, 6, 9, 400_000);
    s.tick(LATER);
    for id in [2, 3, 4] {
        assert_eq!(s.placed[&id].status, ParentStatus::Withheld(Withheld::LateWork), "{id}");
    }
    // Who answered may take its time, and a task that ends soon is the request's.
    for id in [5, 6] {
        assert_eq!(s.placed[&id].parent_call, Some(CallId(1)), "{id}");
    }
}

#[test]
fn long_after_the_response_only_what_the_answering_strand_calls_is_linked() {
    let mut s = answered();
    s.tick(20_000_000);
    of_strand(&mut s, 2, 7, 20_000_010);
    of_strand(&mut s, 3, 9, 20_000_010);
    s.tick(LATER);
    s.is_alone(2, ParentStatus::Root);
    assert_eq!(s.of(2).links[0].0.span_id, s.of(1).span_id);
    s.is_withheld(3, Withheld::LateWork);
    assert_eq!(s.of(3).links, []);
}

#[test]
fn what_the_answering_strand_calls_is_decided_at_once() {
    let mut s = answered();
    of_strand(&mut s, 2, 7, 5_000);
    of_strand(&mut s, 3, 8, 5_000);
    s.tick(300_000);
    assert!(s.placed.contains_key(&2) && !s.placed.contains_key(&3));
    s.tick(LATER);
    assert_eq!(s.placed[&3].parent_call, Some(CallId(1)));
}

fn poll(s: &mut Scenario, call: Told, until_us: u64) {
    let id = call.0.id;
    s.start(call.incidental());
    s.engine.found_nothing(CallEnded { id, at_ns: until_us * 1_000 });
}

#[test]
fn a_poll_that_finds_nothing_is_told_where_a_request_asks() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).thread(5)).start(server(2, 1, 0).context(51));
    poll(&mut s, client(3, 1, 10).thread(5), 20);
    poll(&mut s, client(4, 1, 10).context(51), 20);
    s.end(1, 100).end(2, 100);
    // What a request left behind, a loop's own, and one of a process that serves nothing.
    poll(&mut s, client(5, 1, 200).context(51), 210);
    poll(&mut s, client(6, 1, 300), 310);
    poll(&mut s, client(7, 2, 300), 310);
    s.tick(LATER);
    s.is_child(3, 1);
    s.is_child(4, 2);
    assert_eq!(s.placed.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    let mut silenced = s.engine.take_silenced();
    silenced.sort_unstable();
    assert_eq!(silenced, [CallId(5), CallId(6), CallId(7)]);
    assert_eq!(s.engine.books().silent, 3);
    assert_eq!(s.engine.take_silenced(), []);
}

#[test]
fn a_poll_of_a_request_that_is_given_up_is_not_told() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).thread(5));
    poll(&mut s, client(2, 1, 10).thread(5), 300_000);
    // Decided by now, not placed.
    s.tick(290_000).abandon(1, 295_000).tick(LATER);
    assert!(s.placed.is_empty());
    assert_eq!(s.engine.take_silenced(), [CallId(2)]);
}

#[test]
fn a_poll_that_finds_nothing_is_told_where_its_other_end_is() {
    let mut s = Scenario::new();
    s.pair(71, 72);
    poll(&mut s, client(1, 1, 0).on(71, 9), 30);
    s.run(server(2, 2, 10).on(72, 9), 20).tick(LATER);
    s.is_child(2, 1);
    assert_eq!(s.engine.take_silenced(), []);
}

#[test]
fn a_poll_within_a_job_is_the_workers_own() {
    let mut s = Scenario::new();
    let mut message = server(1, 1, 0).thread(5);
    message.0.receives = true;
    message.0.role = Role::Client;
    s.start(message);
    s.engine.handles(CallId(1), false);
    s.engine.handled_in(CallId(1), 51, 0);
    poll(&mut s, client(2, 1, 10).context(51), 20);
    s.run(client(3, 1, 30).context(51), 40).end(1, 100).tick(LATER);
    s.is_child(3, 1);
    assert_eq!(s.engine.take_silenced(), [CallId(2)]);
}
