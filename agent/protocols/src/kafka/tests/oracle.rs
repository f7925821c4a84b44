//! Against `kafka-protocol`, which reads and writes whole messages of either side.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    self as oracle, FetchRequest, FetchResponse, GroupId, MetadataResponse, OffsetCommitRequest,
    OffsetCommitResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
    TopicName, fetch_request, fetch_response, metadata_response, offset_commit_request,
    offset_commit_response, produce_request, produce_response,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::super::reader::Reader;
use super::captures::{CAPTURES, records};
use super::*;

fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn framed(parts: &[&BytesMut]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

fn request<T: Encodable + HeaderVersion>(api: i16, version: i16, id: i32, body: &T) -> Vec<u8> {
    let (mut head, mut content) = (BytesMut::new(), BytesMut::new());
    RequestHeader::default()
        .with_request_api_key(api)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(name("shop")))
        .encode(&mut head, T::header_version(version))
        .unwrap();
    body.encode(&mut content, version).unwrap();
    framed(&[&head, &content])
}

fn response<T: Encodable + HeaderVersion>(version: i16, id: i32, body: &T) -> Vec<u8> {
    let (mut head, mut content) = (BytesMut::new(), BytesMut::new());
    ResponseHeader::default()
        .with_correlation_id(id)
        .encode(&mut head, T::header_version(version))
        .unwrap();
    body.encode(&mut content, version).unwrap();
    framed(&[&head, &content])
}

/// A record with this offset and these headers.
fn record(offset: i64, key: Option<Vec<u8>>, value: Vec<u8>, traced: bool) -> Record {
    let mut record = Record {
        transactional: false,
        control: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: 1_700_000_000_000 + offset,
        key: key.map(Bytes::from),
        value: Some(Bytes::from(value)),
        headers: Default::default(),
    };
    if traced {
        let parent = Bytes::from_static(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        record.headers.insert(name("a"), None);
        record.headers.insert(name("traceparent"), Some(parent));
    }
    record
}

fn encoded(records: &[Record]) -> Bytes {
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, records, &options).unwrap();
    bytes.freeze()
}

/// A partition of a topic, with how many records from which offset on.
type Part = (usize, i32, Vec<(Option<Vec<u8>>, Vec<u8>, bool)>);

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let record = (prop::option::of(bytes()), bytes(), any::<bool>());
    prop::collection::vec((0_usize..3, 0_i32..5, prop::collection::vec(record, 1..5)), 1..6)
        .prop_map(|mut parts: Vec<Part>| {
            parts.sort_by_key(|(topic, partition, _)| (*topic, *partition));
            parts.dedup_by_key(|(topic, partition, _)| (*topic, *partition));
            parts
        })
}

const TOPICS: [&str; 3] = ["orders", "mails", "a.b-c_d"];

fn id_of(topic: usize) -> Uuid {
    Uuid::from_u128(topic as u128 + 1)
}

/// The topic, as a request of this version names it.
fn named(topic: usize, by_id: bool) -> (TopicName, Uuid) {
    if by_id {
        (TopicName::default(), id_of(topic))
    } else {
        (TopicName(name(TOPICS[topic])), Uuid::nil())
    }
}

fn is_topic(topic: &Topic, index: usize, by_id: bool) -> bool {
    match topic {
        Topic::Name(name) => !by_id && **name == *TOPICS[index],
        Topic::Id(id) => by_id && *id == *id_of(index).as_bytes(),
    }
}

