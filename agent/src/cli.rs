//! The command line.

mod config;
mod doctor;
mod explain;
mod manual;
mod record;
mod replay;
mod run;
mod status;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::plan::Plan;
use crate::config::scalar::{Leaf, Size, Time};
use crate::config::{Config, DEFAULT_PATH, reference};
use crate::containers::{self, Socket};
use crate::control;
use crate::export::Sort;
use crate::process::{ProcFs, Rule};
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
    /// Say why a process is traced or not, and what became of what it did. Exit code 0: it is traced; 1: it is not;
    /// 3: no agent runs, and the answer is what the configuration file says.
    Explain(ExplainArgs),
    /// Show traces as the running agent makes them. Exit code 3: no agent runs.
    Tap(TapArgs),
    /// Show what takes the time, by service and call, again and again. Exit code 3: no agent runs.
    Top(TopArgs),
    /// Record what the kernel tells of chosen processes, for a bug report or a test: as `run` does, into a file, from
    /// which `replay` makes the same spans. What a span does not show of a payload is overwritten or left out.
    Record(RecordArgs),
    /// Make spans of a recording. Needs no rights. Exit code 1: it can't be read, or not to its end.
    Replay(ReplayArgs),
    /// Look whether an agent can work here: the kernel, its rights, each hook, the exporters, the allowed processes.
    /// Exit code 0: it can; 1: it can't.
    Doctor(DoctorArgs),
    /// Read a configuration file as `run` would, say what is wrong with it, and list the running processes that it
    /// allows and by which rule. Exit code 1: it is wrong.
    CheckConfig {
        /// The file. Default: /etc/wirespan/wirespan.yaml.
        file: Option<PathBuf>,
    },
    /// Write a commented configuration file that allows what runs now, to standard output or to a new file.
    Init {
        /// The file to write. One that is there is left alone.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Allow nothing, whatever runs.
        #[arg(long)]
        empty: bool,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    ConfigSchema,
    /// Print a shell's completions for this command.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual's pages into a directory. For packages.
    #[command(hide = true)]
    ManualPages {
        /// The directory.
        directory: PathBuf,
    },
    /// Print the table of keys for docs/configuration.md. For developers.
    #[command(hide = true)]
    ConfigTable,
    /// Print the assist for Node.js, for those who load it themselves: NODE_OPTIONS=--require=/path/of/it.cjs.
    NodeScript,
    /// Watch the inspector of a process that the agent signals. For the agent's own use.
    #[command(hide = true)]
    NodeAssist(inject::Arguments),
}

/// Arguments of `wirespan run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file. Default: /etc/wirespan/wirespan.yaml, if it is there. It is read again when it
    /// changes, and on SIGHUP. Flags and OTEL_* variables go before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Trace every Node.js and Python process.
    #[arg(long)]
    pub all: bool,
    /// Trace processes for which this rule holds: exe=GLOB, cmd=GLOB, runtime=node|python, port=N[-M],
    /// user=NAME, cgroup=GLOB, container=GLOB, env=NAME[=GLOB], parent=GLOB, parent_cmd=GLOB; several joined with
    /// commas must all hold, `!` before one negates it. Repeatable. Rules of the file don't count then.
    #[arg(long, value_name = "RULE")]
    pub allow: Vec<Rule>,
    /// Where spans go: console, file:PATH, otlp (OTEL_EXPORTER_OTLP_*), otlp=http://HOST:4317,
    /// otlphttp=http://HOST:4318. Repeatable. Default: console.
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
    /// Show the keys of Kafka messages (messaging.kafka.message.key), where one was sent alone: users' data then
    /// leaves the process.
    #[arg(long)]
    pub message_keys: bool,
    /// Payload bytes copied of each burst, enough for heads; bodies are left out. Of what looks like Redis,
    /// PostgreSQL or Kafka 64 times as many. Default: 4096.
    #[arg(long, value_name = "BYTES")]
    pub payload_budget: Option<u32>,
    /// Bytes of each ring buffer between kernel and agent. Default: 8388608.
    #[arg(long, value_name = "BYTES")]
    pub ring_bytes: Option<u32>,
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

/// Arguments of `wirespan explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The process.
    pub pid: i32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The configuration file that is looked at where no agent runs.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The agent's control socket.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control_socket: PathBuf,
}

/// Arguments of `wirespan tap`: conditions that must all hold for one span of a trace.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Its service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Its route, as in /users/{id}.
    #[arg(long, value_name = "ROUTE")]
    pub route: Option<String>,
    /// It failed.
    #[arg(long)]
    pub errors: bool,
    /// It took at least that long, as in 500ms or 2s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub slower_than: Option<Time>,
    /// Print the traceparent of each span.
    #[arg(long)]
    pub traceparent: bool,
    /// The agent's control socket.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control_socket: PathBuf,
}

