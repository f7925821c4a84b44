//! The agent switched on and off for the same running process, in slices of a second or two, each compared with its
//! neighbour: what nothing else shows, the hooks' effect on caches and the agent's on its neighbours included.
//!
//! Off, on, on, off, and again: a pair of slices with a switch between them is the measurement, one without is what the
//! machine's noise does to it.

use std::time::Duration;

use anyhow::Result;
use wirespan_tests::accuracy::Cell;
use wirespan_tests::pace::Load;

use super::field::{Field, Mode};
use super::figures::{interval, median, numbers, quantile};
use super::modes::{OPEN, Slice, during, pace};
use crate::command::say;

/// Measures and prints.
///
/// # Errors
/// What doesn't come up, a request that fails.
pub(super) fn run(
    field: &Field,
    cell: &Cell,
    rate: f64,
    cycles: usize,
    length: Duration,
) -> Result<()> {
    say(&format!("{}: switched on and off, {cycles} times 4 slices of {length:?}", cell.name));
    let service = field.application(cell, Mode::Bare)?;
    let agent = field.run(None, false, &[])?;
    let load = Load::start(pace(&service, cell, OPEN, Some(rate)));
    // Once before it counts: what is loaded, compiled and looked up at the first time.
    field.switch(&agent, Some(&service))?;
    during(&load, &service, length)?;
    let mut slices: Vec<(bool, Slice)> = Vec::new();
    let mut traced = true;
    for on in [false, true, true, false].into_iter().cycle().take(4 * cycles) {
        if on != traced {
            field.switch(&agent, on.then_some(&service))?;
            traced = on;
            // What the switch itself cost is over when the next requests are.
            during(&load, &service, length / 4)?;
        }
        slices.push((on, during(&load, &service, length)?));
    }
    drop(load);
    field.end(agent)?;
    tell(&slices);
    Ok(())
}

fn tell(slices: &[(bool, Slice)]) {
    let (mut ratios, mut noise) = (Vec::new(), Vec::new());
    for ((first_on, first), (second_on, second)) in slices.iter().zip(slices.iter().skip(1)) {
        let (first, second) = (first.request_us(), second.request_us());
        match (first_on, second_on) {
            (false, true) => ratios.push(second / first),
            (true, false) => ratios.push(first / second),
            _ => noise.push(second / first),
        }
    }
    for (what, ratios) in [("on / off", &ratios), ("nothing switched", &noise)] {
        let (low, high) = interval(ratios);
        say(&format!(
            "CPU a request, {what}: {} pairs, median x{:.3} (95 %: {low:.3} to {high:.3}), quartiles {:.3} to {:.3}",
            ratios.len(),
            median(ratios),
            quantile(ratios, 0.25),
            quantile(ratios, 0.75),
        ));
    }
    for part in [0.5, 0.99] {
        let of = |on: bool| -> Vec<f64> {
            let each = slices.iter().filter(|(is, _)| *is == on);
            each.map(|(_, slice)| quantile(&numbers(&slice.latencies), part) / 1_000.0).collect()
        };
        let (off, on) = (of(false), of(true));
        let (low, high) = interval(&off);
        say(&format!(
            "p{:.0}: {:.0} µs off (95 %: {low:.0} to {high:.0}), {:.0} µs on",
            part * 100.0,
            median(&off),
            median(&on)
        ));
    }
}
