//! Which job a child of a pool works on.
//!
//! Celery's worker takes jobs and gives each to a child that it has forked, through a pipe. The child unpickles
//! what it reads there (billiard's `pickle_loads`, by way of a `BytesIO`). From then on its thread works under a
//! number, which calls have as they have a request's; the job's beginning goes to user space with the number, to be
//! read there.
//!
//! Emits: [`JobRecord`].

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use wirespan_ebpf::{JOB_BYTES, JobRecord, RecordKind};

use super::probes::keeps_its_stack;
use super::running::{fresh, running_here};
use crate::kernel::{self, add};
use crate::payload;
use crate::ring;

/// Where a `BytesIO` has its buffer, the position and the size (`Modules/_io/bytesio.c`), and where `bytes` have
/// their content.
const BUFFER: u64 = 16;
const CONTENT: u64 = 32;

/// What a pickle of protocol 4 or 5 begins with, and then the frame's length.
const PICKLE: u8 = 0x80;

/// The beginning of the name of the module whose function works on a job, and where it may begin: before it is the
/// job's number in its pool, of one, two or four bytes.
const MODULE: u64 = u64::from_ne_bytes(*b"celery.a");
const PLACES: core::ops::Range<usize> = 17..24;

/// `_pickle.load(file, ...)`: the module, the positional arguments, their number, ...
#[uprobe]
fn python_job_loaded(ctx: ProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    let arguments: u64 = ctx.arg(1).unwrap_or(0);
    let file: u64 = payload::probe_user(arguments).unwrap_or(0);
    let Some([buffer, position, size]) = payload::probe_user::<[u64; 3]>(file.wrapping_add(BUFFER))
    else {
        return 0;
    };
    if position != 0 || size < JOB_BYTES_LEAST {
        return 0;
    }
    job(buffer.wrapping_add(CONTENT), size);
    0
}

/// No job is shorter.
const JOB_BYTES_LEAST: u64 = 64;

#[inline(always)]
fn job(content: u64, size: u64) {
    let task = kernel::current();
    let Some(slot) = kernel::task_slot(task) else { return };
    let mut record = JobRecord {
        kind: RecordKind::JOB.0,
        reserved: 0,
        slot,
        timestamp_ns: 0,
        number: 0,
        content: [0; JOB_BYTES],
    };
    let size = kernel::opaque(if size < JOB_BYTES as u64 { size } else { JOB_BYTES as u64 });
    if size > JOB_BYTES as u64
        || !payload::read_user(record.content.as_mut_ptr(), size, content)
        || record.content[0] != PICKLE
        || !is_celerys(&record.content)
    {
        return;
    }
    let Some(running) = running_here(task) else { return };
    record.number = fresh(running.process);
    record.timestamp_ns = kernel::now_ns();
    // SAFETY: a map value, which only this thread uses.
    unsafe { (*running.thread).number = record.number };
    // What it does for a job that nobody hears of is under a number that nobody knows.
    if !ring::output(0, &raw const record, size_of::<JobRecord>())
        && let Some(entry) = kernel::process(slot)
    {
        // SAFETY: a map value's counter.
        add(unsafe { &raw mut (*entry).dropped_records }, 1);
    }
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
