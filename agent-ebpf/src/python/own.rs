//! Contexts that serve one connection each, where a loop reads all of them in one context (uvloop).
//!
//! aiohttp's server makes a task for each connection when it is there, and serves all of its requests in it.
//! Nothing ties the task to the socket before it has answered on it. From then on what is read there is its.

use aya_ebpf::bindings::BPF_ANY;
use wirespan_ebpf::{ANCESTORS, PythonAncestor, PythonKey, PythonProcess, SocketState};

use super::running::{WRITER, number_at};
use crate::kernel::{self, field};
use crate::maps::{PYTHON_CONTEXTS, PYTHON_NUMBERS};

/// Serves several connections: none is its own.
const SHARED: u64 = u64::MAX;

/// A request was read on a connection whose own context this is; 0: it has none.
#[inline(always)]
pub(super) fn request(own: u64, number: u64) {
    // Who was found to be nobody's stays so.
    if own != 0
        && number_at(own) != WRITER
        && PYTHON_NUMBERS.insert(own, number, u64::from(BPF_ANY)).is_err()
    {
        _ = PYTHON_NUMBERS.remove(own);
    }
}

/// Under which key it is kept which connection, by its cookie, a context serves: numbers don't get so high.
#[inline(always)]
const fn connection_of(context: u64) -> u64 {
    !context
}

/// A context, at `address` and with the number `id`, has answered on a connection.
#[inline(always)]
pub(super) fn answered(
    address: u64,
    id: u64,
    process: *mut PythonProcess,
    state: *mut SocketState,
) {
    // SAFETY: map values throughout.
    unsafe {
        let mut established_ns = (*state).connect_ns;
        if established_ns == 0 || established_ns < (*process).since_ns {
            established_ns = u64::MAX;
        }
        let own =
            python_own_context(address, id, (*state).cookie, established_ns, (*state).first_ns);
        if own != 0 && (*state).own_context == 0 {
            (*state).own_context = own;
        }
    }
}

/// What serves the connection alone, by the context that answered: the oldest that this one descends from, or
/// itself, which was made after the connection was established, before its first request was read, and for no
/// request. 0: none. Whoever has answered on another connection too is nobody's.
///
/// A function of its own for the verifier, which looks at it once and not at each call.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_own_context(
    address: u64,
    id: u64,
    cookie: u64,
    established_ns: u64,
    first_ns: u64,
) -> u64 {
    let key = PythonKey { address, task: field!(kernel::current(), task_tgid), reserved: 0 };
    let Some(known) = PYTHON_CONTEXTS.get_ptr_mut(key) else { return 0 };
    // SAFETY: a map value.
    let known = unsafe { &*known };
    if known.id != id || known.address != address {
        return 0;
    }
    let kind = if known.inherited == 0 { 0 } else { PythonAncestor::FOR_A_REQUEST };
    let mut one = PythonAncestor { id, made_ns: known.made_ns | kind };
    let mut own = 0;
    let mut index = 0;
    while one.id != 0 {
        let serves = number_at(connection_of(one.id));
        if serves != 0 && serves != cookie && serves != SHARED {
            _ = PYTHON_NUMBERS.insert(connection_of(one.id), SHARED, u64::from(BPF_ANY));
            _ = PYTHON_NUMBERS.insert(one.id, WRITER, u64::from(BPF_ANY));
        }
        // What was made for a request has a time above all others.
        if serves == 0 && one.made_ns >= established_ns && one.made_ns < first_ns {
            own = one.id;
        }
        if index >= ANCESTORS {
            break;
        }
        one = known.ancestors[index];
        index += 1;
    }
    if own != 0 && PYTHON_NUMBERS.insert(connection_of(own), cookie, u64::from(BPF_ANY)).is_err() {
        return 0;
    }
    own
}