proptest! {
    #[test]
    fn what_it_writes_of_producing_is_read(
        version in 3_i16..=13,
        parts in parts(),
        errors in prop::collection::vec(0_i16..3, 6),
        pieces in 1_usize..400,
    ) {
        let by_id = version >= 13;
        let topics = (0..TOPICS.len()).map(|topic| {
            let of_it = parts.iter().filter(|part| part.0 == topic);
            let data = of_it.map(|(_, partition, records)| {
                let records: Vec<Record> = records.iter().enumerate().map(|(offset, (key, value, traced))| {
                    record(offset as i64, key.clone(), value.clone(), *traced)
                }).collect();
                produce_request::PartitionProduceData::default().with_index(*partition).with_records(Some(encoded(&records)))
            });
            let (topic, id) = named(topic, by_id);
            produce_request::TopicProduceData::default().with_name(topic).with_topic_id(id).with_partition_data(data.collect())
        });
        let body = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(topics.collect());
        let asked = request(0, version, 7, &body);
        let answers = (0..TOPICS.len()).map(|topic| {
            let of_it = parts.iter().enumerate().filter(|(_, part)| part.0 == topic);
            let data = of_it.map(|(index, (_, partition, _))| {
                let answer = produce_response::PartitionProduceResponse::default().with_index(*partition);
                let answer = answer.with_error_code(errors[index]).with_base_offset(100 * index as i64);
                if version >= 8 && errors[index] != 0 {
                    let wrong = produce_response::BatchIndexAndErrorMessage::default().with_batch_index(1);
                    answer.with_record_errors(vec![wrong]).with_error_message(Some(name("no")))
                } else {
                    answer
                }
            });
            let (topic, id) = named(topic, by_id);
            produce_response::TopicProduceResponse::default().with_name(topic).with_topic_id(id).with_partition_responses(data.collect())
        });
        let body = ProduceResponse::default().with_responses(answers.collect()).with_throttle_time_ms(5);
        let answered = response(version, 7, &body);
        let mut run = Run::new(true);
        asked.chunks(pieces).for_each(|piece| { run.requests(piece); });
        answered.chunks(pieces).for_each(|piece| { run.responses(piece); });
        prop_assert_eq!(run.close().skipped(), 0);
        let told = exchanges(&run.events);
        prop_assert_eq!(told.len(), parts.len());
        for (index, (it, (topic, partition, records))) in told.iter().zip(&parts).enumerate() {
            let Operation::Produce(produced) = &it.request.operation else { panic!("{it:?}") };
            prop_assert!(is_topic(&produced.topic, *topic, by_id));
            prop_assert_eq!(produced.partition, *partition);
            let read = produced.records.as_ref().unwrap();
            prop_assert_eq!(read.count, Some(records.len() as u64));
            prop_assert_eq!(read.contexts.len(), usize::from(records.iter().any(|record| record.2)));
            prop_assert_eq!(read.all_have_contexts, records.iter().all(|record| record.2));
            let error = ErrorCode::new(errors[index]);
            let base_offset = error.is_none().then_some(100 * index as i64);
            prop_assert_eq!(&it.end, &Some(Ok(End::Produced { base_offset, error })));
        }
    }

    #[test]
    fn what_it_writes_of_fetching_is_read(
        version in 4_i16..=18,
        parts in parts(),
        ahead in prop::collection::vec(0_usize..3, 6),
        pieces in 1_usize..400,
        aborted in any::<bool>(),
    ) {
        let by_id = version >= 13;
        let base = |index: usize| 1000 * index as i64;
        let topics = (0..TOPICS.len()).map(|topic| {
            let of_it = parts.iter().enumerate().filter(|(_, part)| part.0 == topic);
            let data = of_it.map(|(index, (_, partition, _))| {
                fetch_request::FetchPartition::default().with_partition(*partition).with_fetch_offset(base(index) + ahead[index] as i64)
            });
            let (topic, id) = named(topic, by_id);
            fetch_request::FetchTopic::default().with_topic(topic).with_topic_id(id).with_partitions(data.collect())
        });
        let asked = request(1, version, 7, &FetchRequest::default().with_max_wait_ms(500).with_topics(topics.collect()));
        let answers = (0..TOPICS.len()).map(|topic| {
            let of_it = parts.iter().enumerate().filter(|(_, part)| part.0 == topic);
            let data = of_it.map(|(index, (_, partition, records))| {
                let records: Vec<Record> = records.iter().enumerate().map(|(offset, (key, value, traced))| {
                    record(base(index) + offset as i64, key.clone(), value.clone(), *traced)
                }).collect();
                let data = fetch_response::PartitionData::default().with_partition_index(*partition).with_records(Some(encoded(&records)));
                let gone = aborted.then(|| vec![fetch_response::AbortedTransaction::default()]);
                data.with_aborted_transactions(gone)
            });
            let (topic, id) = named(topic, by_id);
            fetch_response::FetchableTopicResponse::default().with_topic(topic).with_topic_id(id).with_partitions(data.collect())
        });
        let answered = response(version, 7, &FetchResponse::default().with_responses(answers.collect()));
        let mut run = Run::new(true);
        asked.chunks(pieces).for_each(|piece| { run.requests(piece); });
        answered.chunks(pieces).for_each(|piece| { run.responses(piece); });
        prop_assert_eq!(run.close().skipped(), 0);
        let told = exchanges(&run.events);
        let due: Vec<_> = parts.iter().enumerate().filter(|(index, part)| ahead[*index] < part.2.len()).collect();
        prop_assert_eq!(told.len(), due.len().max(1));
        if due.is_empty() {
            prop_assert_eq!(&told[0].end, &Some(Ok(End::Idle)));
        }
        for (it, (index, (topic, partition, records))) in told.iter().zip(due) {
            let Some(Ok(End::Fetched(it))) = &it.end else { panic!("{it:?}") };
            prop_assert!(is_topic(&it.topic, *topic, by_id));
            prop_assert_eq!(it.partition, *partition);
            let asked = &records[ahead[index]..];
            prop_assert_eq!(it.records.count, Some(asked.len() as u64));
            prop_assert_eq!(it.first_offset, Some(base(index) + ahead[index] as i64));
            prop_assert_eq!(it.next_offset, Some(base(index) + records.len() as i64));
            prop_assert_eq!(it.records.contexts.len(), usize::from(asked.iter().any(|record| record.2)));
            prop_assert!(!it.cut);
        }
    }

    #[test]
    fn what_it_writes_of_committing_is_read(version in 2_i16..=9, offsets in prop::collection::vec(0_i64..1000, 1..5), error in 0_i16..40) {
        let data = offsets.iter().enumerate().map(|(partition, offset)| {
            offset_commit_request::OffsetCommitRequestPartition::default().with_partition_index(partition as i32).with_committed_offset(*offset).with_committed_metadata(Some(name("x")))
        });
        let topic = offset_commit_request::OffsetCommitRequestTopic::default().with_name(TopicName(name("orders"))).with_partitions(data.collect());
        let body = OffsetCommitRequest::default().with_group_id(GroupId(name("billing"))).with_member_id(name("me")).with_topics(vec![topic]);
        let mut run = Run::new(true);
        run.requests(request(8, version, 7, &body));
        let data = offsets.iter().enumerate().map(|(partition, _)| {
            offset_commit_response::OffsetCommitResponsePartition::default().with_partition_index(partition as i32).with_error_code(error)
        });
        let topic = offset_commit_response::OffsetCommitResponseTopic::default().with_name(TopicName(name("orders"))).with_partitions(data.collect());
        run.responses(response(version, 7, &OffsetCommitResponse::default().with_topics(vec![topic])));
        prop_assert_eq!(run.close().skipped(), 0);
        let ended = ErrorCode::new(error).map_or("noted".to_owned(), |error| error.to_string());
        prop_assert_eq!(run.told(), [format!("Commit billing orders/0={} of {} > {ended}", offsets[0], offsets.len())]);
    }

    #[test]
    fn what_it_writes_of_metadata_is_read(version in 0_i16..=13, partitions in 0_i32..4) {
        let asked = request(3, version, 7, &oracle::MetadataRequest::default());
        let broker = metadata_response::MetadataResponseBroker::default().with_host(name("a")).with_rack((version > 0).then(|| name("b")));
        let topics = (0..TOPICS.len()).map(|topic| {
            let data = (0..partitions).map(|partition| {
                metadata_response::MetadataResponsePartition::default().with_partition_index(partition).with_replica_nodes(vec![1.into(), 2.into()])
            });
            let id = if version >= 10 { id_of(topic) } else { Uuid::nil() };
            metadata_response::MetadataResponseTopic::default().with_name(Some(TopicName(name(TOPICS[topic])))).with_topic_id(id).with_partitions(data.collect())
        });
        let body = MetadataResponse::default().with_brokers(vec![broker.clone(), broker]).with_topics(topics.collect());
        let body = if version >= 2 { body.with_cluster_id(Some(name("c1"))) } else { body };
        let mut run = Run::new(true);
        run.requests(asked).responses(response(version, 7, &body));
        prop_assert_eq!(run.close().skipped(), 0);
        let clusters = run.facts().iter().filter(|fact| matches!(fact, Fact::Cluster(id) if **id == *"c1")).count();
        prop_assert_eq!(clusters, usize::from(version >= 2));
        let topics = run.facts().iter().filter(|fact| matches!(fact, Fact::Topic { .. })).count();
        prop_assert_eq!(topics, if version >= 10 { TOPICS.len() } else { 0 });
    }
}

