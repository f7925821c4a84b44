//! Recorded sessions (`testdata/amqp`): whole, at every prefix, split at every byte, with holes of
//! every kind at every position. What a damaged run tells must be part of what the whole one does.

use super::*;
use crate::testing::{Damage, records};

impl Run {
    /// Nothing here that the whole run doesn't tell alike, each once. What it knows less, it says so.
    fn assert_part_of(&self, whole: &[Exchange], context: &dyn Fn() -> String) -> usize {
        let mut left: Vec<&Exchange> = whole.iter().collect();
        let mut complete = 0;
        // What is alike in all takes its like first: what is known of less could be taken for several.
        let same = |it: &Exchange, other: &&Exchange| it.call == other.call && it.end == other.end;
        let mut found = exchanges(&self.events);
        found.sort_by_key(|it| !whole.iter().any(|other| same(it, &other)));
        for exchange in found {
            let alike = |original: &&Exchange| exchange.is_part_of(original);
            let exact = left.iter().position(|original| same(&exchange, original));
            let Some(at) = exact.or_else(|| left.iter().position(alike)) else {
                panic!("{} was never there, {}", exchange.tell(), context());
            };
            let original = left.swap_remove(at);
            complete += usize::from(exchange.end == original.end);
        }
        complete
    }
}

impl Exchange {
    /// Whether what is told here is told there, as far as it is.
    fn is_part_of(&self, whole: &Self) -> bool {
        let delivery = |part: &Delivery, whole: &Delivery| {
            // Who consumes, and how, may have been lost; whether the rest of the body was.
            let known = Delivery {
                queue: whole.queue.clone(),
                automatic: whole.automatic,
                message: whole.message.clone(),
                ..part.clone()
            };
            (part.queue.is_none() || part.queue == whole.queue)
                && (!part.automatic || whole.automatic)
                && is_part_of(&part.message, &whole.message)
                && known == *whole
        };
        let call = match (&self.call, &whole.call) {
            (Call::Publish(part), Call::Publish(whole)) => {
                let known = Publish {
                    confirm_tag: whole.confirm_tag,
                    message: whole.message.clone(),
                    ..(**part).clone()
                };
                (part.confirm_tag.is_none() || part.confirm_tag == whole.confirm_tag)
                    && is_part_of(&part.message, &whole.message)
                    && known == **whole
            }
            (Call::Delivery(part), Call::Delivery(whole)) => delivery(part, whole),
            (Call::Get { queue }, Call::Get { queue: whole }) => queue.is_none() || queue == whole,
            (Call::Method { name, target }, Call::Method { name: whole_name, target: whole }) => {
                name == whole_name && (target.is_none() || target == whole)
            }
            _ => false,
        };
        let end = match (&self.end, &whole.end) {
            (Some(Ok(End::Got(part))), Some(Ok(End::Got(whole)))) => delivery(part, whole),
            // Numbers that are not certain, a channel's closing that was lost.
            (Some(Ok(End::NoReply)), _) => {
                matches!(self.call, Call::Publish(_)) || whole.end == self.end
            }
            (Some(Ok(End::Broken { .. } | End::Released)), _) | (Some(Err(_)), _) => true,
            // Whether it came back before.
            (Some(Ok(End::Confirmed { returned: None })), Some(Ok(End::Confirmed { .. }))) => true,
            (part, whole) => part == whole,
        };
        call && end
    }
}

fn is_part_of(part: &Message, whole: &Message) -> bool {
    let known = |part: Option<u64>, whole: Option<u64>| part.is_none() || part == whole;
    let (properties, original) = (&part.properties, &whole.properties);
    part.body_bytes == whole.body_bytes
        && known(part.body_hash, whole.body_hash)
        && known(part.prefix_hash, whole.prefix_hash)
        && known(properties.hash, original.hash)
        && (properties.message_id.is_none() || properties.message_id == original.message_id)
        && (properties.traceparent.is_none() || properties.traceparent == original.traceparent)
}

/// The captures.
const CAPTURES: &[(&str, &[u8])] = &[
    ("amqplib", include_bytes!("../../../testdata/amqp/amqplib.amqp")),
    ("pika", include_bytes!("../../../testdata/amqp/pika.amqp")),
    ("aio-pika", include_bytes!("../../../testdata/amqp/aio-pika.amqp")),
];

