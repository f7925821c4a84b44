//! What the configuration asks for of calls is on their spans, and what it takes out is in none: by OTLP, from real
//! services, and as a new file says from then on, on connections that are open.

use wirespan_tests::http::Connection;
use wirespan_tests::servers::Servers;
use wirespan_tests::workloads::{Service, Worker};

use crate::common::lab::{Lab, PATIENCE};
use crate::common::spans::{Kind, Span, Value};
use crate::configuration::Configured;
use crate::node_parents::exact;

const RULES: &str = "
rules:
- match: {cmd: '*parents.js*'}
  service: front
- match: {cmd: '*flask_app*'}
  service: orders
";

const ASKED: &str = "
settings:
  http: {request_headers: [X-User-Id, x-twice], response_headers: [content-type]}
  span_attributes:
  - {name: user.id, header: x-user-id, kind: server}
  - {name: user.id, query: user}
  - {name: episode.id, redis_key: 'rid:{id}'}
  - {name: workflow.job_id, json: /workflow/job_id}
  - {name: deployment.ring, env: RING}
  redact: {attributes: ['user_agent.*'], patterns: ['secret-\\w+', 'rid:\\d+']}
";

const ASKED_LATER: &str = "
settings:
  span_attributes: [{name: request.priority, header: x-priority}]
";

/// A service, and a connection to it that stays open.
struct Client {
    name: &'static str,
    connection: Connection,
}

impl Client {
    fn new(name: &'static str, service: &Service) -> Self {
        Self { name, connection: Connection::open(service.address(), PATIENCE).unwrap() }
    }

    /// Asks for a path with these fields, and gives the response's status.
    fn get(&mut self, path: &str, fields: &str) -> u16 {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: e2e\r\n{fields}\r\n");
        self.connection.send(request.as_bytes()).unwrap();
        self.connection.receive("GET").unwrap().0.status
    }

    /// Sends this object, in chunks, whatever becomes of it.
    fn post(&mut self, path: &str, object: &str) {
        let (first, rest) = object.split_at(9);
        let fields = "Content-Type: application/json\r\nTransfer-Encoding: chunked";
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let request = format!("{head}{}{}0\r\n\r\n", chunk(first), chunk(rest));
        self.connection.send(request.as_bytes()).unwrap();
        assert_eq!(self.connection.receive("POST").unwrap().0.status / 100, 4);
    }

    /// The service's span of a request for this path.
    fn served<'a>(&self, spans: &'a [Span], path: &str) -> &'a Span {
        let is = |span: &&Span| {
            span.service == self.name && span.kind == Kind::Server && span.path() == path
        };
        let mut found = spans.iter().filter(is);
        let span = found.next().unwrap_or_else(|| panic!("no span of {path}: {spans:#?}"));
        assert!(found.next().is_none(), "two spans of {path}");
        span
    }
}

fn list(values: &[&str]) -> Option<Value> {
    Some(Value::List(values.iter().map(|value| Value::Text((*value).to_owned())).collect()))
}

