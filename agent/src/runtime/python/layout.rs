//! Where CPython's structures have what the hooks read, by version, verified in the live process.
//!
//! The numbers are `offsetof` on the headers of builds with a GIL, x86-64 (`Include/internal/pycore_*.h`,
//! `Include/cpython/pystate.h`, 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0). From 3.13 a build tells some
//! of them itself (`_Py_DebugOffsets`). The context's offset, which no build tells, is looked for as well: the
//! one pointer in a thread's state to an object of type `PyContext`. Where the two disagree nothing is used.

use super::image::Image;
use super::memory::Memory;
use super::{Refusal, early};
use crate::process::Version;
use crate::runtime::Reason;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// `_PyRuntimeState`: the interpreters' list, and behind it the main interpreter.
    pub(super) interpreters: u64,
    /// `PyInterpreterState`: the first thread.
    pub(super) threads: u32,
    /// `PyThreadState`: the next one.
    pub(super) next: u32,
    /// `PyThreadState`: its interpreter.
    pub(super) interpreter: u32,
    /// `PyThreadState`: what `pthread_self` gives.
    pub(super) thread_id: u32,
    /// `PyThreadState`: the current context.
    pub(super) context: u32,
    /// `PyThreadState`: the newest piece of the stack of frames; 0 where frames are no such stack.
    pub(super) frames: u32,
}

/// `PyContext`: whether it was entered. The same in all versions.
pub(super) const ENTERED: u32 = 40;

/// `sizeof(PyContext)` that goes with it.
const CONTEXT_BYTES: u64 = 48;

/// `PyTypeObject`: `tp_basicsize`, `tp_methods`, `tp_new`.
const TYPE_SIZE: u64 = 32;
const TYPE_METHODS: u64 = 232;
const TYPE_NEW: u64 = 312;

/// `PyObject`: `ob_type`.
const OBJECT_TYPE: u64 = 8;

/// Threads whose state is looked at to verify the layout.
const MAX_THREADS: usize = 64;

/// How often the threads are looked at: while they run, one may end, or leave its context, between two reads.
const LOOKS: usize = 20;

/// Methods of `PyContext`.
const MAX_METHODS: u64 = 32;

/// By minor version.
fn known(minor: u32) -> Option<Layout> {
    let layout = |interpreters, threads, thread_id, context, frames| Layout {
        interpreters,
        threads,
        next: 8,
        interpreter: 16,
        thread_id,
        context,
        frames,
    };
    Some(match minor {
        8..=10 => layout(32, 8, 176, 240, 0),
        11 => layout(40, 16, 152, 224, 296),
        12 => layout(40, 72, 136, 208, 232),
        13 => layout(632, 7344, 152, 208, 232),
        _ => return None,
    })
}

/// What was found of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) layout: Layout,
    /// Functions that make a context and have no symbol of their own.
    pub(super) makers: Vec<u64>,
}

/// The layout of a process of `version`, verified.
///
/// # Errors
/// [`Refusal`].
pub(super) fn find(memory: &Memory, image: &Image, version: Version) -> Result<Found, Refusal> {
    let Some(layout) = known(version.minor) else {
        return Err(Refusal::Never(Reason::new(format!("CPython {version} is not known"))));
    };
    if version.minor >= 13 {
        told(memory, image, &layout)?;
    }
    let head = interpreter(memory, image, &layout)?;
    if memory.word(image.context_type + TYPE_SIZE).map_err(early)? != CONTEXT_BYTES {
        return Err(Refusal::Early);
    }
    let mut looks = 1;
    while let Err(refusal) = threads(memory, image, &layout, head) {
        if looks == LOOKS {
            return Err(refusal);
        }
        looks += 1;
    }
    Ok(Found { layout, makers: makers(memory, image) })
}

/// The address of the only interpreter.
///
/// # Errors
/// There is none yet, or there are several.
pub(super) fn interpreter(memory: &Memory, image: &Image, layout: &Layout) -> Result<u64, Refusal> {
    let heads = image.runtime.wrapping_add(layout.interpreters);
    let (head, main) = (memory.word(heads).map_err(early)?, memory.word(heads + 8).map_err(early)?);
    if head == 0 || main == 0 {
        return Err(Refusal::Early);
    }
    if head != main {
        return Err(Refusal::Never(Reason::new("it has subinterpreters")));
    }
    Ok(head)
}

/// Whether the threads of the interpreter at `head` and their contexts are where this layout has them.
fn threads(memory: &Memory, image: &Image, layout: &Layout, head: u64) -> Result<(), Refusal> {
    let refuse = |words: &'static str| Err(Refusal::Never(Reason::new(words)));
    let mut state = memory.word(head + u64::from(layout.threads)).map_err(early)?;
    let mut looked = 0;
    while state != 0 && looked < MAX_THREADS {
        let owner = memory.word(state + u64::from(layout.interpreter)).map_err(early)?;
        if owner != head {
            return refuse("its threads are not where this version has them");
        }
        let context = memory.word(state + u64::from(layout.context)).map_err(early)?;
        if context != 0 && memory.word(context + OBJECT_TYPE).ok() != Some(image.context_type) {
            return refuse("its contexts are not where this version has them");
        }
        state = memory.word(state + u64::from(layout.next)).map_err(early)?;
        looked += 1;
    }
    if looked == 0 { Err(Refusal::Early) } else { Ok(()) }
}

/// What a build from 3.13 on tells of itself must be what is known.
fn told(memory: &Memory, image: &Image, layout: &Layout) -> Result<(), Refusal> {
    if !memory.is_text(image.runtime, b"xdebugpy") {
        return Err(Refusal::Never(Reason::new("a build that does not tell its offsets")));
    }
    // `struct _Py_DebugOffsets` (Include/internal/pycore_debug_offsets.h, 3.13): words.
    let word = |index: u64| memory.word(image.runtime + index * 8).map_err(early);
    if word(2)? != 0 {
        return Err(Refusal::Never(Reason::new("a free-threaded build of CPython")));
    }
    let expected = [
        (5, layout.interpreters),
        (9, u64::from(layout.threads)),
        (21, u64::from(layout.next)),
        (22, u64::from(layout.interpreter)),
        (24, u64::from(layout.thread_id)),
    ];
    for (index, value) in expected {
        if word(index)? != value {
            let words = format!("its offset {index} is {}, not {value}", word(index)?);
            return Err(Refusal::Never(Reason::new(words)));
        }
    }
    Ok(())
}

/// `Context()` and `Context.copy()`: calls inside the image that no symbol's probe sees.
fn makers(memory: &Memory, image: &Image) -> Vec<u64> {
    let mut found: Vec<u64> = memory.word(image.context_type + TYPE_NEW).into_iter().collect();
    let Ok(methods) = memory.word(image.context_type + TYPE_METHODS) else { return found };
    for index in 0..MAX_METHODS {
        let entry = methods + index * 32;
        match memory.word(entry) {
            Ok(0) | Err(_) => break,
            Ok(name) if memory.is_text(name, b"copy\0") => {
                found.extend(memory.word(entry + 8));
                break;
            }
            Ok(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_nobody_measured_are_refused() {
        assert_eq!(known(7), None);
        assert!((8..=13).all(|minor| known(minor).is_some()));
        assert_eq!(known(14), None);
    }
}
