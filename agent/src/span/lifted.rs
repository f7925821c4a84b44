//! What the operator asks for of a call beyond the conventions' own: its HTTP fields, and attributes that are lifted
//! from what passed.
//!
//! A value that is not all there, or that is there twice, is left out: half of a user's name is another's.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;
use percent_encoding::percent_decode_str;
use wirespan_protocols::http1::Field;

use crate::connection::Content;
use crate::exchange::Exchange;
use crate::settings::{Place, VALUE_LIMIT_BYTES};
use crate::span::{Attribute, Span};

/// Adds to the span of an exchange what its settings ask for. What the span has already stays.
pub(super) fn add(exchange: &Exchange, span: &mut Span) {
    let traffic = &exchange.settings.traffic;
    if let Content::Http { request, response } = &exchange.content {
        let (asked, answered) = (traffic.request_headers(), traffic.response_headers());
        headers(key::HTTP_REQUEST_HEADER, asked, &request.fields, &mut span.attributes);
        if let Some(response) = response {
            headers(key::HTTP_RESPONSE_HEADER, answered, &response.fields, &mut span.attributes);
        }
    }
    for lifted in traffic.lifted() {
        let is_meant = lifted.kind.is_none_or(|kind| kind == span.kind);
        if !is_meant || span.attributes.iter().any(|known| known.key == lifted.name) {
            continue;
        }
        let fits = |value: &Cow<'_, str>| !value.is_empty() && value.len() <= VALUE_LIMIT_BYTES;
        if let Some(value) = value(exchange, &lifted.place).filter(fits) {
            span.attributes.push(Attribute::new(lifted.name.clone(), value.into_owned()));
        }
    }
}

/// `http.request.header.<key>`, a list of the values of all fields of that name.
fn headers(prefix: &str, names: &[String], fields: &[Field<'_>], attributes: &mut Vec<Attribute>) {
    for name in names {
        let values = fields.iter().filter(|field| *field.name == **name).map(|field| {
            let mark = if field.whole { "" } else { "\u{2026}" };
            format!("{}{mark}", field.value)
        });
        let values: Vec<String> = values.collect();
        if !values.is_empty() {
            attributes.push(Attribute::new(format!("{prefix}.{name}"), values));
        }
    }
}

fn value<'a>(exchange: &'a Exchange, place: &Place) -> Option<Cow<'a, str>> {
    match (place, &exchange.content) {
        // Behind what was captured there may be another one of the name.
        (Place::RequestHeader(name), Content::Http { request, .. }) if request.complete => {
            single(&request.fields, name)
        }
        (Place::ResponseHeader(name), Content::Http { response: Some(response), .. })
            if response.complete =>
        {
            single(&response.fields, name)
        }
        (Place::Query(name), Content::Http { request, .. }) if !request.target_cut => {
            parameter(request.query.as_deref()?, name)
        }
        (Place::RedisKey(pattern), Content::Redis(call)) => {
            // The key may be what was cut.
            let key = call.command.key.as_deref().filter(|_| !call.command.cut)?;
            pattern.part(key).map(Cow::Borrowed)
        }
        (Place::Json(pointer), content) => {
            let fields = match content {
                Content::Http { .. } => &exchange.request_fields,
                Content::Job(work) => &work.fields,
                Content::Redis(call) => &call.submits.as_ref()?.fields,
                Content::Postgres { .. } | Content::Amqp { .. } | Content::Kafka(_) => return None,
            };
            let found = fields.iter().find(|found| found.pointer == *pointer)?;
            Some(Cow::Borrowed(&found.value))
        }
        (Place::Variable(name), _) => {
            let found = exchange.environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| Cow::Borrowed(value.as_str()))
        }
        _ => None,
    }
}

