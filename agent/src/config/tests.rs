//! Each key: what it does, and that what is wrong with it is told where it stands.

use std::time::Duration;

use rstest::rstest;
use wirespan_protocols::propagation::Propagator;

use super::plan::{Flags, Plan};
use super::*;
use crate::export::{Color, Compression, DiskOptions, Protocol, Target};
use crate::settings::{KeyPattern, Lifted, Place, Pointer, Sampling, Source};
use crate::span::{SpanKind, Value};

struct Fake;

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "t0ken".to_owned())
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        if path == Path::new("/run/token") { Ok("f1le".to_owned()) } else { Err("no".to_owned()) }
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("wirespan.yaml"), Box::new(Fake))
}

fn plan(text: &str, flags: &Flags, variables: &[(&str, &str)]) -> anyhow::Result<Plan> {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Plan::new(&parse(text).unwrap_or_else(|error| panic!("{error}")), flags, lookup)
}

fn of(text: &str) -> Plan {
    plan(text, &Flags::default(), &[]).unwrap()
}

/// The settings of the first rule, which is followed by these lines.
fn rule(lines: &str) -> Settings {
    let text = format!("rules:\n- match: {{port: 1}}\n{lines}");
    Settings::clone(&of(&text).rules.allow[0].settings)
}

type Settings = crate::settings::Settings;

#[test]
fn nothing_said_is_the_default() {
    for text in ["", "# nothing\n\n", "{}"] {
        let plan = of(text);
        assert!(!plan.allows_something());
        assert_eq!(*plan.rules.settings, Settings::default());
        assert_eq!(plan.targets, [Target::Console(Default::default())]);
        assert_eq!(
            (plan.payload_budget, plan.ring_bytes, plan.measure_hooks),
            (4096, 8 << 20, false)
        );
    }
}

#[rstest]
#[case("exe: node", "exe=node")]
#[case("cmd: '*server.js*'", "cmd=*server.js*")]
#[case("runtime: node", "runtime=node")]
#[case("user: app", "user=app")]
#[case("user: 1000", "user=1000")]
#[case("port: 3000", "port=3000")]
#[case("port: 3000-3099", "port=3000-3099")]
#[case("port: [3000, 4000]", "port=3000 or port=4000")]
#[case("cgroup: '*/orders.service'", "cgroup=*/orders.service")]
#[case("container: '*'", "container=*")]
#[case("label: [app=orders, tier]", "label=app=orders or label=tier")]
#[case("pod: orders-*", "pod=orders-*")]
#[case("namespace: shop", "namespace=shop")]
#[case("env: TEAM=pay*", "env=TEAM=pay*")]
#[case("env: '${env:TOKEN}'", "env=t0ken")]
#[case("parent: gunicorn", "parent=gunicorn")]
#[case("parent_cmd: '*celery*'", "parent_cmd=*celery*")]
#[case("not: {cmd: '*migrate*', port: [1, 2]}", "!port=1 or !port=2,!cmd=*migrate*")]
#[case("port: 80, runtime: python", "runtime=python,port=80")]
#[case("", "")]
fn a_match_is_a_rule(#[case] matching: &str, #[case] expected: &str) {
    let plan = of(&format!("rules:\n- match: {{{matching}}}\n"));
    let mut terms: Vec<String> =
        plan.rules.allow[0].rule.to_string().split(',').map(str::to_owned).collect();
    let mut expected: Vec<&str> = expected.split(',').collect();
    terms.sort();
    expected.sort_unstable();
    assert_eq!(terms, expected);
}

#[test]
fn every_negated_key_is_negated() {
    for key in [
        "exe",
        "cmd",
        "cgroup",
        "container",
        "label",
        "pod",
        "namespace",
        "env",
        "parent",
        "parent_cmd",
        "user",
    ] {
        let plan = of(&format!("rules:\n- match: {{not: {{{key}: x}}}}\n"));
        assert_eq!(plan.rules.allow[0].rule.to_string(), format!("!{key}=x"));
    }
    let plan = of("rules:\n- match: {not: {runtime: python}}\n");
    assert_eq!(plan.rules.allow[0].rule.to_string(), "!runtime=python");
}

#[test]
fn all_allows_what_no_rule_does() {
    assert!(of("all: true").rules.all && !of("all: false").rules.all);
}

