//! Inline commands: a line of words, as a person types them or a health check sends them.
//!
//! Split as Redis does (`sdssplitargs` in its sds.c): white space parts, quotes hold together.

use super::command::Builder;

/// Hands a line's words to the builder. `whole`: the line was captured and kept to its end.
pub(super) fn read(line: &[u8], whole: bool, builder: &mut Builder) {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((word, after, ended)) = word(rest) {
        words.push((word, ended || whole));
        rest = after;
    }
    if whole {
        builder.set_total(u32::try_from(words.len()).unwrap_or(u32::MAX));
    }
    for (word, ended) in words {
        let wanted = word.get(..builder.wanted()).unwrap_or(&word);
        // Of a cut word there is more than there is.
        let len = word.len() as u64 + u64::from(!ended);
        builder.argument(wanted, len);
    }
}

/// The next word, what follows it, and whether something showed its end.
fn word(line: &[u8]) -> Option<(Vec<u8>, &[u8], bool)> {
    let start = line.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let mut rest = line.get(start..)?;
    let mut word = Vec::new();
    let mut quote = None;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, byte) if byte.is_ascii_whitespace() => return Some((word, rest, true)),
            (Some(open), byte) if byte == open => quote = None,
            (Some(b'"'), b'\\') | (Some(b'\''), b'\\') => match rest.split_first() {
                // Escapes other than of the quote mean bytes that no key of interest has: kept as they are.
                Some((&escaped, after))
                    if escaped == b'\'' || escaped == b'"' || escaped == b'\\' =>
                {
                    word.push(escaped);
                    rest = after;
                }
                _ => word.push(b'\\'),
            },
            (_, byte) => word.push(byte),
        }
    }
    Some((word, rest, false))
}
