//! What the agent would do here: its hooks, its configuration, its exporters, the processes that it allows.

use std::path::Path;

use anyhow::Context;
use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;

use super::Check;
use crate::books::Status;
use crate::capture;
use crate::cli::variable;
use crate::config::plan::{Flags, Plan};
use crate::config::{Config, DEFAULT_PATH};
use crate::containers;
use crate::control::{self, AskError};
use crate::export;
use crate::process::{AgentInfo, Decision, Process, Reason, Runtime, resource};

/// Allowed processes that are told of one by one.
const PROCESSES: usize = 100;

/// Each hook, loaded, attached and detached.
pub(super) fn hooks() -> Vec<Check> {
    let trials = match capture::try_hooks() {
        Ok(trials) => trials,
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().to_owned();
            return vec![Check::fail(
                "kernel programs",
                first,
                "run it as root, or with CAP_BPF and CAP_PERFMON, on a kernel that docs/kernel-support.md names",
            )];
        }
    };
    let check = |trial: capture::HookTrial| match trial.result {
        // They are attached to single processes only.
        Ok(()) if trial.name.starts_with("probes") => Check::ok(trial.name, "loaded"),
        Ok(()) => Check::ok(trial.name, "loaded, attached and detached"),
        Err(problem) if trial.name.starts_with("probes") => Check::warn(
            trial.name,
            problem,
            "CPython's requests are told apart by threads only; see docs/kernel-support.md",
        ),
        Err(problem) => {
            Check::fail(trial.name, problem, "docs/kernel-support.md says which kernels have it")
        }
    };
    trials.into_iter().map(check).collect()
}

/// The configuration, and what follows from it.
pub(super) fn configured(named: Option<&Path>, socket: &Path) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    let config = match crate::cli::configured(named) {
        Ok(Some((path, config))) => {
            checks.push(Check::ok("configuration", format!("{} is understood", path.display())));
            config
        }
        Ok(None) => {
            checks.push(Check::warn(
                "configuration",
                format!("{DEFAULT_PATH} is not there: flags alone say what is traced"),
                format!("`wirespan init --output {DEFAULT_PATH}` writes one"),
            ));
            Config::default()
        }
        Err(error) => {
            checks.push(Check::fail(
                "configuration",
                format!("{error:#}"),
                "put it right; `wirespan check-config` tries it again",
            ));
            return Ok(checks);
        }
    };
    let plan = match Plan::new(&config, &Flags::default(), variable) {
        Ok(plan) => plan,
        Err(error) => {
            checks.push(Check::fail(
                "environment",
                format!("{error:#}"),
                "set it right, or unset it",
            ));
            return Ok(checks);
        }
    };
    let status = agent(socket, &mut checks);
    exporters(&plan, &mut checks)?;
    engines(&plan, &mut checks)?;
    processes(&plan, status.as_ref(), &mut checks)?;
    Ok(checks)
}

/// The agent that runs, if one does.
fn agent(socket: &Path, checks: &mut Vec<Check>) -> Option<Status> {
    let name = "running agent";
    let status = match control::ask(socket) {
        Ok(status) => status,
        Err(AskError::NotRunning(_)) => {
            checks.push(Check::ok(name, "none"));
            return None;
        }
        Err(error) => {
            let remedy = "ask as root; if it hangs, its log says why";
            checks.push(Check::warn(name, error.to_string(), remedy));
            return None;
        }
    };
    let found = format!("{} (pid {})", status.version, status.pid);
    checks.push(match &status.config.last_error {
        Some(error) => Check::warn(
            name,
            format!("{found}, with an older configuration: the new one was refused: {error}"),
            "put the file right: it is read again",
        ),
        None => Check::ok(name, found),
    });
    let dropped = status.total.kernel.operations_dropped;
    if dropped > 0 {
        checks.push(Check::warn(
            name,
            format!("{dropped} operations were dropped"),
            "give the rings more room: capture.ring_size",
        ));
    }
    for exporter in &status.exporters {
        if let Some(error) = exporter.disk.as_ref().and_then(|disk| disk.error.as_ref()) {
            checks.push(Check::warn(
                format!("disk queue {}", exporter.name),
                format!("the agent can't use it, spans wait in memory only: {error}"),
                disk_remedy(error),
            ));
        }
    }
    if status.processes_failed > 0 {
        checks.push(Check::warn(
            name,
            format!("{} allowed processes could not be traced", status.processes_failed),
            "the agent's log names them and says why",
        ));
    }
    Some(status)
}

