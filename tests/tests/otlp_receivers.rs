//! A collector that others wrote understands what is exported, all of it.

use std::fs::File;
use std::process::Command;

use crate::common::lab::{Lab, PATIENCE, gets, load, rule};
use crate::common::receiver::Receiver;
use crate::common::spans::Span;
use rstest::rstest;
use wirespan_tests::process::Group;
use wirespan_tests::wait;
use wirespan_tests::workloads::{System, ports};

const REQUESTS: usize = 100;

fn by_id(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by(|a, b| a.id.cmp(&b.id));
    spans
}

/// Agent, to rotel, to the test's own receiver: what comes out is what the file exporter wrote.
#[rstest]
#[case::over_grpc("otlp")]
#[case::over_http("otlphttp")]
fn rotel_receives_and_hands_on_every_span_unchanged(#[case] exporter: &str) {
    let lab = Lab::new();
    let system = System::start(&lab.installed, lab.path()).unwrap();
    let receiver = Receiver::start();
    let (grpc, http) = (ports::free().unwrap(), ports::free().unwrap());
    let log = lab.path().join("rotel.log");
    let output = File::create(&log).unwrap();
    let mut command = Command::new(lab.installed.rotel().unwrap());
    command
        .arg("start")
        .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
        .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "grpc"])
        .args(["--otlp-exporter-endpoint", &format!("http://{}", receiver.address())])
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    let rotel = Group::spawn(&mut command).unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    wait::until("rotel listens", PATIENCE, || {
        anyhow::ensure!(!rotel.has_exited()?, "rotel ended");
        Ok(std::net::TcpStream::connect(("127.0.0.1", grpc)).is_ok().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", said()));

    let rules = system.services().map(rule);
    let port = if exporter == "otlp" { grpc } else { http };
    let export = format!("--export={exporter}=http://127.0.0.1:{port}");
    let tracing = lab.agent("agent", &rules, &[&export]);
    load(&system.gateway, 2, &gets("/orders", 1, REQUESTS));
    let forest = tracing.forest_of(9 * REQUESTS);
    let mut arrived = 0;
    wait::until("all spans came through", PATIENCE, || {
        arrived = receiver.spans().len();
        Ok((arrived >= forest.spans.len()).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {arrived}, {}", said()));
    assert!(by_id(receiver.spans()) == by_id(forest.spans), "rotel's differ");
    let status = tracing.quiet();
    assert!(status.exporters.iter().all(|exporter| exporter.refused == 0), "{status:?}");
}
