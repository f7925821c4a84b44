//! Which two sockets on this node are the ends of one connection.
//!
//! Internet sockets by their addresses crosswise: on loopback within one network namespace (two may use
//! the same), else across namespaces. Unix sockets by cookie: each names its peer, as soon as that has one.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::capture::Socket;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Namespace (0: any), this end, the other end.
    Internet(u32, SocketAddr, SocketAddr),
    /// The unix socket of this cookie.
    Unix(u64),
    /// The unix socket that named this cookie as its peer's.
    PeerOf(u64),
}

/// The keys of a socket, with those under which its other end is found.
fn keys(socket: &Socket) -> impl Iterator<Item = (Key, Key)> {
    let internet = socket.addresses.map(|(here, there)| {
        let namespace = if there.ip().is_loopback() { socket.net_namespace } else { 0 };
        (Key::Internet(namespace, here, there), Key::Internet(namespace, there, here))
    });
    let unix = socket.unix_ends.map(|(here, _)| (Key::Unix(here), Key::PeerOf(here)));
    // The end that was announced first knows no peer, so the other's word has to do for both.
    let peer = socket.unix_ends.filter(|(_, there)| *there != 0);
    let peer = peer.map(|(_, there)| (Key::PeerOf(there), Key::Unix(there)));
    internet.into_iter().chain(unix).chain(peer)
}

/// The ends of the connections that are open now, by socket cookie.
#[derive(Debug, Default)]
pub(super) struct Ends {
    cookies: HashMap<Key, u64>,
}

impl Ends {
    /// Enters a socket. Returns the cookie of the other end, if it is known.
    pub(super) fn enter(&mut self, socket: &Socket) -> Option<u64> {
        let mut other_end = None;
        for (key, other) in keys(socket) {
            self.cookies.insert(key, socket.cookie);
            other_end = other_end.or_else(|| self.cookies.get(&other).copied());
        }
        other_end.filter(|other| *other != socket.cookie)
    }

    /// Forgets a socket; not another that has taken its place.
    pub(super) fn forget(&mut self, socket: &Socket) {
        for (key, _) in keys(socket) {
            if self.cookies.get(&key) == Some(&socket.cookie) {
                self.cookies.remove(&key);
            }
        }
    }

    /// How many keys are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cookies.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::socket as accepted;

    fn socket(cookie: u64, here: &str, there: &str, net_namespace: u32) -> Socket {
        Socket {
            cookie,
            addresses: Some((here.parse().unwrap(), there.parse().unwrap())),
            net_namespace,
            ..accepted()
        }
    }

    #[test]
    fn loopback_pairs_within_a_namespace_only() {
        let mut ends = Ends::default();
        assert_eq!(ends.enter(&socket(1, "127.0.0.1:80", "127.0.0.1:4000", 7)), None);
        assert_eq!(ends.enter(&socket(2, "127.0.0.1:4000", "127.0.0.1:80", 8)), None);
        assert_eq!(ends.enter(&socket(3, "127.0.0.1:4000", "127.0.0.1:80", 7)), Some(1));
    }

    #[test]
    fn routed_addresses_pair_across_namespaces() {
        let mut ends = Ends::default();
        ends.enter(&socket(1, "10.1.0.2:80", "10.1.0.3:4000", 7));
        assert_eq!(ends.enter(&socket(2, "10.1.0.3:4000", "10.1.0.2:80", 8)), Some(1));
    }

    fn unix(cookie: u64, peer: u64) -> Socket {
        Socket {
            addresses: None,
            unix_ends: Some((cookie, peer)),
            ..socket(cookie, "0.0.0.0:0", "0.0.0.0:0", 0)
        }
    }

    #[test]
    fn unix_sockets_pair_when_either_names_the_other() {
        for records in
            [[unix(1, 0), unix(2, 1)], [unix(2, 1), unix(1, 0)], [unix(1, 2), unix(2, 1)]]
        {
            let mut ends = Ends::default();
            assert_eq!(ends.enter(&records[0]), None);
            assert_eq!(ends.enter(&records[1]), Some(records[0].cookie));
            records.iter().for_each(|socket| ends.forget(socket));
            assert_eq!(ends.len(), 0);
        }
    }

    #[test]
    fn a_unix_socket_has_no_end_but_the_one_that_it_or_its_peer_names() {
        let mut ends = Ends::default();
        ends.enter(&unix(1, 0));
        ends.enter(&unix(2, 1));
        // Others, whose peers are not traced: one has no cookie, one has that of a stranger.
        assert_eq!(ends.enter(&unix(3, 0)), None);
        assert_eq!(ends.enter(&unix(4, 77)), None);
    }

    #[test]
    fn a_reused_port_is_not_forgotten_with_its_predecessor() {
        let mut ends = Ends::default();
        let first = socket(1, "10.1.0.2:80", "10.1.0.3:4000", 7);
        ends.enter(&first);
        ends.enter(&socket(5, "10.1.0.2:80", "10.1.0.3:4000", 7));
        ends.forget(&first);
        assert_eq!(ends.enter(&socket(2, "10.1.0.3:4000", "10.1.0.2:80", 8)), Some(5));
    }
}