/// What a whole run of each tells.
const TOLD: &[(&str, &[&str])] = &[
    (
        "amqplib",
        &[
            "confirm.select > Replied",
            "exchange.declare orders > Replied",
            "queue.declare work > Replied",
            "queue.bind work > Replied",
            "queue.declare > Replied",
            "publish m-0 to orders:order.new > Confirmed",
            "publish p-0 to :amq.gen > NoReply",
            "publish m-1 to orders:order.new > Confirmed",
            "publish p-1 to :amq.gen > NoReply",
            "publish m-2 to orders:order.new > Confirmed",
            "publish p-2 to :amq.gen > NoReply",
            "publish p-3 to :amq.gen > NoReply",
            "publish m-3 to orders:order.new > Confirmed",
            "publish p-4 to :amq.gen > NoReply",
            "publish m-4 to orders:order.new > Confirmed",
            "publish p-5 to :amq.gen > NoReply",
            "publish m-5 to orders:order.new > Confirmed",
            "publish r-0 to orders:nowhere mandatory > Returned 312",
            "publish m-6 to orders:order.last mandatory > Confirmed",
            "basic.qos > Replied",
            "basic.qos > Replied",
            "basic.consume work > Replied",
            "deliver m-0 from work > Ack",
            "deliver m-1 from work > Nack, again",
            "deliver m-2 from work > Reject",
            "deliver m-3 from work > Ack",
            "deliver m-4 from work > Ack, all before",
            "deliver m-5 from work > Ack, all before",
            "deliver m-6 from work > Ack",
            "deliver m-1 from work again > Ack",
            "basic.consume amq.gen > Replied",
            "deliver p-0 from amq.gen automatically > NoReply",
            "deliver p-1 from amq.gen automatically > NoReply",
            "deliver p-2 from amq.gen automatically > NoReply",
            "deliver p-3 from amq.gen automatically > NoReply",
            "deliver p-4 from amq.gen automatically > NoReply",
            "deliver p-5 from amq.gen automatically > NoReply",
            "basic.cancel work > Replied",
            "publish g-0 to :work > Confirmed",
            "publish g-1 to :work > Confirmed",
            "get work > deliver g-0 from work",
            "get work > deliver g-1 from work automatically",
            "get work > Empty",
            "basic.consume work > Replied",
            "queue.delete work > Replied",
            "queue.declare missing > Closed 404",
        ],
    ),
    (
        "pika",
        &[
            "queue.declare tasks > Replied",
            "publish u-0 to :tasks > NoReply",
            "publish u-1 to :tasks > NoReply",
            "publish u-2 to :tasks > NoReply",
            "tx.select > Replied",
            "publish t-0 to :tasks > NoReply",
            "tx.commit > Replied",
            "publish t-1 to :tasks > NoReply",
            "tx.rollback > Replied",
            "confirm.select > Replied",
            "publish c-0 to :tasks > Confirmed",
            "publish c-1 to :tasks > Confirmed",
            "publish c-2 to :tasks > Confirmed",
            "publish r-0 to :nowhere mandatory > Returned 312",
            "basic.qos > Replied",
            "basic.consume tasks > Replied",
            "deliver u-0 from tasks > Ack",
            "deliver u-1 from tasks > Nack, again",
            "deliver u-2 from tasks > Ack",
            "deliver u-1 from tasks again > Ack",
            "deliver t-0 from tasks > Ack",
            "deliver c-0 from tasks > Ack",
            "deliver c-1 from tasks > Ack",
            "deliver c-2 from tasks > Ack",
            "basic.cancel tasks > Replied",
            "queue.declare tasks > Closed 406",
            "exchange.declare odd > Closed 503",
        ],
    ),
    (
        "aio-pika",
        &[
            "confirm.select > Replied",
            "exchange.declare events > Replied",
            "queue.declare > Replied",
            "queue.bind amq.gen > Replied",
            "publish a-0 to events:any mandatory > Confirmed",
            "publish a-1 to events:any mandatory > Confirmed",
            "publish a-2 to events:any mandatory > Confirmed",
            "publish a-3 to events:any mandatory > Confirmed",
            "publish a-4 to events:any mandatory > Confirmed",
            "publish a-5 to events:any mandatory > Confirmed",
            "publish a-6 to events:any mandatory > Confirmed",
            "publish a-7 to events:any mandatory > Confirmed",
            "basic.qos > Replied",
            "basic.consume amq.gen > Replied",
            "deliver a-0 from amq.gen > Ack",
            "deliver a-1 from amq.gen > Ack",
            "deliver a-2 from amq.gen > Ack",
            "deliver a-3 from amq.gen > Ack",
            "deliver a-4 from amq.gen > Ack",
            "deliver a-5 from amq.gen > Ack",
            "deliver a-6 from amq.gen > Ack",
            "deliver a-7 from amq.gen > Ack",
            "basic.cancel amq.gen > Replied",
            "publish b-0 to :amq.gen mandatory > NoReply",
            "get amq.gen > deliver b-0 from amq.gen automatically",
            "get amq.gen > Empty",
        ],
    ),
];

/// Where damage is tried: every byte of a record of this size, and a fair sample of a longer one's.
const EVERY: usize = 64;

/// Places in a record, each once: all of a short one, of a long one those near its ends and every fifth.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len).filter(move |at| len <= EVERY || at % 5 == 0 || *at < 16 || len - at < 16)
}

