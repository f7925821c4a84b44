//! bpf-linker, which makes one BPF object with BTF out of what the compiler emits: where it is, and how it
//! is built.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{cargo, clean_program, on_path, printed, root, run, say};

/// The one version that the programs are built with.
pub(crate) const VERSION: &str = "0.13.0";
/// The LLVM that it is built with. It reads bitcode of that LLVM and older, so the compiler's must not be
/// newer.
pub(crate) const LLVM: u32 = 22;
/// What building it takes on Debian.
pub(crate) const DEBIAN_PACKAGES: [&str; 4] =
    ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"];
/// Where Debian's package puts that LLVM.
const PREFIX: &str = "/usr/lib/llvm-22";

/// The linker, if one of the right version is installed: the project's own, else one on `PATH`.
pub(crate) fn find() -> Option<PathBuf> {
    let own = root().join("target/tools/bin/bpf-linker");
    [Some(own), on_path("bpf-linker")].into_iter().flatten().find(|path| {
        printed(clean_program(path).arg("--version"))
            .is_some_and(|text| text.split_whitespace().nth(1) == Some(VERSION))
    })
}

/// Whether LLVM is where [`install`] looks for it.
pub(crate) fn has_llvm() -> bool {
    // libPolly belongs to LLVM's static libraries and is the one that is packaged apart.
    ["bin/llvm-config", "lib/libPolly.a"].iter().all(|file| root().join(PREFIX).join(file).exists())
}

/// Builds it from source into `target/tools`.
///
/// # Errors
/// When cargo fails.
pub(crate) fn install() -> Result<PathBuf> {
    say(&format!("building bpf-linker {VERSION} into target/tools (some minutes, once)"));
    let mut command = cargo();
    command.env("LLVM_PREFIX", PREFIX).env("LLVM_SYS_221_PREFIX", PREFIX);
    command.args(["install", "bpf-linker", "--version", VERSION, "--locked"]);
    command.args(["--no-default-features", "--features", "llvm-22", "--root", "target/tools"]);
    run(&mut command)?;
    find().context("bpf-linker was installed but does not run")
}

/// How a person installs it where [`install`] cannot.
pub(crate) fn advice() -> String {
    format!(
        "bpf-linker {VERSION}: `cargo binstall bpf-linker@{VERSION}`, or a release from \
         https://github.com/aya-rs/bpf-linker, on PATH"
    )
}
