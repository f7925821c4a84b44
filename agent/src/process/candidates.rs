//! The processes that could be traced, as a table, each with a rule that would allow it.
//!
//! What `wirespan run` shows when nothing is allowed. Command lines are foreign: control characters
//! never reach the terminal.

use super::{Process, Rule, Runtime};

/// Columns, not bytes; a longer command line ends in `…`.
const COMMAND_WIDTH: usize = 48;
/// A rule with a whole command line in it is of no more use than this.
const LITERAL_LIMIT_CHARS: usize = 200;

impl Rule {
    /// A short rule that allows `process` and, if there is one, not every other candidate: by the port
    /// it listens on, else by its command line, else by what is left.
    pub fn suggest(process: &Process, candidates: &[Process]) -> Self {
        let possible: Vec<Self> = texts(process)
            .iter()
            .filter_map(|text| text.parse().ok())
            .filter(|rule: &Self| rule.allows(process))
            .collect();
        let others: Vec<&Process> =
            candidates.iter().filter(|other| other.id() != process.id()).collect();
        let tells_apart =
            |rule: &&Self| others.is_empty() || others.iter().any(|other| !rule.allows(other));
        match possible.iter().find(tells_apart).or(possible.first()) {
            Some(rule) => rule.clone(),
            None => Self::of_uid(process.uid),
        }
    }
}

/// Rules to try, the most telling first.
fn texts(process: &Process) -> Vec<String> {
    let mut texts: Vec<String> =
        process.listening.iter().map(|port| format!("port={port}")).collect();
    let skip_argv0 = usize::from(process.command.len() > 1);
    let words = process.command.iter().skip(skip_argv0);
    // What names the program: a script, a module, "module:app"; not an option or its number.
    for word in words.filter(|word| !word.starts_with('-') && word.contains(char::is_alphabetic)) {
        let name = word.trim_end_matches('/').rsplit('/').next().unwrap_or(word);
        texts.push(format!("cmd=*{}*", literal(name)));
        texts.push(format!("cmd=*{}*", literal(word)));
    }
    texts.push(format!("cmd={}", literal(&process.command_line())));
    let by_exe = process.exe.to_str().map(|exe| format!("exe={}", literal(exe)));
    texts.extend(by_exe);
    texts.push(format!("user={}", process.uid));
    let runtime = process.runtime.word();
    for port in &process.listening {
        texts.push(format!("runtime={runtime},user={},port={port}", process.uid));
    }
    texts.push(format!("runtime={runtime}"));
    texts
}

/// A glob that matches this text, and little else.
fn literal(text: &str) -> String {
    let mut glob = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(LITERAL_LIMIT_CHARS) {
        match character {
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' | ',' => {
                glob.push('\\');
                glob.push(character);
            }
            // Not to be typed, and not to be sent to a terminal.
            _ if character.is_control() || character == '\u{fffd}' => glob.push('?'),
            _ => glob.push(character),
        }
    }
    if characters.next().is_some() {
        glob.push('*');
    }
    // A rule's blanks at either end are not the pattern's.
    match glob.trim() {
        "" => "*".to_owned(),
        trimmed if trimmed.len() == glob.len() => glob,
        trimmed => format!("*{trimmed}*"),
    }
}

/// Renders the candidates: pid, runtime, ports, command line, and what would allow each.
pub fn table(candidates: &[Process]) -> String {
    let header = ["PID", "RUNTIME", "PORTS", "COMMAND", "ALLOW IT WITH"].map(str::to_owned);
    let rows = candidates.iter().map(|process| {
        let ports: Vec<String> = process.listening.iter().map(u16::to_string).collect();
        let runtime = match process.runtime.version() {
            Some(version) => format!("{} {version}", name(process.runtime)),
            None => name(process.runtime).to_owned(),
        };
        [
            process.pid.to_string(),
            runtime,
            if ports.is_empty() { "-".to_owned() } else { ports.join(",") },
            shortened(&process.command_line()),
            format!("--allow {}", quoted(&Rule::suggest(process, candidates).to_string())),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    let mut widths = [0_usize; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn name(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Node(_) => "Node.js",
        Runtime::Python(_) => "Python",
        Runtime::Other => "other",
    }
}

pub(super) fn shortened(command: &str) -> String {
    let printable: String = command
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(COMMAND_WIDTH + 1)
        .collect();
    if printable.chars().count() <= COMMAND_WIDTH {
        return printable;
    }
    let mut cut: String = printable.chars().take(COMMAND_WIDTH - 1).collect();
    cut.push('…');
    cut
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"=-_./:@,+".contains(&byte);
    if text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{node, python};
    use super::*;

    fn suggested(process: &Process, candidates: &[Process]) -> String {
        let rule = Rule::suggest(process, candidates);
        assert!(rule.allows(process), "{rule}");
        rule.to_string()
    }

    #[test]
    fn a_port_is_the_shortest_way_to_say_it() {
        let orders = node(&["node", "/srv/orders/server.js"], &[3000, 9229]);
        let users = node(&["node", "/srv/users/server.js"], &[3001, 9229]);
        let worker = python(&["python", "/srv/jobs/worker.py"], &[]);
        let all = [orders, users, worker];
        let [orders, users, worker] = &all;
        assert_eq!(suggested(orders, &all), "port=3000");
        assert_eq!(suggested(users, &all), "port=3001");
        assert_eq!(suggested(worker, &all), "cmd=*worker.py*");
    }

    #[test]
    fn a_port_or_name_that_all_share_is_passed_over() {
        let a = node(&["node", "/srv/a/server.js"], &[8080]);
        let mut b = node(&["node", "/srv/b/server.js"], &[8080]);
        b.pid += 1;
        let all = [a, b];
        assert_eq!(suggested(&all[0], &all), "cmd=*/srv/a/server.js*");
        assert_eq!(suggested(&all[0], &all[..1]), "port=8080");
    }

    #[test]
    fn a_command_line_cannot_write_to_the_terminal() {
        let process = node(&["node", "\u{1b}[2J\n*{,}.js"], &[]);
        let text = table(std::slice::from_ref(&process));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        suggested(&process, std::slice::from_ref(&process));
    }

    #[test]
    fn the_table_is_one_line_each() {
        let all = [
            node(&["node", "/srv/orders/server.js"], &[3000]),
            python(&["python3", "/srv/jobs/it's a worker.py", &"x".repeat(90)], &[]),
        ];
        let text = table(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            "4711  Node.js 20.11.1  3000   node /srv/orders/server.js                        --allow port=3000"
        );
        assert!(
            lines[2].contains('…') && lines[2].ends_with(r"--allow 'cmd=*it'\''s a worker.py*'")
        );
    }

    proptest! {
        #[test]
        fn every_suggestion_allows_its_process(words in prop::collection::vec(any::<String>(), 1..4)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let process = node(&words, &[]);
            suggested(&process, std::slice::from_ref(&process));
        }
    }
}
