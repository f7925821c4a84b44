//! Jobs: whose the calls of the threads and processes are that work on them.

use super::*;

/// The process that takes jobs and the thread that does; a child that works on them, and its thread.
const MASTER: u64 = 9;
const READER: u32 = 5;
const CHILD: u64 = 10;
const WORKER: u32 = 7;

/// A job is taken.
fn take(s: &mut Scenario, id: u64, at_us: u64) {
    let mut told = client(id, MASTER, at_us).on(77, id).tid(READER).incidental();
    told.0.receives = true;
    s.start(told);
    s.engine.takes(CallId(id), true);
}

/// Somebody says that it begins with a job.
fn begin(s: &mut Scenario, id: u64, (process, tid): (u64, u32), begins: Begins, at_us: u64) {
    s.engine.works(ProcessId(process), tid, CallId(id), begins, at_us * 1_000);
}

/// Who worked on a job says that it is done.
fn done(s: &mut Scenario, id: u64, (process, tid): (u64, u32), at_us: u64) {
    s.engine.worked(ProcessId(process), tid, CallId(id), at_us * 1_000);
    s.end(id, at_us);
}

/// A whole call by a thread's own code.
fn own(s: &mut Scenario, id: u64, (process, tid): (u64, u32), at_us: u64) {
    s.start(client(id, process, at_us).tid(tid));
    s.engine.by_thread(CallId(id));
    s.end(id, at_us + 5);
}

/// Another process, which the one that takes jobs forked.
fn forked() -> Scenario {
    let mut s = Scenario::new();
    s.engine.process_started(ProcessId(MASTER));
    s.engine.forked(ProcessId(CHILD), ProcessId(MASTER));
    s
}

const SELF: (u64, u32) = (MASTER, READER);
const OTHER: (u64, u32) = (CHILD, WORKER);

#[test]
fn what_a_thread_does_for_a_job_that_it_took_and_settles_is_that_jobs() {
    let mut s = Scenario::new();
    for id in 1..4 {
        let at = id * 100_000;
        take(&mut s, id, at);
        own(&mut s, 10 + id, SELF, at + 10);
        done(&mut s, id, SELF, at + 50_000);
    }
    s.tick(LATER);
    (1..4).for_each(|id| s.is_child(10 + id, id));
}

#[test]
fn one_that_takes_longer_than_the_look_ahead_is_waited_for() {
    let mut s = Scenario::new();
    take(&mut s, 1, 0);
    own(&mut s, 11, SELF, 10);
    s.tick(5_000_000);
    assert!(!s.placed.contains_key(&11));
    done(&mut s, 1, SELF, 6_000_000);
    s.tick(LATER);
    s.is_child(11, 1);
}

#[test]
fn one_of_which_nothing_more_is_heard_is_withheld() {
    let mut s = Scenario::new();
    take(&mut s, 1, 0);
    own(&mut s, 11, SELF, 10);
    s.tick(20_000_000);
    s.is_withheld(11, Withheld::Concurrent);
    take(&mut s, 2, 20_000_000);
    own(&mut s, 12, SELF, 20_000_010);
    s.tick(20_500_000).flush();
    s.is_withheld(12, Withheld::Lost);
}

#[test]
fn who_takes_several_before_it_works_on_them_is_doubted() {
    let mut s = Scenario::new();
    take(&mut s, 1, 0);
    s.end(1, 50);
    take(&mut s, 2, 50);
    own(&mut s, 102, SELF, 100);
    done(&mut s, 2, SELF, 200);
    // Eight that it took and settled later it is believed again.
    for id in 3..=12 {
        let at = id * 5_000_000;
        take(&mut s, id, at);
        own(&mut s, 100 + id, SELF, at + 10);
        done(&mut s, id, SELF, at + 50_000);
        s.tick(at + 4_000_000);
    }
    s.tick(LATER);
    s.is_withheld(102, Withheld::Concurrent);
    s.is_withheld(103, Withheld::Concurrent);
    s.is_child(112, 12);
}

