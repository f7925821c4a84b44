//! Which PostgreSQL databases a process's own variables name: libpq's, and URLs.
//!
//! Serves connections that are older than the agent, whose beginning would have named the database, for good:
//! a session can't change it. (Of Redis it can: there nothing is taken from settings.) An environment is full
//! of credentials: a URL's are dropped where it is read, and nothing is kept but host, port and name.

use std::net::IpAddr;

use crate::capture::Socket;

/// PostgreSQL's own.
const PORT: u16 = 5432;

/// Variables with a URL that are looked at.
const MAX_DATABASES: usize = 32;

/// The longest name of a database that is kept (PostgreSQL's own have 63 bytes).
const MAX_NAME_BYTES: usize = 128;

/// Where a variable says that a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// `localhost`.
    Loopback,
    /// A unix socket.
    Unix,
    /// Not said: a unix socket or this host.
    Default,
    /// A name: whose address it is can't be known here.
    Name,
}

/// One database that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Database {
    host: Host,
    port: u16,
    name: Box<str>,
}

/// What a process's variables say of databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Databases(Vec<Database>);

impl Databases {
    /// Reads all variables, each as name and value.
    pub(super) fn read<'a>(variables: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let get = |wanted: &str| {
            let mut of_name = variables.clone().filter(|(name, _)| *name == wanted);
            of_name.next().map(|(_, value)| value).filter(|value| !value.is_empty())
        };
        let mut found = Vec::new();
        let named = get("PGDATABASE").or_else(|| get("PGUSER"));
        let port = get("PGPORT").map_or(Some(PORT), |port| port.parse().ok());
        if let (Some(name), Some(port)) = (named, port) {
            let host = get("PGHOSTADDR").or_else(|| get("PGHOST"));
            let host = host.map_or(Host::Default, host_of);
            found.extend(database(host, port, name));
        }
        found.extend(variables.filter_map(|(_, value)| url(value)).take(MAX_DATABASES));
        Self(found)
    }

    /// The database that the process's variables name for a connection: only if they name one.
    #[must_use]
    pub fn at(&self, socket: &Socket) -> Option<&str> {
        let mut at = self.0.iter().filter(|database| database.is_at(socket));
        let name = &*at.next()?.name;
        at.all(|other| *other.name == *name).then_some(name)
    }
}

impl Database {
    fn is_at(&self, socket: &Socket) -> bool {
        let Some((_, remote)) = socket.addresses else {
            return socket.unix_ends.is_some() && matches!(self.host, Host::Unix | Host::Default);
        };
        let address = remote.ip();
        remote.port() == self.port
            && match &self.host {
                Host::Address(host) => host.to_canonical() == address,
                Host::Loopback | Host::Default => address.is_loopback(),
                Host::Unix | Host::Name => false,
            }
    }
}

fn database(host: Host, port: u16, name: &str) -> Option<Database> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control);
    fits.then(|| Database { host, port, name: name.into() })
}

fn host_of(host: &str) -> Host {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.starts_with('/') || host.starts_with('@') {
        Host::Unix
    } else if let Ok(address) = bare.parse() {
        Host::Address(address)
    } else if host.eq_ignore_ascii_case("localhost") {
        Host::Loopback
    } else {
        Host::Name
    }
}

