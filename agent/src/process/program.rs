//! The program that a process runs: what its span says of it, and the trace that its variables put it in.

use serde::{Deserialize, Serialize};
use wirespan_protocols::w3c::TraceParent;

use super::service::entry::{self, Entry};
use super::{Process, Runtime};
use crate::call::RemoteParent;
use crate::settings::Settings;

/// W3C Trace Context, 3.3.1.5: longer ones may be dropped.
const STATE_LIMIT_BYTES: usize = 512;

/// What is shown of a program, and of which trace it is a part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Of few values: its script's or module's name, else its executable's.
    pub name: String,
    /// The executable's name.
    pub executable: String,
    /// The script, or `-m` and the module.
    pub entry: Option<String>,
    /// All arguments, where the operator asks for them.
    pub arguments: Vec<String>,
    /// `TRACEPARENT`, where it is a valid one.
    pub(crate) traceparent: Option<String>,
    /// `TRACESTATE`.
    pub(crate) tracestate: Option<String>,
    /// It makes calls by the clock, for ever: each is a trace of its own.
    pub is_scheduler: bool,
}

impl Program {
    /// Of a process as it was executed.
    pub fn of(process: &Process, settings: &Settings) -> Self {
        let executable = process.exe.file_name().map(|name| name.to_string_lossy().into_owned());
        let executable = executable.unwrap_or_default();
        let understood = match process.runtime {
            Runtime::Node(_) => entry::node(&process.command),
            Runtime::Python(_) => entry::python(&process.command),
            Runtime::Other => Entry::Nothing,
        };
        let (name, entry) = match understood {
            Entry::Script(path, _) => (entry::file_name(path).to_owned(), Some(path.to_owned())),
            Entry::Module(module, _) => (module.to_owned(), Some(format!("-m {module}"))),
            Entry::Code(_) | Entry::Title(_) | Entry::Nothing => (String::new(), None),
        };
        let is_scheduler = match understood {
            Entry::Script(path, arguments) => is_scheduler(entry::file_name(path), arguments),
            Entry::Module(module, arguments) => is_scheduler(module, arguments),
            _ => false,
        };
        let variable = |name| process.environment.get(name).map(str::to_owned);
        let traceparent = variable("TRACEPARENT")
            .filter(|text| TraceParent::parse(text.trim().as_bytes()).is_some());
        let tracestate = variable("TRACESTATE")
            .filter(|state| traceparent.is_some() && state.len() <= STATE_LIMIT_BYTES);
        let arguments =
            if settings.process_arguments { process.command.clone() } else { Vec::new() };
        Self {
            name: if name.is_empty() { executable.clone() } else { name },
            executable,
            entry,
            arguments,
            traceparent,
            tracestate,
            is_scheduler,
        }
    }

    /// The span that its variables name as its parent.
    pub fn remote(&self) -> Option<RemoteParent> {
        let parent = TraceParent::parse(self.traceparent.as_ref()?.trim().as_bytes())?;
        Some(RemoteParent { parent, state: self.tracestate.as_deref().map(Box::from) })
    }
}

/// Celery's beat and RQ's scheduler hand over jobs when their time comes.
fn is_scheduler(program: &str, arguments: &[String]) -> bool {
    match program {
        "celery" => arguments.iter().any(|argument| argument == "beat"),
        "rqscheduler" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::python;

    fn program(command: &[&str], environment: &[(&str, &str)]) -> Program {
        let environment = environment.iter().copied().collect();
        let process = Process { environment, ..python(command, &[]) };
        Program::of(&process, &Settings::default())
    }

    #[test]
    fn it_is_called_by_what_it_runs_and_never_by_its_arguments() {
        for (command, name, entry) in [
            (
                &["python3", "-u", "/srv/pipeline.py", "--token=x"][..],
                "pipeline.py",
                Some("/srv/pipeline.py"),
            ),
            (&["python3", "-m", "jobs.daily", "secret"], "jobs.daily", Some("-m jobs.daily")),
            (&["python3", "-c", "import secret"], "python3.11", None),
            (&[], "python3.11", None),
        ] {
            let program = program(command, &[]);
            assert_eq!((program.name.as_str(), program.entry.as_deref()), (name, entry));
            assert!(program.arguments.is_empty() && !program.is_scheduler);
        }
        let beat = program(&["python3", "/v/bin/celery", "-A", "a", "beat"], &[]);
        assert!(beat.is_scheduler);
        let worker = program(&["python3", "-m", "celery", "worker"], &[]);
        assert!(!worker.is_scheduler);
    }

    #[test]
    fn the_trace_of_its_variables_is_read_by_the_specification() {
        const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let remote =
            |environment: &[(&str, &str)]| program(&["python3", "a.py"], environment).remote();
        let found = remote(&[("TRACEPARENT", VALID), ("TRACESTATE", "a=b")]).unwrap();
        assert_eq!((found.parent.flags, found.state.as_deref()), (1, Some("a=b")));
        let long = "x".repeat(STATE_LIMIT_BYTES + 1);
        assert!(remote(&[("TRACEPARENT", VALID), ("TRACESTATE", &long)]).unwrap().state.is_none());
        assert!(remote(&[("TRACEPARENT", &VALID.replace("b7", "xx"))]).is_none());
        assert!(remote(&[("TRACESTATE", "a=b")]).is_none());
    }
}
