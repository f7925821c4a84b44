//! `wirespan check-config` and `wirespan init`: a configuration file against what runs now.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;

use crate::cli::{complain, print, variable};
use crate::config::plan::{Flags, Plan};
use crate::config::{self, Config};
use crate::process::{AgentInfo, Allowed, Decision, ProcFs, Process, Rule, Rules, resource};

/// The file is wrong.
const WRONG: u8 = 1;

/// Reads a file as `run` would, and lists the running processes that it allows.
pub(super) fn check(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let file = file.unwrap_or(Path::new(config::DEFAULT_PATH));
    let config = match Config::read(file) {
        Ok(config) => config,
        Err(error) => {
            complain(&error.to_string());
            return Ok(ExitCode::from(WRONG));
        }
    };
    let plan = Plan::new(&config, &Flags::default(), variable)?;
    let procfs = super::procfs(&plan)?;
    let processes = procfs.traceable().context("can't list processes")?;
    print(format!("{}: understood", file.display()).as_str());
    let mut text = String::new();
    listing(&procfs, &plan.rules, &processes, &mut text)?;
    print(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// What each rule allows of these processes.
fn listing(
    procfs: &ProcFs,
    rules: &Rules,
    processes: &[Process],
    text: &mut String,
) -> std::fmt::Result {
    let agent = AgentInfo::default();
    let decided: Vec<(&Process, Decision)> =
        processes.iter().map(|process| (process, rules.decide(process))).collect();
    let mut group = |title: String, by: Allowed| -> std::fmt::Result {
        writeln!(text, "\n{title}")?;
        let allowed = Decision::Traced { by };
        let mut any = false;
        for (process, _) in decided.iter().filter(|(_, decision)| *decision == allowed) {
            any = true;
            let resource = resource(procfs, process, &agent, rules.settings(by));
            let service = resource.text(SERVICE_NAME).unwrap_or_default();
            writeln!(text, "  {:<8} {service:<24} {}", process.pid, process.shown_command())?;
        }
        if !any {
            writeln!(text, "  no process that runs now")?;
        }
        Ok(())
    };
    for (index, allow) in rules.allow.iter().enumerate() {
        let rule = allow.rule.to_string();
        let rule = if rule.is_empty() { "every Node.js and Python process" } else { &rule };
        group(format!("rules[{index}]: {rule}"), Allowed::Rule(index))?;
    }
    if rules.all {
        group("all: every Node.js and Python process".to_owned(), Allowed::All)?;
    }
    if rules.allow.is_empty() && !rules.all {
        writeln!(text, "\nNo rule allows anything: nothing would be traced.")?;
    }
    let refused = decided.iter().filter_map(|(process, decision)| match decision {
        Decision::NotTraced { reason } => Some((process, reason)),
        Decision::Traced { .. } => None,
    });
    for (index, (process, reason)) in refused.enumerate() {
        if index == 0 {
            writeln!(text, "\nnot traced")?;
        }
        writeln!(text, "  {:<8} {:<60} {reason}", process.pid, process.shown_command())?;
    }
    Ok(())
}

/// Writes a commented file that allows what runs now, or nothing.
pub(super) fn init(output: Option<&Path>, empty: bool) -> anyhow::Result<ExitCode> {
    let procfs = ProcFs::new("/proc");
    let own = procfs.ancestry(std::process::id().cast_signed());
    let mut processes =
        if empty { Vec::new() } else { procfs.traceable().context("can't list processes")? };
    processes.retain(|process| !own.contains(&process.id()));
    let text = written(&procfs, &processes)?;
    match output {
        None => print(text.trim_end()),
        Some(path) => {
            use std::io::Write;
            // A file that is there is somebody's work.
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .with_context(|| format!("can't write {}", path.display()))?;
            file.write_all(text.as_bytes())?;
            complain(&format!(
                "{} written: look it over, then `wirespan run --config` it",
                path.display()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The head of a new file.
const HEAD: &str = "\
# Wirespan's configuration. Keys and their meaning: docs/configuration.md; tried by `wirespan check-config`.
# ${env:NAME}, ${env:NAME:-default} and ${file:PATH} may stand for values; a dollar sign itself is $$.

";

/// The rest of it, commented out.
const TAIL: &str = r"
# What is done with spans, unless a rule's own `settings` say otherwise.
# settings:
#   sampling: {ratio: 0.1}             # keep one trace in ten
#   ignore:
#     routes: [/healthz, /metrics]     # requests that make no span
#     statements: ['SELECT 1']         # database calls that make none
#   routes: ['/users/{id}/posts/*']    # names of routes; others are guessed
#   node_assist: false                 # evaluate no script in Node.js processes
#   query_parameters: true             # users' data leaves the process
#   span_attributes: [{name: user.id, header: x-user-id}]
#   redact: {attributes: [client.address]}

# Where spans go.
# exporters:
# - otlp:
#     endpoint: http://localhost:4317
#     headers: {authorization: 'Bearer ${file:/etc/wirespan/token}'}
#     compression: gzip
# - file: {path: /var/log/wirespan/spans.jsonl}
exporters:
- console: {}
";

fn written(procfs: &ProcFs, processes: &[Process]) -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    let agent = AgentInfo::default();
    let settings = crate::settings::Settings::default();
    let mut known: Vec<String> = Vec::new();
    writeln!(
        text,
        "# Which processes are traced: the first rule that holds decides. None: nothing is."
    )?;
    if processes.is_empty() {
        writeln!(text, "rules: []\n# - match: {{port: 3000}}\n#   service: orders")?;
    } else {
        writeln!(text, "rules:")?;
    }
    for process in processes {
        let rule = Rule::suggest(process, processes);
        let key = rule.to_string();
        if known.contains(&key) {
            continue;
        }
        let resource = resource(procfs, process, &agent, &settings);
        let service = resource.text(SERVICE_NAME).unwrap_or_default();
        writeln!(text, "# {}: {}", process.pid, process.shown_command())?;
        writeln!(text, "- match:")?;
        for (key, value) in rule.plain_terms() {
            writeln!(text, "    {key}: {}", quoted(&value))?;
        }
        writeln!(text, "  # service: {}", quoted(service))?;
        known.push(key);
    }
    text.push_str(TAIL);
    Ok(text)
}

/// A scalar that YAML and `${...}` leave as it is: double-quoted where it is not plain.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    // What begins with a digit may be a number, and some words are truths (YAML 1.1 has the most of them).
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    const TRUTHS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_truth = TRUTHS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if starts_plain && !is_truth && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '$' => quoted.push_str("$$"),
            _ if character.is_control() || character == '\u{feff}' => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::testing::{node, python};

    fn rules(text: &str) -> Rules {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wirespan.yaml");
        std::fs::write(&path, text).unwrap();
        let config = Config::read(&path).unwrap_or_else(|error| panic!("{error}\n{text}"));
        Plan::new(&config, &Flags::default(), |_| None).unwrap().rules
    }

    #[test]
    fn what_is_written_allows_what_runs() {
        let procfs = ProcFs::new("/nowhere");
        let processes = [
            node(&["node", "/srv/orders/server.js"], &[3000]),
            python(&["python3", "/srv/it's a \"job\"/${HOME}, {a}.py"], &[]),
            python(&["python3", "\u{1b}[2J*\n.py"], &[]),
        ];
        let text = written(&procfs, &processes).unwrap();
        let rules = rules(&text);
        for process in &processes {
            assert!(matches!(rules.decide(process), Decision::Traced { .. }), "{text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!written(&procfs, &[]).unwrap().is_empty());
    }

    #[test]
    fn the_listing_says_which_rule_allows_whom() {
        let rules = rules("rules:\n- match: {port: 3000}\n  service: shop\n- match: {port: 1}\n");
        let processes = [node(&["node", "a.js"], &[3000]), node(&["node", "b.js"], &[4000])];
        let mut text = String::new();
        listing(&ProcFs::new("/nowhere"), &rules, &processes, &mut text).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[1], "rules[0]: port=3000");
        assert!(lines[2].contains("shop") && lines[2].ends_with("node a.js"), "{text}");
        assert_eq!(lines[5], "no process that runs now");
        assert!(
            lines[8].contains("node b.js") && lines[8].ends_with("no rule holds for it"),
            "{text}"
        );
    }

    #[test]
    fn what_yaml_would_take_for_something_else_is_quoted() {
        for text in ["0", "1e5", "0x1f", "true", "No", "null", "2026-11-21"] {
            assert_eq!(quoted(text), format!("\"{text}\""));
        }
        assert_eq!(
            ["node", "/usr/bin/node", "Norway"].map(quoted),
            ["node", "/usr/bin/node", "Norway"]
        );
    }

    proptest! {
        #[test]
        fn a_quoted_text_is_read_as_itself(text in "\\PC{1,20}") {
            prop_assume!(text.trim() == text);
            let written = format!("rules:\n- match: {{}}\n  service: {}\n", quoted(&text));
            let rules = rules(&written);
            let process = node(&["node"], &[]);
            let service = rules.allow[0].settings.service.clone().unwrap().of(&process).unwrap();
            prop_assert_eq!(service, crate::span::Value::from(text));
        }
    }
}
