//! Jobs: whose the calls of the threads and processes are that work on them.

use super::*;

/// The process that takes jobs and the thread that does; a child that works on them, and its thread.
const MASTER: u64 = 9;
const READER: u32 = 5;
const CHILD: u64 = 10;
const WORKER: u32 = 7;

/// A job is taken by who works on it, of a kind of which every one is seen to end.
fn take(s: &mut Scenario, id: u64, at_us: u64) {
    taken(s, id, at_us, false);
}

/// A job is taken, by whomever it is worked on.
fn hand_out(s: &mut Scenario, id: u64, at_us: u64) {
    taken(s, id, at_us, true);
}

fn taken(s: &mut Scenario, id: u64, at_us: u64, workers: bool) {
    let mut told = client(id, MASTER, at_us).on(77, id).tid(READER).incidental();
    told.0.receives = true;
    s.start(told);
    s.engine.takes(CallId(id), workers);
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

/// A whole call by the child's own code, under a number.
fn under(s: &mut Scenario, id: u64, context: u64, at_us: u64) {
    let mut told = client(id, CHILD, at_us).tid(WORKER);
    told.0.task.context = context;
    s.start(told);
    s.engine.by_thread(CallId(id));
    s.end(id, at_us + 5);
}

#[test]
fn what_a_child_does_under_a_jobs_number_is_that_jobs_and_what_it_does_under_others_is_not() {
    let mut s = forked();
    // Both are taken before the child begins with the first, which is over before it begins with the second.
    hand_out(&mut s, 1, 100_000);
    hand_out(&mut s, 2, 100_100);
    s.engine.worked_in(CallId(1), ProcessId(CHILD), 71, 110_000_000);
    under(&mut s, 11, 71, 110_100);
    done(&mut s, 1, OTHER, 150_000);
    // Behind its result, too.
    under(&mut s, 12, 71, 150_100);
    // Told late, after a call that was made for it.
    under(&mut s, 21, 72, 160_100);
    s.engine.worked_in(CallId(2), ProcessId(CHILD), 72, 160_000_000);
    // A job that nobody knows.
    under(&mut s, 31, 73, 170_100);
    // One that its taker acknowledged at once, and that nobody says to be done.
    hand_out(&mut s, 4, 171_000);
    s.engine.worked_in(CallId(4), ProcessId(CHILD), 74, 171_500_000);
    s.end(4, 172_000);
    under(&mut s, 41, 74, 173_000);
    done(&mut s, 2, OTHER, 180_000);
    s.tick(LATER);
    s.is_child(11, 1);
    s.is_child(12, 1);
    s.is_child(21, 2);
    s.is_child(41, 4);
    s.is_withheld(31, Withheld::Ambient);
}

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
    hand_out(&mut s, 1, 0);
    hand_out(&mut s, 2, 10);
    begin(&mut s, 1, SELF, Begins::Acknowledged, 100);
    own(&mut s, 11, OTHER, 150);
    begin(&mut s, 2, SELF, Begins::Acknowledged, 200);
    done(&mut s, 1, OTHER, 300);
    // It goes on with the first, or has begun the second.
    own(&mut s, 12, OTHER, 350);
    done(&mut s, 2, (CHILD + 1, 8), 400);
    hand_out(&mut s, 3, 500);
    hand_out(&mut s, 4, 500);
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
fn a_thread_that_says_what_it_begins_is_believed_when_it_says_that_it_is_done() {
    let mut s = forked();
    hand_out(&mut s, 1, 0);
    begin(&mut s, 1, OTHER, Begins::Sure, 100);
    own(&mut s, 11, OTHER, 150);
    done(&mut s, 1, OTHER, 200);
    // Another of which nobody hears that it is done, and what may be for a third that nobody hears of at all.
    hand_out(&mut s, 2, 300);
    begin(&mut s, 2, OTHER, Begins::Sure, 400);
    own(&mut s, 12, OTHER, 450);
    s.tick(LATER);
    s.is_child(11, 1);
    s.is_withheld(12, Withheld::Concurrent);
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
    hand_out(&mut s, 1, 0);
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
    hand_out(&mut s, 1, 0);
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

#[test]
fn a_job_that_was_given_out_twice_is_whose_who_begins_first() {
    let mut s = forked();
    hand_out(&mut s, 1, 0);
    begin(&mut s, 1, OTHER, Begins::Sure, 100);
    begin(&mut s, 1, (CHILD, 99), Begins::Sure, 120);
    own(&mut s, 11, OTHER, 150);
    own(&mut s, 12, (CHILD, 99), 160);
    done(&mut s, 1, OTHER, 200);
    s.tick(LATER);
    s.is_child(11, 1);
    s.is_withheld(12, Withheld::Concurrent);
}

#[test]
fn what_is_done_for_a_job_without_an_end_is_not_the_next_ones() {
    let mut s = Scenario::new();
    // Taken together, after a pause; of the first no end is heard, as of a task whose result isn't kept.
    hand_out(&mut s, 1, 0);
    hand_out(&mut s, 2, 10);
    own(&mut s, 11, SELF, 100);
    begin(&mut s, 2, SELF, Begins::Acknowledged, 200);
    own(&mut s, 12, SELF, 250);
    done(&mut s, 2, SELF, 300);
    s.tick(LATER);
    s.is_withheld(11, Withheld::Concurrent);
    s.is_child(12, 2);
}
