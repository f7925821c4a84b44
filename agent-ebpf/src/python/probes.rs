//! The probes of one CPython process: contexts that are made, work that is handed to threads, uvloop's turns and
//! writes.
//!
//! Attached per process, by user space, to: the return of `PyContext_CopyCurrent` and of what else makes a
//! context; `_queue.SimpleQueue`'s `put`, `get` and `get_nowait`; in processes with uvloop `uv__run_check`
//! and, up to 0.22.1, its `write` and `writelines`. Emits nothing.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, pt_regs};
use aya_ebpf::helpers::generated as helper;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use wirespan_ebpf::{ANCESTORS, PythonAncestor, PythonHandover, PythonKey};

use super::running::{followed, fresh, running_here, thread_of};
use super::{MAX_BUFFERS, contexts};
use crate::kernel::{self, Object, field};
use crate::maps::{NO_PROGRAM, PYTHON_ITEMS, PYTHON_WRITES};
use crate::payload;

/// `Py_TPFLAGS_LIST_SUBCLASS`, `_TUPLE_SUBCLASS`, `_BYTES_SUBCLASS` (Include/object.h).
const LIST: u64 = 1 << 25;
const TUPLE: u64 = 1 << 26;
const BYTES: u64 = 1 << 27;

/// Not one of CPython's: the type's objects have items of their own.
const ITEMS: u64 = 1;

/// Has the kernel run this program on the thread's own stack. Since 6.13 it gives programs with deep stacks one for
/// each CPU, because a program never meets itself there; those of uprobes may: they can be preempted, and then run
/// in another thread. What can call another program by a tail call gets none. Nothing is called.
#[inline(always)]
pub(super) fn keeps_its_stack(ctx: &impl EbpfContext) {
    if kernel::opaque(0) != 0 {
        // SAFETY: never reached.
        unsafe { NO_PROGRAM.tail_call(ctx, 0) };
    }
}

/// `PyContext_CopyCurrent` has a copy of the running context, in the register whose number the attach cookie is.
#[uprobe]
fn python_context_seen(ctx: ProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    // SAFETY: the program's own context.
    let register = unsafe { helper::bpf_get_attach_cookie(ctx.as_ptr()) };
    let address = register_at(&ctx, register);
    if address != 0 {
        copied(kernel::current(), address);
    }
    0
}

/// A register by its number in instructions. The verifier wants each load of the context at an offset of its own,
/// which a compiler would fold into one.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn register_at(ctx: &ProbeContext, number: u64) -> u64 {
    macro_rules! load {
        ($member:ident) => {{
            let value: u64;
            // SAFETY: an aligned member of the program's own context, which the verifier checks.
            unsafe {
                core::arch::asm!(
                    "{value} = *(u64 *)({registers} + {offset})",
                    value = out(reg) value,
                    registers = in(reg) ctx.regs,
                    offset = const core::mem::offset_of!(pt_regs, $member),
                    options(nostack, readonly),
                );
            }
            value
        }};
    }
    match number {
        0 => load!(rax),
        1 => load!(rcx),
        2 => load!(rdx),
        3 => load!(rbx),
        5 => load!(rbp),
        6 => load!(rsi),
        7 => load!(rdi),
        8 => load!(r8),
        9 => load!(r9),
        10 => load!(r10),
        11 => load!(r11),
        12 => load!(r12),
        13 => load!(r13),
        14 => load!(r14),
        15 => load!(r15),
        _ => 0,
    }
}

#[cfg(not(bpf_target_arch = "x86_64"))]
#[inline(always)]
fn register_at(_ctx: &ProbeContext, _number: u64) -> u64 {
    0
}

/// `PyContext_CopyCurrent` returns a copy of the running context.
#[uretprobe]
fn python_context_copied(ctx: RetProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    let address: u64 = ctx.ret();
    copied(kernel::current(), address);
    0
}

#[inline(always)]
fn copied(task: Object, address: u64) {
    contexts::expect(task, address);
    if !inherit(task, address) {
        gone(task, address);
    }
}

/// What was at this address before is gone.
#[inline(always)]
fn gone(task: Object, address: u64) {
    if let Some(generation) = followed(task) {
        contexts::forget(address, generation);
    }
}

#[inline(always)]
fn inherit(task: Object, address: u64) -> bool {
    let Some(running) = running_here(task) else { return false };
    let parent = running.known();
    let inherited = running.number(parent);
    // SAFETY: a map value.
    let seen_ns = unsafe { (*running.thread).seen_ns };
    // What time it is costs as much as a look-up. Of what is made for a request it is enough to know that it is
    // younger than the request.
    let made_ns = if inherited != 0 && seen_ns != 0 { seen_ns } else { kernel::now_ns() };
    let id = fresh(running.process);
    let Some(place) = contexts::take(address, id, running.generation) else { return false };
    // SAFETY: a place that was taken, and the parent's, of which nothing is believed that is another's by now.
    unsafe {
        (*place).made_ns = made_ns;
        (*place).inherited = inherited;
        (*place).flags = 0;
        (*place).ancestors[0] = parent.map_or(PythonAncestor::NOBODY, |parent| {
            let from = parent.place();
            let kind = if (*from).inherited == 0 { 0 } else { PythonAncestor::FOR_A_REQUEST };
            PythonAncestor { id: parent.id, made_ns: (*from).made_ns | kind }
        });
        let mut index = 1;
        while index < ANCESTORS {
            (*place).ancestors[index] = parent
                .map_or(PythonAncestor::NOBODY, |parent| (*parent.place()).ancestors[index - 1]);
            index += 1;
        }
        let certain = parent.is_none_or(|parent| parent.holds());
        contexts::give(place, if certain { address } else { 0 });
        certain
    }
}

/// A context is made that is no copy of the running one (`contextvars.Context()`, `Context.copy`): whoever
/// makes one wants nothing of the running one in it.
#[uretprobe]
fn python_context_made(ctx: RetProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    let address: u64 = ctx.ret();
    gone(kernel::current(), address);
    0
}

/// `SimpleQueue.put(item, ...)`: `self`, the positional arguments, their number, ...
#[uprobe]
fn python_item_put(ctx: ProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    let arguments: u64 = ctx.arg(1).unwrap_or(0);
    let item: u64 = payload::probe_user(arguments).unwrap_or(0);
    let task = kernel::current();
    let key = PythonKey { address: item, task: field!(task, task_tgid), reserved: 0 };
    hand_over(task, key);
    0
}

#[inline(always)]
fn hand_over(task: Object, key: PythonKey) {
    let Some(running) = running_here(task) else {
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
    keeps_its_stack(&ctx);
    let item: u64 = ctx.ret();
    let task = kernel::current();
    let Some(running) = running_here(task) else { return 0 };
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
    unsafe {
        // Who works on a job goes on with it.
        if (*running.thread).jobs == 0 {
            (*running.thread).number = number;
        }
    }
    0
}

/// `uv__run_check`: the loop's reads of this turn, and what they called, are over.
#[uprobe]
fn python_uvloop_turn(ctx: ProbeContext) -> u32 {
    keeps_its_stack(&ctx);
    let task = kernel::current();
    let thread = thread_of(task, 0);
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
    keeps_its_stack(&ctx);
    let mut data: u64 = ctx.arg(1).unwrap_or(0);
    // SAFETY: the program's own context.
    if unsafe { helper::bpf_get_attach_cookie(ctx.as_ptr()) } != 0 {
        data = payload::probe_user(data).unwrap_or(0);
    }
    let task = kernel::current();
    let Some(running) = running_here(task) else { return 0 };
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