#[test]
fn of_the_captures_records_the_same_is_told() {
    let mut batches = 0;
    for (name, capture) in CAPTURES {
        for (_, bytes) in records(capture) {
            let Some(bytes) = bytes else { continue };
            // Wherever a batch's header is: magic 2 behind a length that fits.
            for at in 0..bytes.len().saturating_sub(61) {
                let length =
                    u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
                if bytes[at + 16] != 2 || length < 49 || bytes.len() < at + 12 + length {
                    continue;
                }
                let whole = &bytes[at..at + 12 + length];
                if whole[21..23] != [0, 0] {
                    continue;
                }
                let Ok(theirs) = RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(whole))
                else {
                    continue;
                };
                let ours = batch::read(Reader::new(whole, whole.len() as u64), None, true);
                batches += 1;
                assert_eq!(ours.records.count, Some(theirs.records.len() as u64), "{name}");
                assert_eq!(
                    ours.first_offset,
                    theirs.records.first().map(|record| record.offset),
                    "{name}"
                );
                let traced = theirs
                    .records
                    .iter()
                    .any(|record| record.headers.contains_key("traceparent".as_bytes()));
                assert_eq!(!ours.records.contexts.is_empty(), traced, "{name}");
            }
        }
    }
    assert!(batches > 15, "{batches}");
}