/// A URL of a database, as clients take them: `scheme[+driver]://[user[:password]@]host[:port][/name][?...]`.
fn url(text: &str) -> Option<Database> {
    let (scheme, rest) = text.split_once("://")?;
    if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql" | "postgis")) {
        return None;
    }
    let (rest, query) = rest.split_once(['?', '#']).unwrap_or((rest, ""));
    // Such a setting may move it elsewhere.
    if ["host=", "hostaddr=", "port=", "dbname="].iter().any(|key| query.contains(key)) {
        return None;
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = credentials.split(':').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, number)) if !number.ends_with(']') => (host, number.parse().ok()?),
        _ => (place, PORT),
    };
    let host = match host {
        "" => Host::Default,
        host if host.contains(',') => return None,
        host => host_of(host),
    };
    let name = if path.is_empty() { user } else { path };
    // What is encoded would have to be decoded as the client does.
    if name.contains(['%', '/']) { None } else { database(host, port, name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Slot;

    fn to(remote: &str) -> Socket {
        let addresses = Some(("127.0.0.1:40000".parse().unwrap(), remote.parse().unwrap()));
        Socket { addresses, unix_ends: None, ..unix() }
    }

    fn unix() -> Socket {
        Socket {
            cookie: 1,
            slot: Slot(1),
            at_ns: 0,
            addresses: None,
            unix_ends: Some((1, 2)),
            net_namespace: 0,
            active: false,
            passive: false,
            addressed: false,
            found: true,
            connect_ns: None,
            listening: false,
        }
    }

    fn read(variables: &[(&str, &str)]) -> Databases {
        Databases::read(variables.iter().copied())
    }

    #[test]
    fn a_variable_names_the_database_of_a_connection_to_its_host_and_port() {
        for (value, remote, name) in [
            ("postgres://me:secret@10.0.0.7/shop", "10.0.0.7:5432", Some("shop")),
            ("postgresql+asyncpg://me@10.0.0.7:5433/shop?ssl=off", "10.0.0.7:5433", Some("shop")),
            ("postgres://me:p@ss@localhost/shop", "127.0.0.1:5432", Some("shop")),
            ("postgres://me@[::1]:5432/shop", "[::1]:5432", Some("shop")),
            ("postgres://me:secret@10.0.0.7", "10.0.0.7:5432", Some("me")),
            ("postgres://me@10.0.0.7/shop", "10.0.0.8:5432", None),
            ("postgres://me@10.0.0.7/shop", "10.0.0.7:5433", None),
            ("postgres://me@database/shop", "10.0.0.7:5432", None),
            ("postgres://me@10.0.0.7,10.0.0.8/shop", "10.0.0.7:5432", None),
            ("postgres://me@10.0.0.7/shop?host=10.0.0.8", "10.0.0.7:5432", None),
            ("postgres://me@10.0.0.7/a%2Fb", "10.0.0.7:5432", None),
            ("mysql://me@10.0.0.7:5432/shop", "10.0.0.7:5432", None),
            ("shop", "10.0.0.7:5432", None),
        ] {
            let found = read(&[("ANY", value)]);
            assert_eq!(found.at(&to(remote)), name, "{value}");
        }
    }

    #[test]
    fn libpqs_own_variables_are_read_as_libpq_does() {
        let found = read(&[("PGDATABASE", "shop"), ("PGUSER", "me")]);
        assert_eq!(found.at(&unix()), Some("shop"));
        assert_eq!(found.at(&to("127.0.0.1:5432")), Some("shop"));
        assert_eq!(found.at(&to("10.0.0.7:5432")), None);
        let found = read(&[("PGUSER", "me"), ("PGHOST", "10.0.0.7"), ("PGPORT", "5433")]);
        assert_eq!(found.at(&to("10.0.0.7:5433")), Some("me"));
        assert_eq!(found.at(&unix()), None);
        assert_eq!(read(&[("PGHOST", "10.0.0.7")]), Databases::default());
    }

    #[test]
    fn two_that_differ_name_none_and_two_alike_one() {
        let two = |second: &'static str| {
            read(&[("A", "postgres://a:b@10.0.0.7/shop"), ("B", second)])
                .at(&to("10.0.0.7:5432"))
                .map(str::to_owned)
        };
        assert_eq!(two("postgres://c@10.0.0.7/audit"), None);
        assert_eq!(two("postgres://c@10.0.0.7/shop").as_deref(), Some("shop"));
        assert_eq!(two("postgres://c@10.0.0.8/audit").as_deref(), Some("shop"));
    }

    #[test]
    fn nothing_of_the_credentials_is_kept() {
        let found = read(&[
            ("A", "postgres://user-s3cr3t:s3cr3t@10.0.0.7/shop"),
            ("PGPASSWORD", "s3cr3t"),
            ("PGDATABASE", "shop"),
        ]);
        assert_eq!(found.0.len(), 2);
        assert!(!format!("{found:?}").contains("s3cr3t"));
    }
}