#[test]
fn a_service_is_named_and_described() {
    let fixed = |value: &str| Some(Source::Fixed(Value::from(value.to_owned())));
    assert_eq!(rule("  service: orders\n").service, fixed("orders"));
    assert_eq!(rule("  service: o-${env:TOKEN}\n").service, fixed("o-t0ken"));
    let variable = Source::Variable { name: "APP".to_owned(), default: Some("x".to_owned()) };
    assert_eq!(rule("  service: {env: APP, default: x}\n").service, Some(variable.clone()));
    let argument = Source::Argument { argument: "--queue".to_owned(), default: None };
    assert_eq!(rule("  service: {arg: --queue}\n").service, Some(argument));
    let label = Source::Label { label: "app".to_owned(), default: None };
    assert_eq!(rule("  service: {label: app}\n").service, Some(label));
    let settings =
        rule("  attributes: {team: {env: APP, default: x}, tier: 1, on: true, r: 0.5}\n");
    let expected = [
        ("on", Source::Fixed(Value::from(true))),
        ("r", Source::Fixed(Value::from(0.5))),
        ("team", variable),
        ("tier", Source::Fixed(Value::from(1))),
    ];
    assert_eq!(settings.attributes, expected.map(|(name, source)| (name.to_owned(), source)));
    assert_eq!(settings.variables().collect::<Vec<_>>(), ["APP"]);
}

/// Each key of `settings`, in a rule and for all.
#[rstest]
#[case("protocols: {http: false}", |it: &Settings| !it.protocols.http && it.protocols.redis)]
#[case("protocols: {redis: false}", |it: &Settings| !it.protocols.redis && it.protocols.http)]
#[case("protocols: {postgresql: false}", |it: &Settings| !it.protocols.postgresql)]
#[case("protocols: {amqp: false}", |it: &Settings| !it.protocols.amqp)]
#[case("protocols: {kafka: false}", |it: &Settings| !it.protocols.kafka)]
#[case("sampling: {ratio: 0.25}", |it: &Settings| it.sampling == Sampling { ratio: 0.25, parent_based: false })]
#[case("sampling: {parent_based: true}", |it: &Settings| it.sampling == Sampling { ratio: 1.0, parent_based: true })]
#[case("routes: [/users/{id}]", |it: &Settings| it.routes == ["/users/{id}"])]
#[case("ignore: {routes: [/healthz]}", |it: &Settings| it.ignored_routes.is_match("/healthz"))]
#[case("ignore: {statements: ['SELECT 1*']}", |it: &Settings| it.ignored_statements.is_match("SELECT 1;"))]
#[case("http: {request_headers: [X-Request-Id]}", |it: &Settings| it.traffic.request_headers() == ["x-request-id"])]
#[case("http: {response_headers: [x-a, x-b]}", |it: &Settings| it.traffic.response_headers() == ["x-a", "x-b"])]
#[case("span_attributes: [{name: user.id, header: X-User}]", |it: &Settings| lifts(it, Place::RequestHeader("x-user".to_owned()), None))]
#[case("span_attributes: [{name: user.id, response_header: x-user}]", |it: &Settings| lifts(it, Place::ResponseHeader("x-user".to_owned()), None))]
#[case("span_attributes: [{name: user.id, query: User}]", |it: &Settings| lifts(it, Place::Query("User".to_owned()), None))]
#[case("span_attributes: [{name: user.id, env: USER_ID}]", |it: &Settings| lifts(it, Place::Variable("USER_ID".to_owned()), None) && it.variables().eq(["USER_ID"]))]
#[case("span_attributes: [{name: user.id, redis_key: 'user:{id}:*'}]", |it: &Settings| lifts(it, Place::RedisKey(KeyPattern::new("user:{id}:*").unwrap()), None))]
#[case("span_attributes: [{name: user.id, query: u, kind: server}]", |it: &Settings| lifts(it, Place::Query("u".to_owned()), Some(SpanKind::Server)))]
#[case("span_attributes: [{name: user.id, json: /user/id}]", |it: &Settings| lifts(it, Place::Json(Pointer::new("/user/id").unwrap()), None) && it.traffic.pointers().len() == 1)]
#[case("redact: {attributes: ['user.*']}", |it: &Settings| it.redaction.keys.is_match("user.id"))]
#[case("redact: {patterns: ['\\d{4}$']}", |it: &Settings| it.redaction.patterns.iter().any(|it| it.is_match("a1234")))]
#[case("attribute_count: 100", |it: &Settings| it.attribute_count == 100)]
#[case("attribute_value_length: 100", |it: &Settings| it.attribute_length == Some(100))]
#[case("node_assist: false", |it: &Settings| !it.node_assist)]
#[case("query_parameters: true", |it: &Settings| it.query_parameters)]
#[case("message_keys: true", |it: &Settings| it.message_keys)]
#[case("silent_pool_pings: true", |it: &Settings| it.silent_pool_pings)]
#[case("message_links: true", |it: &Settings| it.message_links)]
#[case("process_spans: false", |it: &Settings| !it.process_spans)]
#[case("process_span_limit: 24h", |it: &Settings| it.process_span_limit == Duration::from_secs(86_400))]
#[case("process_arguments: true", |it: &Settings| it.process_arguments)]
#[case("yield_to_sdk: false", |it: &Settings| !it.yield_to_sdk)]
#[case("trace_sdk_disabled: true", |it: &Settings| it.trace_sdk_disabled)]
#[case("propagators: [b3, xray]", |it: &Settings| it.propagators == [Propagator::B3, Propagator::XRay].into_iter().collect())]
fn settings_are_taken(#[case] line: &str, #[case] holds: fn(&Settings) -> bool) {
    assert!(!holds(&Settings::default()));
    // A flow collection's braces would end at the template's.
    let line = line.replace("[/users/{id}]", "['/users/{id}']");
    assert!(holds(&rule(&format!("  settings:\n    {line}\n"))), "in a rule");
    let plan = of(&format!("settings:\n  {line}\nrules:\n- match: {{port: 1}}\n"));
    assert!(holds(&plan.rules.settings) && holds(&plan.rules.allow[0].settings), "for all");
}

