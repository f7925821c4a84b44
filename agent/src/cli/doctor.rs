//! `wirespan doctor`: whether an agent can work here, tried for real.
//!
//! Each check is `ok`, `warn` (it works, less well) or `fail`, with a remedy. `doctor/host.rs` looks at the machine,
//! `doctor/work.rs` at what the agent would do on it.

mod host;
mod work;

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{DoctorArgs, print};

/// It can't work.
const FAILED: u8 = 1;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Warn,
    Fail,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    outcome: Outcome,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Ok, found: found.into(), remedy: None }
    }

    fn warn(name: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name: name.into(), outcome: Outcome::Warn, found: found.into(), remedy }
    }

    fn fail(name: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, ..Self::warn(name, found, remedy) }
    }
}

pub(super) fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut checks = host::checks();
    checks.extend(work::hooks());
    checks.extend(work::configured(args.config.as_deref(), &args.control_socket)?);
    if args.json {
        print(&serde_json::to_string_pretty(&checks)?);
    } else {
        print(rendered(&checks)?.trim_end());
    }
    let failed = checks.iter().any(|check| check.outcome == Outcome::Fail);
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn rendered(checks: &[Check]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let outcome = match check.outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        writeln!(text, "{outcome}  {:<width$}  {}", check.name, check.found)?;
        if let Some(remedy) = &check.remedy {
            writeln!(text, "      {:<width$}  -> {remedy}", "")?;
        }
    }
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    writeln!(
        text,
        "\n{} ok, {} to look at, {} failed",
        count(Outcome::Ok),
        count(Outcome::Warn),
        count(Outcome::Fail)
    )?;
    Ok(text)
}
