//! Running other programs: cargo above all, in an environment that does not depend on how xtask itself was
//! started.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use wirespan_tests::workloads;

/// Variables that steer a compilation and that rustup, cargo or a wrapper may have set for xtask: they are
/// not for a compiler of another toolchain.
const STEERING: [&str; 11] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// The project's root directory, where every command runs.
pub(crate) fn root() -> &'static Path {
    workloads::root()
}

/// A line about what is being done, for whoever watches. Standard output is left to the commands' own.
pub(crate) fn say(line: &str) {
    // Whoever stopped reading does not need to be told.
    writeln!(io::stderr(), "xtask: {line}").ok();
}

/// A command in the root directory, without standard input and without what `cargo run` set about xtask.
pub(crate) fn program(path: impl Into<OsString>) -> Command {
    let mut command = Command::new(path.into());
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// As [`program`], and without anything that chooses a compiler or its flags.
pub(crate) fn clean_program(path: impl Into<OsString>) -> Command {
    let mut command = program(path);
    for name in STEERING {
        command.env_remove(name);
    }
    command
}

/// The cargo that xtask was started with.
pub(crate) fn cargo() -> Command {
    program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command to its end, its output going where xtask's goes.
///
/// # Errors
/// When it cannot be started or fails; its own output says why.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// What a command prints, or `None` when it cannot be started or fails.
pub(crate) fn printed(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a program is on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
