//! Each call of a Python service is under the request that made it, however many are in flight; and what is
//! attached to a process for that is gone with the agent, however it ends.

use crate::common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::lab::{Lab, PATIENCE, Tracing, distinct, gets, load};
use common::spans::{Kind, Span};
use rstest::rstest;
use serde_json::json;
use wirespan_tests::accuracy::{Bench, CELLS, Cell};
use wirespan_tests::agent;
use wirespan_tests::load::{self as loading, Plan};
use wirespan_tests::script::Script;
use wirespan_tests::workloads::Worker;
use wirespan_tests::{sys, wait};

const IN_FLIGHT: usize = 20;

fn cell(name: &str, path: &str) -> &'static Cell {
    CELLS.iter().find(|cell| cell.name == name && cell.path == path).unwrap()
}

/// A few of the cells that `cargo xtask accuracy` measures in full. What a cell's name says is in flight at once,
/// over pools of three connections and fewer.
#[rstest]
#[case::fastapi_on_asyncio("FastAPI, asyncio", "/three")]
#[case::fastapi_on_uvloop("FastAPI, uvloop", "/three")]
#[case::executor("FastAPI, asyncio", "/executor")]
#[ignore = "long: the cells of `cargo xtask accuracy` are more"]
#[case::executor_on_uvloop("FastAPI, uvloop", "/executor")]
#[case::one_task_for_a_connection("aiohttp, asyncio", "/three")]
#[case::threads("Flask, gthread", "/three")]
#[ignore = "long: the cells of `cargo xtask accuracy` are more"]
#[case::pool_of_a_thread("Flask, gthread", "/pool")]
fn each_call_is_under_its_own_request(#[case] name: &str, #[case] path: &str) {
    let lab = Lab::new();
    let installed = lab.installed.for_accuracy("python3").unwrap();
    let directory = lab.path().join("bench");
    let bench = Bench::start(installed, &agent::binary(), &directory).unwrap();
    let outcome = bench.run(cell(name, path), &[IN_FLIGHT], 400, &directory).unwrap();
    let sum = outcome.sum();
    eprintln!("{name} {path}: {sum:?}, {:?}", outcome.methods);
    assert_eq!(sum.wrong, 0, "{:?}", outcome.example);
    assert!(sum.right * 1_000 >= sum.calls() * 999, "{sum:?}");
    assert!(outcome.methods.iter().all(|method| method == "exact"), "{:?}", outcome.methods);
}

/// Whether a breakpoint is where each context is copied, by the process's own word.
const PROBED: &str = "
import ctypes, contextvars
at = ctypes.cast(ctypes.pythonapi.PyContext_CopyCurrent, ctypes.c_void_p).value
ctypes.string_at(at, 1) == b'\\xcc'";

fn agent_of(lab: &Lab, script: &Script) -> Tracing {
    lab.agent("agent", &[format!("cmd=*sockets.py {}*", script.name())], &[])
}

fn wait_probed(script: &mut Script, wanted: bool) {
    wait::until("the probe comes or goes", PATIENCE, || {
        Ok((script.run(PROBED)? == json!(wanted)).then_some(()))
    })
    .unwrap();
}

#[rstest]
#[case::ends(false)]
#[case::is_killed(true)]
fn an_agent_leaves_no_probe_behind_when_it(#[case] killed: bool) {
    let lab = Lab::new();
    let mut script = Script::start("probed").unwrap();
    assert_eq!(script.run(PROBED).unwrap(), json!(false));
    for _ in 0..3 {
        let mut tracing = agent_of(&lab, &script);
        wait_probed(&mut script, true);
        if killed {
            tracing.agent.kill().unwrap();
        } else {
            assert!(tracing.agent.terminate(PATIENCE).unwrap().success());
        }
        wait_probed(&mut script, false);
        std::fs::remove_dir_all(tracing.file.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_process_that_is_not_traced_has_no_probe() {
    let lab = Lab::new();
    let mut script = Script::start("probed").unwrap();
    let mut stranger = Script::start("stranger").unwrap();
    let _tracing = agent_of(&lab, &script);
    wait_probed(&mut script, true);
    assert_eq!(stranger.run(PROBED).unwrap(), json!(false));
    // It maps the same file, and its child is nobody's either.
    let child = "import os, time\npid = os.fork()\nif pid == 0: time.sleep(0); os._exit(0)\n\
                 os.waitpid(pid, 0)[1]";
    assert_eq!(stranger.run(child).unwrap(), json!(0));
}

/// Workers that die under load are replaced by forks of their master: those are probed when they are there, and
/// until then their calls are nobody's.
#[test]
fn forked_workers_are_followed_and_none_of_their_calls_is_misplaced() {
    const REQUESTS: usize = 400;
    const FIRST: usize = 2_000_000;
    let lab = Lab::new();
    let prices = lab.installed.plain("prices").unwrap().env("OTEL_SERVICE_NAME", "prices");
    let prices = prices.start(lab.path()).unwrap();
    let front = lab.installed.flask("front", Worker::Gthread(4), 2).unwrap();
    let front = front.upstream(&prices).env("OTEL_SERVICE_NAME", "front");
    let front = front.start(lab.path()).unwrap();
    let tracing = lab.trace(&[&front, &prices]);
    let old = distinct(front.workers().unwrap());
    let plan = Plan { keep_alive: false, ..Plan::new(front.address(), 4) };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // A worker that is told to end may reset what it has just accepted: only what was answered counts.
        let loading =
            scope.spawn(|| loading::run(&plan, &gets("/api/orders", 1, 1_000_000), &stop));
        for worker in &old {
            sys::kill(*worker, libc::SIGTERM).unwrap();
        }
        wait::until("two new workers serve", PATIENCE, || {
            let new = distinct(front.workers()?);
            Ok((new.len() == 2 && new.is_disjoint(&old)).then_some(()))
        })
        .unwrap();
        wait::until("both are followed", PATIENCE, || {
            let followed = |worker: &u32| {
                tracing.status().processes.iter().any(|process| {
                    u32::try_from(process.pid) == Ok(*worker)
                        && process.context.as_deref() == Some("exact")
                })
            };
            Ok(front.workers()?.iter().all(followed).then_some(()))
        })
        .unwrap();
        stop.store(true, Ordering::Relaxed);
        let answered = loading.join().unwrap().outcomes.len();
        assert!(answered > 0);
    });
    load(&front, IN_FLIGHT, &gets("/api/orders", FIRST, REQUESTS));
    // `forest` holds every call's number against its parent's.
    let forest = tracing.forest();
    let ours = |span: &&Span| span.number() >= Some(FIRST as u64);
    let late: Vec<_> = forest.of("front", Kind::Client).filter(ours).collect();
    let placed = late.iter().filter(|span| span.parent.is_some()).count();
    assert_eq!(late.len(), REQUESTS);
    assert!(placed * 1_000 >= REQUESTS * 999, "{placed} of {REQUESTS}");
}
