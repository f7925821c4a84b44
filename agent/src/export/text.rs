//! Text from the wire, made fit for a terminal: escaped, measured, shortened.
//!
//! Part of the export stage. Widths are in terminal columns, not bytes or characters.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// `text` with everything escaped that could move the cursor, change a colour, or show text other than
/// it is: control characters (C0, DEL, C1), line and paragraph separators, and Unicode's invisible and
/// bidirectional format characters ("Trojan Source", CVE-2021-42574).
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_dangerous(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The columns that `text` takes.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// `text` in at most `limit` columns, its end replaced by `…` if it had to be cut.
pub(super) fn shortened(text: &str, limit: usize) -> Cow<'_, str> {
    if columns(text) <= limit {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars() {
        let width = character.width().unwrap_or(0);
        if used + width + 1 > limit {
            break;
        }
        used += width;
        short.push(character);
    }
    if limit > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

/// A duration in three or more digits and a unit, in at most 9 columns below 27 hours.
#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
pub(super) fn duration(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", (ns + 500) / 1_000),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_commands_a_terminal_is_escaped() {
        for (text, expected) in [
            ("plain ünïcode 東京 ✗", "plain ünïcode 東京 ✗"),
            ("\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn shortening_counts_columns() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("longer", 5), "long…");
        assert_eq!(shortened("東京都", 6), "東京都");
        assert_eq!(shortened("東京都", 5), "東京…");
        assert_eq!(shortened("東京都", 4), "東…");
        assert_eq!(shortened("ab", 1), "…");
        assert_eq!(shortened("ab", 0), "");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left_and_the_limit_is_kept(text in any::<String>(), limit in 0usize..90) {
            let printable = printable(&text);
            prop_assert!(!printable.chars().any(is_dangerous));
            prop_assert!(columns(&shortened(&printable, limit)) <= limit);
        }
    }
}
