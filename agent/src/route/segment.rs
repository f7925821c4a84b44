//! What one path segment is, told from its text alone: an identifier, a date, a slug, or a word.
//!
//! Biased towards words: a value taken for a word costs a name until [`super::Routes`] has learned
//! better, a word taken for a value hides a route for good.

use std::borrow::Cow;
use std::fmt;

/// What a segment that is no fixed word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Numbers, UUIDs, hashes, ULIDs, KSUIDs, nanoids, prefixed ids, tokens.
    Id,
    /// Days, months, weeks, timestamps.
    Date,
    /// E-mail addresses.
    Email,
    /// Languages with a region.
    Locale,
    /// Several words that are a title.
    Slug,
    /// File names with a number or a hash in them.
    File,
    /// What a fixed route would not be written with.
    Value,
}

/// A literal longer than this is no route's.
const WORD_LIMIT_BYTES: usize = 48;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "{id}",
            Self::Date => "{date}",
            Self::Email => "{email}",
            Self::Locale => "{locale}",
            Self::Slug => "{slug}",
            Self::File => "{file}",
            Self::Value => "{value}",
        })
    }
}

/// The kind of a segment at `depth` (0 for the first), or `None` for a word. Linear in its length.
pub(super) fn classify(raw: &str, depth: usize) -> Option<Kind> {
    // What stands for the rest of a long path, and the target of `OPTIONS *`.
    if raw == "*" {
        return None;
    }
    let decoded = decode(raw);
    let text = decoded.as_ref();
    let escaped = matches!(decoded, Cow::Owned(_));
    let otherwise = escaped.then_some(Kind::Value);
    if !text.is_ascii() {
        return Some(if is_email(text) { Kind::Email } else { Kind::Value });
    }
    if is_version(text) || is_dotted_version(text, depth) {
        return otherwise;
    }
    if is_email(text) {
        return Some(Kind::Email);
    }
    if is_date(text) {
        return Some(Kind::Date);
    }
    if is_locale(text) {
        return Some(Kind::Locale);
    }
    if is_numeric(text) || is_token(text) {
        return Some(Kind::Id);
    }
    if let Some(kind) = file(text) {
        return kind.or(otherwise);
    }
    words(text, depth).or_else(|| {
        let strange = text.len() > WORD_LIMIT_BYTES || !is_word_like(text);
        if strange { Some(Kind::Value) } else { otherwise }
    })
}

/// Whether it could be a title, where titles were seen: words joined by dashes or underscores.
pub(super) fn is_joined(text: &str) -> bool {
    let joined = text.bytes().any(|byte| byte == b'-' || byte == b'_');
    joined && text.split(['-', '_']).all(|word| !word.is_empty() && is_alphanumeric(word))
}

/// Whether it is a language alone as sites begin their paths with one: `/de/...`. The codes that are
/// also words, departments or parameters (`it`, `no`, `id`, `is`, `me`) are not among them.
pub(super) fn is_leading_language(text: &str) -> bool {
    const COMMON: &str =
        "arbgcsdadeelenesfafifrhehihrhuhyjakakkkolvmsnlplptroruskslsqsrsvthtrukurvizh";
    text.len() == 2 && pair_in(COMMON, text)
}

/// Whether it is the code of a language (ISO 639-1): one only where its position says so.
pub(super) fn is_language(text: &str) -> bool {
    text.len() == 2 && pair_in(LANGUAGES, text)
}

/// ISO 639-1.
const LANGUAGES: &str = "aaabaeafakamanarasavayazbabebgbibmbnbobrbscacechcocrcscucvcydadedvdzeeel\
    eneoeseteufafffifjfofrfygagdglgnguhahehihohrhthuhyhziaidieigiiikioisitiujajvkakgkikjkkklkmkn\
    kokrkskukvkwkylalblgliloltlulvmgmhmimkmlmnmrmsmtmynanbndnengnlnnnonrnvnyocojomorospapiplpspt\
    qurmrnrorurwsasdsesgsiskslsmsnsosqsrssstsusvswtatetgthtitktltntotrtstttwtyugukuruzvevivowawo\
    xhyiyozazhzu";