/// Whether `user.id` is lifted from here, and nothing else is.
fn lifts(settings: &Settings, place: Place, kind: Option<SpanKind>) -> bool {
    settings.traffic.lifted() == [Lifted { name: "user.id".to_owned(), place, kind }]
}

#[test]
fn what_is_shown_of_calls_is_a_rules_key_by_key() {
    let plan = of("
settings:
  http: {request_headers: [x-a], response_headers: [x-b]}
  span_attributes: [{name: a, query: a}]
  redact: {attributes: [a], patterns: [b+]}
rules:
- match: {port: 1}
  settings:
    http: {request_headers: [x-c]}
    redact: {attributes: []}
- match: {port: 2}
  settings: {span_attributes: []}
");
    let [first, second] = [0, 1].map(|index| &*plan.rules.allow[index].settings);
    let (shown, all) = (&first.traffic, &plan.rules.settings.traffic);
    assert_eq!(
        (shown.request_headers(), shown.response_headers()),
        (&["x-c".to_owned()][..], all.response_headers())
    );
    assert_eq!((shown.lifted().len(), second.traffic.lifted().len()), (1, 0));
    assert_eq!(second.traffic.request_headers(), ["x-a"]);
    assert!(first.redaction.keys.is_empty() && first.redaction.patterns.len() == 1);
    assert_eq!(second.redaction, plan.rules.settings.redaction);
    assert_ne!(first.traffic.asked(), all.asked());
    assert_eq!(second.traffic.asked(), all.asked());
}

#[test]
fn a_rules_settings_go_before_the_files_key_by_key() {
    let plan = of("
settings:
  sampling: {ratio: 0.5}
  protocols: {redis: false}
  ignore: {routes: [/healthz]}
rules:
- match: {port: 1}
  settings:
    sampling: {ratio: 0.1}
    protocols: {redis: true, http: false}
    ignore: {routes: []}
- match: {port: 2}
");
    let [first, second] = [0, 1].map(|index| &*plan.rules.allow[index].settings);
    assert_eq!((first.sampling.ratio, second.sampling.ratio), (0.1, 0.5));
    assert!(first.protocols.redis && !first.protocols.http);
    assert!(!second.protocols.redis && second.protocols.http);
    assert!(first.ignored_routes.is_empty() && !second.ignored_routes.is_empty());
}

#[test]
fn exporters_are_targets() {
    let plan = of("
exporters:
- console: {traceparent: true, color: never}
- file: {path: /var/log/spans.jsonl}
- otlp:
    endpoint: https://collector:4317
    headers: {Authorization: 'Bearer ${file:/run/token}'}
    compression: gzip
    timeout: 3s
    give_up_after: 2m
    disk_queue: {directory: /var/lib/wirespan/queue, max_size: 10GiB}
    tls: {ca_file: /ca.pem, cert_file: /c.pem, key_file: /k.pem}
- otlp: {protocol: http/protobuf, disk_queue: {directory: '/q-${env:TOKEN}'}}
queue: {spans: 1000, batch_spans: 100, linger: 50ms}
");
    let [Target::Console(console), Target::File(file), Target::Otlp(otlp), Target::Otlp(http)] =
        &plan.targets[..]
    else {
        panic!("{:?}", plan.targets);
    };
    assert_eq!((otlp.protocol, http.protocol), (Protocol::Grpc, Protocol::HttpProtobuf));
    assert_eq!(http.receiver().to_string(), "http://localhost:4318");
    assert!(console.traceparent && console.color == Color::Never);
    assert_eq!(file, Path::new("/var/log/spans.jsonl"));
    assert_eq!(otlp.receiver().to_string(), "https://collector:4317");
    assert_eq!(otlp.headers, [("authorization".to_owned(), "Bearer f1le".to_owned())]);
    assert_eq!(otlp.compression, Compression::Gzip);
    assert_eq!(
        (otlp.timeout, otlp.retry.give_up_after),
        (Duration::from_secs(3), Duration::from_secs(120))
    );
    let queue =
        |directory: &str, max_bytes| Some(DiskOptions { directory: directory.into(), max_bytes });
    assert_eq!(otlp.disk_queue, queue("/var/lib/wirespan/queue", 10 << 30));
    assert_eq!(http.disk_queue, queue("/q-t0ken", 1 << 30));
    let paths = [&otlp.certificate, &otlp.client_certificate, &otlp.client_key];
    assert_eq!(
        paths.map(|path| path.as_deref().and_then(Path::to_str)),
        [Some("/ca.pem"), Some("/c.pem"), Some("/k.pem")]
    );
    let limits = plan.limits;
    assert_eq!((limits.queue_spans, limits.batch_spans), (1000, 100));
    assert_eq!(limits.linger, Duration::from_millis(50));
}

#[test]
fn capture_is_taken() {
    let asking = of("settings: {span_attributes: [{name: a, json: /a}]}");
    assert_eq!(asking.payload_budget, 16 << 10, "contents have to be there whole");
    let asking = "rules: [{match: {port: 1}, settings: {span_attributes: [{name: a, json: /a}]}}]";
    assert_eq!(of(asking).payload_budget, 16 << 10);
    let plan = of("capture: {payload_budget: 8KiB, ring_size: 16MiB, measure_hooks: true}");
    assert_eq!((plan.payload_budget, plan.ring_bytes, plan.measure_hooks), (8192, 16 << 20, true));
}

#[test]
fn container_engines_are_those_that_are_named() {
    let named =
        of("containers: {sockets: ['cri:/run/x.sock', 'docker:${env:HOME_OF_DOCKER:-/run}/d']}");
    let shown: Vec<String> = named.engines.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["cri:/run/x.sock", "docker:/run/d"]);
    assert_eq!(of("containers: {sockets: []}").engines, []);
    let usual = of("").engines;
    assert!(usual.iter().any(|socket| socket.to_string() == "cri:/run/containerd/containerd.sock"));
    assert_eq!(of("containers: {sockets: []}").fixed_differences(&of("")), ["containers"]);
}

/// What is wrong, where, and under which key.
#[rstest]
#[case::unknown("rulez: []", (1, 1), "rulez", "unknown field")]
#[case::unknown_in_rule("rules:\n- match: {}\n  name: x", (3, 3), "rules[0].name", "unknown field")]
#[case::unknown_in_match("rules:\n- match:\n    prot: 80", (3, 5), "rules[0].match.prot", "unknown field")]
#[case::unknown_in_not("rules:\n- match: {not: {prot: 1}}", (2, 17), "rules[0].match.not.prot", "unknown field")]
#[case::no_match("rules:\n- service: x", (2, 3), "rules[0]", "missing field")]
#[case::bad_glob("rules:\n- match:\n    exe: '[a'", (3, 10), "rules[0].match.exe", "is no pattern")]
#[case::bad_port("rules:\n- match:\n    port: 70000", (3, 11), "rules[0].match.port", "expected 1 to 65535")]
#[case::bad_port_in_list("rules:\n- match:\n    port:\n    - 1\n    - x", (5, 7), "rules[0].match.port[1]", "expected 1 to 65535")]
#[case::no_port("rules:\n- match:\n    port: []", (3, 11), "rules[0].match.port", "has no value")]
#[case::bad_runtime("rules:\n- match: {runtime: java}", (2, 20), "rules[0].match.runtime", "expected node or python")]
#[case::wrong_type("rules: 7", (1, 8), "rules", "expected")]
#[case::wrong_type_of_match("rules:\n- match: [1]", (2, 10), "rules[0].match", "")]
#[case::no_boolean("all: perhaps", (1, 6), "all", "expected true or false")]
#[case::bad_ratio("settings:\n  sampling:\n    ratio: 1.5", (3, 12), "settings.sampling.ratio", "from 0 to 1")]
#[case::bad_flag("settings:\n  sampling:\n    parent_based: 1", (3, 19), "settings.sampling.parent_based", "true or false")]
#[case::bad_http("settings: {protocols: {http: on}}", (1, 30), "settings.protocols.http", "true or false")]
#[case::unknown_protocol("settings: {protocols: {mysql: true}}", (1, 24), "settings.protocols.mysql", "unknown field")]
#[case::bad_route("settings:\n  routes:\n  - users", (3, 5), "settings.routes[0]", "expected a route")]
#[case::bad_ignored("settings: {ignore: {routes: ['[a']}}", (1, 30), "settings.ignore.routes[0]", "expected a glob")]
#[case::bad_statement("settings: {ignore: {statements: ['[a']}}", (1, 34), "settings.ignore.statements[0]", "expected a glob")]
#[case::credentials("settings: {http: {request_headers: [a, Cookie]}}", (1, 40), "settings.http.request_headers[1]", "credentials")]
#[case::no_header("settings: {http: {response_headers: ['a b']}}", (1, 38), "settings.http.response_headers[0]", "name of a header")]
#[case::lifted_credentials("settings: {span_attributes: [{name: a, header: authorization}]}", (1, 48), "settings.span_attributes[0]", "credentials")]
#[case::no_lifted_header("settings: {span_attributes: [{name: a, response_header: ':'}]}", (1, 57), "settings.span_attributes[0]", "name of a header")]
#[case::no_place("settings: {span_attributes: [{name: a}]}", (1, 30), "settings.span_attributes[0]", "one of `header`")]
#[case::two_places("settings: {span_attributes: [{name: a, env: A, query: a}]}", (1, 30), "settings.span_attributes[0]", "one of `header`")]
#[case::no_attribute("settings: {span_attributes: [{name: telemetry.x, env: A}]}", (1, 37), "settings.span_attributes[0]", "only the agent")]
#[case::no_query("settings: {span_attributes: [{name: a, query: ''}]}", (1, 47), "settings.span_attributes[0]", "it is empty")]
#[case::no_variable("settings: {span_attributes: [{name: a, env: ''}]}", (1, 45), "settings.span_attributes[0]", "it is empty")]
#[case::no_key("settings: {span_attributes: [{name: a, redis_key: 'a:*'}]}", (1, 51), "settings.span_attributes[0]", "in braces")]
#[case::no_kind("settings: {span_attributes: [{name: a, env: A, kind: internal}]}", (1, 54), "settings.span_attributes[0]", "server, client")]
#[case::no_pointer("settings: {span_attributes: [{name: a, json: a.b}]}", (1, 46), "settings.span_attributes[0]", "begin with a slash")]
#[case::unknown_place("settings: {span_attributes: [{name: a, xpath: A}]}", (1, 40), "settings.span_attributes[0]", "unknown field")]
#[case::bad_redacted("settings: {redact: {attributes: ['[a']}}", (1, 34), "settings.redact.attributes[0]", "expected a glob")]
#[case::bad_pattern("settings: {redact: {patterns: ['(a']}}", (1, 32), "settings.redact.patterns[0]", "unclosed group")]
#[case::empty_pattern("settings: {redact: {patterns: ['a*']}}", (1, 32), "settings.redact.patterns[0]", "matches nothing")]
#[case::bad_count("settings: {attribute_count: 0}", (1, 29), "settings.attribute_count", "whole number")]
#[case::bad_length("settings: {attribute_value_length: 0}", (1, 36), "settings.attribute_value_length", "whole number")]
#[case::bad_assist("settings: {node_assist: 2}", (1, 25), "settings.node_assist", "true or false")]
#[case::bad_parameters("settings: {query_parameters: 2}", (1, 30), "settings.query_parameters", "true or false")]
#[case::bad_pings("settings: {silent_pool_pings: 2}", (1, 31), "settings.silent_pool_pings", "true or false")]
#[case::bad_links("settings: {message_links: 2}", (1, 27), "settings.message_links", "true or false")]
#[case::bad_process_spans("settings: {process_spans: 2}", (1, 27), "settings.process_spans", "true or false")]
#[case::bad_limit("settings: {process_span_limit: 10}", (1, 32), "settings.process_span_limit", "expected a time")]
#[case::no_limit("settings: {process_span_limit: 0s}", (1, 32), "settings.process_span_limit", "expected a time")]
#[case::bad_arguments("settings: {process_arguments: 2}", (1, 31), "settings.process_arguments", "true or false")]
#[case::bad_yield("settings: {yield_to_sdk: 2}", (1, 26), "settings.yield_to_sdk", "true or false")]
#[case::bad_disabled("settings: {trace_sdk_disabled: 2}", (1, 32), "settings.trace_sdk_disabled", "true or false")]
#[case::bad_propagator("settings: {propagators: [ottrace]}", (1, 26), "settings.propagators[0]", "b3multi")]
#[case::bad_service("rules:\n- match: {}\n  service: {env: A, arg: B}", (3, 12), "rules[0].service", "one of `env`, `arg` and `label`")]
#[case::two_sources("rules:\n- match: {}\n  service: {label: A, arg: B}", (3, 12), "rules[0].service", "one of")]
#[case::bad_label("rules:\n- match: {label: 'app=[a'}", (2, 18), "rules[0].match.label", "is no pattern")]
#[case::no_label("rules:\n- match: {label: ''}", (2, 18), "rules[0].match.label", "it is empty")]
#[case::bad_pod("rules:\n- match: {pod: '[a'}", (2, 16), "rules[0].match.pod", "is no pattern")]
#[case::bad_namespace("rules:\n- match: {namespace: '[a'}", (2, 22), "rules[0].match.namespace", "is no pattern")]
#[case::unknown_engine("containers: {sockets: ['k8s:/x']}", (1, 24), "containers.sockets[0]", "expected cri: or docker:")]
#[case::no_path("containers: {sockets: ['cri:x']}", (1, 24), "containers.sockets[0]", "absolute path")]
#[case::no_list_of_engines("containers: {sockets: cri:/x}", (1, 23), "containers.sockets", "")]
#[case::bad_attribute("rules:\n- match: {}\n  attributes: {service.name: x}", (3, 15), "rules[0].attributes", "named by `service`")]
#[case::agents_attribute("rules:\n- match: {}\n  attributes: {telemetry.sdk.name: x}", (3, 15), "rules[0].attributes", "only the agent")]
#[case::unknown_exporter("exporters:\n- kafka: {}", (2, 3), "exporters[0]", "unknown variant")]
#[case::no_path("exporters:\n- file: {}", (2, 9), "exporters[0]", "missing field")]
#[case::bad_endpoint("exporters:\n- otlp:\n    endpoint: collector:4317", (3, 15), "exporters[0]", "no scheme")]
#[case::bad_transport("exporters:\n- otlp:\n    protocol: http/json", (3, 15), "exporters[0]", "grpc or http/protobuf")]
#[case::bad_compression("exporters:\n- otlp:\n    compression: br", (3, 18), "exporters[0]", "gzip or none")]
#[case::bad_timeout("exporters:\n- otlp:\n    timeout: 10", (3, 14), "exporters[0]", "expected a time")]
#[case::bad_patience("exporters:\n- otlp:\n    give_up_after: 0s", (3, 20), "exporters[0]", "expected a time")]
#[case::half_tls("exporters:\n- otlp: {tls: {cert_file: /c.pem}}", (2, 3), "exporters[0]", "go together")]
#[case::bad_header("exporters:\n- otlp: {headers: {'a b': x}}", (2, 3), "exporters[0]", "cannot be a header's name")]
#[case::no_directory("exporters:\n- otlp: {disk_queue: {max_size: 1GiB}}", (2, 23), "exporters[0]", "missing field `directory`")]
#[case::relative("exporters:\n- otlp: {disk_queue: {directory: queue}}", (2, 3), "exporters[0]", "absolute path")]
#[case::small_disk("exporters:\n- otlp: {disk_queue: {directory: /q, max_size: 1KiB}}", (2, 48), "exporters[0]", "from 1MiB to 64GiB")]
#[case::unknown_disk("exporters:\n- otlp: {disk_queue: {directory: /q, fsync: true}}", (2, 38), "exporters[0]", "unknown field `fsync`")]
#[case::one_directory("exporters:\n- otlp: {disk_queue: {directory: /q}}\n- otlp: {disk_queue: {directory: /q}}", (2, 3), "exporters", "each needs one of its own")]
#[case::bad_traceparent("exporters:\n- console: {traceparent: x}", (2, 26), "exporters[0]", "true or false")]
#[case::bad_color("exporters:\n- console: {color: red}", (2, 20), "exporters[0]", "auto, always or never")]
#[case::bad_queue("queue: {spans: 0}", (1, 16), "queue.spans", "whole number")]
#[case::bad_batch("queue: {batch_spans: x}", (1, 22), "queue.batch_spans", "whole number")]
#[case::bad_linger("queue: {linger: 5}", (1, 17), "queue.linger", "expected a time")]
#[case::bad_budget("capture: {payload_budget: 1KB}", (1, 27), "capture.payload_budget", "number of bytes")]
#[case::bad_ring("capture: {ring_size: 5GiB}", (1, 22), "capture.ring_size", "number of bytes")]
#[case::bad_measure("capture: {measure_hooks: x}", (1, 26), "capture.measure_hooks", "true or false")]
#[case::twice("all: true\nall: true", (2, 1), "", "duplicate")]
#[case::no_yaml("rules: [", (1, 8), "", "")]
#[case::reference("all: ${env:NONE}", (1, 6), "all", "is not set")]
#[case::file_reference("all: ${file:/none}", (1, 6), "all", "no")]
fn what_is_wrong_is_told_where_it_stands(
    #[case] text: &str,
    #[case] place: (u64, u64),
    #[case] key: &str,
    #[case] part: &str,
) {
    let error = parse(text).unwrap_err();
    let shown = error.to_string();
    assert!(shown.starts_with("wirespan.yaml:"), "{shown}");
    assert_eq!(error.place.map(|(line, _)| line), Some(place.0), "{shown}");
    assert!(error.key.starts_with(key), "{shown}");
    assert!(shown.contains(part), "{shown}");
    assert!(!shown.contains('\n'), "{shown}");
    assert_eq!(error.place, Some(place), "{shown}");
}

#[test]
fn no_error_quotes_what_may_be_a_secret() {
    for text in [
        "exporters:\n- otlp: {headers: {a: \"hunter2\\n\"}}\n- otlp: {headers: {a: \"x\\u0001hunter2\"}}",
        "exporters:\n- otlp: {endpoint: 'http://user:hunter2@host'}",
        "queue: {spans: '${env:TOKEN}'}",
    ] {
        let shown = parse(text).unwrap_err().to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("t0ken"), "{shown}");
    }
    let config = parse("exporters:\n- otlp: {headers: {a: hunter2}}").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let text = "
exporters: [{otlp: {endpoint: 'http://file:1', compression: gzip, headers: {a: b}}}]
queue: {spans: 1}
capture: {payload_budget: 1, ring_size: 1}
settings: {sampling: {ratio: 0.1}, attribute_value_length: 1, routes: [/file]}
rules: [{match: {port: 1}, settings: {sampling: {ratio: 0.2}}}]
";
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:2"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3"),
        ("OTEL_BSP_SCHEDULE_DELAY", "4"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "11"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "12"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2"),
        ("OTEL_PROPAGATORS", "tracecontext, baggage,,sentry"),
    ];
    let by_env = plan(text, &Flags::default(), &variables).unwrap();
    let Target::Otlp(otlp) = &by_env.targets[0] else { panic!("{:?}", by_env.targets) };
    assert_eq!(otlp.receiver().to_string(), "http://env:2");
    assert_eq!(otlp.protocol, Protocol::HttpProtobuf);
    assert_eq!((otlp.compression, otlp.headers.len()), (Compression::Gzip, 1), "the file's");
    assert_eq!((by_env.limits.queue_spans, by_env.limits.batch_spans), (2, 3));
    assert_eq!(by_env.limits.linger, Duration::from_millis(4));
    let settings = &by_env.rules.allow[0].settings;
    assert_eq!(settings.sampling, Sampling { ratio: 0.5, parent_based: true });
    assert_eq!((settings.attribute_count, settings.attribute_length), (12, Some(2)));
    assert_eq!(settings.propagators, [Propagator::Sentry].into_iter().collect());
    assert_eq!(settings.routes, ["/file"]);

    let flags = Flags {
        allow: vec!["port=9".parse().unwrap()],
        export: vec!["otlp=http://flag:3".to_owned()],
        no_node_assist: true,
        routes: Some(vec!["/flag".to_owned()]),
        query_parameters: true,
        message_keys: true,
        silent_pool_pings: true,
        payload_budget: Some(5),
        ring_bytes: Some(6),
        ..Flags::default()
    };
    let by_flag = plan(text, &flags, &variables).unwrap();
    assert_eq!(
        by_flag.targets[0].name(),
        "otlphttp=http://flag:3",
        "the protocol is the variable's"
    );
    assert_eq!((by_flag.payload_budget, by_flag.ring_bytes), (5, 6));
    assert_eq!(by_flag.rules.allow.len(), 1);
    assert_eq!(by_flag.rules.allow[0].rule.to_string(), "port=9");
    let settings = &by_flag.rules.allow[0].settings;
    assert!(!settings.node_assist && settings.query_parameters && settings.silent_pool_pings);
    assert!(settings.message_keys);
    assert_eq!(settings.routes, ["/flag"]);
}

