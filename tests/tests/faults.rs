//! Faults that people make and meet: `doctor` or `explain` names each, and what it advises helps.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use wirespan_tests::agent::binary;
use wirespan_tests::wait;
use wirespan_tests::workloads::{Service, ports};

use crate::chaos::Disk;
use crate::common::lab::{Lab, PATIENCE, Tracing};
use crate::configuration::Configured;
use crate::diagnosis::{asked, outcomes};
use crate::node_assist::application;

/// What `doctor` says of a file, with these variables.
fn doctor(directory: &Path, text: &str, variables: &[(&str, &str)]) -> Value {
    let file = directory.join("examined.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(binary());
    command.args(["doctor", "--json", "--control-socket"]).arg(directory.join("none.sock"));
    command.arg("--config").arg(&file).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"))
}

/// A fault of the configuration: its name in what is checked, the file, variables, what is found, what is advised; and
/// the file as it should be.
struct Fault {
    check: &'static str,
    file: &'static str,
    variables: &'static [(&'static str, &'static str)],
    found: &'static str,
    remedy: &'static str,
    mended: &'static str,
}

const CONFIGURATION: [Fault; 6] = [
    Fault {
        check: "configuration",
        file: "rules:\n- match: {exe: '[a'}",
        variables: &[],
        found: "rules[0].match.exe",
        remedy: "check-config",
        mended: "rules:\n- match: {exe: '[a]'}",
    },
    Fault {
        check: "configuration",
        file: "rules: [{match: {prot: 1}}]",
        variables: &[],
        found: "unknown field `prot`",
        remedy: "check-config",
        mended: "rules: [{match: {port: 1}}]",
    },
    Fault {
        check: "configuration",
        file: "exporters: [{otlp: {headers: {authorization: '${env:WIRESPAN_NO_TOKEN}'}}}]",
        variables: &[],
        found: "WIRESPAN_NO_TOKEN",
        remedy: "check-config",
        mended: "exporters: [{otlp: {headers: {authorization: '${env:WIRESPAN_NO_TOKEN:-none}'}}}]",
    },
    Fault {
        check: "configuration",
        file: "exporters: [{otlp: {headers: {authorization: '${file:/no/token}'}}}]",
        variables: &[],
        found: "/no/token",
        remedy: "check-config",
        mended: "exporters: [{otlp: {headers: {authorization: '${file:/etc/hostname}'}}}]",
    },
    Fault {
        check: "configuration",
        file: "settings: {sampling: {ratio: 10}}",
        variables: &[],
        found: "settings.sampling.ratio",
        remedy: "check-config",
        mended: "settings: {sampling: {ratio: 0.1}}",
    },
    Fault {
        check: "environment",
        file: "exporters: [{console: {}}]",
        variables: &[("OTEL_TRACES_SAMPLER", "jaeger_remote")],
        found: "OTEL_TRACES_SAMPLER",
        remedy: "unset",
        mended: "exporters: [{console: {}}]",
    },
];

#[test]
fn faults_of_the_configuration_are_named_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    for fault in CONFIGURATION {
        let checks = doctor(directory.path(), fault.file, fault.variables);
        let [(outcome, found, remedy)] = outcomes(&checks, fault.check)[..] else {
            panic!("{checks}")
        };
        assert_eq!(outcome, "fail", "{checks}");
        assert!(found.contains(fault.found) && remedy.contains(fault.remedy), "{found}: {remedy}");
        let mended = doctor(directory.path(), fault.mended, &[]);
        let still = outcomes(&mended, fault.check);
        assert!(still.iter().all(|(outcome, ..)| *outcome != "fail"), "{still:?}");
    }
}

/// Receives OTLP over HTTP: plainly, behind TLS with a certificate, or only with a token.
const RECEIVER: &str = "
import http.server, ssl, sys
port, token, certificate, key = int(sys.argv[1]), *sys.argv[2:5]

class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        welcome = not token or self.headers.get('authorization') == token
        self.send_response(200 if welcome else 401)
        self.send_header('Content-Type', 'application/x-protobuf')
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Receiver)
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

