//! The assist's own time in a Node.js application, by V8's sampling profiler.
//!
//! What its functions take themselves shows under their script; what they make Node.js do for them (contexts that follow
//! promises) shows under Node's own scripts for that, which an application without it hardly enters: the difference of
//! two runs, one with the assist and one without.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wirespan_tests::accuracy::Cell;
use wirespan_tests::pace::Load;

use super::field::{Field, PATIENCE};
use super::modes::{during, pace};
use crate::command::say;

/// Scripts of Node.js that carry contexts along.
const CONTEXTS: [&str; 4] = [
    "node:internal/async_local_storage",
    "node:internal/async_context_frame",
    "node:internal/async_hooks",
    "node:async_hooks",
];

/// The assist's part of a request, against all that the application does without it.
///
/// # Errors
/// What doesn't come up, or no profile.
pub(super) fn assist(field: &Field, cell: &Cell, each: Duration) -> Result<f64> {
    let without = profiled(field, cell, false, each)?;
    let with = profiled(field, cell, true, each)?;
    say(&format!(
        "V8's profile: contexts {:.2} % without the assist, {:.2} % with it, its own functions {:.2} %",
        without.contexts * 100.0,
        with.contexts * 100.0,
        with.assist * 100.0
    ));
    let part = (with.assist + with.contexts - without.contexts).max(0.0);
    Ok(part / (1.0 - part))
}

/// Parts of the time in which the application was not idle.
#[derive(Debug)]
struct Parts {
    assist: f64,
    contexts: f64,
}

fn profiled(field: &Field, cell: &Cell, traced: bool, each: Duration) -> Result<Parts> {
    let directory = field.directory.join(if traced { "profile" } else { "profile-bare" });
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let service = field.profiled(cell, &directory)?;
    let agent = if traced { Some(field.trace(&service, false, &[])?) } else { None };
    {
        let load = Load::start(pace(&service, cell, 10, None));
        during(&load, &service, each)?;
    }
    // Before the agent goes, which takes its script out.
    service.terminate(PATIENCE)?;
    if let Some(agent) = agent {
        field.end(agent)?;
    }
    parts(&directory)
}

fn parts(directory: &Path) -> Result<Parts> {
    let mut files = fs::read_dir(directory)?;
    let path = files.next().context("V8 wrote no profile")??.path();
    let profile: Value = serde_json::from_slice(&fs::read(path)?)?;
    read(&profile)
}

/// Reads a profile as `--cpu-prof` writes it: nodes of a call tree, and of each sample the node and the microseconds.
fn read(profile: &Value) -> Result<Parts> {
    let list = |key: &str| {
        profile
            .get(key)
            .and_then(Value::as_array)
            .with_context(|| format!("a profile without {key}"))
    };
    let nodes = list("nodes")?;
    let (mut all, mut assist, mut contexts) = (0.0, 0.0, 0.0);
    let mut scripts = std::collections::HashMap::new();
    for node in nodes {
        let text = |key: &str| {
            let value = node.get("callFrame").and_then(|frame| frame.get(key));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let id = node.get("id").and_then(Value::as_u64).context("a node without an id")?;
        scripts.insert(id, (text("functionName"), text("url")));
    }
    for (sample, delta) in list("samples")?.iter().zip(list("timeDeltas")?) {
        let id = sample.as_u64().context("a sample that is no number")?;
        // A clock of another CPU may be a little behind.
        let time = delta.as_f64().unwrap_or(0.0).max(0.0);
        let (function, script) = scripts.get(&id).copied().context("a sample of no node")?;
        if function == "(idle)" {
            continue;
        }
        all += time;
        if script.starts_with("wirespan") {
            assist += time;
        } else if CONTEXTS.iter().any(|context| script.starts_with(context)) {
            contexts += time;
        }
    }
    ensure!(all > 0.0, "an empty profile");
    Ok(Parts { assist: assist / all, contexts: contexts / all })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn idle_time_does_not_count_and_scripts_are_told_apart() {
        let node = |id, function, url| json!({"id": id, "callFrame": {"functionName": function, "url": url}});
        let profile = json!({
            "nodes": [
                node(1, "(idle)", ""),
                node(2, "note", "wirespan"),
                node(3, "run", "node:internal/async_local_storage/async_hooks"),
                node(4, "handle", "file:///app.js"),
            ],
            "samples": [1, 2, 3, 4, 4],
            "timeDeltas": [1000, 10, 20, 50, 20],
        });
        let parts = read(&profile).unwrap();
        assert!((parts.assist - 0.1).abs() < 1e-9, "{parts:?}");
        assert!((parts.contexts - 0.2).abs() < 1e-9, "{parts:?}");
    }
}
