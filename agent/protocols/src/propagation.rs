//! Trace contexts in other formats than W3C's, as HTTP fields carry them. Read where the operator names the format.
//!
//! Each is read into what a `traceparent` says. Nothing is guessed: a value that its format's description doesn't
//! allow is none, and neither is a field that is there twice.

use crate::w3c::{SpanId, TraceId, TraceParent, hex};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// B3 in one field, `b3` (<https://github.com/openzipkin/b3-propagation>).
    B3,
    /// B3 in several fields, `x-b3-traceid` and so on.
    B3Multi,
    /// Jaeger's `uber-trace-id` (<https://www.jaegertracing.io/sdk-migration/#propagation-format>).
    Jaeger,
    /// `sentry-trace` (<https://develop.sentry.dev/sdk/telemetry/traces/#header-sentry-trace>).
    Sentry,
    /// AWS X-Ray's `x-amzn-trace-id`
    /// (<https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>).
    XRay,
}

impl Propagator {
    /// All, in the order in which they are tried.
    pub const ALL: [Self; 5] = [Self::B3, Self::B3Multi, Self::Jaeger, Self::Sentry, Self::XRay];

    /// As `OTEL_PROPAGATORS` spells it; `sentry` is Sentry's own addition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::B3 => "b3",
            Self::B3Multi => "b3multi",
            Self::Jaeger => "jaeger",
            Self::Sentry => "sentry",
            Self::XRay => "xray",
        }
    }
}

/// Formats that are read beside W3C's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Propagators(u8);

impl Propagators {
    /// Whether this one is.
    #[must_use]
    pub fn contains(self, propagator: Propagator) -> bool {
        self.0 & 1 << propagator as u8 != 0
    }
}

impl FromIterator<Propagator> for Propagators {
    fn from_iter<I: IntoIterator<Item = Propagator>>(propagators: I) -> Self {
        Self(propagators.into_iter().fold(0, |bits, it| bits | 1 << it as u8))
    }
}

/// A field that may be there.
#[derive(Clone, Copy, Debug, Default)]
enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    /// Nobody knows which is right.
    Several,
}

impl<'a> Field<'a> {
    fn set(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Several => Self::Several,
        };
    }

    fn once(self) -> Option<&'a [u8]> {
        if let Self::Once(value) = self { Some(value) } else { None }
    }
}

/// The fields of one message that carry a trace context in one of these formats.
#[derive(Debug, Default)]
pub(crate) struct Carrier<'a> {
    b3: Field<'a>,
    b3_trace_id: Field<'a>,
    b3_span_id: Field<'a>,
    b3_sampled: Field<'a>,
    b3_flags: Field<'a>,
    jaeger: Field<'a>,
    sentry: Field<'a>,
    x_ray: Field<'a>,
}

impl<'a> Carrier<'a> {
    /// Takes a field, if it is one of these.
    pub(crate) fn take(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let field = match name.len() {
            2 if is("b3") => &mut self.b3,
            10 if is("x-b3-flags") => &mut self.b3_flags,
            11 if is("x-b3-spanid") => &mut self.b3_span_id,
            12 if is("x-b3-traceid") => &mut self.b3_trace_id,
            12 if is("x-b3-sampled") => &mut self.b3_sampled,
            12 if is("sentry-trace") => &mut self.sentry,
            13 if is("uber-trace-id") => &mut self.jaeger,
            15 if is("x-amzn-trace-id") => &mut self.x_ray,
            _ => return,
        };
        field.set(value);
    }

    /// The context in the first of these formats in which there is one.
    pub(crate) fn context(&self, propagators: Propagators) -> Option<TraceParent> {
        let read = |propagator| match propagator {
            // The names tell what is sent: who reads one reads both, the single field first
            // (https://opentelemetry.io/docs/specs/otel/context/api-propagators/#b3-requirements).
            Propagator::B3 | Propagator::B3Multi => {
                self.b3.once().and_then(b3).or_else(|| self.b3_multi())
            }
            Propagator::Jaeger => jaeger(self.jaeger.once()?),
            Propagator::Sentry => sentry(self.sentry.once()?),
            Propagator::XRay => x_ray(self.x_ray.once()?),
        };
        Propagator::ALL.into_iter().filter(|it| propagators.contains(*it)).find_map(read)
    }

