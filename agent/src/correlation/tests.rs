//! The rules, one by one, in scenarios a person can read. Times are in microseconds.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use wirespan_protocols::w3c::{SpanId, TraceId, TraceParent};

use super::*;
use crate::call::{ParentStatus, RemoteParent, Task, Withheld};

/// Long after everything.
const LATER: u64 = 100_000_000;

struct Scenario {
    engine: Engine,
    placed: BTreeMap<u64, Placement>,
}

/// A call to be told; the builder's methods say how it differs from an event loop's plain call.
#[derive(Clone)]
struct Told(CallStarted);

fn server(id: u64, process: u64, at_us: u64) -> Told {
    call(id, process, Role::Server, at_us)
}

fn client(id: u64, process: u64, at_us: u64) -> Told {
    call(id, process, Role::Client, at_us)
}

fn call(id: u64, process: u64, role: Role, at_us: u64) -> Told {
    Told(CallStarted {
        id: CallId(id),
        process: ProcessId(process),
        // A socket of its own.
        socket: SocketId(1_000 + id),
        role,
        task: Task { tid: 1, context: 0, blocking: false },
        at_ns: at_us * 1_000,
        offset: id << 8,
        remote: None,
    })
}

impl Told {
    fn thread(mut self, tid: u32) -> Self {
        self.0.task = Task { tid, blocking: true, ..self.0.task };
        self
    }

    fn tid(mut self, tid: u32) -> Self {
        self.0.task.tid = tid;
        self
    }

    fn context(mut self, context: u64) -> Self {
        self.0.task.context = context;
        self
    }

    fn on(mut self, socket: u64, offset: u64) -> Self {
        self.0.socket = SocketId(socket);
        self.0.offset = offset;
        self
    }

    fn header(mut self, trace: u8, span: u8) -> Self {
        self.0.remote = Some(RemoteParent {
            parent: TraceParent {
                trace_id: TraceId([trace; 16]),
                span_id: SpanId([span; 8]),
                flags: 0x00,
            },
            state: Some("vendor=x".into()),
        });
        self
    }
}

impl Scenario {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let ids = RandomIds(SmallRng::seed_from_u64(1));
        Self { engine: Engine::new(config, Box::new(ids)), placed: BTreeMap::new() }
    }

    fn start(&mut self, call: Told) -> &mut Self {
        self.engine.started(call.0);
        self
    }

    fn end(&mut self, id: u64, at_us: u64) -> &mut Self {
        self.engine.ended(CallEnded { id: CallId(id), at_ns: at_us * 1_000 });
        self
    }

    /// A whole call.
    fn run(&mut self, call: Told, until_us: u64) -> &mut Self {
        let id = call.0.id.0;
        self.start(call).end(id, until_us)
    }

    fn pair(&mut self, a: u64, b: u64) -> &mut Self {
        self.engine.paired(SocketId(a), SocketId(b));
        self
    }

    fn abandon(&mut self, id: u64, at_us: u64) -> &mut Self {
        self.engine.abandoned(CallId(id), at_us * 1_000);
        self
    }

    fn tick(&mut self, at_us: u64) -> &mut Self {
        let placed = &mut self.placed;
        self.engine.tick(at_us * 1_000, &mut |placement| {
            assert!(placed.insert(placement.id.0, placement).is_none(), "placed twice");
        });
        assert!(self.engine.books().balanced(), "{:?}", self.engine.books());
        self
    }

    fn flush(&mut self) -> &mut Self {
        let placed = &mut self.placed;
        self.engine.flush(&mut |placement| {
            assert!(placed.insert(placement.id.0, placement).is_none(), "placed twice");
        });
        assert!(self.engine.books().balanced(), "{:?}", self.engine.books());
        self
    }

    #[track_caller]
    fn of(&self, id: u64) -> &Placement {
        self.placed.get(&id).unwrap_or_else(|| panic!("{id} is not placed"))
    }

    #[track_caller]
    fn is_child(&self, child: u64, parent: u64) {
        let (child, parent) = (self.of(child), self.of(parent));
        assert_eq!(child.status, ParentStatus::Certain);
        assert_eq!(child.parent_call, Some(parent.id));
        assert_eq!(child.parent_span_id, Some(parent.span_id));
        assert!(!child.parent_is_remote);
        assert_eq!(child.trace_id, parent.trace_id);
        assert_eq!(child.trace_flags, parent.trace_flags);
        assert_eq!(child.trace_state, parent.trace_state);
    }

    #[track_caller]
    fn is_remote(&self, id: u64, trace: u8, span: u8) {
        let placement = self.of(id);
        assert_eq!(placement.status, ParentStatus::Certain);
        assert_eq!(placement.trace_id, TraceId([trace; 16]));
        assert_eq!(placement.parent_span_id, Some(SpanId([span; 8])));
        assert!(placement.parent_is_remote);
        assert_eq!(placement.parent_call, None);
        assert_eq!(placement.trace_flags, 0, "the sampled bit is the caller's");
        assert_eq!(placement.trace_state.as_deref(), Some("vendor=x"));
    }

    #[track_caller]
    fn is_alone(&self, id: u64, status: ParentStatus) {
        let placement = self.of(id);
        assert_eq!(placement.status, status);
        assert_eq!((placement.parent_span_id, placement.parent_call), (None, None));
    }

    #[track_caller]
    fn is_withheld(&self, id: u64, reason: Withheld) {
        self.is_alone(id, ParentStatus::Withheld(reason));
    }
}

mod join {
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

    #[test]
    fn any_order_of_telling_is_the_same() {
        for order in 0..6 {
            let mut s = Scenario::new();
            let mut steps: Vec<Box<dyn Fn(&mut Scenario) -> &mut Scenario>> = vec![
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
}

mod headers {
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
}

mod task {
    use super::*;

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
        assert!(matches!(s.of(7).status, ParentStatus::Withheld(_)));
    }
}

mod single_in_flight {
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
}

mod ids {
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
    fn everything_is_placed_in_time() {
        let mut s = Scenario::new();
        s.pair(10, 20);
        s.start(server(1, 1, 0)).start(client(2, 1, 100).on(10, 7));
        s.run(server(3, 2, 150).on(20, 7), 400).end(2, 500).end(1, 600).tick(1_500_400);
        assert_eq!(s.placed.len(), 3);
    }
}

mod bounds {
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
}
