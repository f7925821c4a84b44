//! Inline commands: a line of words, as a person types them or a health check sends them.
//!
//! Split as Redis does (`sdssplitargs` in its sds.c): white space parts, quotes hold together.

use super::command::Builder;

/// Hands a line's words to the builder. `whole`: the line was captured and kept to its end; `room`: what a word
/// is put together in.
pub(super) fn read(line: &[u8], whole: bool, room: &mut Vec<u8>, builder: &mut Builder) {
    if whole {
        let (mut words, mut rest) = (0, line);
        while let Some((after, _)) = word(rest, room) {
            (words, rest) = (words + 1, after);
        }
        builder.set_total(words);
    }
    let mut rest = line;
    while let Some((after, ended)) = word(rest, room) {
        rest = after;
        let wanted = room.get(..builder.wanted()).unwrap_or(room);
        // Of a cut word there is more than there is.
        let len = room.len() as u64 + u64::from(!ended && !whole);
        if builder.asks() {
            builder.begin_value(len);
            builder.value(room);
            if len > room.len() as u64 {
                builder.value_missing();
            }
        }
        builder.argument(wanted, len);
    }
}

/// Puts the next word into `room`; what follows it, and whether something showed its end.
fn word<'a>(line: &'a [u8], room: &mut Vec<u8>) -> Option<(&'a [u8], bool)> {
    room.clear();
    let start = line.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let mut rest = line.get(start..)?;
    let mut quote = None;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, byte) if byte.is_ascii_whitespace() => return Some((rest, true)),
            (Some(open), byte) if byte == open => quote = None,
            (Some(b'"'), b'\\') | (Some(b'\''), b'\\') => match rest.split_first() {
                // Escapes other than of the quote mean bytes that no key of interest has: kept as they are.
                Some((&escaped, after))
                    if escaped == b'\'' || escaped == b'"' || escaped == b'\\' =>
                {
                    room.push(escaped);
                    rest = after;
                }
                _ => room.push(b'\\'),
            },
            (_, byte) => room.push(byte),
        }
    }
    Some((rest, false))
}
