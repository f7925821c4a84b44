//! Pure parsers of `/proc/PID` texts: bytes in, values out, `None` for what is not as proc(5) says.
//!
//! They read nothing themselves and never fail a process for a line they do not know.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What `/proc/PID/stat` says that the agent needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: u8,
    pub(super) ppid: i32,
    /// Clock ticks since boot.
    pub(super) start_time: u64,
}

/// Fields 3, 4 and 22. The command name in field 2 may itself hold spaces and parentheses.
pub(super) fn stat(bytes: &[u8]) -> Option<Stat> {
    let after_name = bytes.get(memchr::memrchr(b')', bytes)? + 1..)?;
    let text = std::str::from_utf8(after_name).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, ppid, start_time })
}

/// What `/proc/PID/status` says that the agent needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Effective user id, in the reader's user namespace.
    pub(super) uid: u32,
    /// The process's id in its own, innermost, pid namespace.
    pub(super) namespace_pid: Option<i32>,
}

pub(super) fn status(bytes: &[u8]) -> Option<Status> {
    let text = String::from_utf8_lossy(bytes);
    let mut uid = None;
    let mut namespace_pid = None;
    for line in text.lines() {
        if let Some(ids) = line.strip_prefix("Uid:") {
            uid = ids.split_ascii_whitespace().nth(1).and_then(|id| id.parse().ok());
        } else if let Some(ids) = line.strip_prefix("NSpid:") {
            namespace_pid = ids.split_ascii_whitespace().last().and_then(|id| id.parse().ok());
        }
    }
    Some(Status { uid: uid?, namespace_pid })
}

/// NUL-separated arguments. Trailing empty ones are what setproctitle(3)-like code leaves behind.
pub(super) fn command(bytes: &[u8], limit: usize) -> Vec<String> {
    let mut arguments: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .take(limit)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    while arguments.last().is_some_and(String::is_empty) {
        arguments.pop();
    }
    arguments
}

/// A uid of the reader's namespace as the process's own user namespace counts it (`uid_map`).
pub(super) fn uid_inside(uid_map: &[u8], uid: u32) -> Option<u32> {
    let text = std::str::from_utf8(uid_map).ok()?;
    text.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) =
            (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = uid.checked_sub(outside).filter(|offset| *offset < count)?;
        inside.checked_add(offset)
    })
}

/// The name that passwd(5) gives a uid.
pub(super) fn user_name(passwd: &[u8], uid: u32) -> Option<String> {
    String::from_utf8_lossy(passwd).lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The files that a process has mapped, at most `limit` of them.
pub(super) fn mapped_files(maps: &[u8], limit: usize) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let mut previous: &[u8] = &[];
    for line in maps.split(|byte| *byte == b'\n') {
        // "08:01 4711   /usr/lib/x": a device number has no slash, so the first one begins the path.
        let Some(start) = memchr::memchr(b'/', line) else { continue };
        let path = line.get(start..).unwrap_or_default();
        if path == previous {
            continue;
        }
        previous = path;
        let text = String::from_utf8_lossy(path);
        files.insert(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text)));
        if files.len() >= limit {
            break;
        }
    }
    files
}

/// The process's cgroup: the unified hierarchy's path, else the longest of the old ones (the
/// shorter ones are controllers that its manager does not use).
pub(super) fn cgroup(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut best = "";
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(_), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // On a hybrid host the unified hierarchy may hold nothing but the root.
        if hierarchy == "0" && path.len() > 1 {
            return path.to_owned();
        }
        if path.len() > best.len() {
            best = path;
        }
    }
    best.to_owned()
}

/// A container's id in a cgroup path as Docker, containerd, CRI-O, Podman and ECS name them.
pub(super) fn container_id(cgroup: &str) -> Option<String> {
    cgroup.rsplit('/').find_map(|segment| {
        let name = segment.strip_suffix(".scope").unwrap_or(segment);
        // "docker-ID", "cri-containerd-ID", "crio-ID", "libpod-ID", "kubepods-…:cri-containerd:ID"
        let id = name.rsplit([':', '-']).next().unwrap_or(name);
        if is_container_id(id) {
            return Some(id.to_owned());
        }
        // Amazon ECS: 32 hexadecimal digits of the task, a dash, a number.
        let (task, number) = name.split_once('-')?;
        let ecs = task.len() == 32
            && is_hex(task)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit());
        ecs.then(|| name.to_owned())
    })
}

/// The same from `mountinfo`, for an agent that cannot see past its own cgroup namespace: engines
/// mount `/etc/hostname` from a directory that is named after the container.
pub(super) fn container_id_from_mounts(mountinfo: &[u8]) -> Option<String> {
    String::from_utf8_lossy(mountinfo).lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (source, target) = (fields.nth(3)?, fields.next()?);
        if target != "/etc/hostname" {
            return None;
        }
        source.split('/').find(|segment| is_container_id(segment)).map(str::to_owned)
    })
}

/// The pod's uid in a Kubernetes cgroup path, in its usual spelling with dashes.
pub(super) fn pod_uid(cgroup: &str) -> Option<String> {
    if !cgroup.contains("kubepods") {
        return None;
    }
    cgroup.split('/').find_map(|segment| {
        let name = segment.strip_suffix(".slice").unwrap_or(segment);
        let (_, uid) = name.rsplit_once("pod")?;
        // The systemd driver writes underscores, because a dash would nest slices.
        let uid = uid.replace('_', "-");
        let shaped = uid.len() == 36 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        shaped.then_some(uid)
    })
}

/// The innermost systemd service of a cgroup path, without its suffix; a user's manager is none.
pub(super) fn systemd_unit(cgroup: &str) -> Option<String> {
    cgroup.rsplit('/').find_map(|segment| {
        let name = segment.strip_suffix(".service")?;
        (!name.is_empty() && !name.starts_with("user@")).then(|| unescape(name))
    })
}

