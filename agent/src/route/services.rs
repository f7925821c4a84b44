//! The routes of all services, by name.
//!
//! A node that runs jobs sees names that never come again. Routes are kept of services that have a process,
//! and of those that had one last: a service that is started anew goes on with its names.

use std::collections::{HashMap, HashSet};

use super::Routes;

/// Services without a process whose routes are kept: at most half a megabyte each, most far less.
const DEPARTED_LIMIT: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Services {
    by_name: HashMap<String, Known>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Known {
    routes: Routes,
    /// The operator's, as they were when this was made.
    templates: Vec<String>,
    used: u64,
}

impl Services {
    /// The routes of the service of this name. With other templates than before it begins anew; without routes where
    /// a template is none.
    pub fn of(&mut self, name: &str, templates: &[String]) -> Option<&mut Routes> {
        self.clock += 1;
        if self.by_name.get(name).is_none_or(|known| known.templates != templates) {
            // They were tried when they were read.
            let routes = Routes::new(templates).ok()?;
            let known = Known { routes, templates: templates.to_vec(), used: 0 };
            self.by_name.insert(name.to_owned(), known);
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
        let mut services = Services::default();
        let job = |number: usize| format!("job-{number}");
        assert_eq!(&*services.of("old", &[]).unwrap().route("/a/1"), "/a/{id}");
        for number in 0..1_000 {
            services.of(&job(number), &[]).unwrap();
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
    fn new_templates_are_taken_on() {
        let mut services = Services::default();
        let mut route = |templates: &[&str]| {
            let templates: Vec<String> = templates.iter().map(|&text| text.to_owned()).collect();
            services.of("orders", &templates).unwrap().route("/a/b")
        };
        assert_eq!(&*route(&[]), "/a/b");
        assert_eq!(&*route(&["/a/{name}"]), "/a/{name}");
        assert_eq!(&*route(&["/{any}/b"]), "/{any}/b");
    }
}
