//! `cargo xtask test`: everything that decides whether a change is good, in one command without questions.
//!
//! Unit and property tests of the default members first, with the agent's release build beside them, then the
//! privileged end-to-end tests against that build, in two halves.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use wirespan_tests::sys;
use wirespan_tests::workloads::{self, UVLOOPS, ports};

use crate::build;
use crate::command::{run as run_program, say};
use crate::setup;

/// How much to test.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also the tests that take minutes (those marked `#[ignore]`), and more cases of each property
    #[arg(long)]
    full: bool,
}

/// How many cases proptest tries of each property under `--full`; its default is 256.
const FULL_CASES: &str = "4096";

/// What the names of one half of the end-to-end tests contain, the first part of a module's; all others are
/// the other half, and take about as long. And one test of another module: its agent traces whatever runs, and may not
/// be beside those that look at what is in a Python process that no agent traces.
const HALF: [&str; 9] = [
    "capture_",
    "datastores",
    "handlers",
    "http_shapes",
    "kafka",
    "messages",
    "python",
    "queues",
    "a_range_of_ports_and_everything",
];

/// The command. Runs the second part also when the first fails, so that one run tells all.
///
/// # Errors
/// When a build or any test fails, or without root, which the end-to-end tests need.
pub(crate) fn run(options: &Options) -> Result<()> {
    let is_root = sys::is_root();
    if !is_root {
        say("not root: only the tests that need no privileges will run, and that is not a success");
    }
    let object = build::build_object(&setup::toolchain()?)?;
    let (building, agent) = build::agent(&object, true);
    let cargo = |arguments: &[&str]| -> Command {
        let mut command = build::host_cargo(&object);
        command.arg("test").args(arguments).env("WIRESPAN_BIN", &agent);
        if options.full {
            command.env("PROPTEST_CASES", FULL_CASES);
        }
        command
    };
    let long = options.full.then_some("--include-ignored");

    let arguments = ["--package", "wirespan-tests", "--no-fail-fast"];
    let ((unit, ready), built) = beside(building, "the agent's release build", || {
        // All that tests use: one half of the end-to-end tests reaches no registry.
        let needs = if is_root { needed() } else { Ok(()) };
        say("unit and property tests");
        let unit = run_program(cargo(&["--no-fail-fast", "--"]).args(long));
        let ready = if is_root { run_program(cargo(&arguments).arg("--no-run")) } else { Ok(()) };
        (unit, needs.and(ready))
    });
    if !is_root {
        unit.and(built)?;
        bail!("the end-to-end tests need root and did not run: they load eBPF programs");
    }
    built.and(ready)?;
    say("end-to-end tests");
    let privileged = end_to_end(|| {
        let mut command = cargo(&arguments);
        // One at a time, in each half.
        command.args(["--offline", "--", "--test-threads=1"]).args(long);
        command
    });
    let failures: Vec<String> = [unit]
        .into_iter()
        .chain(privileged)
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Before an installation is tried again: what it asks is somewhere on the internet, and may fail once.
const AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// The services' and the clients' packages, and the servers.
fn needed() -> Result<()> {
    say("what the end-to-end tests need");
    let installed = tried("the services' packages", workloads::install)?;
    let clients = tried("the clients' packages", || installed.for_accuracy("python3"))?;
    for version in UVLOOPS {
        tried("uvloop", || clients.uvloop(version))?;
    }
    tried("the servers", setup::servers)?;
    // Few tests ask these: without them the others can still tell. Kafka's installation needs what is
    // installed as a server.
    for (what, installed) in [
        ("Apache Kafka", tried("Apache Kafka", || installed.kafka().map(drop))),
        ("rotel", tried("rotel", || installed.rotel().map(drop))),
        ("container engines", tried("container engines", setup::engines)),
    ] {
        if let Err(error) = installed {
            say(&format!("the tests with {what} will fail: {error:#}"));
        }
    }
    Ok(())
}

/// Installs something. What was installed by then is kept from one try to the next.
fn tried<T>(what: &str, install: impl Fn() -> Result<T>) -> Result<T> {
    for pause in AGAIN {
        match install() {
            Ok(installed) => return Ok(installed),
            Err(error) => {
                let seconds = pause.as_secs();
                say(&format!("can't install {what}, once more in {seconds} s: {error:#}"));
                thread::sleep(pause);
            }
        }
    }
    install()
}

/// Runs the end-to-end tests, which mostly wait, in two halves at once, the second in a network namespace of its
/// own: ports that are the same in all processes (a Node.js inspector's) are each half's own. `command` runs all.
fn end_to_end(command: impl Fn() -> Command) -> Vec<Result<()>> {
    let half = |mut command: Command| {
        command.args(HALF);
        command
    };
    let rest = |mut command: Command| {
        command.args(HALF.iter().flat_map(|name| ["--skip", *name]));
        command
    };
    if !can_unshare() {
        return vec![run_program(&mut half(command())), run_program(&mut rest(command()))];
    }
    let mut apart = in_own_network(&half(command()));
    // But not each half's own processes: a rule for a port must name one that only its half listens on.
    apart.env(ports::VARIABLE, ports::OTHER.to_string());
    let (here, apart) = beside(apart, "the second half of the end-to-end tests", || {
        run_program(&mut rest(command()))
    });
    vec![here, apart]
}

/// Runs a command while something else is done, and shows what it printed when both have ended.
fn beside<T>(mut command: Command, what: &str, other: impl FnOnce() -> T) -> (T, Result<()>) {
    thread::scope(|scope| {
        let apart = scope.spawn(move || command.output());
        let other = other();
        let apart = match apart.join() {
            Ok(Ok(output)) => told(what, &output),
            Ok(Err(error)) => Err(error.into()),
            Err(_panic) => Err(anyhow!("{what}")),
        };
        (other, apart)
    })
}

/// Shows what was held back.
fn told(what: &str, output: &Output) -> Result<()> {
    say(what);
    io::stdout().write_all(&output.stdout)?;
    io::stderr().write_all(&output.stderr)?;
    ensure!(output.status.success(), "{what}: {}", output.status);
    Ok(())
}

fn can_unshare() -> bool {
    let tried = in_own_network(&Command::new("true")).output();
    tried.is_ok_and(|output| output.status.success())
}

/// The same command in a new network namespace with a loopback device.
fn in_own_network(command: &Command) -> Command {
    let mut apart = Command::new("unshare");
    apart.stdin(Stdio::null());
    apart.args(["--net", "sh", "-c", r#"ip link set lo up && exec "$0" "$@""#]);
    apart.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => apart.env(name, value),
            None => apart.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        apart.current_dir(directory);
    }
    apart
}
