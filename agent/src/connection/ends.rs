//! Which two sockets on this node are the ends of one connection.
//!
//! Internet sockets by their addresses crosswise: on loopback within one network namespace (two may use
//! the same), else across namespaces. Unix sockets by their peers.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::capture::Socket;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Namespace (0: any), this end, the other end.
    Internet(u32, SocketAddr, SocketAddr),
    Unix(u64, u64),
}

impl Key {
    fn of(socket: &Socket) -> Option<Self> {
        if let Some((here, there)) = socket.addresses {
            let namespace = if there.ip().is_loopback() { socket.net_namespace } else { 0 };
            return Some(Self::Internet(namespace, here, there));
        }
        socket
            .unix_ends
            .filter(|(_, there)| *there != 0)
            .map(|(here, there)| Self::Unix(here, there))
    }

    fn other_end(self) -> Self {
        match self {
            Self::Internet(namespace, here, there) => Self::Internet(namespace, there, here),
            Self::Unix(here, there) => Self::Unix(there, here),
        }
    }
}

/// The ends of the connections that are open now, by socket cookie.
#[derive(Debug, Default)]
pub struct Ends {
    cookies: HashMap<Key, u64>,
}

impl Ends {
    /// Enters a socket. Returns the cookie of the other end, if it is known.
    pub fn enter(&mut self, socket: &Socket) -> Option<u64> {
        let key = Key::of(socket)?;
        self.cookies.insert(key, socket.cookie);
        self.cookies.get(&key.other_end()).copied().filter(|other| *other != socket.cookie)
    }

    /// Forgets a socket; not another that has taken its place.
    pub fn forget(&mut self, socket: &Socket) {
        if let Some(key) = Key::of(socket)
            && self.cookies.get(&key) == Some(&socket.cookie)
        {
            self.cookies.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Slot;

    fn socket(cookie: u64, here: &str, there: &str, net_namespace: u32) -> Socket {
        Socket {
            cookie,
            slot: Slot(1),
            at_ns: 0,
            addresses: Some((here.parse().unwrap(), there.parse().unwrap())),
            unix_ends: None,
            net_namespace,
            active: false,
            passive: false,
            addressed: false,
            found: false,
            connect_ns: None,
            listening: false,
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