fn receiver(lab: &Lab, token: &str, certificate: Option<&(String, String)>) -> (Running, u16) {
    let port = ports::free().unwrap();
    let none = (String::new(), String::new());
    let (certificate, key) = certificate.unwrap_or(&none);
    let mut command = Command::new(lab.installed.venv_program("python"));
    command.args(["-c", RECEIVER, &port.to_string(), token, certificate, key]);
    let running = Running(command.spawn().unwrap());
    wait::until("the receiver listens", PATIENCE, || {
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })
    .unwrap();
    (running, port)
}

/// The files of a certificate of its own for `localhost`, until that year, and of its key.
fn certificate(directory: &Path, until: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let paths = ["pem", "key"].map(|kind| directory.join(format!("{until}.{kind}")));
    std::fs::write(&paths[0], certificate.pem()).unwrap();
    std::fs::write(&paths[1], key.serialize_pem()).unwrap();
    let [certificate, key] = paths.map(|path| path.display().to_string());
    (certificate, key)
}

#[test]
fn faults_of_exporters_are_named_and_what_is_advised_helps() {
    let lab = Lab::new();
    let (expired, good) = (certificate(lab.path(), 2001), certificate(lab.path(), 2100));
    let (_plain, plain) = receiver(&lab, "", None);
    let (_picky, picky) = receiver(&lab, "Bearer t", None);
    let (_expired, expired_port) = receiver(&lab, "", Some(&expired));
    let (_private, private) = receiver(&lab, "", Some(&good));
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let nobody = ports::free().unwrap();
    let open = lab.path().join("open");
    std::fs::create_dir(&open).unwrap();
    let http = |scheme: &str, host: &str, port: u16, more: &str| {
        format!(
            "- otlp: {{endpoint: '{scheme}://{host}:{port}', protocol: http/protobuf, timeout: 2s{more}}}\n"
        )
    };
    let (at, name) = ("127.0.0.1", "localhost");
    let trusted = |files: &(String, String)| format!(", tls: {{ca_file: {}}}", files.0);
    let queue =
        |at: &str| format!(", disk_queue: {{directory: {}}}", lab.path().join(at).display());
    let reached = http("http", at, plain, "");
    let file = |at: &str| format!("- file: {{path: {}}}\n", lab.path().join(at).display());
    // Each with what is found, what is advised, and how it is when that is done.
    let faults = [
        (http("http", at, nobody, ""), "refused", "start the receiver", reached.clone()),
        (
            format!("- otlp: {{endpoint: 'http://{at}:{plain}', protocol: grpc, timeout: 2s}}\n"),
            "",
            "protocol: http/protobuf",
            reached.clone(),
        ),
        (
            http("http", at, picky, ""),
            "401",
            "check the headers",
            http("http", at, picky, ", headers: {authorization: 'Bearer t'}"),
        ),
        (
            http("https", name, expired_port, &trusted(&expired)),
            "xpired",
            "renew",
            http("https", name, private, &trusted(&good)),
        ),
        (
            http("https", name, private, ""),
            "UnknownIssuer",
            "tls.ca_file",
            http("https", name, private, &trusted(&good)),
        ),
        (
            http("https", at, private, &trusted(&good)),
            "",
            "the host name that its certificate has",
            http("https", name, private, &trusted(&good)),
        ),
        (
            http("http", "no-such-host.invalid", plain, ""),
            "",
            "check the endpoint",
            reached.clone(),
        ),
        (http("http", at, silent, ""), "", "firewall", reached.clone()),
        (file("none/spans.jsonl"), "o such file", "make the directory", file("spans.jsonl")),
        (
            http("http", at, plain, &queue("open")),
            "",
            "chmod 700",
            http("http", at, plain, &queue("queue")),
        ),
    ];
    let all = |exporters: String| format!("exporters:\n{exporters}");
    let seeded = all(faults.iter().map(|(seeded, ..)| seeded.as_str()).collect());
    // Two of one queue's would share it.
    let seeded = doctor(lab.path(), &seeded, &[]);
    let failed: Vec<_> = ["exporter", "disk queue"]
        .iter()
        .flat_map(|name| outcomes(&seeded, name))
        .filter(|(outcome, ..)| *outcome == "fail")
        .collect();
    assert_eq!(failed.len(), faults.len(), "{failed:#?}");
    for ((_, part, advice, _), (_, found, remedy)) in faults.iter().zip(&failed) {
        assert!(found.contains(part) && remedy.contains(advice), "{found}\n{remedy}, not {advice}");
    }
    let mended = all(faults.iter().map(|(.., mended)| mended.as_str()).collect());
    let mended = doctor(lab.path(), &mended, &[]);
    for name in ["exporter", "disk queue"] {
        let still = outcomes(&mended, name);
        assert!(still.iter().all(|(outcome, ..)| *outcome != "fail"), "{still:#?}");
    }
    let none = doctor(lab.path(), "exporters: []", &[]);
    let none = outcomes(&none, "exporters");
    assert!(none.iter().any(|(_, _, remedy)| remedy.contains("`exporters`")), "{none:?}");
}

