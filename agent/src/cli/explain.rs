//! `wirespan explain`: what a running agent says of one process.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::{ExplainArgs, NOT_RUNNING, complain, print};
use crate::config::Config;
use crate::config::plan::{Flags, Plan};
use crate::control::{self, AskError};
use crate::explain::Explanation;

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
    let procfs = super::procfs(&plan)?;
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
