//! Requests by their number: names, versions, encodings
//! (<https://kafka.apache.org/protocol#protocol_api_keys>).

use std::fmt;

/// Which request. One that isn't known keeps its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKey(pub i16);

/// What is known of one request: from which version on a 4.x broker takes it, up to which one it has, and from
/// which on it is flexible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions {
    pub(super) least: i16,
    pub(super) most: i16,
    pub(super) flexible: i16,
}

/// No version is flexible.
const NEVER: i16 = i16::MAX;

macro_rules! requests {
    ($($constant:ident = $key:literal $name:literal $least:literal..=$most:literal flexible $flexible:expr;)*) => {
        impl ApiKey {
            $(pub(super) const $constant: Self = Self($key);)*

            /// Its name in the protocol, where it has one.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($name),)*
                    _ => None,
                }
            }

            pub(super) fn versions(self) -> Option<Versions> {
                match self {
                    $(Self::$constant => Some(Versions { least: $least, most: $most, flexible: $flexible }),)*
                    _ => None,
                }
            }
        }
    };
}

requests! {
    PRODUCE = 0 "Produce" 3..=13 flexible 9;
    FETCH = 1 "Fetch" 4..=18 flexible 12;
    LIST_OFFSETS = 2 "ListOffsets" 1..=11 flexible 6;
    METADATA = 3 "Metadata" 0..=13 flexible 9;
    OFFSET_COMMIT = 8 "OffsetCommit" 2..=10 flexible 8;
    OFFSET_FETCH = 9 "OffsetFetch" 1..=10 flexible 6;
    FIND_COORDINATOR = 10 "FindCoordinator" 0..=6 flexible 3;
    JOIN_GROUP = 11 "JoinGroup" 0..=9 flexible 6;
    HEARTBEAT = 12 "Heartbeat" 0..=4 flexible 4;
    LEAVE_GROUP = 13 "LeaveGroup" 0..=5 flexible 4;
    SYNC_GROUP = 14 "SyncGroup" 0..=5 flexible 4;
    DESCRIBE_GROUPS = 15 "DescribeGroups" 0..=6 flexible 5;
    LIST_GROUPS = 16 "ListGroups" 0..=5 flexible 3;
    SASL_HANDSHAKE = 17 "SaslHandshake" 0..=1 flexible NEVER;
    API_VERSIONS = 18 "ApiVersions" 0..=4 flexible 3;
    CREATE_TOPICS = 19 "CreateTopics" 2..=7 flexible 5;
    DELETE_TOPICS = 20 "DeleteTopics" 1..=6 flexible 4;
    DELETE_RECORDS = 21 "DeleteRecords" 0..=2 flexible 2;
    INIT_PRODUCER_ID = 22 "InitProducerId" 0..=6 flexible 2;
    OFFSET_FOR_LEADER_EPOCH = 23 "OffsetForLeaderEpoch" 2..=4 flexible 4;
    ADD_PARTITIONS_TO_TXN = 24 "AddPartitionsToTxn" 0..=5 flexible 3;
    ADD_OFFSETS_TO_TXN = 25 "AddOffsetsToTxn" 0..=4 flexible 3;
    END_TXN = 26 "EndTxn" 0..=5 flexible 3;
    TXN_OFFSET_COMMIT = 28 "TxnOffsetCommit" 0..=5 flexible 3;
    DESCRIBE_ACLS = 29 "DescribeAcls" 1..=3 flexible 2;
    CREATE_ACLS = 30 "CreateAcls" 1..=3 flexible 2;
    DELETE_ACLS = 31 "DeleteAcls" 1..=3 flexible 2;
    DESCRIBE_CONFIGS = 32 "DescribeConfigs" 1..=4 flexible 4;
    ALTER_CONFIGS = 33 "AlterConfigs" 0..=2 flexible 2;
    DESCRIBE_LOG_DIRS = 35 "DescribeLogDirs" 1..=4 flexible 2;
    SASL_AUTHENTICATE = 36 "SaslAuthenticate" 0..=2 flexible 2;
    CREATE_PARTITIONS = 37 "CreatePartitions" 0..=3 flexible 2;
    CREATE_DELEGATION_TOKEN = 38 "CreateDelegationToken" 1..=3 flexible 2;
    RENEW_DELEGATION_TOKEN = 39 "RenewDelegationToken" 1..=2 flexible 2;
    EXPIRE_DELEGATION_TOKEN = 40 "ExpireDelegationToken" 1..=2 flexible 2;
    DESCRIBE_DELEGATION_TOKEN = 41 "DescribeDelegationToken" 1..=3 flexible 2;
    DELETE_GROUPS = 42 "DeleteGroups" 0..=2 flexible 2;
    ELECT_LEADERS = 43 "ElectLeaders" 0..=2 flexible 2;
    INCREMENTAL_ALTER_CONFIGS = 44 "IncrementalAlterConfigs" 0..=1 flexible 1;
    ALTER_PARTITION_REASSIGNMENTS = 45 "AlterPartitionReassignments" 0..=1 flexible 0;
    LIST_PARTITION_REASSIGNMENTS = 46 "ListPartitionReassignments" 0..=0 flexible 0;
    OFFSET_DELETE = 47 "OffsetDelete" 0..=0 flexible NEVER;
    DESCRIBE_CLIENT_QUOTAS = 48 "DescribeClientQuotas" 0..=1 flexible 1;
    ALTER_CLIENT_QUOTAS = 49 "AlterClientQuotas" 0..=1 flexible 1;
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50 "DescribeUserScramCredentials" 0..=0 flexible 0;
    ALTER_USER_SCRAM_CREDENTIALS = 51 "AlterUserScramCredentials" 0..=0 flexible 0;
    DESCRIBE_QUORUM = 55 "DescribeQuorum" 0..=2 flexible 0;
    UPDATE_FEATURES = 57 "UpdateFeatures" 0..=2 flexible 0;
    DESCRIBE_CLUSTER = 60 "DescribeCluster" 0..=2 flexible 0;
    DESCRIBE_PRODUCERS = 61 "DescribeProducers" 0..=0 flexible 0;
    UNREGISTER_BROKER = 64 "UnregisterBroker" 0..=0 flexible 0;
    DESCRIBE_TRANSACTIONS = 65 "DescribeTransactions" 0..=0 flexible 0;
    LIST_TRANSACTIONS = 66 "ListTransactions" 0..=2 flexible 0;
    CONSUMER_GROUP_HEARTBEAT = 68 "ConsumerGroupHeartbeat" 0..=1 flexible 0;
    CONSUMER_GROUP_DESCRIBE = 69 "ConsumerGroupDescribe" 0..=1 flexible 0;
    GET_TELEMETRY_SUBSCRIPTIONS = 71 "GetTelemetrySubscriptions" 0..=0 flexible 0;
    PUSH_TELEMETRY = 72 "PushTelemetry" 0..=0 flexible 0;
    LIST_CONFIG_RESOURCES = 74 "ListConfigResources" 0..=1 flexible 0;
    DESCRIBE_TOPIC_PARTITIONS = 75 "DescribeTopicPartitions" 0..=0 flexible 0;
    SHARE_GROUP_HEARTBEAT = 76 "ShareGroupHeartbeat" 0..=1 flexible 0;
    SHARE_GROUP_DESCRIBE = 77 "ShareGroupDescribe" 0..=1 flexible 0;
    SHARE_FETCH = 78 "ShareFetch" 0..=2 flexible 0;
    SHARE_ACKNOWLEDGE = 79 "ShareAcknowledge" 0..=2 flexible 0;
}

impl ApiKey {
    /// Whether messages of this version have compact types and tagged fields.
    pub(super) fn is_flexible(self, version: i16) -> bool {
        self.versions().is_some_and(|known| version >= known.flexible)
    }

    /// Whether the structure of this version is known, those among them that only older brokers take.
    pub(super) fn is_known(self, version: i16) -> bool {
        self.versions().is_some_and(|known| (0..=known.most).contains(&version))
    }

    /// Whether a response's header has tagged fields. That of `ApiVersions` never has: its client can't know
    /// yet which version it will be in.
    pub(super) fn answers_with_tags(self, version: i16) -> bool {
        self != Self::API_VERSIONS && self.is_flexible(version)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
