//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): identifiers, the `traceparent` header
//! and the combination of `tracestate` headers.
//!
//! Nothing here makes an identifier or decides about sampling.

use std::{borrow::Cow, fmt};

use crate::limits;

/// A trace id: 16 bytes, of which at least one is not zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// A span id: 8 bytes, of which at least one is not zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a valid `traceparent` says: the trace, the caller's span, the flags (bit 0: sampled).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace that the caller belongs to.
    pub trace_id: TraceId,
    /// The caller's span: the parent of what is made from this request.
    pub span_id: SpanId,
    /// The `trace-flags` byte.
    pub flags: u8,
}

impl TraceParent {
    /// Length of a version 00 header value in bytes.
    pub const HEADER_BYTES: usize = 55;

    /// Reads a `traceparent` value, by section 3.2 of the specification.
    ///
    /// `None` for version `ff`, for anything but lower-case hexadecimal, for an all-zero id, and for a
    /// version 00 value that is not exactly [`Self::HEADER_BYTES`] long. A later version is read by its
    /// first four fields; what follows them must begin with `-`. White space around the value is not
    /// part of it: the caller strips it.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fields, rest) = value.split_first_chunk::<{ Self::HEADER_BYTES }>()?;
        let (version, fields) = fields.split_first_chunk::<2>()?;
        let (trace_id, fields) = fields.strip_prefix(b"-")?.split_first_chunk::<32>()?;
        let (span_id, fields) = fields.strip_prefix(b"-")?.split_first_chunk::<16>()?;
        let flags = fields.strip_prefix(b"-")?;

        let [version] = hex::<1>(version)?;
        let trailing_ok = match version {
            0xff => false,
            0x00 => rest.is_empty(),
            _ => rest.first().is_none_or(|&byte| byte == b'-'),
        };
        let trace_id = hex::<16>(trace_id)?;
        let span_id = hex::<8>(span_id)?;
        let [flags] = hex::<1>(flags)?;
        if !trailing_ok || trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id: TraceId(trace_id), span_id: SpanId(span_id), flags })
    }

    /// Reads the `traceparent` of a message from all its fields of that name: more than one makes it
    /// invalid (section 3.2.1 names one header; a second would make the parent a guess).
    #[must_use]
    pub fn from_headers(values: &[&[u8]]) -> Option<Self> {
        match values {
            [value] => Self::parse(value),
            _ => None,
        }
    }

    /// Whether the caller says that it recorded the trace (bit 0 of the flags).
    #[must_use]
    pub fn sampled(&self) -> bool {
        self.flags & 0x01 != 0
    }

    /// The version 00 header value, [`Self::HEADER_BYTES`] long. Flags that version 00 does not define
    /// are sent as 0 (section 3.2.2.5.2).
    #[must_use]
    pub fn to_header(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags & 0x01)
    }
}

/// Lower-case hexadecimal of exactly `N` bytes.
pub(crate) fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = nibble(high)? << 4 | nibble(low)?;
    }
    Some(bytes)
}

/// Combines the `tracestate` fields of one message, in their order, into one value (section 3.3).
///
/// `None` when nothing is left or when any list-member is malformed: a `tracestate` that can't be
/// parsed is discarded as a whole. Of members with one key the first counts. At most
/// [`limits::TRACESTATE_MEMBERS`] members are kept; a value longer than [`limits::TRACESTATE_BYTES`]
/// loses whole members, those over [`limits::TRACESTATE_LONG_MEMBER_BYTES`] first, then from the right.
#[must_use]
pub fn combine_tracestate<'a>(values: &[&'a [u8]]) -> Option<Cow<'a, str>> {
    let mut members = [("", ""); limits::TRACESTATE_MEMBERS];
    let mut count = 0;
    for member in values.iter().flat_map(|value| value.split(|&byte| byte == b',')) {
        let member = trim(member);
        if member.is_empty() {
            continue;
        }
        let member = std::str::from_utf8(member).ok()?;
        let (key, value) = member.split_once('=')?;
        if !valid_key(key) || !valid_value(value) {
            return None;
        }
        let (taken, free) = members.split_at_mut_checked(count)?;
        if let Some(free) = free.first_mut()
            && !taken.iter().any(|(other, _)| *other == key)
        {
            *free = (key, member);
            count += 1;
        }
    }
    let mut total = members.iter().take(count).map(|(_, member)| member.len() + 1).sum::<usize>();
    // As it was sent: nothing was left out, and nothing lies between its members.
    let fits = |total: usize| total <= limits::TRACESTATE_BYTES + 1;
    if let [value] = values
        && total == value.len() + 1
        && fits(total)
    {
        return std::str::from_utf8(value).ok().map(Cow::Borrowed);
    }
    let mut members: Vec<&str> = members.iter().take(count).map(|(_, member)| *member).collect();
    if !fits(total) {
        members.retain(|member| {
            let keep = fits(total) || member.len() <= limits::TRACESTATE_LONG_MEMBER_BYTES;
            if !keep {
                total -= member.len() + 1;
            }
            keep
        });
    }
    while !fits(total) {
        let Some(member) = members.pop() else { break };
        total -= member.len() + 1;
    }
    (!members.is_empty()).then(|| Cow::Owned(members.join(",")))
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// Level 2's `key`: the union of its simple and multi-tenant forms, which level 1 values satisfy too.
fn valid_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    key.len() <= 256
        && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte)
        })
}

