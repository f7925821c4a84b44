//! Messages: from who sent them to who received them.

use super::*;
use crate::call::{LinkReason, MessageKey, Origin, Receipt};

const QUEUE: u64 = 1;

/// A client call that sends a message of this key.
fn send(s: &mut Scenario, id: u64, process: u64, key: u64, at_us: u64) {
    s.start(client(id, process, at_us));
    s.engine.sent(CallId(id), MessageKey(key));
    s.end(id, at_us + 100);
}

fn received(s: &mut Scenario, id: u64, key: u64, receiver: u64, at_us: u64) {
    let (message, at_ns) = (MessageKey(key), at_us * 1_000);
    s.engine.received(CallId(id), Receipt { message, receiver, at_ns, again: false });
}

fn receiving(mut told: Told) -> Told {
    told.0.receives = true;
    told
}

/// A delivery of a message of this key.
fn deliver(s: &mut Scenario, id: u64, key: u64, receiver: u64, at_us: u64) {
    s.start(receiving(server(id, 9, at_us)));
    received(s, id, key, receiver, at_us);
    s.end(id, at_us + 1_000);
}

fn origin(s: &Scenario, id: u64) -> Origin {
    Origin { trace_id: s.of(id).trace_id, span_id: s.of(id).span_id }
}

#[test]
fn a_message_is_its_senders_child_in_the_senders_trace() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).context(51)).start(client(2, 1, 10).context(51));
    s.engine.sent(CallId(2), MessageKey(7));
    s.end(2, 100).end(1, 200);
    deliver(&mut s, 3, 7, QUEUE, 500);
    s.tick(LATER);
    s.is_child(2, 1);
    s.is_child(3, 2);
    assert_eq!(s.of(3).sent_at_ns, Some(10_000));
}

#[test]
fn where_links_are_asked_for_the_sender_is_no_parent() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    // One that is placed before its message is received, one that carries a context, and one of which nobody knows.
    s.tick(LATER);
    send(&mut s, 2, 1, 8, LATER);
    for (id, key) in [(3, 7), (4, 8), (5, 9)] {
        let at = LATER + 500;
        let mut told = receiving(server(id, 9, at));
        if id == 4 {
            told = told.header(5, 6);
        }
        s.start(told);
        s.engine.links_only(CallId(id));
        received(&mut s, id, key, QUEUE, at);
        s.end(id, at + 1_000);
    }
    s.tick(2 * LATER);
    for id in 3..=5 {
        s.is_alone(id, ParentStatus::Root);
        assert!(
            !s.of(id).continued
                && s.placed.values().all(|it| it.id.0 == id || it.trace_id != s.of(id).trace_id)
        );
    }
    let carried = Origin { trace_id: TraceId([5; 16]), span_id: SpanId([6; 8]) };
    let link = |origin| (origin, LinkReason::Message);
    assert_eq!(s.of(3).links, [link(origin(&s, 1))]);
    assert_eq!(s.of(4).links, [link(carried), link(origin(&s, 2))]);
    assert_eq!(s.of(5).links, []);
    assert_eq!(s.of(3).sent_at_ns, Some(0));
}

#[test]
fn one_that_waited_for_long_is_too() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    s.tick(LATER);
    let late = LATER + 600_000_000;
    deliver(&mut s, 2, 7, QUEUE, late);
    // What it causes is in the same trace.
    s.start(client(3, 9, late + 10)).end(3, late + 20).tick(late + LATER);
    let (sender, received) = (s.of(1), s.of(2));
    assert_eq!(received.status, ParentStatus::Certain);
    assert_eq!(received.parent_span_id, Some(sender.span_id));
    assert_eq!((received.trace_id, received.parent_is_remote), (sender.trace_id, false));
    s.is_child(3, 2);
}

#[test]
fn one_whose_key_is_told_after_it_was_received_is_found() {
    let mut s = Scenario::new();
    s.start(client(1, 1, 0));
    deliver(&mut s, 2, 7, QUEUE, 50);
    s.tick(10_000);
    s.engine.sent(CallId(1), MessageKey(7));
    s.end(1, 100).tick(LATER);
    s.is_child(2, 1);
}

#[test]
fn each_receiver_is_given_it_once() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    deliver(&mut s, 2, 7, QUEUE, 200);
    deliver(&mut s, 3, 7, QUEUE + 1, 200);
    // The next one like it.
    s.tick(LATER);
    send(&mut s, 4, 1, 7, LATER);
    deliver(&mut s, 5, 7, QUEUE, LATER + 200);
    s.tick(2 * LATER);
    s.is_child(2, 1);
    s.is_child(3, 1);
    s.is_child(5, 4);
    // Nobody on this node sent this.
    deliver(&mut s, 6, 7, QUEUE, 2 * LATER);
    s.tick(3 * LATER);
    s.is_alone(6, ParentStatus::Root);
}

