//! A process's own span, by OpenTelemetry's conventions for command-line programs
//! (<https://opentelemetry.io/docs/specs/semconv/cli/cli-spans/>).
//!
//! Its name is the script's or the module's where the executable is an interpreter, which the conventions allow: both
//! are of few values.

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry_semantic_conventions::attribute as key;

use crate::call::{ProgramEnd, ProgramPlacement};
use crate::capture::Exit;
use crate::clock::WallClock;
use crate::process::Program;
use crate::semconv;
use crate::span::{Attribute, Resource, Span, SpanKind, Status};

/// What is known of a process that serves nothing.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it runs.
    pub program: Arc<Program>,
    /// Its number in the agent's pid namespace.
    pub pid: i32,
    /// The resource of its spans.
    pub resource: Arc<Resource>,
    /// When it was executed, CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// It did things before it was traced.
    pub found_running: bool,
    /// The process ran no other before, as far as is known: what the kernel counted of it is this program's.
    pub first: bool,
    /// How it exited, where that was told.
    pub exit: Option<Exit>,
    /// The distance to wall time when it began.
    pub wall: WallClock,
}

/// The span.
pub fn span(run: &Run, placement: ProgramPlacement) -> Span {
    let Program { name, executable, entry, arguments, .. } = &*run.program;
    let mut attributes = vec![
        Attribute::new(key::PROCESS_EXECUTABLE_NAME, executable.clone()),
        Attribute::new(key::PROCESS_PID, i64::from(run.pid)),
    ];
    if let Some(entry) = entry {
        attributes.push(Attribute::new(semconv::PROCESS_ENTRY, entry.clone()));
    }
    if !arguments.is_empty() {
        attributes.push(Attribute::new(key::PROCESS_COMMAND_ARGS, arguments.clone()));
    }
    if run.found_running {
        attributes.push(Attribute::new(semconv::PROCESS_FOUND_RUNNING, true));
    }
    let exit = run.exit.filter(|_| placement.end == ProgramEnd::Exited);
    if let Some(exit) = exit.filter(|_| run.first) {
        figures(exit, &mut attributes);
    }
    let status = exit.map_or(Status::Unset, |exit| exited(exit, &mut attributes));
    let end = match placement.end {
        ProgramEnd::Exited => None,
        ProgramEnd::Serves => Some(semconv::PROCESS_END_SERVES),
        ProgramEnd::Replaced => Some("replaced"),
        ProgramEnd::LetGo => Some("let_go"),
        ProgramEnd::Goes => Some("goes_on"),
    };
    attributes.extend(end.map(|end| Attribute::new(semconv::PROCESS_END, end)));
    let start = run.wall.unix_ns(run.start_ns);
    let duration = placement.end_ns.saturating_sub(run.start_ns);
    Span {
        trace_id: placement.trace_id,
        span_id: placement.span_id,
        parent_span_id: placement.parent_span_id,
        parent_is_remote: placement.parent_is_remote,
        trace_flags: placement.trace_flags,
        trace_state: placement.trace_state,
        kind: SpanKind::Internal,
        name: Cow::Owned(name.clone()),
        start_unix_ns: start,
        end_unix_ns: start.saturating_add(duration),
        attributes,
        dropped_attributes: 0,
        links: Vec::new(),
        status,
        resource: Arc::clone(&run.resource),
    }
}

/// What the kernel counted.
fn figures(exit: Exit, attributes: &mut Vec<Attribute>) {
    let mut add = |key: &'static str, figure: u64| {
        attributes.push(Attribute::new(key, i64::try_from(figure).unwrap_or(i64::MAX)));
    };
    add(semconv::RUN_DELAY_NS, exit.run_delay_ns);
    add(semconv::PROCESS_MAX_RSS_BYTES, exit.max_rss_bytes);
    if let Some(threads) = exit.threads {
        add(semconv::ON_CPU_TIME_NS, threads.on_cpu_ns);
        add(semconv::PROCESS_MAJOR_FAULTS, threads.major_faults);
        add(semconv::PROCESS_VOLUNTARY_SWITCHES, threads.voluntary_switches);
        add(semconv::PROCESS_INVOLUNTARY_SWITCHES, threads.involuntary_switches);
    }
}

