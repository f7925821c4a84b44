//! The rules, one by one, in scenarios a person can read. Times are in microseconds.

mod bounds;
mod headers;
mod ids;
mod jobs;
mod join;
mod messages;
mod program;
mod single_in_flight;
mod task;

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
        incidental: false,
        receives: false,
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

    fn incidental(mut self) -> Self {
        self.0.incidental = true;
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
        assert!(placement.parent_is_remote && placement.continued);
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
