//! The machine: kernel, type information, lockdown, rights, namespaces, cgroups, clock. Reads only.

use std::fs;
use std::path::Path;

use super::Check;
use crate::capture;

/// The oldest kernel that has all hooks (docs/kernel-support.md).
const OLDEST: (u32, u32) = (6, 13);

/// The inode of the pid namespace that the machine began with (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

pub(super) fn checks() -> Vec<Check> {
    let text = |path: &str| fs::read_to_string(path).ok();
    let status = text("/proc/self/status").unwrap_or_default();
    let mut checks = vec![
        kernel(&text("/proc/sys/kernel/osrelease").unwrap_or_default()),
        btf(),
        lockdown(text("/sys/kernel/security/lockdown").as_deref()),
    ];
    checks.extend(capabilities(&status));
    checks.push(user_namespace(&text("/proc/self/uid_map").unwrap_or_default()));
    checks.push(pid_namespace());
    checks.push(proc_mount());
    checks.push(Check::ok("mounts", "neither bpffs nor tracefs is needed"));
    checks.push(cgroups(&text("/proc/self/cgroup").unwrap_or_default()));
    checks.push(clock(
        text("/sys/devices/system/clocksource/clocksource0/current_clocksource").as_deref(),
    ));
    checks.push(jit(text("/proc/sys/net/core/bpf_jit_enable").as_deref()));
    checks
}

fn kernel(release: &str) -> Check {
    let release = release.trim();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    let found = format!("Linux {release}, {}", std::env::consts::ARCH);
    if version < OLDEST {
        return Check::fail("kernel", found, "6.13 is the oldest kernel that takes all programs");
    }
    if std::env::consts::ARCH != "x86_64" {
        return Check::fail("kernel", found, "x86-64 is the only architecture so far");
    }
    Check::ok("kernel", found)
}

fn btf() -> Check {
    match capture::try_fields() {
        Ok(()) => Check::ok("type information", "BTF has every field that the programs read"),
        Err(error) => Check::fail(
            "type information",
            error.to_string(),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF; distributions' own are",
        ),
    }
}

/// Without securityfs nothing says so, and the hooks' own trial does.
fn lockdown(text: Option<&str>) -> Check {
    let mode = text.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(mode, _)| mode);
    match mode {
        Some("confidentiality") => Check::fail(
            "lockdown",
            "confidentiality: the kernel lets no program read memory",
            "start with lockdown=integrity or lockdown=none (kernel_lockdown(7))",
        ),
        Some(mode) => Check::ok("lockdown", mode),
        None => Check::ok("lockdown", "not in use, or not shown"),
    }
}

/// A right, its number (include/uapi/linux/capability.h), and what it is for.
const NEEDED: [(&str, u32, &str); 3] = [
    ("CAP_BPF", 39, "to load the programs"),
    ("CAP_PERFMON", 38, "to attach them"),
    ("CAP_SYS_PTRACE", 19, "to see what processes are, and to read the assist's notes"),
];
const USEFUL: [(&str, u32, &str); 3] = [
    ("CAP_DAC_READ_SEARCH", 2, "to read what other users' processes are, and what names them"),
    ("CAP_KILL", 5, "to open the inspector of other users' Node.js processes for the assist"),
    ("CAP_SYS_ADMIN", 21, "for the assist of Node.js processes, and for probes of CPython"),
];
const SYS_ADMIN: u32 = 21;

fn capabilities(status: &str) -> Vec<Check> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let has = |number: u32| effective & (1 << number) != 0;
    let name = "capabilities";
    let stands_in = |number: u32| has(SYS_ADMIN) && (number == 38 || number == 39);
    let missing = NEEDED.iter().filter(|(_, number, _)| !has(*number) && !stands_in(*number));
    let mut checks: Vec<Check> = missing
        .map(|(capability, _, what)| {
            let remedy = format!("run it as root, or give it {capability}");
            Check::fail(name, format!("{capability} is missing: {what}"), remedy)
        })
        .collect();
    checks.extend(USEFUL.iter().filter(|(_, number, _)| !has(*number)).map(
        |(capability, _, what)| {
            Check::warn(
                name,
                format!("{capability} is missing: {what}"),
                format!("give it {capability}"),
            )
        },
    ));
    if checks.is_empty() {
        checks.push(Check::ok(name, "all that are needed or of use"));
    }
    checks
}

fn user_namespace(uid_map: &str) -> Check {
    let whole = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    if whole {
        return Check::ok("user namespace", "the machine's own");
    }
    Check::fail(
        "user namespace",
        "it runs in a user namespace: the kernel gives it no rights over the machine",
        "run it outside, as the machine's root; in a container without user-namespace remapping",
    )
}

