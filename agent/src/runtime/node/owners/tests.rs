//! Notes and records in every order and with holes: a call has its own number or none.

use proptest::prelude::*;

use super::*;

const PROCESS: ProcessId = ProcessId(1);
const COOKIE: u64 = 7;
const SOCKET: u64 = 3;
/// Where TCP's sequence began.
const BASE: u64 = 1_000_000;

fn local() -> SocketAddr {
    "127.0.0.1:4000".parse().unwrap()
}

fn remote() -> SocketAddr {
    "127.0.0.1:80".parse().unwrap()
}

/// A process with one connection, known from its beginning.
fn known() -> Owners {
    let mut owners = Owners::default();
    owners.begin(PROCESS, 1);
    owners.socket(PROCESS, COOKIE, (local(), remote()), 0);
    for (local, address) in [(true, local()), (false, remote())] {
        owners.note(PROCESS, Entry::End { socket: SOCKET, local, address }, 1);
    }
    owners
}

fn sent(at_ns: u64, offset: u64, length: u64) -> Sent {
    Sent { at_ns, offset: BASE + offset, length, lost: false }
}

/// A note of what is written at once.
fn range(start: u64, length: u64, owner: u64, sync_ns: Option<u64>) -> Entry {
    let sync = sync_ns.map(|at_ns| (at_ns, length));
    Entry::Range { socket: SOCKET, start, length, owner, message: false, sync }
}

fn settled(owners: &mut Owners, now_ns: u64) -> Vec<(u64, u64)> {
    let mut told = Vec::new();
    owners.settle(now_ns, &mut |call, number| told.push((call.0, number)));
    told.sort_unstable();
    told
}

fn client(owners: &mut Owners, call: u64, offset: u64, at_ns: u64) {
    owners.began(COOKIE, CallId(call), Role::Client, BASE + offset, at_ns);
}

#[test]
fn a_call_is_the_owners_of_the_bytes_where_it_begins() {
    let mut owners = known();
    owners.note(PROCESS, range(0, 10, 51, Some(100)), 1);
    owners.note(PROCESS, range(10, 10, 0, None), 1);
    owners.note(PROCESS, range(20, 10, 52, None), 1);
    owners.sent(COOKIE, sent(110, 0, 10));
    owners.sent(COOKIE, sent(120, 10, 20));
    client(&mut owners, 1, 0, 110);
    client(&mut owners, 2, 10, 120);
    client(&mut owners, 3, 20, 120);
    assert_eq!(settled(&mut owners, 200), [(1, 51), (2, NOBODY), (3, 52)]);
}

#[test]
fn a_connection_in_its_middle_is_lined_up_by_time() {
    let mut owners = known();
    // The script has counted 500 bytes, the kernel is somewhere.
    owners.sent(COOKIE, sent(90, 0, 40));
    owners.note(PROCESS, range(500, 10, 51, Some(100)), 1);
    owners.sent(COOKIE, sent(110, 40, 10));
    client(&mut owners, 1, 40, 110);
    assert_eq!(settled(&mut owners, 200), [(1, 51)]);
}

#[test]
fn nothing_is_lined_up_behind_a_hole() {
    for lost in [true, false] {
        let mut owners = known();
        owners.sent(COOKIE, sent(90, 0, 40));
        owners.note(PROCESS, range(500, 10, 51, Some(100)), 1);
        // The record of the send that was noted is lost: this is the next, as long as the first.
        let offset = if lost { 40 } else { 50 };
        owners.sent(COOKIE, Sent { lost, ..sent(120, offset, 10) });
        client(&mut owners, 1, offset, 120);
        assert!(settled(&mut owners, 200).is_empty());
    }
}

#[test]
fn a_note_of_before_is_not_lined_up() {
    let mut owners = Owners::default();
    owners.begin(PROCESS, 1);
    // What was sent before 300 was not told.
    owners.socket(PROCESS, COOKIE, (local(), remote()), 300);
    for (local, address) in [(true, local()), (false, remote())] {
        owners.note(PROCESS, Entry::End { socket: SOCKET, local, address }, 1);
    }
    owners.note(PROCESS, range(500, 10, 51, Some(290)), 1);
    owners.sent(COOKIE, sent(310, 10, 10));
    client(&mut owners, 1, 10, 310);
    assert!(settled(&mut owners, 400).is_empty());
}

#[test]
fn another_length_than_was_noted_lines_nothing_up() {
    let mut owners = known();
    owners.note(PROCESS, range(0, 10, 51, Some(100)), 1);
    owners.sent(COOKIE, sent(110, 0, 12));
    client(&mut owners, 1, 0, 110);
    assert!(settled(&mut owners, 200).is_empty());
}

#[test]
fn a_contradiction_ends_it_for_the_connection() {
    let mut owners = known();
    owners.note(PROCESS, range(0, 10, 51, Some(100)), 1);
    owners.sent(COOKIE, sent(110, 0, 10));
    client(&mut owners, 1, 0, 110);
    assert_eq!(settled(&mut owners, 200), [(1, 51)]);
    // The script has not counted what the kernel sent.
    owners.sent(COOKIE, sent(210, 10, 5));
    owners.note(PROCESS, range(10, 10, 52, Some(300)), 1);
    owners.sent(COOKIE, sent(310, 15, 10));
    client(&mut owners, 2, 15, 310);
    assert!(settled(&mut owners, 400).is_empty());
    assert_eq!(owners.contradictions, 1);
    owners.note(PROCESS, range(20, 10, 53, Some(500)), 1);
    owners.sent(COOKIE, sent(510, 25, 10));
    client(&mut owners, 3, 25, 510);
    assert!(settled(&mut owners, 600).is_empty());
}

