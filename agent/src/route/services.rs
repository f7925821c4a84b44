//! The routes of all services, by name.
//!
//! A node that runs jobs sees names that never come again. Routes are kept of services that have a process,
//! and of those that had one last: a service that is started anew goes on with its names.

use std::collections::{HashMap, HashSet};

use super::{Routes, TemplateError};

/// Services without a process whose routes are kept: at most half a megabyte each, most far less.
const DEPARTED_LIMIT: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Services {
    templates: Vec<String>,
    by_name: HashMap<String, Known>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Known {
    routes: Routes,
    used: u64,
}

impl Services {
    /// No service yet. The operator's templates go for each.
    ///
    /// # Errors
    /// A template that is none.
    pub fn new(templates: Vec<String>) -> Result<Self, TemplateError> {
        Routes::new(&templates)?;
        Ok(Self { templates, by_name: HashMap::new(), clock: 0 })
    }

    /// The routes of the service of this name.
    pub fn of(&mut self, name: &str) -> Option<&mut Routes> {
        self.clock += 1;
        if !self.by_name.contains_key(name) {
            // They were tried.
            let routes = Routes::new(&self.templates).ok()?;
            self.by_name.insert(name.to_owned(), Known { routes, used: 0 });
        }
        let known = self.by_name.get_mut(name)?;
        known.used = self.clock;
        Some(&mut known.routes)
    }

    /// Forgets services that are not among the `living`, but for those that were used last.
    pub fn prune(&mut self, living: &HashSet<&str>) {
        if self.by_name.len() <= DEPARTED_LIMIT {
            return;
        }
        let departed = self.by_name.iter().filter(|(name, _)| !living.contains(name.as_str()));
        let mut used: Vec<u64> = departed.map(|(_, known)| known.used).collect();
        used.sort_unstable();
        // All that were used up to here go.
        let Some(last) =
            used.len().checked_sub(DEPARTED_LIMIT + 1).and_then(|at| used.get(at)).copied()
        else {
            return;
        };
        self.by_name.retain(|name, known| known.used > last || living.contains(name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_without_a_process_make_room() {
        let mut services = Services::new(Vec::new()).unwrap();
        let job = |number: usize| format!("job-{number}");
        assert_eq!(&*services.of("old").unwrap().route("/a/1"), "/a/{id}");
        for number in 0..1_000 {
            services.of(&job(number)).unwrap();
            services.prune(&HashSet::from(["old"]));
            assert!(services.by_name.len() <= DEPARTED_LIMIT + 1);
        }
        assert!(services.by_name.contains_key("old"), "it has a process");
        // The last ones may come back.
        assert!(services.by_name.contains_key(&job(999)));
        assert!(services.by_name.contains_key(&job(1_000 - DEPARTED_LIMIT)));
        services.prune(&HashSet::new());
        assert!(!services.by_name.contains_key("old"), "it has none, and was not used for long");
    }

    #[test]
    fn a_template_that_is_none_is_told_at_once() {
        assert!(Services::new(vec!["/orders/{id}".to_owned()]).is_ok());
        assert!(Services::new(vec!["orders".to_owned()]).is_err());
    }
}
