//! What a Python process is called: the application that its server was told to run, else the
//! script, the module or the directory.

use std::path::{Path, PathBuf};

use super::super::{Environment, Process};
use super::entry::{self, Entry};
use super::place;

/// What a command line says about the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its name.
    Name(String),
    /// Nothing; ask the parent, whose helper or worker this is.
    AskParent,
    /// Nothing.
    Nothing,
}

/// Programs that start other programs and are not what they start.
const SUPERVISORS: &[&str] = &["ansible", "circusd", "honcho", "supervisord", "uv"];

/// Reads a process's command line, working directory and variables; no file.
pub(super) fn name(process: &Process) -> Told {
    let cwd = process.cwd.as_path();
    let environment = &process.environment;
    let name = match entry::python(&process.command) {
        Entry::Script(path, arguments) => script(path, arguments, cwd, environment),
        Entry::Module(module, arguments) => {
            let tool = module.split('.').next().unwrap_or(module);
            match server(tool, arguments, cwd, environment) {
                Some(found) => found,
                None => place::of_module(module).or_else(|| place::of_directory(cwd)),
            }
        }
        // multiprocessing's children carry no trace of what their parent runs.
        Entry::Code(code) if code.contains("multiprocessing") => return Told::AskParent,
        Entry::Code(_) | Entry::Nothing => None,
        Entry::Title(text) => match title(text, cwd) {
            Some(name) => Some(name),
            None => return Told::AskParent,
        },
    };
    name.map_or(Told::Nothing, Told::Name)
}

/// Whether a parent's name may be handed to a child that has none of its own.
pub(super) fn hands_down(process: &Process) -> bool {
    match entry::python(&process.command) {
        Entry::Script(path, _) => !SUPERVISORS.contains(&stem(path)),
        _ => true,
    }
}

/// A title that is one word: what a program calls itself when nothing else is known.
pub(super) fn plain_title(process: &Process) -> Option<String> {
    match entry::python(&process.command) {
        Entry::Title(title) if !title.contains(' ') => place::clean(entry::file_name(title)),
        _ => None,
    }
}

fn script(
    path: &str,
    arguments: &[String],
    cwd: &Path,
    environment: &Environment,
) -> Option<String> {
    let name = stem(path);
    if let Some(found) = server(name, arguments, cwd, environment) {
        return found;
    }
    let directory = parent(cwd, path);
    if name == "manage" {
        return django(&directory, environment);
    }
    place::of_script(path).or_else(|| place::of_directory(&directory))
}

/// The application of a known server or launcher; `None` if `tool` is none of them.
fn server(
    tool: &str,
    arguments: &[String],
    cwd: &Path,
    environment: &Environment,
) -> Option<Option<String>> {
    let here = || place::of_directory(cwd);
    let name = match tool {
        "gunicorn" | "gunicorn3" => {
            let extra: Vec<String> = environment
                .get("GUNICORN_CMD_ARGS")
                .map(|text| text.split_ascii_whitespace().map(str::to_owned).collect())
                .unwrap_or_default();
            let all: Vec<String> = extra.iter().chain(arguments).cloned().collect();
            let given = value(&all, &["-n", "--name"]).and_then(|name| of_application(&name));
            let inside = value(&all, &["--chdir"]).map(|path| place::absolute(cwd, &path));
            given
                .or_else(|| application(arguments).and_then(|module| place::of_module(&module)))
                .or_else(|| place::of_directory(&inside.unwrap_or_else(|| cwd.to_owned())))
        }
        "uvicorn" | "hypercorn" | "daphne" | "granian" | "waitress-serve" | "waitress" => {
            let inside = value(arguments, &["--app-dir"]).map(|path| place::absolute(cwd, &path));
            application(arguments)
                .or_else(|| environment.get("UVICORN_APP").map(str::to_owned))
                .and_then(|module| place::of_module(&module))
                .or_else(|| place::of_directory(&inside.unwrap_or_else(|| cwd.to_owned())))
        }
        "uwsgi" => {
            let module = value(arguments, &["-w", "--module", "--wsgi"]);
            let file = value(arguments, &["--wsgi-file", "--file"]);
            module
                .and_then(|module| place::of_module(&module))
                .or_else(|| file.and_then(|file| of_file(&file, cwd)))
                .or_else(here)
        }
        "celery" => value(arguments, &["-A", "--app"])
            .or_else(|| environment.get("CELERY_APP").map(str::to_owned))
            .and_then(|module| place::of_module(&module))
            .or_else(here),
        "flask" => value(arguments, &["-A", "--app"])
            .or_else(|| environment.get("FLASK_APP").map(str::to_owned))
            .and_then(|app| of_application_or_file(&app, cwd))
            .or_else(here),
        "django-admin" | "django" => django(cwd, environment),
        "fastapi" | "streamlit" => arguments
            .iter()
            .find(|word| word.ends_with(".py"))
            .and_then(|file| of_file(file, cwd))
            .or_else(here),
        "dramatiq" | "arq" | "huey_consumer" | "rq" | "faust" | "sanic" => application(arguments)
            .or_else(|| value(arguments, &["-A", "--app"]))
            .and_then(|module| place::of_module(&module))
            .or_else(here),
        // Programs that run the script or module after them.
        "ddtrace-run"
        | "opentelemetry-instrument"
        | "newrelic-admin"
        | "debugpy"
        | "coverage"
        | "watchfiles"
        | "watchmedo"
        | "pdb"
        | "poetry"
        | "pipenv" => arguments.iter().find(|word| word.ends_with(".py")).map_or_else(
            || application(arguments).and_then(|module| place::of_module(&module)).or_else(here),
            |file| of_file(file, cwd),
        ),
        _ => return None,
    };
    Some(name)
}

