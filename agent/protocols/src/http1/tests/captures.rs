//! Recorded sessions (`testdata/http1`): whole, at every prefix, split at every byte, with holes of
//! every kind at every position. What a damaged run tells must be part of what the whole one does.

use rstest::rstest;

use super::*;
use crate::testing::{Damage, records};

impl Run {
    /// Nothing here that the whole run doesn't tell alike.
    fn assert_part_of(&self, whole: &[Exchange], context: &dyn Fn() -> String) {
        for exchange in exchanges(&self.events) {
            exchange.assert_paired_right(context);
            let (target, cut) = (&exchange.request.target, exchange.request.target_cut);
            let original = whole.iter().find(|original| {
                let path = &original.request.target;
                original.request.method == exchange.request.method
                    && (path == target || cut && path.starts_with(&**target))
            });
            if original.is_none() && target.starts_with("/inside/") {
                // Without the upgrade, HTTP in a tunnel is HTTP; it had no response.
                assert_eq!(exchange.response, None, "{}", context());
                continue;
            }
            let Some(original) = original else {
                panic!("{} was never there, {}", exchange.tell(), context());
            };
            if cut {
                continue;
            }
            if let Some(Ok(End::Complete { body_bytes })) = exchange.end {
                assert_eq!(
                    original.end,
                    Some(Ok(End::Complete { body_bytes })),
                    "{} {}",
                    exchange.tell(),
                    context()
                );
            }
            if let (Some(seen), Some(response)) = (&exchange.response, &original.response) {
                assert_eq!(seen.status, response.status, "{} {}", exchange.tell(), context());
            }
        }
    }
}

/// Every capture with what a whole run of it tells.
macro_rules! captures {
    ($($name:ident: $file:literal => $told:expr;)*) => {
        const CAPTURES: &[(&str, &[u8])] =
            &[$(($file, include_bytes!(concat!("../../../testdata/http1/", $file)))),*];
        $(#[test]
        fn $name() {
            let (_, capture) = CAPTURES.iter().find(|(name, _)| *name == $file).unwrap();
            let whole = Run::whole(&records(capture));
            assert_eq!(whole.told(), $told);
            let pairs = exchanges(&whole.events);
            assert!(pairs.iter().all(|pair| pair.id() == pair.response_id() || pair.id().is_none()));
            assert!(pairs.iter().all(|pair| pair.response_id().is_some()));
            for reason in [Skip::Resync, Skip::UnpairedResponse, Skip::Broken, Skip::HeldTooLong] {
                assert_eq!(whole.skipped(reason), 0, "{reason:?}");
            }
        })*
    };
}

captures! {
    node_keep_alive: "node-keep-alive.http" => [
        "GET /length/a1>0 200 6",
        "GET /chunks/a2>0 200 38",
        "POST /length/a3>40 200 7",
        "POST /chunks/a4>14 200 40",
        "HEAD /length/a5>0 200 0",
        "DELETE /empty/a6>0 204 0",
        "GET /unchanged/a7>0 304 0",
        "PUT /missing/a8>0 404 0",
        "GET /hints/a9>0 200 38",
        "PATCH /trailers/a10>3 200 6",
        "GET /length/a11>0 200 6",
    ];
    python_keep_alive: "python-keep-alive.http" => [
        "GET /hello/b0>0 200 120",
        "POST /hello/b1>100 200 120",
        "GET /hello/b2>0 200 120",
        "POST /hello/b3>100 200 120",
    ];
    python_http10: "python-http10.http" => ["GET /hello/c1>0 200 Closed { body_bytes: 120 }"];
    curl_expect: "curl-expect.http" => ["POST /length/d1>200 200 8", "GET /chunks/d2>0 200 38"];
    curl_absolute: "curl-absolute.http" => ["GET /length/e1>0 200 6", "GET /chunks/e2>0 200 38"];
    refused: "refused.http" => ["POST /refuse/f1>50 413 9", "GET /length/f2>0 200 6"];
    upgrade: "upgrade.http" => ["GET /length/g1>0 200 6", "GET /socket/g2>0 101 Upgraded"];
    connect: "connect.http" => ["CONNECT >0 200 Upgraded"];
    pipelined: "pipelined.http" => [
        "GET /length/h1>0 200 6",
        "GET /length/h2>0 200 6",
        "GET /chunks/h3>0 200 38",
        "GET /length/h4>0 200 6",
        "GET /empty/h5>0 204 0",
        "POST /length/h6>3 200 6",
        "GET /unchanged/h7>0 304 0",
        "GET /length/h8>0 200 6",
    ];
}

