//! Which request the code of a CPython process works for.
//!
//! Attached per process, by user space, to: the return of `PyContext_CopyCurrent` and of what else makes a
//! context; `_queue.SimpleQueue`'s `put`, `get` and `get_nowait`; in processes with uvloop `uv__run_check`
//! and, up to 0.22.1, its `write` and `writelines`. Emits nothing: the socket hooks ask [`received`] and
//! [`sent`], and the answer goes into `OperationRecord::context`.
//!
//! A request gets a number when its first bytes are read. The context that read them has the number, and so
//! has the first context that was made for the connection (some frameworks serve all requests of a
//! connection in one task, which is no descendant of the reader). What is copied from a context gets the
//! number that it has then, and keeps it. Nothing is ever guessed: a read that fails, a context that isn't
//! known, two numbers that disagree are 0.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, BPF_LOCAL_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated as helper;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use wirespan_ebpf::{
    ANCESTORS, KernelFields, PythonAncestor, PythonContext, PythonHandover, PythonKey,
    PythonProcess, PythonThread, RUNTIME_PYTHON, SocketState, python_flag,
};

use crate::kernel::{self, Object, field, offset};
use crate::maps::{PYTHON_CONTEXTS, PYTHON_ITEMS, PYTHON_NUMBERS, PYTHON_WRITES, PYTHONS, THREADS};
use crate::payload::{self, Source};

/// A context that has this is the loop's writer: it sends what others left. Nothing is told of it.
const WRITER: u64 = u64::MAX;

/// What runs is known by its greenlet's stack, not by a context.
const GREENLET: u64 = 1 << 63;

/// Pieces of a stack that are looked at: the first has 16 KiB, some hundred frames.
const MAX_PIECES: u32 = 32;

/// Thread states that are looked at.
const MAX_THREADS: u32 = 512;

/// A thread that isn't Python's is not looked for again for so long.
const RETRY_NS: u64 = 100_000_000;

/// Buffers of one write that are looked at.
const MAX_BUFFERS: u64 = 4;

/// `Py_TPFLAGS_LIST_SUBCLASS`, `_TUPLE_SUBCLASS`, `_BYTES_SUBCLASS` (Include/object.h).
const LIST: u64 = 1 << 25;
const TUPLE: u64 = 1 << 26;
const BYTES: u64 = 1 << 27;

/// Not one of CPython's: the type's objects have items of their own.
const ITEMS: u64 = 1;

/// The running code.
#[derive(Clone, Copy)]
struct Running {
    process: *mut PythonProcess,
    thread: *mut PythonThread,
    /// The process's [`PythonProcess::generation`].
    generation: u32,
    tgid: u32,
    /// Address of the context that it entered; or of its greenlet's first piece of stack, and [`GREENLET`]; 0:
    /// neither.
    context: u64,
}

/// What runs; `None` where that can't be told.
#[inline(always)]
fn running(task: Object, slot: u32) -> Option<Running> {
    let process = PYTHONS.get_ptr_mut(slot)?;
    // SAFETY: `task` is the running task by the verifier's types.
    let thread = unsafe {
        helper::bpf_task_storage_get(
            THREADS.as_ptr(),
            task.cast_mut().cast(),
            core::ptr::null_mut(),
            u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
        )
    }
    .cast::<PythonThread>();
    if thread.is_null() {
        return None;
    }
    // SAFETY: map values.
    let generation = unsafe { (*process).generation };
    // SAFETY: as above.
    if unsafe { (*thread).generation } != generation {
        let new = PythonThread {
            state: 0,
            retry_ns: 0,
            number: 0,
            pending: 0,
            bound: 0,
            generation,
            turn: 0,
        };
        // SAFETY: as above; only the thread itself gets here.
        unsafe { *thread = new };
    }
    let state = thread_state(task, process, thread)?;
    // SAFETY: as above.
    let (at, entered_at) = unsafe { ((*process).context, (*process).entered) };
    let mut context: u64 = payload::probe_user(state.wrapping_add(u64::from(at)))?;
    if context != 0 {
        // A thread's own context, which nobody entered, is made anew at addresses that were others' before.
        let entered: u32 = payload::probe_user(context.wrapping_add(u64::from(entered_at)))?;
        if entered != 1 {
            context = 0;
        }
    }
    if context == 0 {
        context = greenlet(process, state);
    }
    Some(Running { process, thread, generation, tgid: field!(task, task_tgid), context })
}

