//! `settings`: what is done with spans, for all processes or for those of one rule.

use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use wirespan_protocols::propagation::Propagator;

use super::scalar::{Count, Leaf, Ratio, Scalar, Time};
use super::traffic::{self, CheckedAttribute, HttpSettings, Redact};
use crate::queue::{Rule, Step, Where};
use crate::route::Routes;
use crate::settings::{self, Globs, Protocols, Sampling, Source};
use crate::span::Value;

/// What is done with spans. A rule's own keys go before those of the file's `settings`, each as a whole.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which protocols make spans. Beneath a call that makes none, none is made either.
    pub protocols: ProtocolSwitches,
    /// Which traces are kept.
    pub sampling: SamplingSettings,
    /// Templates that name routes, such as `/users/{id}/posts/*`; paths that none fits are guessed.
    pub routes: Option<Vec<Scalar<Template>>>,
    /// What makes no span.
    pub ignore: Ignore,
    /// What of HTTP is shown beyond what always is.
    pub http: HttpSettings,
    /// Attributes that are taken from calls. Of several with one name the first that has a value counts. Users' data
    /// may leave the process with them. Default: none.
    pub span_attributes: Option<Vec<CheckedAttribute>>,
    /// What is taken out of spans, last of all, for every exporter and every tap.
    pub redact: Redact,
    /// The most attributes that a span may have; those behind are left out and counted in it. Default: 128.
    pub attribute_count: Option<Scalar<Count>>,
    /// The longest that an attribute's text may be, in characters; what is longer is cut. Default: no limit.
    pub attribute_value_length: Option<Scalar<Count>>,
    /// Evaluate the assist in Node.js processes. Without it, parents are known only where one request is in
    /// flight. Default: true.
    pub node_assist: Option<Scalar<bool>>,
    /// Show the parameters of SQL statements (`db.query.parameter.N`): users' data then leaves the process.
    /// Default: false.
    pub query_parameters: Option<Scalar<bool>>,
    /// Show the keys of Kafka messages that were sent or received alone (`messaging.kafka.message.key`): users' data
    /// then leaves the process. Default: false.
    pub message_keys: Option<Scalar<bool>>,
    /// Leave a process alone from when it is seen to send spans of its own (OTLP, or Jaeger's Thrift over HTTP):
    /// it has an SDK or another agent in it. Default: true.
    pub yield_to_sdk: Option<Scalar<bool>>,
    /// Trace processes that have `OTEL_SDK_DISABLED=true` in their environment. Default: false.
    pub trace_sdk_disabled: Option<Scalar<bool>>,
    /// Make no spans of the statements by which pools look whether a connection lives, such as `SELECT 1`.
    /// Default: false.
    pub silent_pool_pings: Option<Scalar<bool>>,
    /// Queues on Redis that are none of a library's. Default: none.
    pub queues: Option<Vec<Queue>>,
    /// Formats of trace contexts that are read from HTTP requests which a process serves, where they have no valid
    /// `traceparent`: `b3`, `b3multi` (either reads both), `jaeger`, `sentry`, `xray`. Connections that are open go on as
    /// they began. Default: none. `OTEL_PROPAGATORS`.
    pub propagators: Option<Vec<Scalar<Format>>>,
    /// Link what receives messages or works on jobs to who sent them, and begin a trace with it: never put it beneath.
    /// The same for a `traceparent` that messages carry. Default: false.
    pub message_links: Option<Scalar<bool>>,
    /// Make a span of each process that serves nothing (a script, a job), with the calls that it makes beneath it, in
    /// the trace of its variables `TRACEPARENT` and `TRACESTATE`. Without it, and after it, those calls are traces of
    /// their own. A process that began before a reload stays what it was. Default: true.
    pub process_spans: Option<Scalar<bool>>,
    /// When such a process counts as a daemon: its span ends there, and what it calls afterwards is not beneath it.
    /// Default: 1h.
    pub process_span_limit: Option<Scalar<Time>>,
    /// Show the arguments of such a process (`process.command_args`), which may hold secrets. Default: false.
    pub process_arguments: Option<Scalar<bool>>,
}

/// A queue on Redis.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// What spans call it.
    pub name: Scalar<String>,
    /// The command that hands over a job.
    pub submit: QueueStep,
    /// The command whose reply brings one.
    pub claim: QueueStep,
    /// The command that says that one is done. Without it a job lasts until its connection claims again.
    #[serde(default)]
    pub done: Option<QueueStep>,
    /// The field that has a `traceparent`, of hashes and streams.
    #[serde(default)]
    pub context: Option<Scalar<String>>,
}

