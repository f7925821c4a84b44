//! Against `postgres-protocol`, which reads a server's messages and writes a client's, whole ones only.

use bytes::BytesMut;
use postgres_protocol::{
    IsNull,
    message::{backend, frontend},
};
use proptest::prelude::*;

use super::{captures::CAPTURES, *};

#[test]
fn of_the_captures_the_same_is_told() {
    for (name, capture) in CAPTURES {
        let whole = Run::whole(&testing::records(capture));
        let mut bytes = BytesMut::new();
        for (direction, record) in testing::records(capture) {
            if direction == Responses {
                bytes.extend_from_slice(record.unwrap_or_default());
            }
        }
        if *name == "raw.pg" {
            // It has a `FunctionCallResponse`, which the other one doesn't know.
            continue;
        }
        if bytes.first() == Some(&b'N') {
            // The answer to `SSLRequest` is no message.
            let _: u8 = bytes::Buf::get_u8(&mut bytes);
        }
        let (mut tags, mut errors, mut tally) = (Vec::new(), 0, Tally::default());
        while let Some(message) = backend::Message::parse(&mut bytes).unwrap() {
            match message {
                backend::Message::CommandComplete(body) => {
                    tags.push(body.tag().unwrap().to_owned());
                }
                backend::Message::ErrorResponse(_) => errors += 1,
                backend::Message::NoticeResponse(_) => tally.notices += 1,
                backend::Message::NotificationResponse(_) => tally.notifications += 1,
                _ => {}
            }
        }
        assert!(bytes.is_empty(), "{name}");
        let told = exchanges(&whole.events);
        let done = told.iter().filter_map(|exchange| match &exchange.end {
            Some(Ok(End::Complete(done))) => Some(done),
            _ => None,
        });
        let ours: Vec<&CommandTag> = done.clone().flat_map(|done| &done.tags).collect();
        assert_eq!(ours.len(), tags.len(), "{name}");
        for (ours, tag) in ours.iter().zip(&tags) {
            assert!(tag.starts_with(&*ours.command), "{name}: {tag}");
            let rows = tag.rsplit(' ').next().and_then(|rows| rows.parse().ok());
            assert_eq!(ours.rows, rows, "{name}: {tag}");
        }
        assert_eq!(done.filter(|done| done.error.is_some()).count(), errors, "{name}");
        let ours = whole.connection.tally();
        assert_eq!((ours.notices, ours.notifications), (tally.notices, tally.notifications));
    }
}

proptest! {
    #[test]
    fn what_it_writes_is_read(
        user in "[a-z]{1,20}",
        name in "[a-z_0-9]{0,40}",
        portal in "[a-z_0-9]{0,40}",
        text in "[^\0]{0,200}",
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..50)), 0..5),
        limit in 0i32..100,
    ) {
        let mut run = Run::new(true);
        let mut wire = BytesMut::new();
        frontend::startup_message([("user", &*user), ("database", "db")], &mut wire).unwrap();
        run.requests(&wire).responses(tell::authenticated());
        wire.clear();
        frontend::query(&text, &mut wire).unwrap();
        run.requests(&wire).responses([tell::tag("SELECT 0"), tell::ready('I')].concat());
        wire.clear();
        frontend::parse(&name, &text, [23], &mut wire).unwrap();
        let put = |value: Option<Vec<u8>>, wire: &mut BytesMut| match value {
            None => Ok(IsNull::Yes),
            Some(value) => {
                wire.extend_from_slice(&value);
                Ok(IsNull::No)
            }
        };
        let bound = frontend::bind(&portal, &name, [1], values, put, [0, 1], &mut wire);
        prop_assert!(bound.is_ok());
        frontend::describe(b'P', &portal, &mut wire).unwrap();
        frontend::execute(&portal, limit, &mut wire).unwrap();
        frontend::close(b'P', &portal, &mut wire).unwrap();
        frontend::sync(&mut wire);
        run.requests(&wire);
        run.responses([tell::done('1'), tell::done('2'), tell::columns(), tell::tag("SELECT 0")].concat());
        run.responses([tell::done('3'), tell::ready('I')].concat()).close();
        prop_assert_eq!(run.skipped(), 0);
        let told = exchanges(&run.events);
        prop_assert_eq!(told.len(), 2);
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned().into());
        for exchange in &told {
            prop_assert_eq!(exchange.query.text.as_deref(), Some(&*text));
            prop_assert!(matches!(&exchange.end, Some(Ok(End::Complete(done))) if rows(done) == Some(0)));
        }
        prop_assert_eq!(&told[1].query.statement, &named(&name));
        prop_assert_eq!(&told[1].query.portal, &named(&portal));
        let Fact::Startup { user: known, .. } = run.facts()[0] else { panic!() };
        prop_assert_eq!(known.as_deref(), Some(&*user));
    }
}
