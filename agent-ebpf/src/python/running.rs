//! Which thread, context or greenlet of CPython runs, and the number of the request that it works for.

use aya_ebpf::bindings::{BPF_ANY, BPF_LOCAL_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated as helper;
use wirespan_ebpf::{
    AGE_UNKNOWN, ANCESTORS, KernelFields, PythonAncestor, PythonHandover, PythonKey, PythonProcess,
    PythonThread, RUNTIME_PYTHON, python_context_flag, python_flag,
};

use super::contexts::{self, Known};
use crate::kernel::{self, Object, field, offset};
use crate::maps::{PYTHON_NUMBERS, PYTHONS, THREADS};
use crate::payload;

/// The number of a context that is the loop's writer: it sends what others left. Nothing is told of it.
pub(super) const WRITER: u64 = u64::MAX;

/// What runs is known by its greenlet's stack, not by a context.
pub(super) const GREENLET: u64 = 1 << 63;

/// In a socket's state, of its last send: no context was entered, and no greenlet ran. No context has this number
/// for an identity, and as a strand it is 0.
pub(crate) const THREADS_OWN: u64 = 1 << 62;

/// Pieces of a stack that are looked at: the first has 16 KiB, some hundred frames.
const MAX_PIECES: u32 = 32;

/// Thread states that are looked at.
const MAX_THREADS: u32 = 512;

/// A thread that isn't Python's is not looked for again for so long.
const RETRY_NS: u64 = 100_000_000;

/// The running code.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) process: *mut PythonProcess,
    pub(super) thread: *mut PythonThread,
    /// The process's [`PythonProcess::generation`].
    pub(super) generation: u32,
    tgid: u32,
    /// Address of the context that it entered; or of its greenlet's first piece of stack, and [`GREENLET`]; 0:
    /// neither.
    pub(super) context: u64,
}

/// What is kept of a thread.
#[inline(always)]
pub(super) fn thread_of(task: Object, flags: u64) -> *mut PythonThread {
    // SAFETY: `task` is the running task by the verifier's types; a null value creates a zeroed one.
    unsafe {
        helper::bpf_task_storage_get(
            THREADS.as_ptr(),
            task.cast_mut().cast(),
            core::ptr::null_mut(),
            flags,
        )
    }
    .cast()
}

/// The process's slot, if user space has told what it needs to be followed.
#[inline(always)]
fn slot_of(task: Object) -> Option<u32> {
    let slot = kernel::task_slot(task)?;
    let process = kernel::process(slot)?;
    // SAFETY: a map value.
    (unsafe { (*process).runtime } == RUNTIME_PYTHON).then_some(slot)
}

/// The generation of the process, if it is followed.
#[inline(always)]
pub(super) fn followed(task: Object) -> Option<u32> {
    let process = PYTHONS.get_ptr_mut(slot_of(task)?)?;
    // SAFETY: a map value.
    let generation = unsafe { (*process).generation };
    (generation != 0).then_some(generation)
}

/// As [`running`], for a probe, which isn't told of which process. A thread remembers.
#[inline(always)]
pub(super) fn running_here(task: Object) -> Option<Running> {
    let thread = thread_of(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE));
    if thread.is_null() {
        return None;
    }
    // SAFETY: a map value.
    let (mut slot, generation) = unsafe { ((*thread).slot, (*thread).generation) };
    let mut process = PYTHONS.get_ptr_mut(slot)?;
    // SAFETY: a map value. User space clears the generation of whom it follows no longer.
    if generation == 0 || unsafe { (*process).generation } != generation {
        slot = slot_of(task)?;
        process = PYTHONS.get_ptr_mut(slot)?;
    }
    running_thread(task, slot, process, thread)
}

/// What runs; `None` where that can't be told.
#[inline(always)]
pub(super) fn running(task: Object, slot: u32) -> Option<Running> {
    let process = PYTHONS.get_ptr_mut(slot)?;
    let thread = thread_of(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE));
    if thread.is_null() {
        return None;
    }
    running_thread(task, slot, process, thread)
}

