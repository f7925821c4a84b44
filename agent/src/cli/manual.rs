//! Completions and manual pages, made from the command line's own description. For packages.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// The script that completes this command in a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wirespan", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `wirespan.1`, and a page for each command that people use.
pub(super) fn write(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("can't write to {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_completions_know_the_commands() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(page("wirespan.1").contains("check"));
        assert!(page("wirespan-run.1").contains("payload"));
        assert!(
            !directory.path().join("wirespan-node-assist.1").exists(),
            "it is nobody's command"
        );
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(completions(shell).contains("check-config"), "{shell}");
        }
    }
}
