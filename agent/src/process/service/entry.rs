//! What a command line starts: a script, a module, a piece of code, or a title that says nothing.
//!
//! Knows the interpreters' own options and nothing about frameworks or files.

use std::path::Path;

/// A command line, understood as its interpreter would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::process) enum Entry<'a> {
    /// A script's path, and its arguments.
    Script(&'a str, &'a [String]),
    /// `python -m NAME`, and its arguments.
    Module(&'a str, &'a [String]),
    /// `-c` or `-e`.
    Code(&'a str),
    /// The process replaced its command line with a text of its own.
    Title(&'a str),
    /// Interactive, or empty.
    Nothing,
}

/// `argv` of a Node.js process.
pub(in crate::process) fn node(command: &[String]) -> Entry<'_> {
    /// Options that take the next argument as their value (`node --help`).
    const WITH_VALUE: &[&str] = &[
        "-C",
        "-r",
        "--conditions",
        "--diagnostic-dir",
        "--env-file",
        "--env-file-if-exists",
        "--experimental-config-file",
        "--experimental-loader",
        "--icu-data-dir",
        "--import",
        "--input-type",
        "--inspect-port",
        "--loader",
        "--max-http-header-size",
        "--openssl-config",
        "--redirect-warnings",
        "--report-dir",
        "--report-directory",
        "--require",
        "--title",
        "--watch-path",
    ];
    let Some((first, mut rest)) = command.split_first() else { return Entry::Nothing };
    if rest.is_empty() && !file_name(first).starts_with("node") || is_sentence(first, rest) {
        return Entry::Title(first);
    }
    while let Some((argument, after)) = rest.split_first() {
        rest = after;
        match argument.as_str() {
            "-e" | "--eval" | "-p" | "--print" | "-pe" => {
                return Entry::Code(rest.first().map_or("", String::as_str));
            }
            "--" | "" => {}
            option if WITH_VALUE.contains(&option) => {
                rest = rest.get(1..).unwrap_or_default();
            }
            option if option.starts_with('-') => {}
            // `node inspect app.js` is the command-line debugger.
            "inspect" if !rest.is_empty() => {}
            script => return Entry::Script(script, rest),
        }
    }
    Entry::Nothing
}

/// `argv` of a CPython process. A program that embeds CPython (uWSGI) is its own script.
pub(in crate::process) fn python(command: &[String]) -> Entry<'_> {
    let Some((first, mut rest)) = command.split_first() else { return Entry::Nothing };
    if is_sentence(first, rest) {
        return Entry::Title(first);
    }
    if !file_name(first).to_ascii_lowercase().starts_with("python") {
        return match rest {
            [] => Entry::Title(first),
            _ => Entry::Script(first, rest),
        };
    }
    while let Some((argument, after)) = rest.split_first() {
        rest = after;
        let Some(letters) = argument.strip_prefix('-') else {
            return match argument.as_str() {
                "" => continue,
                script => Entry::Script(script, rest),
            };
        };
        if letters.is_empty() {
            return Entry::Nothing;
        }
        if letters.starts_with('-') {
            // The only long option with a value (`--check-hash-based-pycs MODE`).
            if letters == "-check-hash-based-pycs" {
                rest = rest.get(1..).unwrap_or_default();
            }
            continue;
        }
        // Short options cluster (`-um pkg`), and a value may be glued on (`-mpkg`, `-Wignore`).
        let Some((at, letter)) = letters.char_indices().find(|(_, c)| "cmWX".contains(*c)) else {
            continue;
        };
        let glued = letters.get(at + 1..).filter(|value| !value.is_empty());
        let value = match glued {
            Some(value) => value,
            None => {
                let value = rest.first().map_or("", String::as_str);
                rest = rest.get(1..).unwrap_or_default();
                value
            }
        };
        match letter {
            'm' => return Entry::Module(value, rest),
            'c' => return Entry::Code(value),
            _ => {}
        }
    }
    Entry::Nothing
}

/// The last component of a path, as text.
pub(in crate::process) fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A title fills the whole area: one argument, and one that reads like several.
fn is_sentence(first: &str, rest: &[String]) -> bool {
    rest.is_empty() && first.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn node_options_come_before_the_script() {
        for (line, expected) in [
            ("node|server.js|--port|1", "server.js"),
            ("node|-r|dotenv/config|--import|x|dist/main.js", "dist/main.js"),
            ("node|--max-old-space-size=99|--require=x|.|a", "."),
            ("/usr/bin/node|--inspect|--|app.mjs", "app.mjs"),
        ] {
            let command = words(line);
            assert!(
                matches!(node(&command), Entry::Script(script, _) if script == expected),
                "{line}"
            );
        }
        assert_eq!(node(&words("node|-e|code|x")), Entry::Code("code"));
        assert_eq!(node(&words("node")), Entry::Nothing);
        assert_eq!(node(&words("orders-api")), Entry::Title("orders-api"));
        assert_eq!(node(&words("node /srv/app.js")), Entry::Title("node /srv/app.js"));
        assert_eq!(node(&[]), Entry::Nothing);
    }

    #[test]
    fn python_options_cluster() {
        for line in
            ["python|-m|pkg.mod|x", "python3.11|-um|pkg.mod|x", "python|-W|ignore|-mpkg.mod|x"]
        {
            let command = words(line);
            let Entry::Module("pkg.mod", arguments) = python(&command) else { panic!("{line}") };
            assert_eq!(arguments, ["x"]);
        }
        let command = words("/opt/venv/bin/python|-X|dev|-O|/opt/venv/bin/gunicorn|a:b");
        assert!(matches!(python(&command), Entry::Script("/opt/venv/bin/gunicorn", [_])));
        assert!(matches!(python(&words("uwsgi|--ini|x.ini")), Entry::Script("uwsgi", [_, _])));
        assert_eq!(python(&words("python|-c|import x")), Entry::Code("import x"));
        assert_eq!(python(&words("gunicorn: worker [a]")), Entry::Title("gunicorn: worker [a]"));
        assert_eq!(python(&words("python|-")), Entry::Nothing);
        assert_eq!(python(&[]), Entry::Nothing);
    }
}
