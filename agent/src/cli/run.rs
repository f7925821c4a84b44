//! `wirespan run`.

mod reload;
mod service;

use std::io::IsTerminal;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::books::ConfigStatus;
use crate::capture::{Capture, CaptureSettings};
use crate::cli::{RunArgs, complain, print};
use crate::config::plan::{Flags, Plan};
use crate::config::watch::Watch;
use crate::containers::Lookup;
use crate::control::Control;
use crate::correlation::{Config, Engine, RandomIds};
use crate::export::Exporters;
use crate::pipeline::Pipeline;
use crate::process::{AgentInfo, ProcFs, Rule, Rules, table};
use crate::recording::{self, Recorder};
use crate::route::Routes;
use crate::selection::Selection;
use reload::Reload;

/// How long exporters may take to send what is left when the agent is told to stop.
const FLUSH: Duration = Duration::from_secs(5);

/// Nothing was allowed: a person's omission, told apart from a failure.
const NOTHING_ALLOWED: u8 = 2;

/// One ring buffer for this many CPUs: its lock is taken in the applications' context.
const CPUS_PER_RING: usize = 4;

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    trace(&args, None)
}

/// What is to be recorded, and where.
pub(super) struct Recording<'a> {
    /// A new file.
    pub(super) path: &'a Path,
    /// Processes beside those that rules allow.
    pub(super) pids: &'a [i32],
    /// How long.
    pub(super) duration: Option<Duration>,
    /// The rest.
    pub(super) options: recording::Options,
}

/// Traces until told to stop; with a recording, into that.
pub(super) fn trace(args: &RunArgs, recording: Option<&Recording<'_>>) -> anyhow::Result<ExitCode> {
    let mut flags = flags(args)?;
    if let Some(Recording { pids, .. }) = recording {
        flags.allow.extend(pids.iter().copied().map(Rule::of_pid));
    }
    let source = super::configured(args.config.as_deref())?;
    let (file, config) = source.unzip();
    let config = config.unwrap_or_default();
    let mut plan = Plan::new(&config, &flags, super::variable)?;
    if recording.is_some() && args.export.is_empty() {
        // They are in the file.
        plan.targets.clear();
    }
    if !plan.allows_something() {
        return list();
    }
    log_to_stderr();
    let procfs = ProcFs::new("/proc");
    let own = procfs.ancestry(std::process::id().cast_signed());
    let rules = Rules { own, ..plan.rules.clone() };
    let agent = AgentInfo::read(Path::new("/"), env!("CARGO_PKG_VERSION"));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("wirespan-io")
        .enable_all()
        .build()
        .context("can't start the exporters' threads")?;
    let (control, stop) = {
        let _context = runtime.enter();
        (Control::listen(&args.control_socket)?, stop_on_signal(file.is_none())?)
    };
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    let capture = Capture::load(&CaptureSettings {
        burst_budget: plan.payload_budget,
        ring_bytes: plan.ring_bytes,
        rings: cpus / CPUS_PER_RING,
        measure: plan.measure_hooks,
        log: args.kernel_log,
    })?;
    let exporters = Exporters::start(plan.targets.clone(), runtime.handle(), plan.limits)?;
    let spans = exporters.handle();
    let exporters = Arc::new(Mutex::new(Some(exporters)));
    let random = match recording {
        Some(recording) => SmallRng::seed_from_u64(recording.options.seed),
        None => SmallRng::from_os_rng(),
    };
    let engine = Engine::new(Config::default(), Box::new(RandomIds(random)));
    let assists =
        rules.settings.node_assist || rules.allow.iter().any(|allow| allow.settings.node_assist);
    let selection = Selection::new(procfs, rules, agent);
    if assists {
        tracing::info!(
            "in traced Node.js processes a script is evaluated that tells their requests apart, through \
             their inspector, which is open for a moment; --no-node-assist leaves them as they are"
        );
    }
    let shown = file.as_ref().map(|file| file.display().to_string());
    let status = ConfigStatus { file: shown, ..ConfigStatus::default() };
    let mut pipeline = Pipeline::new(capture, selection, engine, spans, status.clone());
    if !plan.engines.is_empty() {
        pipeline = pipeline.asking(Lookup::start(plan.engines.clone(), runtime.handle()));
    }
    if let Some(Recording { path, options, .. }) = recording {
        let recorder = Recorder::create(path, options)
            .with_context(|| format!("can't begin the recording {}", path.display()))?;
        pipeline = pipeline.recorded(recorder);
    }

    let (requests, inbox) = mpsc::channel();
    let mut server = None;
    let result = pipeline.run(&stop, &inbox, || {
        // Of a recording's rules nothing is recorded but what they said at its beginning.
        if let Some(file) = file.filter(|_| recording.is_none()) {
            let watch = Watch::new(&file, config.files);
            let reload = Reload::new(watch, flags, plan, status, Arc::clone(&exporters));
            runtime.spawn(reload.follow(requests.clone()));
        }
        runtime.spawn(service::watch(requests.clone()));
        // Whoever is answered from here on is answered by a ready agent.
        server = Some(runtime.spawn(control.serve(requests)));
        tracing::info!("ready");
        if let Some(duration) = recording.and_then(|recording| recording.duration) {
            let stop = Arc::clone(&stop);
            runtime.spawn(async move {
                tokio::time::sleep(duration).await;
                stop.store(true, Ordering::Relaxed);
            });
        }
        service::ready();
    });
    service::stopping();
    // A file that is read from here on changes none of them.
    let exporters = exporters.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(exporters) = exporters {
        finish(&runtime, exporters, server);
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let (Some(recorder), Some(Recording { path, .. })) = (result?, recording) {
        let counts = recorder
            .finish()
            .with_context(|| format!("can't write the recording {}", path.display()))?;
        super::record::recorded(path, &counts);
    }
    Ok(ExitCode::SUCCESS)
}

fn flags(args: &RunArgs) -> anyhow::Result<Flags> {
    Ok(Flags {
        all: args.all,
        allow: args.allow.clone(),
        export: args.export.clone(),
        traceparent: args.traceparent,
        no_node_assist: args.no_node_assist,
        routes: args.routes.as_deref().map(templates).transpose()?,
        query_parameters: args.query_parameters,
        message_keys: args.message_keys,
        silent_pool_pings: args.silent_pool_pings,
        payload_budget: args.payload_budget,
        ring_bytes: args.ring_bytes,
        measure_hooks: args.measure_hooks,
    })
}

/// The programs and maps are gone with the pipeline. Now the spans that are left, then the socket's file.
fn finish(runtime: &Runtime, exporters: Exporters, server: Option<JoinHandle<()>>) {
    for books in runtime.block_on(exporters.shutdown(FLUSH)) {
        let lost = books.refused.total();
        if lost > 0 {
            tracing::error!(exporter = books.name, spans = lost, "spans were lost");
        }
        if books.on_disk > 0 {
            tracing::info!(exporter = books.name, spans = books.on_disk, "spans are left on disk");
        }
    }
    if let Some(server) = server {
        server.abort();
        // It ends by being aborted; the file is removed by then.
        drop(runtime.block_on(server));
    }
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

/// The flag that SIGTERM and SIGINT set; with `hangup`, where that does not mean to read a file again, SIGHUP too.
fn stop_on_signal(hangup: bool) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    for kind in kinds.into_iter().take(if hangup { 3 } else { 2 }) {
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