fn single<'a>(fields: &'a [Field<'_>], name: &str) -> Option<Cow<'a, str>> {
    let mut found = fields.iter().filter(|field| *field.name == *name);
    let field = found.next().filter(|field| field.whole)?;
    found.next().is_none().then_some(Cow::Borrowed(&field.value))
}

/// The only parameter of that name, decoded as `application/x-www-form-urlencoded`
/// (<https://url.spec.whatwg.org/#urlencoded-parsing>).
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut found = query.split('&').filter_map(|pair| {
        let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(known) == name).then_some(value)
    });
    let value = found.next()?;
    found.next().is_none().then(|| decoded(value))
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use std::sync::Arc;

    use wirespan_protocols::http1::{RequestHead, ResponseHead};
    use wirespan_protocols::redis;

    use super::*;
    use crate::call::Role;
    use crate::connection::RedisCall;
    use crate::exchange::tests::exchange;
    use crate::queue::{System, Work};
    use crate::settings::{JsonField, KeyPattern, Lifted, Pointer, Settings, Traffic};
    use crate::span::SpanKind;

    /// What is lifted onto a server's span of a call, beside what it has: `a` from each place, in order.
    fn lifted(
        content: impl FnOnce(&mut Content),
        places: Vec<(Place, Option<SpanKind>)>,
    ) -> Option<String> {
        let place = |(place, kind)| Lifted { name: "a".to_owned(), place, kind };
        let lifted = places.into_iter().map(place).collect();
        let traffic = Arc::new(Traffic::new(Vec::new(), Vec::new(), lifted));
        let mut exchange = exchange(Role::Server);
        exchange.settings = Arc::new(Settings { traffic, ..Settings::default() });
        exchange.environment = vec![("V".to_owned(), "variable".to_owned())];
        content(&mut exchange.content);
        let mut span = crate::export::testing::span(1, 1, None);
        span.attributes.push(Attribute::new("b", "own"));
        add(&exchange, &mut span);
        assert!(span.attributes.len() <= 2, "{span:?}");
        span.text("a").map(str::to_owned)
    }

    fn http(work: impl FnOnce(&mut RequestHead<'static>)) -> impl FnOnce(&mut Content) {
        |content| {
            let Content::Http { request, response } = content else { panic!("{content:?}") };
            work(request);
            *response = Some(ResponseHead {
                status: 200,
                version: request.version.unwrap(),
                content_length: None,
                content_type: None,
                fields: vec![field("x-job", "9", true)],
                complete: true,
            });
        }
    }

    #[test]
    fn the_first_place_that_has_a_value_counts() {
        let places = || {
            vec![
                (Place::RequestHeader("x-user".to_owned()), Some(SpanKind::Client)),
                (Place::Query("user".to_owned()), None),
                (Place::ResponseHeader("x-job".to_owned()), Some(SpanKind::Server)),
                (Place::Variable("V".to_owned()), None),
            ]
        };
        let user = |head: &mut RequestHead<'static>| {
            head.fields.push(field("x-user", "7", true));
            head.query = Some("user=8".into());
        };
        assert_eq!(lifted(http(user), places()).as_deref(), Some("8"), "no client's span");
        assert_eq!(lifted(http(|_| {}), places()).as_deref(), Some("9"));
        assert_eq!(lifted(|_| {}, places()).as_deref(), Some("variable"), "no response");
        let server = vec![(Place::RequestHeader("x-user".to_owned()), None)];
        assert_eq!(lifted(http(user), server).as_deref(), Some("7"));
    }

    #[test]
    fn a_field_of_a_requests_object_or_a_jobs_is_lifted() {
        let pointer = |text| Pointer::new(text).unwrap();
        let field = JsonField { pointer: pointer("/job/id"), value: "7".into() };
        let lifted = |content: Option<Content>, asked| {
            let place = Place::Json(pointer(asked));
            let lifted = Lifted { name: "a".to_owned(), place, kind: None };
            let traffic = Arc::new(Traffic::new(Vec::new(), Vec::new(), vec![lifted]));
            let mut exchange = exchange(Role::Server);
            exchange.settings = Arc::new(Settings { traffic, ..Settings::default() });
            match content {
                Some(content) => exchange.content = content,
                None => exchange.request_fields = vec![field.clone()],
            }
            let mut span = crate::export::testing::span(1, 1, None);
            add(&exchange, &mut span);
            span.text("a").map(str::to_owned)
        };
        let job = || {
            let mut work = Work::new(System::Bull, "mail", "process");
            work.fields = vec![field.clone()];
            Content::Job(Box::new(work))
        };
        for (asked, expected) in [("/job/id", Some("7")), ("/job", None)] {
            assert_eq!(lifted(None, asked).as_deref(), expected, "of a request");
            assert_eq!(lifted(Some(job()), asked).as_deref(), expected, "of a job");
        }
    }

    #[test]
    fn a_value_that_is_too_long_or_empty_is_none() {
        let with = |query: String| {
            let user = |head: &mut RequestHead<'static>| head.query = Some(query.into());
            lifted(http(user), vec![(Place::Query("u".to_owned()), None)])
        };
        let long = "x".repeat(VALUE_LIMIT_BYTES);
        assert_eq!(with(format!("u={long}")), Some(long.clone()));
        assert_eq!(with(format!("u={long}x")), None);
        assert_eq!(with("u=".to_owned()), None);
    }

    #[test]
    fn what_a_span_has_by_the_conventions_stays() {
        let place = Place::Variable("V".to_owned());
        let own = Lifted { name: "b".to_owned(), place, kind: None };
        let mut exchange = exchange(Role::Server);
        let traffic = Arc::new(Traffic::new(Vec::new(), Vec::new(), vec![own]));
        exchange.settings = Arc::new(Settings { traffic, ..Settings::default() });
        exchange.environment = vec![("V".to_owned(), "variable".to_owned())];
        let mut span = crate::export::testing::span(1, 1, None);
        span.attributes.push(Attribute::new("b", "own"));
        add(&exchange, &mut span);
        assert_eq!(span.attributes, [Attribute::new("b", "own")]);
    }

    #[test]
    fn of_a_command_that_was_cut_no_key_is_lifted() {
        for (cut, expected) in [(false, Some("7")), (true, None)] {
            let get = move |content: &mut Content| {
                let command = redis::Command {
                    name: "GET".into(),
                    text: "GET user:7".into(),
                    key: Some("user:7".into()),
                    procedure: None,
                    arguments: 1,
                    database: None,
                    protocol: None,
                    blocking: false,
                    poll: false,
                    queued: false,
                    inline: false,
                    cut,
                };
                let call = RedisCall { command, submits: None, internal: false };
                *content = Content::Redis(Box::new(call));
            };
            let key = Place::RedisKey(KeyPattern::new("user:{id}").unwrap());
            assert_eq!(lifted(get, vec![(key, None)]).as_deref(), expected);
        }
    }

    #[rstest]
    #[case::first("user=7&x=1", Some("7"))]
    #[case::last("x=1&user=7", Some("7"))]
    #[case::twice("user=7&user=8", None)]
    #[case::twice_once_without("user&user=8", None)]
    #[case::decoded("us%65r=a+b%C3%A9%2B", Some("a bé+"))]
    #[case::no_utf8("user=%ff", Some("\u{fffd}"))]
    #[case::no_value("user&x=1", Some(""))]
    #[case::longer_name("xuser=7", None)]
    fn a_parameter_of_a_query(#[case] query: &str, #[case] value: Option<&str>) {
        assert_eq!(parameter(query, "user").as_deref(), value);
    }

    fn field(name: &str, value: &'static str, whole: bool) -> Field<'static> {
        Field { name: name.into(), value: value.into(), whole }
    }

    #[test]
    fn a_field_is_lifted_where_it_is_whole_and_alone() {
        let single = |fields: &[Field<'static>]| single(fields, "x-user").map(Cow::into_owned);
        assert_eq!(
            single(&[field("x", "1", true), field("x-user", "7", true)]).as_deref(),
            Some("7")
        );
        assert_eq!(single(&[field("x-user", "7", false)]), None);
        assert_eq!(single(&[field("x-user", "7", true), field("x-user", "8", true)]), None);
        assert_eq!(single(&[]), None);
    }

    #[test]
    fn fields_are_lists_by_the_conventions() {
        let mut attributes = Vec::new();
        let fields = [field("a", "1", true), field("b", "2", true), field("a", "3", false)];
        let names = ["a", "c"].map(str::to_owned);
        headers(key::HTTP_REQUEST_HEADER, &names, &fields, &mut attributes);
        let values = ["1", "3\u{2026}"].map(str::to_owned).to_vec();
        assert_eq!(attributes, [Attribute::new("http.request.header.a", values)]);
    }
}
