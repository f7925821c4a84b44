//! Which request the code of a CPython process works for.
//!
//! A request gets a number when its first bytes are read. The context that read them has the number, and so
//! has the first context that was made for the connection (some frameworks serve all requests of a
//! connection in one task, which is no descendant of the reader). What is copied from a context gets the
//! number that it has then, and keeps it. Nothing is ever guessed: a read that fails, a context that isn't
//! known, two numbers that disagree are 0.
//!
//! Here is what the socket hooks ask; who runs is `running`'s, and the probes that follow contexts are `probes`.

mod contexts;
mod jobs;
mod own;
mod probes;
mod running;

use aya_ebpf::bindings::BPF_ANY;
use wirespan_ebpf::{PythonKey, SocketState, python_context_flag, python_flag};

use crate::kernel::{self, Object, field};
use crate::maps::{PYTHON_NUMBERS, PYTHON_WRITES, PYTHONS};
use crate::payload::Source;
pub(crate) use running::THREADS_OWN;
use running::{GREENLET, Running, WRITER, fresh, running};

/// Buffers of one write that are looked at.
const MAX_BUFFERS: u64 = 4;

/// A traced CPython process received from a socket that it serves. `begins`: after it had sent, or for the
/// first time. Returns the number of the request whose bytes these are.
#[inline(never)]
pub(crate) fn received(
    task: Object,
    slot: u32,
    state: *mut SocketState,
    begins: bool,
    blocking: bool,
) -> u64 {
    let now_ns = kernel::now_ns();
    let Some(process) = PYTHONS.get_ptr_mut(slot) else { return 0 };
    // SAFETY: map values.
    let number = unsafe {
        if (*state).number == 0 {
            (*state).first_ns = now_ns;
        }
        if begins || (*state).number == 0 {
            (*state).number = fresh(process);
        }
        own::request((*state).own_context, (*state).number);
        (*state).number
    };
    let Some(running) = running(task, slot) else { return number };
    // SAFETY: a map value, which only this thread uses.
    unsafe {
        (*running.thread).pending = 0;
        (*running.thread).bound = 0;
        (*running.thread).seen_ns = now_ns;
        if blocking {
            (*running.thread).number = number;
        }
    }
    if running.context != 0 {
        // SAFETY: a map value.
        let established_ns = unsafe { (*state).connect_ns };
        let first = running.read_request(number, established_ns);
        // SAFETY: a map value.
        unsafe {
            if let Some(first) = first.filter(|_| (*state).own_context == 0) {
                (*state).own_context = first;
                own::request(first, number);
            }
        }
    } else if !blocking {
        // SAFETY: as above.
        unsafe {
            if (*process).flags & python_flag::UVLOOP != 0 {
                (*running.thread).pending = number;
            }
        }
    }
    number
}

/// It received from another socket: what was read before is handled.
#[inline(never)]
pub(crate) fn received_answer(task: Object, slot: u32) {
    let Some(process) = PYTHONS.get_ptr_mut(slot) else { return };
    // SAFETY: a map value.
    if unsafe { (*process).flags } & python_flag::UVLOOP == 0 {
        return;
    }
    if let Some(running) = running(task, slot) {
        // SAFETY: a map value, which only this thread uses.
        unsafe { (*running.thread).pending = 0 };
    }
}

/// It sent `length` bytes of what is at `source`, or could send none. Returns the number of the request for
/// which it did, and leaves in the socket's state the context that it did it in.
///
/// What could not be sent at once is sent later by the event loop, in a context of its own that was made in
/// the middle of some request, and with it whatever others append meanwhile. So who sends the rest, and did
/// not give it to be sent, is the loop's writer from then on, and nobody's.
#[inline(never)]
pub(crate) fn sent(
    task: Object,
    slot: u32,
    state: *mut SocketState,
    source: &Source,
    length: u64,
) -> u64 {
    // SAFETY: a map value.
    unsafe { (*state).context = 0 };
    let Some(running) = running(task, slot) else { return 0 };
    let (mut number, mut context, mut address) = deferred(task, &running, source);
    if number == 0 && context == 0 {
        (number, context) = running.number_and_context();
        address = running.context;
    }
    // SAFETY: map values.
    let inbound = unsafe {
        // uvloop runs some of its own outside of any context.
        let own = running.context == 0 && (*running.process).flags & python_flag::UVLOOP == 0;
        (*state).context = if own { THREADS_OWN } else { context };
        (*state).inbound != 0
    };
    // SAFETY: a map value.
    if inbound && context != 0 && unsafe { (*running.process).flags } & python_flag::UVLOOP != 0 {
        own::answered(address, context, &running, state);
    }
    if inbound && running.context & GREENLET != 0 {
        // A greenlet ends unseen, and its stack becomes another's: what it read is forgotten when it answers.
        contexts::forget(running.context, running.generation);
    }
    let asked = source.one_length();
    // SAFETY: map values; a socket is sent to by one thread at a time, and two can only withhold too much.
    unsafe {
        if (*state).clogged == 0 && asked <= length {
            return number;
        }
        let mut rest = asked.saturating_sub(length);
        if (*state).clogged != 0 && context != (*state).rest_context {
            if context != 0 {
                _ = PYTHON_NUMBERS.insert(context, WRITER, u64::from(BPF_ANY));
                if let Some(known) = running.known()
                    && known.id == context
                {
                    (*known.place()).flags |= python_context_flag::WRITES_FOR_OTHERS;
                }
            }
            let left = (*state).rest_bytes;
            number = if length <= left { (*state).rest_number } else { 0 };
            rest = left.saturating_sub(length);
            // Whose the bytes are stays as it was.
        } else {
            (*state).rest_number = number;
            (*state).rest_context = context;
        }
        (*state).rest_bytes = rest;
        (*state).clogged = u8::from(asked > length);
    }
    number
}

/// Whose the bytes are that an older uvloop writes at the end of the loop's turn, and in which context, at
/// which address, they were given to it; 0 where buffers of several requests go out at once.
#[inline(always)]
fn deferred(task: Object, running: &Running, source: &Source) -> (u64, u64, u64) {
    // SAFETY: a map value.
    if unsafe { (*running.process).flags } & python_flag::DEFERRED_WRITES == 0 {
        return (0, 0, 0);
    }
    let task: u32 = field!(task, task_pid);
    let (mut number, mut context, mut place) = (0, 0, 0);
    let mut index = 0;
    while index < MAX_BUFFERS {
        let Some(address) = source.buffer(index) else { break };
        let key = PythonKey { address, task, reserved: 0 };
        let mut one = 0;
        let mut within = 0;
        let mut at = 0;
        if let Some(found) = PYTHON_WRITES.get_ptr_mut(key) {
            // SAFETY: a map value.
            unsafe {
                // What was not written at the end of its turn never was, by this way.
                let turns = (*running.thread).turn.wrapping_sub((*found).turn);
                if (*found).generation == running.generation && turns <= 1 {
                    one = (*found).number;
                    within = (*found).context;
                    at = (*found).address;
                }
            }
            _ = PYTHON_WRITES.remove(key);
        }
        if index > 0 && one != number {
            return (0, 0, 0);
        }
        number = one;
        context = within;
        place = at;
        index += 1;
    }
    if source.buffers() > MAX_BUFFERS { (0, 0, 0) } else { (number, context, place) }
}
