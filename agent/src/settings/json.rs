//! Fields of JSON objects, by JSON Pointers (RFC 6901).

use serde_json::Value;

use super::VALUE_LIMIT_BYTES;

/// Longest pointer.
const POINTER_LIMIT_BYTES: usize = 512;

/// Where in an object a field is: `/workflow/job_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: Box<str>,
    /// Its first part, unescaped.
    first: Box<str>,
}

/// A field that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonField {
    /// Which.
    pub pointer: Pointer,
    /// Its value: a text, or a number or truth value as JSON writes it.
    pub value: Box<str>,
}

impl Pointer {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > POINTER_LIMIT_BYTES {
            return Err("it is too long".to_owned());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err("it does not begin with a slash".to_owned());
        };
        let escapes = text.split('~').skip(1);
        if escapes.into_iter().any(|after| !after.starts_with(['0', '1'])) {
            return Err("a tilde is ~0 in it, and a slash in a name ~1".to_owned());
        }
        let first = rest.split('/').next().unwrap_or_default();
        let first = first.replace("~1", "/").replace("~0", "~");
        Ok(Self { text: text.into(), first: first.into() })
    }

    /// Its first part: a name in the outermost object.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// What is behind its first part, if anything.
    pub fn rest(&self) -> Option<&str> {
        let behind = self.text.get(1..)?;
        behind.find('/').and_then(|at| behind.get(at..))
    }

    /// This field of a value.
    fn of(&self, value: &Value) -> Option<Box<str>> {
        scalar(value.pointer(&self.text)?)
    }
}

/// A value that can be an attribute's.
fn scalar(value: &Value) -> Option<Box<str>> {
    let text: Box<str> = match value {
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => number.to_string().into(),
        Value::Bool(truth) => truth.to_string().into(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty() && text.len() <= VALUE_LIMIT_BYTES).then_some(text)
}

/// Those of these fields that an object has. What is no object has none.
pub fn fields(json: &[u8], pointers: &[Pointer]) -> Vec<JsonField> {
    // Most have none: a look at the bytes is a fraction of reading them. A name may be escaped.
    let may_have = |pointer: &Pointer| {
        memchr::memchr(b'\\', json).is_some()
            || memchr::memmem::find(json, pointer.first.as_bytes()).is_some()
    };
    if json.first() != Some(&b'{') || !pointers.iter().any(may_have) {
        return Vec::new();
    }
    let Ok(object) = serde_json::from_slice::<Value>(json) else { return Vec::new() };
    fields_of(&object, pointers)
}

/// Those of these fields that a value has.
pub fn fields_of(object: &Value, pointers: &[Pointer]) -> Vec<JsonField> {
    let found = pointers.iter().filter_map(|pointer| {
        Some(JsonField { pointer: pointer.clone(), value: pointer.of(object)? })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::text("/a", Some("x"))]
    #[case::within("/b/c", Some("7"))]
    #[case::in_a_list("/d/1", Some("true"))]
    #[case::fraction("/f", Some("1.5"))]
    #[case::escaped("/e~1f~0", Some("é"))]
    #[case::object("/b", None)]
    #[case::list("/d", None)]
    #[case::null("/n", None)]
    #[case::empty("/o", None)]
    #[case::absent("/x", None)]
    #[case::beyond("/d/2", None)]
    fn a_field(#[case] pointer: &str, #[case] value: Option<&str>) {
        let json = r#"{"a":"x","b":{"c":7},"d":[1,true],"e/f~":"\u00e9","f":1.5,"n":null,"o":""}"#;
        let pointer = Pointer::new(pointer).unwrap();
        let found = fields(json.as_bytes(), std::slice::from_ref(&pointer));
        let expected = value.map(|value| JsonField { pointer, value: value.into() });
        assert_eq!(found, Vec::from_iter(expected));
    }

    #[test]
    fn what_is_no_object_or_not_whole_has_none() {
        let pointers = [Pointer::new("/a").unwrap()];
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(VALUE_LIMIT_BYTES + 1));
        let deep = format!(r#"{{"a":1,"b":{}}}"#, "[".repeat(100_000));
        for json in ["", "7", r#"["a"]"#, r#"{"a":1"#, r#""a""#, &long, &deep] {
            assert_eq!(fields(json.as_bytes(), &pointers), []);
        }
    }

    #[rstest]
    #[case("a", "begin with a slash")]
    #[case("", "begin with a slash")]
    #[case("/a~", "tilde")]
    #[case("/a~2", "tilde")]
    fn what_is_no_pointer(#[case] text: &str, #[case] problem: &str) {
        assert!(Pointer::new(text).unwrap_err().contains(problem), "{text}");
    }

    #[test]
    fn its_parts() {
        let pointer = Pointer::new("/a~1b/c/d").unwrap();
        assert_eq!((pointer.first(), pointer.rest()), ("a/b", Some("/c/d")));
        assert_eq!(Pointer::new("/a").unwrap().rest(), None);
    }
}
