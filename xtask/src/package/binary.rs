//! The binary that all packages carry: optimised, without symbols, and static, so that it runs on any
//! distribution and in an empty image.
//!
//! musl where the compiler has its target; else glibc, linked statically. glibc's resolver then still knows
//! `/etc/hosts` and DNS (built in since 2.34), and no other name service.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::build;
use crate::command::{printed, program, root, run, say};

/// Builds it.
///
/// # Errors
/// When it can't be built, or what was built needs a dynamic linker.
pub(super) fn build() -> Result<PathBuf> {
    let object = build::build_object(&crate::setup::toolchain()?)?;
    let target = target();
    say(&format!("building a static binary for {target}"));
    let mut command = build::host_cargo(&object);
    command.args(["build", "--package", "wirespan", "--profile", "dist", "--target", &target]);
    // A target that is named keeps the flags from build scripts and macros, which can't be static.
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    run(&mut command).context("build the agent")?;
    let binary = root().join("target").join(target).join("dist/wirespan");
    ensure!(is_static(&binary)?, "{} is not static", binary.display());
    Ok(binary)
}

fn target() -> String {
    let musl = format!("{ARCH}-unknown-linux-musl");
    let sysroot = printed(program("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    let has_target = Path::new(&sysroot).join("lib/rustlib").join(&musl).join("lib").is_dir();
    // C of a dependency (ring) has to be compiled for it, too.
    let has_compiler = crate::command::on_path("musl-gcc").is_some();
    if has_target && has_compiler { musl } else { format!("{ARCH}-unknown-linux-gnu") }
}

/// Whether no segment of a 64-bit ELF file names an interpreter (`PT_INTERP`, elf(5)).
pub(super) fn is_static(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let interpreted = || {
        let headers = usize::try_from(number(32, 8)?).ok()?;
        let (size, count) = (number(54, 2)?, number(56, 2)?);
        let kind = |index: u64| number(headers + usize::try_from(index * size).ok()?, 4);
        Some((0..count).any(|index| kind(index) == Some(3)))
    };
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit program", path.display());
    Ok(!interpreted().context("a cut ELF file")?)
}