fn exporters(plan: &Plan, checks: &mut Vec<Check>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    if plan.targets.is_empty() {
        checks.push(Check::warn(
            "exporters",
            "none: spans go nowhere",
            "name one under `exporters`",
        ));
    }
    for target in &plan.targets {
        let name = format!("exporter {}", target.name());
        checks.push(match runtime.block_on(export::probe(target)) {
            Ok(()) if matches!(target, export::Target::Otlp(_)) => {
                Check::ok(name, "an empty request was accepted")
            }
            Ok(()) => Check::ok(name, "can be written"),
            Err(problem) => {
                let remedy = remedy(&problem);
                Check::fail(name, problem, remedy)
            }
        });
        if let export::Target::Otlp(options) = target
            && let Some(disk) = &options.disk_queue
        {
            checks.push(disk_queue(disk));
        }
    }
    Ok(())
}

/// Whether container engines that listen here say what containers are.
fn engines(plan: &Plan, checks: &mut Vec<Check>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    for socket in plan.engines.iter().filter(|socket| socket.is_there()) {
        let name = format!("container engine {socket}");
        // None has this id: whether it answers is what matters.
        let answer = runtime.block_on(containers::ask(socket, &"0".repeat(64)));
        checks.push(match answer {
            Ok(_) => Check::ok(name, "answers"),
            Err(error) => Check::warn(
                name,
                format!("{:#}", anyhow::Error::from(error)),
                "pods, labels and images stay unknown: run the agent as root, or name the right socket in \
                 containers.sockets",
            ),
        });
    }
    Ok(())
}

/// Whether a disk queue can be written, and reach its bound.
fn disk_queue(options: &export::DiskOptions) -> Check {
    let name = format!("disk queue {}", options.directory.display());
    let room = match export::probe_disk(options) {
        Ok(room) => room,
        Err(problem) => {
            let remedy = disk_remedy(&problem);
            return Check::fail(name, problem, remedy);
        }
    };
    let (room, wanted) = (room.room_bytes, room.wanted_bytes);
    if room == 0 && wanted > 0 {
        let problem = "no storage space: what is free on its file system is left to others";
        Check::fail(name, problem, disk_remedy(problem))
    } else if room < wanted {
        let found =
            format!("there is room for {room} of the {wanted} bytes that it may still take");
        Check::warn(name, found, "make room on that disk, or lower disk_queue.max_size")
    } else {
        Check::ok(name, format!("can be written, {wanted} bytes more"))
    }
}

/// What helps against a failure of a disk queue.
fn disk_remedy(problem: &str) -> &'static str {
    let says = |words: &str| problem.contains(words);
    if says("bound is reached") {
        "the receiver takes too little, or is away: see its last error; disk_queue.max_size is the bound"
    } else if says("may be used by others") {
        "name a directory that is not there yet, or `chown root` it and `chmod 700`"
    } else if says("another agent") {
        "give each exporter, and each agent, a directory of its own: disk_queue.directory"
    } else if says("no directory") {
        "name the directory itself: disk_queue.directory"
    } else {
        remedy(problem)
    }
}