    fn b3_multi(&self) -> Option<TraceParent> {
        // Debug implies that it is sampled.
        let sampled = match (self.b3_flags, self.b3_sampled) {
            (Field::Several, _) | (_, Field::Several) => return None,
            (Field::Once(b"1"), _) | (_, Field::Absent | Field::Once(b"" | b"1")) => true,
            (_, Field::Once(b"0")) => false,
            (_, Field::Once(word)) if word.eq_ignore_ascii_case(b"true") => true,
            (_, Field::Once(word)) if word.eq_ignore_ascii_case(b"false") => false,
            (_, Field::Once(_)) => return None,
        };
        parent(b3_trace_id(self.b3_trace_id.once()?)?, hex(self.b3_span_id.once()?)?, sampled)
    }
}

/// `sampled`: or nobody has decided yet, and the receiver records it.
fn parent(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<TraceParent> {
    let valid = trace_id != [0; 16] && span_id != [0; 8];
    valid.then_some(TraceParent {
        trace_id: TraceId(trace_id),
        span_id: SpanId(span_id),
        flags: u8::from(sampled),
    })
}

/// Up to `N` bytes in hexadecimal without the zeros before them.
fn padded<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut all = [b'0'; 32];
    let all = all.get_mut(..2 * N)?;
    let start = all.len().checked_sub(digits.len())?;
    all.get_mut(start..)?.copy_from_slice(digits);
    if digits.is_empty() { None } else { hex(all) }
}

/// 64 bits are allowed, and are the lower ones.
fn b3_trace_id(digits: &[u8]) -> Option<[u8; 16]> {
    matches!(digits.len(), 16 | 32).then(|| padded(digits)).flatten()
}

/// `{trace}-{span}`, `{trace}-{span}-{sampled}` or `{trace}-{span}-{sampled}-{parent}`. A sampling state alone names
/// no span.
fn b3(value: &[u8]) -> Option<TraceParent> {
    let mut parts = value.split(|&byte| byte == b'-');
    let (trace_id, span_id) = (b3_trace_id(parts.next()?)?, hex(parts.next()?)?);
    let sampled = match parts.next() {
        None | Some(b"1" | b"d") => true,
        Some(b"0") => false,
        Some(_) => return None,
    };
    let rest = (parts.next(), parts.next());
    let fits = rest.1.is_none() && rest.0.is_none_or(|parent| hex::<8>(parent).is_some());
    fits.then(|| parent(trace_id, span_id, sampled)).flatten()
}

/// `{trace}:{span}:{parent}:{flags}`, ids without leading zeros; the colons may be `%3A`.
fn jaeger(value: &[u8]) -> Option<TraceParent> {
    const ENCODED: usize = 3;
    let mut rest = value;
    let mut part = || {
        let end = rest.iter().position(|&byte| matches!(byte, b':' | b'%')).unwrap_or(rest.len());
        let (part, after) = rest.split_at_checked(end)?;
        rest = match after.first() {
            Some(b'%') => {
                let (colon, after) = after.split_at_checked(ENCODED)?;
                colon.eq_ignore_ascii_case(b"%3a").then_some(after)?
            }
            Some(_) => after.get(1..)?,
            None => after,
        };
        Some(part)
    };
    let (trace_id, span_id) = (padded(part()?)?, padded(part()?)?);
    // The parent's id is no longer used.
    part()?;
    let [flags] = padded::<1>(part()?)?;
    rest.is_empty().then(|| parent(trace_id, span_id, flags & 1 != 0)).flatten()
}

/// `{trace}-{span}` or `{trace}-{span}-{sampled}`.
fn sentry(value: &[u8]) -> Option<TraceParent> {
    let mut parts = value.split(|&byte| byte == b'-');
    let (trace_id, span_id) = (hex(parts.next()?)?, hex(parts.next()?)?);
    let sampled = match parts.next() {
        None | Some(b"1") => true,
        Some(b"0") => false,
        Some(_) => return None,
    };
    parts.next().is_none().then(|| parent(trace_id, span_id, sampled)).flatten()
}

