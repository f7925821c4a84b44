//! Which job a child of a pool works on.
//!
//! Celery's worker takes jobs and gives each to a child that it has forked, through a pipe. The child unpickles
//! what it reads there (billiard's `pickle_loads`, by way of a `BytesIO`). From then on, until it says what became of
//! the job, its thread works under a number, which calls have as they have a request's; the job's beginning goes to
//! user space with the number, to be read there.
//!
//! Emits: [`JobRecord`].

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use wirespan_ebpf::{JOB_BYTES, JobRecord, RecordKind};

use super::probes::keeps_its_stack;
use super::running::{fresh, running_here, thread_of};
use crate::kernel::{self, Object, add};
use crate::payload;
use crate::ring;

/// Where a `BytesIO` has its buffer, the position and the size (`Modules/_io/bytesio.c`), and where `bytes` have
/// their content.
const BUFFER: u64 = 16;
const CONTENT: u64 = 32;

/// Where a tuple has its size and its items, and an `int` its first digit.
const SIZE: u64 = 16;
const DIGIT: u64 = 24;

/// billiard's `READY` (`billiard/pool.py`): a child says, with what became of it, that it is done with a job.
const READY: u32 = 1;

/// What a pickle of protocol 4 or 5 begins with; then its protocol, and the frame's length.
const PICKLE: u8 = 0x80;

/// In a pickle: a tuple of two or more begins, the first being the number 2, billiard's `TASK`, and the second a
/// tuple as well.
const TASK: [u8; 3] = *b"K\x02(";
const TASK_AT: usize = 11;

/// The beginning of the name of the module whose function works on a job, and where it may begin: before it is the
/// job's number in its pool, of one, two or four bytes.
const MODULE: u64 = u64::from_ne_bytes(*b"celery.a");
const PLACES: core::ops::Range<usize> = 17..24;

/// No job is shorter.
const LEAST: u64 = 64;

/// `_pickle.load(file, ...)`: the module, the positional arguments, their number, ...
#[uprobe]
fn python_job_loaded(ctx: ProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    let task = kernel::current();
    let arguments: u64 = ctx.arg(1).unwrap_or(0);
    if begins(task, arguments).is_none() {
        // What is loaded can't be told: it may be a job.
        works_on_nothing(task);
    }
    0
}

/// `Pickler.dump(self, object)`: a child tells what became of a job by a tuple of two.
#[uprobe]
fn python_job_done(ctx: ProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    let object: u64 = ctx.arg(1).unwrap_or(0);
    let Some([size, first]) = payload::probe_user::<[u64; 2]>(object.wrapping_add(SIZE)) else {
        return 0;
    };
    if size == 2 && payload::probe_user::<u32>(first.wrapping_add(DIGIT)) == Some(READY) {
        works_on_nothing(kernel::current());
    }
    0
}

/// What the thread does from now on is no job's.
#[inline(always)]
fn works_on_nothing(task: Object) {
    let thread = thread_of(task, 0);
    if !thread.is_null() {
        // SAFETY: a map value, which only this thread uses.
        unsafe {
            if (*thread).jobs != 0 {
                (*thread).number = 0;
            }
        }
    }
}

/// If a job is loaded, the thread works under its number from now on. `None`: it can't be told.
#[inline(always)]
fn begins(task: Object, arguments: u64) -> Option<()> {
    let file: u64 = payload::probe_user(arguments)?;
    let [buffer, position, size] = payload::probe_user::<[u64; 3]>(file.wrapping_add(BUFFER))?;
    if position != 0 || size < LEAST {
        return Some(());
    }
    let mut record = JobRecord {
        kind: RecordKind::JOB.0,
        reserved: 0,
        slot: kernel::task_slot(task)?,
        timestamp_ns: 0,
        number: 0,
        content: [0; JOB_BYTES],
    };
    let size = kernel::opaque(if size < JOB_BYTES as u64 { size } else { JOB_BYTES as u64 });
    if size > JOB_BYTES as u64
        || !payload::read_user(record.content.as_mut_ptr(), size, buffer.wrapping_add(CONTENT))
    {
        return None;
    }
    let [first, second, third] = TASK;
    if record.content[0] != PICKLE
        || record.content[TASK_AT] != first
        || record.content[TASK_AT + 1] != second
        || record.content[TASK_AT + 2] != third
    {
        return Some(());
    }
    if !is_celerys(&record.content) {
        return None;
    }
    let running = running_here(task)?;
    record.number = fresh(running.process);
    record.timestamp_ns = kernel::now_ns();
    // SAFETY: a map value, which only this thread uses.
    unsafe {
        (*running.thread).jobs = 1;
        (*running.thread).number = record.number;
    }
    // What it does for a job that nobody hears of is under a number that nobody knows.
    if !ring::output(0, &raw const record, size_of::<JobRecord>())
        && let Some(entry) = kernel::process(record.slot)
    {
        // SAFETY: a map value's counter.
        add(unsafe { &raw mut (*entry).dropped_records }, 1);
    }
    Some(())
}

#[inline(always)]
fn is_celerys(content: &[u8; JOB_BYTES]) -> bool {
    let mut at = PLACES.start;
    while at < PLACES.end {
        // SAFETY: within the content.
        let word = unsafe { content.as_ptr().add(at).cast::<u64>().read_unaligned() };
        if word == MODULE {
            return true;
        }
        at += 1;
    }
    false
}