/// What helps against a failure of an exporter, by the words that its parts use for it.
fn remedy(problem: &str) -> &'static str {
    let problem = problem.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| problem.contains(word));
    if says(&["expired"]) {
        "renew the receiver's certificate (or this machine's clock is wrong)"
    } else if says(&["unknownissuer", "unknown issuer", "certificate", "notvalidforname"]) {
        "trust the receiver's authority with tls.ca_file, and use the host name that its certificate has"
    } else if says(&["unauthenticated", "permissiondenied", "status 401", "status 403"]) {
        "check the headers: the receiver does not accept these credentials"
    } else if says(&[
        "unimplemented",
        "not found",
        "code 404",
        "http2",
        "h2 protocol",
        "invalid http",
        // What a server of HTTP/1 does with what HTTP/2 begins with.
        "broken pipe",
        "frame with invalid size",
    ]) {
        "no receiver of this protocol is there: port 4317 is for gRPC as a rule, 4318 for HTTP (protocol: http/protobuf)"
    } else if says(&["dns", "lookup", "resolve"]) {
        "the host's name has no address: check the endpoint"
    } else if says(&["refused", "unreachable"]) {
        "nothing listens there: start the receiver, or check the endpoint"
    } else if says(&["no answer", "deadline", "timed out"]) {
        "a firewall drops the packets, or the receiver is overloaded"
    } else if says(&["no space", "storage", "full"]) {
        "make room on that disk, or write elsewhere"
    } else if says(&["permission", "read-only"]) {
        "let the agent write there, or write elsewhere"
    } else if says(&["no such file"]) {
        "make the directory"
    } else {
        "see what the receiver logs"
    }
}

fn processes(plan: &Plan, status: Option<&Status>, checks: &mut Vec<Check>) -> anyhow::Result<()> {
    let procfs = crate::cli::procfs(plan)?;
    let own = procfs.ancestry(std::process::id().cast_signed());
    let running = procfs.traceable().context("can't list processes")?;
    let agent = AgentInfo::default();
    let (mut allowed, mut undescribed) = (0, 0);
    for process in running.iter().filter(|process| !own.contains(&process.id())) {
        let name = format!("process {}", process.pid);
        match plan.rules.decide(process) {
            Decision::Traced { .. }
                if status.is_some_and(|status| status.processes_yielded.contains(&process.pid)) =>
            {
                checks.push(Check::warn(
                    name,
                    format!("{}: {}", process.shown_command(), Reason::OwnSpans),
                    "start it without its SDK, or trace it all the same: settings.yield_to_sdk: false",
                ));
            }
            Decision::Traced { by } => {
                allowed += 1;
                if process.container_id.is_some() && process.container.is_none() {
                    undescribed += 1;
                }
                if allowed > PROCESSES {
                    continue;
                }
                let settings = plan.rules.settings(by);
                let resource = resource(&procfs, process, &agent, settings);
                let service = resource.text(SERVICE_NAME).unwrap_or_default();
                let line = status.and_then(|status| {
                    status.processes.iter().find(|line| line.pid == process.pid)
                });
                let context = line.and_then(|line| line.context.as_deref());
                checks.push(method(name, process, service, context, settings.node_assist));
            }
            Decision::NotTraced { reason: Reason::SdkDisabled } => checks.push(Check::warn(
                name,
                format!("{}: OTEL_SDK_DISABLED=true in its environment", process.shown_command()),
                "start it without the variable, or trace it all the same: settings.trace_sdk_disabled",
            )),
            Decision::NotTraced { .. } => {}
        }
    }
    if undescribed > 0 {
        checks.push(Check::warn(
            "containers",
            format!("of {undescribed} allowed processes no engine says what their containers are: pods, labels and \
                     images stay unknown"),
            "let the agent reach the engine's socket, and name it in containers.sockets",
        ));
    }
    let candidates = running.len();
    checks.push(if allowed > 0 {
        Check::ok("allowed processes", format!("{allowed} of {candidates} that could be traced"))
    } else {
        Check::warn(
            "allowed processes",
            format!("none of {candidates} that could be traced"),
            "`wirespan check-config` shows what each rule allows, `wirespan explain PID` why one is not",
        )
    });
    Ok(())
}