/// `Root=1-{8 digits}-{24 digits};Parent={span};Sampled={0, 1 or ?}` and other pairs, in any order.
fn x_ray(value: &[u8]) -> Option<TraceParent> {
    let (mut root, mut span_id, mut sampled) = (None, None, true);
    let mut several = false;
    for pair in value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii) {
        if let Some(id) = pair.strip_prefix(b"Root=1-") {
            let (time, unique) = id.split_at_checked(8)?;
            let unique = hex::<12>(unique.strip_prefix(b"-")?)?;
            let mut trace_id = [0; 16];
            trace_id.get_mut(..4)?.copy_from_slice(&hex::<4>(time)?);
            trace_id.get_mut(4..)?.copy_from_slice(&unique);
            several |= root.replace(trace_id).is_some();
        } else if let Some(id) = pair.strip_prefix(b"Parent=") {
            several |= span_id.replace(hex(id)?).is_some();
        } else if let Some(state) = pair.strip_prefix(b"Sampled=") {
            sampled = state != b"0";
        }
    }
    if several { None } else { parent(root?, span_id?, sampled) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn read(propagator: Propagator, fields: &[(&str, &str)]) -> Option<String> {
        let mut carrier = Carrier::default();
        for (name, value) in fields {
            carrier.take(name.as_bytes(), value.as_bytes());
        }
        let context = carrier.context([propagator].into_iter().collect());
        assert_eq!(carrier.context(Propagators::default()), None, "nobody asked");
        context.map(|it| it.to_header())
    }

    fn expected(sampled: u8) -> Option<String> {
        Some(format!("00-{TRACE}-{SPAN}-0{sampled}"))
    }

    #[rstest]
    #[case(Propagator::B3, "b3", "{T}-{S}", Some(1))]
    #[case(Propagator::B3, "B3", "{T}-{S}-1", Some(1))]
    #[case(Propagator::B3, "b3", "{T}-{S}-d-05e3ac9a4f6e3b90", Some(1))]
    #[case(Propagator::B3, "b3", "{T}-{S}-0", Some(0))]
    #[case(Propagator::B3, "b3", "0", None)]
    #[case(Propagator::B3, "b3", "{T}-{S}-2", None)]
    #[case(Propagator::B3, "b3", "{T}-{S}-1-05e3", None)]
    #[case(Propagator::B3, "b3", "{T}-{S}-1-05e3ac9a4f6e3b90-1", None)]
    #[case(Propagator::B3, "b3", "{T}-0000000000000000", None)]
    #[case(Propagator::B3, "b3", "{T}", None)]
    #[case(Propagator::Jaeger, "uber-trace-id", "{T}:{S}:0:1", Some(1))]
    #[case(Propagator::Jaeger, "Uber-Trace-Id", "{T}%3A{S}%3a0%3A01", Some(1))]
    #[case(Propagator::Jaeger, "uber-trace-id", "af7651916cd43dd8448eb211c80319c:{S}:0:0", Some(0))]
    #[case(Propagator::Jaeger, "uber-trace-id", "{T}:{S}:0:3", Some(1))]
    #[case(Propagator::Jaeger, "uber-trace-id", "0:{S}:0:1", None)]
    #[case(Propagator::Jaeger, "uber-trace-id", ":{S}:0:1", None)]
    #[case(Propagator::Jaeger, "uber-trace-id", "{T}:{S}:0", None)]
    #[case(Propagator::Jaeger, "uber-trace-id", "{T}:{S}:0:1:2", None)]
    #[case(Propagator::Jaeger, "uber-trace-id", "{T}%3B{S}%3a0%3A01", None)]
    #[case(Propagator::Jaeger, "uber-trace-id", "0{T}:{S}:0:1", None)]
    #[case(Propagator::Sentry, "sentry-trace", "{T}-{S}", Some(1))]
    #[case(Propagator::Sentry, "sentry-trace", "{T}-{S}-0", Some(0))]
    #[case(Propagator::Sentry, "sentry-trace", "{T}-{S}-1-1", None)]
    #[case(Propagator::XRay, "x-amzn-trace-id", "Root=1-{X};Parent={S};Sampled=1", Some(1))]
    #[case(
        Propagator::XRay,
        "X-Amzn-Trace-Id",
        "Self=1-2; Sampled=0; Parent={S}; Root=1-{X}",
        Some(0)
    )]
    #[case(Propagator::XRay, "x-amzn-trace-id", "Root=1-{X};Parent={S};Sampled=?", Some(1))]
    #[case(Propagator::XRay, "x-amzn-trace-id", "Root=1-{X};Sampled=1", None)]
    #[case(Propagator::XRay, "x-amzn-trace-id", "Root=1-{X};Parent={S};Parent={S}", None)]
    #[case(Propagator::B3Multi, "b3", "{T}-{S}-1", Some(1))]
    #[case(Propagator::XRay, "x-amzn-trace-id", "Root=2-{X};Parent={S}", None)]
    #[case(Propagator::XRay, "x-amzn-trace-id", "Root=1-{T};Parent={S}", None)]
    fn a_value_is_read_as_its_format_says(
        #[case] propagator: Propagator,
        #[case] name: &str,
        #[case] value: &str,
        #[case] sampled: Option<u8>,
    ) {
        let (time, unique) = TRACE.split_at(8);
        let x_ray = format!("{time}-{unique}");
        let value = value.replace("{T}", TRACE).replace("{S}", SPAN).replace("{X}", &x_ray);
        assert_eq!(read(propagator, &[(name, &value)]), sampled.and_then(expected), "{value}");
        assert_eq!(read(propagator, &[(name, &value), (name, &value)]), None, "twice");
    }

    #[test]
    fn b3_in_several_fields() {
        let ids = [("X-B3-TraceId", TRACE), ("x-b3-spanid", SPAN)];
        let with = |name, value| read(Propagator::B3Multi, &[ids[0], ids[1], (name, value)]);
        assert_eq!(read(Propagator::B3Multi, &ids), expected(1));
        assert_eq!(read(Propagator::B3Multi, &ids[..1]), None);
        for (value, sampled) in [("1", 1), ("True", 1), ("", 1), ("0", 0), ("false", 0)] {
            assert_eq!(with("X-B3-Sampled", value), expected(sampled));
        }
        assert_eq!(with("x-b3-sampled", "perhaps"), None);
        let twice = [ids[0], ids[1], ("x-b3-sampled", "0"), ("x-b3-sampled", "0")];
        assert_eq!(read(Propagator::B3Multi, &twice), None);
        assert_eq!(read(Propagator::B3, &ids), expected(1), "who reads one format reads both");
        assert_eq!(with("X-B3-Flags", "1"), expected(1));
        assert_eq!(with("x-b3-parentspanid", "1"), expected(1));
        let (_, half) = TRACE.split_at(16);
        let short = [("x-b3-traceid", half), ids[1]];
        let padded = format!("00-{}{half}-{SPAN}-01", "0".repeat(16));
        assert_eq!(read(Propagator::B3Multi, &short), Some(padded));
    }

    #[test]
    fn of_several_formats_the_first_that_says_something_counts() {
        let mut carrier = Carrier::default();
        let other = "1".repeat(32);
        let (sentry, b3) = (format!("{TRACE}-{SPAN}-1"), format!("{other}-{SPAN}-1"));
        carrier.take(b"sentry-trace", sentry.as_bytes());
        carrier.take(b"b3", b3.as_bytes());
        let all: Propagators = Propagator::ALL.into_iter().collect();
        assert_eq!(carrier.context(all).unwrap().trace_id.to_string(), other);
        let sentry = [Propagator::Sentry].into_iter().collect();
        assert_eq!(carrier.context(sentry).unwrap().trace_id.to_string(), TRACE);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_valid(value in r"[0-9a-f:;%A=RPSentodmlp? -]{0,80}|\PC{0,40}") {
            for (name, propagator) in [
                ("b3", Propagator::B3),
                ("uber-trace-id", Propagator::Jaeger),
                ("sentry-trace", Propagator::Sentry),
                ("x-amzn-trace-id", Propagator::XRay),
            ] {
                if let Some(text) = read(propagator, &[(name, &value)]) {
                    prop_assert!(TraceParent::parse(text.as_bytes()).is_some());
                }
            }
        }
    }
}