/// `\x2d` and its kind, as systemd-escape(1) writes them.
fn unescape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        text.push_str(before);
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                text.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                text.push_str("\\x");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

/// Listening sockets in `/proc/PID/net/tcp` or `tcp6`: inode and port. The kernel lists them before
/// all others (`tcp_get_idx` in net/ipv4/tcp_ipv4.c), so the rest of a busy host's table is not read.
pub(super) fn listeners(table: &[u8]) -> Vec<(u64, u16)> {
    let mut sockets = Vec::new();
    // A table cut by the read's limit ends in half a line, and half an inode is another inode.
    let whole = memchr::memrchr(b'\n', table).and_then(|end| table.get(..end)).unwrap_or_default();
    for line in String::from_utf8_lossy(whole).lines().skip(1) {
        let mut fields = line.split_ascii_whitespace();
        let (Some(local), Some(state)) = (fields.nth(1), fields.nth(1)) else { break };
        if state != "0A" {
            break;
        }
        let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let inode = fields.nth(5).and_then(|inode| inode.parse().ok());
        if let (Some(port), Some(inode)) = (port, inode) {
            sockets.push((inode, port));
        }
    }
    sockets
}

/// The number in `socket:[4711]`, `net:[4026531840]` and their like.
pub(super) fn bracketed(link: &[u8], kind: &str) -> Option<u64> {
    let text = std::str::from_utf8(link).ok()?;
    text.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339cabcd";

    #[test]
    fn a_command_name_may_hold_anything() {
        let line =
            b"42 (a) R 1 (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 11 0 123456 1 2\n";
        assert_eq!(stat(line), Some(Stat { state: b'S', ppid: 7, start_time: 123_456 }));
        assert_eq!(stat(b"42 (node) S 7"), None);
    }

    #[test]
    fn containers_of_every_engine() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/kubepods/besteffort/pod123/{ID}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-burstable:cri-containerd:{ID}"),
        ] {
            assert_eq!(container_id(&path).as_deref(), Some(ID), "{path}");
        }
        let ecs = "b1946ac92492d2347c6235b4d2611184-1234567890";
        assert_eq!(container_id(&format!("/ecs/task/{ecs}")).as_deref(), Some(ecs));
        assert_eq!(container_id("/system.slice/my-service.service"), None);
    }

    #[test]
    fn a_container_behind_a_cgroup_namespace() {
        let line = format!(
            "612 590 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(container_id_from_mounts(line.as_bytes()).as_deref(), Some(ID));
        let host =
            format!("1 2 0:5 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n");
        assert_eq!(container_id_from_mounts(host.as_bytes()), None);
    }

    #[test]
    fn pods_by_either_driver() {
        let uid = "5a1c1f3e-4b4e-4c58-9d5e-0f6c6cbe6c11";
        for path in [
            format!("/kubepods/burstable/pod{uid}/x"),
            format!("/kubepods.slice/kubepods-burstable-pod{}.slice/x", uid.replace('-', "_")),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(uid), "{path}");
        }
        assert_eq!(pod_uid("/system.slice/pod5.service"), None);
    }

    #[test]
    fn units_are_the_innermost_service() {
        let unit = |path: &str| systemd_unit(path);
        assert_eq!(unit("/system.slice/orders.service").as_deref(), Some("orders"));
        assert_eq!(
            unit("/user.slice/user-1000.slice/user@1000.service/app.slice/api.service").as_deref(),
            Some("api")
        );
        assert_eq!(unit("/user.slice/user@1000.service/init.scope"), None);
        assert_eq!(unit(r"/system.slice/my\x2dshop.service").as_deref(), Some("my-shop"));
    }

    #[test]
    fn the_unified_hierarchy_comes_first_unless_it_is_empty() {
        assert_eq!(
            cgroup(b"12:pids:/a/b\n0::/system.slice/x.service\n"),
            "/system.slice/x.service"
        );
        assert_eq!(cgroup(b"12:pids:/docker/abc\n1:name=systemd:/d\n0::/\n"), "/docker/abc");
    }

    #[test]
    fn listening_sockets_end_the_read() {
        let table = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 91 1 0 100 0 0 10 0\n\
            \x20  1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 92 1 0 100 0 0 10 0\n\
            \x20  2: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 93 1 0 100 0 0 10 0\n";
        assert_eq!(listeners(table), [(91, 3000), (92, 8080)]);
    }

    #[test]
    fn user_namespaces_shift_ids() {
        assert_eq!(uid_inside(b"         0     100000      65536\n", 100_033), Some(33));
        assert_eq!(uid_inside(b"0 0 4294967295\n", 1000), Some(1000));
        assert_eq!(uid_inside(b"0 100000 65536\n", 5), None);
        assert_eq!(
            user_name(b"root:x:0:0:root:/root:/bin/sh\napp:x:33:33::/:/x\n", 33).unwrap(),
            "app"
        );
    }

    #[test]
    fn a_title_leaves_one_argument() {
        assert_eq!(command(b"gunicorn: worker [app]\0\0\0\0", 10), ["gunicorn: worker [app]"]);
        assert_eq!(command(b"node\0\0server.js\0", 10), ["node", "", "server.js"]);
        assert_eq!(command(b"", 10), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            stat(&bytes);
            status(&bytes);
            command(&bytes, 8);
            uid_inside(&bytes, 5);
            user_name(&bytes, 5);
            mapped_files(&bytes, 8);
            container_id_from_mounts(&bytes);
            listeners(&bytes);
            bracketed(&bytes, "socket");
            let text = cgroup(&bytes);
            container_id(&text);
            pod_uid(&text);
            systemd_unit(&text);
        }
    }
}
