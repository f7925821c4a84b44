//! Another reader of AMQP (the crate `amq-protocol`) must find in the recorded sessions, and in messages that it
//! wrote itself, what this parser tells of them.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic};
use amq_protocol::types::{AMQPValue, FieldTable};
use proptest::prelude::*;

use super::*;
use crate::testing::records;

/// What the other reader finds: of each message that either side sent, its names, its id and its size, and of
/// each settlement its number.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    published: Vec<(String, String, Option<String>, u64)>,
    delivered: Vec<(String, String, Option<String>, u64)>,
}

fn read(stream: &[u8], found: &mut Found) {
    let mut rest = stream;
    // By channel: the message whose header is awaited.
    let mut open: BTreeMap<u16, (bool, String, String)> = BTreeMap::new();
    while !rest.is_empty() {
        let Ok((after, frame)) = parse_frame(rest) else {
            panic!("{:?}", &rest[..rest.len().min(40)])
        };
        rest = after;
        match frame {
            AMQPFrame::Method(channel, AMQPClass::Basic(method)) => {
                let (ours, exchange, key) = match method {
                    basic::AMQPMethod::Publish(it) => (true, it.exchange, it.routing_key),
                    basic::AMQPMethod::Deliver(it) => (false, it.exchange, it.routing_key),
                    basic::AMQPMethod::GetOk(it) => (false, it.exchange, it.routing_key),
                    _ => continue,
                };
                open.insert(channel, (ours, exchange.to_string(), key.to_string()));
            }
            AMQPFrame::Header(channel, header) => {
                // Of what came back nobody asks here.
                let Some((ours, exchange, key)) = open.remove(&channel) else { continue };
                let id = header.properties.message_id().as_ref().map(ToString::to_string);
                let list = if ours { &mut found.published } else { &mut found.delivered };
                list.push((exchange, key, id, header.body_size));
            }
            _ => {}
        }
    }
}

fn tell(run: &Run) -> Found {
    let mut found = Found::default();
    let entry = |exchange: &str, key: &str, message: &Message| {
        let id = message.properties.message_id.as_deref().map(str::to_owned);
        (exchange.to_owned(), key.to_owned(), id, message.body_bytes)
    };
    for it in exchanges(&run.events) {
        if let Call::Publish(it) = &it.call {
            found.published.push(entry(&it.exchange, &it.routing_key, &it.message));
        }
        if let (Call::Delivery(it), _) | (_, Some(Ok(End::Got(it)))) = (&it.call, &it.end) {
            found.delivered.push(entry(&it.exchange, &it.routing_key, &it.message));
        }
    }
    found
}

#[test]
fn recorded_messages_are_those_that_another_reader_finds() {
    let captures: &[&[u8]] = &[
        include_bytes!("../../../testdata/amqp/amqplib.amqp"),
        include_bytes!("../../../testdata/amqp/pika.amqp"),
        include_bytes!("../../../testdata/amqp/aio-pika.amqp"),
    ];
    for capture in captures {
        let (mut run, mut streams) = (Run::new(true), [Vec::new(), Vec::new()]);
        for record in records(capture) {
            run.record(record);
            streams[record.0 as usize].extend_from_slice(record.1.unwrap_or_default());
        }
        let (mut theirs, mut ours) = (Found::default(), tell(&run));
        streams.iter().for_each(|stream| read(stream, &mut theirs));
        for found in [&mut theirs, &mut ours] {
            // A message is told when it ends, one that was got where it was asked for.
            found.published.sort();
            found.delivered.sort();
        }
        assert_eq!(ours, theirs);
        assert!(ours.published.len() >= 8 && ours.delivered.len() >= 8);
    }
}

fn wire(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0
}

proptest! {
    #[test]
    fn messages_that_another_writer_wrote_are_read(
        names in ("[a-zé.]{0,30}", "[a-z.#]{0,30}"),
        texts in prop::collection::vec(prop::option::of("[a-zA-Z0-9é-]{0,40}"), 8),
        numbers in (prop::option::of(0_u8..3), prop::option::of(0_u8..9), prop::option::of(0_u64..u64::MAX)),
        task in prop::option::of("[a-z.]{1,20}"),
        body in prop::collection::vec(0_u8..=255, 0..600),
        frame_bytes in 1_usize..300,
    ) {
        let [content_type, encoding, correlation, reply, id, kind, user, app] =
            <[_; 8]>::try_from(texts.clone()).unwrap();
        let mut properties = BasicProperties::default();
        macro_rules! set {
            ($($value:expr => $with:ident),*) => {
                $(if let Some(value) = $value { properties = properties.$with(value.into()); })*
            };
        }
        set!(content_type.clone() => with_content_type, encoding => with_content_encoding,
            correlation.clone() => with_correlation_id, reply.clone() => with_reply_to,
            id.clone() => with_message_id, kind.clone() => with_type, user => with_user_id,
            app.clone() => with_app_id, numbers.0 => with_delivery_mode, numbers.1 => with_priority,
            numbers.2 => with_timestamp);
        if let Some(task) = &task {
            let mut inner = FieldTable::default();
            inner.insert("task".into(), AMQPValue::LongString("inner".into()));
            let mut table = FieldTable::default();
            table.insert("a".into(), AMQPValue::FieldTable(inner));
            table.insert("d".into(), AMQPValue::Double(1.5));
            table.insert("task".into(), AMQPValue::LongString(task.as_str().into()));
            table.insert("v".into(), AMQPValue::Void);
            properties = properties.with_headers(table);
        }
        let publish = basic::Publish {
            exchange: names.0.as_str().into(),
            routing_key: names.1.as_str().into(),
            mandatory: true,
            immediate: false,
        };
        let publish = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
        let mut bytes = wire(&AMQPFrame::Method(1, publish));
        bytes.extend(wire(&AMQPFrame::Header(1, header)));
        for part in body.chunks(frame_bytes) {
            bytes.extend(wire(&AMQPFrame::Body(1, part.to_vec())));
        }
        let mut run = opened(&[1]);
        run.requests(&bytes);
        let [it] = &exchanges(&run.events)[..] else { panic!("one message") };
        let Call::Publish(publish) = &it.call else { panic!("a publish") };
        prop_assert_eq!((&*publish.exchange, &*publish.routing_key), (&*names.0, &*names.1));
        prop_assert_eq!(publish.message.body_bytes, body.len() as u64);
        let read = &publish.message.properties;
        for (ours, theirs) in [
            (&read.correlation_id, &correlation),
            (&read.reply_to, &reply),
            (&read.message_id, &id),
            (&read.kind, &kind),
            (&read.app_id, &app),
            (&read.task, &task),
        ] {
            prop_assert_eq!(ours.as_deref(), theirs.as_deref());
        }
        let mut hash = content::Hash::default();
        hash.bytes(&body);
        prop_assert_eq!(publish.message.body_hash, Some(hash.value()));
        let mut hash = content::Hash::default();
        hash.bytes(&body[..body.len().min(256)]);
        prop_assert_eq!(publish.message.prefix_hash, Some(hash.value()));
    }
}