/// How a process's requests are, or would be, told apart.
fn method(
    name: String,
    process: &Process,
    service: &str,
    context: Option<&str>,
    assist: bool,
) -> Check {
    let version = process.runtime.version().map_or(String::new(), |version| format!(" {version}"));
    let what = format!("{service}, {}{version}", process.runtime.word());
    match context {
        Some("exact") => return Check::ok(name, format!("{what}: exact")),
        Some(context) => {
            let remedy =
                "parents are certain where one request is in flight; docs/limitations.md#parents";
            return Check::warn(name, format!("{what}: {context}"), remedy);
        }
        None => {}
    }
    match process.runtime {
        Runtime::Node(None) => {
            Check::warn(name, format!("{what}: its version can't be told"), "it is not assisted")
        }
        Runtime::Node(_) if !assist => {
            Check::warn(name, format!("{what}: the assist is off"), "settings.node_assist")
        }
        Runtime::Node(_) => Check::ok(name, format!("{what}: by the assist")),
        Runtime::Python(_) => Check::ok(name, format!("{what}: by its contexts")),
        Runtime::Other => Check::ok(name, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Outcome;

    #[test]
    fn failures_have_a_remedy_of_their_own() {
        for (problem, part) in [
            (
                "Unavailable: tcp connect error: Connection refused (os error 111)",
                "nothing listens",
            ),
            ("invalid peer certificate: Expired", "renew"),
            ("invalid peer certificate: UnknownIssuer", "tls.ca_file"),
            ("Unauthenticated: bad token", "headers"),
            ("no answer within 10000 ms", "firewall"),
            ("no storage space", "make room"),
            ("Permission denied (os error 13)", "let the agent write"),
            ("dns error: failed to lookup address information", "no address"),
            ("Unimplemented: 404", "4317"),
            (
                "Unknown: transport error: connection error: stream closed because of a broken pipe",
                "protocol: http/protobuf",
            ),
            ("HTTP status 404 Not Found", "4318"),
            ("HTTP status 401 Unauthorized: who are you", "headers"),
            (
                "client error (Connect): tcp connect error: 127.0.0.1:4010: Connection refused",
                "nothing listens",
            ),
        ] {
            assert!(remedy(problem).contains(part), "{problem}: {}", remedy(problem));
        }
    }

    #[test]
    fn a_disk_queue_that_cannot_be_used_has_a_remedy() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str, max_bytes| {
            let options = export::DiskOptions { directory: parent.path().join(name), max_bytes };
            let check = disk_queue(&options);
            (check.outcome, check.found, check.remedy.unwrap_or_default())
        };
        assert_eq!(at("new", 1 << 20).0, Outcome::Ok);
        assert!(!parent.path().join("new").exists());
        let (outcome, found, remedy) = at("new", u64::MAX);
        assert_eq!(outcome, Outcome::Warn);
        assert!(found.contains("room for") && remedy.contains("max_size"), "{found} {remedy}");

        std::fs::write(parent.path().join("file"), "").unwrap();
        let (outcome, _, remedy) = at("file", 1);
        assert!(outcome == Outcome::Fail && remedy.contains("directory itself"), "{remedy}");
        std::fs::create_dir(parent.path().join("open")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(parent.path().join("open"), mode).unwrap();
        let (outcome, _, remedy) = at("open", 1);
        assert!(outcome == Outcome::Fail && remedy.contains("chmod 700"), "{remedy}");
        for (problem, part) in [
            ("its bound is reached", "max_size"),
            ("no storage space: what is free is left to others", "make room"),
            ("No space left on device (os error 28)", "make room"),
            ("cannot use /q: Read-only file system (os error 30)", "let the agent write"),
            ("/q is used by another agent or another exporter", "of its own"),
        ] {
            assert!(disk_remedy(problem).contains(part), "{problem}: {}", disk_remedy(problem));
        }
    }

    #[test]
    fn a_full_disk_is_told_of() {
        let Some(mounted) = export::testing::Mounted::new("1m") else { return };
        let options =
            export::DiskOptions { directory: mounted.path().join("queue"), max_bytes: 1 << 20 };
        assert_eq!(disk_queue(&options).outcome, Outcome::Warn);
        std::fs::write(mounted.path().join("filler"), vec![1; 1_030_000]).unwrap();
        let check = disk_queue(&options);
        assert_eq!(check.outcome, Outcome::Fail);
        assert!(check.remedy.unwrap().contains("make room"), "{}", check.found);
    }
}