fn pid_namespace() -> Check {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if namespace == Path::new(INITIAL_PID_NAMESPACE) {
        return Check::ok("pid namespace", "the machine's own: all processes are seen");
    }
    Check::warn(
        "pid namespace",
        "not the machine's own: only processes in it are seen",
        "to trace others, run it with the host's pid namespace (hostPID: true, --pid=host)",
    )
}

fn proc_mount() -> Check {
    let visible = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    let strangers = fs::read_dir("/proc").map_or(0, |entries| {
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.parse::<u32>().is_ok() && visible(name)).count()
    });
    if strangers > 1 {
        return Check::ok("/proc", format!("{strangers} processes can be read"));
    }
    Check::fail(
        "/proc",
        "no other process can be read",
        "mount /proc without hidepid, and run it as root or with CAP_SYS_PTRACE",
    )
}

fn cgroups(own: &str) -> Check {
    if own.lines().any(|line| line.starts_with("0::")) {
        return Check::ok("cgroups", "version 2: containers and units are known by it");
    }
    Check::warn(
        "cgroups",
        "no version 2 hierarchy: containers are told by their version 1 paths or mounts",
        "match processes by something else than `cgroup` where that fails",
    )
}

/// Each hook reads the clock.
fn clock(source: Option<&str>) -> Check {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/time")).ok();
    if namespace("self") != namespace("1") && namespace("1").is_some() {
        return Check::warn(
            "clock",
            "it runs in a time namespace: Node.js processes outside it are not assisted",
            "run it without a time namespace of its own",
        );
    }
    match source.map(str::trim) {
        Some(
            source @ ("tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "arch_sys_counter"),
        ) => Check::ok("clock", format!("{source}: fast")),
        Some(source) => Check::warn(
            "clock",
            format!("{source}: each reading is slow, and each hook reads it"),
            "choose tsc, if the machine has a stable one (clocksource=tsc)",
        ),
        None => Check::ok("clock", "its source is not shown"),
    }
}

fn jit(enabled: Option<&str>) -> Check {
    match enabled.map(str::trim) {
        Some("0") => Check::warn(
            "BPF compiler",
            "off: the hooks are interpreted, and cost many times as much",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        Some(_) => Check::ok("BPF compiler", "on"),
        None => Check::ok("BPF compiler", "its switch is not shown"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn old_kernels_fail() {
        for (release, outcome) in [
            ("6.18.5-amd64\n", Outcome::Ok),
            ("6.13.0", Outcome::Ok),
            ("6.12.5", Outcome::Fail),
            ("5.15.0-1-cloud", Outcome::Fail),
            ("10.0", Outcome::Ok),
            ("", Outcome::Fail),
        ] {
            assert_eq!(kernel(release).outcome, outcome, "{release}");
        }
    }

    #[test]
    fn lockdown_is_read() {
        assert_eq!(lockdown(Some("none [integrity] confidentiality")).outcome, Outcome::Ok);
        assert_eq!(lockdown(Some("none integrity [confidentiality]\n")).outcome, Outcome::Fail);
        assert_eq!(lockdown(None).outcome, Outcome::Ok);
    }

    #[test]
    fn each_missing_right_is_named_with_what_it_is_for() {
        let with = |mask: u64| capabilities(&format!("Name:\tx\nCapEff:\t{mask:016x}\n"));
        let all = (1_u64 << 41) - 1;
        assert_eq!(with(all).len(), 1);
        assert_eq!(with(all)[0].outcome, Outcome::Ok);
        let ptrace = with(all & !(1 << 19));
        assert!(ptrace[0].outcome == Outcome::Fail && ptrace[0].found.contains("CAP_SYS_PTRACE"));
        // What CAP_SYS_ADMIN includes is not missing.
        assert_eq!(with(all & !(1 << 38) & !(1 << 39)).len(), 1);
        let bpf = with(all & !(1 << 39) & !(1 << 21));
        assert_eq!(
            bpf.iter().map(|check| check.outcome).collect::<Vec<_>>(),
            [Outcome::Fail, Outcome::Warn]
        );
        assert!(with(0).len() == 6);
    }

    #[test]
    fn surroundings_are_judged() {
        assert_eq!(user_namespace("         0          0 4294967295\n").outcome, Outcome::Ok);
        assert_eq!(user_namespace("0 1000 1\n").outcome, Outcome::Fail);
        assert_eq!(cgroups("0::/system.slice\n").outcome, Outcome::Ok);
        assert_eq!(cgroups("12:cpu:/docker/1\n").outcome, Outcome::Warn);
        assert_eq!(clock(Some("hpet\n")).outcome, Outcome::Warn);
        assert_eq!(jit(Some("0\n")).outcome, Outcome::Warn);
    }
}
