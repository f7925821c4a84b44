//! The connections that are followed, by socket cookie, and the other end of each.
//!
//! Bounded: one that finds no room is turned away as a whole, and whoever asked is told so, because a request
//! may be hidden on it.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use super::{Connection, Ends, Options, Peer};
use crate::call::ProcessId;
use crate::capture::Socket;

/// How long the other end may take to be announced. That happens with its first operation, so that a server
/// which is busy can take longer; it is recognised by its port.
const PEER_WAIT_NS: u64 = 1_000_000_000;

/// What an announcement led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The cookie of the other end, where that is followed too and offsets at both count the same bytes.
    pub other_end: Option<u64>,
    /// There was no room.
    pub turned_away: bool,
}

/// The connections that are followed.
pub struct Connections {
    by_cookie: FxHashMap<u64, Connection>,
    ends: Ends,
    most: usize,
}

impl Connections {
    /// None, with room for `most`.
    pub fn new(most: usize) -> Self {
        Self { by_cookie: FxHashMap::default(), ends: Ends::default(), most }
    }

    /// A process uses a socket (now). `from_start`: nothing passed on it before.
    pub fn announce(
        &mut self,
        process: ProcessId,
        socket: Socket,
        from_start: bool,
        options: Options,
    ) -> Announced {
        let has_room = self.by_cookie.len() < self.most;
        let cookie = socket.cookie;
        let connection = match self.by_cookie.entry(socket.cookie) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.announced(process, socket);
                known.ask(options);
                known
            }
            Entry::Vacant(place) if has_room => {
                place.insert(Connection::new(process, Some(socket), from_start).with(options))
            }
            Entry::Vacant(_) => return Announced { other_end: None, turned_away: true },
        };
        // A unix socket's offsets are counted from when it was first seen: they agree with its peer's only
        // where that was the beginning, at both ends.
        let known = connection.socket.as_ref();
        let alike = known.filter(|socket| socket.unix_ends.is_none() || connection.is_from_start());
        let other_end = alike.and_then(|socket| self.ends.enter(socket));
        if let Some(other) = other_end {
            for cookie in [cookie, other] {
                if let Some(connection) = self.by_cookie.get_mut(&cookie) {
                    connection.peer = Peer::Followed;
                }
            }
        }
        Announced { other_end, turned_away: false }
    }

    /// A connection whose socket was not announced. `false`: there is no room.
    pub fn meet(&mut self, cookie: u64, process: ProcessId, options: Options) -> bool {
        let has_room = self.by_cookie.len() < self.most;
        if has_room {
            let connection = Connection::new(process, None, false).with(options);
            self.by_cookie.insert(cookie, connection);
        }
        has_room
    }

    /// The connections that a process made to where no traced process listens, each told once. A server that
    /// becomes traced later is told by its own announcement.
    pub fn unpaired(&mut self, now_ns: u64, listens: impl Fn(u16) -> bool) -> Vec<u64> {
        let mut unpaired = Vec::new();
        for (cookie, connection) in &mut self.by_cookie {
            let Some(socket) = connection.socket.as_ref().filter(|socket| socket.active) else {
                continue;
            };
            if connection.peer == Peer::Unknown
                && now_ns.saturating_sub(socket.at_ns) > PEER_WAIT_NS
                && socket.addresses.is_some_and(|(_, there)| !listens(there.port()))
            {
                connection.peer = Peer::Elsewhere;
                unpaired.push(*cookie);
            }
        }
        unpaired
    }

    /// Whether those whose end can't be seen should make room.
    pub fn are_crowded(&self) -> bool {
        self.by_cookie.len() >= self.most / 2
    }

    /// Whether it is followed.
    pub fn contains(&self, cookie: u64) -> bool {
        self.by_cookie.contains_key(&cookie)
    }

    /// A connection.
    pub fn get(&self, cookie: u64) -> Option<&Connection> {
        self.by_cookie.get(&cookie)
    }

    /// A connection.
    pub fn get_mut(&mut self, cookie: u64) -> Option<&mut Connection> {
        self.by_cookie.get_mut(&cookie)
    }

    /// All cookies, in no order.
    pub fn cookies(&self) -> Vec<u64> {
        self.by_cookie.keys().copied().collect()
    }

    /// All, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Connection> {
        self.by_cookie.values()
    }

    /// All, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.by_cookie.values_mut()
    }

    /// Follows a connection no longer.
    pub fn remove(&mut self, cookie: u64) -> Option<Connection> {
        let connection = self.by_cookie.remove(&cookie)?;
        if let Some(socket) = &connection.socket {
            self.ends.forget(socket);
        }
        Some(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::socket;

    const PROCESS: ProcessId = ProcessId(1);
    fn tcp(cookie: u64) -> Socket {
        let address = |port: u64| format!("10.0.0.1:{}", 1_000 + port).parse().unwrap();
        Socket { cookie, addresses: Some((address(cookie), address(cookie ^ 1))), ..socket() }
    }

    fn unix(cookie: u64, peer: u64) -> Socket {
        Socket { cookie, unix_ends: Some((cookie, peer)), ..socket() }
    }

    #[test]
    fn one_without_room_is_turned_away_and_leaves_nothing_behind() {
        let mut connections = Connections::new(10);
        let turned_away = (0..1_000)
            .filter(|cookie| {
                connections.announce(PROCESS, tcp(*cookie), true, Options::default()).turned_away
            })
            .count();
        assert_eq!((turned_away, connections.ends.len()), (990, 10));
        assert!(!connections.meet(2_000, PROCESS, Options::default()) && connections.are_crowded());
        connections.cookies().into_iter().for_each(|cookie| drop(connections.remove(cookie)));
        assert_eq!(connections.ends.len(), 0);
        assert!(
            connections.meet(2_000, PROCESS, Options::default()) && connections.contains(2_000)
        );
    }

    #[test]
    fn ends_are_told_from_either_and_again_to_another_process() {
        let mut connections = Connections::new(10);
        let mut other_end =
            |socket| connections.announce(PROCESS, socket, true, Options::default()).other_end;
        assert_eq!(other_end(tcp(4)), None);
        assert_eq!(other_end(tcp(5)), Some(4));
        assert_eq!(other_end(tcp(4)), Some(5));
    }

    #[test]
    fn unix_sockets_are_ends_of_one_only_when_both_were_followed_from_the_start() {
        for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut connections = Connections::new(10);
            connections.announce(PROCESS, unix(1, 0), first, Options::default());
            let expected = (first && second).then_some(1);
            let announced = connections.announce(PROCESS, unix(2, 1), second, Options::default());
            assert_eq!(announced.other_end, expected, "{first} {second}");
            // To a child of the process it is new, the connection is not.
            let announced =
                connections.announce(ProcessId(2), unix(2, 1), true, Options::default());
            assert_eq!(announced.other_end, expected, "{first} {second}");
        }
    }

    #[test]
    fn what_connects_to_where_nobody_traced_listens_has_no_other_end() {
        let mut connections = Connections::new(10);
        let active = |cookie| Socket { active: true, passive: false, ..tcp(cookie) };
        // To a server that is followed, to one that is busy, to a database, and one that was accepted.
        for socket in [active(4), tcp(5), active(6), active(8), tcp(10)] {
            connections.announce(PROCESS, socket, true, Options::default());
        }
        let listens = |port| port == 1_005 || port == 1_007;
        assert!(connections.unpaired(PEER_WAIT_NS, listens).is_empty());
        assert_eq!(connections.unpaired(PEER_WAIT_NS + 1, listens), [8]);
        assert!(connections.unpaired(PEER_WAIT_NS + 1, listens).is_empty(), "once");
        assert_eq!(
            connections.announce(PROCESS, tcp(9), true, Options::default()).other_end,
            Some(8),
            "after all"
        );
    }
}
