//! The programs that follow CPython's contexts: loaded with the others, attached per process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use wirespan_ebpf::{PythonProcess, RUNTIME_PYTHON};

use super::loader::Capture;
use super::probes::{self, Program};
use super::slots::Slot;
use crate::sys::PythonEntry;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PythonProbe {
    /// Where `PyContext_CopyCurrent` has its result in a register: the cookie is the register's number.
    ContextSeen,
    /// The return of `PyContext_CopyCurrent`.
    ContextCopied,
    /// The return of another function that makes a context.
    ContextMade,
    /// `SimpleQueue.put`.
    ItemPut,
    /// The return of `SimpleQueue.get` or `get_nowait`.
    ItemGot,
    /// `uv__run_check`.
    UvloopTurn,
    /// uvloop's `write` and `writelines`.
    UvloopWrite,
    /// `_pickle.load`.
    JobLoaded,
    /// `_pickle.Pickler.dump`.
    JobDone,
}

impl PythonProbe {
    const ALL: [Self; 9] = [
        Self::ContextSeen,
        Self::ContextCopied,
        Self::ContextMade,
        Self::ItemPut,
        Self::ItemGot,
        Self::UvloopTurn,
        Self::UvloopWrite,
        Self::JobLoaded,
        Self::JobDone,
    ];

    fn program(self) -> &'static str {
        match self {
            Self::ContextSeen => "python_context_seen",
            Self::ContextCopied => "python_context_copied",
            Self::ContextMade => "python_context_made",
            Self::ItemPut => "python_item_put",
            Self::ItemGot => "python_item_got",
            Self::UvloopTurn => "python_uvloop_turn",
            Self::UvloopWrite => "python_uvloop_write",
            Self::JobLoaded => "python_job_loaded",
            Self::JobDone => "python_job_done",
        }
    }
}

/// Where a probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonProbePoint {
    /// What for.
    pub probe: PythonProbe,
    /// The file, by a path that leads to it from here.
    pub file: PathBuf,
    /// Where in the file the function begins.
    pub offset: u64,
    /// What the program is told with it.
    pub cookie: u64,
}

/// An attached probe. Dropping it detaches it.
#[derive(Debug)]
pub struct PythonLink(#[expect(dead_code, reason = "held to be dropped")] OwnedFd);

/// The part of capture that follows CPython.
pub(super) struct Pythons {
    processes: Array<MapData, PythonEntry>,
    programs: Vec<Program>,
    generation: u32,
}

impl Pythons {
    /// The loaded programs, with their names.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&'static str, &Program)> {
        PythonProbe::ALL.into_iter().map(PythonProbe::program).zip(&self.programs)
    }
}

/// Loads the programs out of the object whose maps `ebpf` has made. An error is why CPython's contexts can't be
/// followed on this machine.
pub(super) fn load(object: &[u8], ebpf: &mut Ebpf) -> Result<Pythons, String> {
    let names = PythonProbe::ALL.into_iter().map(PythonProbe::program);
    let programs = probes::load(object, ebpf, names)?;
    let map = ebpf.take_map("PYTHONS").ok_or("no map PYTHONS")?;
    let processes = Array::try_from(map).map_err(|error| error.to_string())?;
    Ok(Pythons { processes, programs, generation: 0 })
}

impl Capture {
    /// Whether CPython's contexts can be followed here at all.
    ///
    /// # Errors
    /// Why not.
    pub fn python_support(&self) -> Result<(), &str> {
        self.pythons.as_ref().map(|_| ()).map_err(String::as_str)
    }

    /// Attaches a probe to one process.
    ///
    /// # Errors
    /// The kernel's, or programs that were not loaded.
    pub fn attach_python(&self, pid: i32, point: &PythonProbePoint) -> io::Result<PythonLink> {
        let pythons = self.pythons.as_ref().map_err(|reason| io::Error::other(reason.clone()))?;
        let name = point.probe.program();
        let found = pythons.programs().find(|(program, _)| *program == name);
        let (_, program) = found.ok_or(io::ErrorKind::NotFound)?;
        program.attach(pid, &point.file, point.offset, point.cookie).map(PythonLink)
    }

    /// Follows the contexts of the process in a slot from now on; what was known of them is forgotten.
    /// `process`: but for what is filled in here.
    ///
    /// # Errors
    /// The map's.
    pub fn follow_python(&mut self, slot: Slot, mut process: PythonProcess) -> Result<(), String> {
        let pythons = self.pythons.as_mut().map_err(|reason| reason.clone())?;
        // 24 bits: numbers of contexts hold it above their own 40.
        pythons.generation = (pythons.generation + 1) & 0xff_ffff;
        process.generation = pythons.generation.max(1);
        // So that no number is given out twice, whatever process it is for.
        process.numbered = u64::from(process.generation) << 40;
        pythons
            .processes
            .set(slot.0, PythonEntry(process), 0)
            .map_err(|error| error.to_string())?;
        self.table.set_runtime(slot.0, RUNTIME_PYTHON);
        Ok(())
    }

    /// Follows them no longer.
    pub fn leave_python(&mut self, slot: Slot) {
        // By which its threads, that remember the slot, see that it isn't theirs any more.
        let nobody = PythonProcess {
            interpreters: 0,
            since_ns: 0,
            generation: 0,
            flags: 0,
            threads: 0,
            next: 0,
            thread_id: 0,
            context: 0,
            entered: 0,
            frames: 0,
            numbered: 0,
        };
        if let Ok(pythons) = &mut self.pythons
            && let Err(error) = pythons.processes.set(slot.0, PythonEntry(nobody), 0)
        {
            tracing::warn!(%error, "what is known of a CPython process can't be cleared");
        }
        self.table.set_runtime(slot.0, wirespan_ebpf::RUNTIME_UNKNOWN);
    }
}
