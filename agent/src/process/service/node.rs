//! What a Node.js process is called: its package, else its script or directory.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::{ProcFs, Process};
use super::entry::{self, Entry};
use super::place;

/// What package.json(5) says that the agent needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: Option<String>,
}

/// Real ones are a few kilobytes.
const PACKAGE_LIMIT_BYTES: u64 = 512 << 10;
/// Directories between a script and its package.
const DEPTH_LIMIT: usize = 24;

/// Programs that start other programs; a script that follows is what they run.
const LAUNCHERS: &[&str] = &[
    "nodemon",
    "npm",
    "npm-cli",
    "npx",
    "npx-cli",
    "pm2",
    "pm2-runtime",
    "pnpm",
    "pnpx",
    "ts-node",
    "ts-node-dev",
    "ts-node-esm",
    "tsx",
    "yarn",
    "yarnpkg",
];

/// The main script's path as the process's root names it, if one is known, and where to look for the
/// package otherwise.
struct Main {
    script: Option<PathBuf>,
    directory: PathBuf,
}

/// The process's package: the nearest `package.json` with a name, from the main script's directory
/// upwards; from the working directory if the script belongs to a dependency.
pub(super) fn package(procfs: &ProcFs, process: &Process) -> Option<Package> {
    if is_launcher(process) {
        return None;
    }
    let main = main(process);
    // A script may be a directory ("node ."), and a link may lead it elsewhere: both are looked into.
    let start = main.script.unwrap_or(main.directory);
    if !start.is_absolute() {
        return None;
    }
    for directory in start.ancestors().take(DEPTH_LIMIT) {
        if directory.components().any(|component| component.as_os_str() == "node_modules") {
            continue;
        }
        let path = directory.join("package.json");
        if let Ok(bytes) = procfs.read_inside(process.pid, &path, PACKAGE_LIMIT_BYTES)
            && let Some(package) = parse(&bytes)
        {
            return Some(package);
        }
    }
    None
}

/// A name without any file: pm2's, npm's, the script's, the directory's, the title's.
pub(super) fn name(process: &Process) -> Option<String> {
    if is_launcher(process) {
        let (Entry::Script(text, _) | Entry::Title(text)) = entry::node(&process.command) else {
            return None;
        };
        let word = text.split(' ').next().unwrap_or(text);
        return place::clean(stem(word).trim_end_matches("-cli"));
    }
    let main = main(process);
    let directory = main.script.as_deref().and_then(Path::parent).unwrap_or(&main.directory);
    let script = main.script.as_deref().and_then(Path::to_str).and_then(place::of_script);
    script.or_else(|| place::of_directory(directory)).or_else(|| {
        match entry::node(&process.command) {
            Entry::Title(title) if !title.contains(' ') => place::clean(entry::file_name(title)),
            _ => None,
        }
    })
}

/// The name that its operator gave it in pm2, which otherwise takes the script's.
pub(super) fn pm2_name(process: &Process) -> Option<String> {
    process.environment.get("pm_id")?;
    let name = process.environment.get("name")?;
    let script = process.environment.get("pm_exec_path").map(stem);
    if place::is_generic(name) || script == Some(name) { None } else { place::clean(name) }
}

/// `npm_package_name` and its version, as npm, yarn and pnpm hand them to what they start.
pub(super) fn npm_package(process: &Process) -> Option<Package> {
    let name = process.environment.get("npm_package_name").and_then(place::clean)?;
    let version = process.environment.get("npm_package_version").and_then(place::clean);
    Some(Package { name, version })
}

fn main(process: &Process) -> Main {
    let directory = process.cwd.clone();
    let script = script(process).map(|script| place::absolute(&directory, &script));
    // A dependency's program (next, nest, ts-node) runs the package in the working directory.
    let script = script.filter(|path| !path.iter().any(|part| part == "node_modules"));
    Main { script, directory }
}

fn script(process: &Process) -> Option<String> {
    if process.environment.get("pm_id").is_some()
        && let Some(path) = process.environment.get("pm_exec_path")
    {
        return Some(path.to_owned());
    }
    match entry::node(&process.command) {
        Entry::Script(script, arguments) if is_tool(script) => {
            arguments.iter().find(|argument| is_script(argument)).cloned()
        }
        Entry::Script(script, _) => Some(script.to_owned()),
        // pm2's cluster mode writes "node /srv/orders/server.js" as the title.
        Entry::Title(title) => {
            let words = title.strip_prefix("node ")?;
            words.split(' ').find(|word| !word.starts_with('-')).map(str::to_owned)
        }
        Entry::Module(..) | Entry::Code(_) | Entry::Nothing => None,
    }
}

