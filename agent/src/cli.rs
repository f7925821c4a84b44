//! The command line.

mod run;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::capture::DEFAULT_BURST_BUDGET;
use crate::control;
use crate::process::Rule;
use crate::runtime::node::{self, inject};

/// Zero-code tracing of Node.js and Python services with eBPF.
#[derive(Debug, Parser)]
#[command(name = "wirespan", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trace the processes that the rules allow, until stopped. With no rule: list what could be traced.
    Run(RunArgs),
    /// Show what a running agent traces, and its books. Exit code 0: an agent is ready; 3: none runs.
    Status(StatusArgs),
    /// Print the assist for Node.js, for those who load it themselves: NODE_OPTIONS=--require=/path/of/it.cjs.
    NodeScript,
    /// Watch the inspector of a process that the agent signals. For the agent's own use.
    #[command(hide = true)]
    NodeAssist(inject::Arguments),
}

/// Arguments of `wirespan run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Trace every Node.js and Python process.
    #[arg(long)]
    pub all: bool,
    /// Trace processes for which this rule holds: exe=GLOB, cmd=GLOB, runtime=node|python, port=N[-M],
    /// user=NAME; several joined with commas must all hold, `!` before one negates it. Repeatable.
    #[arg(long, value_name = "RULE")]
    pub allow: Vec<Rule>,
    /// Where spans go: console, file:PATH, otlp (OTEL_EXPORTER_OTLP_*), otlp=http://HOST:4317. Repeatable.
    /// Default: console.
    #[arg(long, value_name = "EXPORTER")]
    pub export: Vec<String>,
    /// Print the traceparent of each span on the console.
    #[arg(long)]
    pub traceparent: bool,
    /// Leave Node.js processes as they are: no script is evaluated in them, and parents are known only where one
    /// request is in flight.
    #[arg(long)]
    pub no_node_assist: bool,
    /// Names routes: a file with one template a line, such as /users/{id}/posts/*; `#` begins a comment.
    #[arg(long, value_name = "FILE")]
    pub routes: Option<PathBuf>,
    /// Show the parameters of SQL statements (db.query.parameter.N): users' data then leaves the process.
    #[arg(long)]
    pub query_parameters: bool,
    /// Make no spans of the statements by which pools look whether a connection lives, such as SELECT 1.
    #[arg(long)]
    pub silent_pool_pings: bool,
    /// Payload bytes copied of each burst, enough for heads; bodies are left out. Of what looks like Redis or
    /// PostgreSQL 64 times as many.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_BURST_BUDGET)]
    pub payload_budget: u32,
    /// Bytes of each ring buffer between kernel and agent.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    pub ring_bytes: u32,
    /// Log what the kernel programs do; with WIRESPAN_LOG=debug. For developers.
    #[arg(long)]
    pub kernel_log: bool,
    /// Have the kernel measure what the hooks cost; `wirespan status` then shows it.
    #[arg(long)]
    pub measure_hooks: bool,
    /// The agent's control socket.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control_socket: PathBuf,
}

/// Arguments of `wirespan status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The agent's control socket.
    #[arg(long, alias = "socket", value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control_socket: PathBuf,
}

impl Cli {
    /// Does what was asked for. The code is for the shell.
    pub fn execute(self) -> ExitCode {
        let result = match self.command {
            Command::Run(args) => run::run(args),
            Command::Status(args) => status::status(&args),
            Command::NodeScript => {
                print(node::file().trim_end());
                Ok(ExitCode::SUCCESS)
            }
            Command::NodeAssist(args) => inject::run(&args).map(|()| ExitCode::SUCCESS),
        };
        result.unwrap_or_else(|error| {
            let mut text = format!("wirespan: {error}");
            for cause in error.chain().skip(1) {
                let cause = cause.to_string();
                // Many errors name their cause themselves.
                if !text.contains(&cause) {
                    text.push_str(": ");
                    text.push_str(&cause);
                }
            }
            complain(&text);
            ExitCode::FAILURE
        })
    }
}

/// Tells the person at the terminal. A closed terminal is no reason to fail.
fn complain(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Prints what was asked for. A reader that has left is no reason to fail.
fn print(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stdout(), "{text}"));
}