/// ISO 3166-1 alpha-2.
const COUNTRIES: &str = "ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBY\
    BZCACCCDCFCGCHCICKCLCMCNCOCRCUCVCWCXCYCZDEDJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGH\
    GIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILIMINIOIQIRISITJEJMJOJPKEKGKHKIKMKNKPKRKWKYKZLALBLC\
    LILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZOMPAPE\
    PFPGPHPKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSVSXSYSZTCTDTFTGTHTJTK\
    TLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSYEYTZAZMZW";

fn pair_in(pairs: &str, pair: &str) -> bool {
    pairs.as_bytes().chunks_exact(2).any(|known| known == pair.as_bytes())
}

/// Undoes `%XX`; a sequence that encodes nothing stays, bytes that are not UTF-8 become U+FFFD.
fn decode(raw: &str) -> Cow<'_, str> {
    if !raw.contains('%') {
        return Cow::Borrowed(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let encoded = match after {
            [high, low, ..] if byte == b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                digit(*high).zip(digit(*low)).map(|(high, low)| high * 16 + low)
            }
            _ => None,
        };
        match encoded.and_then(|value| u8::try_from(value).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// `v1`, `v2.1`, `v1beta1`.
fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['v', 'V']) else { return false };
    let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if digits.len() == rest.len() || rest.len() > 12 {
        return false;
    }
    let stage = digits.trim_end_matches(|c: char| c.is_ascii_digit());
    ["", "alpha", "beta", "rc"].contains(&stage)
}

/// `1.1` as the first or second segment is an interface's version, further in it is a value.
fn is_dotted_version(text: &str, depth: usize) -> bool {
    depth <= 1
        && matches!(text.as_bytes(), [a, b'.', b] if a.is_ascii_digit() && b.is_ascii_digit())
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let labels = domain.split('.').all(|label| !label.is_empty());
    !local.is_empty() && domain.contains('.') && labels && !text.contains(char::is_whitespace)
}

/// `2024-05-11`, `11-05-2024`, `2024-05`, `2024-W19`, and ISO 8601 times after a `T`.
fn is_date(text: &str) -> bool {
    let (day, time) = match text.split_once(['T', ' ']) {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let clock = |time: &str| {
        time.starts_with(|c: char| c.is_ascii_digit())
            && time.bytes().all(|byte| byte.is_ascii_digit() || b":.,+-Z".contains(&byte))
    };
    if !time.is_none_or(clock) {
        return false;
    }
    let numbers: Vec<&str> = day.splitn(4, ['-', '_', '.']).collect();
    let number = |text: &str, width: usize, most: u32| {
        text.len() == width
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse().is_ok_and(|value: u32| value <= most)
    };
    let year =
        |text: &str| number(text, 4, 2999) && (text.starts_with('1') || text.starts_with('2'));
    match numbers.as_slice() {
        [y, m, d] if year(y) => number(m, 2, 12) && number(d, 2, 31),
        [d, m, y] if year(y) => number(m, 2, 31) && number(d, 2, 31),
        [y, m] if year(y) => {
            number(m, 2, 12) || m.strip_prefix(['W', 'w']).is_some_and(|week| number(week, 2, 53))
        }
        // "20240511T101500Z"; without a time it is a number like others.
        [day] => time.is_some() && number(day, 8, 29_991_231),
        _ => false,
    }
}

/// `en-US`, `pt_br`, `zh-Hant`, `zh-Hans-CN` (RFC 5646); a language alone is told by its position.
fn is_locale(text: &str) -> bool {
    let mut parts = text.split(['-', '_']);
    let (Some(language), Some(second)) = (parts.next(), parts.next()) else { return false };
    let country = |text: &str| text.len() == 2 && pair_in(COUNTRIES, &text.to_ascii_uppercase());
    let script = |text: &str| {
        let known = ["Hans", "Hant", "Latn", "Cyrl", "Arab", "Deva"];
        known.iter().any(|name| name.eq_ignore_ascii_case(text))
    };
    let rest = match (parts.next(), parts.next()) {
        (None, None) => country(second) || script(second),
        (Some(third), None) => script(second) && country(third),
        _ => false,
    };
    // "to-do", "is-it": words that happen to be a language and a country.
    rest && is_language(&language.to_ascii_lowercase())
        && !["to-do", "is-it", "no-no"].contains(&text)
}

/// Numbers, with the signs and separators that coordinates, ranges, amounts and lists have.
fn is_numeric(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || b".,:;+-_x".contains(&byte))
}

