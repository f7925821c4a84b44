//! Names from places: which words of a path or a module say what a service is.

use std::path::{Component, Path, PathBuf};

/// The last word of a dotted module (`orders.wsgi:app`, `shop.orders.main`) that says something.
pub(super) fn of_module(module: &str) -> Option<String> {
    let module = module.split([':', '(']).next().unwrap_or(module);
    module.rsplit('.').find(|word| !is_generic(word)).and_then(clean)
}

/// A script's name without its suffix, unless every other service's is called the same.
pub(super) fn of_script(script: &str) -> Option<String> {
    let stem = Path::new(script).file_stem()?.to_str()?;
    if is_generic(stem) { None } else { clean(stem) }
}

/// The innermost directory's name that says something, seen from `directory` upwards.
pub(super) fn of_directory(directory: &Path) -> Option<String> {
    let normal = normalised(directory);
    let ancestors = normal.ancestors().take_while(|ancestor| ancestor.parent().is_some());
    for ancestor in ancestors {
        // /home/alice says whose it is, not what.
        if ancestor.parent() == Some(Path::new("/home")) {
            return None;
        }
        let name = ancestor.file_name()?.to_str()?;
        if !is_generic(name) && !is_common_place(name) {
            return clean(name);
        }
    }
    None
}

/// `path` as seen from `cwd`, without `.` and `..`; no link is followed.
pub(super) fn absolute(cwd: &Path, path: &str) -> PathBuf {
    normalised(&cwd.join(path))
}

/// A name as an attribute may carry it: printable, not empty, of bounded length.
pub(super) fn clean(name: &str) -> Option<String> {
    const LIMIT_CHARS: usize = 255;
    let name = name.trim();
    let usable = !name.is_empty()
        && name.chars().nth(LIMIT_CHARS).is_none()
        && !name.chars().any(|c| c.is_control() || c == '\u{fffd}');
    usable.then(|| name.to_owned())
}

/// What half of all services call their main file or package.
pub(super) fn is_generic(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "",
        "__init__",
        "__main__",
        "api",
        "app",
        "application",
        "asgi",
        "backend",
        "bin",
        "boot",
        "bootstrap",
        "celery",
        "celery_app",
        "celeryapp",
        "cli",
        "config",
        "core",
        "create_app",
        "entry",
        "entrypoint",
        "index",
        "main",
        "manage",
        "program",
        "project",
        "run",
        "runserver",
        "server",
        "service",
        "settings",
        "site",
        "src",
        "start",
        "startup",
        "tasks",
        "web",
        "webapp",
        "wsgi",
    ];
    WORDS.binary_search(&word.to_ascii_lowercase().as_str()).is_ok()
}

/// Directories that say where software lies, not what it is.
fn is_common_place(word: &str) -> bool {
    const WORDS: &[&str] = &[
        ".venv",
        "build",
        "code",
        "current",
        "deploy",
        "dist",
        "home",
        "html",
        "lib",
        "local",
        "mnt",
        "node_modules",
        "opt",
        "out",
        "output",
        "releases",
        "root",
        "site-packages",
        "srv",
        "tmp",
        "usr",
        "var",
        "venv",
        "work",
        "workdir",
        "workspace",
        "www",
    ];
    let release = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    release || WORDS.binary_search(&word.to_ascii_lowercase().as_str()).is_ok()
}

fn normalised(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_words_are_passed_over() {
        assert_eq!(of_module("orders.wsgi:application").as_deref(), Some("orders"));
        assert_eq!(of_module("shop.orders.main:create_app()").as_deref(), Some("orders"));
        assert_eq!(of_module("app.main:app"), None);
        assert_eq!(of_script("/srv/x/worker.py").as_deref(), Some("worker"));
        assert_eq!(of_script("index.js"), None);
    }

    #[test]
    fn directories_are_read_upwards() {
        for (path, name) in [
            ("/srv/orders/src", Some("orders")),
            ("/opt/shop/releases/20240511/dist", Some("shop")),
            ("/usr/src/app", None),
            ("/home/alice", None),
            ("/home/alice/orders", Some("orders")),
            ("/home/alice/app", None),
            ("/srv/orders/../users/.", Some("users")),
            ("/", None),
        ] {
            assert_eq!(of_directory(Path::new(path)).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn the_lists_can_be_searched() {
        for word in ["", "api", "wsgi", "Main", "create_app"] {
            assert!(is_generic(word), "{word}");
        }
        for word in [".venv", "www", "node_modules", "1.2.3"] {
            assert!(is_common_place(word), "{word}");
        }
    }
}
