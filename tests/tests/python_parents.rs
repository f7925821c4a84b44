//! Each call of a Python service is under the request that made it, however many are in flight; and what is
//! attached to a process for that is gone with the agent, however it ends.

use crate::common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::thread;

use crate::configuration::Configured;
use common::lab::{Lab, PATIENCE, Stop, Tracing, distinct, gets, load};
use common::spans::{Kind, Span};
use rstest::rstest;
use serde_json::json;
use wirespan::books::Status;
use wirespan_tests::accuracy::{Bench, CELLS, Cell};
use wirespan_tests::agent;
use wirespan_tests::load::{self as loading, Plan};
use wirespan_tests::script::Script;
use wirespan_tests::workloads::{Loop, Service, UVLOOPS, Worker};
use wirespan_tests::{sys, wait};

const IN_FLIGHT: usize = 20;

fn cell(name: &str, path: &str) -> &'static Cell {
    CELLS.iter().find(|cell| cell.name == name && cell.path == path).unwrap()
}

/// A few of the cells that `cargo xtask accuracy` measures in full. What a cell's name says is in flight at once,
/// over pools of three connections and fewer.
#[rstest]
#[case::fastapi_on_asyncio("FastAPI, asyncio", "/three", None)]
#[case::fastapi_on_uvloop("FastAPI, uvloop", "/three", Some(UVLOOPS[0]))]
#[case::fastapi_on_newer_uvloop("FastAPI, uvloop", "/three", Some(UVLOOPS[1]))]
#[case::executor("FastAPI, asyncio", "/executor", None)]
#[ignore = "long: the cells of `cargo xtask accuracy` are more"]
#[case::executor_on_uvloop("FastAPI, uvloop", "/executor", None)]
#[case::one_task_for_a_connection("aiohttp, asyncio", "/three", None)]
#[case::threads("Flask, gthread", "/three", None)]
#[ignore = "long: the cells of `cargo xtask accuracy` are more"]
#[case::pool_of_a_thread("Flask, gthread", "/pool", None)]
fn each_call_is_under_its_own_request(
    #[case] name: &str,
    #[case] path: &str,
    #[case] uvloop: Option<&str>,
) {
    let lab = Lab::new();
    let installed = lab.installed.for_accuracy("python3").unwrap();
    let directory = lab.path().join("bench");
    let uvloop = uvloop.map(|version| installed.uvloop(version).unwrap());
    let mut bench = Bench::start(installed, &agent::binary(), &directory).unwrap();
    bench.environment.extend(uvloop.map(|path| ("PYTHONPATH", path.display().to_string())));
    let outcome = bench.run(cell(name, path), &[IN_FLIGHT], 400, &directory).unwrap();
    let sum = outcome.sum();
    eprintln!("{name} {path}: {sum:?}, {:?}", outcome.methods);
    assert_eq!(sum.wrong, 0, "{:?}", outcome.example);
    assert!(sum.right * 1_000 >= sum.calls() * 999, "{sum:?}");
    assert!(outcome.methods.iter().all(|method| method == "exact"), "{:?}", outcome.methods);
}

/// Where the code of CPython and of its modules is not what their files have: breakpoints.
fn altered(pid: u32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut altered = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, permissions, offset, _, _, path] = words[..] else { continue };
        if !permissions.contains('x') || !path.starts_with('/') {
            continue;
        }
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = range.split_once('-').map(|(a, b)| (number(a), number(b))).unwrap();
        let mut there = vec![0; usize::try_from(end - start).unwrap()];
        // What was unmapped meanwhile has nothing in it.
        let Ok(()) = memory.read_exact_at(&mut there, start) else { continue };
        let file = File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}")).unwrap();
        let mut meant = vec![0; there.len()];
        let length = file.read_at(&mut meant, number(offset)).unwrap();
        if there[..length] == meant[..length] {
            continue;
        }
        let differs = |at: &usize| there[*at] != meant[*at];
        altered.extend((0..length).filter(differs).map(|at| format!("{path}+{at:x}")));
    }
    altered
}

fn agent_of(lab: &Lab, script: &Script) -> Tracing {
    lab.agent("agent", &[format!("cmd=*sockets.py {}*", script.name())], &[])
}

fn wait_probed(script: &Script, wanted: bool) {
    wait::until("the probe comes or goes", PATIENCE, || {
        Ok((altered(script.pid()).is_empty() != wanted).then_some(()))
    })
    .unwrap();
}

#[rstest]
#[case::ends(false)]
#[case::is_killed(true)]
fn an_agent_leaves_no_probe_behind_when_it(#[case] killed: bool) {
    let lab = Lab::new();
    let script = Script::start("probed").unwrap();
    assert_eq!(altered(script.pid()), [""; 0]);
    for _ in 0..3 {
        let mut tracing = agent_of(&lab, &script);
        wait_probed(&script, true);
        if killed {
            tracing.agent.kill().unwrap();
        } else {
            assert!(tracing.agent.terminate(PATIENCE).unwrap().success());
        }
        wait_probed(&script, false);
        fs::remove_dir_all(tracing.file.parent().unwrap()).unwrap();
    }
}

