//! Container engines of a test's own: a Docker and a containerd, each in a directory that the test owns, with its
//! containers in the test's own network.
//!
//! Debian's packages bring the programs (`cargo xtask setup`); engines that a machine runs are left alone. Images are
//! empty: containers see the machine's programs, read-only.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Group, finish, on_path};
use crate::workloads::{root, service::tail};
use crate::{sys, wait};

/// How long an engine may take to answer.
const READY: Duration = Duration::from_secs(180);

/// How long it may take to end.
const END: Duration = Duration::from_secs(30);

/// The containers' image.
pub const IMAGE: &str = "localhost/shop/orders:1.2";

/// The image of what keeps a pod's namespaces.
const PAUSE: &str = "localhost/pause:1";

/// Where Debian keeps a program that needs nothing else.
const STATIC: &str = "/bin/busybox";

/// Directories of the machine that are no part of what containers see.
const OWN: [&str; 7] = ["proc", "sys", "dev", "run", "tmp", "boot", "lost+found"];

/// A running engine; it ends, with its containers, when this is dropped.
#[derive(Debug)]
pub struct Engine {
    group: Group,
    directory: PathBuf,
    socket: PathBuf,
    is_docker: bool,
}

/// The programs of both that are not there, each with Debian's package that has it.
#[must_use]
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let programs = [
        ("dockerd", "docker.io"),
        ("docker", "docker.io"),
        ("containerd", "containerd"),
        ("ctr", "containerd"),
        ("runc", "runc"),
    ];
    let mut missing = programs.to_vec();
    missing.retain(|(program, _)| on_path(program).is_none());
    if !Path::new(STATIC).exists() {
        missing.push(("a static busybox as /bin/busybox", "busybox-static"));
    }
    missing
}

/// What of the machine containers see.
///
/// # Errors
/// When the machine's root can't be read.
pub fn mounts(lab: &Path) -> Result<Vec<PathBuf>> {
    let mut mounts = vec![root().to_owned(), lab.to_owned()];
    for entry in fs::read_dir("/")? {
        let path = entry?.path();
        let own = path.file_name().is_some_and(|name| OWN.iter().any(|own| name == *own));
        if !own && path.is_dir() {
            mounts.push(path);
        }
    }
    Ok(mounts)
}

impl Engine {
    /// Starts a Docker in a new directory, with [`IMAGE`].
    ///
    /// # Errors
    /// When it ends or does not answer in time, with the end of its log.
    pub fn docker(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (socket, log) = (directory.join("docker.sock"), directory.join("log"));
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(directory.join("root"));
        command.arg("--exec-root").arg(directory.join("exec"));
        command.arg("--pidfile").arg(directory.join("pid"));
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        command.arg("--storage-driver=vfs");
        let engine = Self::start(&mut command, directory, socket, &log, true)?;
        wait::until("Docker answers", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            ensure!(!engine.group.has_exited()?, "it ended");
            Ok(engine.ask(&["version"]).is_ok().then_some(()))
        })
        .with_context(|| tail(&fs::read_to_string(&log).unwrap_or_default()))?;
        let layer = directory.join("layer.tar");
        finish(Command::new("tar").arg("-cf").arg(&layer).args(["--files-from", "/dev/null"]))?;
        let layer = layer.display().to_string();
        engine.ask(&["import", &layer, IMAGE])?;
        Ok(engine)
    }

    /// Starts a containerd with Kubernetes' interface in a new directory, with [`IMAGE`].
    ///
    /// # Errors
    /// When it ends or does not answer in time, with the end of its log.
    pub fn containerd(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (socket, log) = (directory.join("containerd.sock"), directory.join("log"));
        let config = directory.join("config.toml");
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\n  address = {socket:?}\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = {PAUSE:?}\n  restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  snapshotter = \"native\"\n",
            directory.join("root"),
            directory.join("state"),
        );
        fs::write(&config, text)?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&config);
        let engine = Self::start(&mut command, directory, socket, &log, false)?;
        wait::until("containerd answers", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            ensure!(!engine.group.has_exited()?, "it ended");
            Ok(engine.ask(&["version"]).is_ok().then_some(()))
        })
        .with_context(|| tail(&fs::read_to_string(&log).unwrap_or_default()))?;
        for (name, program) in [(IMAGE, None), (PAUSE, Some(Path::new(STATIC)))] {
            let archive = archive(directory, name, program)?.display().to_string();
            engine.ask(&["--namespace=k8s.io", "images", "import", &archive])?;
        }
        Ok(engine)
    }

    fn start(
        command: &mut Command,
        directory: &Path,
        socket: PathBuf,
        log: &Path,
        is_docker: bool,
    ) -> Result<Self> {
        let output = File::create(log)?;
        command.stdout(output.try_clone()?).stderr(output);
        let group = Group::spawn(command)?;
        Ok(Self { group, directory: directory.to_owned(), socket, is_docker })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What its client prints: `docker`, or `ctr`.
    ///
    /// # Errors
    /// When that fails, with what it says.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = if self.is_docker {
            let mut command = Command::new("docker");
            command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
            command
        } else {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(&self.socket);
            command
        };
        finish(command.args(arguments))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Containers outlive an engine: what was not removed by its test is removed here, if it still answers.
        if self.is_docker
            && let Ok(ids) = self.ask(&["ps", "--all", "--quiet"])
        {
            for id in ids.split_whitespace() {
                drop(self.ask(&["rm", "--force", id]));
            }
        }
        drop(self.group.signal(libc::SIGTERM).and_then(|()| self.group.wait(END)));
        // Namespaces and a pod's shared memory, which engines leave to their next start.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in mounts.filter(|mount| Path::new(mount).starts_with(&self.directory)) {
            drop(finish(Command::new("umount").arg("--lazy").arg(mount)));
        }
    }
}

/// An image with nothing in it but a program, as Docker saves images: it can be imported anywhere.
fn archive(directory: &Path, name: &str, program: Option<&Path>) -> Result<PathBuf> {
    let place = directory.join(name.replace(['/', ':'], "-"));
    let content = place.join("content");
    fs::create_dir_all(&content)?;
    if let Some(program) = program {
        fs::copy(program, content.join("busybox"))?;
    }
    let layer = place.join("layer.tar");
    finish(Command::new("tar").arg("-cf").arg(&layer).arg("-C").arg(&content).arg("."))?;
    let sum = finish(Command::new("sha256sum").arg(&layer))?;
    let sum = sum.split_whitespace().next().context("no checksum")?;
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Entrypoint": ["/busybox", "sleep", "1000000"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    fs::write(place.join("config.json"), config.to_string())?;
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }
    ]);
    fs::write(place.join("manifest.json"), manifest.to_string())?;
    let archive = place.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    finish(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&place).args(files))?;
    Ok(archive)
}