#[test]
fn heads_of_the_captures_are_read() {
    let run = Run::whole(&records(CAPTURES[0].1));
    let exchanges = exchanges(&run.events);
    let head = &exchanges[0].request;
    assert_eq!(head.query.as_deref(), Some("secret=1"));
    assert_eq!(
        head.traceparent.unwrap().to_header(),
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    );
    assert_eq!(head.tracestate.as_deref(), Some("a=1,b=2"));
    assert!(head.host.as_deref().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(exchanges[3].request.content_type.as_deref(), Some("application/json"));
    assert_eq!(exchanges[8].response.as_ref().unwrap().status, 200);
    assert_eq!(run.connection.counters(Responses).informational, 1, "103");

    let (_, capture) = CAPTURES.iter().find(|(name, _)| *name == "curl-absolute.http").unwrap();
    let run = Run::whole(&records(capture));
    let head = &super::exchanges(&run.events)[0].request;
    assert_eq!(head.scheme.as_deref(), Some("http"));
    assert_eq!(head.host.as_deref(), Some("example.org:81"), "without user and password");
    assert!(head.user_agent.as_deref().unwrap().starts_with("curl/"));
}

#[test]
fn at_every_prefix_what_is_told_is_part_of_the_whole() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            for len in 0..bytes.map_or(0, <[u8]>::len) {
                let run = Run::prefix(&records, at, len);
                run.assert_part_of(&whole, &|| format!("{name}: {len} bytes of record {at}"));
            }
        }
    }
}

#[test]
fn split_at_every_byte_all_is_told_alike() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for len in 1..bytes.len() {
                let run = Run::split(&records, at, len);
                assert_eq!(exchanges(&run.events), whole, "{name}: record {at} split at {len}");
            }
        }
        let run = Run::byte_by_byte(&records);
        assert_eq!(exchanges(&run.events), whole, "{name}: byte by byte");
    }
}

// 46 and 161 bytes have most of the pipelined requests and their responses: holes of whole messages.
#[rstest]
fn with_a_hole_at_every_position_nothing_is_told_that_was_not_there(
    #[values(1, 46, 161, usize::MAX)] length: usize,
) {
    damaged_everywhere(Damage::Hole, length);
}

#[rstest]
#[case(Damage::Missing, usize::MAX)]
#[case(Damage::Gap, 46)]
#[case(Damage::Gap, usize::MAX)]
#[case(Damage::Gaps, usize::MAX)]
fn so_it_is_with_what_was_not_captured_or_lost_on_either_side(
    #[case] damage: Damage,
    #[case] length: usize,
) {
    damaged_everywhere(damage, length);
}

fn damaged_everywhere(damage: Damage, length: usize) {
    let mut complete = 0;
    for (name, capture) in CAPTURES {
        if *name == "pipelined.http" && matches!(damage, Damage::Gaps) {
            // A client that begins to pipeline in what was lost can't be told from one that doesn't.
            continue;
        }
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for from in 0..bytes.len() {
                let to = from.saturating_add(length).min(bytes.len());
                if matches!(damage, Damage::Missing) && (to < bytes.len() || from == 0) {
                    continue;
                }
                let run = Run::damaged(&records, at, from..to, damage);
                let context = || format!("{name}: record {at}, bytes {from}..{to} {damage:?}");
                run.assert_part_of(&whole, &context);
                complete += exchanges(&run.events)
                    .iter()
                    .filter(|exchange| matches!(exchange.end, Some(Ok(End::Complete { .. }))))
                    .count();
            }
        }
    }
    assert!(complete > 1000, "what the hole didn't touch is told: {complete}");
}

#[test]
fn met_at_every_record_nothing_is_paired_wrongly() {
    let mut complete = 0;
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        // A client that pipelines when it is met can't be told from one that doesn't.
        for at in (0..records.len()).filter(|_| *name != "pipelined.http") {
            let mut run = Run::new(false);
            run.records(&records[at..]);
            run.close();
            run.assert_part_of(&whole, &|| format!("{name}: met at record {at}"));
            complete += run.told().len();
        }
    }
    assert!(complete > 30, "{complete}");
}

#[test]
fn the_fuzz_target_holds_on_every_prefix_of_the_captures() {
    for (_, capture) in CAPTURES {
        for len in 0..capture.len() {
            fuzz_http1(&capture[..len]);
        }
    }
}