#[inline(always)]
fn running_thread(
    task: Object,
    slot: u32,
    process: *mut PythonProcess,
    thread: *mut PythonThread,
) -> Option<Running> {
    // SAFETY: map values.
    let generation = unsafe { (*process).generation };
    // Of one that is followed no longer nothing is known.
    if generation == 0 {
        return None;
    }
    // SAFETY: as above.
    if unsafe { (*thread).generation != generation || (*thread).slot != slot } {
        let tgid: u32 = field!(task, task_tgid);
        // SAFETY: as above; only the thread itself gets here. One by one, for the stack's sake.
        unsafe {
            (*thread).state = 0;
            (*thread).retry_ns = 0;
            (*thread).number = 0;
            (*thread).pending = 0;
            (*thread).bound = 0;
            (*thread).generation = generation;
            (*thread).turn = 0;
            (*thread).seen_ns = 0;
            (*thread).slot = slot;
            (*thread).tgid = tgid;
            (*thread).jobs = 0;
        }
    }
    let (state, mut context) = thread_state(task, process, thread)?;
    // SAFETY: as above.
    let entered_at = unsafe { (*process).entered };
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
    // SAFETY: as above.
    let tgid = unsafe { (*thread).tgid };
    Some(Running { process, thread, generation, tgid, context })
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

/// Which thread a `PyThreadState` is of, and its current context.
#[inline(always)]
fn thread_and_context(
    process: *mut PythonProcess,
    thread: *mut PythonThread,
    state: u64,
) -> Option<(u64, u64)> {
    // SAFETY: map values; only the thread itself uses the words.
    unsafe {
        let (thread_id, at) = ((*process).thread_id, (*process).context);
        let words = &raw mut (*thread).words;
        let size = size_of_val(&*words) as u64;
        if !payload::read_user(words.cast(), size, state.wrapping_add(u64::from(thread_id))) {
            return None;
        }
        let context = match (*words).get(at.wrapping_sub(thread_id) as usize / 8) {
            Some(context) => *context,
            None => payload::probe_user(state.wrapping_add(u64::from(at)))?,
        };
        Some(((*words)[0], context))
    }
}

/// The thread's `PyThreadState`, and its current context. The interpreter's own notion of the current one is of no
/// use: whoever is in a system call has given it up.
#[inline(always)]
fn thread_state(
    task: Object,
    process: *mut PythonProcess,
    thread: *mut PythonThread,
) -> Option<(u64, u64)> {
    if offset!(task_fsbase) == KernelFields::ABSENT {
        return None;
    }
    let id: u64 = field!(task, task_fsbase);
    // SAFETY: map values.
    let known = unsafe { (*thread).state };
    if known != 0
        && let Some((identity, context)) = thread_and_context(process, thread, known)
        && identity == id
    {
        return Some((known, context));
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
            u64::from((*process).thread_id),
            id,
        )
    };
    // SAFETY: as above.
    unsafe {
        (*thread).state = found;
        (*thread).retry_ns = if found == 0 { now + RETRY_NS } else { 0 };
    }
    if found == 0 {
        return None;
    }
    Some((found, thread_and_context(process, thread, found)?.1))
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
pub(super) fn fresh(process: *mut PythonProcess) -> u64 {
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
    pub(super) fn handover(&self) -> PythonHandover {
        // SAFETY: a map value.
        let turn = unsafe { (*self.thread).turn };
        let (number, context) = self.number_and_context();
        let (address, generation) = (self.context, self.generation);
        PythonHandover { number, context, address, generation, turn }
    }

    #[inline(always)]
    pub(super) fn key(&self, address: u64) -> PythonKey {
        PythonKey { address, task: self.tgid, reserved: 0 }
    }

    /// What is known of the context that runs.
    #[inline(always)]
    pub(super) fn known(&self) -> Option<Known> {
        if self.context == 0 {
            return None;
        }
        contexts::find(self.context, self.generation)
    }

    /// The request that the running code works for, and the number of the context that it runs in; 0: none, or
    /// none that is known.
    #[inline(always)]
    pub(super) fn number_and_context(&self) -> (u64, u64) {
        let known = self.known();
        (self.number(known), known.map_or(0, |known| known.id))
    }

    /// The request that the running code works for; 0: none, or none that is known. `known`: what is known of
    /// the running context.
    #[inline(always)]
    pub(super) fn number(&self, known: Option<Known>) -> u64 {
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
            Some(known) => {
                let number = number_of(&known, self.process);
                if known.holds() { number } else { 0 }
            }
            None => 0,
        }
    }

    /// Gives the running context the number of a request that it has just read, and the first context of the
    /// connection, which it returns if it is certain.
    #[inline(always)]
    pub(super) fn read_request(&self, number: u64, established_ns: u64) -> Option<u64> {
        let known = match self.known() {
            Some(known) => known,
            None => {
                // It is older than the probes, or its place was given away. Who made it is not known.
                let id = fresh(self.process);
                let place = contexts::take(self.context, id, self.generation)?;
                // SAFETY: a place that was taken.
                unsafe {
                    (*place).made_ns = AGE_UNKNOWN;
                    (*place).inherited = 0;
                    (*place).flags = 0;
                    let mut index = 0;
                    while index < ANCESTORS {
                        (*place).ancestors[index] = PythonAncestor::NOBODY;
                        index += 1;
                    }
                    contexts::give(place, self.context);
                }
                self.known()?
            }
        };
        let id = known.id;
        // A failure leaves the number of the request before: then the context has none.
        if PYTHON_NUMBERS.insert(id, number, u64::from(BPF_ANY)).is_err() {
            contexts::forget(self.context, self.generation);
            return None;
        }
        // SAFETY: as above.
        unsafe { (*known.place()).flags |= python_context_flag::READS };
        // SAFETY: as above.
        let first = unsafe { first_of_connection(&known, self.process, established_ns) };
        (first != 0 && known.holds()).then_some(first)
    }
}

