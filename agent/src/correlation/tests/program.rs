//! Programs: processes that serve nothing, and what ends that.

use super::*;
use crate::call::{ProgramEnd, ProgramStarted};

/// Microseconds: longer than a call waits for what else was told of its moment.
const TOLD: u64 = 2_000_000;

fn program(id: u64, process: u64, at_us: u64) -> ProgramStarted {
    ProgramStarted {
        id: ProgramId(id),
        process: ProcessId(process),
        by: None,
        remote: None,
        at_ns: at_us * 1_000,
        until_ns: 3_600_000_000_000,
    }
}

impl Scenario {
    fn programs(&mut self) -> BTreeMap<u64, ProgramPlacement> {
        let told = self.engine.take_programs();
        let count = told.len();
        let told: BTreeMap<u64, _> = told.into_iter().map(|told| (told.id.0, told)).collect();
        assert_eq!(told.len(), count, "told twice");
        told
    }

    fn exits(&mut self, process: u64, at_us: u64) {
        self.engine.program_ended(ProcessId(process), at_us * 1_000, ProgramEnd::Exited);
        self.engine.process_gone(ProcessId(process), at_us * 1_000);
    }

    #[track_caller]
    fn is_of(&self, call: u64, program: &ProgramPlacement) {
        let call = self.of(call);
        assert_eq!(call.status, ParentStatus::Certain);
        assert_eq!(call.parent_span_id, Some(program.span_id));
        assert_eq!((call.trace_id, call.trace_flags), (program.trace_id, program.trace_flags));
        assert!(program.wanted && call.parent_call.is_none() && !call.parent_is_remote);
    }
}

#[test]
fn all_that_a_process_calls_is_one_trace_beneath_it() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    s.run(client(1, 1, 100), 200).run(client(2, 1, 150).context(9), 300);
    s.run(client(3, 1, 400).incidental(), 500);
    s.exits(1, 600);
    s.tick(LATER);
    let told = s.programs();
    assert_eq!((told[&1].end, told[&1].end_ns), (ProgramEnd::Exited, 600_000));
    assert_eq!(told[&1].parent_span_id, None);
    for call in 1..=3 {
        s.is_of(call, &told[&1]);
    }
    assert!(s.engine.programs.is_empty() && s.engine.processes.is_empty());
}

#[test]
fn one_that_exits_is_told_though_it_called_nobody_and_one_that_serves_is_not() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    s.engine.program_started(program(2, 2, 0));
    s.exits(1, 10);
    s.engine.serves(ProcessId(2), 10_000);
    s.exits(2, 20);
    s.tick(LATER);
    let told = s.programs();
    assert!(told[&1].wanted && !told[&2].wanted);
    assert_eq!(told[&2].end, ProgramEnd::Serves);
    assert!(s.engine.programs.is_empty());
}

#[test]
fn what_came_before_a_server_listened_is_its_start_and_what_comes_after_is_not() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    s.run(client(1, 1, 100), 200).tick(TOLD);
    s.engine.serves(ProcessId(1), TOLD * 1_000);
    s.run(client(2, 1, TOLD + 10), TOLD + 20).tick(3 * TOLD);
    s.start(server(3, 1, 3 * TOLD)).run(client(4, 1, 3 * TOLD + 10), 3 * TOLD + 20);
    s.end(3, 3 * TOLD + 30).tick(LATER);
    let told = s.programs();
    assert_eq!((told[&1].end, told[&1].end_ns), (ProgramEnd::Serves, TOLD * 1_000));
    s.is_of(1, &told[&1]);
    s.is_alone(2, ParentStatus::Root);
    // It made calls of its own.
    s.is_withheld(4, Withheld::Ambient);
}

