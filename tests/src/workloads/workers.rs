//! What works behind the demo's services: a program that takes messages from RabbitMQ, and one that takes jobs from a
//! queue in Redis.
//!
//! RabbitMQ takes ten seconds to come up: the brokers are begun before the services that are told where they are, the
//! workers when the brokers are there. Either may be missing.

use std::path::Path;

use anyhow::Result;

use super::{Installed, Service, Spec};
use crate::servers::{PASSWORD, RabbitMq, Server};

/// Brokers that come up, and the workers that will be started.
#[derive(Debug)]
pub struct Brokers {
    rabbitmq: Option<RabbitMq>,
    redis: Option<Server>,
    receipts: Spec,
    shipping: Spec,
}

/// The workers, with the brokers behind them; they end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    // Dropped in this order.
    services: Vec<Service>,
    _brokers: (Option<RabbitMq>, Option<Server>),
}

impl Brokers {
    /// Begins those that are installed, in new directories under `directory`.
    ///
    /// # Errors
    /// When one that is installed can't be started.
    pub fn begin(installed: &Installed, directory: &Path) -> Result<Self> {
        let rabbitmq = RabbitMq::is_installed().then(|| RabbitMq::spawn(directory)).transpose()?;
        let redis =
            Server::has_redis().then(|| Server::redis(&directory.join("redis"))).transpose()?;
        let receipts = installed.python("receipts", &["receipts.py"])?;
        let shipping = installed.script("shipping", "shipping.js")?;
        Ok(Self { rabbitmq, redis, receipts, shipping })
    }

    /// The same, whose workers connect to their brokers when this file is there, and not before.
    #[must_use]
    pub fn held_until(mut self, go: &Path) -> Self {
        let go = go.to_string_lossy();
        self.receipts = self.receipts.env("GO", go.as_ref());
        self.shipping = self.shipping.env("GO", go);
        self
    }

    /// The brokers that are missing.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let rabbitmq = self.rabbitmq.is_none().then_some("rabbitmq-server");
        rabbitmq.into_iter().chain(self.redis.is_none().then_some("redis-server")).collect()
    }

    /// Rules that allow the workers, from their beginning: what they do when they connect matters.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        let receipts = self.rabbitmq.is_some().then(|| "cmd=*receipts.py*".to_owned());
        let shipping = self.redis.is_some().then(|| "cmd=*shipping.js*".to_owned());
        receipts.into_iter().chain(shipping).collect()
    }

    /// The variables by which programs find the brokers.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let rabbitmq = self.rabbitmq.iter().flat_map(RabbitMq::environment);
        let redis = self.redis.iter().flat_map(|redis| {
            [("REDIS_PORT", redis.port().to_string()), ("REDIS_PASSWORD", PASSWORD.to_owned())]
        });
        rabbitmq.chain(redis).collect()
    }

    /// Waits until the brokers are there, and starts the workers, which ask `prices`. Their output goes under `logs`.
    ///
    /// # Errors
    /// When any of them doesn't come up.
    pub fn work(self, prices: &Service, logs: &Path) -> Result<Workers> {
        let environment = self.environment();
        let mut services = Vec::new();
        let mut start = |spec: Spec| -> Result<()> {
            services.push(spec.envs(&environment).upstream(prices).start(logs)?);
            Ok(())
        };
        if self.redis.is_some() {
            start(self.shipping)?;
        }
        if let Some(rabbitmq) = &self.rabbitmq {
            rabbitmq.wait_ready()?;
            start(self.receipts)?;
        }
        Ok(Workers { services, _brokers: (self.rabbitmq, self.redis) })
    }
}

impl Workers {
    /// Those that were started.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }
}
