//! A socket's state: made, inherited, announced.
//!
//! Emits: [`SocketRecord`].

use core::ptr;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated as helper;
use aya_log_ebpf::debug;
use wirespan_ebpf::{ListenerKey, NO_SLOT, RecordKind, SocketRecord, SocketState, socket_flag};

use crate::kernel::{self, Object, add, field, offset};
use crate::maps::LISTENERS;
use crate::ring;

pub(crate) const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const TCP_ESTABLISHED: u8 = 1;
pub(crate) const TCP_CLOSE: u8 = 7;
pub(crate) const TCP_LISTEN: u8 = 10;

/// No direction: the next operation begins a burst.
pub(crate) const NO_BURST: u8 = u8::MAX;

/// Whether this is a stream socket of a family that is captured.
#[inline(always)]
pub(crate) fn is_stream(sk: Object) -> bool {
    let kind: u16 = field!(sk, sock_type);
    let family: u16 = field!(sk, sock_family);
    kind == SOCK_STREAM && (family == AF_INET || family == AF_INET6 || family == AF_UNIX)
}

/// Whether the state belongs to this very socket: one that was accepted carries its listener's.
#[inline(always)]
pub(crate) fn is_own(state: *mut SocketState, sk: Object) -> bool {
    // SAFETY: `state` is a map value.
    unsafe { (*state).owner == sk as u64 }
}

/// The socket's own state, made or taken over from the listener where needed.
#[inline(always)]
pub(crate) fn own(sk: Object) -> Option<*mut SocketState> {
    let state = kernel::create_socket_state(sk)?;
    if !is_own(state, sk) {
        // SAFETY: `state` is a map value of this socket; `ready_ns` stays: a listener is never marked, so
        // it is this socket's own first data.
        unsafe {
            if (*state).owner == 0 {
                (*state).flags = 0;
                (*state).connect_ns = 0;
                (*state).inbound = u8::from(is_served(sk));
            } else {
                // `connect_ns` stays: it says when this socket was established.
                (*state).flags = socket_flag::PASSIVE;
                (*state).inbound = 1;
            }
            (*state).owner = sk as u64;
            (*state).cookie = helper::bpf_get_socket_cookie(sk.cast_mut());
            (*state).number = 0;
            (*state).clogged = 0;
            (*state).next_offset = [0; 2];
            (*state).slot = NO_SLOT;
            (*state).burst_left = 0;
            (*state).wide = 0;
            (*state).burst_direction = NO_BURST;
            (*state).lost = 0;
            (*state).retransmits = retransmits(sk);
        }
    }
    Some(state)
}

/// Segments that a TCP socket has retransmitted, modulo 65,536.
#[inline(always)]
pub(crate) fn retransmits(sk: Object) -> u16 {
    let tcp = kernel::tcp_sock(sk);
    if tcp.is_null() {
        return 0;
    }
    let total: u32 = field!(tcp, tcp_total_retrans);
    total as u16
}

/// A traced process listens where this socket is.
pub(crate) fn listens(sk: Object) {
    // An error is a full map under contention: connections that are older than the programs stay unknown.
    _ = LISTENERS.insert(place(sk), 1, u64::from(BPF_ANY));
}

/// Looks again whether the process serves a socket of which nobody saw the beginning.
pub(crate) fn serve(sk: Object, state: *mut SocketState) {
    // SAFETY: `state` is a map value.
    unsafe {
        if (*state).flags & (socket_flag::ACTIVE | socket_flag::PASSIVE) == 0 && is_served(sk) {
            (*state).inbound = 1;
        }
    }
}

/// Whether a traced process listens at the local end of this connection: then it was accepted, although
/// nobody saw it.
#[inline(always)]
fn is_served(sk: Object) -> bool {
    let family: u16 = field!(sk, sock_family);
    let state: u8 = field!(sk, sock_state);
    family != AF_UNIX && state == TCP_ESTABLISHED && LISTENERS.get_ptr(place(sk)).is_some()
}

