//! What the calls themselves say of their parents.

use super::*;

#[test]
fn a_server_call_continues_what_it_received() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).header(7, 8)).run(client(2, 1, 10), 90).end(1, 100).tick(LATER);
    s.is_remote(1, 7, 8);
    s.is_child(2, 1);
}

#[test]
fn a_join_outranks_the_servers_header() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.run(client(1, 1, 0).on(10, 7), 1_000);
    s.run(server(2, 2, 50).on(20, 7).header(7, 8), 900).tick(LATER);
    s.is_child(2, 1);
}

#[test]
fn a_client_that_forwards_the_trace_keeps_its_local_parent() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0).header(7, 8)).run(client(2, 1, 10).header(7, 9), 90);
    s.end(1, 100).tick(LATER);
    s.is_child(2, 1);
}

#[test]
fn a_client_in_a_trace_of_its_own_follows_its_header() {
    let mut s = Scenario::new();
    s.pair(10, 20);
    s.start(server(1, 1, 0)).start(client(2, 1, 10).header(7, 9).on(10, 7));
    s.run(server(3, 2, 20).on(20, 7).header(7, 9), 80).end(2, 90).end(1, 100).tick(LATER);
    s.is_remote(2, 7, 9);
    s.is_child(3, 2);
    assert_ne!(s.of(1).trace_id, s.of(2).trace_id);
}

#[test]
fn a_client_that_would_be_withheld_follows_its_header() {
    let mut s = Scenario::new();
    s.start(server(1, 1, 0)).start(server(2, 1, 1)).run(client(3, 1, 10).header(7, 9), 90);
    s.end(1, 100).end(2, 100).tick(LATER);
    s.is_remote(3, 7, 9);
}
