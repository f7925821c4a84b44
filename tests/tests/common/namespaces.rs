//! Network namespaces of a test's own, deleted when it ends, and a link between two of them.

use std::process::Command;

use wirespan_tests::script::Script;

/// Two network namespaces with a link: 10.77.0.1 in the first, 10.77.0.2 in the second.
pub(crate) struct Linked {
    /// The link's process; `link` in it is a `tun.Link`.
    pub(crate) link: Script,
    names: [String; 2],
}

impl Linked {
    pub(crate) fn new(name: &str) -> Self {
        let names = ["a", "b"].map(|end| format!("{name}-{end}"));
        for name in &names {
            ip(&["netns", "add", name]);
        }
        let mut link = Script::start(&format!("link-{name}")).unwrap();
        link.run(&format!(
            "import sys; sys.path.insert(0, os.getcwd()); import tun; link = tun.Link({names:?})"
        ))
        .unwrap();
        Self { link, names }
    }

    /// What starts a program in the namespace.
    pub(crate) fn within(&self, end: usize) -> [&str; 4] {
        ["ip", "netns", "exec", &self.names[end]]
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        for name in &self.names {
            // A test that has failed already is not to end with this.
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
