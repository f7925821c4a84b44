//! `cargo xtask build`: the eBPF object, then the agent that carries it.
//!
//! The object has a compiler and a target directory of its own, so that neither build disturbs the other.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{cargo, root, run as run_program, say};
use crate::setup::{self, Toolchain};

/// Variable that names the object to the agent's build script.
pub(crate) const OBJECT: &str = "WIRESPAN_EBPF_OBJECT";

/// What separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

/// How to build.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Build the agent with optimisations (the eBPF programs always are)
    #[arg(long)]
    release: bool,
}

/// The command.
///
/// # Errors
/// When the toolchain is incomplete or either build fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let agent = build(options.release)?;
    say(&format!("built {}", agent.strip_prefix(root()).unwrap_or(&agent).display()));
    Ok(())
}

/// Builds both; quick when nothing changed. Returns where the agent is.
///
/// # Errors
/// As [`run`].
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let object = build_object(&setup::toolchain()?)?;
    let (mut command, agent) = agent(&object, release);
    run_program(&mut command).context("build the agent")?;
    Ok(agent)
}

/// What builds the agent that carries this object, and where it will be.
pub(crate) fn agent(object: &Path, release: bool) -> (Command, PathBuf) {
    let mut command = host_cargo(object);
    command.args(["build", "--package", "wirespan"]).args(release.then_some("--release"));
    let profile = if release { "release" } else { "debug" };
    (command, root().join("target").join(profile).join("wirespan"))
}

/// The host's cargo, told which object the agent shall carry and where to build.
pub(crate) fn host_cargo(object: &Path) -> Command {
    let mut command = cargo();
    command.env(OBJECT, object).env("CARGO_TARGET_DIR", root().join("target"));
    command
}

pub(crate) fn build_object(toolchain: &Toolchain) -> Result<PathBuf> {
    let target = root().join("target/bpf");
    let flags = [
        // The layout of the traced machine's registers, which BPF code reads, is the host's.
        format!("--cfg=bpf_target_arch=\"{ARCH}\""),
        "-Cdebuginfo=2".to_owned(),
        // 32-bit registers and comparisons: kernels have them since 5.1, the agent needs a later one.
        "-Ctarget-cpu=v3".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
    ];
    let mut command = toolchain.compiler.cargo();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join(SEPARATOR));
    command.args(["build", "--package", "wirespan-ebpf", "--bin", "wirespan-ebpf"]);
    command.args(["--features", "programs", "--profile", "bpf"]);
    command.args(["--target", "bpfel-unknown-none", "-Zbuild-std=core"]);
    command.arg("--target-dir").arg(&target);
    run_program(&mut command).context("build the eBPF programs")?;

    let linked = target.join("bpfel-unknown-none/bpf/wirespan-ebpf");
    let object = target.join("wirespan.o");
    let content = fs::read(&linked).with_context(|| format!("read {}", linked.display()))?;
    // Left alone when it is the same: the agent is rebuilt when this file is newer than it.
    if !fs::read(&object).is_ok_and(|old| old == content) {
        fs::write(&object, content).with_context(|| format!("write {}", object.display()))?;
    }
    Ok(object)
}
