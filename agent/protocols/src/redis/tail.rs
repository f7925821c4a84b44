//! The words of a command that come behind its keys, by their place: `NX` is a word where `ZADD` takes options, and a
//! value behind the first score.
//!
//! The table has a small grammar for each command. An argument that is no word where a word may be ends the search, so
//! that a value is never told for being spelt like a word.

/// What is left of a command's grammar.
///
/// Steps are parted by `/`. Each but the last is one argument, which may be one of the step's words. The last is what
/// may follow in any order and number, up to the first argument that is none of it: `NX` a word alone, `EX:2` one that
/// two values follow, `WEIGHTS:n` as many as there are keys, `STORE:k` a key, `KEYS:K` nothing but keys, `MAXLEN~`
/// a value that may have `=` or `~` before it, `IDS!` nothing that is told. Behind `...` what is no word ends nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    grammar: &'static str,
    /// So many that follow the last word are its own.
    operands: u32,
    /// They are keys.
    keys: bool,
    /// The next may be `=` or `~`.
    approximate: bool,
}

impl Tail {
    pub(super) fn new(grammar: &'static str) -> Self {
        Self { grammar, ..Self::default() }
    }

    /// Whether the next argument is a key.
    pub(super) fn awaits_key(&self) -> bool {
        self.keys && self.operands > 0
    }

    /// Whether the next argument may be a word.
    pub(super) fn awaits_word(&self) -> bool {
        self.operands == 0 && (self.approximate || !self.grammar.is_empty())
    }

    /// The next argument is another word's own.
    pub(super) fn operand(&mut self) {
        self.operands = self.operands.saturating_sub(1);
    }

    /// The next argument, where it may be a word: which it is. `keys`: how many keys there are.
    pub(super) fn word(&mut self, argument: &[u8], keys: u32) -> Option<&'static str> {
        if std::mem::take(&mut self.approximate) {
            let sign = ["=", "~"].into_iter().find(|sign| sign.as_bytes() == argument);
            self.operands = u32::from(sign.is_some());
            return sign;
        }
        if let Some((step, rest)) = self.grammar.split_once('/') {
            self.grammar = rest;
            return find(step, argument).map(|(word, _)| word);
        }
        let Some((word, takes)) = find(self.grammar, argument) else {
            if !self.grammar.starts_with("...") {
                self.grammar = "";
            }
            return None;
        };
        self.keys = matches!(takes, ":k" | ":K");
        match takes {
            "!" => self.grammar = "",
            "~" => self.approximate = true,
            ":K" => self.operands = u32::MAX,
            ":k" => self.operands = 1,
            ":n" => self.operands = keys,
            takes => {
                let digit = takes.bytes().last().filter(u8::is_ascii_digit);
                self.operands = digit.map_or(0, |digit| u32::from(digit - b'0'));
            }
        }
        Some(word)
    }
}

/// The word of a step that an argument is, with what it takes.
fn find(step: &'static str, argument: &[u8]) -> Option<(&'static str, &'static str)> {
    words(step).find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(argument))
}

/// The words of a step, each with what it takes.
fn words(step: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let word = |token: &'static str| {
        // `~` and `=` are words themselves.
        let end = token.len().min(1);
        let marks = token.char_indices().skip(end);
        let at = marks.clone().find(|(_, it)| matches!(it, ':' | '!' | '~')).map(|(at, _)| at);
        token.split_at_checked(at.unwrap_or(token.len()))
    };
    step.split_ascii_whitespace().filter(|token| *token != "...").filter_map(word)
}

/// All words of a grammar.
#[cfg(test)]
pub(super) fn all_words(grammar: &'static str) -> impl Iterator<Item = &'static str> {
    grammar.split('/').flat_map(words).map(|(word, _)| word)
}