#[test]
fn a_range_belongs_to_calls_only_from_its_beginning() {
    let mut owners = known();
    owners.note(PROCESS, range(0, 10, 51, Some(100)), 1);
    owners.note(PROCESS, range(10, 20, 52, None), 1);
    owners.sent(COOKIE, sent(110, 0, 10));
    owners.sent(COOKIE, sent(120, 10, 20));
    // In the middle of what the script took for one command.
    client(&mut owners, 1, 15, 120);
    assert!(settled(&mut owners, 200).is_empty());
    // Several of one owner, from the first on.
    owners.note(PROCESS, range(30, 20, 53, None), 1);
    client(&mut owners, 2, 30, 130);
    client(&mut owners, 3, 40, 130);
    assert_eq!(settled(&mut owners, 300), [(2, 53), (3, 53)]);
}

fn server(owners: &mut Owners, call: u64, at_ns: u64) {
    owners.began(COOKIE, CallId(call), Role::Server, 0, at_ns);
}

fn inbound(owners: &mut Owners, at_ns: u64, owner: u64) {
    owners.note(PROCESS, Entry::Inbound { socket: SOCKET, at_ns, owner }, 1);
}

#[test]
fn a_request_is_the_last_that_was_read_before_the_note() {
    let mut owners = known();
    server(&mut owners, 1, 100);
    owners.over(COOKIE, CallId(1));
    server(&mut owners, 2, 200);
    owners.over(COOKIE, CallId(2));
    inbound(&mut owners, 110, 51);
    inbound(&mut owners, 210, 52);
    assert_eq!(settled(&mut owners, 300), [(1, 51), (2, 52)]);
    // One whose note comes before it is told.
    inbound(&mut owners, 410, 53);
    assert!(settled(&mut owners, 420).is_empty());
    server(&mut owners, 3, 400);
    assert_eq!(settled(&mut owners, 430), [(3, 53)]);
}

#[test]
fn requests_that_overlap_on_a_connection_have_no_number() {
    let mut owners = known();
    server(&mut owners, 1, 100);
    server(&mut owners, 2, 100);
    inbound(&mut owners, 110, 51);
    inbound(&mut owners, 111, 52);
    assert!(settled(&mut owners, 200).is_empty());
}

#[test]
fn a_request_of_before_has_no_number() {
    let mut owners = Owners::default();
    owners.begin(PROCESS, 150);
    owners.socket(PROCESS, COOKIE, (local(), remote()), 150);
    for (local, address) in [(true, local()), (false, remote())] {
        owners.note(PROCESS, Entry::End { socket: SOCKET, local, address }, 1);
    }
    server(&mut owners, 1, 100);
    // The record of the next one was lost.
    inbound(&mut owners, 210, 52);
    assert!(settled(&mut owners, 300).is_empty());
    owners.over(COOKIE, CallId(1));
    server(&mut owners, 3, 400);
    inbound(&mut owners, 410, 53);
    assert_eq!(settled(&mut owners, 500), [(3, 53)]);
    // Notes were lost: of what was read until then, nobody knows.
    owners.over(COOKIE, CallId(3));
    owners.lost(PROCESS, 700);
    server(&mut owners, 4, 600);
    inbound(&mut owners, 710, 55);
    assert!(settled(&mut owners, 800).is_empty());
}

#[test]
fn what_is_over_is_forgotten() {
    let mut owners = known();
    client(&mut owners, 1, 0, 100);
    owners.note(PROCESS, range(50, 10, 51, Some(100)), 100);
    assert!(settled(&mut owners, 100 + 2 * WAIT_NS).is_empty());
    assert!(owners.active.is_empty());
    owners.gone(COOKIE);
    assert!(owners.connections.is_empty() && owners.processes[&PROCESS].cookies.is_empty());
    owners.end(PROCESS);
    assert!(!owners.knows(PROCESS));
}

/// One write of the script's: its length, its owner, whether it is noted, whether its record is lost, and
/// whether its note comes a round late.
type Write = (u64, u64, bool, bool, bool);

proptest! {
    /// Whatever is lost, on either side, and however late: what is told is true.
    #[test]
    fn nothing_is_told_that_is_not_true(
        base in 0_u64..1000,
        writes in prop::collection::vec(
            (prop_oneof![Just(10_u64), 1_u64..40], 1_u64..5, any::<bool>(), prop::bool::weighted(0.1), any::<bool>()),
            1..60,
        ),
        sync_every in 1_usize..5,
    ) {
        let writes: Vec<Write> = writes;
        let mut owners = known();
        let (mut offset, mut at_ns, mut truth) = (0, 1000, FxHashMap::default());
        let (mut held, mut was_lost) = (Vec::new(), false);
        for (index, &(length, owner, noted, lost, late)) in writes.iter().enumerate() {
            let owner = 100 * owner + index as u64;
            let sync = (index % sync_every == 0).then_some(at_ns);
            for note in held.drain(..) {
                owners.note(PROCESS, note, at_ns);
            }
            if noted {
                let note = range(base + offset, length, owner, sync);
                if late { held.push(note) } else { owners.note(PROCESS, note, at_ns) }
            }
            at_ns += 50;
            if !lost {
                owners.sent(COOKIE, Sent { lost: was_lost, ..sent(at_ns, offset, length) });
                client(&mut owners, index as u64, offset, at_ns);
            }
            was_lost = lost;
            truth.insert(index as u64, owner);
            offset += length;
            at_ns += 50;
            if index % 3 == 0 {
                for (call, number) in settled(&mut owners, at_ns) {
                    prop_assert_eq!(Some(&number), truth.get(&call));
                }
            }
        }
        for (call, number) in settled(&mut owners, at_ns) {
            prop_assert_eq!(Some(&number), truth.get(&call));
        }
    }
}
