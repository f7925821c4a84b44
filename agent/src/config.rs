//! The configuration file: its shape, reading it, and what is wrong with it.
//!
//! One YAML file. Strict: every key is known, every value is tried where it stands, so that an error names file,
//! line, column and key. What the flags and the environment say on top is `config/plan.rs`'s. Knows no process.

pub mod exporters;
pub mod matching;
pub mod plan;
pub mod reference;
pub mod scalar;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod traffic;
pub mod watch;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::containers::Socket;
use exporters::{Exporter, Queue};
use matching::Match;
use scalar::{Leaf, Scalar, Size, Surroundings};
use settings::{Settings, Taken};

/// Where the file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/wirespan/wirespan.yaml";

/// A larger file is none.
const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which processes are traced: the first rule that holds decides. Read again when the file changes.
    pub rules: Vec<AllowRule>,
    /// Trace every Node.js and Python process, also those that no rule allows. Default: false. Read again when the
    /// file changes.
    pub all: Option<Scalar<bool>>,
    /// What is done with spans where a rule says nothing else. Read again when the file changes.
    pub settings: Settings,
    /// Where spans go. Default: the console.
    #[serde(deserialize_with = "exporters_apart")]
    pub exporters: Option<Vec<CheckedExporter>>,
    /// How many spans may wait before each exporter.
    pub queue: Queue,
    /// What the kernel programs copy. Read at the start only.
    pub capture: Capture,
    /// Who says what containers are. Read at the start only.
    pub containers: Containers,
    /// Files that `${file:PATH}` named.
    #[serde(skip)]
    #[schemars(skip)]
    pub files: Vec<PathBuf>,
}

/// Processes that are traced, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowRule {
    /// Which processes: all conditions must hold. `{}` is every Node.js and Python process.
    #[serde(rename = "match")]
    pub matching: Match,
    /// Their `service.name`, instead of what is found out: text, `{env: NAME}`, `{arg: OPTION}` or `{label: KEY}`, with
    /// a `default`.
    #[serde(default)]
    pub service: Option<Taken>,
    /// Resource attributes, by name: values as for `service`, or numbers, or true and false.
    #[serde(default)]
    pub attributes: Attributes,
    /// What is done with their spans where it differs from the file's `settings`.
    #[serde(default)]
    pub settings: Settings,
}

/// Resource attributes.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(transparent)]
pub struct Attributes(pub BTreeMap<String, Taken>);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let attributes = BTreeMap::<String, Taken>::deserialize(deserializer)?;
        for name in attributes.keys() {
            let problem = if name == "service.name" {
                "it is named by `service`"
            } else if name.starts_with("telemetry.") {
                "only the agent may state it"
            } else if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                "it is no attribute's name"
            } else {
                continue;
            };
            return Err(de::Error::custom(format!("`{}`: {problem}", name.escape_debug())));
        }
        Ok(Self(attributes))
    }
}

/// An exporter whose parts fit together.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(transparent)]
pub struct CheckedExporter(pub Exporter);

impl<'de> Deserialize<'de> for CheckedExporter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let exporter = Exporter::deserialize(deserializer)?;
        if let Exporter::Otlp(otlp) = &exporter {
            otlp.check().map_err(de::Error::custom)?;
        }
        Ok(Self(exporter))
    }
}

/// Exporters that are not in each other's way.
fn exporters_apart<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<CheckedExporter>>, D::Error> {
    let exporters = Option::<Vec<CheckedExporter>>::deserialize(deserializer)?;
    let mut directories = HashSet::new();
    for CheckedExporter(exporter) in exporters.iter().flatten() {
        if let Exporter::Otlp(otlp) = exporter
            && let Some(queue) = &otlp.disk_queue
            && !directories.insert(Path::new(&queue.directory.0))
        {
            return Err(de::Error::custom(
                "two exporters have the same `disk_queue.directory`: each needs one of its own",
            ));
        }
    }
    Ok(exporters)
}

/// What the kernel programs copy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Payload bytes copied of each burst, enough for heads. Of what looks like Redis, PostgreSQL or Kafka 64 times
    /// as many. Default: 4096.
    pub payload_budget: Option<Scalar<Size>>,
    /// Bytes of each ring buffer between kernel and agent. Default: 8MiB.
    pub ring_size: Option<Scalar<Size>>,
    /// Have the kernel measure what the hooks cost. Default: false.
    pub measure_hooks: Option<Scalar<bool>>,
}

/// Who says what containers are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Containers {
    /// Where container engines listen, of which the first that knows a container is believed: `cri:PATH` (containerd,
    /// CRI-O, cri-dockerd) or `docker:PATH` (Docker, Podman). They are asked only for what containers are. Default:
    /// those of the usual sockets under `/run` that are there, also of the machine's `/run` as `/proc/1/root` shows it
    /// to an agent in a container; `[]` asks none.
    pub sockets: Option<Vec<Scalar<Socket>>>,
}

impl Leaf for Socket {
    const EXPECTED: &'static str =
        "cri: or docker: and an absolute path, as in cri:/run/containerd/containerd.sock";

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^(cri|docker):/" })
    }
}

/// What is wrong with a file. Quotes no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Where, from 1; `None` where it is the file as a whole.
    pub place: Option<(u64, u64)>,
    /// The key, as in `rules[0].match.port`; empty for the file as a whole.
    pub key: String,
    /// What.
    pub problem: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read;
        let wrong = |problem: String| ConfigError {
            file: path.to_owned(),
            place: None,
            key: String::new(),
            problem,
        };
        let cannot = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(cannot)?;
        file.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > FILE_LIMIT_BYTES {
            return Err(wrong(format!("larger than {FILE_LIMIT_BYTES} bytes")));
        }
        let real = scalar::Real::default();
        let files = Rc::clone(&real.files);
        let config = Self::parse(&text, path, Box::new(real))?;
        Ok(Self { files: files.take(), ..config })
    }

    fn parse(
        text: &str,
        path: &Path,
        surroundings: Box<dyn Surroundings>,
    ) -> Result<Self, ConfigError> {
        // A file of comments is one that says nothing.
        if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
            return Ok(Self::default());
        }
        let mut key = String::new();
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let parsed = scalar::within(surroundings, || {
            serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
                serde_path_to_error::deserialize(deserializer).map_err(|error| {
                    key = error.path().to_string();
                    error.into_inner()
                })
            })
        });
        parsed.map_err(|error| {
            let place = error.location().map(|at| (at.line(), at.column()));
            // The parser says where, too: here it is said once, before.
            let problem = error.without_snippet().to_string();
            let said = place.map(|(line, column)| format!(" at line {line}, column {column}"));
            let problem = said.map_or(problem.clone(), |said| problem.replace(&said, ""));
            let key = if key == "." { String::new() } else { key };
            ConfigError { file: path.to_owned(), place, key, problem }
        })
    }
}
