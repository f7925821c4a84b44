//! A collector that others wrote understands what is exported, all of it.

use crate::common::lab::{Lab, PATIENCE, gets, load, rule};
use crate::common::receiver::Receiver;
use crate::common::spans::Span;
use rstest::rstest;
use wirespan_tests::collector::Collector;
use wirespan_tests::wait;
use wirespan_tests::workloads::System;

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
    let endpoint = format!("http://{}", receiver.address());
    let mut hands_on = vec!["--exporter", "otlp", "--otlp-exporter-protocol", "grpc"];
    hands_on.extend(["--otlp-exporter-endpoint", &endpoint]);
    let rotel = Collector::start(&lab.installed, lab.path(), &hands_on).unwrap();

    let rules = system.services().map(rule);
    let port = if exporter == "otlp" { rotel.grpc } else { rotel.http };
    let export = format!("--export={exporter}=http://127.0.0.1:{port}");
    let tracing = lab.agent("agent", &rules, &[&export]);
    load(&system.gateway, 2, &gets("/orders", 1, REQUESTS));
    let forest = tracing.forest_of(9 * REQUESTS);
    let mut arrived = 0;
    wait::until("all spans came through", PATIENCE, || {
        arrived = receiver.spans().len();
        Ok((arrived >= forest.spans.len()).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {arrived}, {}", rotel.output().unwrap()));
    assert!(by_id(receiver.spans()) == by_id(forest.spans), "rotel's differ");
    let status = tracing.quiet();
    assert!(status.exporters.iter().all(|exporter| exporter.refused == 0), "{status:?}");
}