#[test]
fn a_request_ends_it_and_so_does_a_message() {
    for receives in [false, true] {
        let mut s = Scenario::new();
        s.engine.program_started(program(1, 1, 0));
        s.run(client(1, 1, 100), 200).tick(TOLD);
        let mut first = if receives { client(2, 1, TOLD) } else { server(2, 1, TOLD) };
        first.0.receives = receives;
        s.run(first, TOLD + 10).tick(LATER);
        let told = s.programs();
        assert_eq!(told[&1].end_ns, TOLD * 1_000);
        s.is_of(1, &told[&1]);
        assert_ne!(s.of(2).trace_id, told[&1].trace_id);
    }
}

#[test]
fn a_call_that_is_under_way_when_its_start_is_over_still_has_its_parent() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    s.start(client(1, 1, 100)).tick(TOLD);
    s.engine.serves(ProcessId(1), TOLD * 1_000);
    s.tick(10 * TOLD);
    let told = s.programs();
    s.end(1, 20 * TOLD).tick(LATER);
    s.is_of(1, &told[&1]);
}

#[test]
fn its_variables_trace_goes_on_and_so_does_the_flag() {
    let mut s = Scenario::new();
    let remote = server(0, 0, 0).header(7, 8).0.remote;
    s.engine.program_started(ProgramStarted { remote, ..program(1, 1, 0) });
    s.run(client(1, 1, 100), 200);
    // It hands the variable on by itself, and something else's.
    s.run(client(2, 1, 300).header(7, 8), 400).run(client(3, 1, 500).header(5, 6), 600);
    s.exits(1, 700);
    s.tick(LATER);
    let told = s.programs();
    assert_eq!(told[&1].trace_id, TraceId([7; 16]));
    assert_eq!(told[&1].parent_span_id, Some(SpanId([8; 8])));
    assert!(told[&1].parent_is_remote && told[&1].continued);
    assert_eq!((told[&1].trace_flags, told[&1].trace_state.as_deref()), (0, Some("vendor=x")));
    s.is_of(1, &told[&1]);
    s.is_of(2, &told[&1]);
    s.is_remote(3, 5, 6);
}

#[test]
fn a_fork_is_a_part_of_its_parent_and_what_it_executes_is_beneath() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    for (child, at) in [(2, 10), (3, 20)] {
        s.engine.process_started(ProcessId(child));
        s.engine.forked(ProcessId(child), ProcessId(1));
        s.run(client(child, child, at + 1), at + 5);
    }
    s.tick(TOLD);
    s.engine.program_started(program(3, 3, TOLD));
    s.run(client(13, 3, TOLD + 10), TOLD + 20);
    s.exits(3, TOLD + 30);
    // A child may go on alone.
    s.exits(1, TOLD + 40);
    s.tick(3 * TOLD).exits(2, 3 * TOLD);
    s.tick(LATER);
    let told = s.programs();
    assert_eq!(told.len(), 2);
    s.is_of(2, &told[&1]);
    s.is_of(3, &told[&1]);
    s.is_of(13, &told[&3]);
    assert_eq!(told[&3].trace_id, told[&1].trace_id);
    assert_eq!(told[&3].parent_span_id, Some(told[&1].span_id));
    assert!(!told[&3].parent_is_remote && s.engine.programs.is_empty());
}

#[test]
fn a_program_beneath_one_that_is_never_told_is_a_root() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    s.engine.program_started(ProgramStarted { by: Some(ProcessId(1)), ..program(2, 2, 10) });
    s.engine.serves(ProcessId(1), 20_000);
    s.tick(TOLD).exits(2, TOLD);
    s.exits(1, TOLD);
    s.tick(LATER);
    let told = s.programs();
    assert!(!told[&1].wanted && told[&2].wanted);
    assert_eq!(told[&2].parent_span_id, None);
    assert!(s.engine.programs.is_empty());
}

