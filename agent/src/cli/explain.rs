//! `wirespan explain` and `wirespan tap`: what a running agent says of one process, and the traces that it makes.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write as _};
use std::process::ExitCode;

use crate::cli::{ExplainArgs, NOT_RUNNING, TapArgs, complain, print};
use crate::config::Config;
use crate::config::plan::{Flags, Plan};
use crate::control::{self, AskError};
use crate::explain::Explanation;
use crate::export::TapRequest;
use crate::process::ProcFs;

/// The process is not traced.
const NOT_TRACED: u8 = 1;

pub(super) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (answer, running) = match control::explain(&args.control_socket, args.pid) {
        Ok(answer) => (answer, true),
        Err(AskError::NotRunning(_)) => (without_agent(args)?, false),
        Err(error) => return Err(error.into()),
    };
    if args.json {
        print(&serde_json::to_string_pretty(&answer)?);
    } else {
        if !running {
            complain("No agent runs. What it would do, by the configuration file:");
        }
        let mut text = String::new();
        render(&answer, running, &mut text)?;
        print(text.trim_end());
    }
    Ok(match (running, answer.traced) {
        (false, _) => ExitCode::from(NOT_RUNNING),
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(NOT_TRACED),
    })
}

/// What the configuration file says of a process that no agent looks at.
fn without_agent(args: &ExplainArgs) -> anyhow::Result<Explanation> {
    let config: Option<Config> =
        super::configured(args.config.as_deref())?.map(|(_, config)| config);
    let plan = Plan::new(&config.unwrap_or_default(), &Flags::default(), super::variable)?;
    let mut procfs = ProcFs::new("/proc");
    procfs.want(plan.rules.wants());
    Ok(Explanation::would_be(args.pid, &procfs, &plan.rules))
}

fn render(answer: &Explanation, running: bool, text: &mut String) -> std::fmt::Result {
    let verdict = match (answer.traced, running) {
        (true, true) => "is traced",
        (false, true) => "is not traced",
        (true, false) => "would be traced",
        (false, false) => "would not be traced",
    };
    writeln!(text, "{} {verdict}: {}", answer.pid, answer.because)?;
    let width = answer.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    if width > 0 {
        writeln!(text)?;
    }
    for (name, value) in &answer.facts {
        writeln!(text, "  {name:<width$}  {value}")?;
    }
    for (index, rule) in answer.rules.iter().enumerate() {
        writeln!(text, "\nrules[{index}]: {}", rule.rule)?;
        for unmet in &rule.unmet {
            writeln!(text, "  does not hold: {unmet}")?;
        }
    }
    if !answer.connections.is_empty() {
        writeln!(text, "\nconnections")?;
    }
    for connection in &answer.connections {
        let open = match connection.open_calls {
            0 => String::new(),
            open => format!(", {open} calls open"),
        };
        writeln!(
            text,
            "  {:<48} {:<6} {}, {} bytes{open}",
            connection.ends, connection.role, connection.state, connection.bytes
        )?;
    }
    if answer.connections_more > 0 {
        writeln!(text, "  and {} more", answer.connections_more)?;
    }
    if let Some(books) = &answer.books {
        let (kernel, agent) = (&books.kernel, &books.agent);
        writeln!(
            text,
            "\noperations  seen {} = read {} + dropped {}",
            kernel.operations_seen, agent.operations, kernel.operations_dropped
        )?;
        writeln!(
            text,
            "bytes       seen {} = captured {} + over budget {} + other syscalls {} + unreadable {} + special {} \
             + dropped {}",
            kernel.bytes_seen,
            kernel.bytes_captured,
            kernel.bytes_over_budget,
            kernel.bytes_other_syscall,
            kernel.bytes_unreadable,
            kernel.bytes_special,
            kernel.bytes_dropped,
        )?;
        writeln!(
            text,
            "calls       begun {} = spans {} + ignored {} + unsampled {} + silent {} + abandoned {} + open {}",
            agent.calls,
            agent.calls_spans,
            agent.calls_ignored,
            agent.calls_unsampled,
            agent.calls_silent,
            agent.calls_abandoned,
            agent.calls_open,
        )?;
        writeln!(
            text,
            "parents     certain {}, root {}, withheld {}",
            agent.parents_certain, agent.parents_none, agent.parents_withheld
        )?;
    }
    for (index, remedy) in answer.remedies.iter().enumerate() {
        writeln!(text, "{}- {remedy}", if index == 0 { "\n" } else { "" })?;
    }
    Ok(())
}

pub(super) fn tap(args: &TapArgs) -> anyhow::Result<ExitCode> {
    let stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
    let request = TapRequest {
        service: args.service.clone(),
        route: args.route.clone(),
        errors: args.errors,
        slower_than_ms: args.slower_than.map(|time| time.0.as_secs_f64() * 1e3),
        columns: columns.filter(|columns| *columns > 0).unwrap_or(80),
        color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        traceparent: args.traceparent,
    };
    let mut stream = match control::tap(&args.control_socket, &request) {
        Ok(stream) => stream,
        Err(error @ AskError::NotRunning(_)) => {
            complain(&format!("wirespan: {error}"));
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    let mut bytes = [0; 16 << 10];
    loop {
        let read = match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let mut stdout = stdout.lock();
        let text = bytes.get(..read).unwrap_or_default();
        // A reader that has left is no reason to fail.
        if stdout.write_all(text).and_then(|()| stdout.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    complain("wirespan: the agent ended");
    Ok(ExitCode::SUCCESS)
}
