//! Processes execute, fork and exit.
//!
//! Attaches to the tracepoints `sched:sched_process_exec`, `sched_process_fork`, `sched_process_exit`.
//! Emits: [`ProcessRecord`]; exec for every process, since any may become one to trace, the others for
//! traced ones. A forked child is traced from its first instruction: it gets a slot here.

use core::ptr;

use aya_ebpf::bindings::BPF_LOCAL_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated as helper;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use wirespan_ebpf::{
    ExitFigures, KernelFields, NO_SLOT, ProcessRecord, RUNTIME_UNKNOWN, RecordKind, TaskState,
    process_flag,
};

use crate::kernel::{self, Object, add, field, offset, setting};
use crate::maps::{FREE_SLOTS, TASKS};
use crate::ring;

/// `sizeof(struct upid)`: a number and a pointer to its namespace.
const UPID_SIZE: u64 = 16;

/// Pid namespaces may nest 32 deep; containers in containers are three or four.
const PID_LEVELS: u32 = 8;

#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: Object = ctx.arg(0);
    let slot = kernel::task_slot(task).unwrap_or(NO_SLOT);
    if let Some(entry) = kernel::process(slot) {
        // Nothing that was known of the runtime holds any more.
        // SAFETY: a map value.
        unsafe { ptr::write_volatile(&raw mut (*entry).runtime, RUNTIME_UNKNOWN) };
    }
    emit(task, RecordKind::EXEC, slot, NO_SLOT);
    0
}

#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let parent: Object = ctx.arg(0);
    let child: Object = ctx.arg(1);
    let (tgid, pid): (u32, u32) = (field!(child, task_tgid), field!(child, task_pid));
    if tgid != pid {
        // A thread: it shares its leader's state.
        return 0;
    }
    let Some(parent_slot) = kernel::task_slot(parent) else { return 0 };
    let Some(parent_entry) = kernel::process(parent_slot) else { return 0 };
    let slot = match FREE_SLOTS.pop() {
        Ok(Some(slot)) => slot,
        _ => NO_SLOT,
    };
    if slot != NO_SLOT {
        let Some(entry) = kernel::process(slot) else { return 0 };
        let mut state = TaskState { slot, reserved: 0 };
        // SAFETY: `child` is a task by the verifier's types; the kernel copies the value.
        let created = unsafe {
            helper::bpf_task_storage_get(
                TASKS.as_ptr(),
                child.cast_mut().cast(),
                (&raw mut state).cast(),
                u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
            )
        };
        // SAFETY: both entries are map values; the slot was free, nobody else writes it.
        unsafe {
            (*entry).flags = (*parent_entry).flags & !process_flag::UNCLAIMED;
            ptr::write_volatile(&raw mut (*entry).tgid, if created.is_null() { 0 } else { tgid });
        }
    }
    emit(child, RecordKind::FORK, slot, parent_slot);
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: Object = ctx.arg(0);
    let Some(slot) = kernel::task_slot(task) else { return 0 };
    let signal: Object = field!(task, task_signal);
    let live: i32 = field!(signal, signal_live);
    if live != 0 {
        return 0;
    }
    if let Some(entry) = kernel::process(slot) {
        // SAFETY: a map value. From here on nothing is counted for the slot.
        unsafe {
            ptr::write_volatile(&raw mut (*entry).tgid, 0);
            ptr::write_volatile(&raw mut (*entry).flags, 0);
        }
    }
    let code: i32 = field!(task, task_exit_code);
    let told = Told { port: 0, exit_code: code as u32, exit: exit_figures(task, signal) };
    write(task, RecordKind::EXIT, slot, NO_SLOT, told);
    0
}

