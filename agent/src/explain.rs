//! Why a process is traced or not, and what became of what it did: the answer to `wirespan explain`.
//!
//! Data and words only; gathered by `pipeline/explain.rs`, shown by `cli/explain.rs`.

use serde::{Deserialize, Serialize};

use crate::books::ProcessStatus;
use crate::process::{Allowed, Decision, ProcFs, Process, Reason, Rules};

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its number in the agent's pid namespace.
    pub pid: i32,
    /// Whether it is traced.
    pub traced: bool,
    /// Why, in a sentence.
    pub because: String,
    /// What to do about it, if it should be otherwise.
    pub remedies: Vec<String>,
    /// What it is, as name and value.
    pub facts: Vec<(String, String)>,
    /// For one that no rule allows: each rule, and its terms that don't hold.
    pub rules: Vec<RuleAnswer>,
    /// Its connections now, those of the most bytes first.
    pub connections: Vec<ConnectionFacts>,
    /// Connections beyond those.
    pub connections_more: usize,
    /// Its books.
    pub books: Option<ProcessStatus>,
}

/// What one rule says of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleAnswer {
    /// The rule.
    pub rule: String,
    /// Its terms that don't hold, each with what was found.
    pub unmet: Vec<String>,
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionFacts {
    /// The process's end and the other one.
    pub ends: String,
    /// `server` or `client`, where it is known.
    pub role: String,
    /// The protocol, or why there is none.
    pub state: String,
    /// Calls under way.
    pub open_calls: usize,
    /// Bytes that passed.
    pub bytes: u64,
}

impl Explanation {
    /// What would be said of a process if an agent ran by these rules. Reads `/proc`.
    pub fn would_be(pid: i32, procfs: &ProcFs, rules: &Rules) -> Self {
        let mut answer = Self::untraced(pid, procfs, rules);
        if let Ok(process) = procfs.inspect(pid)
            && let Decision::Traced { by } = rules.decide(&process)
        {
            answer.traced = true;
            answer.because = format!("{} allows it", words(rules, by));
            answer.remedies = vec!["start the agent: wirespan run".to_owned()];
        }
        answer
    }

    /// It is not traced, for that.
    pub(crate) fn is_refused(&mut self, reason: Reason) {
        self.because = reason.to_string();
        self.remedies = remedy(reason).map(str::to_owned).into_iter().collect();
    }

    /// What can be said of a process that is not traced. Reads `/proc`.
    pub fn untraced(pid: i32, procfs: &ProcFs, rules: &Rules) -> Self {
        let mut answer = Self { pid, ..Self::default() };
        let process = match procfs.inspect(pid) {
            Ok(process) => process,
            Err(error) => {
                answer.because = error.to_string();
                if matches!(error, crate::process::InspectError::Denied { .. }) {
                    answer
                        .remedies
                        .push("run the agent as root, or with CAP_SYS_PTRACE".to_owned());
                }
                return answer;
            }
        };
        answer.facts = facts(&process);
        match rules.decide(&process) {
            Decision::Traced { by } => {
                answer.because = format!(
                    "{} allows it, but it could not be traced yet: the agent's log says why",
                    words(rules, by)
                );
                answer.remedies.push(
                    "see `wirespan status --json`: processes_failed, processes_waiting".to_owned(),
                );
            }
            Decision::NotTraced { reason } => answer.is_refused(reason),
        }
        if let Decision::NotTraced { reason: Reason::NoRule } = rules.decide(&process) {
            answer.rules = rules
                .allow
                .iter()
                .map(|allow| RuleAnswer {
                    rule: allow.rule.to_string(),
                    unmet: allow.rule.unmet(&process),
                })
                .collect();
            let suggested = crate::process::Rule::suggest(&process, std::slice::from_ref(&process));
            answer.remedies.push(format!("allow it, for example by {suggested}"));
        }
        answer
    }
}

fn remedy(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Runtime => Some("only Node.js and CPython 3 are traced: docs/limitations.md"),
        Reason::SdkDisabled => Some(
            "start it without OTEL_SDK_DISABLED=true, or trace it all the same: settings.trace_sdk_disabled",
        ),
        Reason::OwnSpans => Some(
            "to have it traced, start it without its SDK, or trace it all the same: settings.yield_to_sdk: false",
        ),
        Reason::Agent | Reason::NoRule => None,
    }
}

/// What allowed a process.
pub fn words(rules: &Rules, by: Allowed) -> String {
    match by {
        Allowed::All => "`all`".to_owned(),
        Allowed::Rule(index) => {
            let rule = rules.allow.get(index).map(|allow| allow.rule.to_string());
            format!("rules[{index}] ({})", rule.unwrap_or_default())
        }
    }
}

/// What a process is.
pub fn facts(process: &Process) -> Vec<(String, String)> {
    let ports: Vec<String> = process.listening.iter().map(u16::to_string).collect();
    let runtime = match process.runtime.version() {
        Some(version) => format!("{} {version}", process.runtime.word()),
        None => process.runtime.word().to_owned(),
    };
    let user = process.user.as_ref().map_or(String::new(), |user| format!("{user} "));
    let container = process.container.as_deref();
    let named = |name: Option<String>, id: &Option<String>| match (name, id) {
        (Some(name), Some(id)) => format!("{name} ({id})"),
        (name, id) => name.or_else(|| id.clone()).unwrap_or_default(),
    };
    let pod = container.and_then(|container| container.pod.as_ref());
    let pod = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name));
    let name = container.and_then(|container| container.name.clone());
    let image = container.and_then(|container| container.image.clone());
    let facts = [
        ("command", process.shown_command()),
        ("executable", process.exe.display().to_string()),
        ("runtime", runtime),
        ("user", format!("{user}({})", process.uid)),
        ("parent", process.ppid.to_string()),
        ("listens", ports.join(", ")),
        ("cgroup", process.cgroup.clone()),
        ("unit", process.systemd_unit.clone().unwrap_or_default()),
        ("container", named(name, &process.container_id)),
        ("image", image.unwrap_or_default()),
        ("pod", named(pod, &process.pod_uid)),
    ];
    let printable = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    facts.map(|(name, value)| (name.to_owned(), printable(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::process::Allow;

    #[test]
    fn a_process_that_no_rule_allows_is_answered_term_by_term() {
        let rules = |rule: &str| Rules {
            allow: vec![Allow { rule: rule.parse().unwrap(), settings: Arc::default() }],
            ..Rules::default()
        };
        let own = std::process::id().cast_signed();
        let answer = Explanation::untraced(own, &ProcFs::new("/proc"), &rules("port=1"));
        // This test is no Node.js and no Python.
        assert!(!answer.traced && answer.because.contains("neither Node.js nor CPython"));
        assert!(!answer.facts.is_empty() && !answer.remedies.is_empty());
        let gone = Explanation::untraced(i32::MAX, &ProcFs::new("/proc"), &rules("port=1"));
        assert!(gone.because.contains("is gone"), "{}", gone.because);
    }
}
