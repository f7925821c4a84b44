//! The routes of all services, by name.
//!
//! A node that runs jobs sees names that never come again. Routes are kept of services that have a process,
//! and of those that had one last: a service that is started anew goes on with its names.

use std::collections::{HashMap, HashSet};

use super::Routes;

/// Services without a process whose routes are kept: at most half a megabyte each, most far less.
const DEPARTED_LIMIT: usize = 64;

/// Sets of templates in use under one name at a time: rules may give processes of one service different ones.
const TEMPLATES_LIMIT: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Services {
    by_name: HashMap<String, Vec<Known>>,
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
    /// The routes of the service of this name with these templates of the operator's; none where a template is none.
    pub fn of(&mut self, name: &str, templates: &[String]) -> Option<&mut Routes> {
        self.clock += 1;
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.to_owned(), Vec::new());
        }
        let known = self.by_name.get_mut(name)?;
        let at = match known.iter().position(|known| known.templates == templates) {
            Some(at) => at,
            None => {
                // They were tried when they were read.
                let routes = Routes::new(templates).ok()?;
                if known.len() >= TEMPLATES_LIMIT {
                    let oldest = known.iter().enumerate().min_by_key(|(_, known)| known.used);
                    oldest.map(|(at, _)| at).map(|at| known.swap_remove(at));
                }
                known.push(Known { routes, templates: templates.to_vec(), used: 0 });
                known.len() - 1
            }
        };
        let known = known.get_mut(at)?;
        known.used = self.clock;
        Some(&mut known.routes)
    }

    /// Forgets services that are not among the `living`, but for those that were used last.
    pub fn prune(&mut self, living: &HashSet<&str>) {
        if self.by_name.len() <= DEPARTED_LIMIT {
            return;
        }
        let departed = self.by_name.iter().filter(|(name, _)| !living.contains(name.as_str()));
        let mut used: Vec<u64> = departed.map(|(_, known)| last_used(known)).collect();
        used.sort_unstable();
        // All that were used up to here go.
        let Some(last) =
            used.len().checked_sub(DEPARTED_LIMIT + 1).and_then(|at| used.get(at)).copied()
        else {
            return;
        };
        self.by_name
            .retain(|name, known| last_used(known) > last || living.contains(name.as_str()));
    }
}

fn last_used(known: &[Known]) -> u64 {
    known.iter().map(|known| known.used).max().unwrap_or(0)
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
    fn processes_of_one_service_may_have_different_templates() {
        let mut services = Services::default();
        let mut route = |templates: &[&str]| {
            let templates: Vec<String> = templates.iter().map(|&text| text.to_owned()).collect();
            services.of("orders", &templates).unwrap().route("/a/b")
        };
        for _ in 0..3 {
            assert_eq!(&*route(&[]), "/a/b");
            assert_eq!(&*route(&["/a/{name}"]), "/a/{name}");
            assert_eq!(&*route(&["/{any}/b"]), "/{any}/b");
        }
        for number in 0..100 {
            route(&[&format!("/{number}")]);
        }
        assert_eq!(services.by_name["orders"].len(), TEMPLATES_LIMIT);
    }
}