/// An identifier that no person would write.
fn is_token(text: &str) -> bool {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let text = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    let shape = Shape::of(text);
    if shape.foreign > 0 {
        // base64 with padding, or a JSON web token's three parts.
        let body = text.trim_end_matches('=');
        let base64 = body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_/.".contains(&b));
        let padded =
            text.len() >= 8 && base64 && text.len() - body.len() <= 2 && body.len() < text.len();
        return padded || (base64 && text.len() >= 24 && text.starts_with("eyJ"));
    }
    if shape.hex == shape.alphanumeric {
        // Hexadecimal with or without dashes; below 16 digits without a number it may be a word.
        if shape.hex >= 16 || (shape.hex >= 7 && shape.digits > 0) {
            return true;
        }
    }
    // A title's words and numbers are no token, however they are joined.
    if shape.separators > 0 && text.split(['-', '_']).all(is_plain_word) {
        return prefixed_number(text);
    }
    // A title with a short identifier among its words is a title; base64 may hold words by chance.
    if shape.separators > 1 {
        let of_title = |part: &str| is_letters(part) || Shape::of(part).upper == 0;
        let parts = || text.split(['-', '_']);
        let words = parts().filter(|part| part.len() >= 2 && is_letters(part)).count();
        if words >= 2 && parts().all(of_title) {
            return false;
        }
    }
    let n = shape.alphanumeric;
    let scattered = n >= 6 && shape.digit_changes >= 3;
    let mixed = n >= 8 && shape.digits > 0 && shape.changes >= 4 && shape.changes * 3 >= n;
    let shouting = n >= 16 && shape.lower > 0 && (shape.upper_runs >= 2 || shape.consonants >= 6);
    let unspeakable = n >= 12 && (shape.upper == 0 || shape.lower == 0) && shape.consonants >= 7;
    scattered || mixed || shouting || unspeakable || numbered(text)
}

/// `user1234`, `SKU4411`, `20240511a`: letters with a number of three digits or more on one side.
fn numbered(text: &str) -> bool {
    if !is_alphanumeric(text) {
        return false;
    }
    let digits = |byte: &u8| byte.is_ascii_digit();
    let trailing = text.bytes().rev().take_while(digits).count();
    let leading = text.bytes().take_while(digits).count();
    trailing >= 3 || leading >= 4
}

/// `ord-12345`, `INV-2024-001`, `user_8841`, `PROJ-42`: a short prefix and numbers.
fn prefixed_number(text: &str) -> bool {
    let mut parts = text.split(['-', '_']);
    let Some(first) = parts.next() else { return false };
    let mut numbers = 0_usize;
    let mut longest = 0;
    for part in parts {
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        numbers += 1;
        longest = longest.max(part.len());
    }
    let capitals = first.bytes().all(|byte| byte.is_ascii_uppercase());
    let letters = first.bytes().all(|byte| byte.is_ascii_alphabetic());
    letters && first.len() <= 12 && numbers > 0 && (longest >= 2 || capitals)
}

/// A file's name: `Some(Some(File))` if it varies, `Some(None)` if it is a fixed one.
fn file(text: &str) -> Option<Option<Kind>> {
    let (stem, suffix) = text.rsplit_once('.')?;
    let suffixed = (1..=5).contains(&suffix.len())
        && is_alphanumeric(suffix)
        && suffix.bytes().any(|byte| byte.is_ascii_alphabetic());
    if !suffixed || stem.is_empty() {
        return None;
    }
    if !stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~@+".contains(&byte)) {
        return Some(Some(Kind::Value));
    }
    let varies = |part: &str| {
        let shape = Shape::of(part);
        is_token(part)
            || shape.digits >= 3
            // Bundlers' hashes: eight characters of base 32 or 64.
            || (part.len() >= 8 && shape.digits > 0 && shape.changes >= 2)
            || (part.len() == 8 && shape.changes >= 4)
    };
    let whole = is_numeric(stem) || is_token(stem) || is_date(stem);
    let part = || stem.split(['.', '-', '_', '~', '@', '+']).any(varies);
    let long = stem.split(['-', '_']).filter(|part| !part.is_empty()).count() >= 5;
    Some((whole || long || part()).then_some(Kind::File))
}

