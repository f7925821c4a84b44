//! The real applications under test: what they are made of, installed once under `target/workloads` from
//! the pinned lists in `tests/workloads`, with npm and pip as the user configured them.
//!
//! What runs is in [`service`] (one process tree), [`system`] (the four of them together) and [`workers`] (what works
//! behind them).

pub mod ports;
pub mod program;
pub mod sdk;
pub mod service;
pub mod system;
pub mod workers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

pub use program::{Program, Runtime};
pub use service::{Loop, Service, Spec, Worker};
pub use system::System;
pub use workers::{Brokers, Workers};

/// The oldest Python for which `requirements.txt` has a version of everything.
const OLDEST_PYTHON: (u32, u32) = (3, 9);

/// The oldest for which `requirements-accuracy-3.8.txt` has.
const OLDEST_FOR_ACCURACY: (u32, u32) = (3, 8);

/// Versions of uvloop that the tests run besides: the last that puts writes off to the end of a turn, and one that
/// doesn't.
pub const UVLOOPS: [&str; 2] = ["0.22.1", "0.23.0"];

/// The project's root directory.
#[must_use]
pub fn root() -> &'static Path {
    // The manifest of this package is one level below it.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The applications, ready to start.
#[derive(Debug, Clone)]
pub struct Installed {
    /// `target/workloads`.
    target: PathBuf,
    /// `tests/workloads`.
    source: PathBuf,
    /// The virtual environment's directory in `target`.
    venv: String,
    /// That of the Node.js applications' modules.
    modules: &'static str,
}

/// Installs what is missing or out of date. Safe to call from several processes at once; immediate when
/// there is nothing to do.
///
/// # Errors
/// A missing node, npm or python3, or a failing npm or pip, with what it printed.
pub fn install() -> Result<Installed> {
    let installed = Installed {
        target: root().join("target/workloads"),
        source: root().join("tests/workloads"),
        venv: "venv".to_owned(),
        modules: "node",
    };
    fs::create_dir_all(&installed.target).context("create target/workloads")?;
    // Dropping the file at the end releases the lock.
    let lock = File::create(installed.target.join(".lock"))?;
    lock.lock().context("lock target/workloads")?;
    installed.node_modules().context("install the Node.js workloads")?;
    let requirements = installed.sources().join("requirements.txt");
    installed
        .venv("venv", "python3", &requirements, OLDEST_PYTHON)
        .context("install the Python workloads")?;
    Ok(installed)
}

impl Installed {
    /// Where the modules of the Node.js applications are.
    fn node(&self) -> PathBuf {
        self.target.join(self.modules)
    }

    /// A directory with a Node.js application, as a package of that name: the agent takes a service's name
    /// from its package. It is below `node_modules`' own, where Node looks for modules from a script on up.
    fn package(&self, name: &str, script: &str) -> Result<PathBuf> {
        let package = self.node().join(name);
        fs::create_dir_all(&package).with_context(|| format!("create {}", package.display()))?;
        for file in [script, "counts.js", "calls.js"] {
            copy_if_changed(&self.source.join("node").join(file), &package.join(file))?;
        }
        let manifest = serde_json::json!({ "name": name, "private": true }).to_string();
        write_if_changed(&package.join("package.json"), &manifest)?;
        Ok(package)
    }

    /// The directory of the Python applications' sources.
    fn sources(&self) -> PathBuf {
        self.source.join("python")
    }

    /// A program of the virtual environment.
    #[must_use]
    pub fn venv_program(&self, name: &str) -> PathBuf {
        self.target.join(&self.venv).join("bin").join(name)
    }

