//! OpenTelemetry's own instrumentation of the applications, to be held against: installed beside them, switched on by
//! variables, as an operator would who doesn't touch their code.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Installed, OLDEST_PYTHON, copy_if_changed, is, output};

/// What of a package for Node.js is loaded before the application.
const REGISTER: &str = "node_modules/@opentelemetry/auto-instrumentations-node/dist/register.cjs";

/// Variables of a program's environment.
pub type Variables = Vec<(&'static str, String)>;

impl Installed {
    /// The same applications with the SDKs at hand, not switched on.
    ///
    /// # Errors
    /// A failing npm or pip, with what it printed.
    pub fn with_sdk(&self, interpreter: &str) -> Result<Self> {
        let lock = File::create(self.target.join(".lock"))?;
        lock.lock().context("lock target/workloads")?;
        let requirements = self.sources().join("requirements-sdk.txt");
        let name = interpreter.rsplit('/').next().unwrap_or(interpreter);
        let venv = format!("sdk-{name}");
        self.venv(&venv, interpreter, &requirements, OLDEST_PYTHON)
            .context("install the SDK for Python")?;
        let (source, target) = (self.source.join("node-sdk"), self.target.join("node-sdk"));
        fs::create_dir_all(&target)?;
        let wanted = fs::read_to_string(source.join("package-lock.json"))?;
        let stamp = target.join(".installed");
        if !is(&stamp, &wanted) {
            for file in ["package.json", "package-lock.json"] {
                copy_if_changed(&source.join(file), &target.join(file))?;
            }
            let mut npm = Command::new("npm");
            output(npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&target))
                .context("install the SDK for Node.js")?;
            fs::write(stamp, wanted)?;
        }
        Ok(Self { venv, ..self.clone() })
    }

    /// What switches the SDKs on: traces alone, over gRPC to this port of this machine. An application of either
    /// runtime leaves the other's alone.
    ///
    /// # Errors
    /// When Python's is not installed.
    pub fn sdk(&self, port: u16) -> Result<Variables> {
        let mut python = Command::new(self.venv_program("python"));
        let place =
            "import opentelemetry.instrumentation.auto_instrumentation as it; print(*it.__path__)";
        let python_path = output(python.args(["-c", place]))?.trim().to_owned();
        let register = self.target.join("node-sdk").join(REGISTER);
        Ok(vec![
            ("PYTHONPATH", python_path),
            ("NODE_OPTIONS", format!("--require {}", register.display())),
            // Others ask the network where they are.
            ("OTEL_NODE_RESOURCE_DETECTORS", "env,host,os,process".to_owned()),
            ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
            ("OTEL_METRICS_EXPORTER", "none".to_owned()),
            ("OTEL_LOGS_EXPORTER", "none".to_owned()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
        ])
    }
}
