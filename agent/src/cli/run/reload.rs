//! The configuration file is read again when it changes and on SIGHUP.
//!
//! A file that can't be understood changes nothing; `wirespan status` and the log say so.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::books::ConfigStatus;
use crate::cli::variable;
use crate::config::Config;
use crate::config::plan::{Flags, Plan};
use crate::config::watch::Watch;
use crate::export::Exporters;
use crate::pipeline::Request;

/// How often the file is looked at. A change counts from the second look on.
const LOOK: Duration = Duration::from_millis(500);

/// What is needed to read it again.
pub(super) struct Reload {
    watch: Watch,
    flags: Flags,
    /// What was read at the start.
    plan: Plan,
    status: ConfigStatus,
    exporters: Running,
}

/// The exporters, until the agent ends.
pub(super) type Running = Arc<Mutex<Option<Exporters>>>;

impl Reload {
    /// `plan` is in force, which was made from what is watched.
    pub(super) fn new(
        watch: Watch,
        flags: Flags,
        plan: Plan,
        status: ConfigStatus,
        exporters: Running,
    ) -> Self {
        Self { watch, flags, plan, status, exporters }
    }

    /// Until the pipeline is gone.
    pub(super) async fn follow(mut self, pipeline: Sender<Request>) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "can't follow SIGHUP");
                return;
            }
        };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = looks.tick() => false,
                hangup = hangups.recv() => hangup.is_some(),
            };
            if asked {
                self.watch.reads();
            } else if !self.watch.has_changed() {
                continue;
            }
            let rules = match self.read() {
                Ok(plan) => Some(Box::new(plan.rules)),
                Err(problem) => {
                    tracing::error!("{problem}; what was read before stays in force");
                    self.status.refused += 1;
                    self.status.last_error = Some(problem);
                    None
                }
            };
            let taken = rules.is_some();
            let (asker, answer) = tokio::sync::oneshot::channel();
            if pipeline.send(Request::Configure(rules, self.status.clone(), asker)).is_err()
                || answer.await.is_err()
            {
                return;
            }
            if taken {
                tracing::info!(file = %self.watch.path().display(), "configuration read again");
            }
        }
    }

    fn read(&mut self) -> Result<Plan, String> {
        let config = Config::read(self.watch.path()).map_err(|error| error.to_string())?;
        self.watch.names(config.files.clone());
        let plan =
            Plan::new(&config, &self.flags, variable).map_err(|error| format!("{error:#}"))?;
        if let Some(exporters) =
            self.exporters.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            exporters
                .replace(plan.targets.clone(), plan.limits)
                .map_err(|error| format!("{error:#}"))?;
        }
        let fixed = self.plan.fixed_differences(&plan);
        if !fixed.is_empty() {
            let keys = fixed.join(", ");
            tracing::warn!(keys, "changed keys that are read at the start only: restart the agent");
        }
        self.status.reloads += 1;
        self.status.last_error = None;
        self.status.needs_restart = fixed.into_iter().map(str::to_owned).collect();
        Ok(plan)
    }
}