/// A greenlet has frames of its own, and so a stack of its own: the first piece of it stands for the greenlet,
/// tagged. 0: no greenlets run here, or it can't be told.
#[inline(always)]
fn greenlet(process: *mut PythonProcess, state: u64) -> u64 {
    // SAFETY: a map value.
    let frames = unsafe { (*process).frames };
    if frames == 0 {
        return 0;
    }
    match python_first_piece(state.wrapping_add(u64::from(frames))) {
        0 => 0,
        piece => piece | GREENLET,
    }
}

/// Follows the pieces of a stack (`_PyStackChunk`, whose first member is the one before) to the first. 0: it
/// can't be read, or is too long. For the verifier a function of its own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_first_piece(newest: u64) -> u64 {
    let mut piece = payload::probe_user::<u64>(newest).unwrap_or(0);
    let mut looked = 0;
    while looked < MAX_PIECES && piece != 0 {
        match payload::probe_user::<u64>(piece) {
            Some(0) => return piece,
            Some(before) => piece = before,
            None => return 0,
        }
        looked += 1;
    }
    0
}

/// The thread's `PyThreadState`. The interpreter's own notion of the current one is of no use: whoever is in
/// a system call has given it up.
#[inline(always)]
fn thread_state(
    task: Object,
    process: *mut PythonProcess,
    thread: *mut PythonThread,
) -> Option<u64> {
    if offset!(task_fsbase) == KernelFields::ABSENT {
        return None;
    }
    let id: u64 = field!(task, task_fsbase);
    // SAFETY: map values.
    let (known, at) = unsafe { ((*thread).state, u64::from((*process).thread_id)) };
    if known != 0 && payload::probe_user::<u64>(known.wrapping_add(at)) == Some(id) {
        return Some(known);
    }
    let now = kernel::now_ns();
    // SAFETY: as above.
    if unsafe { (*thread).retry_ns } > now {
        return None;
    }
    // SAFETY: as above.
    let found = unsafe {
        python_find_thread(
            (*process).interpreters,
            u64::from((*process).threads),
            u64::from((*process).next),
            at,
            id,
        )
    };
    // SAFETY: as above.
    unsafe {
        (*thread).state = found;
        (*thread).retry_ns = if found == 0 { now + RETRY_NS } else { 0 };
    }
    (found != 0).then_some(found)
}

/// Walks the interpreter's threads for the one with this identity. 0: it is none of them, or there is more than
/// one interpreter. A function of its own for the verifier, which looks at it once and not at each call.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_find_thread(heads: u64, threads: u64, next: u64, at: u64, id: u64) -> u64 {
    let Some([head, main]) = payload::probe_user::<[u64; 2]>(heads) else { return 0 };
    // The list's head is the newest.
    if head == 0 || head != main {
        return 0;
    }
    let mut state = payload::probe_user::<u64>(head.wrapping_add(threads)).unwrap_or(0);
    let mut looked = 0;
    while looked < MAX_THREADS && state != 0 {
        if payload::probe_user::<u64>(state.wrapping_add(at)) == Some(id) {
            return state;
        }
        state = payload::probe_user::<u64>(state.wrapping_add(next)).unwrap_or(0);
        looked += 1;
    }
    0
}