#[test]
fn what_clients_did_is_told() {
    for (name, capture) in CAPTURES {
        let whole = Run::whole(&records(capture));
        for reason in [Skip::Resync, Skip::UnpairedResponse, Skip::Broken, Skip::HeldTooLong] {
            assert_eq!(whole.skipped(reason), 0, "{name} {reason:?}");
        }
        let told = format!("{:?}", whole.events);
        for secret in ["secret", "guest", "PLAIN"] {
            assert!(!told.contains(secret), "{name} {secret}");
        }
        assert!(told.contains("VirtualHost(\"shop\")") && told.contains("Cluster("), "{name}");
        let (_, expected) = TOLD.iter().find(|(other, _)| other == name).unwrap();
        assert_eq!(whole.told(), *expected, "{name}");
    }
}

#[test]
fn a_message_is_the_same_on_both_sides() {
    for (name, capture) in CAPTURES {
        let mut published: BTreeMap<Box<str>, Message> = BTreeMap::new();
        let mut pairs = 0;
        let told = exchanges(&Run::whole(&records(capture)).events);
        for call in told.iter().map(|it| &it.call) {
            if let Call::Publish(publish) = call {
                published.insert(id(&publish.message).into(), publish.message.clone());
            }
        }
        for it in &told {
            let ((Call::Delivery(delivery), _) | (_, Some(Ok(End::Got(delivery))))) =
                (&it.call, &it.end)
            else {
                continue;
            };
            let original = &published[id(&delivery.message)];
            let (ours, theirs) = (&delivery.message, original);
            assert_eq!((ours.body_hash, ours.prefix_hash), (theirs.body_hash, theirs.prefix_hash));
            assert_eq!(ours.properties.hash, theirs.properties.hash);
            assert!(ours.body_hash.is_some() && ours.properties.hash.is_some());
            pairs += 1;
        }
        let hashes: std::collections::BTreeSet<_> = published
            .values()
            .map(|message| (message.properties.hash, message.body_hash))
            .collect();
        assert_eq!(hashes.len(), published.len(), "{name}: no two are alike");
        assert!(pairs >= 8, "{name}: {pairs}");
    }
}

#[test]
fn at_every_prefix_what_is_told_is_part_of_the_whole() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            for len in places(bytes.map_or(0, <[u8]>::len)) {
                let run = Run::prefix(&records, at, len);
                run.assert_part_of(&whole, &|| format!("{name}: {len} bytes of record {at}"));
            }
        }
    }
}

/// What is told, but for the numbers of pieces.
fn unmarked(events: &[Event<u32>]) -> Vec<Exchange> {
    let unmarked = |it: Exchange| Exchange { first: 0, last: 0, ..it };
    exchanges(events).into_iter().map(unmarked).collect()
}

#[test]
fn split_at_every_byte_all_is_told_alike() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = unmarked(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for len in places(bytes.len()).filter(|len| *len > 0) {
                let run = Run::split(&records, at, len);
                assert_eq!(unmarked(&run.events), whole, "{name}: record {at} split at {len}");
            }
        }
        let run = Run::byte_by_byte(&records);
        assert_eq!(unmarked(&run.events), whole, "{name}: byte by byte");
    }
}

#[test]
fn with_a_hole_at_every_position_nothing_wrong_is_told() {
    let damages = [Damage::Missing, Damage::Middle, Damage::Hole, Damage::Gap, Damage::Gaps];
    let mut complete = [0; 5];
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for from in places(bytes.len()) {
                // Each place has one damage, and each kind of it its turn.
                let turn = from + at;
                for (number, to) in [from + 1, from + 20, bytes.len()].into_iter().enumerate() {
                    let to = to.min(bytes.len());
                    for (kind, damage) in damages.iter().enumerate() {
                        let its_turn = turn % 5 == kind && turn / 5 % 3 == number;
                        if !its_turn {
                            continue;
                        }
                        let run = Run::damaged(&records, at, from..to, *damage);
                        let context = || format!("{name}: record {at}, {from}..{to} {damage:?}");
                        complete[kind] += run.assert_part_of(&whole, &context);
                    }
                }
            }
        }
    }
    assert!(complete.iter().all(|count| *count > 5_000), "what is left is told: {complete:?}");
}

#[test]
fn met_at_every_record_nothing_wrong_is_told() {
    let mut told = 0;
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for at in 0..records.len() {
            let mut run = Run::new(false);
            run.records(&records[at..]);
            run.close();
            told += run.assert_part_of(&whole, &|| format!("{name}: met at record {at}"));
        }
    }
    assert!(told > 500, "{told}");
}

#[test]
fn the_fuzz_target_holds_on_every_prefix_of_the_captures() {
    for (_, capture) in CAPTURES {
        for len in places(capture.len()) {
            fuzz_amqp(&capture[..len]);
        }
    }
}
