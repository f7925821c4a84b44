//! `.deb`: an ar archive of a version, what the package manager reads, and the files (deb(5)).

use std::env::consts::ARCH;
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};

use super::About;
use super::archive::{self, Entry};
use super::files::CONFIGURATION;
use crate::command::root;

/// What Debian calls this machine's architecture.
pub(super) fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The package's bytes.
pub(super) fn make(about: &About, files: &[Entry]) -> Result<Vec<u8>> {
    let mut control = vec![
        Entry::new("control", fields(about, files)?),
        Entry::new("conffiles", format!("/{CONFIGURATION}\n")),
    ];
    for script in ["postinst", "prerm", "postrm"] {
        let path = root().join("deploy/debian").join(script);
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        control.push(Entry::new(script, text).mode(0o755));
    }
    let control = archive::gzip(&archive::tar("", about.time, &control)?)?;
    let data = archive::gzip(&archive::tar("", about.time, files)?)?;
    let mut archive = ar::Builder::new(Vec::new());
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &data)];
    for (name, content) in members {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(about.time);
        archive.append(&header, content).with_context(|| format!("archive {name}"))?;
    }
    archive.into_inner().context("archive the package")
}

/// deb-control(5).
fn fields(about: &About, files: &[Entry]) -> Result<String> {
    let kib: usize = files.iter().map(|file| file.content.len().div_ceil(1024)).sum();
    let mut text = String::new();
    writeln!(text, "Package: wirespan")?;
    writeln!(text, "Version: {}-{}", about.version, about.revision)?;
    writeln!(text, "Architecture: {}", architecture())?;
    writeln!(text, "Maintainer: The Wirespan authors")?;
    writeln!(text, "Installed-Size: {kib}")?;
    writeln!(text, "Section: admin\nPriority: optional")?;
    writeln!(text, "Description: {}", about.summary)?;
    for line in about.description.lines() {
        writeln!(text, " {line}")?;
    }
    Ok(text)
}
