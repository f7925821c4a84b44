//! Inline commands: a line of words, as a person types them or a health check sends them.
//!
//! Split as Redis does (`sdssplitargs` in its sds.c): white space parts, quotes hold together, and a line whose quotes
//! don't fit is none.

use super::command::Builder;

/// A quote has no end, or is followed by something else than white space: the server refuses the line, and closes.
#[derive(Debug)]
pub(super) struct Unbalanced;

/// Hands a line's words to the builder. `whole`: the line was captured and kept to its end; `room`: what a word
/// is put together in.
pub(super) fn read(
    line: &[u8],
    whole: bool,
    room: &mut Vec<u8>,
    builder: &mut Builder,
) -> Result<(), Unbalanced> {
    // What follows is not looked at by the server either.
    let line = line.split(|byte| *byte == 0).next().unwrap_or(line);
    if whole {
        let (mut words, mut rest) = (0, line);
        while let Some((after, _)) = word(rest, whole, room)? {
            (words, rest) = (words + 1, after);
        }
        builder.set_total(words);
    }
    let mut rest = line;
    while let Some((after, ended)) = word(rest, whole, room)? {
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
    Ok(())
}

/// Whether a line has no word.
pub(super) fn is_empty(line: &[u8]) -> bool {
    line.iter().take_while(|byte| **byte != 0).all(|byte| is_space(*byte))
}

/// As C's `isspace`, which is what parts words of quotes.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// What follows a word, and whether something showed its end.
type Ended<'a> = Option<(&'a [u8], bool)>;

/// Puts the next word into `room`.
fn word<'a>(line: &'a [u8], whole: bool, room: &mut Vec<u8>) -> Result<Ended<'a>, Unbalanced> {
    room.clear();
    let Some(mut rest) =
        line.iter().position(|byte| !is_space(*byte)).and_then(|start| line.get(start..))
    else {
        return Ok(None);
    };
    let mut quote = None;
    loop {
        rest = match (quote, rest) {
            // Of a line that was cut the end of the quote may follow.
            (Some(_), []) if whole => return Err(Unbalanced),
            (_, []) => return Ok(Some((rest, false))),
            (Some(b'"'), [b'\\', b'x', high, low, after @ ..])
                if let Some(byte) = hex(*high).zip(hex(*low)) =>
            {
                room.push(byte.0 << 4 | byte.1);
                after
            }
            (Some(b'"'), [b'\\', escaped, after @ ..]) => {
                room.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            (Some(b'\''), [b'\\', b'\'', after @ ..]) => {
                room.push(b'\'');
                after
            }
            (Some(open), [byte, after @ ..]) if *byte == open => {
                return match after {
                    [] => Ok(Some((after, whole))),
                    [next, ..] if is_space(*next) => Ok(Some((after, true))),
                    _ => Err(Unbalanced),
                };
            }
            (None, [open @ (b'"' | b'\''), after @ ..]) => {
                quote = Some(*open);
                after
            }
            // Not all white space: a form feed is a word's.
            (None, [b' ' | b'\n' | b'\r' | b'\t', after @ ..]) => return Ok(Some((after, true))),
            (_, [byte, after @ ..]) => {
                room.push(*byte);
                after
            }
        };
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The words of a whole line.
    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut words, mut rest, mut room) = (Vec::new(), line, Vec::new());
        while let Some((after, _)) = word(rest, true, &mut room).ok()? {
            words.push(room.clone());
            rest = after;
        }
        Some(words)
    }

    #[rstest]
    #[case(b"SET a b", Some("SET|a|b"))]
    #[case(b"  SET\ta \x0b b  ", Some("SET|a|b"))]
    #[case(b"a\x0cb c", Some("a\x0cb|c"))]
    #[case(b"\"a b\" 'c d'", Some("a b|c d"))]
    #[case(b"\"\\x41\\xg1\\n\\\"\\\\\"", Some("Axg1\n\"\\"))]
    #[case(b"'a\\\\b\\'c\\n'", Some("a\\\\b'c\\n"))]
    #[case(b"a\"b c\"", Some("ab c"))]
    #[case(b"\"\" ''", Some("|"))]
    #[case(b"a\\ b", Some("a\\|b"))]
    #[case(b"\"a", None)]
    #[case(b"'a", None)]
    #[case(b"\"a\"b", None)]
    #[case(b"'a'b", None)]
    #[case(b"\"a\\", None)]
    #[case(b"", Some(""))]
    fn words_are_parted_as_the_server_does(#[case] line: &[u8], #[case] expected: Option<&str>) {
        let words = words(line).map(|words| words.join(&b'|'));
        assert_eq!(words.as_deref(), expected.map(str::as_bytes));
    }
}
