//! The single-in-flight rule and the evidence against it.

use super::*;

#[test]
fn sequential_requests_on_one_loop_are_certain() {
    let mut s = Scenario::new();
    for i in 0..100 {
        // 50 us between a response and the next request.
        let at = i * 1_000;
        s.start(server(3 * i, 1, at));
        s.run(client(3 * i + 1, 1, at + 10), at + 400);
        s.run(client(3 * i + 2, 1, at + 401), at + 900).end(3 * i, at + 950);
    }
    s.tick(LATER);
    for i in 0..100 {
        s.is_child(3 * i + 1, 3 * i);
        s.is_child(3 * i + 2, 3 * i);
    }
    assert_eq!(s.engine.books().certain, 200);
}

#[test]
fn calls_of_another_thread_are_the_requests_too() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).thread(5)).run(client(2, 1, 10).tid(6), 90).end(1, 100).tick(LATER);
    s.is_child(2, 1);
}

#[test]
fn two_in_flight_can_not_be_told_apart() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).run(client(2, 1, 10), 20).start(server(3, 1, 30));
    s.run(client(4, 1, 40), 50).end(1, 60).end(3, 100).tick(LATER);
    s.is_child(2, 1);
    s.is_withheld(4, Withheld::Concurrent);
}

#[test]
fn a_start_that_is_told_late_counts() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).run(client(2, 1, 10), 20).end(1, 60).tick(600_000);
    s.run(server(3, 1, 5), 70).tick(LATER);
    s.is_withheld(2, Withheld::Concurrent);
}

#[test]
fn a_call_with_none_in_flight_is_ambient_for_life() {
    let mut s = Scenario::new();
    s.run(client(1, 1, 0), 10).tick(5_000_000);
    s.start(server(2, 1, 5_000_000)).run(client(3, 1, 5_000_010), 5_000_020);
    s.end(2, 5_000_100).tick(LATER);
    s.is_alone(1, ParentStatus::Root);
    s.is_withheld(3, Withheld::Ambient);
}

#[test]
fn what_libraries_do_by_themselves_is_no_evidence_and_is_given_to_nobody_in_flight() {
    let mut s = Scenario::new();
    s.run(client(1, 1, 0).incidental(), 10).tick(5_000_000);
    s.start(server(2, 1, 5_000_000)).run(client(3, 1, 5_000_010), 5_000_020);
    s.run(client(4, 1, 5_000_030).incidental(), 5_000_040).end(2, 5_000_100).tick(LATER);
    s.is_alone(1, ParentStatus::Root);
    s.is_child(3, 2);
    s.is_withheld(4, Withheld::Ambient);
}

#[test]
fn what_waits_for_work_is_no_requests_late_work() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(client(2, 1, 10).incidental()).end(1, 100);
    s.start(server(3, 1, 200)).run(client(4, 1, 210), 220).end(3, 300).tick(LATER);
    s.is_child(4, 3);
}

#[test]
fn what_libraries_do_on_a_requests_own_thread_is_the_requests() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).thread(5)).run(client(2, 1, 10).thread(5).incidental(), 20);
    s.end(1, 100).tick(LATER);
    s.is_child(2, 1);
}

#[test]
fn ambient_calls_in_the_look_ahead_count_too() {
    let mut s = Scenario::new();
    s.start(server(2, 1, 0)).run(client(3, 1, 10), 20).end(2, 100);
    s.run(client(4, 1, 600_000), 600_010).tick(1_000_000);
    s.tick(LATER);
    s.is_withheld(3, Withheld::Ambient);
    s.is_withheld(4, Withheld::Ambient);
}

#[test]
fn a_request_that_leaves_a_call_open_casts_doubt_for_a_while() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(client(2, 1, 10)).end(1, 100).end(2, 5_000);
    s.start(server(3, 1, 10_000)).run(client(4, 1, 10_010), 10_020).end(3, 10_100);
    s.tick(5_200_000);
    s.start(server(5, 1, 5_200_000)).run(client(6, 1, 5_200_010), 5_200_020);
    s.end(5, 5_200_100).tick(LATER);
    s.is_child(2, 1);
    s.is_withheld(4, Withheld::LateWork);
    s.is_child(6, 5);
}