#[test]
fn an_inherited_variable_is_the_parents_and_another_is_its_own() {
    for (own, is_beneath) in [(8, true), (9, false)] {
        let mut s = Scenario::new();
        let remote = |span| server(0, 0, 0).header(7, span).0.remote;
        s.engine.program_started(ProgramStarted { remote: remote(8), ..program(1, 1, 0) });
        let by = Some(ProcessId(1));
        s.engine.program_started(ProgramStarted { by, remote: remote(own), ..program(2, 2, 10) });
        s.exits(2, 20);
        s.exits(1, 30);
        s.tick(LATER);
        let told = s.programs();
        let expected = if is_beneath { told[&1].span_id } else { SpanId([9; 8]) };
        assert_eq!(told[&2].parent_span_id, Some(expected));
        assert_eq!(told[&2].parent_is_remote, !is_beneath);
    }
}

#[test]
fn a_daemon_is_told_when_its_time_is_over() {
    let mut s = Scenario::new();
    s.engine.program_started(ProgramStarted { until_ns: TOLD * 1_000, ..program(1, 1, 0) });
    s.run(client(1, 1, 100), 200).tick(TOLD).run(client(2, 1, TOLD + 1), TOLD + 2);
    s.tick(2 * TOLD).tick(3 * TOLD);
    let told = s.programs();
    assert_eq!((told[&1].end, told[&1].end_ns), (ProgramEnd::Goes, TOLD * 1_000));
    s.is_of(1, &told[&1]);
    s.exits(1, 3 * TOLD);
    s.tick(LATER);
    s.is_alone(2, ParentStatus::Root);
    assert!(s.programs().is_empty() && s.engine.programs.is_empty());
}

#[test]
fn an_agent_that_ends_tells_of_what_runs_if_something_is_beneath_it() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    s.engine.program_started(program(2, 2, 0));
    s.engine.program_started(ProgramStarted { by: Some(ProcessId(1)), ..program(3, 3, 1) });
    s.run(client(1, 3, 100), 200).tick(TOLD).flush();
    let told = s.programs();
    assert_eq!(told.values().map(|told| told.wanted).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((told[&3].end, told[&3].end_ns), (ProgramEnd::Goes, TOLD * 1_000));
    assert_eq!(told[&3].parent_span_id, Some(told[&1].span_id));
    s.is_of(1, &told[&3]);
}

#[test]
fn who_executes_for_ever_is_not_kept_for_ever() {
    let mut s = Scenario::new();
    for number in 1..100 {
        s.engine.program_started(program(number, 1, number * TOLD));
        s.tick(number * TOLD + TOLD);
        assert!(s.engine.programs.len() <= 2, "{:?}", s.engine.programs);
    }
    s.exits(1, 100 * TOLD);
    s.tick(200 * TOLD);
    assert_eq!(s.programs().values().filter(|told| told.wanted).count(), 1);
    assert!(s.engine.programs.is_empty());
}

#[test]
fn what_executes_again_goes_on_beneath_the_same_parent() {
    let mut s = Scenario::new();
    s.engine.program_started(program(1, 1, 0));
    s.engine.program_started(ProgramStarted { by: Some(ProcessId(1)), ..program(2, 2, 10) });
    s.run(client(1, 2, 20), 30).tick(TOLD);
    // Not placed yet when it does.
    s.run(client(2, 2, TOLD - 10), TOLD - 5);
    s.engine.program_started(ProgramStarted { by: Some(ProcessId(1)), ..program(3, 2, TOLD) });
    s.run(client(3, 2, TOLD + 1), TOLD + 5);
    s.exits(2, TOLD + 10);
    s.exits(1, TOLD + 20);
    s.tick(LATER);
    let told = s.programs();
    assert_eq!(told[&2].end, ProgramEnd::Replaced);
    s.is_of(1, &told[&2]);
    s.is_of(2, &told[&2]);
    s.is_of(3, &told[&3]);
    for id in [2, 3] {
        assert_eq!(told[&id].parent_span_id, Some(told[&1].span_id));
    }
    assert!(s.engine.programs.is_empty());
}
