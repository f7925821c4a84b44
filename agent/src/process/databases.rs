//! Which PostgreSQL databases a process's own variables name: libpq's, and URLs.
//!
//! Serves connections that are older than the agent, whose beginning would have named the database, for good:
//! a session can't change it. (Of Redis it can: there nothing is taken from settings.) An environment is full
//! of credentials: a URL's are dropped where it is read, and nothing is kept but host, port and name. A host that
//! is a name is looked up in the process's own `/etc/hosts` and nowhere else: nobody is asked.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::capture::Socket;

/// PostgreSQL's own.
const PORT: u16 = 5432;

/// Variables with a URL that are looked at.
const MAX_DATABASES: usize = 32;

/// The longest name of a database that is kept (PostgreSQL's own have 63 bytes).
const MAX_NAME_BYTES: usize = 128;

/// Addresses of one name that are kept.
const MAX_ADDRESSES: usize = 16;

/// Where a variable says that a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Host {
    /// Not said, or in a way that isn't read.
    Anywhere,
    Address(IpAddr),
    /// `localhost`.
    Loopback,
    /// A unix socket.
    Unix,
    /// Not said: a unix socket or this host.
    Default,
    /// A name: whose address it is isn't known.
    Name(Box<str>),
    /// A name that the process's `/etc/hosts` has, with what it has of it.
    Named(Vec<IpAddr>),
}

/// One database that is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Database {
    host: Host,
    port: u16,
    /// `None`: there is one, whose name can't be read.
    name: Option<Box<str>>,
    /// It is meant wherever the program itself says that the server is.
    elsewhere: bool,
}

/// What a process's variables say of databases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Databases(Vec<Database>);

impl Databases {
    /// Reads all variables, each as name and value.
    pub(super) fn read<'a>(variables: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let get = |wanted: &str| {
            let mut of_name = variables.clone().filter(|(name, _)| *name == wanted);
            of_name.next().map(|(_, value)| value).filter(|value| !value.is_empty())
        };
        let mut found = Vec::new();
        let default = get("PGDATABASE");
        if let Some(name) = default {
            let host = get("PGHOSTADDR").or_else(|| get("PGHOST")).map_or(Host::Default, host_of);
            let port = get("PGPORT").map_or(Some(PORT), |port| port.parse().ok());
            let (host, port) = port.map_or((Host::Anywhere, PORT), |port| (host, port));
            found.push(Database { elsewhere: true, ..database(host, port, name) });
        }
        // Says anything, in a file.
        if get("PGSERVICE").is_some() {
            found.push(database(Host::Anywhere, PORT, ""));
        }
        let others = variables.filter_map(|(name, value)| {
            url(value, default).or_else(|| said_otherwise(name, value))
        });
        found.extend(others.take(MAX_DATABASES + 1));
        if found.len() > MAX_DATABASES {
            found.push(database(Host::Anywhere, PORT, ""));
        }
        Self(found)
    }

    /// Whether a host is a name.
    pub(super) fn have_names(&self) -> bool {
        self.0.iter().any(|database| matches!(database.host, Host::Name(_)))
    }

    /// Looks up names in an `/etc/hosts`, which is whole.
    pub(super) fn resolve(&mut self, hosts: &[u8]) {
        for database in &mut self.0 {
            let Host::Name(name) = &database.host else { continue };
            let addresses = addresses(hosts, name);
            if !addresses.is_empty() {
                database.host = Host::Named(addresses);
            }
        }
    }

    /// The database that the process's variables name for a connection: only if they name one that it can be. One
    /// whose host isn't known may be any connection's, and so may one that goes with what the program says itself.
    #[must_use]
    pub fn at(&self, socket: &Socket) -> Option<&str> {
        let at = |wanted: At| self.0.iter().filter(move |database| database.at(socket) == wanted);
        let name = at(At::Yes).next()?.name.as_deref()?;
        at(At::Yes)
            .chain(at(At::Maybe))
            .all(|other| other.name.as_deref() == Some(name))
            .then_some(name)
    }
}

/// Whether a connection is to a database's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Yes,
    No,
    Maybe,
}

/// The addresses that an `/etc/hosts` has of a name: hosts(5).
fn addresses(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split_ascii_whitespace();
        if let Some(address) = words.next().and_then(|word| word.parse().ok())
            && words.any(|word| word.eq_ignore_ascii_case(name))
            && found.len() < MAX_ADDRESSES
        {
            found.push(address);
        }
    }
    found
}

