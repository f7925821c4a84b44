//! Whether return probes are safe on this machine: tried on a child of the agent's own before any other process.
//!
//! From Linux 6.11 a return probe on x86-64 enters the kernel through a system call of its own, which the
//! seccomp filters of containers and of systemd deny on kernels without the later exception: the traced
//! process dies. The child puts such a filter on itself and calls a function that is probed. It is the agent's
//! executable, started with [`ARGUMENT`].

use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};

use super::memory::Memory;
use crate::capture::{Capture, PythonProbe, PythonProbePoint};
use crate::sys;

/// What tells the child what it is.
pub const ARGUMENT: &str = "__return-probe-test";

/// What the child calls. Its own code, so that it is one function at one place.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn wirespan_return_probe_test(value: u64) -> u64 {
    std::hint::black_box(value).rotate_left(7)
}

/// What a child does that lives: reads, writes, ends.
const ALLOWED: [libc::c_long; 6] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_exit_group,
    libc::SYS_munmap,
    libc::SYS_sigaltstack,
    libc::SYS_futex,
];

/// Tries it.
///
/// # Errors
/// Why return probes must not be used.
pub(super) fn run(capture: &mut Capture) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("the test of return probes could not be run: {what}: {error}")
    };
    let mut child = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("start", &error))?;
    let tried = try_on(capture, &mut child);
    // Without its standard input it ends, if it has not.
    drop(child.stdin.take());
    let status = child.wait().map_err(|error| failed("wait", &error))?;
    tried.map_err(|error| failed("attach", &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "a return probe kills a process whose seccomp filter does not know it ({status})"
        ))
    }
}

fn try_on(capture: &mut Capture, child: &mut std::process::Child) -> io::Result<()> {
    let other = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    // It says where the function is.
    let mut address = [0; 8];
    let stdout = child.stdout.as_mut().ok_or_else(|| other(&"no pipe"))?;
    stdout.read_exact(&mut address)?;
    let address = u64::from_le_bytes(address);
    let pid = i32::try_from(child.id()).map_err(|error| other(&error))?;
    let memory = Memory::open(pid)?;
    let code = memory.code(address).ok_or_else(|| other(&"its code is not found"))?;
    let offset = code.file_offset(address).ok_or_else(|| other(&"its code is not found"))?;
    let point = PythonProbePoint {
        probe: PythonProbe::ContextMade,
        file: code.link.clone(),
        offset,
        cookie: 0,
    };
    let link = capture.attach_python(pid, &point).map_err(|error| other(&error))?;
    let stdin = child.stdin.as_mut().ok_or_else(|| other(&"no pipe"))?;
    stdin.write_all(&[1])?;
    // It has returned, or is dead.
    let mut answer = [0; 8];
    let answered = child.stdout.as_mut().map(|stdout| stdout.read_exact(&mut answer));
    drop(link);
    // What a dead one does not answer, its status tells.
    drop(answered);
    Ok(())
}

/// The child's side.
pub fn child() -> ExitCode {
    match respond() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn respond() -> io::Result<()> {
    let mut stdout = io::stdout();
    let function: extern "C" fn(u64) -> u64 = wirespan_return_probe_test;
    stdout.write_all(&(function as usize as u64).to_le_bytes())?;
    stdout.flush()?;
    let mut go = [0];
    io::stdin().read_exact(&mut go)?;
    sys::forbid_unknown_calls(&ALLOWED)?;
    let mut value = u64::from(go[0]);
    for _ in 0..3 {
        value = std::hint::black_box(function)(value);
    }
    stdout.write_all(&value.to_le_bytes())?;
    stdout.flush()
}
