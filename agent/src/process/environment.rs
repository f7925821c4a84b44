//! The few variables of a process that tell what service it is, and what databases it uses.
//!
//! An environment is full of credentials: what is not on the list is dropped before anything sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::databases::Databases;

/// A longer value names nothing.
const VALUE_LIMIT_BYTES: usize = 16 << 10;

/// The variables of a process that were kept. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    kept: BTreeMap<String, String>,
    databases: Databases,
}

impl Environment {
    /// The value of a variable, if it was kept and is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.kept.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The databases that variables name.
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    /// One of which nothing is known but the databases that it names.
    pub fn naming(databases: Databases) -> Self {
        Self { kept: BTreeMap::new(), databases }
    }

    /// Looks up hosts that are names in the process's `/etc/hosts`, which is read only if there are any; `None`:
    /// there is none, or not all of it.
    pub(super) fn resolve(&mut self, hosts: impl FnOnce() -> Option<Vec<u8>>) {
        if self.databases.have_names()
            && let Some(hosts) = hosts()
        {
            self.databases.resolve(&hosts);
        }
    }

    /// Whether a variable is one that is kept: those that are asked for, each by its name. Credentials travel
    /// in others of the same families, `OTEL_EXPORTER_OTLP_ENDPOINT` among them.
    fn keeps(name: &str) -> bool {
        const NAMES: &[&str] = &[
            "CELERY_APP",
            "DJANGO_SETTINGS_MODULE",
            "FLASK_APP",
            "GUNICORN_CMD_ARGS",
            "HOSTNAME",
            "NODE_CHANNEL_FD",
            "NODE_UNIQUE_ID",
            "OTEL_RESOURCE_ATTRIBUTES",
            "OTEL_SDK_DISABLED",
            "OTEL_SERVICE_NAME",
            "TRACEPARENT",
            "TRACESTATE",
            "UVICORN_APP",
            "name",
            "npm_package_name",
            "npm_package_version",
            "pm_exec_path",
            "pm_id",
        ];
        NAMES.binary_search(&name).is_ok()
    }

    /// `more`: variables that the operator's rules name.
    pub(super) fn parse(bytes: &[u8], more: &BTreeSet<String>) -> Self {
        let all = bytes.split(|byte| *byte == 0).filter_map(|variable| {
            let split = memchr::memchr(b'=', variable)?;
            let name = std::str::from_utf8(variable.get(..split)?).ok()?;
            let value = variable.get(split + 1..)?;
            (value.len() <= VALUE_LIMIT_BYTES).then_some((name, value))
        });
        // getenv(3) finds the first of two.
        let mut kept = BTreeMap::new();
        for (name, value) in
            all.clone().filter(|(name, _)| Self::keeps(name) || more.contains(*name))
        {
            kept.entry(name.to_owned())
                .or_insert_with(|| String::from_utf8_lossy(value).into_owned());
        }
        let text = all.filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?)));
        Self { kept, databases: Databases::read(text) }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(variables: T) -> Self {
        let kept = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { kept, databases: Databases::default() }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kept.keys()).finish()
    }
}