impl Database {
    fn at(&self, socket: &Socket) -> At {
        let no = if self.elsewhere { At::Maybe } else { At::No };
        let sure = |is: bool| if is { At::Yes } else { no };
        if self.host == Host::Anywhere {
            return At::Maybe;
        }
        let Some((_, remote)) = socket.addresses else {
            let unix = matches!(self.host, Host::Unix | Host::Default);
            return sure(socket.unix_ends.is_some() && unix);
        };
        let address = remote.ip();
        let is = |host: &IpAddr| host.to_canonical() == address;
        match &self.host {
            _ if remote.port() != self.port => no,
            Host::Address(host) => sure(is(host)),
            Host::Named(hosts) => sure(hosts.iter().any(is)),
            Host::Loopback | Host::Default => sure(address.is_loopback()),
            Host::Unix => no,
            Host::Name(_) | Host::Anywhere => At::Maybe,
        }
    }
}

fn database(host: Host, port: u16, name: &str) -> Database {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control);
    Database { host, port, name: fits.then(|| name.into()), elsewhere: false }
}

/// A database without its server: libpq's key words and values, or a variable that programs commonly take its name
/// from.
fn said_otherwise(name: &str, value: &str) -> Option<Database> {
    const NAMES: &[&str] =
        &["DATABASE_NAME", "DB_DATABASE", "DB_NAME", "POSTGRES_DATABASE", "POSTGRES_DB"];
    let keyed = || {
        let mut words = value.split_ascii_whitespace();
        let name = words.find_map(|word| word.strip_prefix("dbname="))?.split(';').next()?;
        Some(name.trim_matches('\''))
    };
    let name =
        if NAMES.contains(&name) { Some(value).filter(|it| !it.is_empty()) } else { keyed() };
    name.map(|name| database(Host::Anywhere, PORT, name))
}

fn host_of(host: &str) -> Host {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.contains(',') {
        Host::Anywhere
    } else if host.starts_with('/') || host.starts_with('@') {
        Host::Unix
    } else if let Ok(address) = bare.parse() {
        Host::Address(address)
    } else if host.eq_ignore_ascii_case("localhost") {
        Host::Loopback
    } else {
        Host::Name(host.into())
    }
}