/// A command of a queue.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueStep {
    /// Its name, such as `HMSET`.
    pub command: Scalar<RedisCommand>,
    /// Its first key, in which `*` stands for anything.
    pub key: Scalar<String>,
    /// Where the job's id is: `key` (what the last `*` stands for), `value` (the element or member) or the name of a
    /// field.
    pub id: Scalar<String>,
}

impl Queue {
    fn rule(&self) -> Rule {
        let step = |step: &QueueStep| Step {
            command: step.command.0.0.as_str().into(),
            key: step.key.0.as_str().into(),
            id: match step.id.0.as_str() {
                "key" => Where::Key,
                "value" => Where::Value,
                field => Where::Field(field.into()),
            },
        };
        Rule {
            name: self.name.0.as_str().into(),
            submit: step(&self.submit),
            claim: step(&self.claim),
            done: self.done.as_ref().map(step),
            context: self.context.as_ref().map(|field| field.0.as_str().into()),
        }
    }
}

/// The name of a command of Redis, in upper case.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisCommand(pub String);

impl Leaf for RedisCommand {
    const EXPECTED: &'static str = "a command of Redis whose first argument is a key, as in HMSET";

    fn read(text: &str) -> Result<Self, String> {
        let asked = wirespan_protocols::redis::Asked::new().command(text, "*");
        asked.map(|_| Self(text.to_ascii_uppercase())).map_err(|error| error.to_string())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// Which protocols make spans.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolSwitches {
    /// HTTP/1.x. Default: true.
    pub http: Option<Scalar<bool>>,
    /// Redis. Default: true.
    pub redis: Option<Scalar<bool>>,
    /// PostgreSQL. Default: true.
    pub postgresql: Option<Scalar<bool>>,
    /// AMQP 0-9-1. Default: true.
    pub amqp: Option<Scalar<bool>>,
    /// Kafka. Default: true.
    pub kafka: Option<Scalar<bool>>,
}

/// Which traces are kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingSettings {
    /// The share of traces that is kept, from 0 to 1, decided by the trace's id: services and nodes with the same
    /// ratio keep the same traces. Default: 1.
    pub ratio: Option<Scalar<Ratio>>,
    /// Of a trace that came with a `traceparent`, its flag "sampled" decides instead of the ratio. Default: false.
    pub parent_based: Option<Scalar<bool>>,
}

/// What makes no span.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ignore {
    /// Globs over the path of requests that are served (`*` matches `/` as well). What is done for such a request
    /// makes no span either.
    pub routes: Option<Vec<Scalar<GlobText>>>,
    /// Globs over `db.query.text`, `db.query.summary` and `db.operation.name` of database calls.
    pub statements: Option<Vec<Scalar<GlobText>>>,
}

impl Settings {
    /// The settings in which what this leaves open is `defaults`'.
    pub fn over(&self, defaults: &settings::Settings) -> settings::Settings {
        let flag = |own: &Option<Scalar<bool>>, other| own.as_ref().map_or(other, |flag| flag.0);
        let globs = |own: &Option<Vec<Scalar<GlobText>>>, other: &Globs| match own {
            // They were tried when they were read.
            Some(globs) => Globs::new(globs.iter().map(|glob| glob.0.0.clone()).collect())
                .unwrap_or_else(|_| other.clone()),
            None => other.clone(),
        };
        let protocols = defaults.protocols;
        settings::Settings {
            service: defaults.service.clone(),
            attributes: defaults.attributes.clone(),
            protocols: Protocols {
                http: flag(&self.protocols.http, protocols.http),
                redis: flag(&self.protocols.redis, protocols.redis),
                postgresql: flag(&self.protocols.postgresql, protocols.postgresql),
                amqp: flag(&self.protocols.amqp, protocols.amqp),
                kafka: flag(&self.protocols.kafka, protocols.kafka),
            },
            sampling: Sampling {
                ratio: self.sampling.ratio.as_ref().map_or(defaults.sampling.ratio, |it| it.0.0),
                parent_based: flag(&self.sampling.parent_based, defaults.sampling.parent_based),
            },
            routes: match &self.routes {
                Some(routes) => routes.iter().map(|route| route.0.0.clone()).collect(),
                None => defaults.routes.clone(),
            },
            ignored_routes: globs(&self.ignore.routes, &defaults.ignored_routes),
            ignored_statements: globs(&self.ignore.statements, &defaults.ignored_statements),
            traffic: match (&self.http, &self.span_attributes) {
                (http, None) if *http == HttpSettings::default() => Arc::clone(&defaults.traffic),
                (http, own) => Arc::new(traffic::traffic(http, own.as_ref(), &defaults.traffic)),
            },
            redaction: self.redact.over(&defaults.redaction),
            attribute_count: match &self.attribute_count {
                Some(count) => count.0.0,
                None => defaults.attribute_count,
            },
            attribute_length: match &self.attribute_value_length {
                Some(length) => Some(length.0.0),
                None => defaults.attribute_length,
            },
            node_assist: flag(&self.node_assist, defaults.node_assist),
            query_parameters: flag(&self.query_parameters, defaults.query_parameters),
            message_keys: flag(&self.message_keys, defaults.message_keys),
            yield_to_sdk: flag(&self.yield_to_sdk, defaults.yield_to_sdk),
            trace_sdk_disabled: flag(&self.trace_sdk_disabled, defaults.trace_sdk_disabled),
            silent_pool_pings: flag(&self.silent_pool_pings, defaults.silent_pool_pings),
            queues: match &self.queues {
                Some(queues) => queues.iter().map(|queue| Arc::new(queue.rule())).collect(),
                None => Arc::clone(&defaults.queues),
            },
            propagators: match &self.propagators {
                Some(formats) => formats.iter().map(|format| format.0.0).collect(),
                None => defaults.propagators,
            },
            message_links: flag(&self.message_links, defaults.message_links),
            process_spans: flag(&self.process_spans, defaults.process_spans),
            process_span_limit: match &self.process_span_limit {
                Some(limit) => limit.0.0,
                None => defaults.process_span_limit,
            },
            process_arguments: flag(&self.process_arguments, defaults.process_arguments),
        }
    }
}