/// Words joined by dashes or underscores: a title if they are many or have a number among them.
fn words(text: &str, depth: usize) -> Option<Kind> {
    if !is_joined(text) {
        return None;
    }
    let parts: Vec<&str> = text.split(['-', '_']).collect();
    let number = parts.iter().any(|part| {
        Shape::of(part).digits >= 2 || (part.len() >= 6 && Shape::of(part).digit_changes >= 2)
    });
    // A site's fixed pages are at its root, and their names are titles too.
    let many = if depth == 0 { 6 } else { 4 };
    let numbered = number && (parts.len() > 2 || depth > 0);
    (parts.len() >= many || numbered).then_some(Kind::Slug)
}

/// Lower case, Capitalised or UPPER letters, or a number, or letters with one digit at an end.
fn is_plain_word(part: &str) -> bool {
    let shape = Shape::of(part);
    let n = part.len();
    if n == 0 || shape.alphanumeric != n {
        return false;
    }
    let capitalised = shape.upper == 1 && part.starts_with(|c: char| c.is_ascii_uppercase());
    let one_case = shape.upper == 0 || shape.lower == 0 || capitalised;
    shape.digits == n || (one_case && shape.digit_changes <= 1 && shape.consonants < 6)
}

/// A plain word of letters alone.
fn is_letters(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphabetic()) && is_plain_word(part)
}

/// What routes are written with, `.well-known`, `orders:batchGet` and `$metadata` among them.
fn is_word_like(text: &str) -> bool {
    let rest = text.strip_prefix('$').unwrap_or(text);
    rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

fn is_alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Counts over a text's bytes.
#[derive(Default)]
struct Shape {
    alphanumeric: usize,
    digits: usize,
    hex: usize,
    lower: usize,
    upper: usize,
    /// `-` and `_`.
    separators: usize,
    /// Anything else.
    foreign: usize,
    /// Changes between letters and digits.
    digit_changes: usize,
    /// Changes between lower case, upper case and digits.
    changes: usize,
    /// Runs of two capitals and more.
    upper_runs: usize,
    /// The longest run of consonants.
    consonants: usize,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut shape = Self::default();
        let mut previous = None;
        let mut capitals = 0_usize;
        let mut consonants = 0_usize;
        for byte in text.bytes() {
            let class = match byte {
                b'0'..=b'9' => b'0',
                b'a'..=b'z' => b'a',
                b'A'..=b'Z' => b'A',
                b'-' | b'_' => {
                    shape.separators += 1;
                    continue;
                }
                _ => {
                    shape.foreign += 1;
                    continue;
                }
            };
            shape.alphanumeric += 1;
            shape.hex += usize::from(byte.is_ascii_hexdigit());
            shape.digits += usize::from(class == b'0');
            shape.lower += usize::from(class == b'a');
            shape.upper += usize::from(class == b'A');
            if let Some(previous) = previous.filter(|previous| *previous != class) {
                shape.changes += 1;
                shape.digit_changes += usize::from(class == b'0' || previous == b'0');
            }
            previous = Some(class);
            capitals = if class == b'A' { capitals + 1 } else { 0 };
            shape.upper_runs += usize::from(capitals == 2);
            let vowel = b"aeiouy".contains(&byte.to_ascii_lowercase());
            consonants = if class != b'0' && !vowel { consonants + 1 } else { 0 };
            shape.consonants = shape.consonants.max(consonants);
        }
        shape
    }
}

#[cfg(test)]
mod tests;