#[test]
fn one_that_comes_again_is_the_same() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    deliver(&mut s, 2, 7, QUEUE, 200);
    s.tick(LATER);
    s.start(receiving(server(3, 9, LATER)));
    let (message, at_ns) = (MessageKey(7), LATER * 1_000);
    let again = Receipt { message, receiver: QUEUE, at_ns, again: true };
    s.engine.received(CallId(3), again);
    s.end(3, LATER + 10).tick(2 * LATER);
    assert_eq!(s.of(3).parent_span_id, Some(s.of(1).span_id));
}

#[test]
fn of_several_alike_none_is_the_one() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    send(&mut s, 2, 2, 7, 10);
    deliver(&mut s, 3, 7, QUEUE, 10_000);
    s.tick(LATER);
    s.is_withheld(3, Withheld::Concurrent);
}

#[test]
fn what_is_sent_on_is_not_what_was_received() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    // Handed on, as it is, while it is not decided yet whose it was.
    s.start(receiving(server(2, 9, 10_000)));
    received(&mut s, 2, 7, QUEUE, 10_000);
    send(&mut s, 3, 9, 7, 20_000);
    s.end(2, 30_000);
    deliver(&mut s, 4, 7, QUEUE, 40_000);
    s.tick(LATER);
    s.is_child(2, 1);
    s.is_child(3, 2);
    s.is_child(4, 3);
}

#[test]
fn several_received_at_once_are_linked() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    s.tick(LATER);
    let at = LATER + 100;
    s.start(server(2, 1, at).context(51)).start(client(3, 1, at + 10).context(51));
    s.engine.sent(CallId(3), MessageKey(8));
    s.end(3, at + 50).end(2, at + 60);
    // A fetch that was asked for long before.
    s.start(receiving(client(4, 9, LATER - 100)));
    for key in [7, 8, 9] {
        received(&mut s, 4, key, QUEUE, at + 500);
    }
    s.end(4, at + 500).tick(2 * LATER);
    s.is_alone(4, ParentStatus::Root);
    let links = [1, 3].map(|sender| (origin(&s, sender), LinkReason::Message));
    assert_eq!(s.of(4).links, links);
    s.is_child(3, 2);
}

#[test]
fn a_fetch_is_never_a_requests_call() {
    let mut s = Scenario::new();
    s.start(server(1, 9, 0)).run(receiving(client(2, 9, 10)), 20).end(1, 100);
    send(&mut s, 3, 1, 7, 0);
    s.start(receiving(client(4, 9, 30)));
    received(&mut s, 4, 7, QUEUE, 200);
    s.end(4, 200).tick(LATER);
    s.is_alone(2, ParentStatus::Root);
    s.is_child(4, 3);
}

#[test]
fn a_sender_that_is_given_up_is_nobodys_parent() {
    let mut s = Scenario::new();
    s.start(client(1, 1, 0));
    s.engine.sent(CallId(1), MessageKey(7));
    s.abandon(1, 100);
    deliver(&mut s, 2, 7, QUEUE, 200);
    s.tick(LATER);
    s.is_alone(2, ParentStatus::Root);
}

#[test]
fn a_sender_without_a_span_is_nobodys_parent() {
    let mut s = Scenario::new();
    s.start(client(1, 1, 0));
    s.engine.sent(CallId(1), MessageKey(7));
    s.engine.unwanted(CallId(1));
    s.end(1, 100).tick(LATER);
    deliver(&mut s, 2, 7, QUEUE, LATER);
    s.tick(2 * LATER);
    s.is_alone(2, ParentStatus::Root);
}

#[test]
fn what_is_forgotten_is_counted() {
    let mut s = Scenario::with(Config { max_messages: 4, ..Config::default() });
    (0..6).for_each(|i| send(&mut s, i, 1, i, i * 1_000));
    s.tick(LATER);
    assert_eq!(s.engine.books().messages_forgotten, 2);
    deliver(&mut s, 10, 1, QUEUE, LATER);
    deliver(&mut s, 11, 2, QUEUE, LATER);
    s.tick(2 * LATER);
    s.is_alone(10, ParentStatus::Root);
    assert_eq!(s.of(11).parent_span_id, Some(s.of(2).span_id));
}

#[test]
fn who_asks_for_a_message_is_its_parent_and_who_sent_it_is_linked_to() {
    let mut s = Scenario::new();
    send(&mut s, 1, 1, 7, 0);
    s.tick(LATER);
    s.start(server(2, 9, LATER).context(51)).start(client(3, 9, LATER + 10).context(51));
    let (message, at_ns) = (MessageKey(7), (LATER + 20) * 1_000);
    s.engine.fetched(CallId(3), Receipt { message, receiver: QUEUE, at_ns, again: false });
    s.end(3, LATER + 20).end(2, LATER + 100).tick(2 * LATER);
    s.is_child(3, 2);
    assert_eq!(s.of(3).links, [(origin(&s, 1), LinkReason::Message)]);
}

/// A delivery that the process handles.
fn handled(s: &mut Scenario, id: u64, tid: u32, at_us: u64, automatic: bool) {
    let mut told = receiving(client(id, 9, at_us)).on(77, id).tid(tid).incidental();
    told.0.task.blocking = false;
    s.start(told);
    s.engine.handles(CallId(id), automatic);
}

