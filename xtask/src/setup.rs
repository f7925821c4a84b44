//! `cargo xtask setup`: finds or installs what the eBPF build needs. Says what it does; does nothing when
//! all is there.
//!
//! It installs system packages only on Debian and its kin and only as root, and otherwise prints what is
//! missing with the commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};
use wirespan_tests::process::Group;
use wirespan_tests::{engines, servers, sys};

use crate::command::{self, clean_program, on_path, program, say};
use crate::linker;
use crate::toolchain::{Compiler, Lacks, NIGHTLY, Routes, rustup_compiler, rustup_names};

/// How long rustup may try: where its server cannot be reached it retries on and on.
const RUSTUP: Duration = Duration::from_secs(180);

/// Debian's recent Rust, kept for building browsers.
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Debian's servers for the end-to-end tests. What these packages start by themselves is not used.
const SERVERS: [&str; 5] =
    ["redis-server", "postgresql", "rabbitmq-server", "maven", "default-jre-headless"];

/// What builds the eBPF programs.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) compiler: Compiler,
    /// bpf-linker's path.
    pub(crate) linker: PathBuf,
}

/// Finds the toolchain, installing what is missing, and says what it is.
///
/// # Errors
/// When something is missing that cannot be installed from here; the error lists it with the commands.
pub(crate) fn toolchain() -> Result<Toolchain> {
    let routes = Routes::allowed()?;
    if let (Some(compiler), Some(linker)) = (routes.find(), linker::find()) {
        return Ok(Toolchain { compiler, linker });
    }
    let compiler = find_or_install_compiler(routes);
    let linker = find_or_install_linker();
    match (compiler, linker) {
        (Ok(compiler), Ok(linker)) => Ok(Toolchain { compiler, linker }),
        (compiler, linker) => {
            let missing = [compiler.err(), linker.err()].into_iter().flatten();
            let lines: Vec<String> = missing.map(|missing| format!("\n  - {missing:#}")).collect();
            bail!("the eBPF programs cannot be built here; missing:{}", lines.concat());
        }
    }
}

/// The command: sets up and reports.
///
/// # Errors
/// As [`toolchain`].
pub(crate) fn run() -> Result<()> {
    let Toolchain { compiler, linker } = toolchain()?;
    let (compiler, linker) = (compiler.name, linker.display());
    say(&format!("eBPF programs are built by {compiler} and linked by {linker}"));
    for program in ["node", "npm", "python3"] {
        if on_path(program).is_none() {
            say(&format!("{program} is not on PATH: the demo and the end-to-end tests need it"));
        }
    }
    if let Err(error) = servers() {
        say(&format!("the end-to-end tests need more: {error:#}"));
    }
    Ok(())
}

/// What the end-to-end tests ask: a Redis, a PostgreSQL and a RabbitMQ, which they start themselves, and what
/// Apache Kafka is installed with and runs on.
///
/// # Errors
/// When they are missing and cannot be installed from here, with the command that would.
pub(crate) fn servers() -> Result<()> {
    shared_python();
    if servers::are_installed() {
        return Ok(());
    }
    if !is_debian() {
        bail!(
            "redis-server, PostgreSQL's server programs (initdb, postgres, psql), RabbitMQ, Java and Maven \
             (java, mvn)"
        );
    }
    install_packages(&SERVERS)
}

/// The container engines that the end-to-end tests start themselves.
///
/// # Errors
/// As [`servers`].
pub(crate) fn engines() -> Result<()> {
    // Those of other origin exclude Debian's.
    let missing = engines::missing();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_debian() {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        bail!("{}", programs.join(", "));
    }
    install_packages(&packages)
}

