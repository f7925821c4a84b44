//! The same application bare, under the agent and under OpenTelemetry's SDK, in turn: what each has of throughput and
//! CPU, how long requests take that arrive at a fixed rate, and what the agent itself needs.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use wirespan_tests::accuracy::Cell;
use wirespan_tests::agent::Agent;
use wirespan_tests::pace::{Load, Pace};
use wirespan_tests::sys;
use wirespan_tests::workloads::Service;

use super::field::{Field, Mode, cpu_ns, maps_kib, number};
use super::figures::{median, numbers, quantile};
use crate::command::say;

/// All of them.
const MODES: [Mode; 4] =
    [Mode::Bare, Mode::Wirespan { gzip: false }, Mode::Wirespan { gzip: true }, Mode::Sdk];

/// How many connections keep an application as busy as it can be.
const BUSY: usize = 10;

/// The most that are open where requests arrive at a rate.
pub(super) const OPEN: usize = 64;

/// Of an application's throughput alone, what arrives at a fixed rate: where queues are short.
const SHARE: f64 = 0.4;

/// What one mode showed in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// Requests a second, as fast as can be.
    throughput: f64,
    /// The application's CPU of a request then, in microseconds.
    busy_us: f64,
    /// The same where requests arrive at the fixed rate.
    paced_us: f64,
    /// Milliseconds of half of the requests then.
    p50: f64,
    /// And of all but a hundredth.
    p99: f64,
    agent: Option<Costs>,
}

/// What the agent needed.
#[derive(Clone, Copy, Debug, Default)]
struct Costs {
    /// Microseconds of its CPU for each span: a call, or a request served.
    span_us: f64,
    resident_mib: f64,
    maps_mib: f64,
    /// Records that found no place.
    lost: f64,
}

/// Measures and prints; returns the fixed rate, in requests a second.
///
/// # Errors
/// What doesn't come up, a request that fails.
pub(super) fn run(field: &Field, cell: &Cell, rounds: usize, each: Duration) -> Result<f64> {
    let mut found: Vec<Vec<Figures>> = vec![Vec::new(); MODES.len()];
    let rate = rate(field, cell, each)?;
    for round in 0..rounds {
        for (mode, found) in MODES.iter().zip(&mut found) {
            say(&format!("{}, {}, round {} of {rounds}", cell.name, mode.name(), round + 1));
            found.push(measure(field, cell, *mode, rate, each)?);
        }
    }
    let of = |figures: &[Figures], what: fn(&Figures) -> f64| {
        median(&figures.iter().map(what).collect::<Vec<_>>())
    };
    let bare = found.first().map(Vec::as_slice).unwrap_or_default();
    let (bare_throughput, bare_us) = (of(bare, |it| it.throughput), of(bare, |it| it.paced_us));
    say(&format!(
        "\n| {}, medians of {rounds} | requests/s | CPU a request | at {rate:.0}/s: CPU a request | p50 | p99 |",
        cell.name
    ));
    say("|---|---|---|---|---|---|");
    for (mode, figures) in MODES.iter().zip(&found) {
        let (throughput, paced) = (of(figures, |it| it.throughput), of(figures, |it| it.paced_us));
        say(&format!(
            "| {} | {throughput:.0} (x{:.2}) | {:.0} µs | {paced:.0} µs (x{:.2}) | {:.2} ms | {:.2} ms |",
            mode.name(),
            throughput / bare_throughput,
            of(figures, |it| it.busy_us),
            paced / bare_us,
            of(figures, |it| it.p50),
            of(figures, |it| it.p99),
        ));
    }
    for (mode, figures) in MODES.iter().zip(&found) {
        let costs: Vec<Costs> = figures.iter().filter_map(|it| it.agent).collect();
        let of = |what: fn(&Costs) -> f64| median(&costs.iter().map(what).collect::<Vec<_>>());
        if !costs.is_empty() {
            say(&format!(
                "{}: {:.1} µs of the agent's CPU a span, {:.0} MiB resident, {:.0} MiB of maps, {} records lost",
                mode.name(),
                of(|it| it.span_us),
                of(|it| it.resident_mib),
                of(|it| it.maps_mib),
                costs.iter().map(|it| it.lost).sum::<f64>()
            ));
        }
    }
    Ok(rate)
}

