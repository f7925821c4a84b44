//! What processes' connections tell of Kafka's clusters, for all of their connections: topics' names, consumers'
//! groups, clusters' ids.
//!
//! Stage: beside the exchange. A client asks one broker for names and groups and another for messages. What is
//! told in two ways is not known.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use wirespan_protocols::kafka::{Fact, Operation, Topic, TopicId};

use crate::call::ProcessId;
use crate::connection::{KafkaCall, Outcome};

/// Topics, and consumers' topics, that are known at most. Beyond, what is known is forgotten: clients ask again
/// within minutes.
const MOST: usize = 16_384;

/// Something that is known if all say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Once(Arc<str>),
    Differently,
}

impl Told {
    fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Once(name) => Some(name),
            Self::Differently => None,
        }
    }
}

/// Who reads what: process, client, topic.
type Reader = (ProcessId, Option<Arc<str>>, Topic);

/// What is known.
#[derive(Debug, Default)]
pub struct Brokers {
    topics: FxHashMap<TopicId, Arc<str>>,
    groups: FxHashMap<Reader, Told>,
    clusters: FxHashMap<ProcessId, Told>,
}

impl Brokers {
    /// A process's connection told something.
    pub fn learn(&mut self, process: ProcessId, fact: Fact) {
        match fact {
            Fact::Topic { id, name } => {
                make_room(&mut self.topics);
                self.topics.insert(id, name);
            }
            Fact::Group { client_id, group, topic } => {
                make_room(&mut self.groups);
                let topic = self.by_name(topic);
                put(self.groups.entry((process, client_id, topic)), group);
            }
            Fact::Cluster(id) => put(self.clusters.entry(process), id),
        }
    }

    /// Names what a call that ended so names by ids, or not at all.
    pub fn name(&self, process: ProcessId, call: &mut KafkaCall, outcome: &Outcome) {
        let topic = call.named_topic(outcome).cloned().map(|topic| self.by_name(topic));
        if call.cluster.is_none() {
            call.cluster = self.clusters.get(&process).and_then(Told::name).cloned();
        }
        match (&call.request.operation, &topic) {
            (Operation::Commit(commit), _) => call.group = Some(Arc::clone(&commit.group)),
            (Operation::Fetch, Some(topic)) => {
                let reader = (process, call.request.client_id.clone(), topic.clone());
                call.group = self.groups.get(&reader).and_then(Told::name).cloned();
            }
            _ => {}
        }
        call.topic = match topic {
            Some(Topic::Name(name)) => Some(name),
            Some(Topic::Id(_)) | None => None,
        };
    }

    /// The process is gone.
    pub fn forget(&mut self, process: ProcessId) {
        self.groups.retain(|(reader, ..), _| *reader != process);
        self.clusters.remove(&process);
    }

    fn by_name(&self, topic: Topic) -> Topic {
        match &topic {
            Topic::Id(id) => self.topics.get(id).cloned().map_or(topic, Topic::Name),
            Topic::Name(_) => topic,
        }
    }
}

fn make_room<K, V>(known: &mut FxHashMap<K, V>) {
    if known.len() >= MOST {
        known.clear();
    }
}

fn put<K>(entry: std::collections::hash_map::Entry<'_, K, Told>, name: Arc<str>) {
    let told = entry.or_insert_with(|| Told::Once(Arc::clone(&name)));
    if *told != Told::Once(name) {
        *told = Told::Differently;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirespan_protocols::kafka::{Delivered, End, Records, Request};

    const ID: TopicId = [7; 16];

    /// What a poll of this topic is named.
    fn polled(brokers: &Brokers, process: u64, topic: Topic) -> [Option<String>; 3] {
        let outcome = Outcome::Kafka(End::Fetched(Box::new(Delivered {
            topic,
            partition: 0,
            first_offset: None,
            next_offset: None,
            records: Records::default(),
            error: None,
            cut: false,
        })));
        let request = Request { client_id: Some("shop".into()), operation: Operation::Fetch };
        let mut call =
            KafkaCall { request, cluster: None, topic: None, group: None, handled: None };
        brokers.name(ProcessId(process), &mut call, &outcome);
        [call.topic, call.group, call.cluster].map(|name| name.map(|name| name.to_string()))
    }

    fn reads(group: &str, topic: Topic) -> Fact {
        Fact::Group { client_id: Some("shop".into()), group: group.into(), topic }
    }

    fn named(names: [&str; 3]) -> [Option<String>; 3] {
        names.map(|name| (!name.is_empty()).then(|| name.to_owned()))
    }

    #[test]
    fn names_that_one_connection_was_told_are_all_connections_of_the_process() {
        let mut brokers = Brokers::default();
        assert_eq!(polled(&brokers, 1, Topic::Id(ID)), named(["", "", ""]));
        brokers.learn(ProcessId(1), Fact::Topic { id: ID, name: "orders".into() });
        brokers.learn(ProcessId(1), Fact::Cluster("c1".into()));
        brokers.learn(ProcessId(1), reads("billing", Topic::Name("orders".into())));
        assert_eq!(polled(&brokers, 1, Topic::Id(ID)), named(["orders", "billing", "c1"]));
        let by_name = Topic::Name("orders".into());
        assert_eq!(polled(&brokers, 1, by_name.clone()), named(["orders", "billing", "c1"]));
        // An id says the same to all; a group is a process's own.
        assert_eq!(polled(&brokers, 2, Topic::Id(ID)), named(["orders", "", ""]));
        brokers.forget(ProcessId(1));
        assert_eq!(polled(&brokers, 1, by_name), named(["orders", "", ""]));
    }

    #[test]
    fn what_is_told_in_two_ways_is_not_known() {
        let (mut brokers, orders) = (Brokers::default(), Topic::Name("orders".into()));
        for name in ["a", "b", "a"] {
            brokers.learn(ProcessId(1), reads(name, orders.clone()));
            brokers.learn(ProcessId(1), Fact::Cluster(name.into()));
        }
        assert_eq!(polled(&brokers, 1, orders), named(["orders", "", ""]));
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut brokers = Brokers::default();
        for number in 0..40_000_u64 {
            let id = u128::from(number).to_be_bytes();
            brokers.learn(ProcessId(1), Fact::Topic { id, name: "orders".into() });
            brokers.learn(ProcessId(number), reads("billing", Topic::Id(id)));
        }
        assert!(brokers.topics.len() <= MOST && brokers.groups.len() <= MOST);
    }
}