/// A number that was never given out before: user space lets each process's begin elsewhere.
#[inline(always)]
fn fresh(process: *mut PythonProcess) -> u64 {
    let mut number: u64 = 1;
    // SAFETY: an aligned member of a map value, which the verifier checks. For this target core offers no
    // `fetch_add`.
    unsafe {
        core::arch::asm!(
            "{number} = atomic_fetch_add((u64 *)({counter} + 0), {number})",
            number = inout(reg) number,
            counter = in(reg) &raw mut (*process).numbered,
            options(nostack),
        );
    }
    number + 1
}

impl Running {
    /// What the running code hands on.
    #[inline(always)]
    fn handover(&self) -> PythonHandover {
        // SAFETY: a map value.
        let turn = unsafe { (*self.thread).turn };
        let (number, context) = self.number_and_context();
        PythonHandover { number, context, generation: self.generation, turn }
    }

    #[inline(always)]
    fn key(&self, address: u64) -> PythonKey {
        PythonKey { address, task: self.tgid, reserved: 0 }
    }

    /// What is known of the context that runs.
    #[inline(always)]
    fn known(&self) -> Option<*mut PythonContext> {
        if self.context == 0 {
            return None;
        }
        let known = PYTHON_CONTEXTS.get_ptr_mut(self.key(self.context))?;
        // SAFETY: a map value.
        (unsafe { (*known).generation } == self.generation).then_some(known)
    }

    /// The request that the running code works for, and the number of the context that it runs in; 0: none, or
    /// none that is known.
    #[inline(always)]
    fn number_and_context(&self) -> (u64, u64) {
        let known = self.known();
        // SAFETY: a map value.
        let context = known.map_or(0, |known| unsafe { (*known).id });
        (self.number(known), context)
    }

    /// The request that the running code works for; 0: none, or none that is known. `known`: what is known of
    /// the running context.
    #[inline(always)]
    fn number(&self, known: Option<*mut PythonContext>) -> u64 {
        if self.context == 0 {
            // SAFETY: a map value.
            return unsafe { (*self.thread).number };
        }
        // SAFETY: a map value, which only this thread uses.
        unsafe {
            if (*self.thread).pending != 0 {
                if (*self.thread).bound == 0 {
                    (*self.thread).bound = self.context;
                }
                if (*self.thread).bound == self.context {
                    return (*self.thread).pending;
                }
                (*self.thread).pending = 0;
            }
        }
        match known {
            Some(known) => number_of(known),
            None => 0,
        }
    }

    /// Gives the running context the number of a request that it has just read.
    #[inline(always)]
    fn read_request(&self, number: u64, established_ns: u64) {
        let known = match self.known() {
            Some(known) => known,
            None => {
                // It is older than the probes. Who made it is not known.
                let new = PythonContext {
                    id: fresh(self.process),
                    made_ns: 0,
                    inherited: 0,
                    generation: self.generation,
                    depth: 0,
                    ancestors: [PythonAncestor { id: 0, made_ns: 0 }; ANCESTORS],
                };
                let key = self.key(self.context);
                if PYTHON_CONTEXTS.insert(key, new, u64::from(BPF_ANY)).is_err() {
                    return;
                }
                match self.known() {
                    Some(known) => known,
                    None => return,
                }
            }
        };
        // SAFETY: a map value.
        let id = unsafe { (*known).id };
        // A failure leaves the number of the request before: then the context has none.
        if PYTHON_NUMBERS.insert(id, number, u64::from(BPF_ANY)).is_err() {
            _ = PYTHON_CONTEXTS.remove(self.key(self.context));
            return;
        }
        // SAFETY: as above.
        let first = unsafe { first_of_connection(known, self.process, established_ns) };
        if first != 0 {
            _ = PYTHON_NUMBERS.insert(first, number, u64::from(BPF_ANY));
        }
    }
}

