//! `cargo xtask docs`: what of the documentation is made from the code: the configuration file's keys and schema.
//!
//! A test of the agent's holds both to what the code says.

use std::fs;

use anyhow::{Context, Result};

use crate::command::{cargo, root, say};

/// Around the table of keys.
const MARKS: [&str; 2] = ["<!-- keys: written by `cargo xtask docs` -->\n", "<!-- end -->\n"];

/// The command.
///
/// # Errors
/// When the agent can't be built, or the page has no place for the keys.
pub(crate) fn run() -> Result<()> {
    let page = root().join("docs/configuration.md");
    let text = fs::read_to_string(&page).context("docs/configuration.md")?;
    let (before, rest) = text.split_once(MARKS[0]).context("the page has no mark for the keys")?;
    let (_, after) = rest.split_once(MARKS[1]).context("the page has no mark after the keys")?;
    let table = printed("config-table")?;
    fs::write(&page, format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]))?;
    fs::write(root().join("docs/wirespan.schema.json"), printed("config-schema")?)?;
    say("docs/configuration.md and docs/wirespan.schema.json are written");
    Ok(())
}

/// What the agent prints.
fn printed(command: &str) -> Result<String> {
    let output = cargo()
        .args(["run", "--quiet", "--package", "wirespan", "--", command])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("run the agent")?;
    anyhow::ensure!(output.status.success(), "wirespan {command}: {}", output.status);
    String::from_utf8(output.stdout).context("the agent printed no text")
}
