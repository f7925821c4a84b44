//! Recorded sessions (`testdata/kafka`): whole, at every prefix, split at every byte, with holes of every
//! kind at every position. What a damaged run tells must be part of what the whole one does.

use rstest::rstest;

use super::*;
use crate::testing::Damage;
pub(super) use crate::testing::records;

impl Run {
    /// Nothing here that the whole run doesn't tell alike.
    fn assert_part_of(&self, whole: &[Exchange], context: &dyn Fn() -> String) {
        for exchange in exchanges(&self.events) {
            let alike = whole.iter().any(|original| exchange.is_part_of(original));
            assert!(alike, "{} was never there, {}", exchange.tell(), context());
        }
    }
}

impl Exchange {
    /// The same, or less of it.
    fn is_part_of(&self, whole: &Self) -> bool {
        let asked = match (&self.request.operation, &whole.request.operation) {
            (Operation::Produce(it), Operation::Produce(whole)) => {
                (&it.topic, it.partition) == (&whole.topic, whole.partition)
                    && match (&it.records, &whole.records) {
                        (Some(it), Some(whole)) => it.is_part_of(whole),
                        (it, _) => it.is_none(),
                    }
            }
            (Operation::Commit(it), Operation::Commit(whole)) => {
                it.group == whole.group
                    && (it.first.is_none() || it.first == whole.first)
                    && (it.partitions.is_none() || it.partitions == whole.partitions)
            }
            // A request that was not captured so far as to be told from others.
            (Operation::Other(api), Operation::Produce(_)) => *api == ApiKey::PRODUCE,
            (Operation::Other(api), Operation::Commit(_)) => *api == ApiKey::OFFSET_COMMIT,
            (it, whole) => it == whole,
        };
        let ended = match (&self.end, &whole.end) {
            (Some(Ok(End::Fetched(it))), Some(Ok(End::Fetched(whole)))) => {
                (&it.topic, it.partition, it.error) == (&whole.topic, whole.partition, whole.error)
                    && it.records.is_part_of(&whole.records)
                    && (it.next_offset.is_none() || it.next_offset == whole.next_offset)
                    && (it.first_offset.is_none() || it.first_offset == whole.first_offset)
            }
            (
                Some(Ok(End::Produced { .. } | End::Committed { .. } | End::Idle | End::Sent)),
                whole,
            ) => self.end == *whole,
            (Some(Ok(End::Fetched(_))), _) => false,
            // Less is told of how it ended.
            _ => true,
        };
        asked && ended
    }
}

impl Records {
    fn is_part_of(&self, whole: &Self) -> bool {
        self.bytes == whole.bytes
            && (self.count.is_none() || self.count == whole.count)
            && self.contexts.iter().all(|context| whole.contexts.contains(context))
            && self.batches.iter().all(|batch| whole.batches.contains(batch))
            && (!self.all_have_contexts || whole.all_have_contexts)
    }
}

/// Every capture with what a whole run of it tells.
macro_rules! captures {
    ($($name:ident: $file:literal => $told:expr;)*) => {
        pub(super) const CAPTURES: &[(&str, &[u8])] =
            &[$(($file, include_bytes!(concat!("../../../testdata/kafka/", $file)))),*];
        $(#[test]
        fn $name() {
            let (_, capture) = CAPTURES.iter().find(|(name, _)| *name == $file).unwrap();
            let whole = Run::whole(&records(capture));
            assert_eq!(whole.told(), $told);
            assert_eq!(whole.skipped(), 0);
        })*
    };
}