/// Told to let a process go and then to end at once, it has taken every breakpoint back when it has ended.
#[test]
fn an_agent_that_ends_while_it_detaches_leaves_no_probe_behind() {
    let lab = Lab::new();
    let script = Script::start("probed").unwrap();
    for _ in 0..3 {
        let mut configured =
            Configured::start(&lab, "rules: [{match: {cmd: '*sockets.py probed*'}}]");
        wait_probed(&script, true);
        configured.reload("rules: [{match: {cmd: '*sockets.py nobody*'}}]");
        assert!(configured.tracing.agent.terminate(PATIENCE).unwrap().success());
        assert_eq!(altered(script.pid()), [""; 0]);
        fs::remove_dir_all(configured.tracing.file.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_process_that_is_not_traced_has_no_probe() {
    let lab = Lab::new();
    let script = Script::start("probed").unwrap();
    let mut stranger = Script::start("stranger").unwrap();
    let _tracing = agent_of(&lab, &script);
    wait_probed(&script, true);
    assert_eq!(altered(stranger.pid()), [""; 0]);
    // It maps the same file, and its child is nobody's either.
    let child = "import os, time\npid = os.fork()\nif pid == 0: time.sleep(0); os._exit(0)\n\
                 os.waitpid(pid, 0)[1]";
    assert_eq!(stranger.run(child).unwrap(), json!(0));
}

/// How many orders a service says that it has answered. None where a worker was asked that ends: that may reset what it
/// has just accepted.
fn orders_answered(front: &Service) -> Option<u64> {
    let counts = front.counts().ok()?;
    Some(counts["requests"]["GET /api/orders/<int:order>"]["requests"].as_u64().unwrap_or(0))
}

/// Workers that die under load are replaced by forks of their master: those are probed when they are there, and
/// until then their calls are nobody's.
#[test]
fn forked_workers_are_followed_and_none_of_their_calls_is_misplaced() {
    const REQUESTS: usize = 400;
    const FIRST: usize = 100_000;
    let lab = Lab::new();
    let prices = lab.installed.plain("prices").unwrap().env("OTEL_SERVICE_NAME", "prices");
    let prices = prices.start(lab.path()).unwrap();
    let front = lab.installed.flask("front", Worker::Gthread(4), 2).unwrap();
    let front = front.upstream(&prices).env("OTEL_SERVICE_NAME", "front");
    let front = front.start(lab.path()).unwrap();
    let tracing = lab.trace(&[&front, &prices]);
    let old = distinct(front.workers().unwrap());
    let plan = Plan { keep_alive: false, ..Plan::new(front.address(), 4) };
    let requests = gets("/api/orders", 1, FIRST - 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stop(&stop);
        // A worker that is told to end may reset what it has just accepted: only what was answered counts.
        let loading = scope.spawn(|| loading::run(&plan, &requests, &stop));
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
        // Those in flight at once and as many again: some of them have reached whoever asked.
        let mut before = None;
        wait::until("the new workers have answered", PATIENCE, || {
            let Some(now) = orders_answered(&front) else { return Ok(None) };
            let first = *before.get_or_insert(now);
            Ok((now >= first + 8 || loading.is_finished()).then_some(()))
        })
        .unwrap();
        drop(stopping);
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

/// Agents that come and go, every other one killed, are not noticed by those who are traced: an event loop and a
/// pool of threads under load.
#[test]
#[ignore = "long: 200 starts of the agent under load"]
fn two_hundred_agents_come_and_go_under_load_and_leave_no_probe() {
    const AGENTS: usize = 200;
    let lab = Lab::new();
    let prices = lab.installed.plain("prices").unwrap().start(lab.path()).unwrap();
    let loop_ = lab.installed.fastapi("loop", Loop::Asyncio).unwrap().upstream(&prices);
    let threads = lab.installed.flask("threads", Worker::Gthread(4), 1).unwrap().upstream(&prices);
    let services = [loop_.start(lab.path()).unwrap(), threads.start(lab.path()).unwrap()];
    let stop = AtomicBool::new(false);
    let requests = gets("/api/orders", 1, 10_000_000);
    let served = |service: &Service| service.workers().unwrap();
    thread::scope(|scope| {
        let stopping = Stop(&stop);
        let loads: Vec<_> = services
            .iter()
            .map(|service| {
                let plan = Plan::new(service.address(), 4);
                let (requests, stop) = (&requests, &stop);
                scope.spawn(move || loading::run(&plan, requests, stop))
            })
            .collect();
        for number in 0..AGENTS {
            let mut tracing = lab.trace(&[&services[0], &services[1]]);
            wait::until("both are followed", PATIENCE, || {
                // One that is only beginning may take longer to answer than who asks waits.
                let Ok(status) = tracing.agent.status() else { return Ok(None) };
                let processes = serde_json::from_value::<Status>(status)?.processes;
                let exact = |pid: &u32| {
                    processes.iter().any(|process| {
                        u32::try_from(process.pid) == Ok(*pid)
                            && process.context.as_deref() == Some("exact")
                    })
                };
                Ok(services.iter().flat_map(served).all(|pid| exact(&pid)).then_some(()))
            })
            .unwrap();
            if number % 2 == 0 {
                tracing.agent.kill().unwrap();
            } else {
                assert!(tracing.agent.terminate(PATIENCE).unwrap().success());
            }
            fs::remove_dir_all(tracing.file.parent().unwrap()).unwrap();
        }
        drop(stopping);
        for load in loads {
            let report = load.join().unwrap();
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            assert!(report.outcomes.iter().all(|outcome| outcome.status == 200));
            assert!(report.outcomes.len() >= AGENTS, "{} were answered", report.outcomes.len());
        }
    });
    for pid in services.iter().flat_map(served) {
        wait::until("the last probe goes", PATIENCE, || Ok(altered(pid).is_empty().then_some(())))
            .unwrap();
    }
}

/// Workers that end after some requests, and a master that is told to have more of them and fewer: processes come
/// and go all the time, and each call that is placed is under its own request.
#[test]
#[ignore = "long: some hundred forks under load"]
fn workers_that_are_replaced_all_the_time_have_no_wrong_parents() {
    const REQUESTS: usize = 4_000;
    let lab = Lab::new();
    let prices = lab.installed.plain("prices").unwrap().env("OTEL_SERVICE_NAME", "prices");
    let prices = prices.start(lab.path()).unwrap();
    let front = lab.installed.flask("front", Worker::Gthread(4), 2).unwrap();
    let front = front.upstream(&prices).env("OTEL_SERVICE_NAME", "front");
    let front = front.env("GUNICORN_CMD_ARGS", "--max-requests 40 --max-requests-jitter 20");
    let front = front.start(lab.path()).unwrap();
    let tracing = lab.trace(&[&front, &prices]);
    let plan = Plan { keep_alive: false, ..Plan::new(front.address(), 8) };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopping = Stop(&stop);
        // A worker that ends may reset what it has just accepted: only what was answered counts.
        let loading =
            scope.spawn(|| loading::run(&plan, &gets("/api/orders", 1_000_000, REQUESTS), &stop));
        while !loading.is_finished() {
            for (signal, workers) in [(libc::SIGTTIN, 3), (libc::SIGTTOU, 2)] {
                sys::kill(front.pid(), signal).unwrap();
                wait::until("there are as many workers", PATIENCE, || {
                    let there = front.workers()?.len() == workers;
                    Ok((there || loading.is_finished()).then_some(()))
                })
                .unwrap();
            }
        }
        let report = loading.join().unwrap();
        assert!(report.outcomes.len() * 2 > REQUESTS, "{:?}", report.failures.first());
    });
    // `forest` holds every call's number against its parent's.
    let forest = tracing.forest();
    let placed = forest.of("front", Kind::Client).filter(|span| span.parent.is_some()).count();
    assert!(placed > 0);
}

/// Forbids itself the system calls that no program makes by itself, as strict filters of containers do.
const CONFINE: &str = "
class Filter(ctypes.Structure):
    _fields_ = [('code', ctypes.c_uint16), ('jt', ctypes.c_uint8), ('jf', ctypes.c_uint8), ('k', ctypes.c_uint32)]
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_uint16), ('filter', ctypes.POINTER(Filter))]
# The number is not in 335..424: allowed; else the process is killed.
filters = (Filter * 5)(
    Filter(0x20, 0, 0, 0), Filter(0x35, 0, 2, 335), Filter(0x35, 1, 0, 424),
    Filter(0x06, 0, 0, 0x80000000), Filter(0x06, 0, 0, 0x7fff0000))
program = Program(5, filters)
assert LIBC.prctl(38, 1, 0, 0, 0) == 0
assert LIBC.prctl(22, 2, ctypes.byref(program)) == 0
True";

/// Copies contexts, and has work done by another thread, through the functions that are probed.
const WORK: &str = "
import concurrent.futures, contextvars
for _ in range(1000): contextvars.copy_context()
with concurrent.futures.ThreadPoolExecutor(1) as pool: done = pool.submit(lambda: 7).result()
done";

#[test]
fn a_process_under_a_strict_seccomp_filter_lives() {
    let lab = Lab::new();
    let mut script = Script::start("confined").unwrap();
    assert_eq!(script.run(WORK).unwrap(), json!(7));
    assert_eq!(script.run(CONFINE).unwrap(), json!(true));
    let tracing = agent_of(&lab, &script);
    let looked = wait::until("it is looked at", PATIENCE, || {
        let contexts = tracing.status().processes.into_iter().find_map(|process| process.context);
        Ok(contexts.filter(|context| !context.contains("not looked at")))
    })
    .unwrap();
    // Where return probes would kill it, it is refused, and has none.
    if looked == "exact" {
        wait_probed(&script, true);
    }
    assert_eq!(script.run(WORK).unwrap(), json!(7));
    assert_eq!(script.run(WORK).unwrap(), json!(7));
}