/// What the demo's workers ask, RabbitMQ and Redis. It goes without those that can't be installed.
pub(crate) fn brokers() {
    let has = [
        ("rabbitmq-server", servers::RabbitMq::is_installed()),
        ("redis-server", servers::Server::has_redis()),
    ];
    let missing: Vec<&str> =
        has.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect();
    if missing.is_empty() || !is_debian() {
        return;
    }
    if let Err(error) = install_packages(&missing) {
        say(&format!("can't install {}: {error:#}", missing.join(" and ")));
    }
}

/// A receiver that the tests send spans to, rotel, needs Python's shared library, which Debian's `python3`
/// comes without. A Python from elsewhere may bring its own: that this can't be installed is no error yet.
fn shared_python() {
    const LOAD: &str = "import ctypes, sys; \
        print('libpython%d.%d' % sys.version_info[:2]); \
        ctypes.CDLL('libpython%d.%d.so.1.0' % sys.version_info[:2])";
    let Ok(output) = program("python3").args(["-c", LOAD]).output() else { return };
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() || !is_debian() || name.is_empty() {
        return;
    }
    if let Err(error) = install_packages(&[&name]) {
        say(&format!("can't install {name}, which the test with rotel may need: {error}"));
    }
}

fn find_or_install_compiler(routes: Routes) -> Result<Compiler> {
    if let Some(compiler) = routes.find() {
        return Ok(compiler);
    }
    if routes.rustup && on_path("rustup").is_some() {
        install_nightly();
        if let Some(compiler) = routes.find() {
            return Ok(compiler);
        }
        say("rustup cannot give a nightly with rust-src here");
    }
    let mut debian = String::new();
    if routes.system && is_debian() {
        install_packages(&DEBIAN_COMPILER)?;
        if let Some(compiler) = routes.find() {
            return Ok(compiler);
        }
        debian = format!("; {} are installed but too old", DEBIAN_COMPILER.join(", "));
    }
    bail!(
        "a Rust compiler with the source of `core`: `rustup toolchain install {NIGHTLY} --profile minimal \
         --component rust-src`{debian}"
    )
}

/// Asks rustup for what its toolchains lack. Whether it worked is seen by looking again.
fn install_nightly() {
    let incomplete =
        rustup_names().into_iter().find(|name| matches!(rustup_compiler(name), Err(Lacks::Source)));
    let mut command = clean_program("rustup");
    match incomplete {
        Some(name) => {
            say(&format!("adding rust-src to rustup's {name}"));
            command.args(["component", "add", "rust-src", "--toolchain", name]);
        }
        None => {
            say(&format!("installing rustup's {NIGHTLY} with rust-src"));
            command.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
            command.args(["--component", "rust-src", "--no-self-update"]);
        }
    }
    // Its errors would be the first thing read where the other route then succeeds.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let ended = Group::spawn(&mut command).and_then(|mut rustup| rustup.wait(RUSTUP));
    if let Err(error) = ended {
        say(&format!("rustup: {error:#}"));
    }
}

fn find_or_install_linker() -> Result<PathBuf> {
    if let Some(linker) = linker::find() {
        return Ok(linker);
    }
    if !linker::has_llvm() {
        if !is_debian() {
            bail!(linker::advice());
        }
        install_packages(&linker::DEBIAN_PACKAGES)?;
    }
    linker::install()
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && on_path("apt-get").is_some()
}

/// Installs packages, with fresh lists if the ones at hand do not do.
fn install_packages(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !sys::is_root() {
        bail!("packages: `sudo apt-get update && sudo apt-get install {names}`");
    }
    say(&format!("installing packages: {names}"));
    if command::run(apt().args(["install", "--no-install-recommends"]).args(packages)).is_ok() {
        return Ok(());
    }
    say("once more, with fresh package lists");
    command::run(apt().arg("update"))?;
    command::run(apt().args(["install", "--no-install-recommends"]).args(packages))
}

fn apt() -> Command {
    let mut command = program("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // Another apt may be at work, an image's first-boot one for example.
    command.args(["--yes", "--quiet=2", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(["-o", "Acquire::Retries=3"]);
    command
}
