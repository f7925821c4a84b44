//! Who is traced does not depend on luck: many forks at once, or processes that come, change and go while
//! the kernel has no room to tell of them, are found out.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::capture::{Bench, Script, python, unique};
use crate::common::lab::distinct;
use wirespan::books::Status;
use wirespan_tests::spans::CLIENT;
use wirespan_tests::sys;

/// Children that wait until they are released, then ask a place, each over a connection of its own, or
/// become another program.
const CHILDREN: &str = "
import signal

def fork(count, place=None, program=None):
    global gate
    ready, gate = os.pipe()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(gate)
            os.read(ready, 1)
            if program:
                os.execvp(program[0], program)
            if place:
                sock = connect(place)
                send_all(sock, request('/from/%d' % os.getpid()))
                Reader(sock).message()
            os._exit(0)
        pids.append(pid)
    os.close(ready)
    return pids

def release():
    os.close(gate)

def wait(pids):
    return [os.waitpid(pid, 0)[1] for pid in pids]

def serve(listener, count):
    for _ in range(count):
        sock = accept(listener)
        Reader(sock).message()
        send_all(sock, response())
        sock.close()

def flood(count):
    a, b = socket.socketpair()
    for _ in range(count):
        a.send(b'x' * 1000)
        b.recv(1000)
None
";

fn pids(value: &Value) -> BTreeSet<i32> {
    distinct(
        value.as_array().unwrap().iter().map(|pid| i32::try_from(pid.as_i64().unwrap()).unwrap()),
    )
}

fn traced(status: &Status) -> BTreeSet<i32> {
    distinct(status.processes.iter().map(|process| process.pid))
}

fn pid(script: &Script) -> i32 {
    script.pid().cast_signed()
}

fn traces(bench: &Bench, wanted: &BTreeSet<i32>) -> Status {
    bench.until(&format!("these are traced: {wanted:?}"), |status| traced(status) == *wanted)
}

fn with(set: &BTreeSet<i32>, more: &BTreeSet<i32>) -> BTreeSet<i32> {
    set.union(more).copied().collect()
}

#[test]
fn a_hundred_children_forked_before_the_agent_came_round_are_all_traced() {
    const COUNT: usize = 100;
    let bench = Bench::start(&unique("forks"), &[]);
    let (mut parent, mut server) = (bench.script("parent"), bench.script("server"));
    parent.run(CHILDREN).unwrap();
    server.run(CHILDREN).unwrap();
    let place = server.run("listener, place = listen(); place").unwrap();

    sys::kill(bench.agent.pid(), libc::SIGSTOP).unwrap();
    let children = parent.run(&format!("children = fork({COUNT}, {}); children", python(&place)));
    sys::kill(bench.agent.pid(), libc::SIGCONT).unwrap();
    let children = pids(&children.unwrap());
    assert_eq!(children.len(), COUNT);
    let both: BTreeSet<i32> = [pid(&parent), pid(&server)].into();
    let status = traces(&bench, &with(&both, &children));
    assert!(status.forks_late > 0, "more than there are slots: {status:#?}");
    assert_eq!(status.processes_failed, 0);

    server.begin(&format!("serve(listener, {COUNT})")).unwrap();
    let ended = parent.run("release(); wait(children)").unwrap();
    server.finish().unwrap();
    assert!(ended.as_array().unwrap().iter().all(|status| status == 0), "{ended}");
    traces(&bench, &both);
    bench.settled(0);
    let spans = bench.spans();
    let asked = spans.iter().filter(|span| span.kind == CLIENT);
    let askers = distinct(asked.map(|span| {
        assert_eq!(span.path(), format!("/from/{}", span.pid));
        i32::try_from(span.pid).unwrap()
    }));
    assert_eq!(askers, children);
}

#[test]
fn who_is_traced_is_found_out_again_when_process_records_were_lost() {
    let tag = unique("lost");
    let bench = Bench::start(&tag, &["--ring-bytes=4096"]);
    let mut parent = bench.script("parent");
    parent.run(CHILDREN).unwrap();
    let mut changing = bench.script("changing");
    changing.run(CHILDREN).unwrap();
    let mut ending = bench.script("ending");
    ending.run(CHILDREN).unwrap();
    let changes =
        pids(&changing.run("children = fork(1, None, ['sleep', '1000']); children").unwrap());
    let ends = pids(&ending.run("children = fork(5); children").unwrap());
    let scripts: BTreeSet<i32> = [pid(&parent), pid(&changing), pid(&ending)].into();
    traces(&bench, &with(&with(&scripts, &changes), &ends));

    sys::kill(bench.agent.pid(), libc::SIGSTOP).unwrap();
    // From here on the ring is full: nothing is told of any of this.
    parent.run("flood(1000)").unwrap();
    let children = pids(&parent.run("children = fork(100); children").unwrap());
    changing.run("release()").unwrap();
    ending.run("release(); wait(children)").unwrap();
    let new = Script::start(&format!("{tag}-new")).unwrap();
    sys::kill(bench.agent.pid(), libc::SIGCONT).unwrap();

    let living = with(&scripts, &[pid(&new)].into());
    let status = traces(&bench, &with(&living, &children));
    assert!(status.recoveries > 0 && status.total.kernel.operations_dropped > 0, "{status:#?}");
    parent.run("release(); wait(children)").unwrap();
    let before = traces(&bench, &living);

    // Forks go on being traced from their first instruction: there are slots for them.
    for _ in 0..4 {
        let children = pids(&parent.run("children = fork(30); children").unwrap());
        traces(&bench, &with(&living, &children));
        parent.run("release(); wait(children)").unwrap();
        traces(&bench, &living);
    }
    let after = bench.settled(0);
    assert_eq!(after.forks_late, before.forks_late);
    assert_eq!(after.processes_failed, 0);
}