#[test]
fn a_child_works_on_what_it_settles_once_that_was_acknowledged() {
    let mut s = forked();
    take(&mut s, 1, 0);
    take(&mut s, 2, 10);
    begin(&mut s, 1, SELF, Begins::Acknowledged, 100);
    own(&mut s, 11, OTHER, 150);
    begin(&mut s, 2, SELF, Begins::Acknowledged, 200);
    done(&mut s, 1, OTHER, 300);
    // It goes on with the first, or has begun the second.
    own(&mut s, 12, OTHER, 350);
    done(&mut s, 2, (CHILD + 1, 8), 400);
    take(&mut s, 3, 500);
    take(&mut s, 4, 500);
    own(&mut s, 13, OTHER, 550);
    begin(&mut s, 3, SELF, Begins::Acknowledged, 600);
    own(&mut s, 14, OTHER, 650);
    done(&mut s, 3, OTHER, 700);
    s.tick(LATER);
    s.is_child(11, 1);
    s.is_withheld(12, Withheld::LateWork);
    s.is_withheld(13, Withheld::Concurrent);
    s.is_child(14, 3);
}

#[test]
fn what_shows_no_acknowledgement_counts_once_nothing_followed_eight_settlements() {
    let mut s = forked();
    for id in 1..=10 {
        let at = id * 100_000;
        take(&mut s, id, at);
        own(&mut s, 100 + id, OTHER, at + 10);
        done(&mut s, id, OTHER, at + 50_000);
        s.tick(at + 99_000);
    }
    s.tick(5_000_000);
    // Asked when it had been seen twice, or by then.
    s.is_withheld(101, Withheld::Concurrent);
    take(&mut s, 11, 5_000_000);
    own(&mut s, 111, OTHER, 5_000_010);
    done(&mut s, 11, OTHER, 5_100_000);
    s.tick(7_000_000);
    s.is_child(111, 11);
    // One that goes on after its settlement ends that.
    own(&mut s, 200, OTHER, 7_000_000);
    take(&mut s, 12, 7_500_000);
    own(&mut s, 112, OTHER, 7_500_010);
    done(&mut s, 12, OTHER, 7_600_000);
    s.tick(LATER);
    s.is_withheld(200, Withheld::LateWork);
    s.is_withheld(112, Withheld::Concurrent);
}

#[test]
fn a_thread_that_says_what_it_begins_need_not_end_it_first() {
    let mut s = forked();
    take(&mut s, 1, 0);
    begin(&mut s, 1, OTHER, Begins::Sure, 100);
    own(&mut s, 11, OTHER, 150);
    s.tick(2_000_000);
    s.end(1, 60_000_000).tick(LATER);
    s.is_child(11, 1);
}

#[test]
fn of_several_begun_on_one_thread_none_is_certain() {
    let mut s = Scenario::new();
    take(&mut s, 1, 0);
    take(&mut s, 2, 10);
    begin(&mut s, 1, SELF, Begins::Acknowledged, 100);
    begin(&mut s, 2, SELF, Begins::Acknowledged, 110);
    own(&mut s, 11, SELF, 150);
    done(&mut s, 2, SELF, 200);
    own(&mut s, 12, SELF, 250);
    done(&mut s, 1, SELF, 300);
    s.tick(LATER);
    s.is_withheld(11, Withheld::Concurrent);
    s.is_child(12, 1);
}

#[test]
fn all_that_a_process_does_that_was_forked_for_a_job_is_that_jobs() {
    let mut s = forked();
    take(&mut s, 1, 0);
    begin(&mut s, 1, OTHER, Begins::Alone, 100);
    // On another thread, which nothing is known of.
    s.run(client(11, CHILD, 150).tid(99), 160);
    done(&mut s, 1, OTHER, 200);
    own(&mut s, 12, OTHER, 250);
    s.tick(LATER);
    s.is_child(11, 1);
    s.is_child(12, 1);
}

#[test]
fn what_other_threads_of_workers_do_is_withheld_and_what_others_do_is_not() {
    let mut s = forked();
    take(&mut s, 1, 0);
    s.run(client(11, CHILD, 150).tid(99), 160);
    s.run(client(12, 33, 150), 160);
    done(&mut s, 1, OTHER, 200);
    s.tick(LATER);
    s.is_withheld(11, Withheld::Concurrent);
    s.is_alone(12, ParentStatus::Root);
}

#[test]
fn after_a_loss_a_workers_calls_are_withheld() {
    let mut s = Scenario::new();
    take(&mut s, 1, 0);
    own(&mut s, 11, SELF, 10);
    s.engine.messages_lost(ProcessId(MASTER), 20_000);
    done(&mut s, 1, SELF, 50);
    // It may have taken another before, unseen, and work on that.
    take(&mut s, 2, 30_000);
    own(&mut s, 12, SELF, 30_010);
    done(&mut s, 2, SELF, 40_000);
    s.tick(LATER);
    s.is_withheld(11, Withheld::Lost);
    s.is_withheld(12, Withheld::Concurrent);
}
