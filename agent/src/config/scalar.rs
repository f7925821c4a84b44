//! Scalars of the configuration file: `${...}` replaced, then read as what the key wants.
//!
//! What is wrong is told where it stands: the error becomes the parser's, which adds line and column. What
//! `${...}` gave is never quoted: it may be a secret.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A file that `${file:PATH}` names is a password or a token, no more.
const FILE_LIMIT_BYTES: u64 = 64 << 10;

/// What a scalar can be read as.
pub trait Leaf: Sized {
    /// What it looks like, after "expected".
    const EXPECTED: &'static str;

    /// It may be a credential: no error quotes it.
    const IS_SECRET: bool = false;

    /// An error may quote it as it was written.
    const IS_QUOTED: bool = !Self::IS_SECRET;

    /// Reads it. The error says what is wrong with it, or nothing where [`Leaf::EXPECTED`] says it all.
    ///
    /// # Errors
    /// It is none.
    fn read(text: &str) -> Result<Self, String>;

    /// The JSON Schema of what may be written.
    fn schema() -> Schema;
}

/// A scalar of the file.
#[derive(Clone, PartialEq)]
pub struct Scalar<T>(pub T);

/// The value may be a secret.
impl<T> fmt::Debug for Scalar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scalar")
    }
}

/// Variables and files that `${...}` may name.
pub(super) trait Surroundings {
    /// A variable of the agent's environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file's content.
    fn file(&self, path: &Path) -> Result<String, String>;
}

/// The agent's own.
#[derive(Default)]
pub(super) struct Real {
    /// Files that were named.
    pub(super) files: Rc<RefCell<Vec<PathBuf>>>,
}

impl Surroundings for Real {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        use std::io::Read;
        self.files.borrow_mut().push(path.to_owned());
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(cannot)?;
        file.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > FILE_LIMIT_BYTES {
            return Err(format!("{} is larger than {FILE_LIMIT_BYTES} bytes", path.display()));
        }
        // Editors and `echo` end a file with a new line.
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

thread_local! {
    /// Serde gives a scalar no context: what `${...}` may name is here while a file is read.
    static SURROUNDINGS: RefCell<Option<Box<dyn Surroundings>>> = const { RefCell::new(None) };
}

/// Runs `read` with these surroundings.
pub(super) fn within<T>(surroundings: Box<dyn Surroundings>, read: impl FnOnce() -> T) -> T {
    let before = SURROUNDINGS.replace(Some(surroundings));
    let result = read();
    SURROUNDINGS.set(before);
    result
}

/// The text with every `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` replaced, and whether there was
/// one. `$$` is a dollar sign. What is put in is not looked at again.
fn replaced(text: &str, surroundings: &dyn Surroundings) -> Result<(String, bool), String> {
    let mut result = String::new();
    let (mut rest, mut any) = (text, false);
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        let Some(inner) = after.strip_prefix('{') else {
            result.push('$');
            rest = after;
            continue;
        };
        let (inner, after) =
            inner.split_once('}').ok_or("`${` without `}`; a dollar sign itself is written $$")?;
        result.push_str(&value(inner, surroundings)?);
        (rest, any) = (after, true);
    }
    result.push_str(rest);
    Ok((result, any))
}

fn value(inner: &str, surroundings: &dyn Surroundings) -> Result<String, String> {
    if let Some(path) = inner.strip_prefix("file:") {
        return surroundings
            .file(Path::new(path))
            .map_err(|error| format!("${{{inner}}}: {error}"));
    }
    let Some(variable) = inner.strip_prefix("env:") else {
        return Err(format!(
            "${{{inner}}} is unknown: expected ${{env:NAME}}, ${{env:NAME:-default}} or ${{file:PATH}}; \
             a dollar sign itself is written $$"
        ));
    };
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("${{{inner}}}: `{name}` is no variable's name"));
    }
    // As in a shell: an empty one is as good as none where there is a default.
    match (surroundings.variable(name), default) {
        (Some(value), default) if !value.is_empty() || default.is_none() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (_, None) => Err(format!("${{{inner}}}: the variable is not set, and has no default")),
    }
}

impl<'de, T: Leaf> Deserialize<'de> for Scalar<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        let (text, any) = SURROUNDINGS
            .with_borrow(|surroundings| {
                replaced(&written, surroundings.as_deref().unwrap_or(&Real::default()))
            })
            .map_err(de::Error::custom)?;
        let read = T::read(text.trim());
        read.map(Scalar).map_err(|problem| {
            let expected = T::EXPECTED;
            let shown: String = written.chars().take(80).collect();
            // What a reader says may quote what it read.
            let problem = if any || T::IS_SECRET { String::new() } else { problem };
            let shown = if !T::IS_QUOTED { "this".to_owned() } else { format!("`{shown}`") };
            let comma = if problem.is_empty() { "" } else { ": " };
            de::Error::custom(format!(
                "{shown} is not understood{comma}{problem}; expected {expected}"
            ))
        })
    }
}

impl<T: Leaf> JsonSchema for Scalar<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::EXPECTED.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = T::schema();
        // Whatever the key wants, a reference may stand for it.
        let wanted = schema.get("type").cloned();
        if wanted.is_some_and(|wanted| wanted != "string") {
            schema = json_schema!({
                "anyOf": [schema, { "type": "string", "pattern": r"\$\{(env|file):[^}]+\}" }]
            });
        }
        schema.insert("description".to_owned(), T::EXPECTED.into());
        schema
    }
}

