//! Fields of what a job is given to work on, where the operator asks for them.
//!
//! Of Bull's and BullMQ's its data, of Celery's the keyword arguments, of a message or an element that is a JSON
//! object that one, of an entry or a hash its fields, which may be JSON objects themselves. RQ's are pickled.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use wirespan_protocols::redis::Value;

use super::{System, Work, bytes, text};
use crate::settings::{JsonField, Pointer, VALUE_LIMIT_BYTES, fields, fields_of};

/// Those of these fields that work has, by the values of the command that hands it over or of the reply that brings
/// it. Of several messages at once: none.
pub(super) fn of(work: &Work, values: &[Value<'_>], pointers: &[Pointer]) -> Vec<JsonField> {
    if pointers.is_empty() || work.count != 1 {
        return Vec::new();
    }
    let objects = || {
        let whole = values.iter().filter_map(|value| bytes(value)?.whole());
        whole.filter(|json| json.first() == Some(&b'{'))
    };
    match work.system {
        System::Rq => Vec::new(),
        System::Celery => objects().next().map_or_else(Vec::new, |json| celerys(json, pointers)),
        System::Bull | System::BullMq => {
            // In a reply it has a name; in a script's arguments it comes before the options.
            let named = named(values, "data").and_then(|value| bytes(value)?.whole());
            let data = named.or_else(|| objects().next());
            data.map_or_else(Vec::new, |json| fields(json, pointers))
        }
        System::Redis => {
            let mut found: Vec<JsonField> = Vec::new();
            for pointer in pointers {
                let of_field =
                    named(values, pointer.first()).and_then(|value| in_field(value, pointer));
                found.extend(of_field.map(|value| JsonField { pointer: pointer.clone(), value }));
            }
            let mut objects = objects();
            match (found.is_empty(), objects.next(), objects.next()) {
                (true, Some(json), None) => fields(json, pointers),
                _ => found,
            }
        }
    }
}

/// The value behind a name: of a hash, or of an entry.
fn named<'v, 'a>(values: &'v [Value<'a>], name: &str) -> Option<&'v Value<'a>> {
    let mut pairs = values.windows(2).filter(|pair| pair.first().and_then(text) == Some(name));
    // Twice: one of them is a value.
    pairs.next().filter(|_| pairs.next().is_none())?.get(1)
}

fn in_field(value: &Value<'_>, pointer: &Pointer) -> Option<Box<str>> {
    let whole = bytes(value)?.whole()?;
    match pointer.rest() {
        None => {
            let text = std::str::from_utf8(whole).ok()?;
            (!text.is_empty() && text.len() <= VALUE_LIMIT_BYTES).then(|| text.into())
        }
        Some(rest) => {
            let within = Pointer::new(rest).ok()?;
            fields(whole, &[within]).pop().map(|found| found.value)
        }
    }
}

/// Of a message of protocol 2, whose body is a list of arguments, keyword arguments and what follows the task
/// (<https://docs.celeryq.dev/en/stable/internals/protocol.html>).
fn celerys(message: &[u8], pointers: &[Pointer]) -> Vec<JsonField> {
    #[derive(Deserialize)]
    struct Envelope {
        body: String,
        properties: Properties,
    }
    #[derive(Deserialize)]
    struct Properties {
        body_encoding: Option<String>,
    }
    type Body = (IgnoredAny, serde_json::Value, IgnoredAny);
    let Ok(Envelope { body, properties }) = serde_json::from_slice(message) else {
        return Vec::new();
    };
    let decoded = match properties.body_encoding.as_deref() {
        Some("base64") => STANDARD.decode(body).unwrap_or_default(),
        _ => body.into_bytes(),
    };
    let Ok((_, keywords, _)) = serde_json::from_slice::<Body>(&decoded) else { return Vec::new() };
    fields_of(&keywords, pointers)
}

#[cfg(test)]
mod tests {
    use wirespan_protocols::redis::Bytes;

    use super::*;

    fn value(text: &str) -> Value<'_> {
        Value::Bytes(Bytes { kept: text.as_bytes(), len: text.len() as u64, hash: Some(1) })
    }

    /// Of work of this system, by values that are texts or the beginnings of arrays.
    fn found(system: System, values: &[Value<'_>], pointers: &[&str]) -> Vec<String> {
        let pointers: Vec<Pointer> =
            pointers.iter().map(|text| Pointer::new(text).unwrap()).collect();
        let found = of(&Work::new(system, "q", "process"), values, &pointers);
        found.into_iter().map(|it| it.value.into()).collect()
    }

    #[test]
    fn bulls_data_and_not_its_options() {
        let reply = [
            Value::Array(2),
            Value::Array(6),
            value("name"),
            value("data"),
            value("data"),
            value(r#"{"workflow":{"job_id":"j-7"},"attempts":9}"#),
            value("opts"),
            value(r#"{"attempts":3}"#),
            value("42"),
        ];
        let asked = ["/workflow/job_id", "/attempts", "/absent"];
        // Its name is what the field is called.
        assert_eq!(found(System::BullMq, &reply, &asked), ["j-7", "9"]);
        let script =
            [value("sha"), value("1"), value("bull:q:"), value(r#"{"a":1}"#), value(r#"{"a":2}"#)];
        assert_eq!(found(System::Bull, &script, &["/a"]), ["1"]);
    }

    #[test]
    fn celerys_keyword_arguments() {
        let body = STANDARD.encode(r#"[[1],{"run_id":"r-1","n":5},{"chain":null}]"#);
        let message = format!(
            r#"{{"body":"{body}","headers":{{"id":"x"}},"properties":{{"body_encoding":"base64"}}}}"#
        );
        assert_eq!(
            found(System::Celery, &[value("celery"), value(&message)], &["/run_id", "/n"]),
            ["r-1", "5"]
        );
        let plain = r#"{"body":"[[],{\"run_id\":\"r-2\"},{}]","headers":{},"properties":{}}"#;
        assert_eq!(found(System::Celery, &[value(plain)], &["/run_id"]), ["r-2"]);
        for broken in ["{", r#"{"body":"!","properties":{"body_encoding":"base64"}}"#] {
            assert!(found(System::Celery, &[value(broken)], &["/run_id"]).is_empty());
        }
    }

    #[test]
    fn a_message_is_its_object_and_a_hash_its_fields() {
        let element = [Value::Array(2), value("list"), value(r#"{"id":7}"#)];
        assert_eq!(found(System::Redis, &element, &["/id"]), ["7"]);
        let hash =
            [value("job:1"), value("user"), value("u-1"), value("ctx"), value(r#"{"run":"r"}"#)];
        assert_eq!(found(System::Redis, &hash, &["/user", "/ctx/run", "/ctx/no"]), ["u-1", "r"]);
        // Which is the field's, and which a value?
        let twice = [value("user"), value("a"), value("user"), value("b")];
        assert!(found(System::Redis, &twice, &["/user"]).is_empty());
        let two = [value(r#"{"id":7}"#), value(r#"{"id":8}"#)];
        assert!(found(System::Redis, &two, &["/id"]).is_empty());
    }

    #[test]
    fn of_what_was_cut_or_is_several_nothing_is_taken() {
        let cut = Value::Bytes(Bytes { kept: br#"{"id":7}"#, len: 9, hash: None });
        assert!(found(System::Redis, &[cut], &["/id"]).is_empty());
        let work = Work { count: 2, ..Work::new(System::Redis, "q", "process") };
        let pointers = [Pointer::new("/id").unwrap()];
        assert!(of(&work, &[value(r#"{"id":7}"#)], &pointers).is_empty());
    }
}
