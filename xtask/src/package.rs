//! `cargo xtask package`: what is installed, from one static binary: a tarball, a `.deb`, an `.rpm`, a container
//! image as an OCI archive, a bill of materials (CycloneDX) and checksums.
//!
//! None of it needs a packaging tool, a container engine or root. Files carry the time of `SOURCE_DATE_EPOCH` or of
//! the last commit, so that the same sources and compiler give the same packages.

mod archive;
mod binary;
mod deb;
mod files;
mod image;
mod rpm;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use self::files::Family;
use crate::command::{self, program, root, say};

/// What to make.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Package this binary instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the packages go
    #[arg(long, value_name = "DIRECTORY", default_value = "target/package")]
    out: PathBuf,
    /// Make these only. Repeatable
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// The packages' revision: a number for builds of the same version
    #[arg(long, default_value_t = 1)]
    revision: u32,
}

/// What there is to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Tarball,
    Deb,
    Rpm,
    Image,
    Sbom,
}

/// What all packages say of themselves.
#[derive(Debug)]
struct About {
    version: String,
    revision: u32,
    /// Seconds since 1970 that files carry.
    time: u64,
    summary: &'static str,
    description: &'static str,
}

/// The command.
///
/// # Errors
/// When the binary can't be built or is not static, or something can't be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = match &options.binary {
        Some(binary) => root().join(binary),
        None => binary::build()?,
    };
    let about = About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: options.revision,
        time: time(),
        summary: "zero-code tracing of Node.js and Python services with eBPF",
        description: "eBPF programs see what unmodified Node.js and Python processes send and receive,\nand the \
                      agent turns that into OpenTelemetry spans, each under its right parent.\nIt traces what \
                      its configuration allows, and nothing by default.",
    };
    let out = root().join(&options.out);
    fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
    let sbom = sbom::make(&about)?;
    let files = files::Files::gather(&binary, &sbom)?;
    let (version, revision) = (&about.version, about.revision);
    let arch = std::env::consts::ARCH;
    let mut sums = String::new();
    for kind in Kind::value_variants() {
        if !options.only.is_empty() && !options.only.contains(kind) {
            continue;
        }
        let (name, content) = match kind {
            Kind::Tarball => {
                (format!("wirespan-{version}-{arch}-linux.tar.gz"), files.tarball(&about)?)
            }
            Kind::Deb => {
                let name = format!("wirespan_{version}-{revision}_{}.deb", deb::architecture());
                (name, deb::make(&about, &files.installed(Family::Debian)?)?)
            }
            Kind::Rpm => {
                let name = format!("wirespan-{version}-{revision}.{arch}.rpm");
                (name, rpm::make(&about, files.installed(Family::RedHat)?)?)
            }
            Kind::Image => {
                (format!("wirespan-{version}-image.tar"), image::make(&about, &files.image())?)
            }
            Kind::Sbom => (format!("wirespan-{version}.cdx.json"), sbom.clone()),
        };
        put(&out, &name, &content)?;
        sums.push_str(&format!("{}  {name}\n", hex(&content)));
    }
    put(&out, "SHA256SUMS", sums.as_bytes())
}

fn put(out: &Path, name: &str, content: &[u8]) -> Result<()> {
    let path = out.join(name);
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    let kib = content.len().div_ceil(1024);
    say(&format!("{} ({kib} KiB)", path.strip_prefix(root()).unwrap_or(&path).display()));
    Ok(())
}

/// The SHA-256 of some bytes, in hexadecimal.
fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>, else the last commit's time, else 1970.
fn time() -> u64 {
    let variable = std::env::var("SOURCE_DATE_EPOCH").ok();
    let commit = || command::printed(program("git").args(["log", "-1", "--format=%ct"]));
    variable.or_else(commit).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
