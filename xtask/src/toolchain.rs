//! Which compiler builds the eBPF programs: one that may use unstable flags and has the source of `core`,
//! because no toolchain ships `core` compiled for BPF.
//!
//! Two are known: rustup's nightly, and Debian's `rustc-web` (a recent stable compiler, told to behave as a
//! nightly). Finding is here and changes nothing; installing is `setup`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{clean_program, printed};
use crate::linker;

/// The nightly to install: the programs must pass the kernel's verifier, which one compiler's output being
/// accepted does not promise for the next one's.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// The oldest release that the workspace's manifest and aya-ebpf accept.
const OLDEST_RELEASE: (u32, u32) = (1, 92);

/// A compiler that can build the programs.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    /// What to call it when talking about it.
    pub(crate) name: String,
    sysroot_cargo: PathBuf,
    rustc: PathBuf,
}

impl Compiler {
    /// Its cargo, with every unstable flag allowed.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = clean_program(&self.sysroot_cargo);
        // A nightly needs no bootstrap, but is not harmed by it.
        command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// The routes to a compiler that `WIRESPAN_BPF_TOOLCHAIN` allows: all when it is not set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routes {
    /// rustup's nightly.
    pub(crate) rustup: bool,
    /// The distribution's compiler in /usr/bin.
    pub(crate) system: bool,
}

impl Routes {
    /// Reads the variable.
    ///
    /// # Errors
    /// When it is set to something that is no route.
    pub(crate) fn allowed() -> Result<Self> {
        let chosen = env::var("WIRESPAN_BPF_TOOLCHAIN").unwrap_or_default();
        let (rustup, system) = match chosen.as_str() {
            "" => (true, true),
            "rustup" => (true, false),
            "system" => (false, true),
            other => bail!("WIRESPAN_BPF_TOOLCHAIN={other}: expected `rustup` or `system`"),
        };
        Ok(Self { rustup, system })
    }

    /// The first complete compiler on an allowed route.
    pub(crate) fn find(self) -> Option<Compiler> {
        let rustup = || rustup_names().into_iter().find_map(|name| rustup_compiler(name).ok());
        let rustup = self.rustup.then(rustup).flatten();
        rustup.or_else(|| self.system.then(system_compiler).flatten())
    }
}

/// The rustup toolchains that may be used, best first.
pub(crate) fn rustup_names() -> [&'static str; 2] {
    [NIGHTLY, "nightly"]
}

/// What keeps a rustup toolchain from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacks {
    /// It is not installed, or too old, or its LLVM is newer than bpf-linker's.
    Everything,
    /// It would do if it had the component `rust-src`.
    Source,
}

/// A rustup toolchain, if it is installed and complete.
pub(crate) fn rustup_compiler(name: &str) -> Result<Compiler, Lacks> {
    let mut ask = clean_program("rustup");
    let sysroot = printed(ask.args(["run", name, "rustc", "--print", "sysroot"]));
    let sysroot = PathBuf::from(sysroot.ok_or(Lacks::Everything)?);
    let rustc = sysroot.join("bin/rustc");
    if !is_suitable(&rustc) {
        return Err(Lacks::Everything);
    }
    if !has_source(&sysroot) {
        return Err(Lacks::Source);
    }
    Ok(Compiler {
        name: format!("rustup's {name}"),
        sysroot_cargo: sysroot.join("bin/cargo"),
        rustc,
    })
}

/// The distribution's compiler, if it is recent enough and has the sources.
fn system_compiler() -> Option<Compiler> {
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    let sysroot = printed(clean_program(&rustc).args(["--print", "sysroot"]))?;
    let complete = cargo.exists() && is_suitable(&rustc) && has_source(Path::new(&sysroot));
    complete.then(|| Compiler {
        name: "the system's /usr/bin/rustc".into(),
        sysroot_cargo: cargo,
        rustc,
    })
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}

fn is_suitable(rustc: &Path) -> bool {
    printed(clean_program(rustc).arg("-vV"))
        .and_then(|text| versions(&text))
        .is_some_and(|(release, llvm)| release >= OLDEST_RELEASE && llvm <= linker::LLVM)
}

/// The release and LLVM's major version from what `rustc -vV` prints.
fn versions(verbose: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name));
    let mut release = field("release: ")?.split(['.', '-']).map_while(|part| part.parse().ok());
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some(((release.next()?, release.next()?), llvm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_of_releases_and_nightlies() {
        let text = "rustc 1.97.0-nightly (e50 2026-05-19)\nhost: x\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4";
        assert_eq!(versions(text), Some(((1, 97), 22)));
        assert_eq!(versions("release: 1.63.0\nLLVM version: 14.0.6"), Some(((1, 63), 14)));
        assert_eq!(versions("rustc 1.63.0"), None);
    }
}