/// A format of trace contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Format(pub Propagator);

impl Leaf for Format {
    const EXPECTED: &'static str = "b3, b3multi, jaeger, sentry or xray";

    fn read(text: &str) -> Result<Self, String> {
        let found = Propagator::ALL.into_iter().find(|propagator| propagator.name() == text);
        found.map(Self).ok_or_else(String::new)
    }

    fn schema() -> Schema {
        json_schema!({ "enum": Propagator::ALL.map(Propagator::name) })
    }
}

/// A glob.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobText(pub String);

impl Leaf for GlobText {
    const EXPECTED: &'static str = "a glob, as in /healthz or /internal/*";

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        Globs::new(vec![text.to_owned()]).map(|_| Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// A route's template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(pub String);

impl Leaf for Template {
    const EXPECTED: &'static str = "a route, as in /users/{id}/posts/*";

    fn read(text: &str) -> Result<Self, String> {
        let text = text.to_owned();
        match Routes::new(std::slice::from_ref(&text)) {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^/" })
    }
}

/// A value, or where it is taken from.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken(pub Source);

/// Where a value is taken from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct From {
    /// A variable of the process's environment.
    #[serde(default)]
    env: Option<Scalar<String>>,
    /// An argument of the process: an option (`--queue`), whose value it is, or a position, of which 0 is the
    /// program.
    #[serde(default)]
    arg: Option<Scalar<String>>,
    /// A label of the process's pod, or else of its container.
    #[serde(default)]
    label: Option<Scalar<String>>,
    /// If there is none. Without a default there is no attribute then.
    #[serde(default)]
    default: Option<Scalar<String>>,
}

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or {env: NAME}, {arg: OPTION} or {label: KEY}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Source, E> {
                let text = Scalar::<String>::deserialize(de::value::StrDeserializer::new(text))?.0;
                Ok(Source::Fixed(Value::from(text)))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Source, E> {
                Ok(Source::Fixed(Value::from(truth)))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Source, E> {
                Ok(Source::Fixed(Value::from(number)))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Source, E> {
                i64::try_from(number)
                    .map(|number| Source::Fixed(Value::from(number)))
                    .map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Source, E> {
                Ok(Source::Fixed(Value::from(number)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
                let from = From::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let default = from.default.map(|default| default.0);
                match (from.env, from.arg, from.label) {
                    (Some(name), None, None) => Ok(Source::Variable { name: name.0, default }),
                    (None, Some(argument), None) => {
                        Ok(Source::Argument { argument: argument.0, default })
                    }
                    (None, None, Some(label)) => Ok(Source::Label { label: label.0, default }),
                    _ => Err(de::Error::custom("expected one of `env`, `arg` and `label`")),
                }
            }
        }

        deserializer.deserialize_any(Visitor).map(Self)
    }
}

impl JsonSchema for Taken {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a value, or where it is taken from",
            "anyOf": [
                { "type": ["string", "number", "boolean"] },
                From::json_schema(generator),
            ]
        })
    }
}
