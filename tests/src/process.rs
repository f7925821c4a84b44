//! A child process with everything that it forks, as one guard.
//!
//! It leads a process group of its own: a Ctrl-C at the terminal does not reach it, and dropping the guard
//! ends the whole group and nothing else.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{sys, wait};

/// The directory on PATH that has this program.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|part| part.join(program).exists())
}

/// Runs a command to its end, for what it prints.
pub(crate) fn finish(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("run {}", command.get_program().display()))?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        bail!("{}: {}: {why}", command.get_program().display(), done.status);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A running process group, killed on drop.
///
/// Its leader is also sent SIGTERM when the *thread* that spawned it ends: keep the guard in that thread.
#[derive(Debug)]
pub struct Group {
    child: Child,
    reaped: bool,
}

impl Group {
    /// Starts the command, with no standard input.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        sys::adopt_orphans().context("become the reaper of what children leave")?;
        sys::own_group(command.stdin(Stdio::null()));
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, reaped: false })
    }

    /// As [`Self::spawn`], with pipes to its standard input and from its standard output.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_talking(command: &mut Command) -> Result<(Self, ChildStdin, ChildStdout)> {
        sys::own_group(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let program = command.get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let group = Self { child, reaped: false };
        let (Some(input), Some(output)) = pipes else { anyhow::bail!("no pipes") };
        Ok((group, input, output))
    }

    /// The leader's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The ids of the group's living processes, the leader's first if it lives.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn pids(&self) -> Result<Vec<u32>> {
        group_members(self.pid())
    }

    /// Whether the leader has ended.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_exited(&self) -> Result<bool> {
        Ok(self.reaped || sys::has_exited(&self.child)?)
    }

    /// Sends the leader a signal.
    ///
    /// # Errors
    /// When it has ended and was waited for, or as kill(2).
    pub fn signal(&self, signal: i32) -> Result<()> {
        // A process that was reaped no longer owns its number.
        anyhow::ensure!(!self.reaped, "process {} has ended", self.pid());
        sys::kill(self.pid(), signal).with_context(|| format!("signal process {}", self.pid()))
    }

    /// Asks the leader to end (SIGTERM), waits for it, and ends what it left of its group.
    ///
    /// # Errors
    /// When it has not ended by itself within `limit`; it is killed then.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.wait(limit)
    }

    /// Waits for the leader to end by itself, and ends what it left of its group.
    ///
    /// # Errors
    /// When it has not ended within `limit`; it is killed then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = wait::until("the process ends", limit, || Ok(self.has_exited()?.then_some(())));
        let status = self.kill()?;
        ended.map(|()| status).with_context(|| format!("process {}", self.pid()))
    }

    /// Kills the whole group (SIGKILL) and reaps it: afterwards none of it exists, not even as a zombie. The
    /// status is the leader's own if it had ended before.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if !self.reaped {
            // Before the leader is reaped: until then the group's number cannot become somebody else's.
            sys::kill_group(self.pid(), libc::SIGKILL)
                .with_context(|| format!("kill process group {}", self.pid()))?;
            self.reaped = true;
            let status = self.child.wait()?;
            // The rest became children of this process when their parents were gone.
            sys::reap_group(self.pid()).context("reap the rest of the group")?;
            return Ok(status);
        }
        Ok(self.child.wait()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody is left to tell; the only failures are of a group that is gone.
        drop(self.kill());
    }
}

/// The living (not zombie) members of a process group, its leader first.
fn group_members(group: u32) -> Result<Vec<u32>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process can end between the listing and the look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // "pid (comm) state ppid pgrp ...", proc_pid_stat(5); comm can itself hold ") ".
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let (state, pgrp) = (fields.next(), fields.nth(1));
        if state != Some("Z") && pgrp.and_then(|pgrp| pgrp.parse().ok()) == Some(group) {
            members.push(pid);
        }
    }
    members.sort_by_key(|pid| (*pid != group, *pid));
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bound on a hang, not on speed.
    const LIMIT: Duration = Duration::from_secs(180);

    fn shell(script: &str) -> Group {
        Group::spawn(Command::new("sh").args(["-c", script]).stdout(Stdio::null())).unwrap()
    }

    fn members_become(group: u32, count: usize) -> Vec<u32> {
        wait::until("the group has that many members", LIMIT, || {
            Ok(Some(group_members(group)?).filter(|members| members.len() == count))
        })
        .unwrap()
    }

    /// Not even zombies.
    fn assert_no_trace(pids: &[u32]) {
        for pid in pids {
            assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "process {pid}");
        }
    }

    #[test]
    fn a_dropped_group_leaves_no_process() {
        let group = shell("sleep 1000 & sleep 1000 & wait");
        let pid = group.pid();
        let members = members_become(pid, 3);
        assert_eq!(members[0], pid);
        drop(group);
        assert_no_trace(&members);
    }

    #[test]
    fn what_outlives_the_leader_ends_with_the_guard() {
        let mut group = shell("sleep 1000 & exit 7");
        let pid = group.pid();
        assert_eq!(group.wait(LIMIT).unwrap().code(), Some(7));
        assert!(group_members(pid).unwrap().is_empty());
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed_and_reported() {
        let mut group = shell("trap '' TERM; while :; do sleep 0.01; done & wait; wait");
        members_become_at_least_two(group.pid());
        let error = group.terminate(Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("process"), "{error:#}");
        assert!(group.pids().unwrap().is_empty());
    }

    fn members_become_at_least_two(group: u32) {
        wait::until("the trap is set", LIMIT, || {
            Ok((group_members(group)?.len() >= 2).then_some(()))
        })
        .unwrap();
    }
}