impl Leaf for String {
    const EXPECTED: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

impl Leaf for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(String::new()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A number of bytes: `65536`, `64KiB`, `8MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u32);

impl Leaf for Size {
    const EXPECTED: &'static str = "a number of bytes, as in 65536, 64KiB or 8MiB, from 1 to 1GiB";

    fn read(text: &str) -> Result<Self, String> {
        let bytes = bytes(text).ok_or_else(String::new)?;
        match u32::try_from(bytes) {
            Ok(bytes) if (1..=1 << 30).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(String::new()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["integer", "string"] })
    }
}

/// A number of bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSize(pub u64);

impl Leaf for DiskSize {
    const EXPECTED: &'static str = "a number of bytes, as in 64MiB or 10GiB, from 1MiB to 64GiB";

    fn read(text: &str) -> Result<Self, String> {
        let bytes = bytes(text).ok_or_else(String::new)?;
        if (1 << 20..=64 << 30).contains(&bytes) { Ok(Self(bytes)) } else { Err(String::new()) }
    }

    fn schema() -> Schema {
        Size::schema()
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = split_unit(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    Some(number.saturating_mul(factor))
}

/// A span of time: `500ms`, `10s`, `1m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl Leaf for Time {
    const EXPECTED: &'static str = "a time above zero, as in 500ms, 10s or 1m";

    fn read(text: &str) -> Result<Self, String> {
        let (digits, unit) = split_unit(text);
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(String::new()),
        };
        let number: u64 = digits.parse().map_err(|_none| String::new())?;
        match number.saturating_mul(factor) {
            0 => Err(String::new()),
            milliseconds => Ok(Self(Duration::from_millis(milliseconds))),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h)$" })
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    (digits, unit.trim_start())
}

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl Leaf for Ratio {
    const EXPECTED: &'static str = "a number from 0 to 1";

    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Self(ratio)),
            _ => Err(String::new()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// A count that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

impl Leaf for Count {
    const EXPECTED: &'static str = "a whole number from 1 to 1000000";

    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count) if (1..=1_000_000).contains(&count) => Ok(Self(count)),
            _ => Err(String::new()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 1_000_000 })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    struct Fake;

    impl Surroundings for Fake {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "A" => Some("a".to_owned()),
                "EMPTY" => Some(String::new()),
                "NESTED" => Some("${env:A}".to_owned()),
                _ => None,
            }
        }

        fn file(&self, path: &Path) -> Result<String, String> {
            if path == Path::new("/run/token") {
                Ok("t0ken".to_owned())
            } else {
                Err("no".to_owned())
            }
        }
    }

    #[rstest]
    #[case("plain", "plain")]
    #[case("x${env:A}y${env:A}", "xaya")]
    #[case("${env:NONE:-d}", "d")]
    #[case("${env:EMPTY:-d}", "d")]
    #[case("${env:EMPTY}", "")]
    #[case("${env:A:-d}", "a")]
    #[case("Bearer ${file:/run/token}", "Bearer t0ken")]
    #[case("$$ costs $5 $${env:A}", "$ costs $5 ${env:A}")]
    #[case::not_again("${env:NESTED}", "${env:A}")]
    fn references_are_replaced(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(replaced(text, &Fake).unwrap().0, expected);
    }

    #[rstest]
    #[case("${env:NONE}", "is not set")]
    #[case("${env:}", "no variable's name")]
    #[case("${A}", "expected ${env:NAME}")]
    #[case("${env:A", "without `}`")]
    #[case("${file:/run/other}", "${file:/run/other}: no")]
    fn references_that_lead_nowhere_say_so(#[case] text: &str, #[case] part: &str) {
        let error = replaced(text, &Fake).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_real_file_ends_without_its_new_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        assert_eq!(Real::default().file(&path).unwrap(), "s3cret");
        assert!(
            Real::default()
                .file(Path::new("/nowhere"))
                .unwrap_err()
                .contains("cannot read /nowhere")
        );
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        assert!(Real::default().file(&path).unwrap_err().contains("larger than"));
    }

    #[test]
    fn units_are_read() {
        assert_eq!(Size::read("64KiB").unwrap(), Size(65_536));
        assert_eq!(Size::read("12").unwrap(), Size(12));
        assert_eq!(DiskSize::read("1MiB").unwrap(), DiskSize(1 << 20));
        assert_eq!(DiskSize::read("64 GiB").unwrap(), DiskSize(64 << 30));
        for text in ["", "1023KiB", "65GiB", "1TiB", "-1", "99999999999999999999GiB"] {
            assert!(DiskSize::read(text).is_err(), "{text}");
        }
        assert_eq!(Time::read("1500ms").unwrap(), Time(Duration::from_millis(1_500)));
        assert_eq!(Time::read("2 m").unwrap(), Time(Duration::from_secs(120)));
        assert_eq!(Time::read("3h").unwrap(), Time(Duration::from_secs(10_800)));
        for text in ["", "0", "-1", "1KB", "5GiB", "ä", "99999999999999999999"] {
            assert!(Size::read(text).is_err(), "{text}");
        }
        for text in ["", "10", "0s", "-1s", "1d", "ä"] {
            assert!(Time::read(text).is_err(), "{text}");
        }
    }
}
