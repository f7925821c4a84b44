//! `OTEL_RESOURCE_ATTRIBUTES`: the resource that a process's operator described.
//!
//! The format is W3C Baggage's without metadata, and one error discards the whole value:
//! <https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable>.

/// More than a resource needs, and a bound on what one process can make every span carry.
const PAIRS_LIMIT: usize = 128;

/// Why the variable was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MalformedPair {
    #[error("a pair without '='")]
    NoValue,
    #[error("an empty key")]
    NoKey,
    #[error("a character that must be percent-encoded")]
    Unencoded,
    #[error("a percent sign that encodes nothing, or bytes that are not UTF-8")]
    Encoding,
    #[error("more than {PAIRS_LIMIT} pairs")]
    TooMany,
}

/// The pairs in order; of two with one key the later counts. An empty list member (a trailing comma)
/// is no error, as RFC 9110, 5.6.1.2 asks of recipients.
pub(super) fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, MalformedPair> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        let (key, value) = member.split_once('=').ok_or(MalformedPair::NoValue)?;
        if value.contains('=') {
            return Err(MalformedPair::Unencoded);
        }
        let (key, value) = (decoded(key.trim())?, decoded(value.trim())?);
        if key.is_empty() {
            return Err(MalformedPair::NoKey);
        }
        pairs.retain(|(earlier, _)| *earlier != key);
        pairs.push((key, value));
        if pairs.len() > PAIRS_LIMIT {
            return Err(MalformedPair::TooMany);
        }
    }
    Ok(pairs)
}

fn decoded(text: &str) -> Result<String, MalformedPair> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(MalformedPair::Encoding);
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).map_err(|_invalid| MalformedPair::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        resource_attributes(text).unwrap()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn pairs_are_decoded() {
        assert_eq!(
            pairs("service.name=a%20b, team = %C3%A9%2C%3D ,x=,"),
            owned(&[("service.name", "a b"), ("team", "é,="), ("x", "")])
        );
        assert_eq!(pairs("a=1,b=2,a=3"), owned(&[("b", "2"), ("a", "3")]));
        assert_eq!(pairs("  "), []);
    }

    #[test]
    fn one_error_discards_everything() {
        for (text, error) in [
            ("a=1,b", MalformedPair::NoValue),
            ("a=1,=2", MalformedPair::NoKey),
            ("a=1,b=%zz", MalformedPair::Encoding),
            ("a=1,b=%2", MalformedPair::Encoding),
            ("a=1,b=%ff", MalformedPair::Encoding),
            ("a=1,b=x=y", MalformedPair::Unencoded),
        ] {
            assert_eq!(resource_attributes(text), Err(error), "{text}");
        }
        let many: Vec<String> = (0..200).map(|n| format!("k{n}=v")).collect();
        assert_eq!(resource_attributes(&many.join(",")), Err(MalformedPair::TooMany));
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(values in prop::collection::vec(any::<String>(), 0..6)) {
            let encode = |text: &str| {
                text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()
            };
            let text: Vec<String> =
                values.iter().enumerate().map(|(n, v)| format!("k{n}={}", encode(v))).collect();
            let expected: Vec<_> =
                values.iter().enumerate().map(|(n, v)| (format!("k{n}"), v.clone())).collect();
            prop_assert_eq!(pairs(&text.join(",")), expected);
        }

        #[test]
        fn any_text_is_an_answer(text in any::<String>()) {
            if let Ok(pairs) = resource_attributes(&text) {
                prop_assert!(pairs.iter().all(|(key, _)| !key.is_empty()));
            }
        }
    }
}