#[test]
fn what_is_asked_of_calls_is_on_their_spans() {
    let lab = Lab::new();
    let servers = Servers::start(lab.path()).unwrap();
    // A connection to Redis is understood from its beginning on: the agent is first.
    let configured = Configured::start(&lab, &format!("{ASKED}{RULES}"));
    let front = lab.installed.parents("front").unwrap().servers(&servers);
    let front = front.env("CALLS", "ioredis").env("RING", "blue").start(lab.path()).unwrap();
    let orders = lab.installed.flask("orders", Worker::Gthread(2), 1).unwrap();
    let orders = orders.env("RING", "green").start(lab.path()).unwrap();
    // The worker's arbiter is one, too.
    exact(&configured.tracing, 3);

    let fields =
        "X-User-Id: u-7\r\nX-Twice: 1\r\nx-twice: secret-2\r\nCookie: c=1\r\nX-Other: 3\r\n";
    let mut clients = [Client::new("front", &front), Client::new("orders", &orders)];
    for client in &mut clients {
        let path = if client.name == "front" { "/each/" } else { "/api/orders/" };
        assert_eq!(client.get(&format!("{path}7?user=other"), fields), 200);
        assert_eq!(client.get(&format!("{path}8?a=b&user=u%2D8+x"), ""), 200);
        assert_eq!(client.get(&format!("{path}9?user=1&user=2"), ""), 200);
        assert_eq!(client.get("/none/secret-9", ""), 404);
        client.post("/none/posted", r#"{"workflow":{"job_id":"j-7"},"password":"c=1"}"#);
    }
    configured.tracing.quiet();
    let spans = configured.tracing.spans();
    for client in &clients {
        let path = if client.name == "front" { "/each/" } else { "/api/orders/" };
        let served = |id: &str| client.served(&spans, &format!("{path}{id}"));
        let (first, second, third) = (served("7"), served("8"), served("9"));
        let users = [first, second, third].map(|span| span.text("user.id"));
        assert_eq!(users, [Some("u-7"), Some("u-8 x"), None]);
        let header = |span: &Span, name: &str| span.attributes.get(name).cloned();
        assert_eq!(header(first, "http.request.header.x-user-id"), list(&["u-7"]));
        assert_eq!(header(first, "http.request.header.x-twice"), list(&["1", "REDACTED"]));
        assert_eq!(header(second, "http.request.header.x-twice"), None);
        let Some(Value::List(types)) = header(first, "http.response.header.content-type") else {
            panic!("{first:?}");
        };
        assert_eq!(types.len(), 1);
        let posted = client.served(&spans, "/none/posted");
        assert_eq!(posted.text("workflow.job_id"), Some("j-7"), "{posted:?}");
        assert_eq!(first.text("workflow.job_id"), None);
        let headers =
            |span: &Span| span.attributes.keys().filter(|key| key.contains(".header.")).count();
        assert_eq!((headers(first), headers(second)), (3, 1), "{first:?} {second:?}");
        let ring = if client.name == "front" { "blue" } else { "green" };
        for span in [first, second, client.served(&spans, "/none/REDACTED")] {
            assert_eq!(span.text("deployment.ring"), Some(ring));
            assert_eq!(span.text("user_agent.original"), Some("REDACTED"));
        }
    }
    let gets = spans.iter().filter(|span| span.service == "front" && span.name == "GET");
    let mut gets: Vec<_> = gets.filter(|span| span.kind == Kind::Client).collect();
    gets.sort_by_key(|span| span.start_ns);
    let episodes: Vec<_> = gets.iter().map(|span| span.text("episode.id")).collect();
    assert_eq!(episodes, [Some("7"), Some("8"), Some("9")]);
    assert!(
        gets.iter().all(|span| span.text("db.query.text") == Some("GET REDACTED")),
        "{gets:#?}"
    );
    let everything = std::fs::read_to_string(&configured.tracing.file).unwrap();
    assert!(!everything.contains("secret-") && !everything.contains("c=1"), "it left the agent");

    let limited =
        RULES.replace("service: orders", "service: orders\n  settings: {attribute_count: 5}");
    let status = configured.reload(&format!("{ASKED_LATER}{limited}"));
    assert_eq!(status.last_error, None);
    for client in &mut clients {
        let path = if client.name == "front" { "/each/10" } else { "/api/orders/10" };
        assert_eq!(client.get(path, "X-Priority: high\r\nX-User-Id: u-7\r\n"), 200);
    }
    configured.tracing.quiet();
    let spans = configured.tracing.spans();
    let served = clients[0].served(&spans, "/each/10");
    assert_eq!(served.text("request.priority"), Some("high"), "on an open connection");
    assert_eq!(served.text("user_agent.original"), Some("e2e"));
    let gone = ["user.id", "deployment.ring", "http.request.header.x-user-id"];
    assert!(gone.iter().all(|key| !served.attributes.contains_key(*key)), "{served:?}");
    assert_eq!(served.dropped_attributes, 0);
    let limited = clients[1].served(&spans, "/api/orders/10");
    assert_eq!(limited.attributes.len(), 5);
    assert!(limited.dropped_attributes > 5, "{limited:?}");
}
