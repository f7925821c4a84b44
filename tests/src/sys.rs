//! What the tests and the demo ask of the kernel: clocks, signals, the fate of children. The one place of
//! this package with `unsafe`.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libc::{c_int, clockid_t, pid_t};

/// Set by the handler of [`stop_on_signals`].
static STOPPED: AtomicBool = AtomicBool::new(false);

fn clock(id: clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to. The call cannot fail for the two clocks used here.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nanoseconds since the epoch on `CLOCK_REALTIME`, the scale of OTLP's times.
#[must_use]
pub fn realtime_ns() -> u64 {
    u64::try_from(clock(libc::CLOCK_REALTIME).as_nanos()).unwrap_or(u64::MAX)
}

/// Time on `CLOCK_MONOTONIC`, for deadlines.
#[must_use]
pub fn monotonic() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

/// Whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

extern "C" fn note_signal(_: c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP set the returned flag instead of ending this process, so that
/// guards are dropped and nothing that they own is left running.
///
/// # Errors
/// When the kernel refuses a handler.
pub fn stop_on_signals() -> io::Result<&'static AtomicBool> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler: extern "C" fn(c_int) = note_signal;
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        let previous = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        if previous == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(&STOPPED)
}

/// Whether a signal has asked this process to stop, after [`stop_on_signals`].
#[must_use]
pub fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Makes the command's process the leader of its own process group, which is sent SIGTERM (the leader
/// alone) when the thread that spawned it ends, however it ends.
pub fn own_group(command: &mut Command) {
    let parent = std::process::id();
    command.process_group(0);
    let child_side = move || {
        // SAFETY: two plain system calls, both async-signal-safe as the child of a fork requires.
        let (done, now) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM), libc::getppid()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent can have died before the call above, which then would wait for nobody.
        if now.cast_unsigned() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(child_side) };
}

fn raw_pid(pid: u32) -> io::Result<pid_t> {
    // 0 and 1 would make `kill` mean "my own group" and "everybody".
    pid_t::try_from(pid)
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Sends `signal` to one process.
///
/// # Errors
/// As kill(2).
pub fn kill(pid: u32, signal: c_int) -> io::Result<()> {
    // SAFETY: has no memory preconditions.
    match unsafe { libc::kill(raw_pid(pid)?, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives a process's first thread a nice value (setpriority(2)), from -20, the most, to 19.
///
/// # Errors
/// As setpriority(2).
pub fn set_nice(pid: u32, nice: c_int) -> io::Result<()> {
    // SAFETY: has no memory preconditions.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, pid, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends `signal` to every member of the process group that `leader` leads.
///
/// # Errors
/// As kill(2).
pub fn kill_group(leader: u32, signal: c_int) -> io::Result<()> {
    // SAFETY: has no memory preconditions; the group is one of our own making (`own_group`).
    match unsafe { libc::kill(-raw_pid(leader)?, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes descendants whose parents are gone children of this process, which can then reap them. Without it
/// they are left to process 1, which in a container may be a program that never does.
///
/// # Errors
/// As prctl(2).
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no memory is passed.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for every child in a process group to end, and reaps it.
///
/// # Errors
/// As waitid(2), but not that there is none.
pub fn reap_group(group: u32) -> io::Result<()> {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is valid to write to.
        if unsafe { libc::waitid(libc::P_PGID, group, info.as_mut_ptr(), libc::WEXITED) } == 0 {
            continue;
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// Whether a child has ended, leaving it unreaped: its number, and so its group's, stays taken.
///
/// # Errors
/// When it is not a child of this process, or was reaped.
pub fn has_exited(child: &Child) -> io::Result<bool> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid to write to.
    if unsafe { libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), options) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid succeeded; with WNOHANG and nothing to report it leaves the zeroes, a valid siginfo.
    let info = unsafe { info.assume_init() };
    // SAFETY: `si_pid` is in the part of the union that waitid fills (or in the zeroes).
    Ok(unsafe { info.si_pid() } != 0)
}

/// The kinds of kernel objects that bpf(2) numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BpfObject {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A link: an attachment.
    Link,
}

/// The numbers of all such objects that exist now, on the whole machine.
///
/// # Errors
/// As bpf(2).
pub fn bpf_ids(object: BpfObject) -> io::Result<Vec<u32>> {
    // BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID (linux/bpf.h).
    let command: libc::c_long = match object {
        BpfObject::Program => 11,
        BpfObject::Map => 12,
        BpfObject::Link => 31,
    };
    // `struct { __u32 start_id; __u32 next_id; __u32 open_flags; }` of `union bpf_attr`.
    let mut attribute = [0_u32; 3];
    let mut ids = Vec::new();
    loop {
        let size = size_of_val(&attribute);
        // SAFETY: `attribute` is valid to read and write, and as large as said.
        let done = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size) };
        if done != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOENT) { Ok(ids) } else { Err(error) };
        }
        let [_, next, _] = attribute;
        ids.push(next);
        attribute = [next, 0, 0];
    }
}
