//! What is in the packages, and where each kind of package puts it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::About;
use super::archive::{self, Entry};
use crate::command::root;

/// Distributions that put the same file into different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Debian and its kin.
    Debian,
    /// Fedora, RHEL, openSUSE and theirs.
    RedHat,
}

/// The configuration file's place: what a package manager leaves alone where it was changed.
pub(super) const CONFIGURATION: &str = "etc/wirespan/wirespan.yaml";

/// Pages of the documentation that are installed.
const PAGES: [&str; 9] = [
    "README.md",
    "docs/configuration.md",
    "docs/installation.md",
    "docs/kernel-support.md",
    "docs/limitations.md",
    "docs/security.md",
    "docs/semantic-conventions.md",
    "docs/troubleshooting.md",
    "docs/wirespan.schema.json",
];
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// Everything that packages are made of.
#[derive(Debug)]
pub(super) struct Files {
    binary: Vec<u8>,
    unit: Vec<u8>,
    configuration: Vec<u8>,
    /// Shell and script.
    completions: Vec<(&'static str, Vec<u8>)>,
    /// File name and page.
    manual: Vec<(String, Vec<u8>)>,
    /// File name and content.
    documents: Vec<(String, Vec<u8>)>,
    licences: Vec<(&'static str, Vec<u8>)>,
}

impl Files {
    /// Reads them, and asks the binary for what it knows of itself.
    pub(super) fn gather(binary: &Path, sbom: &[u8]) -> Result<Self> {
        let asked = |arguments: &[&str]| -> Result<Vec<u8>> {
            let mut command = Command::new(binary);
            let output = command.args(arguments).stdin(Stdio::null()).output();
            let output = output.with_context(|| format!("start {}", binary.display()))?;
            let words = arguments.join(" ");
            ensure!(output.status.success(), "wirespan {words}: {}", output.status);
            Ok(output.stdout)
        };
        let completions = ["bash", "zsh", "fish"]
            .map(|shell| Ok((shell, asked(&["completions", shell])?)))
            .into_iter()
            .collect::<Result<_>>()?;
        let mut documents = PAGES
            .iter()
            .map(|page| {
                let name = page.rsplit('/').next().unwrap_or(page);
                Ok((name.to_owned(), read(page)?))
            })
            .collect::<Result<Vec<_>>>()?;
        documents.push(("sbom.cdx.json".to_owned(), sbom.to_vec()));
        Ok(Self {
            binary: fs::read(binary).with_context(|| format!("read {}", binary.display()))?,
            unit: read("deploy/systemd/wirespan.service")?,
            configuration: asked(&["init", "--empty"])?,
            completions,
            manual: manual(&asked)?,
            documents,
            licences: LICENCES
                .iter()
                .map(|&name| Ok((name, read(name)?)))
                .collect::<Result<_>>()?,
        })
    }

    /// As a package manager installs them.
    pub(super) fn installed(&self, family: Family) -> Result<Vec<Entry>> {
        let debian = family == Family::Debian;
        let mut entries = vec![
            Entry::new("usr/bin/wirespan", self.binary.clone()).mode(0o755),
            Entry::new("usr/lib/systemd/system/wirespan.service", self.unit.clone()),
            // It may name tokens.
            Entry::new(CONFIGURATION, self.configuration.clone()).mode(0o640),
        ];
        for (shell, script) in &self.completions {
            let path = match (*shell, debian) {
                ("bash", _) => "usr/share/bash-completion/completions/wirespan",
                ("zsh", true) => "usr/share/zsh/vendor-completions/_wirespan",
                ("zsh", false) => "usr/share/zsh/site-functions/_wirespan",
                _ => "usr/share/fish/vendor_completions.d/wirespan.fish",
            };
            entries.push(Entry::new(path, script.clone()));
        }
        for (name, page) in &self.manual {
            let path = format!("usr/share/man/man1/{name}.gz");
            entries.push(Entry::new(path, archive::gzip(page)?));
        }
        for (name, page) in &self.documents {
            entries.push(Entry::new(format!("usr/share/doc/wirespan/{name}"), page.clone()));
        }
        if debian {
            let mut copyright =
                b"Wirespan is licensed under Apache-2.0 or MIT, at your choice. What it is \
                linked with: sbom.cdx.json.\n"
                    .to_vec();
            for (name, text) in &self.licences {
                copyright.extend_from_slice(format!("\n--- {name} ---\n\n").as_bytes());
                copyright.extend_from_slice(text);
            }
            entries.push(Entry::new("usr/share/doc/wirespan/copyright", copyright));
        } else {
            for (name, text) in &self.licences {
                entries
                    .push(Entry::new(format!("usr/share/licenses/wirespan/{name}"), text.clone()));
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// As a person unpacks them.
    pub(super) fn tarball(&self, about: &About) -> Result<Vec<u8>> {
        let mut entries = vec![
            Entry::new("wirespan", self.binary.clone()).mode(0o755),
            Entry::new("wirespan.service", self.unit.clone()),
            Entry::new("wirespan.yaml", self.configuration.clone()),
        ];
        let texts = |folder: &str, name: &str, text: &[u8]| {
            Entry::new(format!("{folder}{name}"), text.to_vec())
        };
        for (shell, script) in &self.completions {
            entries.push(texts("completions/wirespan.", shell, script));
        }
        entries.extend(self.manual.iter().map(|(name, page)| texts("man/", name, page)));
        entries.extend(self.documents.iter().map(|(name, page)| texts("docs/", name, page)));
        entries.extend(self.licences.iter().map(|(name, text)| texts("", name, text)));
        let prefix = format!("wirespan-{}/", about.version);
        archive::gzip(&archive::tar(&prefix, about.time, &entries)?)
    }

    /// As an image's only layer holds them.
    pub(super) fn image(&self) -> Vec<Entry> {
        let licence = |(name, text): &(&str, Vec<u8>)| {
            Entry::new(format!("usr/share/licenses/wirespan/{name}"), text.clone())
        };
        let mut entries = vec![
            Entry::new("usr/bin/wirespan", self.binary.clone()).mode(0o755),
            Entry::new(CONFIGURATION, self.configuration.clone()),
            // For the control socket, unless something is mounted there.
            Entry::new("run/", []),
        ];
        entries.extend(self.licences.iter().map(licence));
        entries
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(root().join(path)).with_context(|| format!("read {path}"))
}

/// The manual's pages, sorted.
fn manual(asked: &impl Fn(&[&str]) -> Result<Vec<u8>>) -> Result<Vec<(String, Vec<u8>)>> {
    let directory = root().join("target/package-manual");
    // Pages of commands that are no more would be packaged, too.
    fs::remove_dir_all(&directory).ok();
    let name = directory.to_str().context("the project's path is no text")?;
    asked(&["manual-pages", name])?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(&directory).context("read the manual's pages")? {
        let entry = entry?;
        pages.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    pages.sort();
    Ok(pages)
}