/// A whole call by its thread's own code.
fn own(s: &mut Scenario, id: u64, tid: u32, at_us: u64) {
    s.start(client(id, 9, at_us).tid(tid));
    s.engine.by_thread(CallId(id));
    s.end(id, at_us + 5);
}

#[test]
fn a_call_is_the_messages_that_its_thread_handles() {
    let mut s = Scenario::new();
    handled(&mut s, 1, 5, 0, false);
    handled(&mut s, 2, 6, 0, false);
    own(&mut s, 3, 5, 10);
    own(&mut s, 4, 6, 10);
    s.end(1, 100).end(2, 100).tick(LATER);
    s.is_child(3, 1);
    s.is_child(4, 2);
}

#[test]
fn of_several_messages_the_first_is_handled_until_it_is_settled() {
    let mut s = Scenario::new();
    for id in [1, 2, 3] {
        handled(&mut s, id, 5, 0, false);
    }
    own(&mut s, 10, 5, 10);
    s.end(1, 50);
    // It may go on with the first, or have begun the second.
    own(&mut s, 11, 5, 60);
    s.end(2, 100).end(3, 200).tick(LATER);
    s.is_child(10, 1);
    s.is_withheld(11, Withheld::Concurrent);
}

#[test]
fn a_thread_that_goes_on_after_the_settlement_is_doubted_from_then_on() {
    let mut s = Scenario::new();
    handled(&mut s, 1, 5, 0, false);
    s.end(1, 10);
    own(&mut s, 10, 5, 20);
    handled(&mut s, 2, 5, 5_000, false);
    own(&mut s, 11, 5, 5_010);
    s.end(2, 5_100).tick(LATER);
    s.is_withheld(10, Withheld::LateWork);
    s.is_withheld(11, Withheld::LateWork);
}

#[test]
fn messages_that_are_settled_together_are_not_handled_one_by_one() {
    let mut s = Scenario::new();
    handled(&mut s, 1, 5, 0, false);
    handled(&mut s, 2, 5, 10, false);
    own(&mut s, 10, 5, 20);
    s.end(1, 100).end(2, 100).tick(LATER);
    s.is_withheld(10, Withheld::Concurrent);
}

#[test]
fn after_a_loss_nothing_is_certain_for_a_while() {
    let mut s = Scenario::new();
    handled(&mut s, 1, 5, 0, false);
    s.engine.messages_lost(ProcessId(9), 5_000);
    own(&mut s, 10, 5, 10);
    s.end(1, 100);
    handled(&mut s, 2, 5, 30_000_000, false);
    own(&mut s, 11, 5, 30_000_010);
    s.end(2, 30_000_100).tick(61_000_000);
    handled(&mut s, 3, 5, 61_000_000, false);
    own(&mut s, 12, 5, 61_000_010);
    s.end(3, 61_000_100).tick(LATER);
    s.is_withheld(10, Withheld::Lost);
    s.is_withheld(11, Withheld::Lost);
    s.is_child(12, 3);
}

/// The second may have been read before the first was handed over.
#[test]
fn what_is_done_for_messages_that_nobody_settles_is_withheld() {
    let mut s = Scenario::new();
    handled(&mut s, 1, 5, 0, true);
    s.end(1, 0);
    own(&mut s, 10, 5, 10);
    handled(&mut s, 2, 5, 1_000, true);
    s.end(2, 1_000);
    own(&mut s, 11, 5, 1_010);
    s.tick(LATER);
    s.is_withheld(10, Withheld::Concurrent);
    s.is_withheld(11, Withheld::Concurrent);
}

#[test]
fn a_handlers_context_decides_and_outlasts_the_settlement() {
    let mut s = Scenario::new();
    for (id, context) in [(1, 51), (2, 52)] {
        handled(&mut s, id, 1, 0, false);
        s.engine.handled_in(CallId(id), context, 5_000);
    }
    s.end(1, 50).end(2, 60);
    s.run(client(10, 9, 20).context(52), 30).run(client(11, 9, 70).context(51), 80);
    s.run(client(12, 9, 70), 80).tick(20_000_000);
    s.run(client(13, 9, 20_000_000).context(51), 20_000_010).tick(LATER);
    s.is_child(10, 2);
    s.is_child(11, 1);
    assert_ne!(s.of(12).status, ParentStatus::Certain);
    s.is_alone(13, ParentStatus::Root);
    assert_eq!(s.of(13).links, [(origin(&s, 1), LinkReason::LateWork)]);
}

#[test]
fn what_was_received_at_once_has_a_handler_for_each_part() {
    let mut s = Scenario::new();
    s.start(receiving(client(1, 9, 0)));
    s.engine.handled_in(CallId(1), 51, 10_000);
    s.engine.handled_in(CallId(1), 52, 20_000);
    s.run(client(10, 9, 30).context(51), 40).run(client(11, 9, 30).context(52), 40);
    s.end(1, 100).tick(LATER);
    s.is_child(10, 1);
    s.is_child(11, 1);
}