fn is_tool(script: &str) -> bool {
    LAUNCHERS.contains(&stem(script)) || script.split('/').any(|part| part == "node_modules")
}

/// npm, pm2's daemon and their like wait for others, and are not the service that they start; tsx
/// and ts-node with a script are.
fn is_launcher(process: &Process) -> bool {
    if process.environment.get("pm_id").is_some() {
        return false;
    }
    match entry::node(&process.command) {
        Entry::Script(script, arguments) => {
            LAUNCHERS.contains(&stem(script)) && !arguments.iter().any(|word| is_script(word))
        }
        Entry::Title(title) => {
            let word = title.split(' ').next().unwrap_or(title).to_ascii_lowercase();
            LAUNCHERS.contains(&word.as_str())
        }
        Entry::Module(..) | Entry::Code(_) | Entry::Nothing => false,
    }
}

fn is_script(argument: &str) -> bool {
    const SUFFIXES: &[&str] = &["cjs", "cts", "js", "jsx", "mjs", "mts", "ts", "tsx"];
    let suffix = Path::new(argument).extension().and_then(|suffix| suffix.to_str());
    !argument.starts_with('-') && suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix))
}

fn stem(path: &str) -> &str {
    Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Option<Package> {
    #[derive(Deserialize)]
    struct File {
        name: serde_json::Value,
        #[serde(default)]
        version: serde_json::Value,
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let file: File = serde_json::from_slice(bytes).ok()?;
    let name = file.name.as_str().and_then(place::clean)?;
    Some(Package { name, version: file.version.as_str().and_then(place::clean) })
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::node;
    use super::*;

    fn script_of(command: &[&str]) -> Option<String> {
        main(&node(command, &[])).script.map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_main_script_is_found_behind_its_tools() {
        for (command, expected) in [
            (&["node", "server.js"][..], Some("/srv/orders/server.js")),
            (&["node", "."], Some("/srv/orders")),
            (
                &["node", "/usr/local/bin/tsx", "watch", "src/api.ts"],
                Some("/srv/orders/src/api.ts"),
            ),
            (
                &["node", "node_modules/.bin/ts-node", "-T", "src/a.ts"],
                Some("/srv/orders/src/a.ts"),
            ),
            (&["node", "/srv/orders/node_modules/.bin/next", "start"], None),
            (&["node /opt/shop/dist/main.js"], Some("/opt/shop/dist/main.js")),
            (&["orders-api"], None),
        ] {
            assert_eq!(script_of(command).as_deref(), expected, "{command:?}");
        }
    }

    #[test]
    fn names_without_files() {
        let named = |command: &[&str]| name(&node(command, &[]));
        assert_eq!(named(&["node", "billing.js"]).as_deref(), Some("billing"));
        assert_eq!(named(&["node", "src/index.js"]).as_deref(), Some("orders"));
        assert_eq!(named(&["npm start"]).as_deref(), Some("npm"));
        assert_eq!(
            named(&["node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "run"]).as_deref(),
            Some("npm")
        );
        assert_eq!(named(&["PM2 v5.3.0: God Daemon (/root/.pm2)"]).as_deref(), Some("PM2"));
    }

    #[test]
    fn pm2_names_what_its_operator_named() {
        let mut process = node(&["node /srv/app/index.js"], &[]);
        let set = |name: &'static str, path: &'static str| {
            [("pm_id", "0"), ("name", name), ("pm_exec_path", path)].into_iter().collect()
        };
        process.environment = set("checkout", "/srv/app/index.js");
        assert_eq!(pm2_name(&process).as_deref(), Some("checkout"));
        process.environment = set("index", "/srv/app/index.js");
        assert_eq!(pm2_name(&process), None);
        process.environment = set("billing", "/srv/app/billing.js");
        assert_eq!((pm2_name(&process), name(&process).as_deref()), (None, Some("billing")));
    }

    #[test]
    fn a_package_without_a_name_is_none() {
        let package = |name: &str, version: Option<&str>| {
            Some(Package { name: name.to_owned(), version: version.map(str::to_owned) })
        };
        let text = "\u{feff}{\"name\": \"@acme/orders\", \"version\": \"1.2.3\", \"x\": [{}]}";
        assert_eq!(parse(text.as_bytes()), package("@acme/orders", Some("1.2.3")));
        assert_eq!(parse(br#"{"name": "a", "version": 3}"#), package("a", None));
        for text in ["{\"type\": \"module\"}", "{\"name\": \"\"}", "{\"name\": [\"x\"]}", "[", ""] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