    /// The same applications with what the accuracy measurement asks besides, for one interpreter: a program
    /// such as `python3.12`.
    ///
    /// # Errors
    /// A missing interpreter or a failing pip, with what it printed.
    pub fn for_accuracy(&self, interpreter: &str) -> Result<Self> {
        let lock = File::create(self.target.join(".lock"))?;
        lock.lock().context("lock target/workloads")?;
        let name = interpreter.rsplit('/').next().unwrap_or(interpreter);
        // Most of what is pinned for the others does not run there any more.
        let (requirements, oldest) = if python_version(interpreter)?.0 < OLDEST_PYTHON {
            ("requirements-accuracy-3.8.txt", OLDEST_FOR_ACCURACY)
        } else {
            ("requirements-accuracy.txt", OLDEST_PYTHON)
        };
        let requirements = self.sources().join(requirements);
        let venv = format!("accuracy-{name}");
        self.venv(&venv, interpreter, &requirements, oldest)
            .with_context(|| format!("install what the accuracy cells need for {interpreter}"))?;
        Ok(Self { venv, ..self.clone() })
    }

    /// Another version of uvloop for the interpreter that these applications run with: what `PYTHONPATH` is to be.
    ///
    /// # Errors
    /// A failing pip, with what it printed.
    pub fn uvloop(&self, version: &str) -> Result<PathBuf> {
        let lock = File::create(self.target.join(".lock"))?;
        lock.lock().context("lock target/workloads")?;
        let place = self.target.join(format!("uvloop-{version}-{}", self.venv));
        let stamp = place.join(".installed");
        let venv = self.target.join(&self.venv);
        let wanted = fs::read_to_string(venv.join(".installed"))?;
        if !is(&stamp, &wanted) {
            let mut pip = Command::new(venv.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            pip.args(["--no-deps", "--upgrade", &format!("uvloop=={version}"), "--target"]);
            output(pip.arg(&place))?;
            fs::write(stamp, wanted).context("note what was installed")?;
        }
        Ok(place)
    }

    /// The same applications with frameworks and versions of Node.js besides, for the accuracy measurement.
    ///
    /// # Errors
    /// A failing npm, with what it printed.
    pub fn for_accuracy_of_node(&self) -> Result<Self> {
        let lock = File::create(self.target.join(".lock"))?;
        lock.lock().context("lock target/workloads")?;
        let installed = Self { modules: "node-accuracy", ..self.clone() };
        let (source, target) = (self.source.join(installed.modules), installed.node());
        fs::create_dir_all(&target)?;
        let wanted = fs::read_to_string(source.join("package-lock.json"))?;
        let stamp = target.join(".installed");
        if !is(&stamp, &wanted) {
            for file in ["package.json", "package-lock.json"] {
                copy_if_changed(&source.join(file), &target.join(file))?;
            }
            let mut npm = Command::new("npm");
            output(npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&target))
                .context("install what the accuracy cells of Node.js need")?;
            fs::write(stamp, wanted)?;
        }
        Ok(installed)
    }

    /// A program that runs Node.js: of a version's number the one that [`Self::for_accuracy_of_node`] brings.
    #[must_use]
    pub fn node_program(&self, version: &str) -> PathBuf {
        if version.bytes().all(|byte| byte.is_ascii_digit()) {
            self.node().join(format!("node_modules/node{version}/bin/node"))
        } else {
            version.into()
        }
    }