/// What `doctor` says where the agent may not do what it must.
#[test]
fn surroundings_that_do_not_let_it_work_are_named() {
    for (tool, arguments, check, outcome, remedy) in [
        ("unshare", &["--user", "--map-root-user"][..], "user namespace", "fail", "run it outside"),
        ("unshare", &["--pid", "--fork", "--mount-proc"], "pid namespace", "warn", "hostPID"),
        (
            "setpriv",
            &["--bounding-set=-bpf,-sys_admin", "--inh-caps=-all"],
            "capabilities",
            "fail",
            "CAP_BPF",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(tool);
        command.args(arguments).arg(binary()).args(["doctor", "--json", "--control-socket"]);
        let output = command.arg(directory.path().join("none.sock")).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let checks: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
        let found = outcomes(&checks, check);
        let named = found.iter().any(|(how, _, advice)| *how == outcome && advice.contains(remedy));
        assert!(named, "{check}: {found:?}");
    }
}

/// Serves TLS, and says so.
const TLS: &str = "
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[2:4])
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection = context.wrap_socket(connection, server_side=True)
    connection.recv(100)
    connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n')
    kept = connection
";

const TLS_CLIENT: &str = "
import socket, ssl, sys
plain = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
connection = ssl._create_unverified_context().wrap_socket(plain)
connection.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
connection.recv(100)
sys.stdin.read()
";

fn explained(tracing: &Tracing, pid: u32) -> Value {
    asked(tracing, &["explain", &pid.to_string()]).1
}