#[rstest]
#[case("OTEL_TRACES_SAMPLER", "jaeger_remote", "is not supported here")]
#[case("OTEL_TRACES_EXPORTER", "zipkin", "is not supported here")]
#[case("OTEL_BSP_MAX_QUEUE_SIZE", "many", "whole number")]
#[case("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "x", "whole number")]
#[case("OTEL_ATTRIBUTE_COUNT_LIMIT", "x", "whole number")]
#[case("OTEL_PROPAGATORS", "b3,ottrace", "is not supported here")]
fn a_variable_that_is_not_understood_is_named(
    #[case] name: &str,
    #[case] value: &str,
    #[case] part: &str,
) {
    let error = plan("", &Flags::default(), &[(name, value)]).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains(part), "{error}");
}

#[rstest]
#[case("console", &["console"])]
#[case("otlp, console", &["otlp=http://localhost:4317", "console"])]
#[case("none", &[])]
fn the_environment_names_exporters(#[case] value: &str, #[case] expected: &[&str]) {
    let variables = [("OTEL_TRACES_EXPORTER", value)];
    let plan = plan("exporters: [{file: {path: x}}]", &Flags::default(), &variables).unwrap();
    let names: Vec<String> = plan.targets.iter().map(Target::name).collect();
    assert_eq!(names, expected);
}

