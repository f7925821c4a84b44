//! A Redis, a PostgreSQL and a RabbitMQ of a test's own: temporary processes on free loopback ports and unix sockets,
//! with passwords, in a directory that the test owns.
//!
//! Debian's packages bring the programs (`cargo xtask setup`); a cluster that those start is left alone.

mod rabbitmq;

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Group, finish, on_path};
use crate::workloads::{ports, service::tail};
use crate::{sys, wait};

pub use rabbitmq::RabbitMq;

/// In every password and value that a program under test uses: nothing exported may hold it.
pub const SECRET: &str = "s3cr3t";

/// What both servers ask for.
pub const PASSWORD: &str = "s3cr3t-password";

/// PostgreSQL's database.
pub const DATABASE: &str = "shop";

/// How long a server may take to accept connections.
const READY: Duration = Duration::from_secs(180);

/// How long PostgreSQL may take to end at once.
const END: Duration = Duration::from_secs(10);

/// Debian keeps PostgreSQL's programs here, a directory a version.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// The account that Debian's package makes; PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";

/// What the programs under test find.
const SCHEMA: &str = "
    CREATE TABLE orders (id integer PRIMARY KEY, name text);
    INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 100) AS i;
    CREATE TABLE items (client text, id integer, name text, PRIMARY KEY (client, id));
    CREATE TABLE thing (id serial PRIMARY KEY, name text, number integer);
    CREATE SCHEMA app;
    CREATE FUNCTION app.fn(n integer) RETURNS integer LANGUAGE sql AS 'SELECT n + 1';
";

/// A running Redis and a running PostgreSQL.
#[derive(Debug)]
pub struct Servers {
    /// Redis.
    pub redis: Server,
    /// PostgreSQL, superuser `postgres`, database [`DATABASE`].
    pub postgres: Server,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    group: Group,
    port: u16,
    socket: PathBuf,
    /// PostgreSQL's processes leave the group: it has to end them itself.
    farewell: Option<i32>,
}

/// Whether all servers' programs are there, and Java's and Maven's for [`crate::broker`].
#[must_use]
pub fn are_installed() -> bool {
    let needed = ["redis-server", "java", "mvn"];
    postgres_programs().is_ok()
        && rabbitmq::is_installed()
        && needed.iter().all(|program| on_path(program).is_some())
}

impl Servers {
    /// Starts both in new directories under `directory` and waits until they serve.
    ///
    /// # Errors
    /// When a program is missing, or a server ends or doesn't serve in time, with the end of its log.
    pub fn start(directory: &Path) -> Result<Self> {
        // The other account has to pass.
        fs::set_permissions(directory, Permissions::from_mode(0o711))?;
        Ok(Self {
            redis: redis(&directory.join("redis"), &[]).context("start Redis")?,
            postgres: postgres(&directory.join("postgres")).context("start PostgreSQL")?,
        })
    }

    /// The variables by which the programs under test find both.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("REDIS_PORT", self.redis.port.to_string()),
            ("REDIS_SOCKET", text(&self.redis.socket)),
            ("PGPORT", self.postgres.port.to_string()),
            ("PG_SOCKET_DIRECTORY", text(&self.postgres.socket)),
            ("PGUSER", ACCOUNT.to_owned()),
            ("PGDATABASE", DATABASE.to_owned()),
            ("PGPASSWORD", PASSWORD.to_owned()),
            ("REDIS_PASSWORD", PASSWORD.to_owned()),
        ]
    }
}

/// A Redis Cluster: masters without replicas, each with a part of the slots.
#[derive(Debug)]
pub struct Cluster(Vec<Server>);

/// Its masters: the fewest that agree on anything.
const MASTERS: u16 = 3;

/// Hash slots of every cluster.
const SLOTS: u16 = 16_384;

impl Cluster {
    /// Starts the nodes in new directories under `directory`, and waits until the cluster serves.
    ///
    /// # Errors
    /// When the program is missing, or a node ends or doesn't serve in time.
    pub fn start(directory: &Path) -> Result<Self> {
        // Else the port of its bus is ten thousand above the other, where anybody may be.
        let buses = (0..MASTERS).map(|_| ports::free()).collect::<Result<Vec<u16>>>()?;
        let start = |(node, bus): (u16, &u16)| {
            let bus = bus.to_string();
            let more = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            redis(&directory.join(format!("node-{node}")), &more)
        };
        let nodes = (0..MASTERS).zip(&buses).map(start).collect::<Result<Vec<_>>>();
        let nodes = nodes.context("start Redis")?;
        for (node, server) in (0..MASTERS).zip(&nodes) {
            let slots = (0..SLOTS).filter(|slot| slot % MASTERS == node);
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            server.ask(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")))?;
            server.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", node + 1))?;
        }
        for (server, (other, bus)) in nodes.iter().zip(nodes.iter().zip(&buses).skip(1)) {
            server.ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port))?;
        }
        wait::until("the cluster serves", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            let serves = |server: &Server| {
                let info = server.ask("CLUSTER INFO")?;
                let known = format!("cluster_known_nodes:{MASTERS}\r");
                Ok::<_, anyhow::Error>(info.contains("cluster_state:ok") && info.contains(&known))
            };
            let all = nodes.iter().map(serves).collect::<Result<Vec<_>>>()?;
            Ok(all.into_iter().all(|serves| serves).then_some(()))
        })?;
        Ok(Self(nodes))
    }

    /// The variables by which the programs under test find it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let ports: Vec<String> = self.0.iter().map(|node| node.port.to_string()).collect();
        vec![
            ("REDIS_PORT", ports.first().cloned().unwrap_or_default()),
            ("REDIS_SOCKET", String::new()),
            ("REDIS_PASSWORD", PASSWORD.to_owned()),
            ("PG_SOCKET_DIRECTORY", String::new()),
        ]
    }
}

