//! The bill of materials: every crate that is linked into the binary, as CycloneDX 1.5
//! (<https://cyclonedx.org/docs/1.5/json/>), from what cargo resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{About, image};
use crate::command::{cargo, printed, program, root};

/// Whose dependencies are linked: the agent's, and the kernel programs that it carries.
const ROOTS: [&str; 2] = ["wirespan", "wirespan-ebpf"];

/// The document's bytes.
pub(super) fn make(about: &About) -> Result<Vec<u8>> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--locked", "--offline"]);
    command.args(["--features", "wirespan-ebpf/programs"]);
    command.args(["--filter-platform", &format!("{ARCH}-unknown-linux-gnu")]);
    let output = command.output().context("run cargo metadata")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("read Cargo.lock")?;
    let mut components = components(&metadata, &checksums(&lock));
    ensure!(components.len() > 100, "only {} crates were found", components.len());
    // A static binary carries its C library.
    let libc = printed(program("getconf").arg("GNU_LIBC_VERSION"));
    if let Some((name, version)) = libc.as_deref().and_then(|libc| libc.split_once(' ')) {
        components.push(json!({ "type": "library", "name": name, "version": version }));
    }
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": image::timestamp(about.time),
            "component": {
                "type": "application",
                "name": "wirespan",
                "version": about.version,
                "purl": format!("pkg:cargo/wirespan@{}", about.version),
                "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
            },
        },
        "components": components,
    });
    Ok(format!("{document:#}\n").into_bytes())
}

/// Crates that are linked, sorted: what is reached from [`ROOTS`] without development and build dependencies.
fn components(metadata: &Value, checksums: &BTreeMap<(&str, &str), &str>) -> Vec<Value> {
    let packages = list(metadata, "packages");
    let by_id: BTreeMap<&str, &Value> =
        packages.iter().map(|package| (text(package, "id"), package)).collect();
    let nodes = metadata.get("resolve").map_or(&[][..], |resolve| list(resolve, "nodes"));
    let nodes: BTreeMap<&str, &Value> = nodes.iter().map(|node| (text(node, "id"), node)).collect();
    let is_root = |package: &&Value| ROOTS.contains(&text(package, "name")) && is_own(package);
    let mut waiting: Vec<&str> =
        packages.iter().filter(is_root).map(|package| text(package, "id")).collect();
    let mut seen: BTreeSet<&str> = waiting.iter().copied().collect();
    while let Some(id) = waiting.pop() {
        for dependency in nodes.get(id).map_or(&[][..], |node| list(node, "deps")) {
            let mut kinds = list(dependency, "dep_kinds").iter();
            // Kinds are `dev` and `build`; an ordinary one has none.
            let linked = kinds.any(|kind| kind.get("kind").is_none_or(Value::is_null));
            let id = text(dependency, "pkg");
            if linked && seen.insert(id) {
                waiting.push(id);
            }
        }
    }
    let others = seen.iter().filter_map(|id| by_id.get(id)).filter(|package| !is_own(package));
    let mut linked: Vec<(&str, &str, &str)> = others
        .map(|package| (text(package, "name"), text(package, "version"), text(package, "license")))
        .collect();
    linked.sort_unstable();
    linked
        .iter()
        .map(|&(name, version, licence)| {
            let mut licences = Vec::new();
            if !licence.is_empty() {
                // Old manifests write what SPDX calls OR as a slash.
                licences.push(json!({ "expression": licence.replace('/', " OR ") }));
            }
            let mut hashes = Vec::new();
            if let Some(sum) = checksums.get(&(name, version)) {
                hashes.push(json!({ "alg": "SHA-256", "content": sum }));
            }
            json!({
                "type": "library",
                "name": name,
                "version": version,
                "purl": format!("pkg:cargo/{name}@{version}"),
                "licenses": licences,
                "hashes": hashes,
            })
        })
        .collect()
}

/// Whether a package is the project's own.
fn is_own(package: &Value) -> bool {
    package.get("source").is_none_or(Value::is_null)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Checksums of crates by name and version, from Cargo.lock.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    lock.split("[[package]]").filter_map(checksum).collect()
}

/// Of one entry.
fn checksum(entry: &str) -> Option<((&str, &str), &str)> {
    let field = |name: &str| {
        let value = entry.lines().find_map(|line| line.strip_prefix(name));
        value?.strip_prefix(" = \"")?.strip_suffix('"')
    };
    Some(((field("name")?, field("version")?), field("checksum")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_nothing_else() {
        let package = |name: &str, source: Value| json!({ "name": name, "version": "1", "id": name, "source": source });
        let dependency =
            |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("wirespan", Value::Null),
                package("linked", json!("registry")),
                package("deep", json!("registry")),
                package("builder", json!("registry")),
                package("tester", json!("registry")),
            ],
            "resolve": { "nodes": [
                { "id": "wirespan", "deps": [
                    dependency("linked", Value::Null),
                    dependency("builder", json!("build")),
                    dependency("tester", json!("dev")),
                ]},
                { "id": "linked", "deps": [dependency("deep", Value::Null)] },
            ]},
        });
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1\"\nchecksum = \"abc\"\n\n[[package]]\nname = \"linked\"\n";
        let found = components(&metadata, &checksums(lock));
        let names: Vec<&Value> = found.iter().map(|component| &component["name"]).collect();
        assert_eq!(names, ["deep", "linked"]);
        assert_eq!(found[0]["hashes"][0]["content"], "abc");
        assert_eq!(found[1]["hashes"], json!([]));
    }
}