#[test]
fn what_can_not_change_while_the_agent_runs_is_named() {
    let before = of("rules: [{match: {port: 1}}]");
    let after = of("all: true\nexporters: []\nqueue: {spans: 1}");
    assert!(before.fixed_differences(&after).is_empty());
    let after = of("containers: {sockets: []}\ncapture: {ring_size: 1}");
    assert_eq!(before.fixed_differences(&after), ["capture", "containers"]);
}

#[test]
fn the_schema_knows_every_key_and_takes_what_is_read() {
    let schema = reference::schema();
    let table = reference::table();
    for key in ["rules[].match.not", "settings.sampling.ratio", "exporters[].otlp.tls.ca_file"] {
        assert!(table.contains(&format!("`{key}`")), "{key} in {table}");
    }
    assert_eq!(schema["additionalProperties"], false);
    assert!(!table.contains("|  |"), "a key without a meaning: {table}");
}

/// Whatever a key is to hold, it is no list of lists of lists.
#[test]
fn every_key_of_the_reference_refuses_what_it_cannot_hold_and_says_where() {
    let table = reference::table();
    let keys: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(keys.len() > 100, "{}", keys.len());
    for key in keys {
        let mut text = String::new();
        let mut behind = String::new();
        for step in key.split('.') {
            let (name, of_list) =
                step.strip_suffix("[]").map_or((step, false), |name| (name, true));
            text += &format!("{{{name}: {}", if of_list { "[" } else { "" });
            behind.insert_str(0, if of_list { "]}" } else { "}" });
        }
        let text = format!("{text}[[[]]]{behind}");
        let error = parse(&text).map(drop).expect_err(&text);
        let shown = error.to_string();
        assert_eq!(error.place.map(|(line, _)| line), Some(1), "{text}: {shown}");
        // At the key or in it, or at what holds it where several kinds may stand there.
        let named = key.replace("[]", "[0]");
        let there = named.starts_with(&error.key) || error.key.starts_with(&named);
        assert!(!error.key.is_empty() && there, "{text}: {shown}");
    }
}

#[test]
fn the_documentation_is_current() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = std::fs::read_to_string(docs.join("configuration.md")).unwrap();
    assert!(page.contains(&reference::table()), "keys changed: run `cargo xtask docs`");
    let schema = std::fs::read_to_string(docs.join("wirespan.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema, reference::schema(), "keys changed: run `cargo xtask docs`");
}

/// What the page shows as examples are some.
#[test]
fn the_documentations_examples_are_understood() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = std::fs::read_to_string(docs.join("configuration.md")).unwrap();
    let examples = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let [rules, containers, shown] = examples.collect::<Vec<_>>()[..] else {
        panic!("three examples")
    };
    let named = of(containers).rules.allow[0].rule.to_string();
    assert_eq!(named, "namespace=shop,!label=app=batch");
    let plan = of(&rules.replace("/etc/wirespan/token", "/run/token"));
    assert_eq!(plan.rules.allow.len(), 2);
    let settings = of(shown).rules.settings;
    assert_eq!(settings.traffic.lifted().len(), 6);
    assert!(settings.redaction.patterns[0].is_match("mail to a.b@c.example"));
}