/// "gunicorn: worker [orders.wsgi:app]", "[celeryd: ...] -active- (worker -A orders)".
fn title(text: &str, cwd: &Path) -> Option<String> {
    if let Some(rest) = text.strip_prefix("gunicorn: ") {
        let (_, inside) = rest.split_once('[')?;
        let application = inside.strip_suffix(']').unwrap_or(inside);
        // gunicorn's default is the application itself.
        return of_application(application).or_else(|| place::of_directory(cwd));
    }
    if text.starts_with("[celeryd:") {
        let (_, arguments) = text.split_once('(')?;
        let words: Vec<String> =
            arguments.trim_end_matches(')').split(' ').map(str::to_owned).collect();
        return value(&words, &["-A", "--app"]).and_then(|module| place::of_module(&module));
    }
    None
}

fn of_application(text: &str) -> Option<String> {
    if is_application(text) { place::of_module(text) } else { place::clean(text) }
}

fn of_application_or_file(text: &str, cwd: &Path) -> Option<String> {
    let file = text.split(':').next().unwrap_or(text);
    if file.ends_with(".py") || file.contains('/') {
        of_file(file, cwd)
    } else {
        place::of_module(text)
    }
}

fn of_file(path: &str, cwd: &Path) -> Option<String> {
    place::of_script(path).or_else(|| place::of_directory(&parent(cwd, path)))
}

/// The directory that `manage.py` is in, else the package of its settings.
fn django(directory: &Path, environment: &Environment) -> Option<String> {
    place::of_directory(directory).or_else(|| {
        let settings = environment.get("DJANGO_SETTINGS_MODULE")?;
        place::of_module(settings.split('.').next().unwrap_or(settings))
    })
}

/// The argument that names an application: `package.module:object` before a bare module.
fn application(arguments: &[String]) -> Option<String> {
    let qualified = arguments.iter().find(|word| is_application(word));
    qualified.or_else(|| last_module(arguments)).cloned()
}

/// The last argument, if it is a module and not an option's value.
fn last_module(arguments: &[String]) -> Option<&String> {
    let (last, before) = arguments.split_last()?;
    let is_value = before.last().is_some_and(|word| word.starts_with('-') && !word.contains('='));
    (!is_value && last.split('.').all(is_identifier)).then_some(last)
}

/// `package.module:object`, `module:create_app()`: names on both sides of one colon.
fn is_application(text: &str) -> bool {
    let Some((module, object)) = text.split_once(':') else { return false };
    let object = object.split('(').next().unwrap_or(object);
    module.split('.').all(is_identifier) && object.split('.').all(is_identifier)
}

fn is_identifier(word: &str) -> bool {
    let mut characters = word.chars();
    characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || character == '_')
}