/// What its exit says of a process.
fn exited(exit: Exit, attributes: &mut Vec<Attribute>) -> Status {
    // wait(2): the low seven bits are the signal's number.
    let (code, signal) = (exit.status >> 8 & 0xff, exit.status & 0x7f);
    if signal != 0 {
        let name = signal_name(signal);
        let text = format!("ended by {name}");
        attributes.push(Attribute::new(key::ERROR_TYPE, name));
        return Status::Error(Cow::Owned(text));
    }
    attributes.push(Attribute::new(key::PROCESS_EXIT_CODE, i64::from(code)));
    if code == 0 {
        return Status::Unset;
    }
    attributes.push(Attribute::new(key::ERROR_TYPE, code.to_string()));
    Status::Error(Cow::Owned(format!("exit code {code}")))
}

/// signal(7).
fn signal_name(signal: u32) -> Cow<'static, str> {
    let name = match signal.cast_signed() {
        libc::SIGABRT => "SIGABRT",
        libc::SIGALRM => "SIGALRM",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        other => return Cow::Owned(format!("signal {other}")),
    };
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ProgramId;
    use crate::capture::ThreadFigures;
    use crate::span::{SpanId, TraceId, Value};

    fn ended(end: ProgramEnd, status: u32, threads: Option<ThreadFigures>) -> Span {
        let program = Program {
            name: "pipeline.py".to_owned(),
            executable: "python3.11".to_owned(),
            entry: Some("/srv/pipeline.py".to_owned()),
            ..Program::default()
        };
        let run = Run {
            program: Arc::new(program),
            pid: 7,
            resource: Arc::new(Resource { attributes: Vec::new() }),
            start_ns: 100,
            found_running: false,
            first: true,
            exit: Some(Exit { status, run_delay_ns: 5, max_rss_bytes: 4_096, threads }),
            wall: WallClock::at_distance(1_000),
        };
        let placement = ProgramPlacement {
            id: ProgramId(1),
            wanted: true,
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            parent_span_id: None,
            parent_is_remote: false,
            trace_flags: 3,
            continued: false,
            trace_state: None,
            end_ns: 350,
            end,
        };
        span(&run, placement)
    }

    #[test]
    fn it_says_how_it_ended() {
        for (status, code, error, text) in [
            (0, Some(0), None, None),
            (3 << 8, Some(3), Some("3"), Some("exit code 3")),
            (9, None, Some("SIGKILL"), Some("ended by SIGKILL")),
            // With a core dump.
            (0x80 | 11, None, Some("SIGSEGV"), Some("ended by SIGSEGV")),
            (40, None, Some("signal 40"), Some("ended by signal 40")),
        ] {
            let span = ended(ProgramEnd::Exited, status, Some(ThreadFigures::default()));
            assert_eq!(span.int(key::PROCESS_EXIT_CODE), code, "{status}");
            assert_eq!(span.text(key::ERROR_TYPE), error, "{status}");
            let said = match &span.status {
                Status::Error(text) => Some(text.as_ref()),
                Status::Unset => None,
            };
            assert_eq!(said, text, "{status}");
            assert_eq!((span.start_unix_ns, span.end_unix_ns), (1_100, 1_350));
            assert_eq!(span.text(semconv::PROCESS_END), None);
        }
    }

    #[test]
    fn figures_that_are_not_of_all_threads_are_left_out() {
        let known = ended(
            ProgramEnd::Exited,
            0,
            Some(ThreadFigures { on_cpu_ns: 9, ..ThreadFigures::default() }),
        );
        assert_eq!(known.int(semconv::ON_CPU_TIME_NS), Some(9));
        let unknown = ended(ProgramEnd::Exited, 0, None);
        assert_eq!(unknown.int(semconv::ON_CPU_TIME_NS), None);
        assert_eq!(unknown.int(semconv::PROCESS_MAX_RSS_BYTES), Some(4_096));
    }

    #[test]
    fn one_that_goes_on_has_no_exit_code() {
        for (end, word) in [
            (ProgramEnd::Serves, "serves"),
            (ProgramEnd::Replaced, "replaced"),
            (ProgramEnd::LetGo, "let_go"),
            (ProgramEnd::Goes, "goes_on"),
        ] {
            let span = ended(end, 3 << 8, None);
            assert_eq!(span.text(semconv::PROCESS_END), Some(word));
            assert!(span.attributes.iter().all(|it| it.key != key::PROCESS_EXIT_CODE));
            assert_eq!(span.status, Status::Unset);
            assert!(
                !span.attributes.contains(&Attribute::new(semconv::RUN_DELAY_NS, Value::Int(5)))
            );
        }
    }
}