    fn node_modules(&self) -> Result<()> {
        let (source, target) = (self.source.join("node"), self.node());
        fs::create_dir_all(&target)?;
        for file in ["package.json", "package-lock.json", "schema.prisma"] {
            copy_if_changed(&source.join(file), &target.join(file))?;
        }
        let node = output(Command::new("node").arg("--version"))?;
        let mut wanted = node;
        for file in ["package-lock.json", "schema.prisma"] {
            wanted += &fs::read_to_string(source.join(file))?;
        }
        let stamp = target.join(".installed");
        if is(&stamp, &wanted) {
            return Ok(());
        }
        output(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&target))?;
        // Its engine for migrations would be fetched, and is not needed to make a client.
        let mut prisma = Command::new("node");
        prisma.args(["node_modules/prisma/build/index.js", "generate", "--schema=schema.prisma"]);
        prisma.env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true").current_dir(&target);
        output(&mut prisma)?;
        fs::write(stamp, wanted).context("note what was installed")
    }

    /// Installs Apache Kafka, if it is missing, and returns the directory of its jars.
    ///
    /// # Errors
    /// A missing or failing mvn, with what it printed.
    pub fn kafka(&self) -> Result<PathBuf> {
        let lock = File::create(self.target.join(".lock"))?;
        lock.lock().context("lock target/workloads")?;
        let source = self.source.join("kafka/pom.xml");
        let target = self.target.join("kafka");
        fs::create_dir_all(&target)?;
        let (jars, stamp) = (target.join("jars"), target.join(".installed"));
        let wanted = fs::read_to_string(&source)?;
        if is(&stamp, &wanted) {
            return Ok(jars);
        }
        copy_if_changed(&source, &target.join("pom.xml"))?;
        if jars.exists() {
            fs::remove_dir_all(&jars)?;
        }
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
        maven.args(["-DincludeScope=runtime", "-DoutputDirectory=jars"]).current_dir(&target);
        output(&mut maven).context("install Apache Kafka (Debian has what this needs in maven)")?;
        fs::write(stamp, wanted).context("note what was installed")?;
        Ok(jars)
    }

    /// Installs rotel, an OpenTelemetry collector of somebody else's, if it is missing, and returns its
    /// program.
    ///
    /// # Errors
    /// A failing pip, with what it printed.
    pub fn rotel(&self) -> Result<PathBuf> {
        let lock = File::create(self.target.join(".lock"))?;
        lock.lock().context("lock target/workloads")?;
        let requirements = self.sources().join("requirements-rotel.txt");
        self.venv("rotel", "python3", &requirements, OLDEST_PYTHON).context("install rotel")?;
        let mut python = Command::new(self.target.join("rotel/bin/python"));
        let found = output(python.args(["-c", "import rotel; print(rotel.__path__[0])"]))?;
        Ok(Path::new(found.trim()).join("rotel-agent"))
    }

    /// A virtual environment with these packages.
    fn venv(
        &self,
        name: &str,
        interpreter: &str,
        requirements: &Path,
        oldest: (u32, u32),
    ) -> Result<()> {
        let (version, found) = python_version(interpreter)?;
        let wanted = found.clone() + &fs::read_to_string(requirements)?;
        let venv = self.target.join(name);
        let stamp = venv.join(".installed");
        if is(&stamp, &wanted) {
            return Ok(());
        }
        let (major, minor) = oldest;
        ensure!(
            version >= oldest,
            "{interpreter} is {version:?}, {major}.{minor} or newer is needed"
        );
        output(Command::new(interpreter).args(["-m", "venv", "--clear"]).arg(&venv))
            .context("create a virtual environment (Debian has this in python3-venv)")?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        output(pip.arg(requirements))?;
        fs::write(stamp, wanted).context("note what was installed")
    }
}

/// The interpreter's version, and in its own words which it is and where.
fn python_version(interpreter: &str) -> Result<((u32, u32), String)> {
    let script = "import sys; print(sys.version_info[0], sys.version_info[1], sys.executable)";
    let found = output(Command::new(interpreter).args(["-c", script]))?;
    let mut words = found.split_whitespace().map_while(|word| word.parse().ok());
    let version = words.next().zip(words.next());
    Ok((version.context("the interpreter does not say its version")?, found))
}

fn is(path: &Path, content: &str) -> bool {
    fs::read(path).is_ok_and(|found| found == content.as_bytes())
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read_to_string(from).with_context(|| format!("read {}", from.display()))?;
    write_if_changed(to, &content)
}

fn write_if_changed(to: &Path, content: &str) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !is(to, content) {
        // Another run may start what is there at this moment: it finds the old or the new, whole.
        let (run, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let whole = to.with_file_name(format!("{name}.{run}-{number}"));
        fs::write(&whole, content).with_context(|| format!("write {}", whole.display()))?;
        fs::rename(&whole, to).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed.
fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("run {shown}"))?;
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("{shown}: {}\n{printed}{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(printed)
}