/// The value of the last option with one of these names: `-A x`, `-Ax`, `--app x`, `--app=x`.
fn value(arguments: &[String], names: &[&str]) -> Option<String> {
    let mut found = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        for name in names {
            match word.strip_prefix(name) {
                Some("") => {
                    found = words.next().cloned();
                    break;
                }
                Some(rest) if name.starts_with("--") => {
                    found = rest.strip_prefix('=').map(str::to_owned).or(found);
                }
                Some(rest) => found = Some(rest.to_owned()),
                None => {}
            }
        }
    }
    found
}

fn stem(path: &str) -> &str {
    let name = entry::file_name(path);
    name.strip_suffix(".py").unwrap_or(name)
}

fn parent(cwd: &Path, path: &str) -> PathBuf {
    let absolute = place::absolute(cwd, path);
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::super::tests::python;
    use super::*;

    fn named(line: &str) -> Told {
        name(&python(&line.split('|').collect::<Vec<_>>(), &[]))
    }

    #[rstest]
    #[case(
        "python|/usr/bin/gunicorn|-w|4|-k|uvicorn.workers.UvicornWorker|billing.main:app",
        "billing"
    )]
    #[case("python|/usr/bin/gunicorn|-b|localhost:8000|billing.wsgi", "billing")]
    #[case("python|/usr/bin/gunicorn|--name|checkout|billing.wsgi:app", "checkout")]
    #[case("python|-m|gunicorn|main:app", "orders")]
    #[case("python|/usr/bin/gunicorn|--chdir|/srv/shop|app:app", "shop")]
    #[case("gunicorn: worker [billing.wsgi:app]", "billing")]
    #[case("gunicorn: master [checkout]", "checkout")]
    #[case("gunicorn: worker [app:app]", "orders")]
    #[case("python|/venv/bin/uvicorn|billing.main:app|--port|80", "billing")]
    #[case("python|-m|uvicorn|--host|0.0.0.0|app.main:create_app|--factory", "orders")]
    #[case("python|/venv/bin/celery|-A|mailer.tasks|worker", "mailer")]
    #[case("python|/venv/bin/celery|--app=mailer|worker|-c|2", "mailer")]
    #[case("[celeryd: celery@h:MainProcess] -active- (-A mailer worker)", "mailer")]
    #[case("python|/venv/bin/flask|--app|billing|run", "billing")]
    #[case("python|/venv/bin/flask|--app|src/billing.py:app|run", "billing")]
    #[case("python|manage.py|runserver|0.0.0.0:80", "orders")]
    #[case("python|/srv/blog/manage.py|runserver", "blog")]
    #[case("python|-m|billing", "billing")]
    #[case("python|-m|billing.server", "billing")]
    #[case("python3|worker.py", "worker")]
    #[case("python3|/opt/mailer/src/main.py", "mailer")]
    #[case("python|/venv/bin/opentelemetry-instrument|python|billing.py", "billing")]
    #[case("uwsgi|--http|:80|--module|billing.wsgi:app", "billing")]
    fn applications_are_named(#[case] line: &str, #[case] expected: &str) {
        assert_eq!(named(line), Told::Name(expected.to_owned()), "{line}");
    }

    #[rstest]
    #[case(
        "python|-c|from multiprocessing.spawn import spawn_main; spawn_main(5)|--multiprocessing-fork"
    )]
    #[case("[celeryd: celery@h:ForkPoolWorker-1]")]
    #[case("some title of its own")]
    fn helpers_ask_their_parent(#[case] line: &str) {
        assert_eq!(named(line), Told::AskParent, "{line}");
    }

    #[test]
    fn code_says_nothing() {
        assert_eq!(named("python|-c|print(1)"), Told::Nothing);
        assert_eq!(named("python"), Told::Nothing);
    }

    #[test]
    fn variables_name_what_the_command_does_not() {
        let mut process = python(&["python", "/venv/bin/flask", "run"], &[]);
        process.environment = [("FLASK_APP", "billing.py")].into_iter().collect();
        assert_eq!(name(&process), Told::Name("billing".to_owned()));
        process.command = ["python", "/venv/bin/gunicorn", "a:b"].map(str::to_owned).to_vec();
        process.environment = [("GUNICORN_CMD_ARGS", "-w 2 --name=till")].into_iter().collect();
        assert_eq!(name(&process), Told::Name("till".to_owned()));
    }
}
