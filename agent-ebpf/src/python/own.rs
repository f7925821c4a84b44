//! Contexts that serve one connection each, where a loop reads all of them in one context (uvloop).
//!
//! aiohttp's server makes a task for each connection when it is there, and serves all of its requests in it.
//! Nothing ties the task to the socket before it has answered on it. From then on what is read there is its.

use aya_ebpf::bindings::BPF_ANY;
use wirespan_ebpf::{ANCESTORS, PythonAncestor, SocketState};

use super::contexts;
use super::running::{Running, WRITER, number_at};
use crate::maps::PYTHON_NUMBERS;

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
pub(super) fn answered(address: u64, id: u64, running: &Running, state: *mut SocketState) {
    // SAFETY: map values throughout.
    unsafe {
        let mut established_ns = (*state).connect_ns;
        if established_ns == 0 || established_ns < (*running.process).since_ns {
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
    let Some(found) = contexts::find(address, contexts::generation_of(id)) else { return 0 };
    if found.id != id {
        return 0;
    }
    let known = found.place();
    // SAFETY: a map value.
    let (inherited, made_ns) = unsafe { ((*known).inherited, (*known).made_ns) };
    let kind = if inherited == 0 { 0 } else { PythonAncestor::FOR_A_REQUEST };
    let mut one = PythonAncestor { id, made_ns: made_ns | kind };
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
        // SAFETY: as above.
        one = unsafe { (*known).ancestors[index] };
        index += 1;
    }
    if own != 0
        && (!found.holds()
            || PYTHON_NUMBERS.insert(connection_of(own), cookie, u64::from(BPF_ANY)).is_err())
    {
        return 0;
    }
    own
}