/// The number that a context has: what it read, what it was made for, or what the first context of its
/// connection has, in this order.
#[inline(never)]
fn number_of(known: *mut PythonContext) -> u64 {
    // SAFETY: map values throughout.
    unsafe {
        let own = number_at((*known).id);
        if own != 0 {
            return if own == WRITER { 0 } else { own };
        }
        if (*known).inherited != 0 {
            return (*known).inherited;
        }
        let mut index = 0;
        while index < ANCESTORS {
            let id = (*known).ancestors[index].id;
            if id == 0 {
                break;
            }
            let number = number_at(id);
            if number != 0 {
                return if number == WRITER { 0 } else { number };
            }
            index += 1;
        }
    }
    0
}

#[inline(always)]
fn number_at(id: u64) -> u64 {
    // SAFETY: the value is copied; it is one word.
    unsafe { PYTHON_NUMBERS.get(id) }.copied().unwrap_or(0)
}

/// The oldest ancestor that was made after the connection was established; 0 where none is certain: the one
/// before it must be known to be older.
///
/// # Safety
/// `known` and `process` must be map values.
#[inline(always)]
unsafe fn first_of_connection(
    known: *mut PythonContext,
    process: *mut PythonProcess,
    established_ns: u64,
) -> u64 {
    // SAFETY: by the contract.
    unsafe {
        if established_ns == 0 || established_ns < (*process).since_ns {
            return 0;
        }
        let mut first = 0;
        let mut index = 0;
        while index < ANCESTORS {
            let ancestor = (*known).ancestors[index];
            // What is not known is older than the probes.
            if ancestor.id == 0 || ancestor.made_ns < established_ns {
                return first;
            }
            first = ancestor.id;
            index += 1;
        }
    }
    0
}

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
    let Some(process) = PYTHONS.get_ptr_mut(slot) else { return 0 };
    // SAFETY: map values.
    let number = unsafe {
        if begins || (*state).number == 0 {
            (*state).number = fresh(process);
        }
        (*state).number
    };
    let Some(running) = running(task, slot) else { return number };
    // SAFETY: a map value, which only this thread uses.
    unsafe {
        (*running.thread).pending = 0;
        (*running.thread).bound = 0;
        if blocking {
            (*running.thread).number = number;
        }
    }
    if running.context != 0 {
        // SAFETY: a map value.
        let established_ns = unsafe { (*state).connect_ns };
        running.read_request(number, established_ns);
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
    let (mut number, mut context) = deferred(task, &running, source);
    if number == 0 {
        (number, context) = running.number_and_context();
    }
    // SAFETY: a map value.
    let inbound = unsafe {
        (*state).context = context;
        (*state).inbound != 0
    };
    if inbound && running.context & GREENLET != 0 {
        // A greenlet ends unseen, and its stack becomes another's: what it read is forgotten when it answers.
        _ = PYTHON_CONTEXTS.remove(running.key(running.context));
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

/// Whose the bytes are that an older uvloop writes at the end of the loop's turn, and in which context they
/// were given to it; 0 where buffers of several requests go out at once.
#[inline(always)]
fn deferred(task: Object, running: &Running, source: &Source) -> (u64, u64) {
    // SAFETY: a map value.
    if unsafe { (*running.process).flags } & python_flag::DEFERRED_WRITES == 0 {
        return (0, 0);
    }
    let task: u32 = field!(task, task_pid);
    let (mut number, mut context) = (0, 0);
    let mut index = 0;
    while index < MAX_BUFFERS {
        let Some(address) = source.buffer(index) else { break };
        let key = PythonKey { address, task, reserved: 0 };
        let mut one = 0;
        let mut within = 0;
        if let Some(found) = PYTHON_WRITES.get_ptr_mut(key) {
            // SAFETY: a map value.
            unsafe {
                // What was not written at the end of its turn never was, by this way.
                let turns = (*running.thread).turn.wrapping_sub((*found).turn);
                if (*found).generation == running.generation && turns <= 1 {
                    one = (*found).number;
                    within = (*found).context;
                }
            }
            _ = PYTHON_WRITES.remove(key);
        }
        if index > 0 && one != number {
            return (0, 0);
        }
        number = one;
        context = within;
        index += 1;
    }
    if source.buffers() > MAX_BUFFERS { (0, 0) } else { (number, context) }
}

/// The process's slot, if user space has told what it needs to be followed.
#[inline(always)]
fn slot_of(task: Object) -> Option<u32> {
    let slot = kernel::task_slot(task)?;
    let process = kernel::process(slot)?;
    // SAFETY: a map value.
    (unsafe { (*process).runtime } == RUNTIME_PYTHON).then_some(slot)
}

/// `PyContext_CopyCurrent` returns a copy of the running context.
#[uretprobe]
fn python_context_copied(ctx: RetProbeContext) -> u32 {
    let address: u64 = ctx.ret();
    copied(kernel::current(), address);
    0
}

#[inline(always)]
fn copied(task: Object, address: u64) {
    let key = PythonKey { address, task: field!(task, task_tgid), reserved: 0 };
    if !inherit(task, &key) {
        // What was at this address before is gone.
        _ = PYTHON_CONTEXTS.remove(key);
    }
}

#[inline(always)]
fn inherit(task: Object, key: &PythonKey) -> bool {
    let Some(slot) = slot_of(task) else { return false };
    let Some(running) = running(task, slot) else { return false };
    let parent = running.known();
    let mut new = PythonContext {
        id: fresh(running.process),
        made_ns: kernel::now_ns(),
        inherited: running.number(parent),
        generation: running.generation,
        depth: 0,
        ancestors: [PythonAncestor { id: 0, made_ns: 0 }; ANCESTORS],
    };
    if let Some(parent) = parent {
        // SAFETY: a map value.
        let parent = unsafe { &*parent };
        new.ancestors[0] = PythonAncestor { id: parent.id, made_ns: parent.made_ns };
        new.ancestors[1] = parent.ancestors[0];
        new.ancestors[2] = parent.ancestors[1];
        new.ancestors[3] = parent.ancestors[2];
    }
    PYTHON_CONTEXTS.insert(key, new, u64::from(BPF_ANY)).is_ok()
}

/// A context is made that is no copy of the running one (`contextvars.Context()`, `Context.copy`): whoever
/// makes one wants nothing of the running one in it.
#[uretprobe]
fn python_context_made(ctx: RetProbeContext) -> u32 {
    let address: u64 = ctx.ret();
    let task = kernel::current();
    _ = PYTHON_CONTEXTS.remove(PythonKey { address, task: field!(task, task_tgid), reserved: 0 });
    0
}

/// `SimpleQueue.put(item, ...)`: `self`, the positional arguments, their number, ...
#[uprobe]
fn python_item_put(ctx: ProbeContext) -> u32 {
    let arguments: u64 = ctx.arg(1).unwrap_or(0);
    let item: u64 = payload::probe_user(arguments).unwrap_or(0);
    let task = kernel::current();
    let key = PythonKey { address: item, task: field!(task, task_tgid), reserved: 0 };
    hand_over(task, key);
    0
}

#[inline(always)]
fn hand_over(task: Object, key: PythonKey) {
    let Some(slot) = slot_of(task) else { return };
    let Some(running) = running(task, slot) else {
        _ = PYTHON_ITEMS.remove(key);
        return;
    };
    let item = running.handover();
    if PYTHON_ITEMS.insert(key, item, u64::from(BPF_ANY)).is_err() {
        _ = PYTHON_ITEMS.remove(key);
    }
}

/// `SimpleQueue.get` and `get_nowait` return an item: the thread works for whoever put it there.
#[uretprobe]
fn python_item_got(ctx: RetProbeContext) -> u32 {
    let item: u64 = ctx.ret();
    let task = kernel::current();
    let Some(slot) = slot_of(task) else { return 0 };
    let Some(running) = running(task, slot) else { return 0 };
    let key = running.key(item);
    let mut number = 0;
    if let Some(found) = PYTHON_ITEMS.get_ptr_mut(key) {
        // SAFETY: a map value.
        unsafe {
            if (*found).generation == running.generation {
                number = (*found).number;
            }
        }
        _ = PYTHON_ITEMS.remove(key);
    }
    // SAFETY: a map value, which only this thread uses.
    unsafe { (*running.thread).number = number };
    0
}

/// `uv__run_check`: the loop's reads of this turn, and what they called, are over.
#[uprobe]
fn python_uvloop_turn(_ctx: ProbeContext) -> u32 {
    let task = kernel::current();
    // SAFETY: `task` is the running task by the verifier's types; no value is created.
    let thread = unsafe {
        helper::bpf_task_storage_get(
            THREADS.as_ptr(),
            task.cast_mut().cast(),
            core::ptr::null_mut(),
            0,
        )
    }
    .cast::<PythonThread>();
    if !thread.is_null() {
        // SAFETY: a map value, which only this thread uses.
        unsafe {
            (*thread).pending = 0;
            (*thread).turn = (*thread).turn.wrapping_add(1);
        }
    }
    0
}

/// uvloop's `write(self, data)`; the attach cookie is the object's place among the arguments: 0: it is the
/// second argument, 1: the first of an array of which the second argument is the address.
#[uprobe]
fn python_uvloop_write(ctx: ProbeContext) -> u32 {
    let mut data: u64 = ctx.arg(1).unwrap_or(0);
    // SAFETY: the program's own context.
    if unsafe { helper::bpf_get_attach_cookie(ctx.as_ptr()) } != 0 {
        data = payload::probe_user(data).unwrap_or(0);
    }
    let task = kernel::current();
    let Some(slot) = slot_of(task) else { return 0 };
    let Some(running) = running(task, slot) else { return 0 };
    let write = running.handover();
    let thread: u32 = field!(task, task_pid);
    let flags = type_flags(data);
    if flags & (LIST | TUPLE) == 0 {
        note_write(thread, data, flags, &write);
        return 0;
    }
    // `writelines`. A list has its items elsewhere, a tuple in itself.
    let mut items = data.wrapping_add(24);
    if flags & LIST != 0 {
        items = payload::probe_user(items).unwrap_or(0);
    }
    let count: u64 = payload::probe_user(data.wrapping_add(16)).unwrap_or(0);
    let mut index = 0;
    while index < MAX_BUFFERS && index < count {
        let item = payload::probe_user(items.wrapping_add(index * 8)).unwrap_or(0);
        note_write(thread, item, type_flags(item), &write);
        index += 1;
    }
    0
}

/// `tp_flags` of an object's type, and of its size whether it has items ([`ITEMS`]).
#[inline(always)]
fn type_flags(object: u64) -> u64 {
    let kind: u64 = payload::probe_user(object.wrapping_add(8)).unwrap_or(0);
    let flags: u64 = payload::probe_user(kind.wrapping_add(168)).unwrap_or(0);
    let item_size: u64 = payload::probe_user(kind.wrapping_add(40)).unwrap_or(0);
    (flags & (LIST | TUPLE | BYTES)) | if item_size != 0 { ITEMS } else { 0 }
}

/// Notes for whom an object's content is to be written.
#[inline(always)]
fn note_write(task: u32, object: u64, flags: u64, write: &PythonHandover) {
    // Where `bytes`, `memoryview` (whose type has items) and `bytearray` have their content.
    let address = if flags & BYTES != 0 {
        object.wrapping_add(32)
    } else {
        let at = if flags & ITEMS != 0 { 56 } else { 40 };
        payload::probe_user(object.wrapping_add(at)).unwrap_or(0)
    };
    let key = PythonKey { address, task, reserved: 0 };
    if PYTHON_WRITES.insert(key, write, u64::from(BPF_ANY)).is_err() {
        _ = PYTHON_WRITES.remove(key);
    }
}
