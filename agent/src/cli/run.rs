//! `wirespan run`.

use std::io::IsTerminal;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::capture::{Capture, CaptureSettings};
use crate::cli::{RunArgs, complain, print};
use crate::connection::Options;
use crate::control::Control;
use crate::correlation::{Config, Engine, RandomIds};
use crate::export::{ConsoleOptions, Exporters, Limits, Target};
use crate::pipeline::Pipeline;
use crate::process::{AgentInfo, ProcFs, Rules, table};
use crate::route::{Routes, Services};
use crate::runtime::Runtimes;
use crate::runtime::node::Assist;
use crate::selection::Selection;

/// How long exporters may take to send what is left when the agent is told to stop.
const FLUSH: Duration = Duration::from_secs(5);

/// Nothing was allowed: a person's omission, told apart from a failure.
const NOTHING_ALLOWED: u8 = 2;

/// One ring buffer for this many CPUs: its lock is taken in the applications' context.
const CPUS_PER_RING: usize = 4;

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    if !args.all && args.allow.is_empty() {
        return list();
    }
    log_to_stderr();
    let targets = targets(&args)?;
    let routes = args.routes.as_deref().map_or_else(|| Ok(Vec::new()), templates)?;
    let routes = Services::new(routes)?;
    let procfs = ProcFs::new("/proc");
    let own = procfs.ancestry(std::process::id().cast_signed());
    let rules = Rules { all: args.all, allow: args.allow, own };
    let agent = AgentInfo::read(Path::new("/"), env!("CARGO_PKG_VERSION"));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("wirespan-io")
        .enable_all()
        .build()
        .context("can't start the exporters' threads")?;
    let (control, stop) = {
        let _context = runtime.enter();
        (Control::listen(&args.control_socket)?, stop_on_signal()?)
    };
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    let capture = Capture::load(&CaptureSettings {
        burst_budget: args.payload_budget,
        ring_bytes: args.ring_bytes,
        rings: cpus / CPUS_PER_RING,
        measure: args.measure_hooks,
        log: args.kernel_log,
    })?;
    let exporters = Exporters::start(targets, runtime.handle(), Limits::default())?;
    let engine = Engine::new(Config::default(), Box::new(RandomIds(SmallRng::from_os_rng())));
    let selection = Selection::new(procfs, rules, agent);
    let runtimes = Runtimes::new(Assist::new(!args.no_node_assist));
    if !args.no_node_assist {
        tracing::info!(
            "in traced Node.js processes a script is evaluated that tells their requests apart, through \
             their inspector, which is open for a moment; --no-node-assist leaves them as they are"
        );
    }
    let options = Options {
        query_parameters: args.query_parameters,
        silent_pool_pings: args.silent_pool_pings,
    };
    let pipeline =
        Pipeline::new(capture, selection, engine, exporters.handle(), routes, options, runtimes);

    let (requests, inbox) = mpsc::channel();
    let mut server = None;
    let result = pipeline.run(&stop, &inbox, || {
        // Whoever is answered from here on is answered by a ready agent.
        server = Some(runtime.spawn(control.serve(requests)));
        tracing::info!("ready");
    });
    finish(&runtime, exporters, server);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

/// The programs and maps are gone with the pipeline. Now the spans that are left, then the socket's file.
fn finish(runtime: &Runtime, exporters: Exporters, server: Option<JoinHandle<()>>) {
    for books in runtime.block_on(exporters.shutdown(FLUSH)) {
        let lost = books.refused.total();
        if lost > 0 {
            tracing::error!(exporter = books.name, spans = lost, "spans were lost");
        }
    }
    if let Some(server) = server {
        server.abort();
        // It ends by being aborted; the file is removed by then.
        drop(runtime.block_on(server));
    }
}

fn targets(args: &RunArgs) -> anyhow::Result<Vec<Target>> {
    let console = || ConsoleOptions { traceparent: args.traceparent, ..ConsoleOptions::default() };
    if args.export.is_empty() {
        return Ok(vec![Target::Console(console())]);
    }
    let parse = |text: &String| -> anyhow::Result<Target> {
        let target: Target = text.parse().with_context(|| format!("--export {text}"))?;
        Ok(if matches!(target, Target::Console(_)) { Target::Console(console()) } else { target })
    };
    args.export.iter().map(parse).collect()
}

/// Route templates, one a line. Each is tried here, so that an error names its line.
fn templates(path: &Path) -> anyhow::Result<Vec<String>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("--routes {}", path.display()))?;
    let mut templates = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let template = line.split('#').next().unwrap_or_default().trim();
        if template.is_empty() {
            continue;
        }
        let template = template.to_owned();
        Routes::new(std::slice::from_ref(&template))
            .with_context(|| format!("{}:{}", path.display(), index + 1))?;
        templates.push(template);
    }
    Ok(templates)
}

/// Nothing is allowed: nothing is traced, and the person learns what could be.
fn list() -> anyhow::Result<ExitCode> {
    let procfs = ProcFs::new("/proc");
    let candidates = procfs.traceable().context("can't list processes")?;
    complain("Nothing is allowed, so nothing is traced.");
    if candidates.is_empty() {
        complain("No Node.js or Python process runs that could be.");
    } else {
        complain("These processes could be; --all traces every one of them.\n");
        print(table(&candidates).trim_end());
    }
    Ok(ExitCode::from(NOTHING_ALLOWED))
}

/// The flag that SIGTERM and SIGINT set.
fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).context("can't follow signals")?;
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(stop)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("WIRESPAN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call, in a test, keeps the first subscriber.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    drop(subscriber.try_init());
}