captures! {
    aiokafka_10: "aiokafka-10.kafka" => [
        "Produce aio.orders/0 x1 (all 1) > @12",
        "Produce aio.orders/1 x1 (all 1) > @3",
        "Produce aio.orders/0 x3 > @13",
    ];
    aiokafka_12: "aiokafka-12.kafka" => [
        "Produce aio.orders/0 x1 (all 1) > @16",
        "Produce aio.orders/1 x1 (all 1) > @4",
        "Produce aio.orders/0 x3 > @17",
    ];
    aiokafka_14: "aiokafka-14.kafka" => [
        "Fetch > aio.orders/1 @0..5 x5 (all 1)",
        "Fetch > aio.orders/0 @0..20 x20 (1)",
    ];
    aiokafka_15: "aiokafka-15.kafka" => ["Commit billing aio.orders/1=5 of 2 > noted"];
    aiokafka_4: "aiokafka-4.kafka" => [
        "Produce aio.orders/0 x1 (all 1) > @0",
        "Produce aio.orders/1 x1 (all 1) > @0",
        "Produce aio.orders/0 x3 > @1",
    ];
    aiokafka_6: "aiokafka-6.kafka" => [
        "Produce aio.orders/0 x1 (all 1) > @4",
        "Produce aio.orders/1 x1 (all 1) > @1",
        "Produce aio.orders/0 x3 > @5",
    ];
    aiokafka_8: "aiokafka-8.kafka" => [
        "Produce aio.orders/0 x1 (all 1) > @8",
        "Produce aio.orders/1 x1 (all 1) > @2",
        "Produce aio.orders/0 x3 > @9",
    ];
    confluent_10: "confluent-10.kafka" => [
        "Produce rd.orders/0 x2 (all 1) > @6",
        "Produce rd.orders/1 x3 (all 1) > @9",
    ];
    confluent_12: "confluent-12.kafka" => [
        "Produce rd.orders/0 x2 (all 1) > @8",
        "Produce rd.orders/1 x3 (all 1) > @12",
    ];
    confluent_14: "confluent-14.kafka" => ["Commit billing rd.orders/0=10 of 2 > noted"];
    confluent_15: "confluent-15.kafka" => [
        "Fetch > by id/1 @0..15 x15 (all 1)",
        "Fetch > by id/0 @0..10 x10 (all 1)",
    ];
    confluent_4: "confluent-4.kafka" => [
        "Produce rd.orders/1 x3 (all 1) > @0",
        "Produce rd.orders/0 x2 (all 1) > @0",
    ];
    confluent_6: "confluent-6.kafka" => [
        "Produce rd.orders/0 x2 (all 1) > @2",
        "Produce rd.orders/1 x3 (all 1) > @3",
    ];
    confluent_8: "confluent-8.kafka" => [
        "Produce rd.orders/0 x2 (all 1) > @4",
        "Produce rd.orders/1 x3 (all 1) > @6",
    ];
    kafkajs_1: "kafkajs-1.kafka" => [] as [&str; 0];
    kafkajs_2: "kafkajs-2.kafka" => [
        "Produce js.orders/0 x1 (all 1) > @0",
        "Produce js.orders/1 x3 > @0",
        "Produce js.orders/0 x2 (all 1) > @1",
        "Produce js.orders/1 x3 (all 1) > @3",
        "Produce js.mails/0 x2 > @0",
        "Produce js.mails/1 x1 > Sent",
        "Produce js.mails/1 x1 > None Some(MESSAGE_TOO_LARGE)",
    ];
    kafkajs_3: "kafkajs-3.kafka" => [] as [&str; 0];
    kafkajs_4: "kafkajs-4.kafka" => [
        "Commit billing js.mails/1=1 of 1 > noted",
        "Commit billing js.orders/1=6 of 1 > noted",
        "Commit billing js.mails/0=2 of 1 > noted",
        "Commit billing js.orders/0=3 of 1 > noted",
    ];
    kafkajs_5: "kafkajs-5.kafka" => [
        "Fetch > js.mails/1 @0..1 x1",
        "Fetch > js.orders/1 @0..6 x6 (1)",
        "Fetch > js.mails/0 @0..2 x2",
        "Fetch > js.orders/0 @0..3 x3 (all 1)",
    ];
}

#[test]
fn facts_of_the_captures_are_read() {
    let mut told = std::collections::BTreeSet::new();
    for (name, capture) in CAPTURES {
        let client = name.split('-').next().unwrap_or_default();
        let run = Run::whole(&records(capture));
        for fact in run.facts() {
            told.insert(match fact {
                Fact::Cluster(id) => format!("{client}: cluster {id}"),
                Fact::Topic { name, .. } => format!("{client}: id of {name}"),
                Fact::Group { client_id, group, topic } => format!(
                    "{client}: {} reads {} for {group}",
                    client_id.as_deref().unwrap_or("-"),
                    tell_topic(topic)
                ),
            });
        }
    }
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "aiokafka: cluster MkU3OEVBNTcwNTJENDM2Qg",
            "aiokafka: shop reads aio.orders for billing",
            "confluent: cluster MkU3OEVBNTcwNTJENDM2Qg",
            "confluent: id of rd.orders",
            "confluent: shop reads rd.orders for billing",
            "kafkajs: cluster MkU3OEVBNTcwNTJENDM2Qg",
            "kafkajs: shop reads js.mails for billing",
            "kafkajs: shop reads js.orders for billing",
        ]
    );
}