/// The number that a context has: what it read, what it was made for, or what the first context of its
/// connection has, in this order.
#[inline(never)]
fn number_of(found: &Known, process: *mut PythonProcess) -> u64 {
    let known = found.place();
    // SAFETY: map values throughout.
    unsafe {
        let (flags, inherited) = ((*known).flags, (*known).inherited);
        if flags & python_context_flag::WRITES_FOR_OTHERS != 0 {
            return 0;
        }
        // What was made for a request and reads none itself is never a connection's first. (Whoever writes for
        // others has its mark in the entry, but where writes are put off it may not have been at hand.)
        let simple = (*process).flags & python_flag::DEFERRED_WRITES == 0;
        if inherited != 0 && flags & python_context_flag::READS == 0 && simple {
            return inherited;
        }
        let own = number_at(found.id);
        if own != 0 {
            return if own == WRITER { 0 } else { own };
        }
        if inherited != 0 {
            return inherited;
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
pub(super) fn number_at(id: u64) -> u64 {
    // SAFETY: the value is copied; it is one word.
    unsafe { PYTHON_NUMBERS.get(id) }.copied().unwrap_or(0)
}

/// The oldest ancestor that was made after the connection was established, and not for a request; 0 where none is
/// certain: the one before it must be known to be older.
///
/// # Safety
/// `known` and `process` must be map values.
#[inline(always)]
unsafe fn first_of_connection(
    found: &Known,
    process: *mut PythonProcess,
    established_ns: u64,
) -> u64 {
    let known = found.place();
    // SAFETY: by the contract.
    unsafe {
        if established_ns == 0 || established_ns < (*process).since_ns {
            return 0;
        }
        let mut first = 0;
        let mut index = 0;
        while index < ANCESTORS {
            let ancestor = (*known).ancestors[index];
            // What is not known is older than the probes, but for what was forgotten.
            let made_ns = ancestor.made_ns & !PythonAncestor::FOR_A_REQUEST;
            if made_ns == AGE_UNKNOWN {
                return 0;
            }
            if ancestor.id == 0 || made_ns < established_ns {
                return first;
            }
            if ancestor.made_ns == made_ns {
                first = ancestor.id;
            }
            index += 1;
        }
    }
    0
}
