//! The trace context that an application put into a statement's comment, as sqlcommenter
//! (<https://google.github.io/sqlcommenter/spec/>) has it.
//!
//! Block comments only, wherever they stand; `tracestate` and other keys are not read.

use super::lexer::{Kind, Lexer};
use crate::w3c::TraceParent;

/// Reads `/*traceparent='00-...-01',...*/`: keys and values URL-encoded, values in single quotes.
///
/// `None` where there is none, or it is malformed or cut, or several say different things.
#[must_use]
pub fn traceparent_in_comment(text: &str) -> Option<TraceParent> {
    let mut found = None;
    for token in Lexer::new(text).filter(|token| token.kind == Kind::Comment) {
        let Some(content) = token.text.strip_prefix("/*").and_then(|text| text.strip_suffix("*/"))
        else {
            continue;
        };
        for pair in content.split(',') {
            let Some((key, value)) = pair.split_once('=') else { continue };
            if !key.trim().eq_ignore_ascii_case("traceparent") {
                continue;
            }
            let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            let parent = TraceParent::parse(&decode(value)?)?;
            if found.is_some_and(|found| found != parent) {
                return None;
            }
            found = Some(parent);
        }
    }
    found
}

/// URL-decodes a value; `None` for one too long to be of use, or an escape that is none.
fn decode(value: &str) -> Option<Vec<u8>> {
    // All of a version 00 value escaped.
    if value.len() > 3 * TraceParent::HEADER_BYTES {
        return None;
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(decoded)
}
