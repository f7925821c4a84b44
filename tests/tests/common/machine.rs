//! A machine that systemd runs: as the first process of a pid namespace, with a root file system of its own on top
//! of this machine's. What changes in it is seen, and gone with it. It shares the network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use wirespan_tests::process::Group;
use wirespan_tests::wait;
use wirespan_tests::workloads::root;

use super::lab::PATIENCE;

/// Where, in the machine, [`Machine::shared`] lies.
pub(crate) const SHARED: &str = "/run/shared";

/// Puts itself below a control group of its own, which becomes the root of those that the machine sees.
const OUTSIDE: &str = r#"set -e
cd "$1"
mkdir space root shared groups
mount -t cgroup2 cgroup2 groups
mkdir "groups/$3"
echo $$ > "groups/$3/cgroup.procs"
umount groups
exec unshare --pid --ipc --uts --cgroup --mount --propagation=private --fork --kill-child sh -c "$4" sh "$1" "$2""#;

/// The machine's own devices, settings and consoles are out of its reach, and no unit of them is started.
const INSIDE: &str = r#"set -e
cd "$1"
mount -t tmpfs tmpfs space
mkdir space/upper space/work
mount -t overlay overlay -o lowerdir=/,upperdir=space/upper,workdir=space/work root
cd root
mount -t proc proc proc
mount -o bind,ro proc/sys proc/sys
[ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
  touch dev/$device
  mount --bind /dev/$device dev/$device
done
touch dev/console
mount --bind /dev/null dev/console
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir run/shared
mount --bind "$1/shared" run/shared
mkdir -p ".$2"
mount -o bind,ro "$2" ".$2"
rm -rf etc/systemd/system/*.wants
for unit in systemd-udevd systemd-udev-trigger systemd-sysctl systemd-modules-load systemd-binfmt \
    systemd-remount-fs systemd-random-seed systemd-update-utmp console-getty getty@ serial-getty@; do
  ln -sf /dev/null etc/systemd/system/$unit.service
done
: > etc/machine-id
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no"#;

pub(crate) struct Machine {
    holder: Group,
    systemd: u32,
    directory: PathBuf,
    group: String,
}

impl Machine {
    /// Boots it, in a directory that it may fill.
    pub(crate) fn boot(directory: &Path) -> Self {
        let group = format!("wirespan-test-{}", std::process::id());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", OUTSIDE, "sh"]);
        command.arg(directory).arg(root()).arg(&group).arg(INSIDE);
        let errors = directory.join("machine.log");
        command.stderr(fs::File::create(&errors).unwrap());
        let holder = Group::spawn(&mut command).unwrap();
        let mut machine = Self { holder, systemd: 0, directory: directory.to_owned(), group };
        wait::until("the machine has booted", PATIENCE, || {
            anyhow::ensure!(!machine.holder.has_exited()?, fs::read_to_string(&errors)?);
            let pid = machine.holder.pid();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            let Ok(systemd) = children.trim().parse() else { return Ok(None) };
            machine.systemd = systemd;
            let name = fs::read_to_string(format!("/proc/{systemd}/comm"))?;
            if name.trim() != "systemd" {
                return Ok(None);
            }
            let state = machine.command(&["systemctl", "is-system-running"]).output()?;
            Ok((state.stdout == b"running\n").then_some(()))
        })
        .unwrap();
        machine
    }

    /// A directory that both see.
    pub(crate) fn shared(&self) -> PathBuf {
        self.directory.join("shared")
    }

    /// Words that start a command in it.
    pub(crate) fn words(&self) -> Vec<String> {
        let target = self.systemd.to_string();
        let enter = ["nsenter", "--target", &target, "--all", "--root", "--wd=/", "env", "-i"];
        let environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"];
        enter.into_iter().chain(environment).map(str::to_owned).collect()
    }

    /// A command in it.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let enter = self.words();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(words);
        command
    }

    /// Runs a command in it, to its end and with success.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{words:?}: {status} {said}");
        format!("{}{said}", String::from_utf8_lossy(&stdout))
    }

    /// Puts a file into it.
    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.shared().join("file"), text).unwrap();
        self.run(&["cp", "--no-preserve=all", &format!("{SHARED}/file"), file]);
    }

    /// The files that are not as below, but for what systemd and the package manager keep for themselves.
    pub(crate) fn changes(&self) -> BTreeSet<String> {
        const THEIR_OWN: [&str; 5] = [
            "./var/lib/dpkg/",
            "./var/lib/systemd/",
            "./var/log/",
            "./var/cache/man/",
            "./var/cache/ldconfig/",
        ];
        let upper = self.directory.join("space/upper");
        let script = format!("cd {} && find . ! -type d", upper.display());
        let mut command = Command::new("nsenter");
        // In the mounts of who mounted it.
        command.args(["--mount", "--target", &self.systemd.to_string(), "--", "sh", "-c"]);
        let listed = String::from_utf8(command.arg(script).output().unwrap().stdout).unwrap();
        let counts = |path: &&str| {
            path.contains("/wirespan") || !THEIR_OWN.iter().any(|own| path.starts_with(own))
        };
        listed.lines().filter(counts).map(str::to_owned).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.kill());
        // All that ran in it ends with its first process; then its control groups are empty.
        let script = format!(
            "mount -t cgroup2 cgroup2 groups; cd groups; find {} -depth -type d -exec rmdir {{}} ';'; ! test -e {0}",
            self.group
        );
        let gone = wait::until("its control groups are gone", PATIENCE, || {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation=private", "sh", "-c", &script]);
            Ok(command.current_dir(&self.directory).output()?.status.success().then_some(()))
        });
        if let Err(error) = gone {
            eprintln!("{error}");
        }
    }
}
