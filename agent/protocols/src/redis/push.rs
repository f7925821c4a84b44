//! How what a server pushes begins: told before it is read, while who asked for it may still be on its way.

/// Words that a server sends only if it was asked to. `sunsubscribe` isn't one: a slot may move elsewhere.
const CONFIRMATIONS: [&[u8]; 5] =
    [b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe"];

/// Whether a RESP3 push begins here.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'>') && first_word(bytes).is_some()
}

/// Whether the word that a subscription begins or ends stands here, as RESP2 or RESP3 has it.
pub(super) fn confirms(bytes: &[u8]) -> bool {
    first_word(bytes).is_some_and(|word| CONFIRMATIONS.contains(&word))
}

/// The first element of an array or push, if it is a bulk string and whole.
fn first_word(bytes: &[u8]) -> Option<&[u8]> {
    // The longest is `+switch-master`; of subscriptions, `punsubscribe`.
    const LONGEST: usize = 32;
    let (_, rest) = line(bytes.get(1..)?)?;
    let (length, rest) = line(rest.strip_prefix(b"$")?)?;
    let length = usize::from(length).min(LONGEST);
    rest.get(length..)?.starts_with(b"\r\n").then(|| rest.get(..length)).flatten()
}

/// A number of up to two digits, and what is behind its line.
fn line(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let digits = bytes.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    let number = str::from_utf8(bytes.get(..digits)?).ok()?.parse().ok().filter(|_| digits < 3)?;
    Some((number, bytes.get(digits..)?.strip_prefix(b"\r\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_told_from_what_comes_unasked() {
        for (bytes, pushed, confirmed) in [
            (&b">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n"[..], true, true),
            (b"*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n", false, true),
            (b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nb\r\n:0\r\n", true, false),
            (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", true, false),
            (b">3\r\n$7\r\nmessage\r\n", true, false),
            (b">3\r\n$9\r\nsubscri", false, false),
            (b">3\r\n+subscribe\r\n", false, false),
            (b">300\r\n$9\r\nsubscribe\r\n", false, false),
            (b">3\r\n$99\r\nsubscribe\r\n", false, false),
            (b"> 3", false, false),
            (b"", false, false),
        ] {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!((begins(bytes), confirms(bytes)), (pushed, confirmed), "{shown}");
        }
    }
}