#[inline(always)]
fn place(sk: Object) -> ListenerKey {
    let net: Object = field!(sk, sock_net);
    let port: u16 = field!(sk, sock_num);
    ListenerKey { net_namespace: field!(net, net_inum), port: u32::from(port) }
}

/// Gives the socket to the process in `slot`, and announces it. Its next operation begins a burst. `flags`: what the
/// caller knows of it ([`socket_flag`]), beside what its state says.
#[inline(never)]
pub(crate) fn announce(sk: Object, state: *mut SocketState, slot: u32, flags: u8) {
    // SAFETY: `state` is a map value.
    unsafe {
        (*state).slot = slot;
        (*state).burst_direction = NO_BURST;
    }
    let mut record = SocketRecord {
        kind: RecordKind::SOCKET.0,
        family: field!(sk, sock_family),
        local_port: field!(sk, sock_num),
        remote_port: u16::from_be(field!(sk, sock_dport)),
        timestamp_ns: kernel::now_ns(),
        // SAFETY: `state` is a map value.
        cookie: unsafe { (*state).cookie },
        slot,
        net_namespace: 0,
        local_address: [0; 16],
        remote_address: [0; 16],
        unix_ends: [0; 2],
        // SAFETY: `state` is a map value.
        connect_ns: unsafe {
            if (*state).flags & socket_flag::CONNECTED != 0 { (*state).connect_ns } else { 0 }
        },
        // SAFETY: `state` is a map value.
        flags: flags | unsafe { (*state).flags },
        state: field!(sk, sock_state),
        reserved: [0; 6],
    };
    debug!((), "slot {} uses socket {}", slot, record.cookie);
    let net: Object = field!(sk, sock_net);
    record.net_namespace = field!(net, net_inum);
    match record.family {
        AF_INET => {
            let local: u32 = field!(sk, sock_rcv_saddr);
            let remote: u32 = field!(sk, sock_daddr);
            // SAFETY: both are 16 bytes.
            unsafe {
                ptr::write_unaligned(record.local_address.as_mut_ptr().cast(), local);
                ptr::write_unaligned(record.remote_address.as_mut_ptr().cast(), remote);
            }
        }
        AF_INET6 => {
            let base = sk as u64;
            let local = base + u64::from(offset!(sock_v6_rcv_saddr));
            let remote = base + u64::from(offset!(sock_v6_daddr));
            record.local_address = kernel::probe_kernel(local).unwrap_or([0; 16]);
            record.remote_address = kernel::probe_kernel(remote).unwrap_or([0; 16]);
        }
        _ => {
            // SAFETY: `sk` is a socket by the verifier's types.
            let unix: Object =
                unsafe { helper::bpf_skc_to_unix_sock(sk.cast_mut()) }.cast_const().cast();
            if !unix.is_null() {
                // By cookie, not by address: an address is soon another socket's, a cookie never. A peer
                // that no program asked about has none yet; it will name this socket when it is announced,
                // because each end has its own before it looks at the other's.
                let peer: u64 =
                    kernel::probe_kernel(unix as u64 + u64::from(offset!(unix_peer))).unwrap_or(0);
                let peer_cookie = if peer == 0 {
                    0
                } else {
                    kernel::probe_kernel(peer + u64::from(offset!(sock_cookie))).unwrap_or(0)
                };
                record.unix_ends = [record.cookie, peer_cookie];
                let address =
                    kernel::probe_kernel::<u64>(unix as u64 + u64::from(offset!(unix_addr)));
                if address.unwrap_or(0) != 0 {
                    record.flags |= socket_flag::ADDRESSED;
                    // SAFETY: `state` is a map value.
                    unsafe { (*state).inbound = 1 };
                }
            }
        }
    }
    if !ring::output(record.cookie, &raw const record, size_of::<SocketRecord>()) {
        if let Some(process) = kernel::process(slot) {
            // SAFETY: a map value's counter.
            add(unsafe { &raw mut (*process).dropped_records }, 1);
        }
    }
}