/// Arguments of `wirespan top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Only this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// What each frame covers, as in 500ms or 10s, at most a minute.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "2s")]
    pub interval: Time,
    /// By what calls are sorted, the largest first.
    #[arg(long, value_enum, default_value_t)]
    pub sort: Sort,
    /// Calls shown, at most. Default: as many as the terminal has room for, else 40.
    #[arg(long, value_name = "NUMBER")]
    pub rows: Option<usize>,
    /// Show one frame, and end.
    #[arg(long)]
    pub once: bool,
    /// The agent's control socket.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control_socket: PathBuf,
}

/// Arguments of `wirespan record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Record this process. Repeatable.
    #[arg(long, value_name = "PID")]
    pub pid: Vec<i32>,
    /// Record processes for which this rule holds, as in `run --allow`. Repeatable.
    #[arg(long, value_name = "RULE")]
    pub allow: Vec<Rule>,
    /// The file to write, which only its owner may read. There must be nothing of that name.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// How long, as in 30s. Default: until stopped.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub duration: Option<Time>,
    /// The file's size, at most: the recording ends there.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    pub max_size: Size,
    /// Keep payload as it is: users' data is then in the file. Credentials that are known as such are overwritten
    /// all the same.
    #[arg(long)]
    pub with_payload: bool,
    /// Where spans go meanwhile, as in `run --export`. Repeatable. Default: nowhere.
    #[arg(long, value_name = "EXPORTER")]
    pub export: Vec<String>,
    /// Leave Node.js processes as they are, as in `run`.
    #[arg(long)]
    pub no_node_assist: bool,
    /// The configuration file, for the settings of spans and, without --pid and --allow, for the rules. Default:
    /// /etc/wirespan/wirespan.yaml, if it is there.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The control socket: it is an agent that records, and another one must not run there.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control_socket: PathBuf,
}

/// Arguments of `wirespan replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The recording.
    pub file: PathBuf,
    /// Where spans go, as in `run --export`. Repeatable. Default: console.
    #[arg(long, value_name = "EXPORTER")]
    pub export: Vec<String>,
    /// Print the traceparent of each span on the console.
    #[arg(long)]
    pub traceparent: bool,
}

/// Arguments of `wirespan doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The configuration file. Default: /etc/wirespan/wirespan.yaml, if it is there.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The control socket of the agent that may run.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control_socket: PathBuf,
}

fn size(text: &str) -> Result<Size, String> {
    Size::read(text).map_err(|_none| format!("expected {}", Size::EXPECTED))
}

fn time(text: &str) -> Result<Time, String> {
    Time::read(text).map_err(|_none| format!("expected {}", Time::EXPECTED))
}

/// Exit code: no agent runs.
const NOT_RUNNING: u8 = 3;

impl Cli {
    /// Does what was asked for. The code is for the shell.
    pub fn execute(self) -> ExitCode {
        let result = match self.command {
            Command::Run(args) => run::run(args),
            Command::Status(args) => status::status(&args),
            Command::Explain(args) => explain::explain(&args),
            Command::Tap(args) => watch::tap(&args),
            Command::Top(args) => watch::top(&args),
            Command::Record(args) => record::record(&args),
            Command::Replay(args) => replay::replay(&args),
            Command::Doctor(args) => doctor::doctor(&args),
            Command::CheckConfig { file } => config::check(file.as_deref()),
            Command::Init { output, empty } => config::init(output.as_deref(), empty),
            Command::Completions { shell } => {
                print(manual::completions(shell).trim_end());
                Ok(ExitCode::SUCCESS)
            }
            Command::ManualPages { directory } => {
                manual::write(&directory).map(|()| ExitCode::SUCCESS)
            }
            Command::ConfigSchema => {
                print(&format!("{:#}", reference::schema()));
                Ok(ExitCode::SUCCESS)
            }
            Command::ConfigTable => {
                print(reference::table().trim_end());
                Ok(ExitCode::SUCCESS)
            }
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

/// The configuration file that was named, or the one at its usual place if it is there, with what it says.
fn configured(named: Option<&Path>) -> anyhow::Result<Option<(PathBuf, Config)>> {
    let usual = Path::new(DEFAULT_PATH);
    let path = match named {
        Some(path) => path,
        None if usual.exists() => usual,
        None => return Ok(None),
    };
    Ok(Some((path.to_owned(), Config::read(path)?)))
}

/// The machine's processes, with all that a plan's rules may ask of them, and of their containers.
fn procfs(plan: &Plan) -> anyhow::Result<ProcFs> {
    let mut procfs = ProcFs::new("/proc");
    procfs.want(plan.rules.wants());
    let processes = procfs.traceable().context("can't list processes")?;
    let ids: BTreeSet<String> = processes.into_iter().filter_map(|it| it.container_id).collect();
    if ids.is_empty() || !plan.engines.iter().any(Socket::is_there) {
        return Ok(procfs);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for id in ids {
        if let Some(container) = runtime.block_on(containers::describe(&plan.engines, &id)) {
            procfs.know(id.into(), Arc::new(container));
        }
    }
    Ok(procfs)
}

/// A variable of the agent's own environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
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
