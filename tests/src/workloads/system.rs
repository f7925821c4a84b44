//! The system that the demo shows and most tests trace: four services, two runtimes, four HTTP clients.
//!
//! `gateway` (Express) asks `orders` (Flask under gunicorn) with `node:http` and `stock` (FastAPI under
//! uvicorn) with `fetch`; both ask `prices` (`node:http`), with requests and with httpx.

use std::path::Path;

use anyhow::Result;

use super::{Installed, Loop, Service, Worker};

/// The running system; it ends when this is dropped.
#[derive(Debug)]
pub struct System {
    // Dropped in this order, askers before those they ask.
    /// Express.
    pub gateway: Service,
    /// Flask, one gunicorn worker with four threads.
    pub orders: Service,
    /// FastAPI on uvloop.
    pub stock: Service,
    /// `node:http`.
    pub prices: Service,
}

impl System {
    /// Starts the four, with their output under `logs`, and waits until all answer.
    ///
    /// # Errors
    /// The first that does not come up.
    pub fn start(installed: &Installed, logs: &Path) -> Result<Self> {
        Self::start_with(installed, logs, &[])
    }

    /// The same, with variables for the gateway: where the brokers are.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        installed: &Installed,
        logs: &Path,
        environment: &[(&'static str, String)],
    ) -> Result<Self> {
        let prices = installed.plain("prices")?.start(logs)?;
        let orders =
            installed.flask("orders", Worker::Gthread(4), 1)?.upstream(&prices).start(logs)?;
        let stock = installed.fastapi("stock", Loop::Uvloop)?.upstream(&prices).start(logs)?;
        let gateway = installed.gateway(&orders, &stock)?.envs(environment).start(logs)?;
        Ok(Self { gateway, orders, stock, prices })
    }

    /// The four services.
    #[must_use]
    pub fn services(&self) -> [&Service; 4] {
        [&self.gateway, &self.orders, &self.stock, &self.prices]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::sync::atomic::AtomicBool;

    use serde_json::Value;

    use super::*;
    use crate::load::{self, Plan, Request};
    use crate::workloads::install;

    fn count(service: &Service, table: &str, route: &str) -> u64 {
        let counts = service.counts().unwrap();
        counts[table][route]["requests"].as_u64().unwrap_or_else(|| panic!("{route} in {counts}"))
    }

    fn run(service: &Service, connections: usize, requests: &[Request]) -> Vec<load::Outcome> {
        let plan = Plan::new(service.address(), connections);
        load::run(&plan, requests, &AtomicBool::new(false)).all_ok().unwrap()
    }

    fn gets(count: usize, path: &str) -> Vec<Request> {
        let path = |id| format!("{path}/{id}?rid=r{id}");
        (0..count).map(|id| Request::get(format!("r{id}"), path(id))).collect()
    }

    #[test]
    fn every_request_reaches_every_service_with_its_own_id_and_nothing_is_left_running() {
        let directory = tempfile::tempdir().unwrap();
        let system = System::start(&install().unwrap(), directory.path()).unwrap();

        for outcome in run(&system.gateway, 20, &gets(200, "/orders")) {
            let answer: Value = serde_json::from_slice(&outcome.body).unwrap();
            for rid in [&answer["rid"], &answer["order"]["rid"], &answer["stock"]["rid"]] {
                assert_eq!(rid, &outcome.id);
            }
            let price = answer["order"]["order"].as_u64().unwrap() * 3;
            assert_eq!([&answer["order"]["price"], &answer["stock"]["price"]], [price, price]);
        }
        run(&system.gateway, 5, &gets(30, "/fanout"));
        let posted = Request::post("p", "/orders?rid=p", &serde_json::json!({"item": 1}));
        assert_eq!(run(&system.gateway, 1, &[posted])[0].status, 201);
        run(&system.stock, 4, &gets(10, "/gather"));
        run(&system.stock, 1, &[Request::get("s", "/stream?chunks=3&bytes=70000")]);

        assert_eq!(count(&system.gateway, "requests", "GET /orders/:id"), 200);
        assert_eq!(count(&system.gateway, "upstream", "GET /api/orders/:id"), 230);
        assert_eq!(count(&system.orders, "requests", "GET /api/orders/<int:order>"), 230);
        assert_eq!(count(&system.orders, "requests", "POST /api/orders"), 1);
        assert_eq!(count(&system.stock, "requests", "GET /stock/{item}"), 200);
        assert_eq!(count(&system.stock, "requests", "GET /stock-sync/{item}"), 30);
        assert_eq!(count(&system.prices, "requests", "GET /prices/:id"), 230 + 230 + 20);

        let pids: BTreeSet<u32> =
            system.services().iter().flat_map(|service| service.pids().unwrap()).collect();
        assert_eq!(pids.len(), 5, "gunicorn has two processes");
        drop(system);
        for pid in pids {
            assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "process {pid} is left");
        }
    }

    #[test]
    fn the_other_servers_answer_and_count_over_all_their_processes() {
        let directory = tempfile::tempdir().unwrap();
        let installed = install().unwrap();
        let prices = installed.plain("prices").unwrap().start(directory.path()).unwrap();
        let flask = installed.flask("orders", Worker::Sync, 3).unwrap().upstream(&prices);
        let flask = flask.start(directory.path()).unwrap();
        assert_eq!(flask.workers().unwrap().len(), 3);
        run(&flask, 8, &gets(60, "/api/orders"));
        assert_eq!(count(&flask, "requests", "GET /api/orders/<int:order>"), 60);
        assert_eq!(count(&flask, "upstream", "GET /prices/:id"), 60);

        let fastapi = installed.fastapi("stock", Loop::Asyncio).unwrap().upstream(&prices);
        let fastapi = fastapi.start(directory.path()).unwrap();
        run(&fastapi, 8, &gets(60, "/stock"));
        assert_eq!(count(&fastapi, "requests", "GET /stock/{item}"), 60);

        let relay = installed.plain("relay").unwrap().upstream(&prices);
        let relay = relay.start(directory.path()).unwrap();
        let plan = Plan { pipeline: 5, ..Plan::new(relay.address(), 4) };
        let requests = gets(100, "/relay");
        let outcomes = load::run(&plan, &requests, &AtomicBool::new(false)).all_ok().unwrap();
        for outcome in &outcomes {
            let answer: Value = serde_json::from_slice(&outcome.body).unwrap();
            assert_eq!(answer["rid"], outcome.id, "pipelined answers keep their order");
        }
        assert_eq!(count(&prices, "requests", "GET /prices/:id"), 60 + 60 + 100);
    }
}