/// What the kernel counted of a process, whose last thread `task` is.
///
/// A thread's figures are added to its process's when it is released: the main thread's by who waits for the process,
/// another's some instructions after it was here.
#[inline(always)]
fn exit_figures(task: Object, signal: Object) -> ExitFigures {
    let leader: Object = field!(task, task_group_leader);
    let absent = offset!(task_run_delay) == KernelFields::ABSENT;
    let mut figures = ExitFigures {
        on_cpu_ns: field!(signal, signal_sum_sched_runtime),
        run_delay_ns: if absent { 0 } else { field!(leader, task_run_delay) },
        max_rss_pages: field!(signal, signal_maxrss),
        major_faults: field!(signal, signal_maj_flt),
        voluntary_switches: field!(signal, signal_nvcsw),
        involuntary_switches: field!(signal, signal_nivcsw),
    };
    add_thread(&mut figures, task);
    let mut threads = 1;
    if !ptr::eq(task, leader) {
        add_thread(&mut figures, leader);
        threads = 2;
    }
    let unreleased: i32 = field!(signal, signal_nr_threads);
    if unreleased != threads {
        figures.involuntary_switches = u64::MAX;
    }
    figures
}

#[inline(always)]
fn add_thread(figures: &mut ExitFigures, task: Object) {
    let on_cpu_ns: u64 = field!(task, task_exec_runtime);
    let faults: u64 = field!(task, task_maj_flt);
    let (waits, interruptions): (u64, u64) = (field!(task, task_nvcsw), field!(task, task_nivcsw));
    figures.on_cpu_ns = figures.on_cpu_ns.wrapping_add(on_cpu_ns);
    figures.major_faults = figures.major_faults.wrapping_add(faults);
    figures.voluntary_switches = figures.voluntary_switches.wrapping_add(waits);
    figures.involuntary_switches = figures.involuntary_switches.wrapping_add(interruptions);
}

/// Tells user space that a process began to listen.
#[inline(always)]
pub(crate) fn listens(task: Object, slot: u32, port: u16) {
    let told = Told { port, exit_code: 0, exit: ExitFigures::default() };
    write(task, RecordKind::LISTEN, slot, NO_SLOT, told);
}

/// What only some process events tell.
struct Told {
    port: u16,
    exit_code: u32,
    exit: ExitFigures,
}

/// Tells user space that a process executed or forked.
#[inline(always)]
fn emit(task: Object, kind: RecordKind, slot: u32, parent_slot: u32) {
    let told = Told { port: 0, exit_code: 0, exit: ExitFigures::default() };
    write(task, kind, slot, parent_slot, told);
}

#[inline(always)]
fn write(task: Object, kind: RecordKind, slot: u32, parent_slot: u32, told: Told) {
    let record = ProcessRecord {
        kind: kind.0,
        port: told.port,
        slot,
        timestamp_ns: kernel::now_ns(),
        tgid: field!(task, task_tgid),
        namespace_tgid: namespace_tgid(task),
        parent_slot,
        exit_code: told.exit_code,
        exit: told.exit,
    };
    debug!((), "process event {}: tgid {}, slot {}", record.kind, record.tgid, slot);
    if !ring::output_now(&record) {
        if let Some(entry) = kernel::process(slot) {
            // SAFETY: a map value's counter; slot 0 keeps the count of what belongs to no traced process.
            add(unsafe { &raw mut (*entry).dropped_records }, 1);
        }
    }
}

/// The thread group's number in the agent's pid namespace; 0 when it has none there.
#[inline(always)]
fn namespace_tgid(task: Object) -> u32 {
    let leader: Object = field!(task, task_group_leader);
    let pid: Object = field!(leader, task_thread_pid);
    let level: u32 = field!(pid, pid_level);
    let numbers = pid as u64 + u64::from(offset!(pid_numbers));
    let mut index = 0;
    while index < PID_LEVELS && index <= level {
        let upid = numbers + u64::from(index) * UPID_SIZE;
        let namespace = kernel::probe_kernel::<u64>(upid + 8).unwrap_or(0);
        let inode = namespace + u64::from(offset!(pid_namespace_inum));
        if kernel::probe_kernel::<u32>(inode).unwrap_or(0) == setting!(pid_namespace) {
            return kernel::probe_kernel::<u32>(upid).unwrap_or(0);
        }
        index += 1;
    }
    0
}