#[test]
fn an_opaque_connection_hides_requests() {
    let mut s = Scenario::new();
    let (process, tls) = (ProcessId(1), SocketId(99));
    s.engine.opaque_inbound(process, tls, true, 0);
    s.start(server(1, 1, 10)).run(client(2, 1, 20), 30).end(1, 40).tick(2_000_000);
    s.engine.socket_closed(tls, 2_000_000_000);
    s.start(server(3, 1, 3_000_000)).run(client(4, 1, 3_000_010), 3_000_020).end(3, 3_000_100);
    s.tick(8_000_000);
    s.start(server(5, 1, 8_000_000)).run(client(6, 1, 8_000_010), 8_000_020).end(5, 8_000_100);
    s.tick(LATER);
    s.is_withheld(2, Withheld::Opaque);
    s.is_withheld(4, Withheld::Opaque);
    s.is_child(6, 5);
}

#[test]
fn a_call_of_a_request_that_could_not_be_read_is_no_evidence_either() {
    let mut s = Scenario::new();
    let (process, socket) = (ProcessId(1), SocketId(99));
    s.engine.opaque_inbound(process, socket, true, 0);
    s.run(client(1, 1, 10), 20);
    s.engine.opaque_inbound(process, socket, false, 100_000);
    s.run(client(2, 1, 200), 210).tick(6_000_000);
    s.start(server(3, 1, 6_000_000)).run(client(4, 1, 6_000_010), 6_000_020);
    s.end(3, 6_000_100).tick(LATER);
    s.is_withheld(1, Withheld::Opaque);
    s.is_withheld(2, Withheld::Opaque);
    s.is_child(4, 3);
}

#[test]
fn lost_records_make_a_process_uncertain_for_a_while_and_are_no_evidence() {
    let mut s = Scenario::new();
    s.engine.inbound_lost(ProcessId(1), 0);
    // Made by a request that was in flight before anybody looked.
    s.run(client(1, 1, 10), 20);
    s.start(server(2, 1, 100)).run(client(3, 1, 110), 120).end(2, 200).tick(6_000_000);
    s.start(server(4, 1, 6_000_000)).run(client(5, 1, 6_000_010), 6_000_020);
    s.end(4, 6_000_100).tick(LATER);
    s.is_withheld(1, Withheld::Lost);
    s.is_withheld(3, Withheld::Lost);
    s.is_child(5, 4);
}

#[test]
fn a_request_that_broke_off_may_work_on() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).run(client(2, 1, 10), 20);
    s.engine.broken_off(CallEnded { id: CallId(1), at_ns: 100_000 });
    s.start(server(3, 1, 1_000)).run(client(4, 1, 1_010), 1_020).end(3, 1_100).tick(LATER);
    s.is_child(2, 1);
    s.is_withheld(4, Withheld::LateWork);
}

#[test]
fn an_abandoned_request_counts_until_its_connection_goes_on() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).on(20, 1)).run(client(2, 1, 10), 20).abandon(1, 30);
    s.start(server(3, 1, 40)).run(client(4, 1, 50), 60).end(3, 70).tick(2_000_000);
    s.start(server(5, 1, 2_000_000).on(20, 2)).run(client(6, 1, 2_000_010), 2_000_020);
    s.end(5, 2_000_100).tick(8_000_000);
    s.start(server(7, 1, 8_000_000)).run(client(8, 1, 8_000_010), 8_000_020);
    s.end(7, 8_000_100).tick(LATER);
    s.is_withheld(2, Withheld::Lost);
    s.is_withheld(4, Withheld::Concurrent);
    s.is_withheld(6, Withheld::LateWork);
    s.is_child(8, 7);
}

#[test]
fn a_process_that_never_serves_makes_roots() {
    let mut s = Scenario::new();
    s.run(client(1, 1, 0), 10).tick(250_000);
    s.is_alone(1, ParentStatus::Root);
}
