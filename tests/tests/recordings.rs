//! A recording gives the same spans again, ids aside, where nothing is asked of a kernel or a process; and what a span
//! does not show is not in it.

use crate::common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::lab::{Lab, PATIENCE, Tracing, load};
use common::receiver::Receiver;
use common::spans::{self, Span};
use rstest::rstest;
use wirespan_tests::agent::{Agent, binary};
use wirespan_tests::load::Request;
use wirespan_tests::servers::{SECRET, Servers};
use wirespan_tests::wait;
use wirespan_tests::workloads::Service;

const IN_FLIGHT: usize = 20;

/// What no recording may hold, whatever is asked for.
const TOKEN: &str = "canary-of-a-credential";

/// What is in a recording only where payload is asked for.
const FIELD: &str = "canary-of-a-field";

fn requests(first: usize, count: usize) -> Vec<Request> {
    let get = |id: usize| Request::get(id.to_string(), format!("/each/{id}?user={FIELD}"));
    (first..first + count).map(get).collect()
}

/// A request with credentials, and a field that nobody knows.
fn ask_as_somebody(front: &Service) {
    let mut stream = TcpStream::connect(front.address()).unwrap();
    let head = format!(
        "GET /each/9999 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nX-User: {FIELD}\r\n\
         COOKIE: session={TOKEN}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// All that a span says but its ids, and the same of all above it.
fn told(span: &Span, by_id: &HashMap<&str, &Span>) -> String {
    let mut text = String::new();
    let mut next = Some(span);
    while let Some(span) = next {
        let Span { service, kind, name, start_ns, end_ns, error, attributes, resource, .. } = span;
        text += &format!(
            "{service} {kind:?} {name} {start_ns}..{end_ns} {error:?} {attributes:?} {resource:?} {}\n",
            span.links.len()
        );
        next = span.parent.as_deref().map(|parent| by_id[parent]);
    }
    text
}

fn all_told(spans: &[Span]) -> Vec<String> {
    let by_id = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let mut told: Vec<String> = spans.iter().map(|span| told(span, &by_id)).collect();
    told.sort_unstable();
    told
}

/// Replays without any right, into a file.
fn replay(recording: &Path, directory: &Path) -> (Vec<Span>, String) {
    let file = directory.join("replayed.jsonl");
    // Whom the recording was given to: nobody of this machine's.
    let given = directory.join("given.rec");
    fs::copy(recording, &given).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o644)).unwrap();
    File::create(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.join("wirespan");
    fs::copy(binary(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    command.arg(&program).arg("replay").arg(&given);
    let output = command.arg(format!("--export=file:{}", file.display())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (spans::read(&file), said)
}

#[rstest]
#[case::overwritten("http fetch post ioredis ioredis-pipeline redis redis-multi", false)]
#[case::with_payload("http fetch post pg pg-transaction ioredis redis-multi", true)]
fn a_recording_gives_the_same_spans(#[case] calls: &str, #[case] with_payload: bool) {
    let lab = Lab::new();
    let servers = Servers::start(lab.path()).unwrap();
    let prices = lab.installed.plain("prices").unwrap().start(lab.path()).unwrap();
    let receiver = Receiver::start();
    let recording = lab.path().join("bug.rec");
    let directory = lab.path().join("agent");
    let mut arguments = vec!["--allow=cmd=*parents.js*".to_owned()];
    arguments.push(format!("--allow=port={}", prices.port()));
    arguments.push(receiver.export());
    arguments.extend(with_payload.then(|| "--with-payload".to_owned()));
    let agent = Agent::record(&directory, &recording, &arguments).unwrap();
    let mut tracing = Tracing { agent, file: directory.join("none") };
    assert_eq!(fs::metadata(&recording).unwrap().permissions().mode() & 0o777, 0o600);

    let front = lab.installed.parents("front").unwrap().servers(&servers).upstream(&prices);
    let front = front.env("OTEL_SERVICE_NAME", "front").env("CALLS", calls);
    let front = front.start(lab.path()).unwrap();
    crate::node_parents::exact(&tracing, 1);
    load(&front, IN_FLIGHT, &requests(1, 400));
    ask_as_somebody(&front);
    let status = tracing.quiet();
    assert_eq!(status.total.kernel.bytes_dropped, 0, "a loss would be nobody's fault here");
    assert!(tracing.agent.terminate(PATIENCE).unwrap().success());
    let end = tracing.agent.stderr().unwrap();
    assert!(end.contains("recorded"), "{end}");
    let live = wait::until("the receiver has all", PATIENCE, || {
        Ok(Some(receiver.spans()).filter(|spans| spans.len() as u64 >= status.spans))
    });
    let live = live.unwrap();

    let (again, said) = replay(&recording, lab.path());
    assert!(!said.contains("cut off") && !said.contains("no sense"), "{said}");
    let (live, again) = (all_told(&live), all_told(&again));
    let missing: Vec<_> = live.iter().filter(|it| again.binary_search(it).is_err()).collect();
    let invented: Vec<_> = again.iter().filter(|it| live.binary_search(it).is_err()).collect();
    assert!(
        live == again,
        "{} live, {} again; {} missing, the first {:#?}; {} invented, the first {:#?}\n{said}",
        live.len(),
        again.len(),
        missing.len(),
        missing.first(),
        invented.len(),
        invented.first()
    );
    assert!(live.len() > 400 * 10, "{} spans", live.len());

    let bytes = fs::read(&recording).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|it| it == text.as_bytes());
    for credential in [TOKEN, SECRET] {
        assert!(!holds(credential), "{credential:?} is in the recording");
    }
    assert_eq!(holds(FIELD), with_payload, "a field's value");
}