fn valid_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specifications_example_reads_and_writes_back() {
        let parent = TraceParent::parse(VALID.as_bytes()).expect("valid");
        assert_eq!(parent.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id.to_string(), "00f067aa0ba902b7");
        assert!(parent.sampled());
        assert_eq!(parent.to_header(), VALID);
    }

    #[rstest]
    #[case("version ff", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case("version 00 with more", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x")]
    #[case("version 00 with a dash", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-")]
    #[case("upper case", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")]
    #[case("zero trace id", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")]
    #[case("zero span id", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")]
    #[case("later version, glued", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x")]
    #[case("not hexadecimal", "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01")]
    #[case("version not hexadecimal", "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case("flags not hexadecimal", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x")]
    #[case("wrong separator", "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case("leading space", " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case("empty", "")]
    fn an_invalid_traceparent_is_refused(#[case] what: &str, #[case] value: &str) {
        assert_eq!(TraceParent::parse(value.as_bytes()), None, "{what}");
    }

    #[rstest]
    #[case("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings")]
    fn a_later_version_is_read_and_written_as_version_00(#[case] value: &str) {
        let parent = TraceParent::parse(value.as_bytes()).expect("tolerated");
        assert_eq!(parent.to_header(), VALID);
    }

    #[test]
    fn unknown_flags_are_kept_but_not_sent() {
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff";
        let parent = TraceParent::parse(value.as_bytes()).expect("valid");
        assert_eq!(parent.flags, 0xff);
        assert_eq!(parent.to_header(), VALID);
    }

    #[test]
    fn two_traceparent_fields_make_none() {
        let value = VALID.as_bytes();
        assert!(TraceParent::from_headers(&[value]).is_some());
        assert!(TraceParent::from_headers(&[value, value]).is_none());
        assert!(TraceParent::from_headers(&[]).is_none());
    }

    #[test]
    fn every_proper_prefix_is_refused() {
        for len in 0..VALID.len() {
            assert_eq!(TraceParent::parse(&VALID.as_bytes()[..len]), None, "{len}");
        }
    }

    fn combined(values: &[&str]) -> Option<String> {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        combine_tracestate(&values).map(String::from)
    }

    #[rstest]
    #[case(&["a=1", "b=2,c=3"], Some("a=1,b=2,c=3"))]
    #[case(&["a=1 , \t b=2", "", ",,"], Some("a=1,b=2"))]
    #[case(&["a=1,a=2"], Some("a=1"))]
    #[case(&["fw529a3039@dt=FfAAA,1tenant@sys=x y"], Some("fw529a3039@dt=FfAAA,1tenant@sys=x y"))]
    #[case(&["a=1,B=2"], None)]
    #[case(&["a=1", "novalue"], None)]
    #[case(&["a=1=2"], None)]
    #[case(&["a=\u{e9}"], None)]
    #[case(&[""], None)]
    #[case(&[], None)]
    fn tracestate_fields_combine(#[case] values: &[&str], #[case] expected: Option<&str>) {
        assert_eq!(combined(values).as_deref(), expected);
    }

    #[test]
    fn the_33rd_member_is_dropped() {
        let members: Vec<String> = (0..33).map(|n| format!("k{n}={n}")).collect();
        let kept = combined(&[&members.join(",")]).expect("32 members");
        assert_eq!(kept, members[..32].join(","));
    }

    #[test]
    fn a_long_value_loses_its_long_members_first_and_then_the_right_ones() {
        let long = format!("long={}", "x".repeat(200));
        let short: Vec<String> = (0..7).map(|n| format!("k{n}={}", "y".repeat(90))).collect();
        let kept = combined(&[&long, &short.join(",")]).expect("some fit");
        assert_eq!(kept, short[..5].join(","));
        assert!(kept.len() <= limits::TRACESTATE_BYTES);
        // The long one stays where all fits.
        assert_eq!(combined(&[&long, "a=1"]), Some(format!("{long},a=1")));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), flags in 0u8..2) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let parent = TraceParent { trace_id: TraceId(trace), span_id: SpanId(span), flags };
            prop_assert_eq!(TraceParent::parse(parent.to_header().as_bytes()), Some(parent));
        }

        #[test]
        fn combining_is_idempotent_and_bounded(values in prop::collection::vec("[a-c0-9=, @x]{0,300}", 0..5)) {
            let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
            let once = combine_tracestate(&values);
            if let Some(once) = once {
                prop_assert!(once.len() <= limits::TRACESTATE_BYTES);
                prop_assert_eq!(combine_tracestate(&[once.as_bytes()]), Some(once.clone()));
            }
        }
    }
}