impl Server {
    /// Starts a Redis alone, in a new directory, and waits until it serves.
    ///
    /// # Errors
    /// When the program is missing, or it ends or doesn't serve in time, with the end of its log.
    pub fn redis(directory: &Path) -> Result<Self> {
        redis(directory, &[]).context("start Redis")
    }

    /// Whether Redis' program is there.
    #[must_use]
    pub fn has_redis() -> bool {
        on_path("redis-server").is_some()
    }

    /// What Redis answers an inline command, as it was sent.
    fn ask(&self, command: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(READY))?;
        stream.write_all(format!("AUTH {PASSWORD}\r\n{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let own = answer.strip_prefix("+OK\r\n").unwrap_or(&answer);
        ensure!(!own.starts_with('-'), "{own}");
        Ok(own.to_owned())
    }

    /// The port on which it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn listens(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    fn wait_ready(&self, log: &Path, mut serves: impl FnMut() -> bool) -> Result<()> {
        wait::until("the server serves", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            ensure!(!self.group.has_exited()?, "it ended");
            Ok((self.listens() && serves()).then_some(()))
        })
        .with_context(|| tail(&fs::read_to_string(log).unwrap_or_default()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(signal) = self.farewell {
            // Nobody is left to tell; the group's own end follows.
            drop(self.group.signal(signal).and_then(|()| self.group.wait(END)));
        }
    }
}

fn redis(directory: &Path, more: &[&str]) -> Result<Server> {
    fs::create_dir_all(directory)?;
    let (port, socket, log) = (ports::free()?, directory.join("redis.sock"), directory.join("log"));
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "no", "--requirepass", PASSWORD]).args(more);
    command.arg("--dir").arg(directory).arg("--unixsocket").arg(&socket);
    let output = File::create(&log)?;
    command.stdout(output.try_clone()?).stderr(output);
    let group = Group::spawn(&mut command)?;
    let server = Server { group, port, socket, farewell: None };
    server.wait_ready(&log, || server.socket.exists())?;
    Ok(server)
}

fn postgres(directory: &Path) -> Result<Server> {
    let account = Account::of_server()?;
    let programs = postgres_programs()?;
    let (data, log) = (directory.join("data"), directory.join("log"));
    fs::create_dir_all(directory)?;
    account.give(directory)?;
    let password = directory.join("password");
    fs::write(&password, PASSWORD)?;
    account.give(&password)?;
    let mut initdb = Command::new(programs.join("initdb"));
    initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(&password);
    initdb.args(["--auth=scram-sha-256", "--username", ACCOUNT, "--encoding=UTF8"]);
    initdb.args(["--locale=C", "--no-sync"]);
    finish(account.run(&mut initdb, directory))?;

    let port = ports::free()?;
    let mut command = Command::new(programs.join("postgres"));
    command.arg("-D").arg(&data).arg("-k").arg(directory);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "fsync=off"]);
    let output = File::create(&log)?;
    command.stdout(output.try_clone()?).stderr(output);
    let group = Group::spawn(account.run(&mut command, directory))?;
    let farewell = Some(libc::SIGQUIT);
    let server = Server { group, port, socket: directory.to_owned(), farewell };
    let psql = |database: &str, sql: &str| {
        let mut command = Command::new(programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-U", ACCOUNT]);
        command.arg("-h").arg(directory).args(["-p", &port.to_string(), "-d", database]);
        command.args(["-c", sql]).env("PGPASSWORD", PASSWORD);
        finish(account.run(&mut command, directory))
    };
    server.wait_ready(&log, || psql(ACCOUNT, "SELECT 1").is_ok())?;
    psql(ACCOUNT, &format!("CREATE DATABASE {DATABASE}"))?;
    psql(DATABASE, SCHEMA)?;
    Ok(server)
}

/// Who runs PostgreSQL; `None`: whoever runs the test.
struct Account(Option<(u32, u32)>);

impl Account {
    fn of_server() -> Result<Self> {
        if !sys::is_root() {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let line = users.lines().find(|line| line.split(':').next() == Some(ACCOUNT));
        let mut numbers = line.into_iter().flat_map(|line| line.split(':').skip(2));
        let mut number = || numbers.next()?.parse().ok();
        let ids = number().zip(number());
        Ok(Self(Some(ids.context("no account `postgres`: install postgresql")?)))
    }

    fn give(&self, path: &Path) -> Result<()> {
        let (user, group) = self.0.unzip();
        chown(path, user, group).with_context(|| format!("give away {}", path.display()))
    }

    fn run<'a>(&self, command: &'a mut Command, directory: &Path) -> &'a mut Command {
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command.current_dir(directory)
    }
}

/// The newest that Debian installed, or where `postgres` is on PATH.
fn postgres_programs() -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(DEBIAN_POSTGRES).into_iter().flatten().flatten() {
        let programs = entry.path().join("bin");
        if let Some(version) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            && programs.join("postgres").exists()
        {
            found.push((version, programs));
        }
    }
    if let Some((_, programs)) = found.into_iter().max() {
        return Ok(programs);
    }
    on_path("postgres").context("no PostgreSQL server: install postgresql")
}