/// The rate at which requests are to arrive: a part of what the application alone can do.
///
/// # Errors
/// As [`run`].
pub(super) fn rate(field: &Field, cell: &Cell, each: Duration) -> Result<f64> {
    let service = field.application(cell, Mode::Bare)?;
    let busy = Load::start(pace(&service, cell, BUSY, None));
    during(&busy, &service, each / 2)?;
    Ok((during(&busy, &service, each)?.throughput() * SHARE).max(1.0).round())
}

pub(super) fn pace(
    service: &Service,
    cell: &Cell,
    connections: usize,
    per_second: Option<f64>,
) -> Pace {
    Pace { address: service.address(), path: cell.path.to_owned(), connections, per_second }
}

/// What a load showed in a time.
pub(super) struct Slice {
    /// Of each request, in nanoseconds.
    pub(super) latencies: Vec<u64>,
    cpu_ns: u64,
    lasted: Duration,
}

#[expect(clippy::cast_precision_loss, reason = "means")]
impl Slice {
    /// Requests answered in a second.
    pub(super) fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.lasted.as_secs_f64()
    }

    /// Microseconds of the application's CPU for each.
    pub(super) fn request_us(&self) -> f64 {
        self.cpu_ns as f64 / 1_000.0 / self.latencies.len().max(1) as f64
    }
}

/// Looks at a load and an application for a time.
///
/// # Errors
/// A request that failed, or none that was answered.
pub(super) fn during(load: &Load, service: &Service, time: Duration) -> Result<Slice> {
    load.take()?;
    let (before, started) = (cpu_ns(service)?, sys::monotonic());
    thread::sleep(time);
    let slice = Slice {
        latencies: load.take()?,
        cpu_ns: cpu_ns(service)?.saturating_sub(before),
        lasted: sys::monotonic() - started,
    };
    ensure!(!slice.latencies.is_empty(), "no request was answered in {time:?}");
    Ok(slice)
}

#[expect(clippy::cast_precision_loss, reason = "means")]
fn measure(field: &Field, cell: &Cell, mode: Mode, rate: f64, each: Duration) -> Result<Figures> {
    let service = field.application(cell, mode)?;
    let agent = match mode {
        Mode::Wirespan { gzip } => Some(field.trace(&service, gzip, &[])?),
        Mode::Bare | Mode::Sdk => None,
    };
    let mut figures = Figures::default();
    {
        let busy = Load::start(pace(&service, cell, BUSY, None));
        during(&busy, &service, each / 2)?;
        let before = agent.as_ref().map(Agent::status).transpose()?;
        let slice = during(&busy, &service, each)?;
        (figures.throughput, figures.busy_us) = (slice.throughput(), slice.request_us());
        if let (Some(agent), Some(before)) = (&agent, before) {
            figures.agent = Some(costs(agent, &before)?);
        }
    }
    {
        let paced = Load::start(pace(&service, cell, OPEN, Some(rate)));
        during(&paced, &service, each / 4)?;
        let slice = during(&paced, &service, each)?;
        let ms: Vec<f64> = numbers(&slice.latencies).iter().map(|ns| ns / 1e6).collect();
        (figures.p50, figures.p99) = (quantile(&ms, 0.5), quantile(&ms, 0.99));
        figures.paced_us = slice.request_us();
    }
    if let Some(agent) = agent {
        let status = agent.status()?;
        if let Some(costs) = &mut figures.agent {
            costs.lost = number(&status, "/total/kernel/records_dropped") as f64;
        }
        field.end(agent)?;
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "means")]
fn costs(agent: &Agent, before: &Value) -> Result<Costs> {
    let after = agent.status()?;
    let grown = |pointer| number(&after, pointer).saturating_sub(number(before, pointer)) as f64;
    Ok(Costs {
        span_us: grown("/agent_cpu_ns") / 1_000.0 / grown("/spans").max(1.0),
        resident_mib: number(&after, "/agent_resident_bytes") as f64 / 1_048_576.0,
        maps_mib: maps_kib(agent)? as f64 / 1_024.0,
        lost: 0.0,
    })
}