/// Every position of short records, some of long ones.
fn stride(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(100).max(1)
}

#[test]
fn at_every_prefix_what_is_told_is_part_of_the_whole() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let length = bytes.map_or(0, <[u8]>::len);
            for len in (0..length).step_by(stride(bytes.unwrap_or_default())) {
                let run = Run::prefix(&records, at, len);
                run.assert_part_of(&whole, &|| format!("{name}: {len} bytes of record {at}"));
            }
        }
    }
}

#[test]
fn split_at_every_byte_all_is_told_alike() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for len in (1..bytes.len()).step_by(stride(bytes)) {
                let run = Run::split(&records, at, len);
                assert_eq!(exchanges(&run.events), whole, "{name}: record {at} split at {len}");
            }
        }
        let run = Run::byte_by_byte(&records);
        assert_eq!(exchanges(&run.events), whole, "{name}: byte by byte");
    }
}

#[test]
fn an_answer_that_comes_before_its_request_waits_for_it() {
    let mut swaps = 0;
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for at in 0..records.len() - 1 {
            if !matches!(records[at..at + 2], [(Requests, Some(_)), (Responses, Some(_))]) {
                continue;
            }
            swaps += 1;
            let mut swapped = records.clone();
            swapped.swap(at, at + 1);
            let told = exchanges(&Run::whole(&swapped).events);
            assert_eq!(told, whole, "{name}: records {at} and the next swapped");
        }
    }
    assert!(swaps > 100, "{swaps}");
}

// 4 and 12 bytes are a length and a header's beginning, 61 a batch's header.
#[rstest]
#[case(Damage::Hole, 1, 1)]
#[case(Damage::Hole, 4, 3)]
#[case(Damage::Hole, 12, 5)]
#[case(Damage::Hole, 61, 5)]
#[case(Damage::Hole, usize::MAX, 5)]
#[case(Damage::Missing, usize::MAX, 1)]
#[case(Damage::Gap, 46, 7)]
#[case(Damage::Gap, usize::MAX, 7)]
#[case(Damage::Gaps, usize::MAX, 7)]
fn with_damage_at_every_position_nothing_is_told_that_was_not_there(
    #[case] damage: Damage,
    #[case] length: usize,
    #[case] step: usize,
) {
    let (mut told, mut due) = (0, 0);
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole_run = Run::whole(&records);
        let whole = exchanges(&whole_run.events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for from in (0..bytes.len()).step_by(step * stride(bytes)) {
                let to = from.saturating_add(length).min(bytes.len());
                if matches!(damage, Damage::Missing) && (to < bytes.len() || from == 0) {
                    continue;
                }
                let run = Run::damaged(&records, at, from..to, damage);
                let context = || format!("{name}: record {at}, bytes {from}..{to} {damage:?}");
                run.assert_part_of(&whole, &context);
                told += run.told().len();
                due += whole_run.told().len();
            }
        }
    }
    // A record is one of ten or so of a capture: what the damage didn't touch is told.
    assert!(told * 10 > due * 8, "{told} of {due}");
}

#[test]
fn met_at_every_record_nothing_is_paired_wrongly() {
    let (mut told, mut due) = (0, 0);
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for at in 0..records.len() {
            let mut run = Run::new(false);
            run.records(&records[at..]);
            run.close();
            run.assert_part_of(&whole, &|| format!("{name}: met at record {at}"));
            told += run.told().len();
            let before = records[..at].iter().filter(|(direction, _)| *direction == Requests);
            let passed: usize = before.map(|(_, bytes)| bytes.map_or(0, <[u8]>::len)).sum();
            due += whole.iter().filter(|it| !it.is_other() && it.offset >= passed as u64).count();
        }
    }
    assert!(told >= due && due > 100, "{told} of {due}");
}

#[test]
fn the_fuzz_target_holds_on_every_prefix_of_the_captures() {
    for (_, capture) in CAPTURES {
        for len in (0..capture.len()).step_by(29) {
            fuzz_kafka(&capture[..len]);
        }
    }
}
