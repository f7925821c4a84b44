//! `.rpm`, by the `rpm` crate.

use std::env::consts::ARCH;
use std::fs;

use anyhow::{Context, Result};
use rpm::{BuildConfig, CompressionType, FileOptions, PackageBuilder};

use super::About;
use super::archive::{self, Entry};
use super::files::CONFIGURATION;
use crate::command::root;

/// Directories that are this package's alone; others belong to the system.
const OWN: [&str; 3] = ["etc/wirespan", "usr/share/doc/wirespan", "usr/share/licenses/wirespan"];

/// The package's bytes.
pub(super) fn make(about: &About, files: Vec<Entry>) -> Result<Vec<u8>> {
    let script = |name: &str| {
        let path = root().join("deploy/rpm").join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let time = u32::try_from(about.time).context("a time that rpm can't have")?;
    let licence = env!("CARGO_PKG_LICENSE");
    let mut package = PackageBuilder::new("wirespan", &about.version, licence, ARCH, about.summary);
    package
        .using_config(BuildConfig::v4().compression(CompressionType::Gzip).source_date(time))
        .release(about.revision.to_string())
        .description(about.description)
        // Nothing that differs from one machine to the next.
        .build_host("localhost")
        .post_install_script(script("post")?)
        .pre_uninstall_script(script("preun")?)
        .post_uninstall_script(script("postun")?);
    for directory in archive::directories(&files).iter().filter(|path| OWN.contains(&path.as_str()))
    {
        let options = FileOptions::dir(format!("/{directory}")).permissions(0o755);
        package.with_dir_entry(options).with_context(|| format!("package {directory}"))?;
    }
    for Entry { path, mode, content } in files {
        let mode = u16::try_from(mode).context("a mode that rpm can't have")?;
        let mut options = FileOptions::new(format!("/{path}")).permissions(mode);
        if path == CONFIGURATION {
            options = options.config().noreplace();
        } else if path.starts_with("usr/share/doc/") {
            options = options.doc();
        } else if path.starts_with("usr/share/licenses/") {
            options = options.license();
        }
        package.with_file_contents(content, options).with_context(|| format!("package {path}"))?;
    }
    let mut bytes = Vec::new();
    package.build().context("build the package")?.write(&mut bytes).context("write the package")?;
    Ok(bytes)
}