/// A URL of a database, as clients take them: `scheme[+driver]://[user[:password]@]host[:port][/name][?...]`. Without
/// a name it means the `default` one, if there is one, else that which is called as the user is.
fn url(text: &str, default: Option<&str>) -> Option<Database> {
    let (scheme, rest) = text.split_once("://")?;
    if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql" | "postgis")) {
        return None;
    }
    let (rest, query) = rest.split_once(['?', '#']).unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = credentials.split(':').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, number)) if !number.ends_with(']') => (host, number.parse().ok()),
        _ => (place, Some(PORT)),
    };
    // Such a setting may move it elsewhere.
    let moved = ["host=", "hostaddr=", "port=", "service="].iter().any(|key| query.contains(key));
    let (host, port) = match (host, port) {
        (_, Some(_)) if moved => (Host::Anywhere, PORT),
        ("", Some(port)) => (Host::Default, port),
        (host, Some(port)) => (host_of(host), port),
        (_, None) => (Host::Anywhere, PORT),
    };
    let name = if path.is_empty() { default.unwrap_or(user) } else { path };
    // What is encoded would have to be decoded as the client does; and a password may have what parts a URL.
    let unread = name.contains(['%', '/', '@', ':', ';']) || query.contains("dbname=");
    Some(database(host, port, if unread { "" } else { name }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Slot;
    use crate::process::tests::Tree;

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
        assert_eq!(found.at(&to("127.0.0.1:5433")), None);
        let found = read(&[("PGDATABASE", "a"), ("PGHOST", "10.0.0.7"), ("PGPORT", "5433")]);
        assert_eq!(found.at(&to("10.0.0.7:5433")), Some("a"));
        assert_eq!(found.at(&unix()), None);
        assert_eq!(read(&[("PGHOST", "10.0.0.7")]), Databases::default());
        // The program may well say which database.
        assert_eq!(read(&[("PGUSER", "me"), ("PGHOST", "10.0.0.7")]), Databases::default());
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
    fn what_any_connection_may_mean_leaves_no_other_certain() {
        const URL: (&str, &str) = ("A", "postgres://me:s3cr3t@10.0.0.7/shop");
        for (name, value, certain) in [
            ("PGDATABASE", "audit", false),
            ("PGDATABASE", "shop", true),
            ("PGSERVICE", "audit", false),
            ("POSTGRES_DB", "audit", false),
            ("POSTGRES_DB", "shop", true),
            ("DB_NAME", "audit", false),
            ("DSN", "host=10.0.0.8 dbname=audit password=s3cr3t", false),
            ("DSN", "host=10.0.0.8 dbname='shop'", true),
            ("B", "postgres://me@10.0.0.7,10.0.0.8/audit", false),
            ("B", "postgres://me@/audit?host=10.0.0.7", false),
            ("B", "postgres://me@10.0.0.7/a%2Fb", false),
            ("B", "postgres://me@10.0.0.7/shop?dbname=audit", false),
            ("B", "postgres://me@10.0.0.7:5432a/audit", false),
            ("B", "postgres://me@10.0.0.8/audit", true),
            ("B", "redis://10.0.0.7/3", true),
        ] {
            let found = read(&[URL, (name, value)]);
            let at = found.at(&to("10.0.0.7:5432"));
            assert_eq!(at, certain.then_some("shop"), "{name}={value}");
            assert!(!format!("{found:?}").contains("s3cr3t"));
        }
        let many = vec![URL; MAX_DATABASES + 1];
        assert_eq!(read(&many).at(&to("10.0.0.7:5432")), None, "there may be more");
    }

    #[test]
    fn a_url_without_a_name_means_the_default() {
        let variables = [("A", "postgres://me@10.0.0.7"), ("PGDATABASE", "shop")];
        assert_eq!(read(&variables).at(&to("10.0.0.7:5432")), Some("shop"));
        assert_eq!(read(&variables[..1]).at(&to("10.0.0.7:5432")), Some("me"));
    }

    const HOSTS: &[u8] = b"127.0.0.1 localhost\n10.0.0.7\tdb.example DB # primary\n\
        ::ffff:10.0.0.8 db\n#10.0.0.9 db\nnonsense db\n10.0.0.1 other\n";

    #[test]
    fn a_name_is_looked_up_in_the_processs_own_hosts() {
        for (host, remote, name) in [
            ("db", "10.0.0.7:5432", Some("shop")),
            ("db", "10.0.0.8:5432", Some("shop")),
            ("db.example", "10.0.0.7:5432", Some("shop")),
            ("db.example", "10.0.0.8:5432", None),
            ("db", "10.0.0.9:5432", None),
            ("db", "10.0.0.7:5433", None),
            ("primary", "10.0.0.7:5432", None),
            ("example", "10.0.0.7:5432", None),
        ] {
            let mut found = read(&[("ANY", &*format!("postgres://me:secret@{host}/shop"))]);
            assert!(found.have_names());
            assert_eq!(found.at(&to(remote)), None, "{host} before");
            found.resolve(HOSTS);
            assert_eq!(found.at(&to(remote)), name, "{host} {remote}");
        }
    }

    #[test]
    fn no_more_of_hosts_is_read_than_all_of_it() {
        let tree = Tree::new();
        tree.add(42, 7, "node", b"...node.js/v20.11.1\0...", &["node", "server.js"]);
        tree.write(42, "environ", b"DATABASE_URL=postgres://me:s3cr3t@db/shop\0");
        let named = || {
            let environment = tree.procfs().inspect(42).unwrap().environment;
            environment.databases().at(&to("10.0.0.7:5432")).map(str::to_owned)
        };
        assert_eq!(named(), None, "no file");
        tree.file("/etc/hosts", "10.0.0.7 db\n");
        assert_eq!(named().as_deref(), Some("shop"));
        tree.file("/etc/hosts", &format!("10.0.0.7 db\n{}", "#\n".repeat(40_000)));
        assert_eq!(named(), None, "what follows may say otherwise");
    }

    #[test]
    fn a_name_that_may_be_anybodys_leaves_no_other_certain() {
        let two = |host: &str, second: &str| {
            let second = format!("postgres://me@{host}/{second}");
            let mut found = read(&[("A", "postgres://me@db/shop"), ("B", &*second)]);
            found.resolve(HOSTS);
            found.at(&to("10.0.0.7:5432")).map(str::to_owned)
        };
        assert_eq!(two("unknown", "audit"), None);
        assert_eq!(two("unknown", "shop").as_deref(), Some("shop"));
        assert_eq!(two("unknown:5433", "audit").as_deref(), Some("shop"));
        assert_eq!(two("other", "audit").as_deref(), Some("shop"));
        assert_eq!(two("db.example", "audit"), None);
    }

    #[test]
    fn nothing_of_the_credentials_is_kept() {
        let found = read(&[
            ("A", "postgres://user-s3cr3t:s3cr3t@10.0.0.7/shop"),
            ("PGPASSWORD", "s3cr3t"),
            ("PGDATABASE", "shop"),
            ("B", "pgsql:host=db; dbname=shop;password=s3cr3t"),
            ("C", "postgres://me:pass/s3cr3t@10.0.0.7"),
        ]);
        assert_eq!(found.0.len(), 4);
        assert!(!format!("{found:?}").contains("s3cr3t"));
    }
}
