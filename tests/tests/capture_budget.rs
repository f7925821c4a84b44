//! Whatever the payload budget cuts off is counted to the byte, and what spans tell is right.
#![expect(clippy::print_stdout, reason = "what was measured")]

use crate::common::capture as common;

use common::{Bench, Exchange, assert_right, both_ends, connect, spans_of, unique};
use rstest::rstest;
use wirespan_tests::spans::{CLIENT, SERVER};

/// One exchange's shape: bytes of padding in each head, of content, and of each chunk (0: not chunked).
#[derive(Clone, Copy, Debug)]
struct Shape {
    padding: [usize; 2],
    content: [usize; 2],
    chunk: [usize; 2],
}

const SHAPES: [Shape; 9] = [
    Shape { padding: [0, 0], content: [20, 30], chunk: [0, 0] },
    Shape { padding: [300, 0], content: [20, 30], chunk: [0, 0] },
    Shape { padding: [0, 300], content: [20, 30], chunk: [0, 0] },
    Shape { padding: [5000, 5000], content: [20, 30], chunk: [0, 0] },
    Shape { padding: [12_000, 12_000], content: [9000, 9000], chunk: [0, 0] },
    Shape { padding: [0, 0], content: [1 << 20, 1 << 20], chunk: [0, 0] },
    Shape { padding: [0, 0], content: [20, 100_000], chunk: [0, 1000] },
    Shape { padding: [300, 0], content: [100_000, 100_000], chunk: [1000, 70_000] },
    Shape { padding: [0, 0], content: [0, 3], chunk: [0, 1] },
];

#[rstest]
fn every_byte_over_the_budget_is_counted_and_no_span_is_wrong(
    #[values(64, 256, 4096, 8192)] budget: u64,
) {
    let bench = Bench::start(&unique("budget"), &["--payload-budget", &budget.to_string()]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let mut exchanges = Vec::new();
    let mut over = 0;
    for (index, family) in ["inet", "unix"].iter().enumerate() {
        connect(&mut client, &mut server, family);
        // In one turn and once more, so that each shape follows each kind of cut.
        for number in 0..2 * SHAPES.len() {
            let shape = SHAPES[(number * 4) % SHAPES.len()];
            let mut one = Exchange::new(family, 20 * index + number);
            [one.request_bytes, one.response_bytes] = shape.content;
            let Shape { padding, content, chunk } = shape;
            let ask =
                format!("request({:?}, {}, {}, {})", one.path, content[0], padding[0], chunk[0]);
            let answer =
                format!("response({}, {}, {}, {})", one.status, content[1], padding[1], chunk[1]);
            server.begin(&format!("sr.message(); send_all(s, {answer}); len({answer})")).unwrap();
            let asked =
                client.run(&format!("send_all(c, {ask}); cr.message(); len({ask})")).unwrap();
            let answered = server.finish().unwrap();
            for burst in [asked, answered] {
                over += burst.as_u64().unwrap().saturating_sub(budget);
            }
            exchanges.push((one, shape, asked_heads_fit(&shape, budget)));
        }
    }
    for script in [&mut client, &mut server] {
        let kernel = bench.agrees(script, 0).kernel;
        assert_eq!(kernel.bytes_over_budget, over, "{kernel:#?}");
        assert_eq!(kernel.bytes_captured, kernel.bytes_seen - over, "{kernel:#?}");
    }
    let spans = bench.spans();
    let mut whole = 0;
    for (one, shape, fit) in &exchanges {
        for kind in [CLIENT, SERVER] {
            let found = spans_of(&spans, kind, &one.path);
            assert!(found.len() <= 1, "{found:#?}");
            found.iter().for_each(|span| assert_right(span, one));
        }
        if *fit && shape.chunk == [0, 0] {
            both_ends(&spans, one);
            whole += 1;
        }
    }
    let told = spans.len();
    println!(
        "budget {budget}: {told} spans of {} calls' ends, {whole} calls had to be whole",
        2 * exchanges.len()
    );
    assert!(whole > 0 || budget < 256);
    // Nothing is lost that is not counted.
    let status = bench.settled(0);
    let agent = &status.total.agent;
    assert_eq!(agent.calls, agent.calls_spans + agent.calls_abandoned, "{agent:#?}");
    assert_eq!(agent.calls_spans, told as u64);
}

/// Whether both heads are within the budget: then framing is known, however long the content.
fn asked_heads_fit(shape: &Shape, budget: u64) -> bool {
    shape.padding.iter().all(|padding| *padding as u64 + 130 < budget)
}
