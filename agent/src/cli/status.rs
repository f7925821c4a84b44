//! `wirespan status`.

use std::fmt::Write;
use std::process::ExitCode;

use crate::books::{ConfigStatus, ExporterStatus, ProcessStatus, Status};
use crate::cli::{NOT_RUNNING, StatusArgs, complain, print};
use crate::control::{self, AskError};

const HEADER: [&str; 11] = [
    "PID",
    "SERVICE",
    "RUNTIME",
    "CONNS",
    "OPERATIONS",
    "DROPPED",
    "BYTES",
    "CALLS",
    "SPANS",
    "ABANDONED",
    "WITHHELD",
];

pub(super) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = match control::ask(&args.control_socket) {
        Ok(status) => status,
        Err(error @ AskError::NotRunning(_)) => {
            complain(&format!("wirespan: {error}"));
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        print(&serde_json::to_string_pretty(&status)?);
    } else {
        let mut text = String::new();
        render(&status, &mut text)?;
        print(text.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn render(status: &Status, text: &mut String) -> std::fmt::Result {
    writeln!(
        text,
        "wirespan {} (pid {}), ready for {} s\n",
        status.version, status.pid, status.uptime_seconds
    )?;
    configuration(&status.config, text)?;
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(status.processes.iter().map(|process| row(process, process.pid.to_string())));
    rows.push(row(&status.departed, "gone".to_owned()));
    rows.push(row(&status.total, "total".to_owned()));
    columns(&rows, text)?;
    for process in &status.processes {
        if let Some(context) = &process.context {
            let bindings = process.bindings.join(", ");
            let colon = if bindings.is_empty() { "" } else { ": " };
            writeln!(text, "\ncontext   {}: {context}{colon}{bindings}", process.pid)?;
        }
    }
    let (kernel, agent, calls) = (&status.total.kernel, &status.total.agent, &status.calls);
    writeln!(
        text,
        "\nbytes     seen {} = captured {} + over budget {} + other syscalls {} + unreadable {} \
         + special {} + dropped {}",
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
        "          read {} = parsed {} + not understood {} + waiting {}; unseen by any hook {}",
        agent.bytes,
        agent.bytes_parsed,
        agent.bytes_not_understood,
        agent.bytes_waiting,
        agent.bytes_unseen,
    )?;
    let withheld = calls.withheld();
    writeln!(
        text,
        "calls     begun {} = certain {} + root {} + withheld {withheld} + silent {} \
         + abandoned {} + evicted {} \
         + open {} + undecided {}",
        calls.started,
        calls.certain,
        calls.root,
        calls.silent,
        calls.abandoned,
        calls.evicted,
        calls.open,
        calls.waiting,
    )?;
    let (ignored, unsampled) =
        (status.total.agent.calls_ignored, status.total.agent.calls_unsampled);
    if ignored + unsampled > 0 {
        writeln!(text, "          without a span: ignored {ignored}, not sampled {unsampled}")?;
    }
    for exporter in &status.exporters {
        self::exporter(exporter, text)?;
    }
    for hook in status.hooks.iter().filter(|hook| hook.runs > 0) {
        let mean = hook.run_time_ns / hook.runs;
        writeln!(text, "hook      {:<22} {:>12} runs, {mean} ns each", hook.program, hook.runs)?;
    }
    for hook in status.hooks.iter().filter(|hook| hook.missed > 0) {
        writeln!(text, "hook      {}: {} runs missed", hook.program, hook.missed)?;
    }
    for wrong in status.check() {
        writeln!(text, "doesn't balance: {wrong}")?;
    }
    Ok(())
}

fn exporter(exporter: &ExporterStatus, text: &mut String) -> std::fmt::Result {
    let (name, disk) = (&exporter.name, exporter.disk.as_ref());
    write!(text, "exporter  {name}: offered {}", exporter.offered)?;
    if disk.is_some() {
        write!(text, " + restored {}", exporter.restored)?;
    }
    write!(
        text,
        " = exported {} + refused {} + queued {}",
        exporter.exported, exporter.refused, exporter.queued
    )?;
    if disk.is_some() {
        write!(text, " + on disk {}", exporter.on_disk)?;
    }
    writeln!(text)?;
    if exporter.missed > 0 {
        writeln!(text, "          missed {}, made while it was not configured", exporter.missed)?;
    }
    if exporter.removed {
        writeln!(text, "          taken out of the configuration")?;
    }
    if let Some(disk) = disk {
        writeln!(text, "          disk queue: {} of {} bytes", disk.bytes, disk.max_bytes)?;
        if disk.damaged_spans + disk.damaged_bytes > 0 {
            writeln!(
                text,
                "          disk queue: damaged: {} spans are refused, {} bytes held none at the start",
                disk.damaged_spans, disk.damaged_bytes
            )?;
        }
        if let Some(error) = &disk.error {
            writeln!(text, "          disk queue fails, spans wait in memory only: {error}")?;
        }
    }
    if let Some(error) = &exporter.last_error {
        writeln!(text, "          last error: {error}")?;
    }
    Ok(())
}

fn configuration(config: &ConfigStatus, text: &mut String) -> std::fmt::Result {
    let Some(file) = &config.file else { return Ok(()) };
    writeln!(text, "config    {file}: read again {}, refused {}", config.reloads, config.refused)?;
    if let Some(error) = &config.last_error {
        writeln!(text, "          refused, what was read before is in force: {error}")?;
    }
    if !config.needs_restart.is_empty() {
        writeln!(
            text,
            "          changed, but read at the start only: {}",
            config.needs_restart.join(", ")
        )?;
    }
    writeln!(text)
}

fn row(process: &ProcessStatus, name: String) -> [String; 11] {
    [
        name,
        process.service.clone(),
        process.runtime.clone(),
        process.connections.to_string(),
        process.kernel.operations_seen.to_string(),
        process.kernel.operations_dropped.to_string(),
        process.kernel.bytes_seen.to_string(),
        process.agent.calls.to_string(),
        process.agent.calls_spans.to_string(),
        process.agent.calls_abandoned.to_string(),
        process.agent.parents_withheld.to_string(),
    ]
}

/// Text columns left, numbers right.
fn columns(rows: &[[String; 11]], text: &mut String) -> std::fmt::Result {
    let mut widths = [0; 11];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            if index < 3 {
                write!(line, "{cell:<width$}  ")?;
            } else {
                write!(line, "{cell:>width$}  ")?;
            }
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::DiskStatus;

    #[test]
    fn an_exporter_has_a_disk_queue_s_columns_where_it_has_one() {
        let mut status =
            ExporterStatus { name: "otlp".to_owned(), offered: 5, ..Default::default() };
        let shown = |status: &ExporterStatus| {
            let mut text = String::new();
            exporter(status, &mut text).unwrap();
            text
        };
        assert_eq!(
            shown(&status),
            "exporter  otlp: offered 5 = exported 0 + refused 0 + queued 0\n"
        );
        (status.restored, status.on_disk) = (2, 7);
        let disk = DiskStatus { bytes: 900, max_bytes: 1_000, ..DiskStatus::default() };
        status.disk = Some(disk);
        assert_eq!(
            shown(&status),
            "exporter  otlp: offered 5 + restored 2 = exported 0 + refused 0 + queued 0 + on disk 7\n          \
             disk queue: 900 of 1000 bytes\n"
        );
        let disk = status.disk.as_mut().unwrap();
        (disk.damaged_bytes, disk.error) = (9, Some("no storage space".to_owned()));
        let text = shown(&status);
        assert!(text.contains("damaged: 0 spans are refused, 9 bytes"), "{text}");
        assert!(text.contains("wait in memory only: no storage space"), "{text}");
    }
}