/// Waits until it is so, and gives the answer.
fn becomes(tracing: &Tracing, pid: u32, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = wait::until(what, PATIENCE, || {
        last = explained(tracing, pid);
        Ok(is_so(&last).then(|| last.clone()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {last:#}"))
}

fn pid(service: &Service) -> u32 {
    service.pids().unwrap()[0]
}

#[test]
fn why_a_process_has_no_traces_is_explained_and_what_is_advised_helps() {
    let lab = Lab::new();
    let allowed = application(&lab, "allowed").start(lab.path()).unwrap();
    let forgotten = application(&lab, "forgotten").start(lab.path()).unwrap();
    let disabled = application(&lab, "disabled").env("OTEL_SDK_DISABLED", "true");
    let disabled = disabled.start(lab.path()).unwrap();
    let handled = application(&lab, "handled").env("HANDLER", "1").start(lab.path()).unwrap();
    let other = Running(Command::new("sleep").arg("1000").spawn().unwrap());
    let (certificate, key) = certificate(lab.path(), 2100);
    let port = ports::free().unwrap();
    let python = lab.installed.venv_program("python");
    let mut command = Command::new(&python);
    let secret =
        Running(command.args(["-c", TLS, &port.to_string(), &certificate, &key]).spawn().unwrap());
    let of = |service: &Service, more: &str| {
        format!("- {{match: {{port: {}}}{more}}}\n", service.port())
    };
    let rules = format!(
        "rules:\n{}{}{}- match: {{port: {port}}}\n- match: {{exe: '*/sleep'}}\n",
        of(&allowed, ""),
        of(&disabled, ""),
        of(&handled, ""),
    );
    let configured = Configured::start(&lab, &rules);
    let tracing = &configured.tracing;
    let says = |answer: &Value, field: &str, part: &str| {
        let text = answer[field].to_string();
        assert!(text.contains(part), "{part} is not in {field} of {answer:#}");
    };

    let answer = becomes(tracing, pid(&allowed), "it is traced", |it| it["traced"] == true);
    says(&answer, "because", "allows it");
    // Nobody asked anything of it.
    says(&answer, "remedies", "make a request");

    let answer = explained(tracing, pid(&forgotten));
    says(&answer, "rules", "it listens on");
    let advised = format!("port={}", forgotten.port());
    says(&answer, "remedies", &advised);

    let answer = explained(tracing, pid(&disabled));
    says(&answer, "because", "OTEL_SDK_DISABLED");
    says(&answer, "remedies", "settings.trace_sdk_disabled");

    let answer = explained(tracing, other.0.id());
    says(&answer, "because", "neither Node.js nor CPython");
    says(&answer, "remedies", "docs/limitations.md");

    let answer = becomes(tracing, pid(&handled), "it is looked at", |it| {
        it["facts"].to_string().contains("SIGUSR1")
    });
    says(&answer, "facts", "thread only");

    let mut client = Command::new(&python);
    client.args(["-c", TLS_CLIENT, &port.to_string()]).stdin(Stdio::piped());
    let client = Running(client.spawn().unwrap());
    let tls = secret.0.id();
    let answer = becomes(tracing, tls, "its connection is seen to be TLS", |it| {
        it["connections"].to_string().contains("TLS")
    });
    says(&answer, "remedies", "TLS is not read");
    drop(client);

    let gone = tls;
    drop(secret);
    let answer = becomes(tracing, gone, "it is gone", |it| it["traced"] == false);
    says(&answer, "because", "is gone");

    // As advised.
    let settings = ", settings: {trace_sdk_disabled: true}";
    let mended = format!("{rules}{}", of(&forgotten, ""));
    let mended = mended.replace(&of(&disabled, ""), &of(&disabled, settings));
    assert_eq!(configured.reload(&mended).last_error, None);
    for service in [&forgotten, &disabled] {
        becomes(tracing, pid(service), "it is traced", |it| it["traced"] == true);
    }

    let (_, checks) = {
        let refused = configured.reload("rules: [{match: {port: x}}]");
        assert!(refused.last_error.is_some());
        asked(tracing, &["doctor"])
    };
    let agent = outcomes(&checks, "running agent");
    let named = |(_, found, remedy): &(&str, &str, &str)| {
        found.contains("rules[0].match.port") && remedy.contains("put the file right")
    };
    assert!(agent.iter().any(named), "{agent:?}");
    assert_eq!(configured.reload(&mended).last_error, None);
}

#[test]
fn a_disk_that_is_full_is_named() {
    let lab = Lab::new();
    let disk = Disk::mount(lab.path().join("disk"), "64k");
    let filler = disk.0.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let exporter = format!("exporters: [{{file: {{path: {}/spans.jsonl}}}}]", disk.0.display());
    let checks = doctor(lab.path(), &exporter, &[]);
    let [(outcome, _, remedy)] = outcomes(&checks, "exporter")[..] else { panic!("{checks}") };
    assert!(outcome == "fail" && remedy.contains("make room"), "{checks:#}");
    std::fs::remove_file(&filler).unwrap();
    let mended = doctor(lab.path(), &exporter, &[]);
    assert!(outcomes(&mended, "exporter").iter().all(|(how, ..)| *how == "ok"), "{mended:#}");
}
