//! What a receiver doesn't take waits on disk: through its absence, the agent's death and a new agent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use wirespan::books::ExporterStatus;
use wirespan_tests::agent::Agent;
use wirespan_tests::wait;
use wirespan_tests::workloads::{Service, ports};

use crate::common::lab::{Lab, PATIENCE, Tracing, distinct, gets, load};
use crate::common::receiver::Receiver;
use crate::common::spans::Span;

const REQUESTS: usize = 300;

/// An agent that writes spans to a file, and sends them to where nobody listens as yet.
fn agent(lab: &Lab, name: &str, service: &Service, receiver: &str) -> Tracing {
    let (directory, config) = (lab.path().join(name), lab.path().join("wirespan.yaml"));
    let file = lab.path().join("spans.jsonl");
    let text = format!(
        "rules:\n- match: {{port: {}}}\nexporters:\n- file: {{path: {}}}\n- otlp:\n    endpoint: http://{receiver}\n    \
         headers: {{authorization: Bearer s3cret}}\n    disk_queue: {{directory: {}, max_size: 16MiB}}\n",
        service.port(),
        file.display(),
        lab.path().join("queue").display(),
    );
    fs::write(&config, text).unwrap();
    let option = format!("--config={}", config.display());
    Tracing { agent: Agent::start(&directory, &[option]).unwrap(), file }
}

fn otlp(tracing: &Tracing) -> ExporterStatus {
    tracing.status().exporters.remove(1)
}

/// Waits until all that was asked is in the disk queue.
fn on_disk(tracing: &Tracing, spans: usize) -> ExporterStatus {
    wait::until("all spans are on disk", PATIENCE, || {
        Ok((otlp(tracing).on_disk >= spans as u64).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", tracing.status().exporters));
    tracing.quiet().exporters.remove(1)
}

/// Bytes of the segments; nobody else may read any file.
fn bytes(queue: &Path) -> u64 {
    let mut bytes = 0;
    assert_eq!(queue.metadata().unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(queue).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let content = fs::read(path).unwrap();
        assert!(!content.windows(6).any(|window| window == b"s3cret"));
        bytes += content.len() as u64;
    }
    bytes
}

#[test]
fn spans_outlive_the_receiver_s_absence_and_the_agent_s_death() {
    let lab = Lab::new();
    let service = lab.installed.plain("prices").unwrap().start(lab.path()).unwrap();
    let address = format!("127.0.0.1:{}", ports::free().unwrap());
    let queue = lab.path().join("queue");

    let mut first = agent(&lab, "first", &service, &address);
    load(&service, 2, &gets("/prices", 1, REQUESTS));
    let left = on_disk(&first, REQUESTS);
    assert_eq!((left.exported, left.refused, left.queued), (0, 0, 0), "{left:?}");
    assert_eq!(left.disk.unwrap().bytes, bytes(&queue));
    let shown = first.agent.status_text(false).unwrap();
    assert!(shown.contains(&format!("+ on disk {REQUESTS}")), "{shown}");
    first.agent.kill().unwrap();

    // One that is told to end while nobody listens, and keeps what it has.
    let mut second = agent(&lab, "second", &service, &address);
    load(&service, 2, &gets("/prices", REQUESTS, REQUESTS));
    assert_eq!(on_disk(&second, 2 * REQUESTS).restored, REQUESTS as u64);
    load(&service, 2, &gets("/prices", 2 * REQUESTS, REQUESTS));
    assert!(second.agent.terminate(PATIENCE).unwrap().success());
    let said = second.agent.stderr().unwrap();
    assert!(said.contains("spans are left on disk") && !said.contains("spans were lost"), "{said}");

    let third = agent(&lab, "third", &service, &address);
    let receiver = Receiver::at(&address);
    load(&service, 2, &gets("/prices", 3 * REQUESTS, REQUESTS));
    let all = 4 * REQUESTS;
    wait::until("all spans arrive", PATIENCE, || Ok((receiver.spans().len() >= all).then_some(())))
        .unwrap_or_else(|error| panic!("{error}: {:#?}", third.status().exporters));
    let status = third.quiet();
    let (sent, disk) = (&status.exporters[1], status.exporters[1].disk.clone().unwrap());
    assert_eq!((sent.restored, sent.on_disk), (3 * REQUESTS as u64, 0), "{sent:?}");
    assert_eq!((disk.bytes, disk.damaged_bytes, disk.failures), (0, 0, 0), "{disk:?}");
    assert_eq!(bytes(&queue), 0);
    // The same as the file has, of all three agents.
    let (arrived, written) = (receiver.spans(), third.spans());
    assert_eq!((arrived.len(), written.len()), (all, all));
    let ids = |spans: Vec<Span>| distinct(spans.into_iter().map(|span| span.id));
    assert_eq!(ids(arrived), ids(written));
}

#[test]
fn two_agents_do_not_share_a_directory() {
    let lab = Lab::new();
    let service = lab.installed.plain("prices").unwrap().start(lab.path()).unwrap();
    let address = format!("127.0.0.1:{}", ports::free().unwrap());
    let first = agent(&lab, "first", &service, &address);
    load(&service, 1, &gets("/prices", 1, 20));
    on_disk(&first, 20);
    let second = agent(&lab, "second", &service, &address);
    let error = wait::until("the second says it", PATIENCE, || {
        Ok(otlp(&second).disk.and_then(|disk| disk.error))
    })
    .unwrap();
    assert!(error.contains("another agent"), "{error}");
    assert_eq!(otlp(&second).restored, 0);
    let receiver = Receiver::at(&address);
    load(&service, 1, &gets("/prices", 21, 20));
    for (tracing, spans) in [(&first, 40), (&second, 20)] {
        wait::until("its spans arrive", PATIENCE, || {
            Ok((otlp(tracing).exported == spans).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {:#?}", tracing.status().exporters));
    }
    assert_eq!(receiver.spans().len(), 60);
}
